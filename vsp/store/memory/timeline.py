"""SegmentIndex in memory: what is stored, by channel and time, and by key."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import islice
from operator import attrgetter

from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import Segment
from vsp.store.columns import WORDS_MAX
from vsp.store.memory.rows import cleaned
from vsp.store.memory.tables import ChannelSegments, MemoryDatabase
from vsp.store.timeline import LOOKBACK_US, check_fragments, rows_answered

_START = attrgetter("start_us")
_NONE = ChannelSegments()


class MemorySegmentIndex:
    """Segments by channel and start."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._segments = database.segments

    async def commit(self, batch: Sequence[Segment]) -> None:
        """All of them, or none when one is Invalid; known keys are left alone."""
        for segment in batch:
            check_fragments(segment.fragments)
        for segment in batch:
            if segment.key not in self._segments.by_key:
                self._segments.add(cleaned(segment, WORDS_MAX, "codecs"))

    async def find(
        self, channel_id: ChannelId, from_us: UtcMicros, until_us: UtcMicros, limit: int = 1000
    ) -> Sequence[Segment]:
        """Segments that overlap [from, until), by start."""
        mine = self._segments.of_channel.get(channel_id, _NONE)
        reach_us = min(LOOKBACK_US, mine.longest_us)
        begin = bisect_left(mine.rows, from_us - reach_us, key=_START)
        end = bisect_left(mine.rows, until_us, lo=begin, key=_START)
        overlapping = (row for row in mine.rows[begin:end] if row.end_us > from_us)
        return list(islice(overlapping, rows_answered(limit)))

    async def next_after(self, channel_id: ChannelId, at_us: UtcMicros) -> Segment | None:
        """The first segment that starts at `at_us` or later."""
        rows = self._segments.of_channel.get(channel_id, _NONE).rows
        place = bisect_left(rows, at_us, key=_START)
        return rows[place] if place < len(rows) else None

    async def by_key(self, keys: Sequence[str]) -> Mapping[str, Segment]:
        """The rows of those objects; keys without a row are left out."""
        rows = self._segments.by_key
        return {key: rows[key] for key in keys if key in rows}

    async def walk(self, after: str, limit: int) -> Sequence[Segment]:
        """Every row, in the order of keys (by code point): the first `limit` behind `after`."""
        order = self._segments.order()
        begin = bisect_right(order, after)
        keys = order[begin : begin + rows_answered(limit)]
        return [self._segments.by_key[key] for key in keys]

    async def count(self) -> int:
        """Rows in all."""
        return len(self._segments.by_key)
