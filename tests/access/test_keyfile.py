import os
import stat
from pathlib import Path

import pytest

from vsp.access.keyfile import write_whole


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_key_has_its_mode_whatever_the_umask_and_leaves_nothing_beside_it(tmp_path: Path):
    before = os.umask(0o077)
    try:
        write_whole(tmp_path / "a.pub", b"public", 0o644)
    finally:
        os.umask(before)
    write_whole(tmp_path / "a.key", b"private", 0o600)

    assert (mode_of(tmp_path / "a.pub"), mode_of(tmp_path / "a.key")) == (0o644, 0o600)
    assert sorted(os.listdir(tmp_path)) == ["a.key", "a.pub"]


def test_a_replaced_key_is_narrowed_too(tmp_path: Path):
    path = tmp_path / "a.key"
    path.write_bytes(b"old and longer than the new one")
    path.chmod(0o666)

    write_whole(path, b"new", 0o600)

    assert (path.read_bytes(), mode_of(path)) == (b"new", 0o600)


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "a.key"
    path.write_bytes(b"old")

    with pytest.raises(TypeError):
        write_whole(path, None, 0o600)

    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.key"]
