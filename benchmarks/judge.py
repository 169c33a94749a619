"""Everything that is promised, in one report: `make judge`, or a part of it: PART=crash.

    bench          every figure of benchmarks/
    crash          1,000 deaths of a platform that records (benchmarks/crash)
    world-small-1  2,500 seeds of the small virtual world
    world-small-2  2,440 more
    world-full     60 seeds of the full one; 5,000 in all
    world-weeks    10 seeds of 2,000 cameras and 100 days, by intervals
    mutants        bugs planted into copies of the product, which the small world must find

PART names a part or the first words of several: `world` is all of the worlds. A part takes three
hours at the most on two slow cores. A small life takes 4.5 s of CPU and a full one 115 s, each core
lives one at a time, and some are lived twice: that makes 1.6, 1.6 and 1.1 hours. Five thousand
small ones in one part would take 3.2. The soak is not in it: `make soak`.

A part is cut into pieces of half an hour or less. Each leaves `judge/<piece>.json`; one that was
finished for this very tree is not run again, so an interrupted judge goes on where it was, and
FRESH=1 begins anew. The report is `judge/report.json`.

A machine may be taken away from us meanwhile. When more than 5 % of its time was stolen
(proc(5), stat) during a piece that measures time, its figures are void: it is run again once, and
both runs stay in the result. What a piece found besides its figures counts in any case, so a piece
that failed on a quiet machine is not run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.__main__ import BENCHMARKS
from benchmarks.figure import ROOT, commit
from vsp.faults import Point

FOLDER = ROOT / "judge"

KILLS, KILLS_OF_PIECE = 1_000, 250
"""250 deaths are five batches (benchmarks/crash), which themselves are not run twice."""

STOLEN_MAX = 0.05
"""Share of the machine's time above which figures say more of its other guests than of us."""

PIECE_S_MAX = 3 * 3600.0
"""A piece that takes as long as a part may is stuck."""

END_S = 20.0
"""For a piece to end its processes once it is told to."""

TAIL_CHARACTERS = 4_000
"""Of each of a piece's outputs, kept in its result."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One command of a part; it holds when it ends with 0.

    timed   its figures are times or costs, which stolen time falsifies
    afresh  what to say besides, so that nothing is taken from an earlier run
    """

    part: str
    name: str
    arguments: tuple[str, ...]
    timed: bool = False
    afresh: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.name}.json"


@dataclass(frozen=True, slots=True)
class Worlds:
    """Seeds `first` to `last` of a scale, in pieces; the first `twice` of each are lived twice."""

    part: str
    scale: str
    first: int
    last: int
    of_piece: int
    twice: int

    def pieces(self) -> Iterator[Piece]:
        for first in range(self.first, self.last + 1, self.of_piece):
            seeds = f"{first}-{min(first + self.of_piece - 1, self.last)}"
            words = f"--scale {self.scale} --seeds {seeds} --jobs 2 --twice {self.twice} --json"
            command = ("-m", "simulators.world", *words.split())
            yield Piece(self.part, f"world-{self.scale}-{seeds}", command)


WORLDS = (
    Worlds("world-small-1", "small", 1, 2_500, of_piece=250, twice=5),
    Worlds("world-small-2", "small", 2_501, 4_940, of_piece=250, twice=5),
    Worlds("world-full", "full", 1, 60, of_piece=10, twice=1),
)


WEEKS = ("-m", "simulators.world", "--scale", "weeks", "--seeds", "1-10", "--twice", "1")


def crash_pieces() -> Iterator[Piece]:
    """Batches of 50, whose seeds count on; the last piece only adds up what the others have run."""
    for first in range(0, KILLS, KILLS_OF_PIECE):
        seed = 1 + first // 50
        words = f"--kills {KILLS_OF_PIECE} --seed {seed}".split()
        command = ("-m", "benchmarks.crash", *words)
        yield Piece("crash", f"crash-{seed}", command, timed=True, afresh=("--fresh",))
    yield Piece("crash", "crash", ("-m", "benchmarks.crash", "--kills", str(KILLS), "--seed", "1"))


PIECES: Sequence[Piece] = (
    *(Piece("bench", f"bench-{name}", ("-m", "benchmarks", name), True) for name in BENCHMARKS),
    *crash_pieces(),
    *(piece for worlds in WORLDS for piece in worlds.pieces()),
    Piece("world-weeks", "world-weeks", WEEKS),
    Piece("mutants", "mutants", ("-m", "tests.world.mutants")),
)
PARTS = tuple(dict.fromkeys(piece.part for piece in PIECES))

Result = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge", description=__doc__)
    parser.add_argument("--part", default=os.environ.get("PART", ""))
    parser.add_argument("--fresh", action="store_true", default=bool(os.environ.get("FRESH")))
    parser.add_argument("--list", action="store_true", help="parts and their pieces")
    said = parser.parse_args(arguments)
    pieces = [piece for piece in PIECES if wanted(piece.part, said.part)]
    if not pieces:
        parser.error(f"no part {said.part!r}; there are {', '.join(PARTS)}")
    if said.list:
        print("\n".join(f"{piece.part:<16}{piece.name}" for piece in pieces))
        return 0
    FOLDER.mkdir(exist_ok=True)
    results = [judged(piece, said.fresh) for piece in pieces]
    report = report_of(results)
    write(FOLDER / "report.json", report)
    print(table(results))
    for worlds in report["worlds"]:
        print(
            f"world {worlds['scale']}: {worlds['lives']} lives, failed {worlds['failed']}, ", end=""
        )
        print(f"points missed {worlds['missed_points']}")
    return 0 if report["holds"] else 1


def wanted(part: str, asked: str) -> bool:
    """Nothing asked is everything."""
    return not asked or part == asked or part.startswith(f"{asked}-")


