"""Many deaths in batches, each a platform of its own, and what they come to.

A batch leaves its result in `judge/crash/`; one that was finished for this very program, asked the
same way, is not run again, so that a campaign that was interrupted goes on where it was. What a
batch recorded is kept only if something is wrong with it.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.crash import batch
from benchmarks.crash.batch import Scene
from benchmarks.crash.schedule import PARENTS, named_points, schedule
from benchmarks.crash.verdict import judge
from benchmarks.figure import ROOT, Figure, percentile
from vsp.faults import Point

FOLDER = ROOT / "judge" / "crash"

RECEIVED_S_MAX = 4.0
OUTAGE_P95_S_MAX = 10.0
"""What is promised; acknowledged and lost, and a parent's cost in pictures: none."""

OUTAGES_MIN = 100
"""Of fewer, the 95th percentile is the worst few, and so the machine's: the median is held then."""

COUNTS = (
    ("segments acknowledged", "acknowledged"),
    ("  of them lost", "acknowledged_lost"),
    ("pictures compared", "pictures"),
    ("  twice", "doubled"),
    ("  out of order", "disordered"),
    ("  never sent", "unknown"),
    ("segments decoded by ffprobe", "probed"),
    ("  otherwise than sent", "probe"),
    ("points not reached in time", "missed"),
    ("orphans", "orphans"),
)
"""Of a batch's result: what people see, and its name."""

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """A campaign: so many deaths, in batches of at most `batch` each, while `scene` is recorded."""

    kills: int
    seed: int
    batch: int = 50
    scene: Scene = field(default_factory=Scene)

    @property
    def batches(self) -> Sequence[tuple[int, int]]:
        """(seed, deaths) of each batch."""
        starts = range(0, self.kills, self.batch)
        return [
            (self.seed + number, min(self.batch, self.kills - start))
            for number, start in enumerate(starts)
        ]


def campaign(
    wish: Wish, folder: Path = FOLDER, *, fresh: bool = False, keep: bool = False
) -> Report:
    """Run what has not been run yet; results stay in `folder`.

    keep  what was recorded, the log and the database of every batch, and not of faulty ones alone
    """
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for seed, kills in wish.batches:
        file = folder / f"{seed}-{kills}.json"
        asked = {"program": program(), "kills": kills, "scene": asdict(wish.scene)}
        result = None if fresh else kept(file, asked)
        if result is None:
            result = {"asked": asked, **run_batch(seed, kills, wish.scene, folder, keep)}
            write(file, result)
        results.append(result)
    report = Report(wish, results)
    write(folder / "report.json", report.summary())
    return report


