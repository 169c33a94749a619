"""The journal of closed segments that the node has not committed yet.

One append-only file of lines, `crc32 json`. A line is a closed segment with its number, or an
acknowledgement up to a number. A segment is reported only after its line is fsynced, and leaves
only by an acknowledgement, so a crash of either side repeats entries and loses none; the commit is
idempotent by key. The file is rewritten (aside, fsync, rename) when most of it is acknowledged.

`append` and `acknowledge` block on the disk and are run in threads; what is read (`unacknowledged`)
never waits for them: the table of entries is replaced, not changed.
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

import structlog

from vsp.errors import Unavailable, VspError
from vsp.link import from_wire, to_wire
from vsp.model.recording import Segment, SegmentClosed

log = structlog.get_logger(__name__)

REWRITE_BYTES = 4 << 20
"""Acknowledged bytes that make a rewrite worth its fsync: about 4,000 entries."""


class Journal:
    """Entries by number, in order. Opening replays the file; a torn last line is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._entries: dict[int, Segment] = {}
        self._next_seq = 1
        path.parent.mkdir(parents=True, exist_ok=True)
        self._replay()
        self._rewrite()

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
            # Not fsynced: an acknowledgement lost in a crash is only said once more.
            os.write(self._fd, _line({"ack": done[-1]}))
            if os.fstat(self._fd).st_size > REWRITE_BYTES and not self._entries:
                os.close(self._fd)
                self._rewrite()

    def close(self) -> None:
        with self._lock:
            os.fsync(self._fd)
            os.close(self._fd)

    def _write(self, lines: bytes) -> None:
        """All of it on disk, or none of it in the file and Unavailable."""
        if not lines:
            return
        size = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, lines)
            os.fdatasync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, size)
            raise Unavailable(f"journal {self._path} cannot be written: {error}") from error
        if written != len(lines):
            os.ftruncate(self._fd, size)
            raise Unavailable(f"journal {self._path} cannot be written: disk full")

    def _replay(self) -> None:
        if not self._path.exists():
            return
        for number, line in enumerate(self._path.read_bytes().split(b"\n")):
            if not line:
                continue
            try:
                self._apply(_parse(line))
            except (ValueError, KeyError, TypeError, VspError) as error:
                log.warning("journal line dropped", file=str(self._path), line=number, why=error)

    def _apply(self, entry: dict[str, object]) -> None:
        if "ack" in entry:
            acknowledged = int(str(entry["ack"]))
            self._next_seq = max(self._next_seq, acknowledged + 1)
            self._forget(acknowledged)
            return
        seq = int(str(entry["seq"]))
        self._entries[seq] = from_wire(Segment, entry["segment"])
        self._next_seq = max(self._next_seq, seq + 1)

    def _forget(self, up_to: int) -> None:
        self._entries = {seq: entry for seq, entry in self._entries.items() if seq > up_to}

    def _rewrite(self) -> None:
        """Write what is left aside, then rename it over; numbers go on where they were."""
        aside = self._path.with_suffix(".new")
        lines = bytearray(_line({"ack": min(self._entries, default=self._next_seq) - 1}))
        for seq, segment in self._entries.items():
            lines += _entry(seq, segment)
        with aside.open("wb") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        aside.rename(self._path)
        sync_folder(self._path.parent)
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND)


def sync_folder(folder: Path) -> None:
    """Make names created or renamed in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
