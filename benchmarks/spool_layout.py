"""One log per worker with one sync, against one file per stream with a sync each: decision 0006.

Streams of 4 Mbit/s bring a fragment every two seconds, evenly spread, at real pace, on the file
system of the temporary folder; nothing stays unsynced for longer than 1.5 s. Ours is the spool's
writer (vsp/media/chunks.py). The peer is driven by the same thread and writes the same records,
checksums and hashes, but each into its stream's file, which is synced 1.5 s after its first byte
that is not. They are measured in turns.

    -cpu     CPU seconds per GB of media, all threads, user and system
    -fsyncs  calls a second
    -p50, -p99  of one call
    -stall   longest time from a fragment's arrival until it was written

Left out, in the peer's favour: making and closing a file for each segment. Left out of both: what
the kernel's own threads take to write back, reading the media for the object store, freeing it.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import cast

from benchmarks.figure import Figure, percentile
from vsp.clock import SystemClock
from vsp.disk import File, SystemDisk
from vsp.media.chunks import ChunkWriter, Job, Kind, Write, WriterThread
from vsp.media.spool import CHUNK_BYTES

STREAMS = (20, 100, 400)
FRAGMENT_BYTES = 1_000_000
FRAGMENT_S = 2.0
FSYNC_INTERVAL_S = 1.5
"""As the product has it (recording.fsync_interval_s)."""
TURNS = 4
"""Fragments of each stream: 400 streams write 1.6 GB in eight seconds."""
REPETITIONS = 3
WRITTEN_S = 60.0
"""For a disk that is late to take what it was given."""
GB = 1e9

MEASURES: Mapping[str, str] = {
    "cpu": "CPU-s/GB",
    "fsyncs": "calls/s",
    "p50": "ms",
    "p99": "ms",
    "stall": "ms",
}


def measure() -> list[Figure]:
    return [figure for streams in STREAMS for figure in _figures(streams)]


def _figures(streams: int) -> list[Figure]:
    ours, peer = [], []
    for _ in range(REPETITIONS):
        ours.append(_measured(streams, OneLog))
        peer.append(_measured(streams, FilePerStream))
    return [
        Figure(
            *(f"spool-layout.{streams}-{name}", median(run[name] for run in ours), unit, len(ours)),
            peer=median(run[name] for run in peer),
        )
        for name, unit in MEASURES.items()
    ]


def _measured(streams: int, layout: Callable[[TimedDisk, Path, int], Layout]) -> dict[str, float]:
    disk = TimedDisk()
    with tempfile.TemporaryDirectory(prefix="vsp-bench-") as folder:
        os.sync()  # what the last turn has left is not this one's
        return asyncio.run(_paced(disk, layout(disk, Path(folder), streams), streams))


async def _paced(disk: TimedDisk, layout: Layout, streams: int) -> dict[str, float]:
    """Give each fragment at its time."""
    waited_s: list[float] = []
    given_s: dict[tuple[int, int], float] = {}
    count, all_written = streams * TURNS, asyncio.Event()

    def written(record: Write) -> None:
        waited_s.append(time.monotonic() - given_s[record.segment, record.index])
        if len(waited_s) == count:
            all_written.set()

    writer = WriterThread(layout.core, written, SystemClock())
    writer.start()
    media = os.urandom(FRAGMENT_BYTES)
    began, cpu_s = time.monotonic(), time.process_time()
    for number in range(count):
        due = began + number * FRAGMENT_S / streams
        await asyncio.sleep(due - time.monotonic())
        record = layout.record(number % streams, number // streams, media)
        given_s[record.segment, record.index] = time.monotonic()
        writer.put(record)
    async with asyncio.timeout(WRITTEN_S):
        await all_written.wait()
    await writer.close(WRITTEN_S)
    assert writer.failure is None
    assert not layout.core.trouble
    return {
        "cpu": (time.process_time() - cpu_s) * GB / (count * FRAGMENT_BYTES),
        "fsyncs": len(disk.sync_s) / (time.monotonic() - began),
        "p50": 1000 * percentile(disk.sync_s, 0.5),
        "p99": 1000 * percentile(disk.sync_s, 0.99),
        "stall": 1000 * max(waited_s),
    }


# ---- the two layouts ------------------------------------------------------------------------


class Layout:
    """What the thread drives, and where a fragment of a stream is to stand."""

    core: ChunkWriter

    def record(self, stream: int, index: int, media: bytes) -> Write:
        raise NotImplementedError


class OneLog(Layout):
    """As the spool does it: a chunk ends where the next record would not fit."""

    def __init__(self, disk: TimedDisk, folder: Path, streams: int) -> None:
        self.core = ChunkWriter(disk, folder, FSYNC_INTERVAL_S)
        self._hashers = [hashlib.sha256() for _ in range(streams)]
        self._chunk = self._tail = 0

    def record(self, stream: int, index: int, media: bytes) -> Write:
        hasher = self._hashers[stream]
        record = Write(0, self._tail, Kind.FRAGMENT, stream, index, b"", media, hasher)
        if self._tail + record.size - self._chunk > CHUNK_BYTES:
            self._chunk = self._tail
        record.chunk = self._chunk
        self._tail += record.size
        return record


class FilePerStream(Layout):
    """A file for each stream; the position of a record is that in its file."""

    def __init__(self, disk: TimedDisk, folder: Path, streams: int) -> None:
        files = [disk.open(folder / f"{stream}.log", make=True) for stream in range(streams)]
        disk.sync_folder(folder)
        self.core = cast(ChunkWriter, FileWriter(files))
        self._hashers = [hashlib.sha256() for _ in range(streams)]
        self._tails = [0] * streams

    def record(self, stream: int, index: int, media: bytes) -> Write:
        hasher = self._hashers[stream]
        record = Write(0, self._tails[stream], Kind.FRAGMENT, stream, index, b"", media, hasher)
        self._tails[stream] += record.size
        return record


class FileWriter:
    """What `WriterThread` asks of a `ChunkWriter`; a disk that refuses is not gone on with."""

    trouble = ""

    def __init__(self, files: list[File]) -> None:
        self._files = files
        self._due: dict[int, float] = {}

    @property
    def sync_due(self) -> float | None:
        """Of the file that has waited longest, which is the first: all wait equally long."""
        return next(iter(self._due.values()), None)

    def do(self, job: Job, now: float) -> bool:
        assert isinstance(job, Write)
        assert job.hasher is not None
        job.hasher.update(job.media)
        self._files[job.segment].write(job.position, job.head(), job.body, job.media)
        self._due.setdefault(job.segment, now + FSYNC_INTERVAL_S)
        return True

    def sync(self, now: float) -> bool:
        for stream in [stream for stream, due in self._due.items() if due <= now]:
            self._files[stream].sync()
            del self._due[stream]
        return True

    def close(self) -> None:
        self.sync(float("inf"))
        for file in self._files:
            file.close()


# ---- a disk with a stop watch ---------------------------------------------------------------


class TimedDisk(SystemDisk):
    """sync_s: how long each fsync of a file took."""

    def __init__(self) -> None:
        self.sync_s: list[float] = []

    def open(self, path: Path, *, make: bool = False) -> File:
        return TimedFile(super().open(path, make=make), self.sync_s)


@dataclass(frozen=True, slots=True)
class TimedFile:
    file: File
    sync_s: list[float]

    @property
    def size(self) -> int:
        return self.file.size

    def read(self, offset: int, length: int) -> bytes:
        return self.file.read(offset, length)

    def write(self, offset: int, *pieces: bytes) -> None:
        self.file.write(offset, *pieces)

    def truncate(self, size: int) -> None:
        self.file.truncate(size)

    def sync(self) -> None:
        began = time.perf_counter()
        self.file.sync()
        self.sync_s.append(time.perf_counter() - began)

    def close(self) -> None:
        self.file.close()
