import os
import stat
from pathlib import Path

import pytest

from vsp.errors import DataLoss, Denied, NotFound, Unavailable
from vsp.seal import KEY_BYTES, Sealer, load_sealer

KEY = bytes(range(KEY_BYTES))


@pytest.mark.parametrize("secret", ["", "12345678", "密码", "x" * 10_000, "\x00"])
def test_what_is_sealed_opens_for_its_owner(secret: str):
    sealer = Sealer(KEY)

    assert sealer.open(sealer.seal(secret, "device-1"), "device-1") == secret


def test_a_sealed_password_shows_nothing_and_never_repeats():
    sealer = Sealer(KEY)

    once, again = sealer.seal("12345678", "d"), sealer.seal("12345678", "d")

    assert once != again
    assert b"12345678" not in once


def test_another_owner_or_another_key_does_not_open_it():
    sealed = Sealer(KEY).seal("secret", "device-1")

    with pytest.raises(DataLoss, match="device-2"):
        Sealer(KEY).open(sealed, "device-2")
    with pytest.raises(DataLoss, match="device-1"):
        Sealer(bytes(KEY_BYTES)).open(sealed, "device-1")


def test_any_altered_byte_is_noticed():
    sealer = Sealer(KEY)
    sealed = sealer.seal("secret", "d")

    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises(DataLoss):
            sealer.open(bytes(altered), "d")
    for length in range(len(sealed)):
        with pytest.raises(DataLoss):
            sealer.open(sealed[:length], "d")


def test_the_first_start_makes_a_key_for_us_alone_and_the_next_ones_keep_it(tmp_path: Path):
    path = tmp_path / "keys" / "master.key"

    sealed = load_sealer(path, make=True).seal("secret", "d")

    assert load_sealer(path, make=True).open(sealed, "d") == "secret"
    assert load_sealer(path, make=False).open(sealed, "d") == "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["master.key"]


def test_a_missing_key_is_not_made_when_it_was_needed(tmp_path: Path):
    path = tmp_path / "keys" / "master.key"

    with pytest.raises(NotFound, match="gone"):
        load_sealer(path, make=False)

    assert not path.exists()


def test_a_key_that_others_can_read_is_refused(tmp_path: Path):
    path = tmp_path / "master.key"
    path.write_bytes(KEY)
    path.chmod(0o640)

    with pytest.raises(Denied) as caught:
        load_sealer(path, make=True)

    assert "chmod 600" in caught.value.next_step


@pytest.mark.parametrize("length", [0, KEY_BYTES - 1, KEY_BYTES + 1])
def test_a_key_of_another_length_is_damaged(tmp_path: Path, length: int):
    path = tmp_path / "master.key"
    path.write_bytes(bytes(length))
    path.chmod(0o600)

    with pytest.raises(DataLoss):
        load_sealer(path, make=True)


def test_a_link_in_the_keys_place_is_not_followed(tmp_path: Path):
    (tmp_path / "elsewhere").write_bytes(KEY)
    (tmp_path / "elsewhere").chmod(0o600)
    (tmp_path / "master.key").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(Unavailable):
        load_sealer(tmp_path / "master.key", make=True)
