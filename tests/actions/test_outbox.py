"""Writes that the database refuses are kept in order and bounded, and made when it is back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pytest

from tests.actions.scripted import Changes
from vsp.actions import outbox as module
from vsp.actions.outbox import Outbox, PatientChangeLog
from vsp.errors import Conflict, Exhausted, Unavailable
from vsp.model.changes import Axis, ChangePoint
from vsp.model.ids import UtcMicros

FULL = Unavailable("no space left")


class Database:
    """Takes what is written, while `up`."""

    def __init__(self) -> None:
        self.up = True
        self.taken: list[str] = []

    async def take(self, what: str) -> None:
        if not self.up:
            raise FULL
        self.taken.append(what)


class Desk:
    """An outbox before a database, and what it said of its troubles."""

    def __init__(self) -> None:
        self.database, self.outbox = Database(), Outbox()
        self.told: list[str] = []
        self.outbox.on_trouble = self._told

    async def _told(self, trouble: str) -> None:
        self.told.append(trouble)

    async def write(self, name: str, what: str = "") -> None:
        await self.outbox.write(name, partial(self.database.take, what or name))


async def test_a_database_that_takes_is_written_to_at_once():
    desk = Desk()

    await desk.write("a")
    await desk.outbox.settle()

    assert desk.database.taken == ["a"]
    assert desk.told == []


async def test_what_was_refused_is_written_later_in_order_and_both_turns_are_told():
    desk = Desk()
    desk.database.up = False
    for name in "abc":
        await desk.write(name)
    await desk.outbox.settle()
    assert desk.told == ["no space left"]

    desk.database.up = True
    await desk.write("d")
    assert desk.database.taken == [], "nothing overtakes what is owed"
    await desk.outbox.settle()

    assert desk.database.taken == ["a", "b", "c", "d"]
    assert desk.told == ["no space left", ""]
    assert desk.outbox.owed == 0


async def test_a_newer_word_takes_the_place_of_an_older_one():
    desk = Desk()
    desk.database.up = False
    await desk.write("stream 1", "old")
    await desk.write("stream 2")
    await desk.write("stream 1", "new")

    desk.database.up = True
    await desk.outbox.settle()

    assert desk.database.taken == ["new", "stream 2"]


async def test_a_refusal_that_somebody_else_saw_is_told_too():
    desk = Desk()

    desk.outbox.refused(FULL)
    await desk.outbox.settle()

    assert desk.told == ["no space left", ""], "nothing is owed, so it is over at once"


async def test_a_write_that_is_itself_at_fault_holds_up_nobody():
    desk = Desk()

    async def faulty() -> None:
        raise Conflict("a row with this key exists")

    desk.database.up = False
    await desk.write("a")
    await desk.outbox.write("faulty", faulty)
    await desk.write("b")
    desk.database.up = True
    await desk.outbox.settle()

    assert desk.database.taken == ["a", "b"]
    with pytest.raises(Conflict):
        await desk.outbox.write("faulty", faulty)


async def test_no_more_is_owed_than_the_bound(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "OWED_MAX", 2)
    desk = Desk()
    desk.database.up = False
    await desk.write("a")
    await desk.write("b")

    with pytest.raises(Exhausted, match="2 rows wait"):
        await desk.write("c")
    await desk.write("b", "b again")

    assert desk.outbox.owed == 2


async def test_what_is_refused_at_the_end_too_does_not_hold_up_the_end():
    desk = Desk()
    desk.database.up = False
    await desk.write("a")

    await desk.outbox.close()

    assert desk.outbox.owed == 1


class FullChanges(Changes):
    full = True

    async def append(self, points: Sequence[ChangePoint]) -> None:
        if self.full:
            raise FULL
        await super().append(points)


async def test_change_points_are_written_later_with_the_time_they_had():
    changes, outbox = FullChanges(), Outbox()
    patient = PatientChangeLog(changes, outbox)
    points = [
        ChangePoint("channel:c1", Axis.RECORDING, UtcMicros(at), state, "")
        for at, state in ((1, "gap"), (2, "recording"))
    ]
    for point in points:
        await patient.append([point])

    changes.full = False
    await outbox.settle()

    assert changes.points == points


async def test_change_points_beyond_the_bound_are_lost_and_do_not_fail(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(module, "OWED_MAX", 0)
    patient = PatientChangeLog(FullChanges(), Outbox())

    await patient.append([ChangePoint("channel:c1", Axis.RECORDING, UtcMicros(1), "gap", "")])
