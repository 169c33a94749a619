"""From the spool to the object store to the journal: one task per segment, from its begin on.

While a segment grows, its new bytes go up as parts; when it has ended, the rest goes up, the object
is completed, its row goes into the journal and its bytes leave the spool, in that order (invariant
I1: object first). Every step may be repeated after a crash or a lost answer: parts have numbers,
completing twice is completing once, and the journal knows a key that it holds.

A store that refuses is tried again for ever, ever more slowly; recording goes on in the spool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from vsp.errors import DataLoss, NotFound, VspError
from vsp.media.journal import Journal
from vsp.media.spool import Spool, SpooledSegment
from vsp.model.recording import EndReason, Segment, SegmentClosed
from vsp.ports import ObjectStore

log = structlog.get_logger(__name__)

STORE_CALLS_MAX = 4
"""Store calls under way at once: enough to hide latency, few enough to bound memory."""

PART_BYTES_MAX = 32 << 20
"""Largest part; a backlog after an outage goes up in several."""

RETRY_FIRST_S = 0.5
RETRY_MAX_S = 30.0
"""Waits between tries: a restarting store is met soon, a dead one is not hammered."""


class Shipper:
    """Owns the upload of every segment of a worker.

    part_bytes_min  smallest part the store takes (5 MiB on S3, 1 in a folder)
    """

    def __init__(
        self,
        spool: Spool,
        objects: ObjectStore,
        journal: Journal,
        on_closed: Callable[[SegmentClosed], None],
        part_bytes_min: int = 1,
    ) -> None:
        self._spool = spool
        self._objects = objects
        self._journal = journal
        self._on_closed = on_closed
        self._part_bytes_min = part_bytes_min
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._segments: dict[int, SpooledSegment] = {}
        self._calls = asyncio.Semaphore(STORE_CALLS_MAX)
        self._journal_lock = asyncio.Lock()
        self._rows: list[tuple[Segment, asyncio.Future[None]]] = []

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
            while segment.end is None:
                await self._until_part_due(segment, part_s)
                if segment.end is None:
                    await self._put_parts(segment)
            await self._finish(segment)
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
        if not segment.fragments:
            if segment.upload_id:
                await self._until_done(segment, "abort", self._abort)
            self._spool.release(segment)
            return
        await self._until_done(segment, "complete", self._complete)
        await self._spool.until_written(segment.position_end)
        row = segment.row(segment.end or EndReason.WORKER_LOST, segment.hasher.hexdigest())
        await self._until_done(segment, "journal", lambda _: self._enter(row))
        self._spool.release(segment)

    async def _put_parts(self, segment: SpooledSegment) -> None:
        await self._until_done(segment, "put part", self._put_new_bytes)

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
                data = await self._spool.read(segment, covered, take)
                key, upload_id = segment.head.key, segment.upload_id
                tag = await self._objects.put_part(key, upload_id, number, data)
            covered += take
            self._spool.note_part(segment, tag, covered)

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
        self._spool.note_upload(segment, await self._objects.begin(head.key, metadata))

    async def _complete(self, segment: SpooledSegment) -> None:
        await self._put_new_bytes(segment)
        tags = [tag for tag, _ in segment.parts]
        async with self._calls:
            info = await self._objects.complete(segment.head.key, segment.upload_id, tags)
        if info.size_bytes != segment.size_bytes:
            self._void_upload(segment)
            raise DataLoss(f"{info.key}: {info.size_bytes} bytes, {segment.size_bytes} spooled")

    async def _abort(self, segment: SpooledSegment) -> None:
        await self._objects.abort(segment.head.key, segment.upload_id)
        self._void_upload(segment)

    def _void_upload(self, segment: SpooledSegment) -> None:
        segment.upload_id = ""
        segment.parts.clear()

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
        try:
            entries = await asyncio.to_thread(self._journal.append, [row for row, _ in rows])
        except VspError as error:
            for _, done in rows:
                if not done.done():
                    done.set_exception(error)
            return
        for entry, (_, done) in zip(entries, rows, strict=True):
            self._on_closed(entry)
            if not done.done():
                done.set_result(None)

    async def _until_done(
        self,
        segment: SpooledSegment,
        what: str,
        step: Callable[[SpooledSegment], Awaitable[None]],
    ) -> None:
        """Repeat `step` until the store takes it; an upload that the store lost begins again."""
        wait_s = RETRY_FIRST_S
        while True:
            try:
                await step(segment)
                return
            except NotFound as error:
                log.warning("upload begins again", key=segment.head.key, why=str(error))
                self._void_upload(segment)
                if what == "abort":
                    return
            except (VspError, OSError) as error:
                log.warning("store refuses", what=what, key=segment.head.key, why=str(error))
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RETRY_MAX_S)
