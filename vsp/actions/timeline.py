"""What is recorded of a channel, what is not, and why not. Pure.

Built from four facts: committed segments, the segments being written, the change points of the
channel and its device, and the record plan. The result covers `[from, min(to, now))` completely and
without overlap: recorded + gaps with a cause = wall-clock time (invariant I2, as far as it can be
told before the ledger exists).

A gap is cut at every change point inside it, because a night can be half "device offline" and half
"device refuses". Where nothing explains a second it says so; UNEXPLAINED is never rounded away.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from vsp.model.changes import ChangePoint
from vsp.model.device import Presence, RecordPlan
from vsp.model.ids import UtcMicros
from vsp.model.recording import Gap, GapCause, OpenSegment, Segment, Span

OPEN_LAG_US = 5_000_000
"""How far an open segment's end may lie behind now without being a gap: a worker reports the last
whole access unit it wrote, and its answer is up to a few seconds old."""

IN_FLIGHT_US = 180_000_000
"""Longest stretch between the last committed row and the open segment of the same run that counts
as "being committed": three segments of 60 s. Longer than that, storing is failing and is a gap."""

NOTICED_WITHIN_US = 60_000_000
"""How late the recorder may write down a gap: the stall timeout, then its next look at the streams.
A hole between the last picture and that word has the cause of that word."""

RECORDING_STATE = "recording"
"""State on the recording axis while media is being written; it explains no gap."""


_GAP_CAUSES = frozenset(cause.value for cause in GapCause)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Change points by subject and axis, each by time, the one in force at `from` first.

    known_since_us   when the device was added; nothing was planned before
    """

    plan: RecordPlan
    known_since_us: UtcMicros
    recording: Sequence[ChangePoint] = ()
    device_presence: Sequence[ChangePoint] = ()
    channel_presence: Sequence[ChangePoint] = ()


@dataclass(frozen=True, slots=True)
class Timeline:
    from_us: UtcMicros
    to_us: UtcMicros
    spans: tuple[Span, ...]
    gaps: tuple[Gap, ...]


def timeline(
    segments: Sequence[Segment],
    open_segments: Sequence[OpenSegment],
    evidence: Evidence,
    from_us: UtcMicros,
    to_us: UtcMicros,
    now_us: UtcMicros,
) -> Timeline:
    """Spans and gaps of one channel in `[from_us, to_us)`; the future is neither.

    segments        overlapping the window, by start
    open_segments   of this channel, as its worker sees them now
    """
    until_us = UtcMicros(max(from_us, min(to_us, now_us)))
    spans = _merge(segments)
    for piece in sorted(open_segments, key=lambda segment: segment.start_us):
        spans.append(_open_span(piece, segments, now_us))
    spans = _without_overlap(spans, from_us, until_us)
    gaps = [
        gap
        for start_us, end_us in _holes(spans, from_us, until_us)
        for gap in _explain(start_us, end_us, evidence)
    ]
    return Timeline(from_us, to_us, tuple(spans), tuple(gaps))


def _merge(segments: Sequence[Segment]) -> list[Span]:
    """Contiguous segments of one run become one span; a hole inside a run stays a hole."""
    spans: list[Span] = []
    run: UtcMicros | None = None
    for segment in segments:
        if spans and segment.run == run and segment.start_us <= spans[-1].end_us:
            last = spans[-1]
            spans[-1] = replace(
                last,
                end_us=max(last.end_us, segment.end_us),
                damaged_frames=last.damaged_frames + segment.damaged_frames,
            )
        else:
            spans.append(
                Span(segment.start_us, segment.end_us, damaged_frames=segment.damaged_frames)
            )
        run = segment.run
    return spans


def _open_span(piece: OpenSegment, segments: Sequence[Segment], now_us: UtcMicros) -> Span:
    """An open segment, stretched over what is on its way to becoming a row and up to now."""
    earlier = [segment for segment in segments if segment.run == piece.run]
    start_us, end_us = piece.start_us, piece.end_us
    if (
        earlier
        and 0 < start_us - earlier[-1].end_us <= IN_FLIGHT_US
        and (piece.n > earlier[-1].n + 1)
    ):
        start_us = earlier[-1].end_us
    if 0 <= now_us - end_us <= OPEN_LAG_US:
        end_us = now_us
    return Span(start_us, end_us, open=True)


