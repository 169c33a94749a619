"""The journal: nothing leaves it but by an acknowledgement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from vsp.disk import SystemDisk
from vsp.errors import Unavailable
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
