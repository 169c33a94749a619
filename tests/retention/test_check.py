"""What a check finds, what it passes over, and that it can be left and gone on with anywhere."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest

from tests.retention.rig import DATA, LENGTH_US, START_US, Rig, keys_of, only, segment
from vsp.errors import DataLoss, Exhausted, Unavailable, Unsupported
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.people import Action
from vsp.model.recording import Segment
from vsp.ports import ObjectInfo
from vsp.retention import check as module
from vsp.retention import metered
from vsp.retention.check import Check, Kind, Level, Stage, State
from vsp.retention.claims import Claimed
from vsp.store.memory import MemoryObjects

DAY = 70_000
"""About so many recordings of 1.2 s are one day: a number this far on lies under another day."""


@pytest.fixture
def rig() -> Rig:
    return Rig()


# ---- what is found ---------------------------------------------------------------------------


@pytest.mark.parametrize("level", Level)
async def test_rows_and_objects_that_agree_are_clean_at_every_level(rig: Rig, level: Level):
    rows = [segment(n, channel) for channel in ("c1", "c2") for n in (0, 1, 2, DAY)]
    await rig.recorded(*rows)
    async with rig.store.audit.act(None, Action.LIST, "platform"):
        pass

    state = await rig.check(level)

    assert state.is_clean
    assert state.stage is Stage.DONE
    assert (state.cost.rows, state.cost.objects, state.cost.audit_rows) == (8, 8, 2)
    assert state.cost.bytes_read == (8 * len(DATA) if level is Level.HASH else 0)


async def test_nothing_at_all_is_clean(rig: Rig):
    assert (await rig.check(Level.HASH)).is_clean


@pytest.mark.parametrize("level", Level)
@pytest.mark.parametrize("which", [0, 1, 2])
async def test_a_row_without_its_object_is_lost_at_every_level(rig: Rig, level: Level, which: int):
    rows = [segment(n) for n in range(3)]
    await rig.recorded(*rows)
    await rig.objects.delete(rows[which].key)

    finding = only(await rig.check(level))

    assert (finding.kind, finding.key) == (Kind.LOST, rows[which].key)
    assert finding.channel_id == "c1"
    assert "有行而无对象" in finding.cause


async def test_an_object_of_another_size_is_found_from_level_size_on(rig: Rig):
    await rig.recorded(segment(0), segment(1))
    await rig.only_object(segment(1), DATA[:-100])

    assert (await rig.check(Level.PRESENCE)).is_clean
    for level in (Level.SIZE, Level.HASH):
        finding = only(await rig.check(level))
        assert (finding.kind, finding.key) == (Kind.SIZE, segment(1).key)
        assert str(len(DATA) - 100) in finding.cause
        assert str(len(DATA)) in finding.cause


async def test_a_changed_byte_is_found_at_level_hash(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metered, "READ_BYTES", 1_000)
    await rig.recorded(segment(0), segment(1), segment(2))
    await rig.only_object(segment(1), DATA[:-1] + bytes([DATA[-1] ^ 1]))

    assert (await rig.check(Level.SIZE)).is_clean
    state = await rig.check(Level.HASH)

    assert only(state).kind is Kind.HASH
    assert only(state).key == segment(1).key
    assert segment(1).sha256 in only(state).cause
    assert state.cost.bytes_read == 3 * len(DATA)


async def test_an_object_that_cannot_be_read_is_a_finding_and_not_the_end(rig: Rig):
    class Damaged(MemoryObjects):
        async def read(self, key: str, offset: int, length: int) -> bytes:
            if key == segment(1).key:
                raise DataLoss("the disk failed")
            return await super().read(key, offset, length)

    await rig.recorded(segment(0), segment(1), segment(2))
    rig.objects = Damaged(rig.bucket, rig.clock)

    state = await rig.check(Level.HASH)

    assert (only(state).kind, only(state).key) == (Kind.HASH, segment(1).key)
    assert "the disk failed" in only(state).cause
    assert state.cost.rows == 3


async def test_a_store_that_does_not_answer_ends_the_check_and_is_no_finding(rig: Rig):
    class Away(MemoryObjects):
        async def read(self, key: str, offset: int, length: int) -> bytes:
            raise Unavailable("connection refused")

    await rig.recorded(segment(0))
    rig.objects = Away(rig.bucket, rig.clock)
    begun = rig.begin(Level.HASH)

    with pytest.raises(Unavailable):
        async for _ in begun.run():
            pass

    assert begun.state.is_clean
    assert begun.state.after == ""


@pytest.mark.parametrize("n", [0, 1, 3, DAY])
async def test_an_object_without_a_row_is_an_orphan(rig: Rig, n: int):
    await rig.recorded(*(segment(number) for number in (0, 1, 2, 3, DAY) if number != n))
    await rig.only_object(segment(n))

    finding = only(await rig.check())

    assert (finding.kind, finding.key, finding.channel_id) == (Kind.ORPHAN, segment(n).key, "c1")
    assert finding.mended == ""


async def test_an_object_under_a_name_that_is_not_ours_is_an_orphan_that_cannot_be_mended(rig: Rig):
    await rig.objects.put("v1/notes/a.txt", b"hello", {})

    finding = only(await rig.check(mend=True))

    assert (finding.kind, finding.channel_id, finding.mended) == (Kind.ORPHAN, "", "")
    assert "not the key of a recording" in finding.cause


async def test_an_upload_that_nobody_finishes_is_abandoned(rig: Rig):
    await rig.begun(segment(0), DATA[:5_000], DATA[5_000:6_000])

    finding = only(await rig.check())

    assert (finding.kind, finding.key) == (Kind.ABANDONED, segment(0).key)
    assert "6000" in finding.cause


@pytest.mark.parametrize("over_us", [1, LENGTH_US // 2])
async def test_rows_of_one_channel_that_overlap_are_found(rig: Rig, over_us: int):
    late = segment(0, end_us=UtcMicros(START_US + LENGTH_US + over_us))
    await rig.recorded(late, segment(1), segment(2), segment(1, "c2"))

    finding = only(await rig.check())

    assert (finding.kind, finding.key) == (Kind.OVERLAP, segment(1).key)
    assert segment(0).key in finding.cause


async def test_a_row_overlaps_one_that_reaches_over_its_neighbour(rig: Rig):
    long = segment(0, end_us=UtcMicros(START_US + 3 * LENGTH_US))
    await rig.recorded(long, segment(1), segment(2), segment(3))

    state = await rig.check()

    assert keys_of(state, Kind.OVERLAP) == [segment(1).key, segment(2).key]
    assert all(long.key in finding.cause for finding in state.findings)


async def test_a_broken_audit_chain_is_found(rig: Rig):
    for _ in range(2):
        async with rig.store.audit.act(None, Action.LIST, "platform"):
            pass
    chain = rig.database.audit.chains["node-1"]
    chain[1] = replace(chain[1], subject="another")

    finding = only(await rig.check())

    assert finding.kind is Kind.AUDIT
    assert "row 2" in finding.cause


async def test_each_kind_is_found_among_the_others(rig: Rig):
    await rig.recorded(*(segment(n) for n in range(6)))
    await rig.objects.delete(segment(0).key)
    await rig.only_object(segment(1), DATA[:-1])
    await rig.only_object(segment(2), b"\0" * len(DATA))
    await rig.only_object(segment(7))
    await rig.begun(segment(8), DATA)
    await rig.store.segments.commit([segment(5, "c0", key=segment(5, "c0").key)])

    state = await rig.check(Level.HASH)

    assert state.counts == {
        Kind.LOST: 2,
        Kind.SIZE: 1,
        Kind.HASH: 1,
        Kind.ORPHAN: 1,
        Kind.ABANDONED: 1,
    }
    assert keys_of(state, Kind.LOST) == [segment(5, "c0").key, segment(0).key]


async def test_findings_beyond_the_bound_are_counted(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "FINDINGS_KEPT_MAX", 3)
    await rig.store.segments.commit([segment(n) for n in range(5)])

    state = await rig.check()

    assert state.counts[Kind.LOST] == 5
    assert keys_of(state, Kind.LOST) == [segment(n).key for n in range(3)]


# ---- what is passed over ---------------------------------------------------------------------


async def test_what_a_worker_claims_is_neither_orphan_nor_abandoned(rig: Rig):
    await rig.only_object(segment(0))
    await rig.begun(segment(1), DATA)
    rig.claimed = Claimed(frozenset({segment(0).key, segment(1).key}))

    assert (await rig.check(mend=True)).is_clean
    assert await rig.row(segment(0).key) is None


async def test_what_began_too_late_is_left_alone(rig: Rig):
    await rig.only_object(segment(0))
    await rig.only_object(segment(1))
    await rig.begun(segment(2), DATA)
    begun_us = rig.clock.now_us()

    rig.claimed = Claimed(frozenset(), before_us=segment(1).start_us)
    assert keys_of(await rig.check(), Kind.ORPHAN) == [segment(0).key]
    rig.claimed = Claimed(frozenset(), before_us=begun_us)
    assert (await rig.check()).counts == {Kind.ORPHAN: 2}
    rig.claimed = Claimed(frozenset(), before_us=UtcMicros(begun_us + 1))
    assert (await rig.check()).counts == {Kind.ORPHAN: 2, Kind.ABANDONED: 1}


async def test_nothing_is_said_of_orphans_while_a_worker_is_silent(rig: Rig):
    await rig.only_object(segment(0))
    rig.silent = "worker 1 does not answer"

    with pytest.raises(Unavailable, match="worker 1"):
        await rig.check(mend=True)

    assert await rig.row(segment(0).key) is None


async def test_workers_are_not_asked_where_everything_agrees(rig: Rig):
    await rig.recorded(segment(0))

    await rig.check()

    assert rig.asked == 0


async def test_a_row_that_comes_while_its_owner_is_asked_is_no_orphan(rig: Rig):
    """It lets go of the key once the row is committed: the claims are asked for, then the row."""
    await rig.only_object(segment(0))
    claims = rig.claims

    async def committed_meanwhile() -> Claimed:
        await rig.store.segments.commit([segment(0)])
        return await claims()

    rig.claims = committed_meanwhile  # type: ignore[method-assign]

    assert (await rig.check(Level.HASH, mend=True)).is_clean


async def test_a_row_that_comes_late_is_compared_like_any_other(rig: Rig):
    await rig.only_object(segment(0), DATA[:-1])
    claims = rig.claims

    async def committed_meanwhile() -> Claimed:
        await rig.store.segments.commit([segment(0)])
        return await claims()

    rig.claims = committed_meanwhile  # type: ignore[method-assign]

    assert only(await rig.check(Level.SIZE)).kind is Kind.SIZE


async def test_an_object_that_comes_after_it_was_listed_is_not_lost(rig: Rig):
    class Behind(MemoryObjects):
        async def list(self, prefix: str, after: str = "") -> AsyncIterator[ObjectInfo]:
            async for info in super().list(prefix, after):
                if info.key != segment(1).key:
                    yield info

    await rig.recorded(segment(0), segment(1), segment(2))
    rig.objects = Behind(rig.bucket, rig.clock)

    assert (await rig.check(Level.HASH)).is_clean


async def test_an_upload_that_its_owner_ends_meanwhile_is_nothing(rig: Rig):
    upload_id = await rig.begun(segment(0), DATA)
    claims = rig.claims

    async def ended_meanwhile() -> Claimed:
        await rig.objects.abort(segment(0).key, upload_id)
        return await claims()

    rig.claims = ended_meanwhile  # type: ignore[method-assign]

    assert (await rig.check(mend=True)).is_clean


# ---- leaving and going on --------------------------------------------------------------------


async def troubled(rig: Rig) -> None:
    """Some of everything, over several channels and days."""
    rows = [segment(n, channel) for channel in ("c1", "c2") for n in (0, 1, 2, 3, DAY, DAY + 1)]
    await rig.recorded(*rows)
    await rig.objects.delete(segment(1).key)
    await rig.objects.delete(segment(DAY, "c2").key)
    await rig.only_object(segment(2), DATA[:-1])
    for n in (4, 5, DAY + 2):
        await rig.only_object(segment(n))
        await rig.only_object(segment(n, "c3"))
    await rig.store.segments.commit([segment(6, "c2", start_us=segment(3, "c2").start_us)])
    for n in (7, 8):
        await rig.begun(segment(n), DATA)
        await rig.begun(segment(n), DATA)


async def left_after(rig: Rig, state: State, steps: int) -> State:
    """Go on from `state`, and leave after so many steps."""
    check = Check(rig.sources(), state)
    if steps:
        async with aclosing(check.run()) as work:
            async for _ in work:
                steps -= 1
                if not steps:
                    break
    return check.state


@pytest.mark.parametrize("mend", [False, True])
async def test_a_check_left_at_any_step_goes_on_to_the_same_result(mend: bool):
    reference = Rig()
    await troubled(reference)
    whole = await reference.check(Level.SIZE, mend=mend)
    assert set(whole.counts) == {
        Kind.LOST, Kind.SIZE, Kind.ORPHAN, Kind.OVERLAP, Kind.ABANDONED,
    }  # fmt: skip

    steps = 0
    while True:
        rig = Rig()
        await troubled(rig)
        left = await left_after(rig, rig.state(Level.SIZE, mend=mend), steps)
        if left.stage is Stage.DONE:
            break
        again = await left_after(rig, left, 1_000_000)

        assert again.stage is Stage.DONE
        assert again.counts == whole.counts, steps
        assert again.mended == whole.mended, steps
        assert [(found.kind, found.key, found.mended) for found in again.findings] == [
            (found.kind, found.key, found.mended) for found in whole.findings
        ]
        steps += 1
    assert steps > 20


async def test_a_check_that_goes_on_reads_nothing_twice(rig: Rig):
    await rig.recorded(*(segment(n) for n in range(10)))
    left = await left_after(rig, rig.state(Level.HASH), 4)

    done = await left_after(rig, left, 1_000_000)

    assert left.after == segment(3).key
    assert done.cost.rows == 10
    assert done.cost.bytes_read == 10 * len(DATA)


async def test_a_failure_halfway_keeps_what_was_done_before_it(rig: Rig):
    """Neither twice nor not at all: the state is that of the last whole step."""
    await rig.recorded(segment(0), segment(1))
    await rig.objects.delete(segment(0).key)
    await rig.only_object(segment(2))
    rig.silent = "worker 0 does not answer"
    begun = rig.begin()
    with pytest.raises(Unavailable):
        async for _ in begun.run():
            pass
    rig.silent = ""

    done = await left_after(rig, begun.state, 1_000_000)

    assert begun.state.after == segment(1).key
    assert done.counts == {Kind.LOST: 1, Kind.ORPHAN: 1}


# ---- order and bounds ------------------------------------------------------------------------


class Listing(MemoryObjects):
    """Lists what it is told to."""

    keys: Sequence[str] = ()

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[ObjectInfo]:
        for key in self.keys:
            if key > after:
                yield ObjectInfo(key, len(DATA), {})


def listing(rig: Rig, keys: Sequence[str]) -> None:
    objects = Listing(rig.bucket, rig.clock)
    objects.keys = keys
    rig.objects = objects


async def test_objects_of_a_folder_may_be_listed_in_any_order(rig: Rig):
    rows = [segment(n) for n in (0, 1, 2, DAY, DAY + 1)]
    await rig.store.segments.commit(rows)
    listing(rig, [rows[n].key for n in (2, 0, 1, 4, 3)])

    assert (await rig.check(Level.SIZE)).is_clean


async def test_folders_in_another_order_are_refused_and_named(rig: Rig):
    listing(rig, [segment(DAY).key, segment(0).key])

    with pytest.raises(Unsupported, match=segment(0).key):
        await rig.check()


async def test_a_folder_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metered, "FOLDER_OBJECTS_MAX", 3)
    await rig.recorded(*(segment(n) for n in range(3)))
    assert (await rig.check()).is_clean

    await rig.recorded(segment(3))

    with pytest.raises(Exhausted, match="v1/c1/2023/11/14/"):
        await rig.check()


class ManyRows:
    """The rows of `count` recordings, made when asked for."""

    def __init__(self, count: int, a_day: int) -> None:
        self.sample = segment()
        self.count_ = count
        self.a_day = a_day

    def key(self, n: int) -> str:
        day, number = divmod(n, self.a_day)
        return f"v1/c{day:06}/2023/11/14/{START_US + number * LENGTH_US}-{START_US}-{number}.mp4"

    def row(self, n: int) -> Segment:
        day, number = divmod(n, self.a_day)
        start_us = UtcMicros(START_US + number * LENGTH_US)
        return replace(
            self.sample,
            key=self.key(n),
            channel_id=ChannelId(f"c{day:06}"),
            start_us=start_us,
            end_us=UtcMicros(start_us + LENGTH_US),
        )

    async def walk(self, after: str, limit: int) -> Sequence[Segment]:
        begin = 0
        if after:
            channel, number = after.split("/")[1], after.rpartition("-")[2].partition(".")[0]
            begin = int(channel[1:]) * self.a_day + int(number) + 1
        return [self.row(n) for n in range(begin, min(begin + limit, self.count_))]

    async def by_key(self, keys: Sequence[str]) -> Mapping[str, Segment]:
        return {}


class ManyObjects(Listing):
    """All of those, and one more at the end of each folder."""

    rows: ManyRows

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[ObjectInfo]:
        for n in range(self.rows.count_):
            yield ObjectInfo(self.rows.key(n), len(DATA), {})
            if n % self.rows.a_day == self.rows.a_day - 1:
                yield ObjectInfo(f"{self.rows.key(n)[:-4]}0.mp4", len(DATA), {})


async def test_memory_does_not_grow_with_the_number_of_rows(rig: Rig):
    async def peak_bytes(count: int) -> int:
        rows = ManyRows(count, a_day=500)
        objects = ManyObjects(rig.bucket, rig.clock)
        objects.rows = rows
        rig.objects, rig.segments = objects, rows  # type: ignore[assignment]
        tracemalloc.start()
        try:
            state = await rig.check()
            assert state.counts == {Kind.ORPHAN: count // 500}
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = await peak_bytes(1_000), await peak_bytes(10_000)

    assert large < 1.3 * small + 200_000