# ---- one piece ------------------------------------------------------------------------------


def judged(piece: Piece, fresh: bool) -> Result:
    """The kept result for this tree, or a new one."""
    kept = None if fresh else finished(piece)
    if kept is not None:
        return kept
    result = run(piece, piece.afresh if fresh else ())
    if result["void"]:
        result = {**run(piece, piece.afresh), "before": result}
    write(piece.file, result)
    return result


def run(piece: Piece, besides: Sequence[str] = ()) -> Result:
    """Run it, and say what came of it and how much of the machine was stolen meanwhile."""
    print(f"== {piece.name}", flush=True)
    command = (*piece.arguments, *besides)
    began, machine = time.monotonic(), machine_ticks()
    status, output, errors = ended(command)
    stolen = stolen_share(machine, machine_ticks())
    return {
        "part": piece.part,
        "name": piece.name,
        "holds": status == 0,
        "void": piece.timed and stolen > STOLEN_MAX,
        "stolen": round(stolen, 4),
        "took_s": round(time.monotonic() - began, 1),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "tree": tree(),
        "command": " ".join(("python", *command)),
        "figures": [json.loads(x) for x in output.splitlines() if x.startswith('{"name"')],
        "lives": next(
            (json.loads(x) for x in output.splitlines() if x.startswith('{"holds"')), None
        ),
        "output": output[-TAIL_CHARACTERS:],
        "errors": errors[-TAIL_CHARACTERS:],
    }


def ended(command: Sequence[str]) -> tuple[int, str, str]:
    """Exit status and outputs. Whatever happens, nothing that it started is left."""
    process = subprocess.Popen(
        (sys.executable, *command),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=PIECE_S_MAX)
        return process.returncode, output, errors
    except subprocess.TimeoutExpired:
        _end_group(process, signal.SIGINT)
        _end_group(process, signal.SIGKILL)
        output, errors = process.communicate()
        return 1, output, f"{errors}\nended after {PIECE_S_MAX:g} s: it was stuck"
    finally:
        if process.poll() is None:
            _end_group(process, signal.SIGINT)
        _end_group(process, signal.SIGKILL)


def _end_group(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_S)


def machine_ticks() -> list[int]:
    """Of all cores together: user, nice, system, idle, iowait, irq, softirq, steal (proc(5))."""
    first = Path("/proc/stat").read_text().partition("\n")[0]
    return [int(word) for word in first.split()[1:9]]


def stolen_share(before: Sequence[int], after: Sequence[int]) -> float:
    spent = [late - early for early, late in zip(before, after, strict=True)]
    return spent[-1] / (sum(spent) or 1)


def finished(piece: Piece) -> Result | None:
    """What was found for this tree, asked the same way. A void result is no result."""
    try:
        kept: Result = json.loads(piece.file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    command = kept.get("command", "").removesuffix("".join(f" {word}" for word in piece.afresh))
    same = kept.get("tree") == tree() and command == " ".join(("python", *piece.arguments))
    return kept if same and not kept.get("void") else None


@cache
def tree() -> str:
    """What is judged: every file that is or could be committed, by name and bytes."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    digest = hashlib.sha256()
    for name in sorted({*listed.stdout.split(b"\0")} - {b""}):
        path = ROOT / os.fsdecode(name)
        digest.update(name + b"\0")
        if path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def write(path: Path, value: object) -> None:
    """Whole or not at all."""
    made = path.with_suffix(".tmp")
    made.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8")
    made.replace(path)


# ---- all of them ----------------------------------------------------------------------------


def report_of(results: Sequence[Result]) -> Result:
    """Void figures do not hold: the machine was not ours in both runs."""
    worlds = [summed(scale, results) for scale in dict.fromkeys(w.scale for w in WORLDS)]
    worlds = [world for world in worlds if world["lives"]]
    return {
        "commit": commit(),
        "tree": tree(),
        "holds": all(result["holds"] and not result["void"] for result in results)
        and not any(world["missed_points"] for world in worlds),
        "worlds": worlds,
        "pieces": results,
    }


def summed(scale: str, results: Sequence[Result]) -> Result:
    """All lives of a scale: that every crash point was hit is a thing of many of them."""
    said = [r["lives"] for r in results if r["lives"] and r["lives"]["scale"] == scale]
    missed = [point.value for point in Point if all(point in one["missed_points"] for one in said)]
    return {
        "scale": scale,
        **{key: sum(one[key] for one in said) for key in ("lives", "events", "pictures", "deaths")},
        "failed": [seed for one in said for seed in one["failed"]],
        "missed_points": missed,
    }


def table(results: Sequence[Result]) -> str:
    """A line a piece, and below it a line a figure."""
    lines = [f"{'piece':<24}{'verdict':<9}{'took':>8}  {'stolen':>6}  command"]
    for result in results:
        lines.append(
            f"{result['name']:<24}{verdict(result):<9}{result['took_s']:>6.0f} s  "
            f"{result['stolen']:>6.1%}  {result['command']}"
        )
        for figure in result["figures"]:
            peer = f", {figure['ratio']:g}x the peer" if figure["ratio"] is not None else ""
            broken = "" if figure["holds"] else "  FAILS"
            lines.append(
                f"    {figure['name']:<28}{figure['value']:g} {figure['unit']}{peer}{broken}"
            )
        if not result["holds"] and not result["figures"]:
            said = result["output"] or result["errors"]
            lines += [f"    | {line}" for line in said.splitlines()[-12:]]
    return "\n".join(lines)


def verdict(result: Result) -> str:
    if result["void"]:
        return "void"
    return "holds" if result["holds"] else "FAILS"


if __name__ == "__main__":
    sys.exit(main())
