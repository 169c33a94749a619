"""What a power cut may take from a disk, and what it may not, over many seeds."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from simulators.world.disk import ForgetfulDisk
from simulators.world.loop import Killed, Process, VirtualClock, VirtualLoop

FOLDER, OTHER = Path("/data"), Path("/other")
ONE, TWO = FOLDER / "one", FOLDER / "two"

SEEDS = range(100)
"""So many that chance gives every outcome that there is at least once."""

Change = Callable[[ForgetfulDisk], None]


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


@pytest.fixture
def disk(loop: VirtualLoop) -> ForgetfulDisk:
    return made(loop, 1)


def made(loop: VirtualLoop, seed: int) -> ForgetfulDisk:
    """A disk with two folders."""
    disk = ForgetfulDisk(VirtualClock(loop), seed)
    for folder in (FOLDER, OTHER):
        disk.make_folder(folder)
    disk.sync_folder(Path("/"))
    return disk


def keep(disk: ForgetfulDisk, path: Path, data: bytes) -> None:
    """A file that is safe, and its name too."""
    write(disk, path, data)
    disk.open(path).sync()
    disk.sync_folder(path.parent)


def write(disk: ForgetfulDisk, path: Path, data: bytes, offset: int = 0) -> None:
    disk.open(path, make=True).write(offset, data)


def read(disk: ForgetfulDisk, path: Path) -> bytes | None:
    try:
        file = disk.open(path)
    except FileNotFoundError:
        return None
    return file.read(0, file.size)


def after_cuts(loop: VirtualLoop, change: Change, *paths: Path) -> set[tuple[bytes | None, ...]]:
    """What may be in the files when the power goes after `change`."""
    found = set()
    for seed in SEEDS:
        disk = made(loop, seed)
        change(disk)
        disk.cut_power()
        found.add(tuple(read(disk, path) for path in paths))
    return found


# ---- bytes ----------------------------------------------------------------------------------


def test_what_was_synced_is_there(loop: VirtualLoop):
    assert after_cuts(loop, lambda disk: keep(disk, ONE, b"safe"), ONE) == {(b"safe",)}


def test_bytes_that_were_not_synced_stay_go_tear_or_come_back_as_zeros(loop: VirtualLoop):
    def change(disk: ForgetfulDisk) -> None:
        keep(disk, ONE, b"safe")
        write(disk, ONE, b"1234", 4)

    found = {data for (data,) in after_cuts(loop, change, ONE) if data is not None}

    assert {b"safe", b"safe1234", b"safe\0\0\0\0"} < found
    assert any(data.startswith(b"safe1") and len(data) < 8 for data in found)
    for data in found:
        tail = data[4:].rstrip(b"\0")
        assert data.startswith(b"safe")
        assert b"1234".startswith(tail)
        assert len(data) <= 8


def test_bytes_that_were_overwritten_are_the_old_or_the_new(loop: VirtualLoop):
    def change(disk: ForgetfulDisk) -> None:
        keep(disk, ONE, b"old old")
        write(disk, ONE, b"new", 4)

    assert after_cuts(loop, change, ONE) == {(b"old old",), (b"old new",)}


def test_a_killed_process_takes_nothing_with_it_and_writes_no_more(
    loop: VirtualLoop, disk: ForgetfulDisk
):
    process = Process(loop, "writer")
    process.call(write, disk, ONE, b"given to the system")

    process.kill()

    assert read(disk, ONE) == b"given to the system"
    with pytest.raises(Killed):
        process.call(write, disk, TWO, b"too late")


# ---- names ----------------------------------------------------------------------------------


def test_a_name_is_safe_only_when_its_folder_was_synced(loop: VirtualLoop):
    def change(disk: ForgetfulDisk) -> None:
        write(disk, ONE, b"data")
        disk.open(ONE).sync()

    assert after_cuts(loop, change, ONE) == {(None,), (b"data",)}


def test_a_removed_file_may_come_back(loop: VirtualLoop):
    def change(disk: ForgetfulDisk) -> None:
        keep(disk, ONE, b"data")
        disk.remove(ONE)

    assert after_cuts(loop, change, ONE) == {(None,), (b"data",)}


def test_a_renamed_file_is_at_one_of_its_names_at_least(loop: VirtualLoop):
    def change(disk: ForgetfulDisk) -> None:
        keep(disk, ONE, b"data")
        disk.rename(ONE, TWO)

    found = after_cuts(loop, change, ONE, TWO)

    assert (None, None) not in found
    assert {(b"data", None), (None, b"data")} <= found


def test_a_name_that_is_replaced_always_leads_to_the_old_or_the_new(loop: VirtualLoop):
    def change(disk: ForgetfulDisk) -> None:
        keep(disk, ONE, b"old")
        keep(disk, TWO, b"new")
        disk.rename(TWO, ONE)

    assert {found for (found,) in after_cuts(loop, change, ONE)} == {b"old", b"new"}


def test_a_folder_that_was_not_synced_may_be_gone_with_all_that_is_in_it(loop: VirtualLoop):
    inner = FOLDER / "inner"

    def change(disk: ForgetfulDisk) -> None:
        disk.make_folder(inner)
        keep(disk, inner / "file", b"data")

    assert after_cuts(loop, change, inner / "file") == {(None,), (b"data",)}


@pytest.mark.parametrize("seed", range(40))
def test_what_is_called_durable_is_there_whatever_was_done(loop: VirtualLoop, seed: int):
    disk, draw = made(loop, seed), random.Random(f"doings/{seed}")
    paths = [folder / name for folder in (FOLDER, OTHER) for name in "abc"]
    for _ in range(120):
        disk.syncs_fail = draw.random() < 0.1
        do_something(disk, draw, paths)
    disk.syncs_fail = False
    for path in paths:
        do_something(disk, draw, paths)
        if draw.random() < 0.5 and read(disk, path) is not None:
            disk.open(path).sync()
    promised = {path: data for path in paths if (data := disk.durable(path)) is not None}

    disk.cut_power()

    assert {path: read(disk, path) for path in promised} == promised
    contents = [read(disk, path) or b"" for path in paths]
    assert disk.used_bytes == sum(map(len, contents))


def do_something(disk: ForgetfulDisk, draw: random.Random, paths: list[Path]) -> None:
    """One call of a program, as chance has it; it may fail as calls do."""
    path, target = draw.sample(paths, 2)
    doings: list[Callable[[], object]] = [
        lambda: write(disk, path, draw.randbytes(draw.randrange(1, 30)), draw.randrange(40)),
        lambda: disk.open(path).truncate(draw.randrange(40)),
        lambda: disk.open(path).sync(),
        lambda: disk.sync_folder(path.parent),
        lambda: disk.rename(path, target),
        lambda: disk.remove(path),
    ]
    with suppress(OSError):
        draw.choice(doings)()


# ---- when the disk itself fails -------------------------------------------------------------


def failed_sync(disk: ForgetfulDisk, path: Path) -> None:
    disk.syncs_fail = True
    with pytest.raises(OSError, match=r"Input/output") as caught:
        disk.open(path).sync()
    assert caught.value.errno == errno.EIO
    disk.syncs_fail = False


def test_no_later_sync_saves_what_a_failed_one_gave_up(loop: VirtualLoop):
    def change(disk: ForgetfulDisk) -> None:
        keep(disk, ONE, b"safe")
        write(disk, ONE, b"lost", 4)
        failed_sync(disk, ONE)
        write(disk, ONE, b"more", 8)
        disk.open(ONE).sync()
        assert disk.durable(ONE) is None

    found = {data for (data,) in after_cuts(loop, change, ONE)}

    assert {data.rstrip(b"\0") for data in found} == {b"safe"}


def test_who_writes_it_again_saves_it(loop: VirtualLoop):
    def change(disk: ForgetfulDisk) -> None:
        keep(disk, ONE, b"safe")
        write(disk, ONE, b"lost", 4)
        failed_sync(disk, ONE)
        write(disk, ONE, b"lost", 4)
        disk.open(ONE).sync()

    assert after_cuts(loop, change, ONE) == {(b"safelost",)}


def test_a_second_failed_sync_gives_up_what_came_since_the_first(loop: VirtualLoop):
    def change(disk: ForgetfulDisk) -> None:
        keep(disk, ONE, b"safe")
        write(disk, ONE, b"lost", 4)
        failed_sync(disk, ONE)
        write(disk, ONE, b"more", 8)
        failed_sync(disk, ONE)
        write(disk, ONE, b"lost", 4)
        disk.open(ONE).sync()

    found = {data for (data,) in after_cuts(loop, change, ONE)}

    assert {data.rstrip(b"\0") for data in found} == {b"safelost"}


def test_what_was_given_up_and_cut_off_is_forgotten(disk: ForgetfulDisk):
    keep(disk, ONE, b"safe")
    write(disk, ONE, b"lost", 4)
    failed_sync(disk, ONE)

    disk.open(ONE).truncate(2)
    write(disk, ONE, b"another", 2)
    disk.open(ONE).sync()

    assert disk.durable(ONE) == b"saanother"


def test_a_full_disk_takes_nothing_more_until_there_is_room(disk: ForgetfulDisk):
    keep(disk, ONE, b"12345678")
    disk.capacity_bytes = 10
    write(disk, TWO, b"12")
    with pytest.raises(OSError, match="No space") as caught:
        write(disk, TWO, b"3", 2)
    assert caught.value.errno == errno.ENOSPC
    assert read(disk, TWO) == b"12"
    write(disk, ONE, b"overwritten"[:8])

    disk.remove(ONE)
    write(disk, TWO, b"345", 2)

    assert (read(disk, TWO), disk.used_bytes) == (b"12345", 5)


def test_a_folder_whose_sync_fails_keeps_no_names(loop: VirtualLoop):
    def change(disk: ForgetfulDisk) -> None:
        write(disk, ONE, b"data")
        disk.open(ONE).sync()
        disk.syncs_fail = True
        with pytest.raises(OSError, match="Input/output"):
            disk.sync_folder(FOLDER)

    assert after_cuts(loop, change, ONE) == {(None,), (b"data",)}


# ---- as any other disk ----------------------------------------------------------------------


def test_a_folder_with_something_in_it_is_not_removed(disk: ForgetfulDisk):
    write(disk, ONE, b"data")

    with pytest.raises(OSError, match="not empty"):
        disk.remove_folder(FOLDER)

    disk.remove(ONE)
    disk.remove_folder(FOLDER)
    with pytest.raises(FileNotFoundError):
        disk.look(FOLDER)


def test_those_who_look_from_outside_see_all_files_in_order(disk: ForgetfulDisk):
    disk.make_folder(FOLDER / "inner")
    for path in (TWO, FOLDER / "inner" / "file", ONE):
        write(disk, path, b"x")

    assert disk.files(FOLDER) == [FOLDER / "inner" / "file", ONE, TWO]
    assert disk.files(Path("/nowhere")) == []
