"""The journal of closed segments that the node has not committed yet.

One append-only file of lines, `crc32 json`. A line is a closed segment with its number, or an
acknowledgement up to a number. A segment is reported only after its line is fsynced, and leaves
only by an acknowledgement, so a crash of either side repeats entries and loses none; the commit is
idempotent by key. The file is rewritten (aside, fsync, rename) when most of it is acknowledged, and
before anything is added to one that cannot be built upon: found at the start, perhaps torn, or
failed by its disk, which may have dropped what it had been given (Linux marks the pages clean).

`append` and `acknowledge` block on the disk and are run beside the loop; what is read
(`unacknowledged`) never waits for them: the table of entries is replaced, not changed.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

import structlog

from vsp.disk import Disk, File, exists, make_folders, read_whole, write_durably
from vsp.errors import Unavailable, VspError
from vsp.faults import Point, reach
from vsp.link import from_wire, to_wire
from vsp.model.recording import Segment, SegmentClosed

log = structlog.get_logger(__name__)

REWRITE_BYTES = 4 << 20
"""Acknowledged bytes that make a rewrite worth its fsync: about 4,000 entries."""


class Journal:
    """Entries by number, in order. Opening replays the file; a torn last line is dropped."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk
        self._lock = threading.Lock()
        self._entries, last = read_entries(disk, path)
        self._next_seq = last + 1
        self._file: File | None = None
        self._live_bytes = 0

    def unacknowledged(self) -> Sequence[SegmentClosed]:
        """What the node has not committed, oldest first."""
        return [SegmentClosed(seq, segment) for seq, segment in self._entries.items()]

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, segments: Sequence[Segment]) -> Sequence[SegmentClosed]:
        """On disk when it returns. A key that still waits for its commit keeps its number."""
        with self._lock:
            known = {segment.key: seq for seq, segment in self._entries.items()}
            fresh: dict[int, Segment] = {}
            closed = []
            for segment in segments:
                seq = known.setdefault(segment.key, self._next_seq + len(fresh))
                if seq not in self._entries:
                    fresh.setdefault(seq, segment)
                closed.append(SegmentClosed(seq, segment))
            self._write(b"".join(_entry(seq, segment) for seq, segment in fresh.items()))
            self._next_seq += len(fresh)
            self._entries = self._entries | fresh
            return closed

    def acknowledge(self, seq: int) -> None:
        """Forget entries up to and including `seq`; an older or unknown number does nothing."""
        with self._lock:
            done = [number for number in self._entries if number <= seq]
            if not done:
                return
            self._forget(done[-1])
            try:
                # Not fsynced: an acknowledgement lost in a crash is only said once more.
                file = self._add(_line({"ack": done[-1]}))
                reach(Point.JOURNAL_ACKNOWLEDGED)
                if file.size - self._live_bytes > REWRITE_BYTES:
                    self._leave()
                    self._sound()
            except OSError as error:
                log.warning("acknowledgement not written", file=str(self._path), why=str(error))

    def close(self) -> None:
        """Acknowledgements are on disk, too, if the disk takes them."""
        with self._lock:
            try:
                if self._file is not None:
                    self._file.sync()
            except OSError as error:
                log.warning("journal not synced", file=str(self._path), why=str(error))
            self._leave()

    def _write(self, lines: bytes) -> None:
        """On disk when it returns. Raises Unavailable; then none of it counts."""
        if not lines:
            return
        try:
            file = self._add(lines)
            reach(Point.JOURNAL_WRITTEN)
            self._sync(file)
        except OSError as error:
            raise Unavailable(f"journal {self._path} cannot be written: {error}") from error
        self._live_bytes += len(lines)
        reach(Point.JOURNAL_SYNCED)

    def _add(self, lines: bytes) -> File:
        """All of them behind what is there, or nothing."""
        file = self._sound()
        size = file.size
        try:
            file.write(size, lines)
        except OSError:
            try:
                file.truncate(size)
            except OSError:
                self._leave()
            raise
        return file

    def _sync(self, file: File) -> None:
        try:
            file.sync()
        except OSError:
            self._leave()
            raise

    def _sound(self) -> File:
        """The file to add to."""
        if self._file is None:
            self._file = self._rewritten()
            self._live_bytes = self._file.size
        return self._file

    def _leave(self) -> None:
        """Add nothing more to this file."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _forget(self, up_to: int) -> None:
        for seq, segment in self._entries.items():
            if seq <= up_to:
                self._live_bytes -= len(_entry(seq, segment))
        self._entries = {seq: entry for seq, entry in self._entries.items() if seq > up_to}

    def _rewritten(self) -> File:
        """What is left, written aside and renamed over; numbers go on where they were."""
        aside = self._path.with_suffix(".new")
        lines = bytearray(_line({"ack": min(self._entries, default=self._next_seq) - 1}))
        for seq, segment in self._entries.items():
            lines += _entry(seq, segment)
        make_folders(self._disk, self._path.parent)
        write_durably(self._disk, aside, bytes(lines))
        reach(Point.JOURNAL_ASIDE)
        self._disk.rename(aside, self._path)
        reach(Point.JOURNAL_RENAMED)
        self._disk.sync_folder(self._path.parent)
        return self._disk.open(self._path)


def read_entries(disk: Disk, path: Path) -> tuple[dict[int, Segment], int]:
    """What a journal says is not acknowledged, and the last number that it gave out.

    A line that is torn or altered is left out alone.
    """
    entries: dict[int, Segment] = {}
    last = 0
    text = read_whole(disk, path) if exists(disk, path) else b""
    for number, line in enumerate(text.split(b"\n")):
        if not line:
            continue
        try:
            entry = _parse(line)
            if "ack" in entry:
                seq = int(str(entry["ack"]))
                entries = {known: kept for known, kept in entries.items() if known > seq}
            else:
                seq = int(str(entry["seq"]))
                entries[seq] = from_wire(Segment, entry["segment"])
            last = max(last, seq)
        except (ValueError, KeyError, TypeError, VspError) as error:
            log.warning("journal line dropped", file=str(path), line=number, why=str(error))
    return entries, last


def _entry(seq: int, segment: Segment) -> bytes:
    return _line({"seq": seq, "segment": to_wire(segment)})


def _line(entry: dict[str, object]) -> bytes:
    body = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> dict[str, object]:
    crc, _, body = line.partition(b" ")
    if int(crc, 16) != zlib.crc32(body):
        raise ValueError("checksum differs")
    entry = json.loads(body)
    if not isinstance(entry, dict):
        raise TypeError("not an object")
    return entry


__all__ = ["Journal", "read_entries"]
