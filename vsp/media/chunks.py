"""The spool's files: records in chunks, the writer that puts them there, and how they are read.

    chunk    {first log position, hex}.log: records, one behind the other
    record   magic, kind, segment, index, length, CRC-32 of head and body; then the body

`ChunkWriter` does what blocks, one call at a time, with the time as an argument; a thread drives it
(`WriterThread`), or the loop of a virtual world. It never goes on behind a record that the disk did
not take, and never leaves a chunk that is not synced: the log ends at one place at the most. Only
chunks that are done with go meanwhile: theirs may be the room that is missing.

A disk that failed to sync may have dropped what it had been given (Linux marks the pages clean). So
what was not synced is kept in memory, written again to the same places, and synced again, until the
disk says yes; meanwhile nothing more is taken than `UNSYNCED_BYTES_MAX`.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import struct
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Protocol

import structlog

from vsp.disk import Disk, File, exists, make_folders
from vsp.errors import DataLoss
from vsp.faults import Point, reach
from vsp.ports import Clock

log = structlog.get_logger(__name__)

RECORD_BYTES_MAX = 64 << 20
"""Longest body of a record; a fragment is two seconds, so this is 250 Mbit/s. Guards recovery."""

UNSYNCED_BYTES_MAX = 64 << 20
"""Bytes written and not yet synced that are kept to be written again: two seconds of 250 Mbit/s."""

RETRY_S = 0.5
"""Wait before what the disk refused is tried again."""

_HEAD: Final = struct.Struct("<4sB3xQIII")
"""magic, kind, segment, index, body bytes, CRC-32 of these fields without it and of the body."""

HEAD_BYTES = _HEAD.size

_MAGIC = b"VSP1"


class Kind(IntEnum):
    """What a record says. Numbers are for ever."""

    BEGIN = 1
    FRAGMENT = 2
    UPLOAD = 3
    PART = 4
    END = 5
    DONE = 6


_KINDS = frozenset(Kind)


@dataclass(slots=True, eq=False)
class Write:
    """One record for the writer. `media` is hashed into `hasher`, once, when given."""

    chunk: int
    position: int
    kind: Kind
    segment: int
    index: int
    body: bytes
    media: bytes = b""
    hasher: hashlib._Hash | None = None

    @property
    def size(self) -> int:
        return HEAD_BYTES + len(self.body) + len(self.media)

    def head(self) -> bytes:
        length = len(self.body) + len(self.media)
        plain = _HEAD.pack(_MAGIC, self.kind, self.segment, self.index, length, 0)
        crc = zlib.crc32(self.media, zlib.crc32(self.body, zlib.crc32(plain)))
        return plain[:-4] + crc.to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove the chunk that begins at this position."""

    chunk: int


Job = Write | Drop


# ---- writing --------------------------------------------------------------------------------