def write(file: Path, value: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    made = file.with_suffix(".new")
    made.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", "utf-8")
    made.replace(file)


def kept(file: Path, asked: Mapping[str, Any]) -> Result | None:
    """What was found before, when the same was asked of the same program."""
    try:
        result: Result = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return result if result.get("asked") == asked else None


def run_batch(seed: int, kills: int, scene: Scene, folder: Path, keep: bool) -> Result:
    """In a temporary folder, which is copied to `folder` when something is wrong."""
    with tempfile.TemporaryDirectory(prefix="vsp-crash-", ignore_cleanup_errors=True) as made:
        life = Path(made)
        try:
            facts = asyncio.run(batch.run(life, schedule(kills, seed), seed, scene))
            result = judge(facts, life / "data" / "segments")
        except BaseException:
            put_by(life, folder / f"{seed}-{kills}")
            raise
        if keep or faults(result):
            put_by(life, folder / f"{seed}-{kills}")
    return result


def put_by(life: Path, where: Path) -> None:
    batch.say(f"what is left of it: {where}")
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(life, where, ignore=lambda _, names: [n for n in names if n.endswith(".sock")])


@cache
def program() -> str:
    """Of every source that takes part."""
    digest = hashlib.sha256()
    for package in ("vsp", "simulators", "benchmarks/crash"):
        for file in sorted((ROOT / package).rglob("*.py")):
            if "node_modules" not in file.parts:
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


# ---- what it comes to -----------------------------------------------------------------------


def faults(result: Result) -> Mapping[str, int]:
    """What is wrong with one batch, and how often."""
    kills = result["kills"]
    found = {
        "acknowledged segments lost": len(result["acknowledged_lost"]),
        "deaths that cost more than was received in 4 s": sum(
            kill["received_s"] > RECEIVED_S_MAX for kill in kills
        ),
        "deaths of a parent that cost pictures": sum(kill["missing_s"] > 0 for kill in kills),
        "holes that no death explains": len(result["strays"]),
        "pictures recorded twice": result["doubled"],
        "pictures out of order": result["disordered"],
        "pictures that nobody sent": result["unknown"],
        "segments with other bytes than their row says": len(result["altered"]),
        "segments with another number of pictures": len(result["miscounted"]),
        "segments that do not decode as sent": len(result["probe"]),
        "orphans": len(result["orphans"]),
        "findings of vsp check": int(bool(result["check"])),
    }
    return {name: count for name, count in found.items() if count}


@dataclass(frozen=True, slots=True)
class Report:
    """All batches together."""

    wish: Wish
    results: Sequence[Result]

    @property
    def kills(self) -> list[dict[str, Any]]:
        return [kill for result in self.results for kill in result["kills"]]

    @property
    def hits(self) -> Counter[str]:
        return Counter(kill["point"] for kill in self.kills if kill["point"])

    @property
    def due(self) -> Counter[str]:
        """How often each point was to be hit."""
        return Counter(
            point.value for seed, kills in self.wish.batches for point in named_points(kills, seed)
        )

    @property
    def not_hit(self) -> list[str]:
        """Points that were due and killed nobody."""
        return sorted(self.due.keys() - self.hits.keys())

    @property
    def faults(self) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        for result in self.results:
            found.update(faults(result))
        if self.not_hit:
            found["points not hit"] = len(self.not_hit)
        if len(self.kills) < self.wish.kills:
            found["deaths that did not come"] = self.wish.kills - len(self.kills)
        return found

    @property
    def holds(self) -> bool:
        return not self.faults and all(figure.holds for figure in self.figures)

    def costs(self, figure: str, *, of_parents: bool = False) -> list[float]:
        """Of each death of a parent, or of a worker that received something; 0.0 if of none."""
        found = [
            kill[figure]
            for kill in self.kills
            if (kill["process"] in PARENTS) is of_parents and (of_parents or kill["streams"])
        ]
        return found or [0.0]

    def total(self, name: str) -> int:
        """Of a count, or of a list's length, over all batches."""
        found = [result[name] for result in self.results]
        return sum(each if isinstance(each, int) else len(each) for each in found)

    @property
    def figures(self) -> list[Figure]:
        received, outages = self.costs("received_s"), self.costs("outage_s")
        missing = self.costs("missing_s", of_parents=True)
        return [
            Figure(
                "crash.acknowledged-lost",
                self.total("acknowledged_lost"),
                "segments",
                self.total("acknowledged"),
                bar=0,
                note="segments whose row was ever committed and that are not there, byte for byte",
            ),
            Figure(
                "crash.received-lost",
                max(received),
                "s",
                len(received),
                bar=RECEIVED_S_MAX,
                note="received by a worker that died, and recorded nowhere; its worst stream",
            ),
            Figure(
                "crash.outage-p50",
                percentile(outages, 0.5),
                "s",
                len(outages),
                bar=OUTAGE_P95_S_MAX if len(outages) < OUTAGES_MIN else None,
                note="from a worker's death to the next recorded key picture of its worst stream",
            ),
            Figure(
                "crash.outage-p95",
                percentile(outages, 0.95),
                "s",
                len(outages),
                bar=OUTAGE_P95_S_MAX if len(outages) >= OUTAGES_MIN else None,
            ),
            Figure(
                "crash.parent-missing",
                max(missing),
                "s",
                len(missing),
                bar=0,
                note="pictures that are missing around the death of the node or the supervisor",
            ),
        ]

    def summary(self) -> dict[str, Any]:
        """For programs."""
        return {
            "asked": asdict(self.wish),
            "program": program(),
            "holds": self.holds,
            "wrong": dict(self.faults),
            "figures": [json.loads(figure.line()) for figure in self.figures],
            "deaths": {f"{process} {how}": n for (process, how), n in self._kinds().items()},
            "points": {point: self.hits[point] for point in sorted(self.due)},
            "not_hit": self.not_hit,
            "outage_p50_s": percentile(self.costs("outage_s"), 0.5),
            "outage_max_s": max(self.costs("outage_s")),
            **{name: self.total(name) for _, name in COUNTS},
            "checks_not_clean": self._checks_not_clean(),
            "took_s": self._took_s(),
        }

    def table(self) -> str:
        """For people."""
        return "\n".join([*self._deaths(), *self._costs(), *self._points(), *self._verdict()])

    def _kinds(self) -> Counter[tuple[str, str]]:
        return Counter(
            (kill["process"], "at a point" if kill["point"] else "at any moment")
            for kill in self.kills
        )

    def _checks_not_clean(self) -> int:
        return sum(bool(result["check"]) for result in self.results)

    def _took_s(self) -> float:
        return float(sum(result["took_s"] for result in self.results))

    def _deaths(self) -> Iterator[str]:
        yield f"{len(self.kills)} of {self.wish.kills} deaths, {self.wish.scene.streams} streams"
        for (process, how), count in sorted(self._kinds().items()):
            yield f"  {process:<12}{how:<16}{count:>6}"

    def _costs(self) -> Iterator[str]:
        outages = self.costs("outage_s")
        p50, p95 = (percentile(outages, share) for share in (0.5, 0.95))
        back = [seconds for result in self.results for seconds in result["back_s"]]
        yield "of a worker's death, in its worst stream:"
        yield f"  received and lost, at most      {max(self.costs('received_s')):>6.2f} s"
        yield f"  outage p50, p95, at most        {p50:>6.2f} {p95:.2f} {max(outages):.2f} s"
        yield "of a parent's death:"
        missing = max(self.costs("missing_s", of_parents=True))
        yield f"  pictures missing, at most       {missing:>6.2f} s"
        yield f"everything records again, p50     {percentile(back or [0.0], 0.5):>6.2f} s"
        syncs = [seconds for result in self.results for seconds in result["sync_s"]] or [0.0]
        p50, p99 = (percentile(syncs, share) for share in (0.5, 0.99))
        yield f"an fsync beside, p50, p99, at most{p50:>6.3f} {p99:.3f} {max(syncs):.3f} s"
        for what, name in COUNTS:
            yield f"{what:<32}{self.total(name):>8}"
        yield f"{'vsp check, batches not clean':<32}{self._checks_not_clean():>8}"
        took_s = self._took_s()
        yield f"took {took_s:.0f} s, {took_s / max(len(self.kills), 1):.1f} s a death"

    def _points(self) -> Iterator[str]:
        yield f"points hit: {len(self.hits)}, at least {len(self.due)} of all {len(Point)}"
        for point in sorted(self.due):
            yield f"  {point:<28}{self.hits[point]:>4}, at least 1, tried {self.due[point]}"

    def _verdict(self) -> Iterator[str]:
        for fault, count in self.faults.items():
            yield f"WRONG  {fault}: {count}"
        if self.not_hit:
            yield f"WRONG  not hit: {', '.join(self.not_hit)}"
        yield "holds" if self.holds else "FAILS"
