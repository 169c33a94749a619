"""What makes one run differ from the next: identifiers and the clock, both replaceable.

`SeededIds` is the repeatable twin of `vsp.clock.SystemIds`: the same seed gives the same tags,
branches, SSRCs and jitter in the same order. `SkewedClock` is a device whose clock is wrong.
"""

from __future__ import annotations

import random

from vsp.clock import MICROS
from vsp.model.ids import UtcMicros
from vsp.ports import Clock


class SeededIds:
    """Identifiers from a seed. Not for secrets."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)
        self._rows = 0

    def token(self, n_bytes: int = 16) -> str:
        """`n_bytes` as lower-case hex."""
        return self._random.randbytes(n_bytes).hex()

    def number(self, below: int) -> int:
        """A uniform integer in [0, below)."""
        return self._random.randrange(below)

    def row_id(self) -> str:
        """Sorts by order of creation: a counter, then 64 random bits."""
        self._rows += 1
        return f"{self._rows:012x}{self.token(8)}"


class SkewedClock:
    """A clock that is `skew_s` ahead of another (negative: behind). Timers are not touched."""

    def __init__(self, base: Clock, skew_s: float) -> None:
        self._base = base
        self._skew_us = round(skew_s * MICROS)

    def now_us(self) -> UtcMicros:
        """Wall time as this device believes it to be."""
        return UtcMicros(self._base.now_us() + self._skew_us)

    def monotonic(self) -> float:
        """Seconds that never step; for timers only."""
        return self._base.monotonic()


__all__ = ["SeededIds", "SkewedClock"]