class ChunkWriter:
    """Writes what it is given, in order. Blocking; used by one thread at a time.

    synced  log position up to which everything is on disk
    """

    def __init__(self, disk: Disk, folder: Path, fsync_interval_s: float) -> None:
        self.synced = 0
        self._disk = disk
        self._folder = folder
        self._fsync_interval_s = fsync_interval_s
        self._file: File | None = None
        self._chunk = -1
        self._unsynced: list[Write] = []
        self._unsynced_bytes = 0
        self._again = False
        self._sync_due: float | None = None
        self._write_trouble = self._sync_trouble = ""

    @property
    def trouble(self) -> str:
        """What the disk says while it refuses, else empty. A full one may sync all the same, and
        one that does not sync may take more: either is trouble until that very thing goes well."""
        return self._write_trouble or self._sync_trouble

    @property
    def sync_due(self) -> float | None:
        """When `sync` is to be called at the latest (monotonic); None while nothing is unsynced."""
        return self._sync_due

    def do(self, job: Job, now: float) -> bool:
        """Whether the disk took it; if not, it is to be given again, before any other."""
        try:
            if isinstance(job, Drop):
                self._drop(job.chunk)
            else:
                self._write(job, now)
        except OSError as error:
            self._note(str(error), self._sync_trouble)
            return False
        self._note("", self._sync_trouble if self._again else "")
        return True

    def sync(self, now: float) -> bool:
        """Everything written so far is on disk; False when the disk refused."""
        try:
            self._sync()
        except OSError as error:
            self._sync_due = now + RETRY_S
            self._note(self._write_trouble, str(error))
            return False
        self._note(self._write_trouble, "")
        return True

    def close(self) -> None:
        """Sync and let go of the file, as far as the disk allows."""
        try:
            self._sync()
        except OSError as error:
            log.error("spool not synced", folder=str(self._folder), why=str(error))
        if self._file is not None:
            self._file.close()
        self._file, self._chunk = None, -1

    def _write(self, job: Write, now: float) -> None:
        if self._unsynced_bytes > UNSYNCED_BYTES_MAX:
            self._sync()
        file = self._open(job.chunk)
        if job.hasher is not None:
            job.hasher.update(job.media)
            job.hasher = None
        reach(Point.SPOOL_WRITE_ABOUT)
        self._put(file, job)
        reach(Point.SPOOL_WRITTEN)
        self._unsynced.append(job)
        self._unsynced_bytes += job.size
        if self._sync_due is None:
            self._sync_due = now + self._fsync_interval_s

    def _put(self, file: File, job: Write) -> None:
        file.write(job.position - job.chunk, job.head(), job.body, job.media)

    def _open(self, chunk: int) -> File:
        if self._file is not None and chunk == self._chunk:
            return self._file
        self._leave()
        make_folders(self._disk, self._folder)
        file = self._disk.open(chunk_path(self._folder, chunk), make=True)
        try:
            reach(Point.SPOOL_CHUNK_MADE)
            self._disk.sync_folder(self._folder)
        except OSError:
            file.close()
            raise
        self._file, self._chunk = file, chunk
        return file

    def _leave(self) -> None:
        """Sync the chunk and close it."""
        self._sync()
        if self._file is not None:
            self._file.close()
        self._file, self._chunk = None, -1

    def _sync(self) -> None:
        if self._file is not None and self._unsynced:
            reach(Point.SPOOL_FSYNC_ABOUT)
            if self._again:
                for job in self._unsynced:
                    self._put(self._file, job)
            self._again = True  # unless it goes well
            self._file.sync()
            self.synced = self._unsynced[-1].position + self._unsynced[-1].size
            reach(Point.SPOOL_SYNCED)
        self._unsynced, self._unsynced_bytes = [], 0
        self._again, self._sync_due = False, None

    def _drop(self, chunk: int) -> None:
        """Its name is gone for good before that of a later chunk can go: a chunk that comes back
        after a power cut without its successors would seem to hold segments that are not done."""
        if chunk == self._chunk:
            self._leave()
        reach(Point.SPOOL_DROP_ABOUT)
        with suppress(FileNotFoundError):  # removed by a try whose sync failed
            self._disk.remove(chunk_path(self._folder, chunk))
        self._disk.sync_folder(self._folder)

    def _note(self, write: str, sync: str) -> None:
        """What the disk says of writing and of syncing now; empty where it does as it is told."""
        before = self.trouble
        self._write_trouble, self._sync_trouble = write, sync
        if self.trouble and not before:
            log.error("the spool's disk refuses", folder=str(self._folder), why=self.trouble)
        elif before and not self.trouble:
            log.info("the spool's disk takes again", folder=str(self._folder))


class Writer(Protocol):
    """What drives a `ChunkWriter`: jobs in order, and a sync in time.

    failure  what ended it before `close`, if anything did
    """

    failure: BaseException | None

    def start(self) -> None: ...
    def put(self, job: Job) -> None: ...
    async def close(self, timeout_s: float) -> None:
        """Write and sync what was put; a disk that refuses is not waited for."""
        ...


OnWritten = Callable[[Write], None]
"""Told on the loop of each record that is in its file, in order."""

StartWriter = Callable[[ChunkWriter, OnWritten], Writer]


