"""SegmentIndex over rows: what is stored, by channel and time.

A row follows its object, never the other way (invariant I1), so `commit` is the acknowledgement:
when it returns the rows are on disk. Workers repeat their journal after a crash, so a key that is
there already is left as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from vsp.errors import Invalid
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import Container, EndReason, Segment
from vsp.model.stream import AudioCodec, VideoCodec
from vsp.store.chunks import chunks, collect
from vsp.store.engine import Database
from vsp.store.tables import segments

LOOKBACK_US = 24 * 3600 * 1_000_000
"""How long before a window a segment that reaches into it may have begun. Segments last minutes;
a day costs 1,440 index entries and spares a scan of the channel's whole past."""

FIND_MAX = 10_000
"""Rows of one answer: a week of one-minute segments."""

FRAGMENTS_MAX = 20_000
"""Fragments of one segment: 33 key frames a second for the longest segment of 600 s."""

_U32_MAX = 0xFFFF_FFFF


def rows_answered(limit: int) -> int:
    """How many rows an answer holds."""
    return max(0, min(limit, FIND_MAX))


class SqlSegmentIndex:
    """Segments as rows of `segments`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def commit(self, batch: Sequence[Segment]) -> None:
        """All of them in one transaction, on disk when it returns; known keys are left alone."""
        if not batch:
            return
        insert = self._database.insert(segments).on_conflict_do_nothing(index_elements=["key"])
        async with self._database.write() as connection:
            for chunk in chunks(batch):
                await connection.execute(insert, [_values(segment) for segment in chunk])

    async def find(
        self, channel_id: ChannelId, from_us: UtcMicros, until_us: UtcMicros, limit: int = 1000
    ) -> Sequence[Segment]:
        """Segments that overlap [from, until), by start."""
        table = segments.c
        query = (
            sa.select(segments)
            .where(
                table.channel_id == channel_id,
                table.start_us >= from_us - LOOKBACK_US,
                table.start_us < until_us,
                table.end_us > from_us,
            )
            .order_by(table.start_us, table.key)
            .limit(rows_answered(limit))
        )
        async with self._database.read() as connection:
            return await collect(await connection.execute(query), _segment)

    async def next_after(self, channel_id: ChannelId, at_us: UtcMicros) -> Segment | None:
        """The first segment that starts at `at_us` or later."""
        table = segments.c
        query = (
            sa.select(segments)
            .where(table.channel_id == channel_id, table.start_us >= at_us)
            .order_by(table.start_us, table.key)
            .limit(1)
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _segment(row)

    async def by_key(self, keys: Sequence[str]) -> Mapping[str, Segment]:
        """The rows of those objects; keys without a row are left out."""
        found: dict[str, Segment] = {}
        async with self._database.read() as connection:
            for chunk in chunks(keys):
                query = sa.select(segments).where(segments.c.key.in_(chunk))
                rows = await collect(await connection.execute(query), _segment)
                found.update((row.key, row) for row in rows)
        return found

    async def walk(self, after: str, limit: int) -> Sequence[Segment]:
        """Every row, in the order of keys (by code point): the first `limit` behind `after`."""
        query = (
            sa.select(segments)
            .where(segments.c.key > after)
            .order_by(segments.c.key)
            .limit(rows_answered(limit))
        )
        async with self._database.read() as connection:
            return await collect(await connection.execute(query), _segment)

    async def count(self) -> int:
        """Rows in all."""
        async with self._database.read() as connection:
            found = await connection.scalar(sa.select(sa.func.count()).select_from(segments))
        return int(found or 0)


def check_fragments(fragments: Sequence[tuple[int, int, int]]) -> None:
    """Raises Invalid beyond 4 GiB, 49 days or FRAGMENTS_MAX."""
    if len(fragments) > FRAGMENTS_MAX:
        raise Invalid(f"a segment of {len(fragments)} fragments exceeds {FRAGMENTS_MAX}")
    for at_ms, offset, length in fragments:
        fits = 0 <= at_ms <= _U32_MAX and 0 <= offset <= _U32_MAX and 0 <= length <= _U32_MAX
        if not fits:
            raise Invalid("a fragment lies outside what its segment can hold")


def pack_fragments(fragments: Sequence[tuple[int, int, int]]) -> bytes:
    """Triples as little-endian u32. Raises Invalid as `check_fragments` does."""
    check_fragments(fragments)
    numbers = [number for triple in fragments for number in triple]
    return struct.pack(f"<{len(numbers)}I", *numbers)


def unpack_fragments(packed: bytes) -> tuple[tuple[int, int, int], ...]:
    """The inverse of `pack_fragments`."""
    return tuple((a, b, c) for a, b, c in struct.iter_unpack("<3I", packed))


def _values(segment: Segment) -> dict[str, Any]:
    return {
        "key": segment.key,
        "channel_id": segment.channel_id,
        "container": segment.container.value,
        "run_us": segment.run,
        "n": segment.n,
        "start_us": segment.start_us,
        "end_us": segment.end_us,
        "start_90k": segment.start_90k,
        "duration_90k": segment.duration_90k,
        "size_bytes": segment.size_bytes,
        "sha256": segment.sha256,
        "init_bytes": segment.init_bytes,
        "fragments": pack_fragments(segment.fragments),
        "video": segment.video and segment.video.value,
        "audio": segment.audio and segment.audio.value,
        "codecs": segment.codecs,
        "width": segment.width,
        "height": segment.height,
        "frames": segment.frames,
        "damaged_frames": segment.damaged_frames,
        "end_reason": segment.end_reason.value,
    }


def _segment(row: sa.Row[Any]) -> Segment:
    return Segment(
        channel_id=ChannelId(row.channel_id),
        key=row.key,
        container=Container(row.container),
        run=UtcMicros(row.run_us),
        n=row.n,
        start_us=UtcMicros(row.start_us),
        end_us=UtcMicros(row.end_us),
        start_90k=row.start_90k,
        duration_90k=row.duration_90k,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        init_bytes=row.init_bytes,
        fragments=unpack_fragments(row.fragments),
        video=VideoCodec(row.video) if row.video else None,
        audio=AudioCodec(row.audio) if row.audio else None,
        codecs=row.codecs,
        width=row.width,
        height=row.height,
        frames=row.frames,
        damaged_frames=row.damaged_frames,
        end_reason=EndReason(row.end_reason),
    )
