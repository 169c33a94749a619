"""The journal: nothing leaves it but by an acknowledgement."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from simulators.world.disk import ForgetfulDisk
from tests.contract.manual import ManualClock
from tests.deaths import Died, dying_at, failing_at
from vsp.disk import SystemDisk, read_whole
from vsp.errors import Unavailable
from vsp.faults import Point
from vsp.media import journal as module
from vsp.media.journal import Journal
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import Container, EndReason, Segment
from vsp.model.stream import VideoCodec

SEGMENT = Segment(
    channel_id=ChannelId("c1"),
    key="v1/c1/2026/11/22/1-1-0.mp4",
    container=Container.MP4,
    run=UtcMicros(1),
    n=0,
    start_us=UtcMicros(1),
    end_us=UtcMicros(60_000_001),
    start_90k=0,
    duration_90k=5_400_000,
    size_bytes=1000,
    sha256="00" * 32,
    init_bytes=600,
    fragments=((0, 600, 200), (2000, 800, 200)),
    video=VideoCodec.H264,
    audio=None,
    codecs="avc3.42C00B",
    width=160,
    height=96,
    frames=1500,
    damaged_frames=0,
    end_reason=EndReason.ROLLED,
)


def segments(count: int, first: int = 0) -> list[Segment]:
    return [replace(SEGMENT, key=f"k{n}", n=n) for n in range(first, first + count)]


def test_entries_come_back_after_a_restart_until_they_are_acknowledged(tmp_path: Path):
    file = tmp_path / "journal"
    journal = Journal(file, SystemDisk())
    journal.append(segments(3))
    journal.acknowledge(2)
    journal.close()

    again = Journal(file, SystemDisk())

    [left] = again.unacknowledged()
    assert (left.seq, left.segment) == (3, segments(3)[2])
    again.close()


def test_numbers_go_on_after_a_restart_with_nothing_left(tmp_path: Path):
    file = tmp_path / "journal"
    journal = Journal(file, SystemDisk())
    journal.append(segments(2))
    journal.acknowledge(2)
    journal.close()

    again = Journal(file, SystemDisk())
    [entry] = again.append(segments(1, first=2))

    assert entry.seq == 3
    again.close()


def test_a_key_that_waits_keeps_its_number(tmp_path: Path):
    journal = Journal(tmp_path / "journal", SystemDisk())
    first = journal.append(segments(2))

    again = journal.append(segments(3))

    assert [entry.seq for entry in again] == [1, 2, 3]
    assert list(again[:2]) == list(first)
    assert len(journal) == 3
    journal.close()


@pytest.mark.parametrize("lost_bytes", [2, 10, 200])
def test_a_torn_last_line_is_dropped_and_the_rest_stays(tmp_path: Path, lost_bytes: int):
    file = tmp_path / "journal"
    journal = Journal(file, SystemDisk())
    journal.append(segments(3))
    journal.close()
    data = file.read_bytes()
    file.write_bytes(data[:-lost_bytes])

    again = Journal(file, SystemDisk())

    assert [entry.seq for entry in again.unacknowledged()] == [1, 2]
    assert again.append(segments(1, first=5))[0].seq == 3
    again.close()


def test_an_altered_line_is_dropped_alone(tmp_path: Path):
    file = tmp_path / "journal"
    journal = Journal(file, SystemDisk())
    journal.append(segments(3))
    journal.close()
    file.write_bytes(file.read_bytes().replace(b'"k1"', b'"kX"'))

    again = Journal(file, SystemDisk())

    assert [entry.segment.key for entry in again.unacknowledged()] == ["k0", "k2"]
    again.close()


def test_acknowledging_what_is_unknown_or_older_does_nothing(tmp_path: Path):
    journal = Journal(tmp_path / "journal", SystemDisk())
    journal.append(segments(2))

    journal.acknowledge(0)
    journal.acknowledge(1)
    journal.acknowledge(1)

    assert [entry.seq for entry in journal.unacknowledged()] == [2]
    journal.close()


def test_the_file_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vsp.media.journal.REWRITE_BYTES", 10_000)
    file = tmp_path / "journal"
    journal = Journal(file, SystemDisk())

    for n in range(100):
        [entry] = journal.append(segments(1, first=n))
        journal.acknowledge(entry.seq)

    assert file.stat().st_size < 11_000
    assert journal.append(segments(1, first=200))[0].seq == 101
    journal.close()


def test_a_disk_that_refuses_leaves_no_half_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "journal"
    journal = Journal(file, SystemDisk())
    journal.append(segments(1))

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fdatasync", full)
    with pytest.raises(Unavailable, match="No space left"):
        journal.append(segments(1, first=1))
    monkeypatch.undo()

    assert journal.append(segments(1, first=2))[0].seq == 2
    journal.close()
    again = Journal(file, SystemDisk())
    assert [entry.segment.key for entry in again.unacknowledged()] == ["k0", "k2"]
    again.close()


# ---- deaths ---------------------------------------------------------------------------------

FILE = Path("/journal")


@dataclass
class Node:
    """What a node would know of a journal: what it was told, and what it asked to forget."""

    told: dict[int, Segment] = field(default_factory=dict)
    asked: int = 0

    def work(self, journal: Journal, first: int, rounds: int = 30) -> None:
        """Two entries a round; every other round they are acknowledged."""
        for n in range(first, first + 2 * rounds, 2):
            for entry in journal.append(segments(2, first=n)):
                self.told[entry.seq] = entry.segment
            if n % 4:
                self.asked = max(self.told)
                journal.acknowledge(self.asked)

    def check(self, journal: Journal) -> None:
        """Everything that was told and is not acknowledged is there, as it was told."""
        held = {entry.seq: entry.segment for entry in journal.unacknowledged()}
        waiting = {seq: told for seq, told in self.told.items() if seq > self.asked}
        assert {seq: held.get(seq) for seq in waiting} == waiting


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("point", [point for point in Point if point.startswith("journal.")])
def test_a_death_at_any_point_forgets_nothing_that_was_told(
    monkeypatch: pytest.MonkeyPatch, point: Point, nth: int, seed: int
):
    monkeypatch.setattr(module, "REWRITE_BYTES", 4000)
    disk, node = ForgetfulDisk(ManualClock(), seed), Node()
    with dying_at(point, nth), pytest.raises(Died):
        node.work(Journal(FILE, disk), first=0)
    if seed % 2:
        disk.cut_power()

    second = Journal(FILE, disk)
    node.check(second)
    with dying_at(point), pytest.raises(Died):
        node.work(second, first=100)
    if seed % 4 > 1:
        disk.cut_power()
    third = Journal(FILE, disk)
    node.check(third)
    [fresh] = third.append(segments(1, first=999))

    assert fresh.seq > max(node.told, default=0), "a number is given once"


@pytest.mark.parametrize("seed", range(10))
def test_what_a_failed_sync_gave_up_is_written_again(seed: int):
    disk = ForgetfulDisk(ManualClock(), seed)
    journal = Journal(FILE, disk)
    journal.append(segments(2))
    journal.acknowledge(1)  # not synced, and given up with what comes behind it
    disk.syncs_fail = True
    with pytest.raises(Unavailable):
        journal.append(segments(1, first=2))

    disk.syncs_fail = False
    journal.append(segments(1, first=3))
    disk.cut_power()

    held = [entry.segment.key for entry in Journal(FILE, disk).unacknowledged()]
    assert held[-2:] == ["k1", "k3"]


@pytest.mark.parametrize("point", [Point.JOURNAL_ASIDE, Point.JOURNAL_RENAMED])
@pytest.mark.parametrize("seed", range(6))
def test_a_rewrite_that_fails_halfway_loses_nothing_that_comes_later(
    monkeypatch: pytest.MonkeyPatch, point: Point, seed: int
):
    monkeypatch.setattr(module, "REWRITE_BYTES", 500)
    disk, node = ForgetfulDisk(ManualClock(), seed), Node()
    journal = Journal(FILE, disk)
    node.work(journal, first=0, rounds=2)
    with failing_at(point):
        node.work(journal, first=100, rounds=3)
    if seed % 2:
        disk.cut_power()

    node.check(Journal(FILE, disk))


@contextmanager
def filling_up(*, cuts_back: bool = True) -> Iterator[None]:
    """The disk takes seven bytes more; without `cuts_back` a file cannot be cut, either."""
    real, room = os.pwritev, 7

    def pwritev(fd: int, pieces: list[bytes], offset: int) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken, room = b"".join(pieces)[:room], 0
        return real(fd, [taken], offset)

    def ftruncate(fd: int, size: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwritev", pwritev)
        if not cuts_back:
            patch.setattr(os, "ftruncate", ftruncate)
        yield


@pytest.mark.parametrize("cuts_back", [True, False])
def test_a_line_that_was_written_by_half_spoils_no_later_one(tmp_path: Path, cuts_back: bool):
    file = tmp_path / "journal"
    journal = Journal(file, SystemDisk())
    journal.append(segments(1))

    with filling_up(cuts_back=cuts_back), pytest.raises(Unavailable):
        journal.append(segments(1, first=1))
    journal.append(segments(1, first=2))
    with filling_up(cuts_back=cuts_back):
        journal.acknowledge(1)
    journal.append(segments(1, first=3))
    journal.close()

    again = Journal(file, SystemDisk())
    assert [entry.segment.key for entry in again.unacknowledged()][-2:] == ["k2", "k3"]
    again.close()


def test_a_full_disk_keeps_no_worker_from_starting():
    disk = ForgetfulDisk(ManualClock(), 1)
    Journal(FILE, disk).append(segments(2))
    disk.capacity_bytes = disk.used_bytes

    journal = Journal(FILE, disk)

    assert [entry.segment.key for entry in journal.unacknowledged()] == ["k0", "k1"]
    with pytest.raises(Unavailable, match="No space left"):
        journal.append(segments(1, first=2))
    journal.acknowledge(1)
    disk.capacity_bytes = 1 << 20
    assert journal.append(segments(1, first=3))[0].seq == 3
    assert [entry.seq for entry in Journal(FILE, disk).unacknowledged()] == [2, 3]


def test_an_acknowledgement_that_the_disk_refuses_is_at_worst_said_again():
    disk = ForgetfulDisk(ManualClock(), 1)
    journal = Journal(FILE, disk)
    journal.append(segments(3))
    disk.capacity_bytes = disk.used_bytes

    journal.acknowledge(2)

    assert [entry.seq for entry in journal.unacknowledged()] == [3]
    assert [entry.seq for entry in Journal(FILE, disk).unacknowledged()] == [1, 2, 3]


def test_closing_before_a_disk_that_refuses_is_no_error():
    disk = ForgetfulDisk(ManualClock(), 1)
    journal = Journal(FILE, disk)
    journal.append(segments(1))
    disk.syncs_fail = True

    journal.close()


def test_a_rewrite_keeps_what_waits_in_order(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "REWRITE_BYTES", 2000)
    disk = ForgetfulDisk(ManualClock(), 1)
    journal = Journal(FILE, disk)
    for n in range(20):
        journal.append(segments(1, first=n))
    before = len(read_whole(disk, FILE))
    journal.acknowledge(17)

    assert len(read_whole(disk, FILE)) < before / 4
    again = Journal(FILE, disk)
    assert [entry.seq for entry in again.unacknowledged()] == [18, 19, 20]
    assert again.append(segments(1, first=20))[0].seq == 21
