"""The reconciler: what one turn does, where the next one goes on, what it tells; virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from simulators.world.loop import VirtualLoop
from tests.actions.scripted import Counting
from tests.retention.rig import DATA, Rig, pieces, segment
from vsp.errors import Unavailable
from vsp.model.ids import UtcMicros
from vsp.retention import reconcile as module
from vsp.retention.check import Kind
from vsp.retention.claims import Claimed
from vsp.retention.reconcile import AGAIN_S, FIRST_S, PAUSE_S, Reconciler

PERIOD_S = 600.0

HEAD, FIRST, *_ = pieces()


class Turning(Rig):
    """With a reconciler, and what it told."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.metrics = Counting()
        self.alarms: list[str] = []
        self.reconciler = Reconciler(
            sources=self.sources(), clock=self.clock, metrics=self.metrics, period_s=PERIOD_S
        )
        self.reconciler.on_lost = self._lost

    async def _lost(self, sentence: str) -> None:
        self.alarms.append(sentence)

    async def rows(self, count: int) -> list[int]:
        """Numbers, below `count`, of the segments that have a row."""
        return [n for n in range(count) if await self.row(segment(n).key) is not None]


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Turning:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    return Turning()


# ---- one turn --------------------------------------------------------------------------------


async def test_after_one_turn_there_is_no_orphan_and_no_abandoned_upload(rig: Turning):
    await rig.recorded(segment(0), segment(3))
    await rig.only_object(segment(1))
    await rig.begun(segment(2), DATA)
    await rig.begun(segment(0), DATA)
    await rig.begun(segment(9))

    await rig.reconciler.turn()

    assert (await rig.check()).is_clean
    assert await rig.rows(10) == [0, 1, 2, 3]
    assert await rig.uploads() == []
    assert rig.metrics.counts == {
        "vsp_reconcile_findings,kind=abandoned": 3,
        "vsp_reconcile_findings,kind=orphan": 1,
        "vsp_reconcile_mended,kind=abandoned": 3,
        "vsp_reconcile_mended,kind=orphan": 1,
        "vsp_objects_lost": 0,
    }


async def test_the_claimed_and_the_young_are_left_alone(rig: Turning):
    rig.claimed = Claimed(frozenset({segment(0).key, segment(1).key}), segment(2).start_us)
    for n in (0, 2):
        await rig.only_object(segment(n))
    rig.clock.wall_us = segment(1).start_us
    await rig.begun(segment(1), DATA)
    rig.clock.wall_us = segment(3).start_us
    await rig.begun(segment(3), DATA)

    await rig.reconciler.turn()

    assert await rig.rows(4) == []
    assert len(await rig.uploads()) == 2
    assert rig.metrics.counts == {"vsp_objects_lost": 0}


async def test_while_a_worker_is_silent_nothing_is_touched(rig: Turning):
    await rig.only_object(segment(0))
    await rig.begun(segment(1), DATA)
    rig.silent = "worker 1 is down"

    with pytest.raises(Unavailable, match="worker 1"):
        await rig.reconciler.turn()

    assert await rig.rows(2) == []
    assert len(await rig.uploads()) == 1


# ---- turn by turn ----------------------------------------------------------------------------


async def test_a_turn_ends_at_its_bound_and_the_next_goes_on(
    rig: Turning, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "KEYS_PER_TURN", 4)
    await rig.recorded(*(segment(n) for n in range(10) if n not in {1, 9}))
    await rig.only_object(segment(1))
    await rig.only_object(segment(9))

    seen = []
    for _ in range(4):
        await rig.reconciler.turn()
        seen.append(await rig.rows(10))

    without_last = list(range(9))
    assert seen == [without_last, without_last, list(range(10)), list(range(10))]


@pytest.mark.parametrize(
    ("bound", "value"), [("MENDED_PER_TURN", 2), ("READ_PER_TURN_BYTES", 2 * len(DATA))]
)
async def test_what_a_turn_mends_is_bounded(
    rig: Turning, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
):
    monkeypatch.setattr(module, bound, value)
    monkeypatch.setattr("vsp.retention.check.STRAYS_AT_ONCE", 1)
    for n in range(6):
        await rig.only_object(segment(n))

    mended = []
    for _ in range(4):
        await rig.reconciler.turn()
        mended.append(len(await rig.rows(6)))

    assert mended == [2, 4, 6, 6]


async def test_an_object_that_cannot_be_mended_does_not_keep_others_waiting(
    rig: Turning, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "READ_PER_TURN_BYTES", 1)
    monkeypatch.setattr("vsp.retention.check.STRAYS_AT_ONCE", 1)
    await rig.only_object(segment(0), HEAD)
    await rig.only_object(segment(1))

    await rig.reconciler.turn()
    await rig.reconciler.turn()

    assert await rig.rows(2) == [1]


