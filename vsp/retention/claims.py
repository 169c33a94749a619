"""Who still works on what: objects and uploads that nobody but their owner may judge or touch.

A worker claims a key from the first byte in its spool until the row is committed, and never comes
back to a key that it has let go. So the order of questions decides: what was seen in the store
before the claims were asked for, is not among them, and has no row when that is asked last, is
without an owner and stays so (tests/retention/test_claims.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from vsp.errors import Unavailable
from vsp.model.ids import UtcMicros
from vsp.ports import Clock, MediaControl

END_OF_TIME_US = UtcMicros((1 << 63) - 1)

ANSWER_WITHIN_S = 10.0
"""Longest wait for one worker; one that reads the spool of an earlier life answers after that."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """before_us: only what began before it can be without an owner."""

    keys: frozenset[str]
    before_us: UtcMicros = END_OF_TIME_US

    def spares(self, key: str, began_us: UtcMicros) -> bool:
        """Whether it is to be left alone."""
        return key in self.keys or began_us >= self.before_us


Claims = Callable[[], Awaitable[Claimed]]
"""All claims of now. Raises Unavailable when somebody who may have some cannot be asked."""


class WorkerClaims:
    """What these workers say, each of them; young things are left alone whatever they say.

    grace_s  below this age nothing is without an owner: rows that are still on their way would
             overlap with one that is made of the end of a run before them
    """

    def __init__(self, workers: Sequence[MediaControl], clock: Clock, grace_s: float) -> None:
        self._workers = workers
        self._clock = clock
        self._grace_us = round(grace_s * 1_000_000)

    async def __call__(self) -> Claimed:
        held = await asyncio.gather(*(self._held(worker) for worker in self._workers))
        before_us = UtcMicros(self._clock.now_us() - self._grace_us)
        return Claimed(frozenset().union(*held), before_us)

    async def _held(self, worker: MediaControl) -> Sequence[str]:
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await worker.held_keys()
        except TimeoutError as error:
            raise Unavailable(
                f"media worker {worker.worker_id} does not say what it works on"
            ) from error


__all__ = ["END_OF_TIME_US", "Claimed", "Claims", "WorkerClaims"]
