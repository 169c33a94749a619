"""Stores that answer late, twice or never: any storage port behind a bad line.

    segments = Unreliable(store.segments, "segments", mood, world)

Each call travels for a while, is done, and its answer travels back. What can go wrong is drawn from
the seed: it is refused before anything was done; it was done and the answer is lost; it never comes
and nobody knows; it is done a second time a little later, as by a client that repeats it. Whoever
calls sees `Unavailable` and nothing more, as from a real driver.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from simulators.world.loop import VirtualLoop, require_alive
from simulators.world.trace import Trace
from vsp.errors import Unavailable, VspError

TIMEOUT_S = 5.0
"""After this long without an answer a client gives up; real ones wait up to 30 s."""

LATE_S = 8.0
"""A call that nobody waits for any more is done within this, or never."""


@dataclass(frozen=True, slots=True)
class Mood:
    """How a store is now: mean time of a call, and the chance of each thing that goes wrong."""

    delay_s: float = 0.002
    refused: float = 0.0
    answer_lost: float = 0.0
    never: float = 0.0
    twice: float = 0.0
    down: bool = False


GOOD = Mood()


class Temper:
    """The mood of a store, set from outside."""

    def __init__(self, loop: VirtualLoop, trace: Trace, seed: int | str) -> None:
        self.mood = GOOD
        self.loop = loop
        self.trace = trace
        self.random = random.Random(f"stores/{seed}")
        self.mishaps: dict[str, int] = {}

    def refuses(self, what: str) -> bool:
        """Whether it does not take this one at all."""
        mood = self.mood
        if mood is GOOD or not (mood.down or self.random.random() < mood.refused):
            return False
        self.mishap("refused", what)
        return True

    def mishap(self, kind: str, what: str) -> None:
        self.mishaps[kind] = self.mishaps.get(kind, 0) + 1
        self.trace.say(self.loop.now, kind, what)


class Unreliable:
    """A port of which every coroutine method goes over the line; the others are as they were.

    observe  told of each call that was done: its method, arguments and result
    """

    def __init__(
        self,
        port: object,
        name: str,
        temper: Temper,
        observe: Mapping[str, Callable[..., None]] | None = None,
    ) -> None:
        self._port = port
        self._name = name
        self._temper = temper
        self._observe = observe or {}

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - any method of any port
        found = getattr(self._port, method)
        made: Any = found
        if inspect.iscoroutinefunction(found):
            made = partial(self._call, found, f"{self._name}.{method}", self._observe.get(method))
        setattr(self, method, made)
        return made

    async def _call(
        self,
        call: Callable[..., Coroutine[Any, Any, object]],
        what: str,
        observe: Callable[..., None] | None,
        *arguments: object,
        **named: object,
    ) -> object:
        temper = self._temper
        mood, draw = temper.mood, temper.random.random
        await asyncio.sleep(mood.delay_s * draw())
        if temper.refuses(what):
            raise Unavailable(f"{what}: the store does not answer")
        mood = temper.mood
        if mood is not GOOD and draw() < mood.never:
            await self._never(call, what, observe, arguments, named)
        result = await call(*arguments, **named)
        require_alive()
        if observe is not None:
            observe(arguments, named, result)
        temper.trace.say(temper.loop.now, what)
        if mood is GOOD:
            return result
        if draw() < mood.twice:
            temper.mishap("twice", what)
            self._again_later(call, observe, arguments, named)
        if draw() < mood.answer_lost:
            temper.mishap("answer lost", what)
            await asyncio.sleep(TIMEOUT_S)
            raise Unavailable(f"{what}: no answer within {TIMEOUT_S:g} s")
        await asyncio.sleep(mood.delay_s * draw())
        return result

    async def _never(
        self,
        call: Callable[..., Coroutine[Any, Any, object]],
        what: str,
        observe: Callable[..., None] | None,
        arguments: tuple[object, ...],
        named: Mapping[str, object],
    ) -> None:
        """The caller gives up; the call may still be done, later than that."""
        self._temper.mishap("never", what)
        if self._temper.random.random() < 0.5:
            self._again_later(call, observe, arguments, named)
        await asyncio.sleep(TIMEOUT_S)
        raise Unavailable(f"{what}: no answer within {TIMEOUT_S:g} s")

    def _again_later(
        self,
        call: Callable[..., Coroutine[Any, Any, object]],
        observe: Callable[..., None] | None,
        arguments: tuple[object, ...],
        named: Mapping[str, object],
    ) -> None:
        loop = self._temper.loop
        when = loop.now + self._temper.random.random() * LATE_S
        loop.post_at(when, partial(self._do_now, call, observe, arguments, named))

    def _do_now(
        self,
        call: Callable[..., Coroutine[Any, Any, object]],
        observe: Callable[..., None] | None,
        arguments: tuple[object, ...],
        named: Mapping[str, object],
    ) -> None:
        """The store does it, whether anybody still cares or not."""
        try:
            result = run_through(call(*arguments, **named))
        except VspError:
            return
        if observe is not None:
            observe(arguments, named, result)


def run_through(work: Coroutine[Any, Any, object]) -> object:
    """The result of a coroutine that never waits, as those of stores in memory."""
    try:
        work.send(None)
    except StopIteration as done:
        result: object = done.value
        return result
    work.close()
    raise AssertionError("a store in memory waited for something")


__all__ = ["GOOD", "Mood", "Temper", "Unreliable", "run_through"]
