"""Time and chance in the test's hand."""

from __future__ import annotations

from vsp.model.ids import UtcMicros

SECOND_US = 1_000_000


class ManualClock:
    """A wall clock that moves only when told."""

    def __init__(self, now_us: int = 1_700_000_000 * SECOND_US) -> None:
        self.wall_us = now_us

    def now_us(self) -> UtcMicros:
        return UtcMicros(self.wall_us)

    def monotonic(self) -> float:
        return self.wall_us / SECOND_US

    def advance(self, seconds: float) -> None:
        self.wall_us += int(seconds * SECOND_US)


class CountingIds:
    """Identifiers 1, 2, 3, ..., as long as real ones."""

    def __init__(self) -> None:
        self._last = 0

    def token(self, n_bytes: int = 16) -> str:
        return f"{self.number(0):0{2 * n_bytes}x}"

    def number(self, below: int) -> int:
        self._last += 1
        return self._last % below if below else self._last

    def row_id(self) -> str:
        return f"{self.number(0):028x}"
