"""The spool: one append-only log per worker, where recorded bytes are safe before they are objects.

Theory of operation. A segment is written as records: BEGIN (its head and its init segment), one
FRAGMENT for each piece of media, UPLOAD and PART as it goes up to the object store, END with the
reason, DONE when the node's journal has it. Records of all segments of the worker follow each other
in one log, so that one fsync serves every stream (docs/decisions/0006). The log is cut into chunk
files named by the log position of their first byte; positions never repeat. Space is freed from the
front only: a chunk goes when every segment that began in it is done, so a DONE can never vanish
before its BEGIN.

The event loop only does arithmetic: it assigns positions and hands buffers to the writer
(`chunks.py`), which checksums, hashes, writes and syncs. A disk that refuses (full) makes the
writer try again while the bounded queue fills; then `append` raises Exhausted and the recorder
stops, saying so. After a crash `recover` reads the old chunks: each record carries a CRC over head
and body, a chunk ends at its first torn one, and what a segment has up to its last whole fragment
is all there is.

Invariants: (1) a record is acknowledged to nobody before it is written; what must survive a power
cut is an object before anybody is told. (2) fragments of a segment are consecutive by index, or the
segment ends before the first hole.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from vsp.blocking import Blocking
from vsp.disk import Disk
from vsp.errors import DataLoss, Exhausted, Invalid, VspError
from vsp.faults import Point, reach
from vsp.link import from_wire, to_wire
from vsp.media.chunks import (
    HEAD_BYTES,
    RECORD_BYTES_MAX,
    ChunkWriter,
    Drop,
    Kind,
    Record,
    StartWriter,
    Write,
    chunk_path,
    chunks_in,
    read_chunk,
    records,
)
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import Container, EndReason, Segment
from vsp.model.stream import AudioCodec, VideoCodec

log = structlog.get_logger(__name__)

CHUNK_BYTES = 64 << 20
"""Size at which the log goes on in a new file: the grain in which space is freed."""

CHUNKS_MIN = 8
"""A spool has room for this many; below 512 MB its chunks are smaller. The last one is never freed,
so what is done there takes an eighth of the room at most."""

QUEUE_BYTES_MAX = 128 << 20
"""Bytes that wait for the writer: more than a second of 200 cameras, an fsync of a slow disk."""

_FRAGMENT: Final = struct.Struct("<qqqqII?")


@dataclass(frozen=True, slots=True)
class SegmentHead:
    """What is known of a segment when it begins; fields as in `model.recording.Segment`."""

    channel_id: ChannelId
    key: str
    container: Container
    run: UtcMicros
    n: int
    start_us: UtcMicros
    start_90k: int
    init_bytes: int
    video: VideoCodec | None
    audio: AudioCodec | None
    codecs: str
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class FragmentHead:
    """One piece of media. start_us, end_us: wall time of its first picture, and after its last."""

    start_us: UtcMicros
    end_us: UtcMicros
    base_dts_90k: int
    duration_90k: int
    frames: int
    damaged_frames: int
    key: bool

    def pack(self) -> bytes:
        return _FRAGMENT.pack(
            self.start_us,
            self.end_us,
            self.base_dts_90k,
            self.duration_90k,
            self.frames,
            self.damaged_frames,
            self.key,
        )

    @classmethod
    def unpack(cls, data: bytes | memoryview) -> FragmentHead:
        start_us, end_us, base, duration, frames, damaged, key = _FRAGMENT.unpack_from(data)
        return cls(UtcMicros(start_us), UtcMicros(end_us), base, duration, frames, damaged, key)


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of the object from `offset` on, and where they stand in the log."""

    offset: int
    position: int
    length: int


