"""Time and randomness, the two inputs that make a run differ from the next.

Everything that needs them takes a `Clock` or an `Ids` (ports.py); only this file touches the
operating system's. Wall time is `UtcMicros`, for rows, tickets and people. Timers are monotonic
seconds called `now`. The two are never mixed: a step of the wall clock moves no timer.
"""

from __future__ import annotations

import os
import secrets
import time

from vsp.model.ids import UtcMicros

MICROS = 1_000_000


class SystemClock:
    """The machine's clocks."""

    def now_us(self) -> UtcMicros:
        """Wall time, microseconds since 1970 in UTC."""
        return UtcMicros(time.time_ns() // 1000)

    def monotonic(self) -> float:
        """Seconds that never step; for timers only."""
        return time.monotonic()


class SystemIds:
    """Unpredictable identifiers; a seeded twin lives in simulators/chance.py."""

    def token(self, n_bytes: int = 16) -> str:
        """`n_bytes` of randomness as lower-case hex."""
        return secrets.token_hex(n_bytes)

    def number(self, below: int) -> int:
        """A uniform integer in [0, below)."""
        return secrets.randbelow(below)

    def row_id(self) -> str:
        """An identifier that sorts by creation time: 48 bits of milliseconds, 64 random bits."""
        return f"{time.time_ns() // 1_000_000:012x}{os.urandom(8).hex()}"


__all__ = ["MICROS", "SystemClock", "SystemIds"]
