"""What really happened to one channel, and whether a timeline says the same.

Kept beside the code under test, by those who do the damage: when pictures came, when none did and
by which causes that may be called. The judge knows two promises of a timeline and nothing of how it
is made: each moment is covered exactly once, and what is missing has its true cause. Where nobody
could have said why, it must say so, and `UNEXPLAINED` is then the only right word.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from vsp.actions.timeline import Timeline
from vsp.model.ids import UtcMicros
from vsp.model.recording import GapCause

Causes = frozenset[GapCause]
Stretch = tuple[int, int]

UNEXPLAINED: Causes = frozenset({GapCause.UNEXPLAINED})

NOTICED_WITHIN_US = 60_000_000
"""A recorder that speaks within a minute of the last picture names the hole up to then; of what it
notices later nobody knows when and why it began."""

NEVER_US = 1 << 62
"""End of what has not ended."""


@dataclass(slots=True)
class Absence:
    """No picture from then to then. told: somebody wrote down why, within it or where it begins."""

    start_us: int
    causes: Causes
    told: bool
    end_us: int = NEVER_US


@dataclass(slots=True)
class Ledger:
    """One channel. Times are the platform's wall clock, as that was set then."""

    recorded: list[Stretch] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    online: list[tuple[int, bool]] = field(default_factory=list)
    segments: int = 0

    # ---- writing ----------------------------------------------------------------------------

    def kept(self, start_us: int, end_us: int) -> None:
        """A segment of this time was stored."""
        self.recorded.append((start_us, end_us))
        self.segments += 1

    def ends(self, at_us: int, causes: Iterable[GapCause], *, told: bool = False) -> None:
        """The last picture."""
        self.absences.append(Absence(at_us, frozenset(causes), told))

    def turns(self, at_us: int, causes: Iterable[GapCause]) -> None:
        """Still no picture, and from now on for these causes, of which somebody knows."""
        last, now = self.absences[-1], frozenset(causes)
        if not last.told:
            late = at_us - last.start_us > NOTICED_WITHIN_US
            last.causes, last.told = now | UNEXPLAINED if late else now, True
        if now != last.causes:
            last.end_us = at_us
            self.absences.append(Absence(at_us, now, told=True))

    def begins(self, at_us: int) -> None:
        """The first picture again."""
        self.absences[-1].end_us = at_us

    @property
    def absent(self) -> bool:
        return bool(self.absences) and self.absences[-1].end_us == NEVER_US

    # ---- judging ----------------------------------------------------------------------------

    def was_online(self, at_us: int) -> bool:
        """What was known of the device then."""
        place = bisect_right(self.online, at_us, key=lambda turn: turn[0])
        return place > 0 and self.online[place - 1][1]

    def differences(self, line: Timeline, now_us: UtcMicros, open_us: int | None) -> Iterator[str]:
        """In words. open_us: since when a segment is being written that is not stored yet."""
        until_us = max(line.from_us, min(line.to_us, now_us))
        pieces: list[Stretch] = [(span.start_us, span.end_us) for span in line.spans]
        pieces = sorted(pieces + [(gap.start_us, gap.end_us) for gap in line.gaps])
        if joined(pieces) != joined([(line.from_us, until_us)]) or overlap(pieces):
            yield "spans and gaps do not cover each moment once"
        kept = self.recorded if open_us is None else [*self.recorded, (open_us, now_us)]
        truth = joined(clipped(kept, line.from_us, until_us))
        shown = joined((span.start_us, span.end_us) for span in line.spans)
        if shown != truth:
            yield f"recorded but not shown, or the reverse: {sorted({*shown} ^ {*truth})[:4]}"
        for gap in line.gaps:
            if gap.cause not in (causes := self._causes(gap.start_us, gap.end_us)):
                words = sorted(causes) or "something that changed meanwhile"
                yield f"{gap.cause} at {gap.start_us} to {gap.end_us}; it was {words}"

    def _causes(self, start_us: int, end_us: int) -> Causes:
        """What is right for all of this time."""
        found: Causes | None = None
        explained_us = 0
        place = bisect_right(self.absences, start_us, key=lambda absence: absence.start_us)
        for absence in self.absences[max(0, place - 1) :]:
            if absence.start_us >= end_us:
                break
            common_us = min(end_us, absence.end_us) - max(start_us, absence.start_us)
            if common_us > 0:
                explained_us += common_us
                found = absence.causes if found is None else found & absence.causes
        if explained_us < end_us - start_us:
            found = UNEXPLAINED if found is None else found & UNEXPLAINED
        return found or frozenset()


def clipped(stretches: Iterable[Stretch], from_us: int, until_us: int) -> Iterator[Stretch]:
    """What of them lies in the window."""
    for start_us, end_us in stretches:
        if start_us < until_us and end_us > from_us:
            yield max(start_us, from_us), min(end_us, until_us)


def joined(stretches: Iterable[Stretch]) -> list[Stretch]:
    """The same time in as few stretches as it takes."""
    joint: list[Stretch] = []
    for start_us, end_us in sorted(stretches):
        if start_us >= end_us:
            continue
        if joint and start_us <= joint[-1][1]:
            joint[-1] = joint[-1][0], max(joint[-1][1], end_us)
        else:
            joint.append((start_us, end_us))
    return joint


def overlap(stretches: Sequence[Stretch]) -> bool:
    """Whether any of them, sorted, begins before the last has ended."""
    return any(later[0] < earlier[1] for earlier, later in pairwise(stretches))


__all__ = ["NEVER_US", "Absence", "Ledger", "clipped", "joined", "overlap"]
