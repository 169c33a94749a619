"""Reading the past of a channel: which segment holds an instant, and its bytes.

Rows come from the node, which is asked in windows; what this worker has not yet handed over (being
written, going up, waiting for its commit) comes from the worker itself. Where the two meet, the
start of what the worker holds bounds what the node's answer can be trusted for: a segment that was
open when the node answered is in no row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from vsp.errors import DataLoss, Unavailable
from vsp.media.spool import Spool, SpooledSegment
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import Segment
from vsp.model.stream import SegmentsWanted, ViewSpec
from vsp.ports import Clock, ObjectStore

log = structlog.get_logger(__name__)

ASK_WINDOW_US = 3_600_000_000
"""Rows asked for at first: an hour is 60 of them. Doubled while nothing is found."""

ASK_AGAIN_S = 2.0
ASK_TRIES = 10
"""A question that the node did not answer (it was restarting) is asked again, for 20 s."""

FED_ROWS_MAX = 5_000
"""Rows kept of a channel: three days of minutes; older answers are asked for again."""

READ_TRIES = 3
READ_RETRY_S = 0.5
"""A store that is restarting is met again within a second and a half."""


class Local(Protocol):
    """What this worker holds of a channel and the node does not know yet."""

    def spooled(self, channel_id: ChannelId) -> Sequence[SpooledSegment]: ...
    def uncommitted(self, channel_id: ChannelId) -> Sequence[Segment]: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of an object that is read at once: whole fragments. start_us: of its first one."""

    start_us: UtcMicros
    offset: int
    length: int
    key: bool


class Source:
    """A segment to read from: stored, or still in this worker's spool under the same offsets."""

    def __init__(
        self, objects: ObjectStore, spool: Spool, stored: Segment | None, own: SpooledSegment | None
    ) -> None:
        self._objects = objects
        self._spool = spool
        self._stored = stored
        self._own = own
        head = stored or (own.head if own is not None else None)
        assert head is not None, "a source is stored, or our own"
        self.key, self.run, self.n = head.key, head.run, head.n
        self.start_us, self._init_bytes = head.start_us, head.init_bytes

    @property
    def end_us(self) -> UtcMicros:
        if self._stored is not None:
            return self._stored.end_us
        assert self._own is not None
        return self._own.end_us

    @property
    def growing(self) -> bool:
        return self._stored is None and self._own is not None and self._own.end is None

    def parts(self) -> list[Part]:
        """What there is to read by now, in order."""
        if self._stored is not None:
            return [
                Part(UtcMicros(self.start_us + ms * 1000), offset, length, True)
                for ms, offset, length in self._stored.fragments
            ]
        assert self._own is not None
        return [
            Part(head.start_us, offset, length, head.key)
            for offset, length, head in self._own.fragments
        ]

    async def init(self) -> bytes:
        return await self.read(0, self._init_bytes)

    async def read(self, offset: int, length: int) -> bytes:
        """Raises NotFound, DataLoss, or Unavailable after a few tries."""
        if self._own is not None and not self._own.released:
            try:
                return await self._spool.read(self._own, offset, length)
            except DataLoss:
                # It was handed over between the look and the read: the object has it now.
                log.debug("spool let go of a segment being read", key=self.key)
        for attempt in range(READ_TRIES):
            try:
                return await self._objects.read(self.key, offset, length)
            except Unavailable:
                if attempt + 1 == READ_TRIES:
                    raise
                await asyncio.sleep(READ_RETRY_S * (attempt + 1))
        raise AssertionError("the loop returns or raises")


class Rows:
    """What the node has said of a channel: all its rows between `from_us` and `until_us`."""

    def __init__(self) -> None:
        self.from_us = self.until_us = UtcMicros(0)
        self._rows: list[Segment] = []

    def forget(self, at_us: UtcMicros) -> None:
        """Nothing is known from here on."""
        self.from_us = self.until_us = at_us
        self._rows = []

    def add(self, rows: Sequence[Segment], until_us: UtcMicros) -> None:
        known = {row.key for row in self._rows}
        self._rows += [row for row in rows if row.key not in known]
        self._rows.sort(key=lambda row: row.start_us)
        self.until_us = max(self.until_us, until_us)
        if len(self._rows) > FED_ROWS_MAX:
            self._rows = self._rows[-FED_ROWS_MAX:]
            self.from_us = self._rows[0].start_us

    def after(self, at_us: UtcMicros) -> Segment | None:
        """The row that covers `at_us`, or the first one after it."""
        return next((row for row in self._rows if row.end_us > at_us), None)


