"""What a benchmark gives: figures, their table for people and their lines for programs."""

from __future__ import annotations

import json
import math
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    bar     what it is held against: the peer's ratio when there is a peer, else the value itself;
            None reports only
    peer    what the peer took, in the same unit
    either  the bar holds already when the value is within this, whatever the ratio
    n       samples behind it
    note    one line for people: what exactly was measured
    """

    name: str
    value: float
    unit: str
    n: int
    better: Literal["lower", "higher"] = "lower"
    bar: float | None = None
    peer: float | None = None
    either: float | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.peer if self.peer else None

    @property
    def holds(self) -> bool:
        """Whether the bar is met; without a bar there is nothing to break."""
        if self.bar is None:
            return True
        if self.either is not None and self._within(self.value, self.either):
            return True
        return self._within(self.value if self.ratio is None else self.ratio, self.bar)

    def _within(self, value: float, bar: float) -> bool:
        return value <= bar if self.better == "lower" else value >= bar

    def line(self) -> str:
        """The JSON line of contracts for programs: the same keys always, numbers rounded."""
        said = {
            "name": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "better": self.better,
            "bar": self.bar,
            "peer": rounded(self.peer),
            "ratio": rounded(self.ratio),
            "holds": self.holds,
            "n": self.n,
            "date": time.strftime("%Y-%m-%d", time.gmtime()),
            "commit": commit(),
        }
        return json.dumps(said, ensure_ascii=False)


def rounded(value: float | None) -> float | None:
    """Four significant digits: more is noise."""
    return None if value is None else float(f"{value:.4g}")


@cache
def commit() -> str:
    """Short hash of what was measured; `+` when the tree differs from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain") else "")


def table(figures: Sequence[Figure]) -> str:
    """For people: name, value, peer, bar, verdict, and what was measured."""
    rows = [("figure", "value", "unit", "peer", "ratio", "bar", "", "n")]
    for figure in figures:
        verdict = "" if figure.bar is None else "holds" if figure.holds else "FAILS"
        rows.append(
            (
                figure.name,
                *(_text(figure.value), figure.unit, _text(figure.peer), _text(figure.ratio)),
                *(_bar(figure), verdict, str(figure.n)),
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    notes = [f"{figure.name}: {figure.note}" for figure in figures if figure.note]
    return "\n".join([line.rstrip() for line in lines] + (["", *notes] if notes else []))


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _bar(figure: Figure) -> str:
    if figure.bar is None:
        return ""
    sign = "<=" if figure.better == "lower" else ">="
    times = "x" if figure.peer else ""
    either = f" or {sign} {figure.either:g}" if figure.either is not None else ""
    return f"{sign} {figure.bar:g}{times}{either}"


def percentile(values: Sequence[float], share: float) -> float:
    """Nearest rank: the smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


__all__ = ["ROOT", "Figure", "commit", "percentile", "rounded", "table"]
