"""Everything that is promised, in one report: `make judge`, or PART=bench|crash|world.

    bench   every figure of benchmarks/
    crash   tests/e2e/test_kills.py with KILLS=50 of each kind
    world   tests/world with SEEDS=500

Each piece leaves `judge/<piece>.json`. A piece that was finished for this very tree (commit and
changes) is not run again, so an interrupted judge goes on where it was; FRESH=1 begins anew. The
report is `judge/report.json`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.__main__ import BENCHMARKS
from benchmarks.figure import ROOT, commit

FOLDER = ROOT / "judge"
KILLS = os.environ.get("KILLS", "50")
SEEDS = os.environ.get("SEEDS", "500")
TAIL_CHARACTERS = 4_000
"""Of each of a piece's outputs, kept in its result."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One command of a part; it holds when it ends with 0."""

    part: str
    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def file(self) -> Path:
        return FOLDER / f"{self.name}.json"


def pytest(part: str, path: str, **environment: str) -> Piece:
    return Piece(part, part, ("-m", "pytest", "-q", path), environment)


PIECES: Sequence[Piece] = (
    *(Piece("bench", f"bench-{name}", ("-m", "benchmarks", name), {}) for name in BENCHMARKS),
    pytest("world", "tests/world", SEEDS=SEEDS),
    pytest("crash", "tests/e2e/test_kills.py", KILLS=KILLS),
)
PARTS = tuple(dict.fromkeys(piece.part for piece in PIECES))

Result = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.judge", description=__doc__)
    parser.add_argument("--part", choices=PARTS, default=os.environ.get("PART") or None)
    parser.add_argument("--fresh", action="store_true", default=bool(os.environ.get("FRESH")))
    said = parser.parse_args(arguments)
    FOLDER.mkdir(exist_ok=True)
    pieces = [piece for piece in PIECES if said.part in (None, piece.part)]
    results = [judged(piece, said.fresh) for piece in pieces]
    report = {"commit": commit(), "holds": all(r["holds"] for r in results), "pieces": results}
    write(FOLDER / "report.json", report)
    print(table(results))
    return 0 if report["holds"] else 1


def judged(piece: Piece, fresh: bool) -> Result:
    """The kept result of this commit, or a new one."""
    kept = None if fresh else finished(piece)
    if kept is not None:
        return kept
    print(f"== {piece.name}", flush=True)
    began = time.monotonic()
    done = subprocess.run(
        (sys.executable, *piece.arguments),
        cwd=ROOT,
        env={**os.environ, **piece.environment},
        capture_output=True,
        text=True,
        check=False,
    )
    result: Result = {
        "part": piece.part,
        "name": piece.name,
        "holds": done.returncode == 0,
        "took_s": round(time.monotonic() - began, 1),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": commit(),
        "tree": tree(),
        "command": " ".join(("python", *piece.arguments)),
        "environment": dict(piece.environment),
        "figures": [json.loads(x) for x in done.stdout.splitlines() if x.startswith('{"name"')],
        "output": done.stdout[-TAIL_CHARACTERS:],
        "errors": done.stderr[-TAIL_CHARACTERS:],
    }
    write(piece.file, result)
    return result


def finished(piece: Piece) -> Result | None:
    """What was found for this commit, asked the same way."""
    try:
        kept: Result = json.loads(piece.file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    same = kept.get("tree") == tree() and kept.get("environment") == dict(piece.environment)
    return kept if same else None


@cache
def tree() -> str:
    """What is judged: the commit, the changes to it, and the names of new files."""
    said = [
        subprocess.run(("git", *words), cwd=ROOT, capture_output=True, check=False).stdout
        for words in (("rev-parse", "HEAD"), ("diff", "HEAD"), ("status", "--porcelain"))
    ]
    return hashlib.sha256(b"".join(said)).hexdigest()[:16]


def write(path: Path, value: object) -> None:
    """Whole or not at all."""
    made = path.with_suffix(".tmp")
    made.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8")
    made.replace(path)


def table(results: Sequence[Result]) -> str:
    """A line a piece, and below it a line a figure."""
    lines = [f"{'piece':<24}{'verdict':<9}{'took':>8}  {'command'}"]
    for result in results:
        verdict = "holds" if result["holds"] else "FAILS"
        lines.append(
            f"{result['name']:<24}{verdict:<9}{result['took_s']:>6.0f} s  {result['command']}"
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


if __name__ == "__main__":
    sys.exit(main())
