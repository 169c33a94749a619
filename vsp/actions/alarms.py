"""Alarms: what keeps the platform from doing its work, from when to when, and why.

An alarm is a state on the change-point log like every other, so it has a history and outlives the
process that raised it. What is raised is told at once to every console; what is over is told too.
A full disk is an alarm and never a reason to delete anything early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import structlog

from vsp.access.scope import Access
from vsp.errors import Invalid, VspError
from vsp.model.changes import Axis, ChangePoint
from vsp.model.ids import UtcMicros, WorkerId
from vsp.model.people import Action, Actor
from vsp.model.stream import Troubles
from vsp.ports import ChangeLog, Clock, Metrics

log = structlog.get_logger(__name__)

RAISED = "raised"
OVER = "over"
"""States on `Axis.ALARM`."""

NODE = "node"
NODE_KINDS = ("database", "objects")
"""What the node itself can be refused, or has lost."""

WORKER_KINDS = ("store", "spool", "journal")
"""What a media worker can be refused."""

HISTORY_MAX = 500
"""Past alarms of one answer, the newest: more than anybody reads, and a page of some 100 kB."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """kind says what is refused, subject to whom, cause why, in the words of the system.

    until_us   when it was over; None while it stands
    """

    kind: str
    subject: str
    since_us: UtcMicros
    cause: str
    until_us: UtcMicros | None = None

    @property
    def name(self) -> str:
        """Subject of its change points."""
        return f"{self.subject}:{self.kind}"


class Alarms:
    """Knows what is raised now, and what was."""

    def __init__(
        self, *, changes: ChangeLog, access: Access, clock: Clock, metrics: Metrics, workers: int
    ) -> None:
        self._changes = changes
        self._access = access
        self._clock = clock
        self._metrics = metrics
        self._workers = workers
        self._raised: dict[str, Alarm] = {}
        self._remembered: set[str] = set()
        self.on_alarm: Callable[[Alarm, bool], None] | None = None
        """Told of each alarm and whether it was raised or is over."""

    # ---- asking -------------------------------------------------------------------------------

    def active(self, actor: Actor) -> Sequence[Alarm]:
        """What is raised, oldest first."""
        self._access.require(actor, Action.LIST)
        return sorted(self._raised.values(), key=lambda alarm: alarm.since_us)

    async def history(
        self, actor: Actor, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[Alarm]:
        """What was raised at some time in `[from_us, until_us)`, newest first."""
        self._access.require(actor, Action.LIST)
        if until_us <= from_us:
            raise Invalid("the window's end is not after its start")
        found: list[Alarm] = []
        for subject, kinds in self._subjects():
            for kind in kinds:
                points = await self._changes.between(
                    f"{subject}:{kind}", Axis.ALARM, from_us, until_us
                )
                found += _alarms(kind, subject, points)
        # The log may not have heard yet of what stands: its disk may be the one that is full.
        told = {(alarm.name, alarm.since_us) for alarm in found}
        found += [
            alarm
            for alarm in self._raised.values()
            if alarm.since_us < until_us and (alarm.name, alarm.since_us) not in told
        ]
        return sorted(found, key=lambda alarm: alarm.since_us, reverse=True)[:HISTORY_MAX]

    def _subjects(self) -> Iterable[tuple[str, Sequence[str]]]:
        yield NODE, NODE_KINDS
        for index in range(self._workers):
            yield f"worker:{index}", WORKER_KINDS

    # ---- being told ---------------------------------------------------------------------------

    async def worker_troubles(self, worker_id: WorkerId, troubles: Troubles) -> None:
        """What a worker says of itself, whole."""
        subject = f"worker:{worker_id}"
        await self._remember(subject, WORKER_KINDS)
        for kind in WORKER_KINDS:
            await self._set(kind, subject, troubles.active.get(kind))

    async def database(self, trouble: str) -> None:
        """What the database says while it refuses; empty when it takes everything."""
        await self._remember(NODE, NODE_KINDS)
        await self._set("database", NODE, trouble or None)

    async def objects(self, lost: str) -> None:
        """What is known of recordings that have lost their object; empty when none has."""
        await self._remember(NODE, NODE_KINDS)
        await self._set("objects", NODE, lost or None)

    async def _remember(self, subject: str, kinds: Sequence[str]) -> None:
        """What was raised when the last process ended may be over by now, and must be ended."""
        if subject in self._remembered:
            return
        now_us = self._clock.now_us()
        for kind in kinds:
            try:
                points = await self._changes.between(
                    f"{subject}:{kind}", Axis.ALARM, now_us, UtcMicros(now_us + 1)
                )
            except VspError as error:
                log.error("alarms of before not read", subject=subject, error=error.message)
                return
            if points and points[-1].state == RAISED:
                alarm = Alarm(kind, subject, points[-1].at_us, points[-1].cause)
                self._raised.setdefault(alarm.name, alarm)
            self._count(kind)
        self._remembered.add(subject)

    async def _set(self, kind: str, subject: str, cause: str | None) -> None:
        """Raise it with this cause, or end it (None); as it is already: nothing."""
        now_us = self._clock.now_us()
        fresh = Alarm(kind, subject, now_us, cause or "")
        known = self._raised.get(fresh.name)
        if (cause is not None) == (known is not None):
            return
        if known is None:
            alarm, state = fresh, RAISED
            self._raised[alarm.name] = alarm
        else:
            alarm, state = replace(known, until_us=now_us), OVER
            del self._raised[alarm.name]
        self._count(kind)
        if self.on_alarm is not None:
            self.on_alarm(alarm, known is None)
        try:
            await self._changes.append(
                [ChangePoint(alarm.name, Axis.ALARM, now_us, state, alarm.cause)]
            )
        except VspError as error:
            log.error("alarm not written", alarm=alarm.name, state=state, error=error.message)

    def _count(self, kind: str) -> None:
        count = sum(1 for alarm in self._raised.values() if alarm.kind == kind)
        self._metrics.gauge("vsp_alarms", count, kind=kind)


def _alarms(kind: str, subject: str, points: Sequence[ChangePoint]) -> list[Alarm]:
    """Change points of one name, oldest first, as alarms from their beginning to their end."""
    found: list[Alarm] = []
    stands = False
    for point in points:
        if point.state == RAISED and not stands:
            found.append(Alarm(kind, subject, point.at_us, point.cause))
        elif point.state == OVER and stands:
            found[-1] = replace(found[-1], until_us=point.at_us)
        stands = point.state == RAISED
    return found


__all__ = ["Alarm", "Alarms"]