class WriterThread:
    """A thread of its own, so that a slow disk never holds up the loop."""

    def __init__(self, core: ChunkWriter, on_written: OnWritten, clock: Clock) -> None:
        self.failure: BaseException | None = None
        self._core = core
        self._on_written = on_written
        self._clock = clock
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._next: deque[Job | None] = deque()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def put(self, job: Job) -> None:
        self._queue.put(job)

    async def close(self, timeout_s: float) -> None:
        self._stopping.set()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join, timeout_s)

    def _run(self) -> None:
        try:
            while self._serve_one():
                pass
        except Exception as error:
            self.failure = error
            log.exception("spool writer died")
        finally:
            self._core.close()

    def _serve_one(self) -> bool:
        """Wait for one job and do it; sync when that is due. False when told to stop."""
        due = self._sync_when_due()
        try:
            job = self._next.popleft() if self._next else self._queue.get(timeout=due)
        except queue.Empty:
            return True
        if job is None:
            return False
        while not self._core.do(job, self._clock.monotonic()):
            if self._stopping.wait(RETRY_S):
                return False
            self._sync_when_due()  # a disk that is full can still save what it has
            self._make_room(job)
        if isinstance(job, Write):
            self._tell(job)
        return True

    def _make_room(self, refused: Job) -> None:
        """A full disk may be full of us: what waits behind `refused` to be dropped goes now, unless
        it is still to be written to; writes come in the order of chunks."""
        while not self._queue.empty():
            self._next.append(self._queue.get_nowait())
        for job in [job for job in self._next if isinstance(job, Drop)]:
            if job.chunk >= refused.chunk or not self._core.do(job, self._clock.monotonic()):
                return
            self._next.remove(job)

    def _sync_when_due(self) -> float | None:
        """Seconds until the next sync; None when nothing waits for one."""
        now = self._clock.monotonic()
        if self._core.sync_due is not None and self._core.sync_due <= now:
            self._core.sync(now)
        due = self._core.sync_due
        return None if due is None else max(0.0, due - now)

    def _tell(self, job: Write) -> None:
        assert self._loop is not None, "start comes first"
        try:
            self._loop.call_soon_threadsafe(self._on_written, job)
        except RuntimeError:
            log.debug("spool written after the loop closed", position=job.position)


# ---- reading --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it stands in the log. `position` is that of its head."""

    kind: Kind
    segment: int
    index: int
    position: int
    body: memoryview

    @property
    def body_position(self) -> int:
        return self.position + HEAD_BYTES


def chunk_path(folder: Path, base: int) -> Path:
    return folder / f"{base:016x}.log"


def chunks_in(disk: Disk, folder: Path) -> list[tuple[int, int]]:
    """(first position, bytes) of the chunks that are there, in order; empty ones are left out."""
    if not exists(disk, folder):
        return []
    return sorted(
        (int(entry.name.removesuffix(".log"), 16), entry.size_bytes)
        for entry in disk.entries(folder)
        if entry.name.endswith(".log") and entry.size_bytes
    )


def read_chunk(disk: Disk, path: Path, offset: int, length: int) -> bytes:
    """Exactly those bytes. Raises DataLoss."""
    try:
        file = disk.open(path)
        try:
            data = file.read(offset, length)
        finally:
            file.close()
    except OSError as error:
        raise DataLoss(f"spool chunk {path} cannot be read: {error}") from error
    if len(data) != length:
        raise DataLoss(f"spool chunk {path} ends before {offset}+{length}")
    return data


def records(disk: Disk, path: Path, base: int) -> Iterator[Record]:
    """The whole records of a chunk, in order, up to the first torn or altered one."""
    file = disk.open(path)
    try:
        view = memoryview(file.read(0, file.size))
    finally:
        file.close()
    offset = 0
    while offset < len(view):
        record = _record_at(view, offset, base)
        if record is None:
            log.warning("spool ends torn", chunk=str(path), offset=offset, of=len(view))
            return
        yield record
        offset += HEAD_BYTES + len(record.body)


def _record_at(view: memoryview, offset: int, base: int) -> Record | None:
    if offset + HEAD_BYTES > len(view):
        return None
    magic, kind, segment, index, length, crc = _HEAD.unpack_from(view, offset)
    if magic != _MAGIC or kind not in _KINDS or length > RECORD_BYTES_MAX:
        return None
    if offset + HEAD_BYTES + length > len(view):
        return None
    body = view[offset + HEAD_BYTES : offset + HEAD_BYTES + length]
    plain = _HEAD.pack(magic, kind, segment, index, length, 0)
    if zlib.crc32(body, zlib.crc32(plain)) != crc:
        return None
    return Record(Kind(kind), segment, index, base + offset, body)


__all__ = [
    "HEAD_BYTES",
    "RECORD_BYTES_MAX",
    "ChunkWriter",
    "Drop",
    "Job",
    "Kind",
    "OnWritten",
    "Record",
    "StartWriter",
    "Write",
    "Writer",
    "WriterThread",
    "chunk_path",
    "chunks_in",
    "read_chunk",
    "records",
]