class Finder:
    """Which segment holds an instant, or comes next; asks the node where it does not know."""

    def __init__(
        self,
        spec: ViewSpec,
        objects: ObjectStore,
        spool: Spool,
        local: Local,
        clock: Clock,
        want: Callable[[SegmentsWanted], None],
    ) -> None:
        self._spec = spec
        self._objects = objects
        self._spool = spool
        self._local = local
        self._clock = clock
        self._want = want
        self._rows = Rows()
        self._fed = asyncio.Event()
        self._window_us = ASK_WINDOW_US
        self._given_up = False

    def give_up(self) -> None:
        """Whoever waits for a source gets none: the viewer has gone."""
        self._given_up = True
        self._fed.set()

    def feed(self, rows: Sequence[Segment], until_us: UtcMicros) -> None:
        self._rows.add(rows, until_us)
        self._window_us = ASK_WINDOW_US if rows else self._window_us * 2
        self._fed.set()

    async def find(self, at_us: UtcMicros) -> Source | None:
        """The source that covers `at_us` or the next one; None when nothing more is recorded.

        Raises Unavailable when the node does not answer.
        """
        if not self._rows.from_us <= at_us <= self._rows.until_us:
            self._rows.forget(at_us)
        end_us = self._spec.end_us or self._clock.now_us()
        while not self._given_up:
            own = self._own(at_us)
            stored = self._rows.after(at_us)
            first = min(
                (source for source in (own, stored and self._stored(stored)) if source),
                key=lambda source: source.start_us,
                default=None,
            )
            if first is not None and first.start_us <= max(at_us, self._rows.until_us):
                return first if first.start_us < end_us else None
            if self._rows.until_us >= end_us:
                return first if first is not None and first.start_us < end_us else None
            # Beyond the start of what we hold ourselves, the node's answer is not the last word.
            held_from_us = first.start_us if first is not None else end_us
            await self._ask(UtcMicros(max(held_from_us, self._rows.until_us)), end_us)
        return None

    def _stored(self, row: Segment) -> Source:
        return Source(self._objects, self._spool, row, None)

    def _own(self, at_us: UtcMicros) -> Source | None:
        """The first segment after `at_us` that only this worker knows."""
        channel_id = self._spec.channel_id
        held = [
            Source(self._objects, self._spool, None, segment)
            for segment in self._local.spooled(channel_id)
            if segment.fragments and segment.end_us > at_us
        ]
        held += [
            self._stored(row) for row in self._local.uncommitted(channel_id) if row.end_us > at_us
        ]
        return min(held, key=lambda source: source.start_us, default=None)

    async def _ask(self, held_from_us: UtcMicros, end_us: UtcMicros) -> None:
        """One question, repeated until `feed` answers it."""
        from_us = self._rows.until_us
        until_us = UtcMicros(min(end_us, from_us + self._window_us))
        question = SegmentsWanted(self._spec.view_id, self._spec.channel_id, from_us, until_us)
        self._fed.clear()
        for _ in range(ASK_TRIES):
            self._want(question)
            try:
                async with asyncio.timeout(ASK_AGAIN_S):
                    await self._fed.wait()
            except TimeoutError:
                continue
            if self._given_up:
                return
            if self._rows.until_us <= from_us:
                break
            self._rows.until_us = min(self._rows.until_us, held_from_us)
            return
        raise Unavailable(
            "the platform did not say what is recorded",
            cause=f"no answer within {ASK_AGAIN_S * ASK_TRIES:g} s",
            next_step="try again; look at the node's log if it stays",
        )
