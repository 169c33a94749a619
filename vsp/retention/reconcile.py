"""The reconciler of rows and objects: no orphan and no abandoned upload stays, whatever died when.

It is a check (`check.py`, level presence) that mends, in turns. Each turn looks at every upload
under way and at some thousand keys, a few at a time, and goes on where the turn before has ended;
at the end of all keys it begins again. A turn changes nothing while any worker cannot say what it
works on. What is lost cannot be mended: it is counted and raised as an alarm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import structlog

from vsp.errors import VspError
from vsp.ports import Clock, Metrics
from vsp.retention.check import Check, Finding, Kind, Level, Sources, Stage, State, Steps

log = structlog.get_logger(__name__)

FIRST_S = 20.0
"""Before the first turn: by then workers have read what they left in their spools."""

AGAIN_S = 20.0
"""After a turn that could not be done: a worker that was killed answers again by then."""

KEYS_PER_TURN = 20_000
"""At one turn in ten minutes 2.9 million keys a day: twice what 1,000 cameras add."""

KEYS_AT_ONCE = 100
PAUSE_S = 0.05
"""Signalling has its turn after so many keys, which take some milliseconds."""

MENDED_PER_TURN = 200
"""Mends, each some fsyncs; the rest waits for the next turn."""

READ_PER_TURN_BYTES = 2 << 30
"""Read of objects to make their rows, also in vain: the disk is for recording."""

TOLD_MAX = 10_000
"""Findings remembered as logged (2 MB), so that one that stays is not logged each round; then all
are forgotten."""


class Reconciler:
    """`turn` is one; `run` is one shortly after the start and then every `period_s`.

    on_lost  told after each turn that knows better what is lost now: a sentence, or ""
    """

    def __init__(
        self, *, sources: Sources, clock: Clock, metrics: Metrics, period_s: float
    ) -> None:
        self.on_lost: Callable[[str], Awaitable[None]] | None = None
        self._sources = sources
        self._clock = clock
        self._metrics = metrics
        self._period_s = period_s
        self._round = self._new_round()
        self._lost = 0
        self._told: set[tuple[Kind, str]] = set()

    def _new_round(self) -> State:
        return State(Level.PRESENCE, mend=True, began_us=self._clock.now_us(), by="reconciler")

    async def run(self) -> None:
        """For ever; a turn that fails is logged and begins again where it was."""
        await asyncio.sleep(FIRST_S)
        while True:
            done = await self._try()
            await asyncio.sleep(self._period_s if done else min(AGAIN_S, self._period_s))

    async def _try(self) -> bool:
        try:
            await self.turn()
        except VspError as error:
            log.info("rows and objects not reconciled", why=error.message, cause=error.cause)
        except Exception:
            log.exception("rows and objects not reconciled")
        else:
            return True
        return False

    async def turn(self) -> None:
        """Every upload, and the keys that are next."""
        begun = replace(self._new_round(), stage=Stage.UPLOADS)
        check = Check(self._sources, begun)
        await self._paced(check, check.uploads(), 1)
        self._tell(begun, check.state)

        check = Check(self._sources, self._round)
        ended = await self._paced(check, check.segments(), KEYS_AT_ONCE)
        self._tell(self._round, check.state)
        self._round = check.state
        await self._tell_lost(ended)
        if ended:
            self._round = self._new_round()

    async def _paced(self, check: Check, steps: Steps, at_once: int) -> bool:
        """Whether all of it could be done."""
        done, mended, read = 0, check.mended, check.cost.bytes_read
        async with aclosing(steps):
            async for _ in steps:
                done += 1
                if (
                    done >= KEYS_PER_TURN
                    or check.mended - mended >= MENDED_PER_TURN
                    or check.cost.bytes_read - read >= READ_PER_TURN_BYTES
                ):
                    return False
                if done % at_once == 0:
                    await asyncio.sleep(PAUSE_S)
        return True

    def _tell(self, before: State, after: State) -> None:
        """What is new in `after`, to metrics and log."""
        for kind, count in after.counts.items():
            self._metrics.count(
                "vsp_reconcile_findings", count - before.counts.get(kind, 0), kind=kind
            )
        for kind, count in after.mended.items():
            self._metrics.count(
                "vsp_reconcile_mended", count - before.mended.get(kind, 0), kind=kind
            )
        for finding in after.findings[len(before.findings) :]:
            if not self._is_news(finding):
                continue
            log.warning(
                "rows and objects disagree",
                kind=finding.kind,
                key=finding.key,
                cause=finding.cause,
                mended=finding.mended,
            )

    def _is_news(self, finding: Finding) -> bool:
        told = (finding.kind, finding.key)
        if told in self._told and not finding.mended:
            return False
        if len(self._told) >= TOLD_MAX:
            self._told.clear()
        self._told.add(told)
        return True

    async def _tell_lost(self, ended: bool) -> None:
        """What is lost: that it is less than before can only be said at the end of a round."""
        lost = self._round.counts.get(Kind.LOST, 0)
        if lost < self._lost and not ended:
            return
        self._lost = lost
        self._metrics.gauge("vsp_objects_lost", lost)
        if self.on_lost is not None and (lost or ended):
            await self.on_lost(self._sentence() if lost else "")

    def _sentence(self) -> str:
        keys = (found.key for found in self._round.findings if found.kind is Kind.LOST)
        key = next(keys, "…")
        return f"录像的对象丢失，如 {key} recordings have lost their object, such as {key}"


__all__ = ["Reconciler"]
