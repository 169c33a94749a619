"""What visitors think of a timeline that they are shown."""

from __future__ import annotations

from dataclasses import replace

from simulators.world.visitors import SLACK_US, faults_of
from vsp.actions.timeline import Timeline
from vsp.model.ids import UtcMicros
from vsp.model.recording import Gap, GapCause, Span

START, LOST, BACK, END = (UtcMicros(at) for at in (0, 10, 20, 30))

WHOLE = Timeline(
    START, END, (Span(START, LOST), Span(BACK, END)), (Gap(LOST, BACK, GapCause.NO_MEDIA),)
)


def test_a_timeline_that_covers_all_once_has_no_faults():
    assert faults_of(WHOLE, 30) == []


def test_moments_that_are_covered_twice_or_not_at_all_are_faults():
    [gap] = WHOLE.gaps

    hole = replace(WHOLE, gaps=())
    twice = replace(WHOLE, gaps=(replace(gap, start_us=UtcMicros(9)),))
    nothing = replace(WHOLE, gaps=(gap, replace(gap, start_us=gap.end_us)))

    for wrong in (hole, twice, nothing):
        assert any("follows" in fault for fault in faults_of(wrong, 30))


def test_a_timeline_ends_when_it_was_asked():
    early = faults_of(WHOLE, 30 + SLACK_US)

    assert early == [f"it ends {SLACK_US} us before it was asked"]
    assert faults_of(WHOLE, 29) == ["it ends -1 us before it was asked"]
    assert faults_of(WHOLE, 29 + SLACK_US) == []
