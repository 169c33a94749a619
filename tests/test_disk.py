"""What is relied on of a disk: the machine's own, and the one that forgets (simulators/world)."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from simulators.world.disk import ForgetfulDisk
from tests.contract.manual import ManualClock
from vsp import disk as module
from vsp.disk import (
    Disk,
    SystemDisk,
    exists,
    lock_file,
    make_folders,
    read_whole,
    remove_tree,
    write_durably,
)


@pytest.fixture(params=["the machine's", "forgetful"])
def disk(request: pytest.FixtureRequest) -> Disk:
    return SystemDisk() if request.param == "the machine's" else ForgetfulDisk(ManualClock(), 1)


@pytest.fixture
def root(disk: Disk, tmp_path: Path) -> Path:
    """A folder that is there on that disk."""
    make_folders(disk, tmp_path)
    return tmp_path


def test_bytes_stand_where_they_were_written(disk: Disk, root: Path):
    file = disk.open(root / "a", make=True)
    file.write(0, b"one", b"", b"two")
    file.write(3, b"TWO")
    file.write(8, b"three")

    assert file.size == 13
    assert file.read(0, 13) == b"oneTWO\0\0three"
    assert file.read(11, 99) == b"ee", "fewer where the file ends"
    assert file.read(13, 5) == b""
    file.truncate(3)
    file.sync()
    assert read_whole(disk, root / "a") == b"one"
    file.close()


def test_an_open_file_outlives_its_name(disk: Disk, root: Path):
    write_durably(disk, root / "old", b"old")
    write_durably(disk, root / "new", b"new")
    file = disk.open(root / "old")
    disk.rename(root / "new", root / "old")

    assert file.read(0, 3) == b"old"
    assert read_whole(disk, root / "old") == b"new"
    assert not exists(disk, root / "new")
    file.close()


def test_what_is_not_there_is_file_not_found(disk: Disk, root: Path):
    for call in (
        lambda: disk.open(root / "none"),
        lambda: disk.open(root / "none" / "x", make=True),
        lambda: disk.look(root / "none"),
        lambda: disk.entries(root / "none"),
        lambda: disk.rename(root / "none", root / "other"),
        lambda: disk.remove(root / "none"),
        lambda: disk.remove_folder(root / "none"),
        lambda: disk.sync_folder(root / "none"),
        lambda: disk.make_folder(root / "none" / "below"),
        lambda: read_whole(disk, root / "none"),
    ):
        with pytest.raises(FileNotFoundError):
            call()
    assert not exists(disk, root / "none" / "below")


def test_a_folder_is_made_once_and_removed_empty(disk: Disk, root: Path):
    make_folders(disk, root / "a" / "b")
    make_folders(disk, root / "a" / "b")
    write_durably(disk, root / "a" / "x", b"123")

    with pytest.raises(FileExistsError):
        disk.make_folder(root / "a" / "b")
    with pytest.raises(OSError, match=os.strerror(errno.ENOTEMPTY)):
        disk.remove_folder(root / "a")
    with pytest.raises(IsADirectoryError):
        read_whole(disk, root / "a")
    folder, file = disk.entries(root / "a")
    assert (folder.name, folder.folder, folder.plain) == ("b", True, False)
    assert (file.name, file.folder, file.plain, file.size_bytes) == ("x", False, True, 3)
    remove_tree(disk, root / "a")
    assert not exists(disk, root / "a")


def test_a_tree_that_is_not_there_is_removed_already(disk: Disk, root: Path):
    remove_tree(disk, root / "none")


def test_a_file_written_again_is_only_the_new_one(disk: Disk, root: Path):
    write_durably(disk, root / "a", b"long before")
    write_durably(disk, root / "a", b"now")

    assert read_whole(disk, root / "a") == b"now"


# ---- the machine's own ----------------------------------------------------------------------


def test_files_and_folders_are_for_us_alone(tmp_path: Path):
    disk = SystemDisk()
    make_folders(disk, tmp_path / "a")
    write_durably(disk, tmp_path / "a" / "x", b"secret")

    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "a" / "x").stat().st_mode) == 0o600


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_a_write_that_the_system_cuts_short_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
):
    real = os.pwritev

    def pwritev(fd: int, pieces: list[bytes], offset: int) -> int:
        return real(fd, [b"".join(pieces)[:most]], offset)

    monkeypatch.setattr(os, "pwritev", pwritev)
    file = SystemDisk().open(tmp_path / "a", make=True)
    file.write(2, b"abc", b"", b"defgh")

    assert file.read(0, 99) == b"\0\0abcdefgh"
    file.close()


def test_a_disk_that_fills_up_within_a_write_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, room = os.pwritev, 5

    def pwritev(fd: int, pieces: list[bytes], offset: int) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken, room = b"".join(pieces)[:room], 0
        return real(fd, [taken], offset)

    monkeypatch.setattr(os, "pwritev", pwritev)
    file = SystemDisk().open(tmp_path / "a", make=True)

    with pytest.raises(OSError, match="No space left"):
        file.write(0, b"abc", b"defgh")
    file.close()


def test_a_system_that_does_not_name_its_boot_never_has_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert SystemDisk().boot == SystemDisk().boot
    monkeypatch.setattr(module, "BOOT_ID", tmp_path / "absent")

    assert SystemDisk().boot != SystemDisk().boot


# ---- the one that forgets -------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_after_a_power_cut_what_was_synced_is_there_and_nothing_else_is_promised(seed: int):
    disk = ForgetfulDisk(ManualClock(), seed)
    write_durably(disk, Path("/named"), b"safe")
    disk.sync_folder(Path("/"))
    write_durably(disk, Path("/unnamed"), b"bytes without a name")
    disk.open(Path("/named")).write(4, b" and more")

    disk.cut_power()

    assert read_whole(disk, Path("/named"))[:4] == b"safe"
    assert disk.boot == "boot 1"


def test_a_power_cut_takes_what_was_not_synced_under_some_seed():
    def left(seed: int) -> bytes | None:
        disk = ForgetfulDisk(ManualClock(), seed)
        disk.open(Path("/a"), make=True).write(0, b"12345678")
        disk.cut_power()
        return read_whole(disk, Path("/a")) if exists(disk, Path("/a")) else None

    outcomes = {left(seed) for seed in range(60)}

    assert {None, b"", b"12345678"} < outcomes, "torn at some place, too"


@pytest.mark.parametrize("seed", range(10))
def test_a_sync_that_failed_gives_up_its_bytes_until_they_are_written_again(seed: int):
    disk = ForgetfulDisk(ManualClock(), seed)
    file = disk.open(Path("/a"), make=True)
    disk.sync_folder(Path("/"))
    file.write(0, b"given up")
    disk.syncs_fail = True
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        file.sync()
    disk.syncs_fail = False
    file.sync()

    disk.cut_power()
    assert not read_whole(disk, Path("/a")).startswith(b"given up")
    file = disk.open(Path("/a"))
    file.truncate(0)
    file.write(0, b"given up")
    file.sync()
    disk.cut_power()
    assert read_whole(disk, Path("/a")) == b"given up"


def test_a_full_disk_refuses_and_takes_again_when_there_is_room():
    disk = ForgetfulDisk(ManualClock(), 1)
    disk.capacity_bytes = 10
    file = disk.open(Path("/a"), make=True)
    file.write(0, b"0123456789")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        file.write(10, b"x")

    file.truncate(4)
    file.write(4, b"5")
    assert file.read(0, 9) == b"01235"


def test_a_lock_is_held_by_one_until_it_is_closed(tmp_path: Path):
    held = lock_file(tmp_path / "lock")
    with pytest.raises(BlockingIOError):
        lock_file(tmp_path / "lock")

    os.close(held)
    os.close(lock_file(tmp_path / "lock"))
