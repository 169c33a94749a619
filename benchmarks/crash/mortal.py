"""A platform whose processes can be told where to die.

`python -m benchmarks.crash.mortal FOLDER` is `vsp run`, but that it starts each child through
simulators/crashing.py; plans and the hit log lie in FOLDER. The substitution is made here, from
outside: the product has no place where one could ask for it. `MortalPlatform` is the harness's end.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from simulators.crashing import REARM, Hit, Sentence
from tests.e2e.platform import Platform, until
from vsp import run
from vsp.config import Config, load
from vsp.faults import Point
from vsp.processes import hold
from vsp.rundir import read_record
from vsp.supervisor import Child, python


def plan_file(folder: Path, process: str) -> Path:
    return folder / f"{process}.plan"


def hit_log(folder: Path, process: str) -> Path:
    return folder / f"{process}.hits"


def mortal(child: Child, folder: Path) -> Child:
    """The same child, run by simulators/crashing.py."""
    _, _, *words = child.argv  # interpreter, -m
    plan, hits = plan_file(folder, child.name), hit_log(folder, child.name)
    files = ("--plan", str(plan), "--hits", str(hits))
    return replace(child, argv=python("simulators.crashing", *files, *words))


@dataclass(frozen=True, slots=True)
class Death:
    """When a process died (wall time), and which."""

    at_us: int
    pid: int


class MortalPlatform(Platform):
    """`Platform` with a death for each of its processes, by point or by signal."""

    def __init__(self, folder: Path, *, settings: dict[str, str], port_first: int) -> None:
        self.deaths = folder / "deaths"
        self._deaths_seen: Counter[str] = Counter()
        super().__init__(
            folder,
            module="benchmarks.crash.mortal",
            command=(str(self.deaths),),
            settings=settings,
            port_first=port_first,
        )

    async def start(self, timeout_s: float = 120.0) -> None:
        self.deaths.mkdir(parents=True, exist_ok=True)
        await super().start(timeout_s)

    def plan(self, process: str, sentence: Sentence) -> None:
        """For the next start of the process; the one that runs does not look."""
        sentence.write(plan_file(self.deaths, process))

    def arm(self, process: str, sentence: Sentence) -> None:
        """For the process that runs."""
        self.plan(process, sentence)
        self._signal(process, REARM)

    def disarm(self, process: str) -> None:
        plan_file(self.deaths, process).unlink(missing_ok=True)
        self._signal(process, REARM)

    def strike(self, process: str) -> Death:
        """SIGKILL, now."""
        pid = self.pid(process)
        assert pid is not None, f"{process} does not run"
        death = Death(time.time_ns() // 1000, pid)
        self._signal(process, signal.SIGKILL)
        return death

    async def strike_supervisor(self) -> Death:
        """SIGKILL for whoever restarts the others; then another is started by hand."""
        assert self.process is not None
        death = Death(time.time_ns() // 1000, self.process.pid)
        self.process.kill()
        await self.process.wait()
        self._let_go()
        await self.start()
        return death

    def _signal(self, process: str, number: signal.Signals) -> None:
        """To that very process: its number may be another's by the time it has died."""
        record = read_record(self.data / "run", process)
        held = hold(record.process) if record else None
        if held is not None:
            held.send(number)
            held.close()

    async def dead_at(self, process: str, point: Point, timeout_s: float) -> Death:
        """Wait for a death that nobody has asked for yet."""
        log = hit_log(self.deaths, process)

        async def probe() -> Death | None:
            new = Hit.read_all(log)[self._deaths_seen[process] :]
            return Death(new[0].at_us, new[0].pid) if new else None

        death = await until(f"{process} dies at {point}", probe, timeout_s)
        self._deaths_seen[process] += 1
        return death

    async def restarted(self, process: str, pid: int, timeout_s: float) -> None:
        """Wait until another process than `pid` stands in its place."""

        async def probe() -> bool:
            return self.pid(process) not in {None, pid}

        await until(f"{process} started again", probe, timeout_s)


def main() -> int:
    folder = Path(sys.argv[1])
    children_of = run.platform_children

    def mortal_children(config: Config, roles: Sequence[str]) -> list[Child]:
        return [mortal(child, folder) for child in children_of(config, roles)]

    run.platform_children = mortal_children
    return asyncio.run(run.run(load(), run.NODE_ROLES))


if __name__ == "__main__":
    sys.exit(main())
