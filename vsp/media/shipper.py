"""From the spool to the object store to the journal: one task per segment, from its begin on.

While a segment grows, its new bytes go up as parts; when it has ended, the rest goes up, the object
is completed, its row goes into the journal and its bytes leave the spool, in that order (invariant
I1: object first). Every step may be repeated after a crash or a lost answer: parts have numbers,
completing twice is completing once, and the journal knows a key that it holds.

A published object is never replaced. A segment that recovery found in the spool may have become an
object before the crash, with more than the spool could save of it; then the object counts, and its
row is read from it (`salvage.py`).

A store that refuses is asked again about once a second, whoever's turn it is, for ever; the first
call that succeeds lets everybody go on. Recording goes on in the spool meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import structlog

from vsp.blocking import Blocking
from vsp.errors import Conflict, DataLoss, Invalid, NotFound, VspError
from vsp.faults import Point, reach
from vsp.media.journal import Journal
from vsp.media.salvage import read_segment
from vsp.media.spool import Spool, SpooledSegment
from vsp.model.recording import EndReason, Segment, SegmentClosed
from vsp.ports import Clock, ObjectInfo, ObjectStore

log = structlog.get_logger(__name__)

STORE_CALLS_MAX = 4
"""Store calls under way at once: enough to hide latency, few enough to bound memory."""

PART_BYTES_MAX = 32 << 20
"""Largest part; a backlog after an outage goes up in several."""

KNOCK_S = 1.0
"""Between two tries at a store that refuses, of all segments together: a store that is back is met
within a second, one that is dead is not hammered by a thousand cameras."""


AGAIN_MAX_S = 60.0
"""Longest pause before an upload is begun anew because the store does not have what it had."""

LOST = (NotFound, Invalid, Conflict, DataLoss)
"""What a store says that does not have an upload as we know it: without it, with other parts, in
the middle of being completed for an earlier life of ours, or with damaged bytes."""

T = TypeVar("T")


class Gate:
    """Who may knock at something that refuses, and when.

    trouble  why it refuses, while it does
    """

    def __init__(self, what: str, clock: Clock) -> None:
        self.trouble = ""
        self._what = what
        self._clock = clock
        self._open = asyncio.Event()
        self._next_knock = 0.0

    async def wait(self, error: Exception) -> None:
        """After a refusal: until it took something, or until it is our turn to try."""
        self.refused(error)
        now = self._clock.monotonic()
        self._open.clear()
        self._next_knock = max(self._next_knock, now) + KNOCK_S
        try:
            async with asyncio.timeout(self._next_knock - now):
                await self._open.wait()
        except TimeoutError:
            return

    def refused(self, error: Exception) -> None:
        if not self.trouble:
            log.warning("refuses", what=self._what, why=str(error))
        self.trouble = str(error)

    def taken(self) -> None:
        """It took something."""
        if self.trouble:
            log.info("takes again", what=self._what)
            self.trouble = ""
            self._next_knock = 0.0
        self._open.set()


class Shipper:
    """Owns the upload of every segment of a spool.

    part_bytes_min  smallest part the store takes (5 MiB on S3, 1 in a folder)
    """

    def __init__(
        self,
        spool: Spool,
        objects: ObjectStore,
        journal: Journal,
        blocking: Blocking,
        clock: Clock,
        on_closed: Callable[[SegmentClosed], None],
        part_bytes_min: int = 1,
    ) -> None:
        self._spool = spool
        self._objects = objects
        self._journal = journal
        self._blocking = blocking
        self._gate = Gate("object store", clock)
        self._journal_gate = Gate("journal", clock)
        self._on_closed = on_closed
        self._part_bytes_min = part_bytes_min
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._segments: dict[int, SpooledSegment] = {}
        self._calls = asyncio.Semaphore(STORE_CALLS_MAX)
        self._journal_lock = asyncio.Lock()
        self._rows: list[tuple[Segment, asyncio.Future[None]]] = []
        self._damage = ""

    def ship(self, segment: SpooledSegment, part_s: float) -> None:
        """Take charge of a segment that has just begun, or that a crash left behind."""
        task = asyncio.create_task(self._ship(segment, part_s), name=f"ship {segment.head.key}")
        self._tasks[segment.number] = task
        self._segments[segment.number] = segment
        task.add_done_callback(lambda _: self._forget(segment.number))

    @property
    def segments(self) -> Sequence[SpooledSegment]:
        """Segments being written or on their way up; readable from the spool meanwhile."""
        return list(self._segments.values())

    @property
    def troubles(self) -> Mapping[str, str]:
        """What refuses now, and why; `spool`: what it had and lost, until it is read anew."""
        gates = {"store": self._gate.trouble, "journal": self._journal_gate.trouble}
        return {name: why for name, why in (gates | {"spool": self._damage}).items() if why}

    async def close(self, timeout_s: float) -> None:
        """Wait for segments that have ended; what is not up by then is found at the next start."""
        if self._tasks:
            await asyncio.wait(self._tasks.values(), timeout=timeout_s)
        left = list(self._tasks.values())
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _forget(self, number: int) -> None:
        self._tasks.pop(number, None)
        self._segments.pop(number, None)

    async def _ship(self, segment: SpooledSegment, part_s: float) -> None:
        try:
            if segment.recovered:
                await self._finish_recovered(segment)
                return
            while segment.end is None:
                await self._until_part_due(segment, part_s)
                if segment.end is None:
                    await self._persist(segment, self._put_new_bytes)
            await self._finish(segment)
        except SpoolDamagedError as error:
            self._damage = f"{segment.head.key}: {error}"
            log.error("segment left in the spool", key=segment.head.key, why=str(error))
        except Exception:
            log.exception("segment left in the spool", key=segment.head.key)

    async def _until_part_due(self, segment: SpooledSegment, part_s: float) -> None:
        """Return when enough new media has come for a part, or when the segment has ended."""
        covered = segment.parts[-1][1] if segment.parts else 0
        from_us = segment.end_us_at(covered)
        while segment.end is None:
            await segment.changed.wait()
            segment.changed.clear()
            long_enough = segment.end_us - from_us >= part_s * 1_000_000
            if long_enough and segment.size_bytes - covered >= self._part_bytes_min:
                return

    async def _finish(self, segment: SpooledSegment) -> None:
        if segment.fragments:
            await self._persist(segment, self._complete)
            await self._enter(await self._row(segment))
        elif segment.upload_id:
            await self._persist(segment, self._abort)
        self._spool.release(segment)
        reach(Point.RELEASED)

    async def _row(self, segment: SpooledSegment) -> Segment:
        await self._spool.until_written(segment.position_end)
        return segment.row(segment.end or EndReason.WORKER_LOST, segment.hasher.hexdigest())

    # ---- what a crash left ------------------------------------------------------------------

    async def _finish_recovered(self, segment: SpooledSegment) -> None:
        """As `_finish`, unless the segment is further than the spool knows."""
        waiting = self._journal.unacknowledged()
        if not any(entry.segment.key == segment.head.key for entry in waiting):
            row = await self._persist(segment, self._recovered_row)
            if row is not None:
                await self._enter(row)
            elif segment.upload_id:
                await self._persist(segment, self._abort)
        self._spool.release(segment)
        reach(Point.RELEASED)

    async def _recovered_row(self, segment: SpooledSegment) -> Segment | None:
        """Looks each time anew whether there is an object: what an earlier life asked of the store
        may be done at any moment. None when there is none, and nothing to make one of."""
        row = await self._stored_row(segment)
        if row is None and segment.fragments:
            await self._complete(segment)
            row = await self._row(segment)
        return row

    async def _stored_row(self, segment: SpooledSegment) -> Segment | None:
        """The row of the object that is there already; None when there is none."""
        try:
            info = await self._objects.stat(segment.head.key)
        except NotFound:
            return None
        if info.size_bytes == segment.size_bytes:
            return await self._row(segment)
        log.warning(
            "the object holds what the spool does not",
            key=info.key,
            object_bytes=info.size_bytes,
            spool_bytes=segment.size_bytes,
        )
        return await read_segment(self._objects, info)

    # ---- steps ------------------------------------------------------------------------------

    async def _put_new_bytes(self, segment: SpooledSegment) -> None:
        """Everything that is spooled and not yet in a part, in parts of at most PART_BYTES_MAX."""
        if not segment.upload_id:
            await self._begin(segment)
        up_to = segment.size_bytes
        covered = segment.parts[-1][1] if segment.parts else 0
        while covered < up_to:
            # Two halves rather than a rest too small to be a part on its own.
            left = up_to - covered
            take = left if left <= PART_BYTES_MAX else min(PART_BYTES_MAX, left // 2)
            number = len(segment.parts) + 1
            async with self._calls:
                data = await self._read(segment, covered, take)
                key, upload_id = segment.head.key, segment.upload_id
                tag = await self._objects.put_part(key, upload_id, number, data)
            reach(Point.PART_PUT)
            covered += take
            self._spool.note_part(segment, tag, covered)
            reach(Point.PART_NOTED)

    async def _read(self, segment: SpooledSegment, offset: int, length: int) -> bytes:
        try:
            return await self._spool.read(segment, offset, length)
        except DataLoss as error:
            # No store can help: the next start reads the log anew and cuts where it is damaged.
            raise SpoolDamagedError(str(error)) from error

    async def _begin(self, segment: SpooledSegment) -> None:
        head = segment.head
        metadata = {
            "channel": head.channel_id,
            "run": str(head.run),
            "n": str(head.n),
            "start-us": str(head.start_us),
            "codecs": head.codecs,
            "init-bytes": str(head.init_bytes),
        }
        upload_id = await self._objects.begin(head.key, metadata)
        reach(Point.UPLOAD_BEGUN)
        self._spool.note_upload(segment, upload_id)
        reach(Point.UPLOAD_NOTED)

    async def _complete(self, segment: SpooledSegment) -> ObjectInfo:
        await self._put_new_bytes(segment)
        reach(Point.COMPLETE_ABOUT)
        tags = [tag for tag, _ in segment.parts]
        async with self._calls:
            info = await self._objects.complete(segment.head.key, segment.upload_id, tags)
        if info.size_bytes != segment.size_bytes:
            raise DataLoss(f"{info.key}: {info.size_bytes} bytes, {segment.size_bytes} spooled")
        reach(Point.COMPLETED)
        return info

    async def _abort(self, segment: SpooledSegment) -> None:
        """Drop what the store has of an upload; the spool still has everything."""
        upload_id, segment.upload_id = segment.upload_id, ""
        segment.parts.clear()
        if upload_id:
            await self._objects.abort(segment.head.key, upload_id)

    async def _persist(
        self, segment: SpooledSegment, step: Callable[[SpooledSegment], Awaitable[T]]
    ) -> T:
        """Repeat `step` until the store takes it."""
        again_s = KNOCK_S
        while True:
            try:
                result = await step(segment)
            except LOST as error:
                log.warning("upload begins again", key=segment.head.key, why=str(error))
                if isinstance(error, DataLoss) or again_s > KNOCK_S:
                    self._gate.refused(error)  # once may be chance
                await self._drop_upload(segment)
                await asyncio.sleep(again_s)
                again_s = min(again_s * 2, AGAIN_MAX_S)
            except (VspError, OSError) as error:
                await self._gate.wait(error)
            else:
                self._gate.taken()
                return result

    async def _drop_upload(self, segment: SpooledSegment) -> None:
        """Forget an upload that the store does not know as we do; its rest is swept up later."""
        try:
            await self._abort(segment)
        except (VspError, OSError) as error:
            log.info("upload left behind", key=segment.head.key, why=str(error))

    async def _enter(self, row: Segment) -> None:
        """Into the journal, together with every row that waits: one fsync for all of them."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rows.append((row, done))
        async with self._journal_lock:
            if not done.done():
                await self._enter_waiting()
        await done

    async def _enter_waiting(self) -> None:
        rows, self._rows = self._rows, []
        entries = await self._append([row for row, _ in rows])
        reach(Point.JOURNALED)
        for entry, (_, done) in zip(entries, rows, strict=True):
            self._on_closed(entry)
            if not done.done():
                done.set_result(None)

    async def _append(self, rows: Sequence[Segment]) -> Sequence[SegmentClosed]:
        """Until the journal's disk takes it."""
        while True:
            try:
                entries = await self._blocking.run(self._journal.append, rows)
            except VspError as error:
                await self._journal_gate.wait(error)
            else:
                self._journal_gate.taken()
                return entries


class SpoolDamagedError(Exception):
    """The spool lost bytes that it had; only reading it anew can tell what is left."""


__all__ = ["Gate", "Shipper", "SpoolDamagedError"]
