"""A process of the platform that ends itself as `kill -9` would, at a named point of vsp/faults.py.

  python -m simulators.crashing --plan FILE --hits FILE vsp.worker --index 0

runs `vsp.worker --index 0` as ever, but for a plan that is laid first. FILE of `--plan` is read
when the process starts and again at each SIGUSR2: JSON, the point and which pass of it is the last.

  {"point": "part.put", "passes": 3}

No file means no plan. Before it ends, the process writes a line to the hit log (`Hit`), has it on
disk, and removes the plan, so that whoever is started in its place does not die of it too. Both
files belong outside the data directory: what is judged holds nothing of the judge's.

It is no part of the product. Who does not start a process through this page cannot lay a plan
(tests/architecture).
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vsp.faults import Point, lay

REARM = signal.SIGUSR2


@dataclass(frozen=True, slots=True)
class Sentence:
    """Where to die: on the `passes`-th pass of `point`, counted from when the plan was read."""

    point: Point
    passes: int = 1

    def write(self, path: Path) -> None:
        """Whole or not at all: the reader may look at any moment."""
        made = path.with_suffix(".new")
        made.write_text(json.dumps(asdict(self)), "ascii")
        made.replace(path)

    @classmethod
    def read(cls, path: Path) -> Sentence | None:
        """None when there is no plan."""
        try:
            said = json.loads(path.read_text("ascii"))
        except FileNotFoundError:
            return None
        return cls(Point(said["point"]), int(said["passes"]))


@dataclass(frozen=True, slots=True)
class Hit:
    """One death, as the process wrote it down just before."""

    point: Point
    pid: int
    monotonic_s: float
    at_us: int

    @classmethod
    def read_all(cls, path: Path) -> list[Hit]:
        """Every whole line of a hit log, in order."""
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        said = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [cls(**{**fields, "point": Point(fields["point"])}) for fields in said]


class Executioner:
    """The plan of one process. Points are reached in any of its threads."""

    def __init__(self, plan: Path, hits: Path) -> None:
        self._plan = plan
        self._hits = os.open(hits, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._lock = threading.Lock()
        self._sentence: Sentence | None = None
        self._passed = 0

    def read_plan(self) -> None:
        """From now on this plan holds. Takes no lock: a signal may come while a point has it."""
        self._passed = 0
        self._sentence = Sentence.read(self._plan)

    def reached(self, point: Point) -> None:
        sentence = self._sentence
        if sentence is None or point is not sentence.point:
            return
        with self._lock:
            self._passed += 1
            if self._passed == sentence.passes:
                self._execute(point)

    def _execute(self, point: Point) -> None:
        hit = Hit(point, os.getpid(), time.monotonic(), time.time_ns() // 1000)
        os.write(self._hits, json.dumps(asdict(hit)).encode() + b"\n")
        os.fsync(self._hits)
        self._plan.unlink(missing_ok=True)
        os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m simulators.crashing", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--plan", type=Path, required=True, help="where to die; read, then removed")
    parser.add_argument("--hits", type=Path, required=True, help="deaths are appended to this file")
    parser.add_argument("module", help="what to run, such as vsp.worker")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="its own arguments")
    said = parser.parse_args(arguments)
    executioner = Executioner(said.plan, said.hits)
    signal.signal(REARM, lambda *_: executioner.read_plan())
    executioner.read_plan()
    lay(executioner.reached)
    sys.argv[1:] = said.rest
    runpy.run_module(said.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
