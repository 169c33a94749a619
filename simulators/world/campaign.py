"""Many lives of the world: each in a process of its own, so that nothing of one is left for the
next, and a few of them twice, to see that the same seed lives the same life.

A campaign holds when no life has findings, when enough happened in each, and when every crash point
was hit in one of them at least.
"""

from __future__ import annotations

import gc
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from simulators.world.weeks import Weeks, WeeksScale
from simulators.world.world import Report, Scale, World
from vsp.faults import Point

AnyScale = Scale | WeeksScale

LIFE_S_MAX = 7200.0
"""A life that takes longer than this is stuck: a day takes a quarter of an hour, and three times
that on a busy machine; a full one a minute or two."""

FINDINGS_SHOWN = 12
"""Of each life."""


@dataclass(slots=True)
class Campaign:
    """What has been found so far."""

    scale: AnyScale
    lives: int = 0
    failed: list[int] = field(default_factory=list)
    points: Counter[str] = field(default_factory=Counter)
    events: int = 0
    pictures: int = 0
    deaths: int = 0
    excused: Counter[str] = field(default_factory=Counter)
    lost_s: float = 0.0
    cpu_s: float = 0.0

    def add(self, report: Report) -> None:
        """One more life."""
        self.lives += 1
        if report.findings:
            self.failed.append(report.seed)
        self.points.update(report.points)
        self.excused.update(report.excused)
        self.events += report.events
        self.pictures += report.pictures
        self.deaths += report.deaths
        self.lost_s = max(self.lost_s, report.lost_s)
        self.cpu_s += report.cpu_s

    @property
    def missed(self) -> list[str]:
        """Crash points at which nobody has died."""
        return [point.value for point in Point if not self.points[point.value]]

    def figures(self) -> dict[str, object]:
        """For a judge."""
        return {
            "scale": self.scale.name,
            "lives": self.lives,
            "failed": self.failed,
            "missed_points": self.missed,
            "events": self.events,
            "pictures": self.pictures,
            "deaths": self.deaths,
            "points": dict(sorted(self.points.items())),
            "excused": dict(sorted(self.excused.items())),
            "received_and_lost_s": round(self.lost_s, 3),
            "cpu_s": round(self.cpu_s, 1),
        }


def run(
    seeds: Iterable[int],
    scale: AnyScale,
    jobs: int,
    twice: int,
    say: Callable[[str], None],
    *,
    one_is_enough: bool = False,
) -> Campaign:
    """All of them, `jobs` at a time; the first `twice` of them are lived a second time.

    one_is_enough  end at the first life that fails
    """
    wanted = list(seeds)
    campaign, hashes = Campaign(scale), dict[int, str]()
    gc.collect()
    gc.freeze()
    for report in lives([*wanted, *wanted[:twice]], scale, jobs):
        before = hashes.setdefault(report.seed, report.hash)
        if before != report.hash:
            found = f"lived twice, and not the same: {before} and {report.hash}"
            report = replace(report, findings=[*report.findings, found])
        campaign.add(report)
        say(line_of(report))
        for finding in report.findings[:FINDINGS_SHOWN]:
            say(f"    {finding}")
        if one_is_enough and campaign.failed:
            break
    return campaign


def lives(seeds: Sequence[int], scale: AnyScale, jobs: int) -> Iterator[Report]:
    """Reports as they come, in any order. Who stops asking ends those that are being lived."""
    waiting, running = list(reversed(seeds)), dict[int, _Life]()
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                life = _begin(waiting.pop(), scale)
                running[life.pipe] = life
            ready, _, _ = select.select([*running], [], [], 1.0)
            for pipe in ready:
                data = os.read(pipe, 1 << 20)
                running[pipe].said += data
                if not data:
                    yield _end(running.pop(pipe))
            for life in running.values():
                if time.monotonic() > life.kill_at:
                    life.kill()
    finally:
        for life in running.values():
            life.kill()
            _end(life)


@dataclass(slots=True)
class _Life:
    seed: int
    scale: AnyScale
    pid: int
    pipe: int
    kill_at: float
    said: bytearray = field(default_factory=bytearray)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.kill_at = float("inf")


def _begin(seed: int, scale: AnyScale) -> _Life:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        # Never back into the caller; what tasks are left must not run their last words either.
        os.close(reading)
        try:
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(_lived(seed, scale), pipe)
        finally:
            sys.stderr.flush()
            os._exit(0)
    os.close(writing)
    return _Life(seed, scale, pid, reading, time.monotonic() + LIFE_S_MAX)


def _lived(seed: int, scale: AnyScale) -> Report:
    try:
        world = Weeks(seed, scale) if isinstance(scale, WeeksScale) else World(seed, scale)
        return world.run()
    except BaseException:  # noqa: BLE001 - whatever it was, the campaign is told
        return _nothing(seed, scale, f"the world ended early:\n{traceback.format_exc()}")


def _end(life: _Life) -> Report:
    os.close(life.pipe)
    _, status = os.waitpid(life.pid, 0)
    if not life.said:
        return _nothing(life.seed, life.scale, f"its process ended with {status} and no word")
    report: Report = pickle.loads(bytes(life.said))
    return report


def _nothing(seed: int, scale: AnyScale, finding: str) -> Report:
    return Report(seed=seed, scale=scale, findings=[finding])


def line_of(report: Report) -> str:
    """A life in a line: what happened, the least that must beside it."""
    scale = report.scale
    return (
        f"{scale.name} {report.seed}: "
        f"{'FAILED' if report.findings else 'holds'}, "
        f"{report.events} events (min {scale.events}), "
        f"{sum(report.blows.values())} blows (min {scale.blows}), "
        f"{sum(report.points.values())} crash points (min {scale.points}), "
        f"{report.deaths} deaths, {report.pictures} pictures, "
        f"lost {report.lost_s:.2f} s at most, {report.cpu_s:.1f} s, {report.hash[:12]}"
    )


__all__ = ["Campaign", "line_of", "lives", "run"]
