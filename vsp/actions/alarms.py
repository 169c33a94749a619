"""Alarms: what keeps the platform from doing its work, from when to when, and why.

An alarm is a state on the change-point log like every other, so it has a history and outlives the
process that raised it. What is raised is told at once to every console; what is over is told too.
A full disk is an alarm and never a reason to delete anything early.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from vsp.access.scope import Access
from vsp.errors import VspError
from vsp.model.changes import Axis, ChangePoint
from vsp.model.ids import UtcMicros, WorkerId
from vsp.model.people import Action, Actor
from vsp.model.stream import Troubles
from vsp.ports import ChangeLog, Clock, Metrics

log = structlog.get_logger(__name__)

RAISED = "raised"
OVER = "over"
"""States on `Axis.ALARM`."""

WORKER_KINDS = ("store", "spool", "journal")
"""What a media worker can be refused."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """kind says what is refused, subject to whom, cause why, in the words of the system."""

    kind: str
    subject: str
    since_us: UtcMicros
    cause: str


class Alarms:
    """Knows what is raised now."""

    def __init__(
        self, *, changes: ChangeLog, access: Access, clock: Clock, metrics: Metrics
    ) -> None:
        self._changes = changes
        self._access = access
        self._clock = clock
        self._metrics = metrics
        self._raised: dict[str, Alarm] = {}
        self._asked: set[WorkerId] = set()
        self.on_alarm: Callable[[Alarm, bool], None] | None = None
        """Told of each alarm and whether it was raised or is over."""

    def active(self, actor: Actor) -> Sequence[Alarm]:
        """What is raised, oldest first."""
        self._access.require(actor, Action.LIST)
        return sorted(self._raised.values(), key=lambda alarm: alarm.since_us)

    async def worker_troubles(self, worker_id: WorkerId, troubles: Troubles) -> None:
        """What a worker says of itself, whole."""
        if worker_id not in self._asked:
            await self._remember(worker_id)
            self._asked.add(worker_id)
        for kind in WORKER_KINDS:
            await self._set(kind, f"worker:{worker_id}", troubles.active)

    async def _remember(self, worker_id: WorkerId) -> None:
        """What was raised when the last process ended may be over by now, and must be ended."""
        now_us = self._clock.now_us()
        for kind in WORKER_KINDS:
            subject = f"worker:{worker_id}"
            try:
                points = await self._changes.between(
                    f"{subject}:{kind}", Axis.ALARM, now_us, UtcMicros(now_us + 1)
                )
            except VspError as error:
                log.error("alarms of before not read", subject=subject, error=error.message)
                return
            if points and points[-1].state == RAISED:
                last = points[-1]
                alarm = Alarm(kind, subject, last.at_us, last.cause)
                self._raised[f"{subject}:{kind}"] = alarm

    async def _set(self, kind: str, subject: str, active: Mapping[str, str]) -> None:
        name = f"{subject}:{kind}"
        raised, known = kind in active, self._raised.get(name)
        if raised == (known is not None):
            return
        alarm = known or Alarm(kind, subject, self._clock.now_us(), active[kind])
        if raised:
            self._raised[name] = alarm
        else:
            del self._raised[name]
        count = sum(1 for each in self._raised.values() if each.kind == kind)
        self._metrics.gauge("vsp_alarms", count, kind=kind)
        if self.on_alarm is not None:
            self.on_alarm(alarm, raised)
        state = RAISED if raised else OVER
        point = ChangePoint(name, Axis.ALARM, self._clock.now_us(), state, alarm.cause)
        try:
            await self._changes.append([point])
        except VspError as error:
            # The disk that is full may be the database's own: the alarm stands all the same.
            log.error("alarm not written", alarm=name, state=state, error=error.message)


__all__ = ["Alarm", "Alarms"]
