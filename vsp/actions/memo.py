"""A few seconds of memory for facts that lists ask again and again. Bounded in age and number."""

from __future__ import annotations

from typing import Generic, TypeVar

from vsp.ports import Clock

K = TypeVar("K")
V = TypeVar("V")

LIFE_S = 5.0
"""How stale a remembered fact may be: about one refresh of an open console."""

ENTRIES_MAX = 20_000
"""Facts kept; when full, everything is forgotten at once, which costs one page of look-ups."""


class Memo(Generic[K, V]):
    """Remembers values for `life_s`."""

    def __init__(self, clock: Clock, life_s: float = LIFE_S) -> None:
        self._clock = clock
        self._life_s = life_s
        self._values: dict[K, tuple[float, V]] = {}

    def get(self, key: K) -> V | None:
        found = self._values.get(key)
        if found is None or self._clock.monotonic() - found[0] >= self._life_s:
            return None
        return found[1]

    def put(self, key: K, value: V) -> None:
        if len(self._values) >= ENTRIES_MAX:
            self._values.clear()
        self._values[key] = (self._clock.monotonic(), value)

    def drop(self, key: K) -> None:
        self._values.pop(key, None)
