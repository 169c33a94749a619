"""Which process dies when: pure, and the same for the same seed.

Half of the deaths are at the named points of vsp/faults.py, taken in turn, so that runs with
consecutive seeds go round all of them; the other half come at random moments. A round is what
happens at about the same time; the next one begins when everything records again.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import cycle

from simulators.crashing import Sentence
from vsp.faults import Point

NODE, SUPERVISOR = "node", "supervisor"
WORKERS = ("worker-0", "worker-1")
A_WORKER = "worker"
"""One of them; which one is known when the time has come, and who receives what."""

PARENTS = (NODE, SUPERVISOR)
"""Who may die without a picture being lost."""


class Place(StrEnum):
    """Who passes a point, and when."""

    RECORDING = "a worker, while it records"
    STARTING = "a worker, as it starts"
    COMMITTING = "the node, as segments close"
    ADOPTING = "the node, as it starts"
    VISITED = "the node, while somebody looks at a camera that is not recorded"


_STARTING = {
    Point.SPOOL_CHUNK_MADE,
    Point.SPOOL_DROP_ABOUT,
    Point.SPOOL_RECOVERED,
    Point.JOURNAL_ASIDE,
    Point.JOURNAL_RENAMED,
}
_VISITED = {Point.STREAM_ANSWERED, Point.DIALOG_SAVED, Point.DIALOG_FORGOTTEN}


def _place(point: Point) -> Place:
    if point in _STARTING:
        return Place.STARTING
    if point is Point.STREAM_ADOPTED:
        return Place.ADOPTING
    if point in _VISITED or point.startswith("view."):
        return Place.VISITED
    return Place.COMMITTING if point.startswith("row.") else Place.RECORDING


PLACES: Mapping[Point, Place] = {point: _place(point) for point in Point}

PASSES_MAX: Mapping[Place, int] = {
    Place.RECORDING: 4,
    Place.STARTING: 1,
    Place.COMMITTING: 4,
    Place.ADOPTING: 4,
    Place.VISITED: 2,
}
"""A point is passed at least once in a few seconds (while starting, once), so that any of these
comes within half a minute."""

DELAY_S_MAX = 3.0
"""A moment at random lies within this: longer than a fragment, so every phase of one is met."""

RECOVERING = {
    Point.PART_PUT,
    Point.PART_NOTED,
    Point.COMPLETE_ABOUT,
    Point.COMPLETED,
    Point.JOURNALED,
    Point.RELEASED,
    Point.JOURNAL_WRITTEN,
    Point.JOURNAL_SYNCED,
    Point.FOLDER_PART_LAID,
    Point.FOLDER_PART_NOTED,
    Point.FOLDER_ASSEMBLED,
    Point.FOLDER_SIDECAR,
    Point.FOLDER_NAMED,
    Point.FOLDER_PUBLISHED,
}
"""Points of recording that are passed, too, while what a dead worker has left is finished."""

RECOVERING_SHARE = 0.4
"""Of their deaths: so many happen then."""

BOTH = "both"
"""A worker, and the node at about the same time."""

RANDOM_TARGETS = (NODE, A_WORKER, SUPERVISOR, NODE, A_WORKER, NODE, BOTH, SUPERVISOR)
"""Turns of those who die at a random moment."""


@dataclass(frozen=True, slots=True)
class Blow:
    """One death. Without a sentence: by signal, `delay_s` after the round has begun.

    at_start  the sentence is for whoever is started in the place of the one before
    """

    process: str
    delay_s: float = 0.0
    sentence: Sentence | None = None
    at_start: bool = False


Chain = tuple[Blow, ...]
"""One process, one death after the other: the second before it has recovered from the first."""

Round = tuple[Chain, ...]


def points_in_turn(count: int, turn: int) -> list[Point]:
    """The next `count` of all points, when each turn takes as many."""
    every = list(Point)
    return [every[(turn * count + n) % len(every)] for n in range(count)]


def named_points(kills: int, seed: int) -> list[Point]:
    """Where the processes die in a schedule; one for each two deaths."""
    return points_in_turn(kills // 2, seed)


def schedule(kills: int, seed: int) -> list[Round]:
    """Exactly `kills` deaths. What leads to a point may be a death, too."""
    maker = _Maker(random.Random(f"crash {seed}"), kills)
    maker.named(named_points(kills, seed))
    maker.at_random()
    return maker.rounds()


class _Maker:
    """Gathers chains, then joins them to rounds."""

    def __init__(self, chance: random.Random, kills: int) -> None:
        self._chance = chance
        self._left = kills
        self._workers: list[Chain] = []
        self._others: list[Round] = []

    def named(self, points: Sequence[Point]) -> None:
        for point in points:
            place = PLACES[point]
            starting = place in {Place.STARTING, Place.ADOPTING}
            recovering = point in RECOVERING and self._chance.random() < RECOVERING_SHARE
            process = A_WORKER if place in {Place.RECORDING, Place.STARTING} else NODE
            passes = 1 if recovering else self._chance.randint(1, PASSES_MAX[place])
            at_start = starting or recovering
            death = Blow(process, sentence=Sentence(point, passes), at_start=at_start)
            self._add((self._by_signal(process), death) if at_start else (death,))

    def at_random(self) -> None:
        for target in cycle(RANDOM_TARGETS):
            if self._left <= 0:
                return
            if target is not BOTH:
                self._add((self._by_signal(target),))
            elif self._left >= 2:
                self._left -= 2
                self._others.append(((self._by_signal(A_WORKER),), (self._by_signal(NODE),)))

    def rounds(self) -> list[Round]:
        """Workers die in pairs; anybody else dies alone, but where a round was made for both."""
        self._chance.shuffle(self._workers)
        pairs = [tuple(self._workers[n : n + 2]) for n in range(0, len(self._workers), 2)]
        rounds = self._others + pairs
        self._chance.shuffle(rounds)
        return rounds

    def _by_signal(self, process: str) -> Blow:
        return Blow(process, delay_s=self._chance.uniform(0.0, DELAY_S_MAX))

    def _add(self, chain: Chain) -> None:
        self._left -= len(chain)
        if chain[0].process is A_WORKER:
            self._workers.append(chain)
        else:
            self._others.append((chain,))


def cast(chains: Round, streams: Mapping[str, int]) -> tuple[Round, Round]:
    """Which worker dies now, and what is left to be cast anew when everything records again.

    streams  how many each worker receives. One that receives nothing passes no point: then the
             chains of a pair are for the other one, one after the other.
    """
    ranked = sorted(WORKERS, key=lambda name: -streams.get(name, 0))
    of_workers = tuple(chain for chain in chains if chain[0].process == A_WORKER)
    others = tuple(chain for chain in chains if chain[0].process != A_WORKER)
    at_once = len(WORKERS) if all(streams.get(name) for name in WORKERS) else 1
    now = tuple(map(_of, ranked, of_workers[:at_once]))
    return now + others, of_workers[at_once:]


def _of(process: str, chain: Chain) -> Chain:
    return tuple(replace(blow, process=process) for blow in chain)
