"""Hours of the demo, sampled each minute: `make soak`, SOAK_S=60 for a try.

Fails when a process of ours grows by more than 2 % an hour after the warm-up, gathers files or
threads, is restarted, or when a channel has a gap that nobody ordered. In a run that is too short
for a slope growth is reported and not judged. Tasks of a loop cannot be seen from outside.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.figure import Figure, table
from benchmarks.running import Platform, open_files, pids, platform, resident_bytes, threads

SOAK_S = float(os.environ.get("SOAK_S", "14400"))
CAMERAS = 12
CHANNELS = CAMERAS + 4
SAMPLE_S = min(60.0, SOAK_S / 12)
WARM_UP_SHARE = 0.25
JUDGED_S_MIN = 1800.0
"""Shorter than this a slope says more about the page cache than about us."""
GROWTH_BAR = 2.0
SLACK = 4
"""Files or threads more or less: a request, a segment that is being shipped."""
ORDERED = frozenset({"not_planned"})
"""Causes of gaps that are no fault: somebody wanted it so."""


@dataclass(slots=True)
class Samples:
    """What one process looked like, oldest first."""

    pid: int
    at_s: list[float] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def take(self, at_s: float) -> None:
        self.at_s.append(at_s)
        self.resident.append(resident_bytes(self.pid))
        self.files.append(open_files(self.pid))
        self.threads.append(threads(self.pid))

    def settled(self) -> Samples:
        """Without the warm-up."""
        first = int(len(self.at_s) * WARM_UP_SHARE)
        kept = (self.at_s, self.resident, self.files, self.threads)
        return Samples(self.pid, *(list(values[first:]) for values in kept))  # type: ignore[arg-type]


def growth_percent_per_h(at_s: Sequence[float], values: Sequence[int]) -> float:
    """Slope of the least-squares line, against its mean."""
    n = len(values)
    mean_t, mean = sum(at_s) / n, sum(values) / n
    spread = sum((t - mean_t) ** 2 for t in at_s)
    if not spread:
        return 0.0
    slope = sum((t - mean_t) * (v - mean) for t, v in zip(at_s, values, strict=True)) / spread
    return slope * 3600 / mean * 100


async def soak() -> list[Figure]:
    async with platform("demo", "--cameras", str(CAMERAS)) as running:
        await running.channels_playing(CHANNELS, 120)
        began, started = time.monotonic(), datetime.now(UTC)
        seen = {name: Samples(pid) for name, pid in pids(running).items()}
        restarts: set[str] = set()
        while (at_s := time.monotonic() - began) < SOAK_S:
            now = pids(running)
            restarts |= {name for name, samples in seen.items() if now.get(name) != samples.pid}
            for name in seen.keys() - restarts:
                seen[name].take(at_s)
            print(_line(at_s, seen, restarts), file=sys.stderr, flush=True)
            await asyncio.sleep(min(SAMPLE_S, SOAK_S - at_s))
        gaps = await _gaps(running, started)
    return _figures(seen, restarts, gaps)


def _line(at_s: float, seen: dict[str, Samples], restarts: set[str]) -> str:
    parts = [
        f"{name} {samples.resident[-1] >> 20} MB {samples.files[-1]} files"
        for name, samples in seen.items()
        if samples.at_s
    ]
    ended = f"; restarted: {', '.join(sorted(restarts))}" if restarts else ""
    return f"{at_s:6.0f} s  {', '.join(parts)}{ended}"


async def _gaps(running: Platform, started: datetime) -> list[dict[str, Any]]:
    """Gaps of every channel since the start that nobody ordered."""
    now = datetime.now(UTC) - timedelta(seconds=5)  # what is under way is no gap yet
    found = []
    for channel in await running.items("/channels"):
        answer = await running.get(
            f"/channels/{channel['id']}/timeline",
            **{"from": started.isoformat(), "to": now.isoformat()},
        )
        gaps = [gap for gap in answer.body["gaps"] if gap["cause"] not in ORDERED]
        found += [{"channel": channel["name"], **gap} for gap in gaps]
        if not answer.body["spans"]:
            found.append({"channel": channel["name"], "cause": "no recording at all"})
    return found


def _figures(
    seen: dict[str, Samples], restarts: set[str], gaps: list[dict[str, Any]]
) -> list[Figure]:
    for gap in gaps:
        print(f"gap: {gap}", file=sys.stderr)
    figures = [
        Figure("soak.gaps", len(gaps), "gaps", CHANNELS, bar=0, note=f"{SOAK_S:g} s"),
        Figure("soak.restarts", len(restarts), "processes", len(seen), bar=0),
    ]
    judged = SOAK_S * (1 - WARM_UP_SHARE) >= JUDGED_S_MIN
    for name in sorted(seen.keys() - restarts):
        settled = seen[name].settled()
        ours = name != "simulators"
        growth = growth_percent_per_h(settled.at_s, settled.resident)
        files = max(settled.files[-1] - settled.files[0], settled.threads[-1] - settled.threads[0])
        n = len(settled.at_s)
        bar = GROWTH_BAR if judged and ours else None
        figures.append(Figure(f"soak.growth-{name}", growth, "%/h", n, bar=bar))
        figures.append(Figure(f"soak.files-{name}", files, "more", n, bar=SLACK if ours else None))
    return figures


def main() -> int:
    figures = asyncio.run(soak())
    print(table(figures), end="\n\n")
    for figure in figures:
        print(figure.line())
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
