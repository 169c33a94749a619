"""Both layouts write every record; the peer syncs each file in its own time."""

from __future__ import annotations

from pathlib import Path

from benchmarks.spool_layout import FSYNC_INTERVAL_S, FilePerStream, OneLog, TimedDisk
from vsp.media.chunks import chunks_in, records

MEDIA = b"one fragment"


def test_the_log_holds_the_records_of_all_streams_in_order(tmp_path: Path):
    disk = TimedDisk()
    layout = OneLog(disk, tmp_path / "log", 2)

    for index, stream in [(0, 0), (0, 1), (1, 0)]:
        assert layout.core.do(layout.record(stream, index, MEDIA), 0.0)
    layout.core.close()

    [(base, _)] = chunks_in(disk, tmp_path / "log")
    path = next((tmp_path / "log").iterdir())
    found = [(each.segment, each.index, bytes(each.body)) for each in records(disk, path, base)]
    assert found == [(0, 0, MEDIA), (1, 0, MEDIA), (0, 1, MEDIA)]
    assert len(disk.sync_s) == 1


def test_a_file_per_stream_holds_the_same_records(tmp_path: Path):
    disk = TimedDisk()
    layout = FilePerStream(disk, tmp_path, 2)

    for index, stream in [(0, 0), (0, 1), (1, 0)]:
        assert layout.core.do(layout.record(stream, index, MEDIA), 0.0)
    layout.core.close()

    found = [(each.segment, each.index) for each in records(disk, tmp_path / "0.log", 0)]
    assert found == [(0, 0), (0, 1)]
    assert [each.segment for each in records(disk, tmp_path / "1.log", 0)] == [1]


def test_each_file_is_synced_when_it_is_due_and_not_before(tmp_path: Path):
    disk = TimedDisk()
    layout = FilePerStream(disk, tmp_path, 2)
    core = layout.core
    core.do(layout.record(0, 0, MEDIA), 10.0)
    core.do(layout.record(1, 0, MEDIA), 11.0)
    core.do(layout.record(0, 1, MEDIA), 11.2)

    assert core.sync_due == 10.0 + FSYNC_INTERVAL_S
    core.sync(11.5)
    assert (len(disk.sync_s), core.sync_due) == (1, 11.0 + FSYNC_INTERVAL_S)
    core.sync(12.5)
    assert (len(disk.sync_s), core.sync_due) == (2, None)
    core.close()
