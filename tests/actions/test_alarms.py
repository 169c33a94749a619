"""Alarms are raised once, end once, outlive a process, and have a history."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.actions.rig import Rig
from tests.actions.scripted import Counting
from vsp.access.scope import Access
from vsp.actions.alarms import Alarm, Alarms
from vsp.errors import Invalid, Unavailable
from vsp.model.changes import Axis, ChangePoint
from vsp.model.ids import UtcMicros, WorkerId
from vsp.model.people import Actor, Role
from vsp.model.stream import Troubles
from vsp.ports import ChangeLog

FULL = Troubles({"spool": "No space left on device"})
FINE = Troubles({})
WORKER = WorkerId(0)
HOUR_S = 3600


class Board:
    """The alarms of a node with one worker, and what was told of them."""

    def __init__(self, rig: Rig, changes: ChangeLog | None = None) -> None:
        self.clock = rig.clock
        self.metrics = Counting()
        self.alarms = Alarms(
            changes=changes or rig.store.changes,
            access=Access(rig.store.devices, rig.store.audit, rig.clock),
            clock=rig.clock,
            metrics=self.metrics,
            workers=1,
        )
        self.told: list[tuple[str, bool]] = []
        self.alarms.on_alarm = lambda alarm, raised: self.told.append((alarm.kind, raised))

    async def history(self, actor: Actor, from_s: float, until_s: float) -> Sequence[Alarm]:
        """Seconds are before now."""
        now_us = self.clock.now_us()
        return await self.alarms.history(
            actor,
            UtcMicros(now_us - round(from_s * 1e6)),
            UtcMicros(now_us - round(until_s * 1e6)),
        )


@pytest.fixture
async def actor(rig: Rig) -> Actor:
    return await rig.user(Role.OPERATOR)


async def test_an_alarm_is_raised_once_with_cause_and_since_and_told_once(rig: Rig, actor: Actor):
    board = Board(rig)

    await board.alarms.worker_troubles(WORKER, FULL)
    since_us = rig.clock.now_us()
    rig.clock.pass_s(5)
    await board.alarms.worker_troubles(WORKER, FULL)

    [alarm] = board.alarms.active(actor)
    assert alarm == Alarm("spool", "worker:0", since_us, "No space left on device")
    assert board.told == [("spool", True)]


async def test_an_alarm_that_is_over_is_told_and_stands_no_more(rig: Rig, actor: Actor):
    board = Board(rig)
    await board.alarms.database("full")

    await board.alarms.database("")

    assert board.told == [("database", True), ("database", False)]
    assert board.alarms.active(actor) == []


async def test_the_oldest_alarm_comes_first(rig: Rig, actor: Actor):
    board = Board(rig)
    await board.alarms.worker_troubles(WORKER, FULL)
    rig.clock.pass_s(1)
    await board.alarms.database("full")

    assert [alarm.kind for alarm in board.alarms.active(actor)] == ["spool", "database"]


async def test_the_metric_counts_what_stands(rig: Rig):
    board = Board(rig)

    await board.alarms.database("full")
    assert board.metrics.seen()["vsp_alarms"] == 1

    await board.alarms.database("")
    assert board.metrics.seen()["vsp_alarms"] == 0


async def test_an_alarm_outlives_the_process_and_is_ended_by_the_next(rig: Rig, actor: Actor):
    await Board(rig).alarms.worker_troubles(WORKER, FULL)
    since_us = rig.clock.now_us()
    rig.clock.pass_s(60)

    after = Board(rig)
    await after.alarms.worker_troubles(WORKER, FULL)
    assert [alarm.since_us for alarm in after.alarms.active(actor)] == [since_us]
    assert after.told == [], "everybody knows"
    await after.alarms.worker_troubles(WORKER, FINE)

    assert after.told == [("spool", False)]
    [alarm] = await after.history(actor, HOUR_S, -1)
    assert (alarm.since_us, alarm.until_us) == (since_us, rig.clock.now_us())


async def test_history_is_what_stood_within_the_window_newest_first(rig: Rig, actor: Actor):
    board = Board(rig)
    for trouble in ("first", "", "second", ""):
        await board.alarms.database(trouble)
        rig.clock.pass_s(100)
    await board.alarms.worker_troubles(WORKER, FULL)
    rig.clock.pass_s(1)

    everything = await board.history(actor, HOUR_S, 0)
    assert [alarm.cause for alarm in everything] == ["No space left on device", "second", "first"]
    assert [alarm.until_us is None for alarm in everything] == [True, False, False]
    begun_before = await board.history(actor, 350, 250)
    assert [alarm.cause for alarm in begun_before] == ["first"]
    between = await board.history(actor, 290, 210)
    assert between == []


async def test_a_window_that_ends_before_it_begins_is_invalid(rig: Rig, actor: Actor):
    with pytest.raises(Invalid):
        await Board(rig).history(actor, 0, 1)


class FullLog:
    """A change log on a full disk."""

    async def append(self, points: Sequence[ChangePoint]) -> None:
        raise Unavailable("full")

    async def between(
        self, subject: str, axis: Axis, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[ChangePoint]:
        return []


async def test_an_alarm_stands_also_where_it_cannot_be_written(rig: Rig, actor: Actor):
    board = Board(rig, FullLog())

    await board.alarms.database("full")
    rig.clock.pass_s(1)

    assert [alarm.cause for alarm in board.alarms.active(actor)] == ["full"]
    assert [alarm.cause for alarm in await board.history(actor, HOUR_S, 0)] == ["full"]