async def test_a_failed_turn_does_not_lose_its_place(rig: Turning):
    await rig.recorded(segment(0), segment(2))
    await rig.only_object(segment(1))
    rig.silent = "worker 0 is down"
    with pytest.raises(Unavailable):
        await rig.reconciler.turn()

    rig.silent = ""
    await rig.reconciler.turn()

    assert await rig.rows(3) == [0, 1, 2]


# ---- what is lost ----------------------------------------------------------------------------


async def test_a_lost_object_is_an_alarm_until_a_whole_round_finds_none(
    rig: Turning, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "KEYS_PER_TURN", 2)
    await rig.recorded(*(segment(n) for n in range(3)))
    await rig.objects.delete(segment(0).key)

    await rig.reconciler.turn()
    assert segment(0).key in rig.alarms[-1]
    assert rig.metrics.counts["vsp_objects_lost"] == 1
    await rig.reconciler.turn()
    told = len(rig.alarms)

    await rig.only_object(segment(0))
    await rig.reconciler.turn()
    assert len(rig.alarms) == told, "halfway nobody can say that nothing is lost"
    await rig.reconciler.turn()

    assert rig.alarms[-1] == ""
    assert rig.metrics.counts["vsp_objects_lost"] == 0
    assert rig.metrics.counts["vsp_reconcile_findings,kind=lost"] == 1


async def test_many_other_findings_do_not_hide_a_loss(
    rig: Turning, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("vsp.retention.check.FINDINGS_KEPT_MAX", 1)
    await rig.only_object(segment(0), HEAD)
    await rig.store.segments.commit([segment(1)])

    await rig.reconciler.turn()

    assert "丢失" in rig.alarms[-1]


async def test_what_stays_is_logged_once_and_counted_each_round(rig: Turning):
    await rig.store.segments.commit([segment(0)])
    await rig.only_object(segment(1), HEAD)

    with capture_logs() as logs:
        for _ in range(3):
            await rig.reconciler.turn()

    assert [(line["kind"], line["key"]) for line in logs] == [
        (Kind.LOST, segment(0).key),
        (Kind.ORPHAN, segment(1).key),
    ]
    assert rig.metrics.counts["vsp_reconcile_findings,kind=lost"] == 3


# ---- for ever --------------------------------------------------------------------------------


def on_virtual_time(live: Callable[[VirtualLoop, Turning], Awaitable[None]]) -> None:
    """`live` beside a reconciler that runs for ever; its clock is the loop's."""
    loop = VirtualLoop()
    rig = Turning()
    began_us = rig.clock.wall_us
    rig.clock.now_us = lambda: UtcMicros(began_us + round(loop.time() * 1e6))  # type: ignore[method-assign]

    async def run() -> None:
        running = asyncio.create_task(rig.reconciler.run())
        await live(loop, rig)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    try:
        loop.run_until_complete(run())
    finally:
        loop.close()


def test_the_first_turn_comes_soon_and_the_next_after_the_period():
    async def live(loop: VirtualLoop, rig: Turning) -> None:
        await rig.only_object(segment(0))
        await asyncio.sleep(FIRST_S - 1)
        assert await rig.rows(1) == []
        await asyncio.sleep(2)
        assert await rig.rows(1) == [0]

        await rig.only_object(segment(1))
        await asyncio.sleep(PERIOD_S - 5)
        assert await rig.rows(2) == [0]
        await asyncio.sleep(5)
        assert await rig.rows(2) == [0, 1]

    on_virtual_time(live)


def test_a_turn_that_failed_is_tried_again_soon():
    async def live(loop: VirtualLoop, rig: Turning) -> None:
        await rig.only_object(segment(0))
        rig.silent = "worker 0 is down"
        await asyncio.sleep(FIRST_S + 1)
        rig.silent = ""
        await asyncio.sleep(AGAIN_S)

        assert await rig.rows(1) == [0]

    on_virtual_time(live)


def test_others_have_their_turn_between_keys(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "KEYS_AT_ONCE", 10)
    monkeypatch.setattr(module, "KEYS_PER_TURN", 100)

    async def live(loop: VirtualLoop, rig: Turning) -> None:
        await rig.store.segments.commit([segment(n) for n in range(300)])
        began = loop.time()
        await rig.reconciler.turn()
        assert loop.time() - began == pytest.approx(9 * PAUSE_S, abs=1e-3)

    on_virtual_time(live)
