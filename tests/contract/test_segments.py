import asyncio
from dataclasses import replace

import pytest

from tests.contract.samples import MINUTE_US, START_US, row_of, segment
from vsp.errors import Invalid
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import Container, EndReason
from vsp.model.stream import AudioCodec, VideoCodec
from vsp.store import Store

CHANNEL = ChannelId("c1")


def at(minutes: float) -> UtcMicros:
    return UtcMicros(START_US + int(minutes * MINUTE_US))


async def test_a_committed_segment_comes_back_as_it_was(store: Store):
    plain = segment(0)
    rich = segment(
        1,
        container=Container.PS,
        video=VideoCodec.H265,
        audio=AudioCodec.G711A,
        size_bytes=9_000_000_000,
        fragments=tuple((n * 2_000, n * 1_000_000, 999_999) for n in range(30)),
        end_reason=EndReason.WORKER_LOST,
        damaged_frames=7,
    )
    bare = segment(2, video=None, fragments=())

    await store.segments.commit([plain, rich, bare])

    assert await row_of(store.segments, plain) == plain
    assert await row_of(store.segments, rich) == rich
    assert await row_of(store.segments, bare) == bare
    assert await row_of(store.segments, segment(9)) is None


async def test_committing_again_is_nothing_and_never_rewrites(store: Store):
    await store.segments.commit([segment(0)])

    await store.segments.commit([replace(segment(0), sha256="00" * 32), segment(1), segment(1)])

    assert (await row_of(store.segments, segment(0))) == segment(0)
    assert len(await store.segments.find(CHANNEL, at(0), at(10))) == 2
    await store.segments.commit([])


async def test_a_batch_with_one_bad_row_writes_none(store: Store):
    beyond = segment(1, fragments=((0, 1 << 32, 1),))

    with pytest.raises(Invalid):
        await store.segments.commit([segment(0), beyond])

    assert await row_of(store.segments, segment(0)) is None


async def test_find_gives_what_overlaps_by_start_and_nothing_else(store: Store):
    minutes = [segment(n) for n in (3, 0, 1, 5, 2)]
    await store.segments.commit([*minutes, segment(1, channel="c2")])

    async def found(start: float, end: float, **limit) -> list[int]:
        rows = await store.segments.find(CHANNEL, at(start), at(end), **limit)
        return [row.n for row in rows]

    assert await found(0, 10) == [0, 1, 2, 3, 5]
    assert await found(1, 2) == [1], "the bounds are half open"
    assert await found(1.5, 2.5) == [1, 2]
    assert await found(4, 5) == []
    assert await found(4.2, 5.000001) == [5]
    assert await found(0, 10, limit=2) == [0, 1]
    assert await found(0, 10, limit=0) == []
    assert await found(3, 3) == []


async def test_find_sees_a_segment_that_began_long_before(store: Store):
    long = segment(0, end_us=at(23 * 60))
    await store.segments.commit([long, segment(100), segment(23 * 60 + 1)])

    assert await store.segments.find(CHANNEL, at(22 * 60), at(22 * 60 + 1)) == [long]


async def test_next_after_is_the_first_that_starts_then_or_later(store: Store):
    assert await store.segments.next_after(CHANNEL, at(0)) is None

    overlong = segment(1, end_us=at(30))
    await store.segments.commit([segment(0), overlong, segment(5), segment(9, channel="c2")])

    assert (await store.segments.next_after(CHANNEL, at(1))) == overlong, "a start there counts"
    assert (await store.segments.next_after(CHANNEL, at(1.01))) == segment(5)
    assert await store.segments.next_after(CHANNEL, at(5.01)) is None


async def test_more_rows_than_a_chunk_are_one_transaction(store: Store):
    await store.segments.commit([segment(n) for n in range(1_203)])

    assert len(await store.segments.find(CHANNEL, at(0), at(2_000), limit=5_000)) == 1_203
    assert len(await store.segments.find(CHANNEL, at(0), at(2_000))) == 1_000


async def test_a_commit_cancelled_at_any_moment_is_whole_or_nothing_and_blocks_nobody(
    store: Store,
):
    for turn in range(40):
        pair = [segment(2 * turn), segment(2 * turn + 1)]
        task = asyncio.create_task(store.segments.commit(pair))
        for _ in range(turn):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async with asyncio.timeout(20):
        await store.segments.commit([segment(500)])
        found = await store.segments.find(CHANNEL, at(0), at(1_000))
    written = {row.n // 2 for row in found if row.n < 500}
    assert len(found) == 2 * len(written) + 1


async def test_readers_do_not_wait_for_a_writer(store: Store):
    await store.segments.commit([segment(0)])
    batches = [[segment(minute + 1_000 * n) for minute in range(1, 400)] for n in range(5)]

    writing = [asyncio.create_task(store.segments.commit(batch)) for batch in batches]
    async with asyncio.timeout(20):
        for _ in range(20):
            assert await row_of(store.segments, segment(0)) == segment(0)
        await asyncio.gather(*writing)