@dataclass(slots=True, eq=False)
class SpooledSegment:
    """A segment as the spool holds it, being written, going up, or found after a crash.

    number     position of its BEGIN in the log: unique for ever
    parts      (tag, object bytes covered up to and including this part), in order
    changed    set for the shipper, its only waiter, when a fragment or the end was added
    released   its bytes may be gone from the spool; the object has them, at the same offsets
    recovered  found after a crash: its object, its journal entry, even its row may be there already
    """

    number: int
    head: SegmentHead
    pieces: list[Piece] = field(default_factory=list)
    fragments: list[tuple[int, int, FragmentHead]] = field(default_factory=list)
    size_bytes: int = 0
    upload_id: str = ""
    parts: list[tuple[str, int]] = field(default_factory=list)
    end: EndReason | None = None
    hasher: hashlib._Hash = field(default_factory=hashlib.sha256)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    released: bool = False
    recovered: bool = False

    @property
    def end_us(self) -> UtcMicros:
        return self.fragments[-1][2].end_us if self.fragments else self.head.start_us

    def end_us_at(self, size_bytes: int) -> UtcMicros:
        """Wall time up to which its first `size_bytes` reach."""
        for offset, length, head in reversed(self.fragments):
            if offset + length <= size_bytes:
                return head.end_us
        return self.head.start_us

    @property
    def position_end(self) -> int:
        """Log position up to which its bytes reach."""
        return self.pieces[-1].position + self.pieces[-1].length

    def add_piece(self, position: int, length: int) -> None:
        self.pieces.append(Piece(self.size_bytes, position, length))
        self.size_bytes += length

    def add_fragment(self, position: int, length: int, head: FragmentHead) -> None:
        self.fragments.append((self.size_bytes, length, head))
        self.add_piece(position, length)

    def extents(self, offset: int, length: int) -> list[tuple[int, int]]:
        """(log position, length) of the object's bytes [offset, offset + length)."""
        if offset < 0 or offset + length > self.size_bytes:
            raise Invalid(f"{self.head.key}: bytes {offset}+{length} of {self.size_bytes}")
        index = bisect_right(self.pieces, offset, key=lambda piece: piece.offset) - 1
        found = []
        while length > 0:
            piece = self.pieces[index]
            skip = offset - piece.offset
            take = min(length, piece.length - skip)
            found.append((piece.position + skip, take))
            offset, length, index = offset + take, length - take, index + 1
        return found

    def table(self) -> tuple[tuple[int, int, int], ...]:
        """One (ms after start, offset, length) for each key picture, reaching to the next one."""
        entries: list[tuple[int, int, int]] = []
        for offset, length, head in self.fragments:
            if head.key or not entries:
                start_ms = max(0, head.start_us - self.head.start_us) // 1000
                entries.append((start_ms, offset, length))
            else:
                start_ms, begin, so_far = entries[-1]
                entries[-1] = (start_ms, begin, so_far + length)
        return tuple(entries)

    def row(self, end: EndReason, sha256: str = "") -> Segment:
        """The segment as a row. `sha256` is empty while it is still being written."""
        head, heads = self.head, [fragment for _, _, fragment in self.fragments]
        end_90k = heads[-1].base_dts_90k + heads[-1].duration_90k if heads else head.start_90k
        return Segment(
            channel_id=head.channel_id,
            key=head.key,
            container=head.container,
            run=head.run,
            n=head.n,
            start_us=head.start_us,
            end_us=self.end_us,
            start_90k=head.start_90k,
            duration_90k=end_90k - head.start_90k,
            size_bytes=self.size_bytes,
            sha256=sha256,
            init_bytes=head.init_bytes,
            fragments=self.table(),
            video=head.video,
            audio=head.audio,
            codecs=head.codecs,
            width=head.width,
            height=head.height,
            frames=sum(fragment.frames for fragment in heads),
            damaged_frames=sum(fragment.damaged_frames for fragment in heads),
            end_reason=end,
        )


