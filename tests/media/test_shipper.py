"""From spool to object to journal: in that order, whatever the store does."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest

from tests.contract.manual import ManualClock
from tests.media.rig import GOP, open_spool, until
from tests.media.stage import LOG, Life, Stage, film, staged
from tests.media.test_spool import INIT, fragment, head, media, whole, write
from vsp.blocking import IoPool
from vsp.clock import SystemClock
from vsp.disk import SystemDisk
from vsp.errors import DataLoss, Invalid, NotFound, Unavailable
from vsp.faults import Point
from vsp.media import journal as journal_module
from vsp.media import shipper as module
from vsp.media import spool as spool_module
from vsp.media.chunks import chunk_path, chunks_in
from vsp.media.journal import Journal
from vsp.media.shipper import KNOCK_S, Gate, Shipper
from vsp.media.spool import SpooledSegment
from vsp.model.recording import EndReason, SegmentClosed
from vsp.ports import ObjectInfo
from vsp.store.blobs import FolderObjects
from vsp.store.folder import Folder


class Weather(FolderObjects):
    """A real folder whose calls can be made to fail, by name."""

    def __init__(self, root: Path) -> None:
        super().__init__(Folder(root), IoPool("test", 2))
        self.failing: dict[str, list[Exception]] = {}
        self.calls: list[str] = []

    def _meet(self, name: str) -> None:
        self.calls.append(name)
        errors = self.failing.get(name)
        if errors:
            raise errors.pop(0)

    async def begin(self, key: str, metadata: Mapping[str, str]) -> str:
        self._meet("begin")
        return await super().begin(key, metadata)

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        self._meet(f"part {number}")
        return await super().put_part(key, upload_id, number, data)

    async def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> ObjectInfo:
        info = await super().complete(key, upload_id, tags)
        self._meet("complete")
        return info


@dataclass
class Bench:
    """A shipper over a real spool, journal and folder."""

    folder: Path
    closed: list[SegmentClosed] = field(default_factory=list)
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.spool = open_spool(self.folder / "log")
        self.spool.start()
        self.journal = Journal(self.folder / "journal", SystemDisk())
        self.objects = Weather(self.folder / "objects")
        self.shipper = Shipper(
            self.spool,
            self.objects,
            self.journal,
            IoPool("test", 2),
            SystemClock(),
            self.closed.append,
        )

    async def object(self, key: str) -> bytes:
        info = await self.objects.stat(key)
        return await self.objects.read(key, 0, info.size_bytes)

    async def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        await self.shipper.close(1.0)
        await self.spool.close()
        await asyncio.to_thread(self.journal.close)
        await self.objects.close()


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "KNOCK_S", 0.01)
    made = Bench(tmp_path)
    yield made
    await made.close()


async def test_a_segment_grows_by_parts_and_becomes_an_object_and_an_entry(bench: Bench):
    segment = bench.spool.begin(head(), b"init" * 100)
    bench.shipper.ship(segment, part_s=4.0)
    for i in range(5):
        bench.spool.append(segment, fragment(i), media(i))
        await asyncio.sleep(0)
        await asyncio.sleep(0.02)
    grown = list(bench.objects.calls)
    bench.spool.end(segment, EndReason.ROLLED)
    await until(lambda: bench.closed)

    assert grown == ["begin", "part 1", "part 2"]
    assert bench.objects.calls[3:] == ["part 3", "complete"]
    assert await bench.object(segment.head.key) == whole(5)
    row = bench.closed[0].segment
    assert row.sha256 == sha256(whole(5)).hexdigest()
    assert row.size_bytes == len(whole(5))
    assert segment.released
    metadata = (await bench.objects.stat(segment.head.key)).metadata
    assert metadata["codecs"] == "avc3.42C00B"
    assert metadata["start-us"] == "0"


async def test_parts_wait_until_the_store_takes_their_size(bench: Bench):
    bench.shipper._part_bytes_min = 12_000
    segment = bench.spool.begin(head(), b"init" * 100)
    bench.shipper.ship(segment, part_s=1.0)
    for i in range(4):
        bench.spool.append(segment, fragment(i), media(i))
        await asyncio.sleep(0.02)
    grown = list(bench.objects.calls)
    bench.spool.end(segment, EndReason.ROLLED)
    await until(lambda: bench.closed)

    assert grown == ["begin", "part 1"]
    assert await bench.object(segment.head.key) == whole(4)


async def test_a_store_that_is_away_is_tried_until_it_is_back(bench: Bench):
    away = [Unavailable("connection refused")] * 2
    bench.objects.failing = {"begin": list(away), "part 1": list(away), "complete": list(away)}
    segment = await write(bench.spool, 2)
    bench.spool.end(segment, EndReason.STOPPED)
    bench.shipper.ship(segment, part_s=1.0)
    await until(lambda: bench.closed)

    # An answer to `complete` that was lost is a completion all the same.
    assert bench.objects.calls.count("complete") == 3
    assert await bench.object(segment.head.key) == whole(2)
    assert len(bench.closed) == 1


async def test_an_upload_that_the_store_lost_begins_again(bench: Bench):
    bench.objects.failing = {"part 2": [NotFound("no such upload")]}
    segment = bench.spool.begin(head(), b"init" * 100)
    bench.shipper.ship(segment, part_s=2.0)
    for i in range(4):
        bench.spool.append(segment, fragment(i), media(i))
        await asyncio.sleep(0.03)
    bench.spool.end(segment, EndReason.ROLLED)
    await until(lambda: bench.closed)

    assert bench.objects.calls.count("begin") == 2
    assert await bench.object(segment.head.key) == whole(4)


async def test_a_segment_without_media_leaves_no_trace(bench: Bench):
    segment = bench.spool.begin(head(), b"init" * 100)
    bench.shipper.ship(segment, part_s=1.0)
    bench.spool.end(segment, EndReason.MEDIA_STOPPED)
    await until(lambda: not bench.shipper.segments)

    assert bench.closed == []
    assert bench.objects.calls == []
    assert segment.released


async def test_entries_that_close_together_share_one_write(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    batches: list[int] = []
    real = Journal.append

    def append(journal: Journal, rows):
        batches.append(len(rows))
        return real(journal, rows)

    monkeypatch.setattr(Journal, "append", append)
    for n in range(20):
        segment = await write(bench.spool, 1, n)
        bench.spool.end(segment, EndReason.ROLLED)
        bench.shipper.ship(segment, part_s=1.0)
    await until(lambda: len(bench.closed) == 20)

    assert sum(batches) == 20
    assert [entry.seq for entry in bench.closed] == list(range(1, 21))


async def test_a_journal_that_cannot_be_written_holds_the_entry_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    refusals = [Unavailable("disk full"), Unavailable("disk full")]
    real = Journal.append

    def append(journal: Journal, rows):
        if refusals:
            raise refusals.pop()
        return real(journal, rows)

    monkeypatch.setattr(Journal, "append", append)
    segment = await write(bench.spool, 1)
    bench.spool.end(segment, EndReason.ROLLED)
    bench.shipper.ship(segment, part_s=1.0)
    await until(lambda: bench.closed)

    assert refusals == []
    assert len(bench.journal) == 1


@pytest.mark.parametrize("died_before", ["begin", "part 2", "complete", "journal"])
async def test_whatever_step_a_crash_hits_the_next_life_finishes_once(
    bench: Bench, tmp_path: Path, died_before: str
):
    segment = bench.spool.begin(head(), b"init" * 100)
    bench.objects.failing = {died_before: [Unavailable("dying")] * 1000}
    bench.shipper.ship(segment, part_s=2.0)
    for i in range(4):
        bench.spool.append(segment, fragment(i), media(i))
        await asyncio.sleep(0.02)
    if died_before == "journal":
        await bench.shipper._put_new_bytes(segment)
        tags = [tag for tag, _ in segment.parts]
        await bench.objects.complete(segment.head.key, segment.upload_id, tags)
    bench.spool.end(segment, EndReason.ROLLED)
    for task in bench.shipper._tasks.values():
        task.cancel()
    await bench.close()

    next_life = Bench(tmp_path)
    for found in await next_life.spool.recover():
        next_life.shipper.ship(found, part_s=2.0)
    await until(lambda: next_life.closed)
    await until(lambda: not next_life.shipper.segments)

    [entry] = next_life.closed
    assert entry.segment.end_reason is EndReason.ROLLED
    assert await next_life.object(segment.head.key) == whole(4)
    assert entry.segment.sha256 == sha256(whole(4)).hexdigest()
    await next_life.close()
    third_life = Bench(tmp_path)
    assert await third_life.spool.recover() == []
    assert [waiting.seq for waiting in third_life.journal.unacknowledged()] == [1]
    await third_life.close()


# ---- what the store answers, on virtual time -------------------------------------------------


def record(life: Life, n: int = 0, fragments: int = 4) -> SpooledSegment:
    """A whole segment, on its way."""
    segment = life.spool.begin(head(n), INIT)
    life.shipper.ship(segment, part_s=2.0)
    for i in range(fragments):
        life.spool.append(segment, fragment(i), media(i))
    life.spool.end(segment, EndReason.ROLLED)
    return segment


async def grow(life: Life, n: int = 0, fragments: int = 4) -> SpooledSegment:
    """As `record`, a fragment a second, so that it goes up in parts."""
    segment = life.spool.begin(head(n), INIT)
    life.shipper.ship(segment, part_s=2.0)
    for i in range(fragments):
        life.spool.append(segment, fragment(i), media(i))
        await asyncio.sleep(1.0)
    life.spool.end(segment, EndReason.ROLLED)
    return segment


def check_rows(stage: Stage, expected: Mapping[str, bytes]) -> None:
    """One row and one object for each, which say the same; no object was ever replaced."""
    assert stage.rows.keys() == expected.keys()
    for key, data in expected.items():
        row = stage.rows[key]
        assert stage.bytes_of(key) == data
        assert (row.size_bytes, row.sha256) == (len(data), sha256(data).hexdigest())
    assert all(stage.rows[told.key] == told for told in stage.told), "told twice, told the same"
    assert stage.objects.replaced == []


FATES = [
    (call, fate)
    for call in ("begin", "part 1", "part 2", "part 4", "complete")
    for fate in ("refused", "lost", "late", "twice", "gone")
]


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize(("call", "fate"), FATES)
def test_however_a_call_fares_there_is_one_object_and_one_row(call: str, fate: str, memory: bool):
    async def script(life: Life) -> None:
        await grow(life)
        await life.shipped()
        await asyncio.sleep(10.0)  # for what is done late

    with staged(memory=memory) as stage:
        stage.objects.fates = {call: [fate]}
        stage.live(script)

        check_rows(stage, {head().key: whole(4)})
        assert stage.objects.fates[call] == []


@pytest.mark.parametrize("seed", range(12))
def test_however_many_calls_fare_badly_there_is_one_object_and_one_row(seed: int):
    draw = random.Random(seed)
    moods = ("", "refused", "lost", "late", "twice", "gone")

    async def script(life: Life) -> None:
        await asyncio.gather(*(grow(life, n) for n in range(4)))
        await life.shipped()
        await asyncio.sleep(10.0)

    with staged(seed, memory=bool(seed % 2)) as stage:
        calls = ("begin", "part 1", "part 2", "part 3", "part 4", "complete", "abort")
        stage.objects.fates = {call: draw.choices(moods, k=12) for call in calls}
        stage.live(script)

        check_rows(stage, {head(n).key: whole(4) for n in range(4)})


def test_parts_come_in_order_and_none_is_larger_than_its_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PART_BYTES_MAX", 6000)
    sizes: list[int] = []

    async def script(life: Life) -> None:
        segment = record(life, fragments=5)
        await life.shipped()
        ends = [0, *(up_to for _, up_to in segment.parts)]
        sizes.extend(end - begin for begin, end in pairwise(ends))

    with staged() as stage:
        stage.live(script)

        calls = [name for _, name in stage.objects.calls if name.startswith("part")]
        assert calls == [f"part {n}" for n in range(1, len(sizes) + 1)]
        check_rows(stage, {head().key: whole(5)})
    assert sum(sizes) == len(whole(5))
    assert max(sizes) <= 6000
    assert min(sizes) >= 3000, "halves, not a rest too small to be a part"


# ---- a store that refuses --------------------------------------------------------------------


@pytest.mark.parametrize("segments", [1, 30])
def test_a_store_that_refuses_is_asked_once_a_second_by_all_together(segments: int):
    refusing = Unavailable("connection refused")

    async def script(life: Life) -> None:
        life.stage.objects.always = refusing
        for n in range(segments):
            record(life, n, fragments=1)
        await asyncio.sleep(60.0)
        assert life.shipper.troubles == {"store": "connection refused"}
        life.stage.objects.always = None
        back_at = life.stage.loop.now
        await life.shipped()
        assert life.stage.loop.now - back_at < KNOCK_S + 1.0, "everybody goes on at once"
        assert life.shipper.troubles == {}

    with staged() as stage:
        stage.live(script)

        knocks = stage.objects.named("begin")[segments:]
        while_away = [when for when in knocks if when < 60.0]
        assert 58 <= len(while_away) <= 60
        assert min(after - before for before, after in pairwise(while_away)) > 0.99 * KNOCK_S
        check_rows(stage, {head(n).key: whole(1) for n in range(segments)})


async def test_a_gate_is_shut_by_a_refusal_and_opened_by_a_success():
    clock = ManualClock()
    gate = Gate("store", clock)
    waiting = [asyncio.create_task(gate.wait(Unavailable(f"no {n}"))) for n in range(3)]
    await asyncio.sleep(0)
    assert gate.trouble == "no 2"
    assert not any(task.done() for task in waiting)

    gate.taken()
    await asyncio.gather(*waiting)

    assert gate.trouble == ""


def test_a_store_that_lost_an_upload_is_no_trouble_but_one_that_loses_each_is():
    troubles: list[Mapping[str, str]] = []

    async def script(life: Life) -> None:
        record(life, fragments=1)
        await asyncio.sleep(0.5)
        troubles.append(life.shipper.troubles)
        await asyncio.sleep(20.0)
        troubles.append(life.shipper.troubles)
        await life.shipped()
        troubles.append(life.shipper.troubles)

    with staged() as stage:
        stage.objects.fates = {"part 1": ["gone"] * 6}
        stage.live(script)

        assert troubles == [{}, {"store": "part 1: no such upload"}, {}]
        assert len(stage.objects.named("begin")) == 7


@pytest.mark.parametrize("error", [NotFound("no such upload"), Invalid("part 1 was replaced"),
                                   DataLoss("part 1 does not have the bytes it had")])  # fmt: skip
@pytest.mark.parametrize("call", ["part 2", "part 4", "complete"])
def test_an_upload_that_the_store_lost_begins_again_from_the_spool(call: str, error: Exception):
    async def script(life: Life) -> None:
        await grow(life)
        await life.shipped()

    with staged() as stage:
        stage.objects.fates = {call: [error]}
        stage.live(script)

        assert len(stage.objects.named("begin")) == 2
        check_rows(stage, {head().key: whole(4)})


# ---- a spool that lost what it had -----------------------------------------------------------


def test_a_damaged_spool_is_told_and_holds_nobody_else_up(monkeypatch: pytest.MonkeyPatch):
    seen: list[Mapping[str, str]] = []

    async def script(life: Life) -> None:
        life.stage.objects.always = Unavailable("away")
        damaged, fine = record(life, 0), record(life, 1)
        await life.spool.until_written(fine.position_end)
        second = damaged.pieces[2].position
        chunk = max(base for base, _ in chunks_in(life.seat.disk, LOG) if base <= second)
        life.seat.disk.open(chunk_path(LOG, chunk)).truncate(100)
        life.stage.objects.always = None
        await asyncio.sleep(5.0)
        seen.append(life.shipper.troubles)

    monkeypatch.setattr(spool_module, "CHUNK_BYTES", 6000)
    with staged() as stage:
        stage.live(script)

        assert list(seen[0]) == ["spool"]
        assert head(0).key in seen[0]["spool"]
        check_rows(stage, {head(1).key: whole(4)})

        stage.live(finish)
        check_rows(stage, {head(0).key: whole(1), head(1).key: whole(4)})
        assert stage.rows[head(0).key].end_reason is EndReason.WORKER_LOST


async def finish(life: Life) -> None:
    await life.recover()
    await life.shipped()


# ---- deaths ----------------------------------------------------------------------------------

POINTS = [
    point
    for point in Point
    if point.startswith(
        ("spool.", "upload.", "part.", "complete", "journal", "released", "folder.")
    )
]


class Promise:
    """What lives may be held to: the pictures that were on disk when they ended."""

    def __init__(self) -> None:
        self.written: Counter[str] = Counter()
        self.synced: Counter[str] = Counter()
        self._life: Life | None = None
        self._segments: list[SpooledSegment] = []

    async def record(self, life: Life, first: int) -> None:
        """What was left, and two cameras with three segments each, one after the other."""
        self._life, self._segments = life, []
        await life.recover()
        await asyncio.gather(self._camera(life, first), self._camera(life, first + 3))
        await life.shipped()

    async def _camera(self, life: Life, first: int) -> None:
        init, fragments = film()
        for n in range(first, first + 3):
            segment = life.spool.begin(head(n), init)
            self._segments.append(segment)
            life.shipper.ship(segment, part_s=0.8)
            for shown, data in fragments:
                life.spool.append(segment, shown, data)
                await asyncio.sleep(0.15)
            life.spool.end(segment, EndReason.ROLLED)

    def note(self) -> None:
        """The life has ended."""
        if self._life is None:
            return
        spool = self._life.spool
        for known, up_to in ((self.written, spool.written), (self.synced, spool._core.synced)):
            for segment in self._segments:
                held = sum(piece.position + piece.length <= up_to for piece in segment.pieces[1:])
                known[segment.head.key] = held * GOP


def check_promise(stage: Stage, frames: Mapping[str, int]) -> None:
    """Every row is true of its object; everything promised is in one."""
    assert stage.hasty == stage.objects.replaced == []
    init, fragments = film()
    everything = init + b"".join(data for _, data in fragments)
    for key, row in stage.rows.items():
        data = stage.bytes_of(key)
        assert data is not None, f"the row of {key} points at nothing"
        assert (row.size_bytes, row.sha256) == (len(data), sha256(data).hexdigest())
        assert everything.startswith(data)
    assert all(stage.rows[told.key].sha256 == told.sha256 for told in stage.told)
    kept = {key: stage.rows[key].frames if key in stage.rows else 0 for key in frames}
    assert {key: kept[key] for key in frames if kept[key] < frames[key]} == {}


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """So small that a short life fills chunks and rewrites its journal."""
    monkeypatch.setattr(spool_module, "CHUNK_BYTES", 9000)
    monkeypatch.setattr(journal_module, "REWRITE_BYTES", 600)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("cut", [False, True], ids=["killed", "power cut"])
@pytest.mark.parametrize("nth", [1, 3])
@pytest.mark.parametrize("point", POINTS)
def test_a_death_at_any_point_costs_nothing_that_was_on_disk(point: Point, nth: int, cut: bool):
    promise = Promise()
    with staged(f"{point} {nth}") as stage:
        for life in range(2):
            died = stage.live(partial(promise.record, first=10 * life), point, nth)
            assert died or nth > 1, "the point was reached"
            promise.note()
            if cut:
                stage.disk.cut_power()

        stage.live(finish)
        check_promise(stage, promise.synced if cut else promise.written)
        stage.live(finds_nothing)


async def finds_nothing(life: Life) -> None:
    assert await life.recover() == []
    assert len(life.journal) == 0


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("seed", range(25))
def test_many_short_lives_on_a_bad_disk_under_a_bad_store_keep_what_was_synced(seed: int):
    draw, promise = random.Random(seed), Promise()
    moods = ("", "", "refused", "lost", "late", "twice", "gone")
    with staged(seed, memory=seed % 3 == 0) as stage:
        for life in range(5):
            stage.objects.fates = {
                call: draw.choices(moods, k=6)
                for call in ("begin", "part 1", "part 2", "complete", "stat", "abort")
            }
            now = stage.loop.now
            stage.loop.post_at(now + draw.uniform(0, 2), partial(_fail, stage, draw))
            stage.loop.post_at(now + draw.uniform(2, 6), partial(_mend, stage))
            point = draw.choice(POINTS)
            stage.live(partial(promise.record, first=10 * life), point, draw.randint(1, 9))
            promise.note()
            if draw.random() < 0.5:
                stage.disk.cut_power()

        _mend(stage)
        stage.objects.fates = {}
        stage.live(finish)
        check_promise(stage, promise.synced)
        stage.live(finds_nothing)


def _fail(stage: Stage, draw: random.Random) -> None:
    if draw.random() < 0.5:
        stage.disk.syncs_fail = True
    else:
        stage.disk.capacity_bytes = stage.disk.used_bytes + draw.randrange(5000)


def _mend(stage: Stage) -> None:
    stage.disk.syncs_fail = False
    stage.disk.capacity_bytes = 1 << 40
