"""One timer for every stream of the process.

Each source says when its next frame is due and is asked to send it then. All sources that are due
share one wake-up, which is most of them: frames sit on a grid of wall-clock time.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Protocol

from vsp.clock import MICROS
from vsp.ports import Clock

SLEEP_S_MAX = 0.25
"""The wall clock is looked at this often at least, so that a step of it is noticed."""


class Paced(Protocol):
    """Something that sends by the clock."""

    def due_us(self) -> int:
        """Wall time of the next thing to send."""
        ...

    def emit(self, now_us: int) -> None:
        """Send everything due at `now_us`; afterwards `due_us` lies ahead. Never raises."""
        ...


class Pacer:
    """Wakes sources in order of their due time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._heap: list[tuple[int, int, Paced]] = []
        self._live: set[int] = set()
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, source: Paced) -> None:
        """Begin with `source`."""
        self._live.add(id(source))
        heapq.heappush(self._heap, (source.due_us(), next(self._order), source))
        self._arm()

    def remove(self, source: Paced) -> None:
        """Forget `source`; harmless when it is not there."""
        self._live.discard(id(source))
        self._heap = [entry for entry in self._heap if entry[2] is not source]
        heapq.heapify(self._heap)

    def close(self) -> None:
        """Forget everybody."""
        self._heap.clear()
        self._live.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            wait_s = (self._heap[0][0] - self._clock.now_us()) / MICROS
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(min(max(wait_s, 0.0), SLEEP_S_MAX), self._tick)

    def _tick(self) -> None:
        """Ask whoever is due. A source that raises is off the heap by then and not asked again."""
        self._timer = None
        now_us = self._clock.now_us()
        try:
            while self._heap and self._heap[0][0] <= now_us:
                _, order, source = heapq.heappop(self._heap)
                source.emit(now_us)
                if id(source) in self._live:  # it may have been removed meanwhile
                    heapq.heappush(self._heap, (source.due_us(), order, source))
        finally:
            self._arm()


__all__ = ["SLEEP_S_MAX", "Paced", "Pacer"]