def _without_overlap(spans: Sequence[Span], from_us: UtcMicros, until_us: UtcMicros) -> list[Span]:
    """Clip to the window; where two runs claim a moment (a stepped clock), the earlier keeps it."""
    clipped: list[Span] = []
    edge = from_us
    for span in sorted(spans, key=lambda each: each.start_us):
        start_us, end_us = max(span.start_us, edge), min(span.end_us, until_us)
        if start_us < end_us:
            clipped.append(replace(span, start_us=UtcMicros(start_us), end_us=UtcMicros(end_us)))
            edge = UtcMicros(end_us)
    return clipped


def _holes(
    spans: Sequence[Span], from_us: UtcMicros, until_us: UtcMicros
) -> list[tuple[UtcMicros, UtcMicros]]:
    holes = []
    edge = from_us
    for span in spans:
        if span.start_us > edge:
            holes.append((edge, span.start_us))
        edge = span.end_us
    if edge < until_us:
        holes.append((edge, until_us))
    return holes


def _explain(start_us: UtcMicros, end_us: UtcMicros, evidence: Evidence) -> list[Gap]:
    """One hole as gaps, cut where the explanation changes."""
    cuts = {start_us, end_us, evidence.known_since_us}
    for points in (evidence.recording, evidence.device_presence, evidence.channel_presence):
        cuts.update(point.at_us for point in points)
    edges = sorted(cut for cut in cuts if start_us <= cut <= end_us)
    gaps: list[Gap] = []
    for left, right in pairwise(edges):
        cause, why = _cause(left, evidence)
        last = gaps[-1] if gaps else None
        if last is not None and (last.cause, last.evidence) == (cause, why):
            gaps[-1] = replace(last, end_us=right)
        else:
            gaps.append(Gap(left, right, cause, why))
    return gaps


def _cause(at_us: UtcMicros, evidence: Evidence) -> tuple[GapCause, str]:
    """Why nothing was recorded at `at_us`: the nearest witness first.

    The recorder's own word, then what was seen of the device and of the channel, then the plan of
    today where the recorder never said anything (a channel that was never planned has no points).
    """
    if at_us < evidence.known_since_us:
        return GapCause.NOT_PLANNED, "the device had not been added yet"
    said = _in_force(evidence.recording, at_us)
    if said is not None and said.state != RECORDING_STATE:
        cause = _gap_cause(said)
        if cause is not None:
            return cause, said.evidence
    for witness, points in (
        ("device", evidence.device_presence),
        ("channel", evidence.channel_presence),
    ):
        seen = _in_force(points, at_us)
        if seen is not None and seen.state == Presence.OFFLINE and not _never_planned(evidence):
            return GapCause.DEVICE_OFFLINE, f"{witness} offline: {seen.evidence or seen.cause}"
    if _never_planned(evidence):
        return GapCause.NOT_PLANNED, "the record plan is none"
    return _noticed_later(at_us, said, evidence) or (GapCause.UNEXPLAINED, "")


def _noticed_later(
    at_us: UtcMicros, said: ChangePoint | None, evidence: Evidence
) -> tuple[GapCause, str] | None:
    """The gap that the recorder wrote down next, when it believed to be recording until then.

    It may have said so again meanwhile: a node that has just begun says what it sees, and may not
    see yet that the pictures have ceased.
    """
    if said is None or said.state != RECORDING_STATE:
        return None
    index = bisect_right(evidence.recording, at_us, key=lambda point: point.at_us)
    for point in evidence.recording[index:]:
        if point.at_us - at_us > NOTICED_WITHIN_US:
            return None
        if point.state != RECORDING_STATE:
            cause = _gap_cause(point)
            if cause is None or cause is GapCause.NOT_PLANNED:
                return None
            return cause, point.evidence
    return None


def _never_planned(evidence: Evidence) -> bool:
    return evidence.plan is RecordPlan.NONE and not evidence.recording


def _gap_cause(point: ChangePoint) -> GapCause | None:
    """The recorder writes the cause as a `GapCause` value; `not_planned` may be the state alone."""
    for word in (point.cause, point.state):
        if word in _GAP_CAUSES:
            return GapCause(word)
    return None


def _in_force(points: Sequence[ChangePoint], at_us: UtcMicros) -> ChangePoint | None:
    index = bisect_right(points, at_us, key=lambda point: point.at_us)
    return points[index - 1] if index else None
