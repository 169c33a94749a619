"""Seconds from `vsp demo` to its ready line, warm: packages installed, clips encoded.

Each repetition has an empty data folder, so keys, tables and the first user are made each time. The
first run is not counted: it may encode clips and fill the page cache.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

from benchmarks.figure import Figure
from benchmarks.running import platform

REPETITIONS = 5
BAR_S = 15.0


def measure() -> list[Figure]:
    asyncio.run(_start_s())
    times = [asyncio.run(_start_s()) for _ in range(REPETITIONS)]
    note = "vsp demo --cameras 8, empty data folder, until a user has signed in"
    return [Figure("startup", median(times), "s", len(times), bar=BAR_S, note=note)]


async def _start_s() -> float:
    began = time.perf_counter()
    async with platform("demo", "--cameras", "8"):
        return time.perf_counter() - began
