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


async def test_rows_are_found_by_key_and_keys_without_one_are_left_out(store: Store):
    mine, other = segment(0), segment(1, channel="c2")
    await store.segments.commit([mine, other, segment(2)])

    found = await store.segments.by_key([other.key, "v1/none", mine.key, other.key])

    assert found == {mine.key: mine, other.key: other}
    assert await store.segments.by_key(["v1/none"]) == {}
    assert await store.segments.by_key([]) == {}


async def test_more_keys_than_a_chunk_are_all_looked_up(store: Store):
    rows = [segment(n) for n in range(601)]
    await store.segments.commit(rows[::2])

    found = await store.segments.by_key([row.key for row in rows])

    assert found == {row.key: row for row in rows[::2]}


async def test_a_walk_goes_through_all_rows_page_by_page_in_the_order_of_keys(store: Store):
    rows = [segment(n, channel=f"c{n % 3}") for n in range(301)]
    await store.segments.commit(rows)

    seen, after = [], ""
    while page := await store.segments.walk(after, 100):
        seen += page
        after = page[-1].key

    assert seen == sorted(rows, key=lambda row: row.key)


async def test_keys_are_in_the_order_of_code_points_whatever_the_locale(store: Store):
    keys = [
        "v1/B",
        "v1/a",
        "v1/a-",
        "v1/a/",
        "v1/a0",
        "v1/aa",
        "v1/é",
        "v1/门",
        "v1/\uffee",
        "v1/😀",
    ]
    await store.segments.commit([segment(n, key=key) for n, key in enumerate(keys[::-1])])

    assert [row.key for row in await store.segments.walk("", 100)] == keys
    assert [row.key for row in await store.segments.walk("v1/aa", 2)] == ["v1/é", "v1/门"]


async def test_a_walk_begins_behind_any_text_and_holds_no_more_than_asked(store: Store):
    await store.segments.commit([segment(n, key=f"v1/{n}") for n in (1, 3, 5)])

    async def keys(after: str, limit: int) -> list[str]:
        return [row.key for row in await store.segments.walk(after, limit)]

    assert await keys("v1/2", 9) == ["v1/3", "v1/5"]
    assert await keys("v1/3", 9) == ["v1/5"], "the key itself is behind us"
    assert await keys("v1/5", 9) == []
    assert await keys("", 2) == ["v1/1", "v1/3"]
    assert await keys("", 0) == await keys("", -1) == []


async def test_rows_are_counted(store: Store):
    assert await store.segments.count() == 0

    await store.segments.commit([segment(n) for n in range(3)])
    await store.segments.commit([segment(n) for n in range(1, 5)])

    assert await store.segments.count() == 5


async def test_a_walk_meets_what_was_committed_ahead_of_it(store: Store):
    await store.segments.commit([segment(n, key=f"v1/{n}") for n in (2, 6)])
    [first] = await store.segments.walk("", 1)

    await store.segments.commit([segment(n, key=f"v1/{n}") for n in (1, 4)])

    assert [row.key for row in await store.segments.walk(first.key, 9)] == ["v1/4", "v1/6"]


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