class Spool:
    """The log. Everything is called on the event loop; `blocking` reads, the writer writes."""

    def __init__(
        self,
        folder: Path,
        disk: Disk,
        blocking: Blocking,
        start_writer: StartWriter,
        bytes_max: int,
        fsync_interval_s: float = 2.0,
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._blocking = blocking
        self._bytes_max = bytes_max
        self._chunk_bytes = min(CHUNK_BYTES, bytes_max // CHUNKS_MIN)
        self._old_chunks = chunks_in(disk, folder)
        self._chunks: list[int] = [base for base, _ in self._old_chunks]
        self._tail = max((base + size for base, size in self._old_chunks), default=0)
        self._live: dict[int, SpooledSegment] = {}
        self._recovering = bool(self._old_chunks)
        self._queued_bytes = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self.written = self._tail
        self._core = ChunkWriter(disk, folder, fsync_interval_s)
        self._writer = start_writer(self._core, self._advance)

    def start(self) -> None:
        """Begin a new chunk; what was there before is left to `recover`."""
        self._chunks.append(self._tail)
        self._writer.start()

    async def close(self, timeout_s: float = 5.0) -> None:
        """Write and sync everything that was appended, then stop the writer."""
        await self._writer.close(timeout_s)

    @property
    def trouble(self) -> str:
        """What the disk says while it refuses, else empty."""
        return self._core.trouble

    @property
    def failure(self) -> BaseException | None:
        """What ended the writer, which should never end before `close`."""
        return self._writer.failure

    @property
    def segments(self) -> Sequence[SpooledSegment]:
        """Those that are not yet an object and in the journal; of an earlier life once `recover`
        has read it."""
        return list(self._live.values())

    @property
    def is_empty(self) -> bool:
        """Nothing in it waits to become an object."""
        return not self._live and not self._recovering

    @property
    def size_bytes(self) -> int:
        """Bytes of all chunks, also those that wait for an older segment to be done."""
        return self._tail - self._chunks[0] if self._chunks else 0

    # ---- writing ----------------------------------------------------------------------------

    def begin(self, head: SegmentHead, init: bytes) -> SpooledSegment:
        """A new segment. Raises Exhausted when the spool is full or the disk does not keep up."""
        body = json.dumps(to_wire(head), separators=(",", ":")).encode()
        segment = SpooledSegment(self._next_position(HEAD_BYTES + len(body) + 4 + len(init)), head)
        prefix = len(body).to_bytes(4, "little") + body
        position = self._append(segment, Kind.BEGIN, 0, prefix, init)
        segment.add_piece(position + HEAD_BYTES + len(prefix), len(init))
        self._live[segment.number] = segment
        return segment

    def append(self, segment: SpooledSegment, head: FragmentHead, data: bytes) -> None:
        """One fragment of `segment`. Raises Exhausted; then nothing of it was written."""
        body = head.pack()
        position = self._append(segment, Kind.FRAGMENT, len(segment.fragments), body, data)
        segment.add_fragment(position + HEAD_BYTES + len(body), len(data), head)
        segment.changed.set()

    def end(self, segment: SpooledSegment, reason: EndReason) -> None:
        """No more fragments. Always possible: a spool that is full can still say why."""
        segment.end = reason
        body = reason.value.encode()
        self._append(segment, Kind.END, len(segment.fragments), body, always=True)
        segment.changed.set()

    def note_upload(self, segment: SpooledSegment, upload_id: str) -> None:
        """The object was begun (again): parts known so far are void."""
        segment.upload_id = upload_id
        segment.parts.clear()
        self._append(segment, Kind.UPLOAD, 0, upload_id.encode(), always=True)

    def note_part(self, segment: SpooledSegment, tag: str, up_to: int) -> None:
        segment.parts.append((tag, up_to))
        body = up_to.to_bytes(8, "little") + tag.encode()
        self._append(segment, Kind.PART, len(segment.parts), body, always=True)

    def release(self, segment: SpooledSegment) -> None:
        """The segment is an object and in the journal: its bytes may go."""
        self._append(segment, Kind.DONE, 0, b"", always=True)
        segment.released = True
        self._live.pop(segment.number, None)
        self._trim()

    def _append(
        self,
        segment: SpooledSegment,
        kind: Kind,
        index: int,
        body: bytes,
        media: bytes = b"",
        *,
        always: bool = False,
    ) -> int:
        """Assign the position of a record and hand it to the writer; returns the position."""
        size = HEAD_BYTES + len(body) + len(media)
        if not always:
            self._check_room(size)
        position = self._next_position(size)
        hasher = segment.hasher if media else None
        record = Write(self._chunks[-1], position, kind, segment.number, index, body, media, hasher)
        self._tail += size
        self._queued_bytes += size
        self._writer.put(record)
        return position

    def _next_position(self, size: int) -> int:
        """Where a record of `size` bytes will stand; begins a new chunk when the last is full."""
        used = self._tail - self._chunks[-1]
        if used and used + size > self._chunk_bytes:
            self._chunks.append(self._tail)
        return self._tail

    def _check_room(self, size: int) -> None:
        if size > RECORD_BYTES_MAX:
            raise Exhausted(f"a fragment of {size} bytes is longer than {RECORD_BYTES_MAX}")
        if self.size_bytes + size > self._bytes_max:
            raise Exhausted(
                f"the spool holds {self.size_bytes} bytes",
                cause="the object store does not take segments as fast as they are recorded",
                next_step="look at the object store, or raise recording.spool_bytes_max",
            )
        if self._queued_bytes + size > QUEUE_BYTES_MAX:
            raise Exhausted(
                f"the disk of {self._folder} is {self._queued_bytes} bytes behind",
                cause="the disk is full or too slow",
                next_step="look at the free space and the load of the data folder's disk",
            )

    def _trim(self) -> None:
        """Drop chunks from the front that no segment needs. Waits for recovery to have looked."""
        if self._recovering:
            return
        needed = min(self._live, default=self._tail)
        while len(self._chunks) > 1 and self._chunks[1] <= needed:
            self._writer.put(Drop(self._chunks.pop(0)))

    def _advance(self, record: Write) -> None:
        """Everything before the end of `record` is in the file."""
        self.written = max(self.written, record.position + record.size)
        self._queued_bytes -= record.size
        ready = [waiter for waiter in self._waiters if waiter[0] <= self.written]
        if ready:
            self._waiters = [waiter for waiter in self._waiters if waiter[0] > self.written]
            for _, future in ready:
                if not future.done():
                    future.set_result(None)

    # ---- reading ----------------------------------------------------------------------------

    async def read(self, segment: SpooledSegment, offset: int, length: int) -> bytes:
        """Object bytes [offset, offset + length) of a segment. DataLoss if the log lost them."""
        extents = segment.extents(offset, length)
        if extents:
            await self.until_written(extents[-1][0] + extents[-1][1])
        return await self._blocking.run(self._read, extents)

    async def until_written(self, position: int) -> None:
        if self.written < position:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((position, future))
            await future

    def _read(self, extents: list[tuple[int, int]]) -> bytes:
        """Bytes of the log; blocks."""
        chunks = tuple(self._chunks)
        parts = []
        for position, length in extents:
            index = bisect_right(chunks, position) - 1
            if index < 0:
                raise DataLoss(f"spool {self._folder}: position {position} is already freed")
            path = chunk_path(self._folder, chunks[index])
            parts.append(read_chunk(self._disk, path, position - chunks[index], length))
        return b"".join(parts)

    # ---- after a crash ----------------------------------------------------------------------

    async def recover(self) -> list[SpooledSegment]:
        """Segments of an earlier life that are not done, hashed, ended; chunks without any go."""
        found = await self._blocking.run(scan, self._disk, self._folder, self._old_chunks)
        reach(Point.SPOOL_RECOVERED)
        for segment in found:
            self._live[segment.number] = segment
        self._recovering = False
        self._trim()
        return found


class _Replay:
    """What a log says, record by record."""

    def __init__(self) -> None:
        self.segments: dict[int, SpooledSegment] = {}
        self._broken: set[int] = set()

    def apply(self, record: Record) -> None:
        if record.kind is Kind.BEGIN:
            self._begin(record)
        elif (segment := self.segments.get(record.segment)) is not None:
            self._go_on(segment, record)

    def _begin(self, record: Record) -> None:
        length = int.from_bytes(record.body[:4], "little")
        try:
            head = from_wire(SegmentHead, json.loads(bytes(record.body[4 : 4 + length])))
        except (ValueError, VspError) as error:
            log.error("spooled segment unreadable", position=record.position, why=str(error))
            return
        segment = SpooledSegment(record.segment, head)
        init = record.body[4 + length :]
        segment.add_piece(record.body_position + 4 + length, len(init))
        segment.hasher.update(init)
        self.segments[record.segment] = segment

    def _go_on(self, segment: SpooledSegment, record: Record) -> None:
        match record.kind:
            case Kind.FRAGMENT:
                self._fragment(segment, record)
            case Kind.UPLOAD:
                segment.upload_id = bytes(record.body).decode()
                segment.parts.clear()
            case Kind.PART:
                up_to = int.from_bytes(record.body[:8], "little")
                segment.parts.append((bytes(record.body[8:]).decode(), up_to))
            case Kind.END:
                if record.index == len(segment.fragments):
                    segment.end = EndReason(bytes(record.body).decode())
            case Kind.DONE:
                del self.segments[record.segment]

    def _fragment(self, segment: SpooledSegment, record: Record) -> None:
        """Fragments count on from each other; behind a hole nothing may be joined on."""
        if record.index != len(segment.fragments) or segment.number in self._broken:
            self._broken.add(segment.number)
            return
        media = record.body[_FRAGMENT.size :]
        position = record.body_position + _FRAGMENT.size
        segment.add_fragment(position, len(media), FragmentHead.unpack(record.body))
        segment.hasher.update(media)

    def result(self) -> list[SpooledSegment]:
        """The segments that are not done, each with an end; parts that reach too far are void."""
        for segment in self.segments.values():
            segment.recovered = True
            segment.end = segment.end or EndReason.WORKER_LOST
            if segment.parts and segment.parts[-1][1] > segment.size_bytes:
                segment.parts.clear()
        return list(self.segments.values())


def scan(disk: Disk, folder: Path, chunks: Sequence[tuple[int, int]]) -> list[SpooledSegment]:
    """What these chunks of a log hold that is not done; blocks, changes nothing."""
    replay = _Replay()
    for base, _ in chunks:
        for record in records(disk, chunk_path(folder, base), base):
            replay.apply(record)
    return replay.result()


__all__ = ["FragmentHead", "Piece", "SegmentHead", "Spool", "SpooledSegment", "scan"]
