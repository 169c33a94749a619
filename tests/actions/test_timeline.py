"""Spans and gaps: nothing overlaps, nothing is missing, every gap has its cause."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from vsp.actions.timeline import (
    IN_FLIGHT_US,
    OPEN_LAG_US,
    Evidence,
    Timeline,
    timeline,
)
from vsp.model.changes import Axis, ChangePoint
from vsp.model.device import RecordPlan
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import (
    Container,
    EndReason,
    Gap,
    GapCause,
    OpenSegment,
    Segment,
    Span,
)

S = 1_000_000
CHANNEL = ChannelId("c1")
ALWAYS = Evidence(RecordPlan.ALWAYS, UtcMicros(0))


def segment(
    start_s: float, end_s: float, run_s: float = 0, n: int = 0, damaged: int = 0
) -> Segment:
    start_us = UtcMicros(round(start_s * S))
    return Segment(
        channel_id=CHANNEL,
        key=f"v1/{start_us}-{run_s}-{n}.mp4",
        container=Container.MP4,
        run=UtcMicros(round(run_s * S)),
        n=n,
        start_us=start_us,
        end_us=UtcMicros(round(end_s * S)),
        start_90k=0,
        duration_90k=round((end_s - start_s) * 90_000),
        size_bytes=1,
        sha256="0" * 64,
        init_bytes=0,
        fragments=(),
        video=None,
        audio=None,
        codecs="",
        width=0,
        height=0,
        frames=0,
        damaged_frames=damaged,
        end_reason=EndReason.ROLLED,
    )


def writing(start_s: float, end_s: float, run_s: float = 0, n: int = 0) -> OpenSegment:
    return OpenSegment(
        CHANNEL,
        UtcMicros(round(run_s * S)),
        n,
        UtcMicros(round(start_s * S)),
        UtcMicros(round(end_s * S)),
    )


def point(axis: Axis, at_s: float, state: str, cause: str = "", evidence: str = "") -> ChangePoint:
    return ChangePoint("channel:c1", axis, UtcMicros(round(at_s * S)), state, cause, evidence)


def drawn(
    segments: Sequence[Segment] = (),
    open_segments: Sequence[OpenSegment] = (),
    evidence: Evidence = ALWAYS,
    until_s: float = 1000,
    now_s: float = 1000,
) -> Timeline:
    return timeline(
        segments,
        open_segments,
        evidence,
        UtcMicros(0),
        UtcMicros(round(until_s * S)),
        UtcMicros(round(now_s * S)),
    )


def span(start_s: float, end_s: float, **more: object) -> Span:
    return Span(UtcMicros(round(start_s * S)), UtcMicros(round(end_s * S)), **more)


def gap(start_s: float, end_s: float, cause: GapCause, evidence: str = "") -> Gap:
    return Gap(UtcMicros(round(start_s * S)), UtcMicros(round(end_s * S)), cause, evidence)


# ---- spans ----------------------------------------------------------------------------------


def test_contiguous_segments_of_a_run_are_one_span_that_sums_their_damage():
    line = drawn([segment(0, 400, damaged=1), segment(400, 1000, n=1, damaged=2)])

    assert line.spans == (span(0, 1000, damaged_frames=3),)
    assert line.gaps == ()


def test_two_runs_that_touch_stay_two_spans_without_a_gap():
    line = drawn([segment(0, 400), segment(400, 1000, run_s=400)])

    assert line.spans == (span(0, 400), span(400, 1000))
    assert line.gaps == ()


def test_a_missing_segment_inside_a_run_is_a_gap():
    line = drawn([segment(0, 400), segment(460, 1000, n=2)])

    assert line.spans == (span(0, 400), span(460, 1000))
    assert line.gaps == (gap(400, 460, GapCause.UNEXPLAINED),)


def test_where_two_runs_overlap_the_earlier_keeps_the_moment():
    line = drawn([segment(0, 600), segment(500, 1000, run_s=500)])

    assert line.spans == (span(0, 600), span(600, 1000))


def test_spans_are_cut_to_the_window_and_the_future_is_not_a_gap():
    line = drawn([segment(0, 400)], until_s=2000, now_s=500)

    assert line.to_us == 2000 * S
    assert line.spans == (span(0, 400),)
    assert line.gaps == (gap(400, 500, GapCause.UNEXPLAINED),)


def test_a_window_in_the_future_is_empty():
    line = timeline([], [], ALWAYS, UtcMicros(50 * S), UtcMicros(60 * S), UtcMicros(10 * S))

    assert (line.spans, line.gaps) == ((), ())


# ---- what is being written ------------------------------------------------------------------


def test_an_open_segment_reaches_now_when_it_was_written_a_moment_ago():
    line = drawn([segment(0, 940)], [writing(940, 998, n=1)])

    assert line.spans == (span(0, 940), span(940, 1000, open=True))
    assert line.gaps == ()


def test_an_open_segment_that_has_stood_still_ends_where_it_stands():
    stale_s = 1000 - OPEN_LAG_US / S - 1

    line = drawn([segment(0, 900)], [writing(900, stale_s, n=1)])

    assert line.gaps == (gap(stale_s, 1000, GapCause.UNEXPLAINED),)


def test_a_segment_on_its_way_to_a_row_is_shown_as_open_not_as_a_gap():
    line = drawn([segment(0, 880)], [writing(940, 1000, n=2)])

    assert line.spans == (span(0, 880), span(880, 1000, open=True))
    assert line.gaps == ()


def test_what_has_been_on_its_way_for_too_long_is_a_gap():
    late_s = 1000 - IN_FLIGHT_US / S - 61

    line = drawn([segment(0, late_s)], [writing(999, 1000, n=9)])

    assert [g.cause for g in line.gaps] == [GapCause.UNEXPLAINED]


def test_an_open_segment_of_a_new_run_leaves_the_hole_before_it():
    line = drawn([segment(0, 900)], [writing(950, 1000, run_s=950)])

    assert line.gaps == (gap(900, 950, GapCause.UNEXPLAINED),)


# ---- causes ---------------------------------------------------------------------------------


def test_the_recorders_own_word_explains_a_gap():
    said = [
        point(Axis.RECORDING, 0, "recording"),
        point(Axis.RECORDING, 400, "gap", "device_refuses", "486 Busy Here"),
        point(Axis.RECORDING, 600, "recording"),
    ]

    line = drawn(
        [segment(0, 400), segment(600, 1000, run_s=600)],
        evidence=Evidence(RecordPlan.ALWAYS, UtcMicros(0), recording=said),
    )

    assert line.gaps == (gap(400, 600, GapCause.DEVICE_REFUSES, "486 Busy Here"),)


def test_a_gap_noticed_late_has_its_cause_from_the_last_picture_on():
    said = [
        point(Axis.RECORDING, 0, "recording"),
        point(Axis.RECORDING, 415, "gap", "no_media", "the stream is stalled"),
        point(Axis.RECORDING, 600, "recording"),
    ]

    line = drawn(
        [segment(0, 400), segment(600, 1000, run_s=600)],
        evidence=Evidence(RecordPlan.ALWAYS, UtcMicros(0), recording=said),
    )

    assert line.gaps == (gap(400, 600, GapCause.NO_MEDIA, "the stream is stalled"),)


def test_a_recorder_that_said_once_more_that_it_records_hides_no_cause():
    said = [
        point(Axis.RECORDING, 0, "recording"),
        point(Axis.RECORDING, 403, "recording"),
        point(Axis.RECORDING, 415, "gap", "no_media", "the stream is stalled"),
    ]

    line = drawn(
        [segment(0, 400)], evidence=Evidence(RecordPlan.ALWAYS, UtcMicros(0), recording=said)
    )

    assert line.gaps == (gap(400, 1000, GapCause.NO_MEDIA, "the stream is stalled"),)


def test_a_gap_noticed_much_too_late_or_unplanned_later_stays_unexplained():
    late = [
        point(Axis.RECORDING, 0, "recording"),
        point(Axis.RECORDING, 500, "gap", "no_media"),
    ]
    unplanned = [
        point(Axis.RECORDING, 0, "recording"),
        point(Axis.RECORDING, 415, "not_planned", "not_planned"),
    ]

    for said, word_s in ((late, 500), (unplanned, 415)):
        line = drawn(
            [segment(0, 400)], evidence=Evidence(RecordPlan.ALWAYS, UtcMicros(0), recording=said)
        )

        assert (line.gaps[0].cause, line.gaps[0].end_us) == (GapCause.UNEXPLAINED, word_s * S)


def test_a_gap_is_cut_where_its_cause_changes():
    said = [
        point(Axis.RECORDING, 400, "gap", "device_offline", "no heartbeat"),
        point(Axis.RECORDING, 500, "gap", "no_media", "no packet in 10 s"),
    ]

    line = drawn(
        [segment(0, 400), segment(600, 1000, run_s=600)],
        evidence=Evidence(RecordPlan.ALWAYS, UtcMicros(0), recording=said),
    )

    assert line.gaps == (
        gap(400, 500, GapCause.DEVICE_OFFLINE, "no heartbeat"),
        gap(500, 600, GapCause.NO_MEDIA, "no packet in 10 s"),
    )


def test_presence_explains_what_the_recorder_did_not():
    seen = [
        point(Axis.PRESENCE, 450, "offline", "missed", "3 heartbeats missed"),
        point(Axis.PRESENCE, 550, "online"),
    ]

    line = drawn(
        [segment(0, 400), segment(600, 1000, run_s=600)],
        evidence=Evidence(RecordPlan.ALWAYS, UtcMicros(0), device_presence=seen),
    )

    assert line.gaps == (
        gap(400, 450, GapCause.UNEXPLAINED),
        gap(450, 550, GapCause.DEVICE_OFFLINE, "device offline: 3 heartbeats missed"),
        gap(550, 600, GapCause.UNEXPLAINED),
    )


def test_a_channel_that_its_device_reports_off_is_an_offline_gap():
    seen = [point(Axis.PRESENCE, 0, "offline", "catalog", "Status OFF")]

    line = drawn(evidence=Evidence(RecordPlan.ALWAYS, UtcMicros(0), channel_presence=seen))

    assert line.gaps == (gap(0, 1000, GapCause.DEVICE_OFFLINE, "channel offline: Status OFF"),)


def test_a_channel_that_was_never_planned_is_not_planned_also_while_it_was_off():
    seen = [point(Axis.PRESENCE, 0, "offline")]

    line = drawn(evidence=Evidence(RecordPlan.NONE, UtcMicros(0), device_presence=seen))

    assert [g.cause for g in line.gaps] == [GapCause.NOT_PLANNED]


def test_a_plan_taken_away_later_does_not_rewrite_the_past():
    said = [
        point(Axis.RECORDING, 0, "gap", "no_media"),
        point(Axis.RECORDING, 500, "not_planned", "not_planned", "the plan was changed"),
    ]

    line = drawn(evidence=Evidence(RecordPlan.NONE, UtcMicros(0), recording=said))

    assert [(g.cause, g.end_us // S) for g in line.gaps] == [
        (GapCause.NO_MEDIA, 500),
        (GapCause.NOT_PLANNED, 1000),
    ]


def test_before_a_device_was_added_nothing_was_planned():
    line = drawn(evidence=Evidence(RecordPlan.ALWAYS, UtcMicros(300 * S)))

    assert [(g.cause, g.start_us // S, g.end_us // S) for g in line.gaps] == [
        (GapCause.NOT_PLANNED, 0, 300),
        (GapCause.UNEXPLAINED, 300, 1000),
    ]


def test_a_cause_that_this_version_does_not_know_is_not_made_up():
    said = [point(Axis.RECORDING, 0, "gap", "gremlins", "seen at night")]

    line = drawn(evidence=Evidence(RecordPlan.ALWAYS, UtcMicros(0), recording=said))

    assert [g.cause for g in line.gaps] == [GapCause.UNEXPLAINED]


# ---- the invariant --------------------------------------------------------------------------

stretches = st.lists(
    st.tuples(st.integers(-50, 1100), st.integers(1, 300), st.sampled_from([0, 1, 2])), max_size=12
)
points = st.lists(
    st.tuples(
        st.integers(-50, 1100),
        st.sampled_from(["recording", "gap", "offline", "online", "not_planned"]),
        st.sampled_from(["", "no_media", "device_offline", "odd"]),
    ),
    max_size=8,
)


@given(stretches, stretches, points, points, st.integers(0, 1200), st.sampled_from(RecordPlan))
def test_spans_and_gaps_cover_the_window_exactly_and_never_overlap(
    stored, being_written, said, seen, now_s, plan
):
    segments = [
        segment(start, start + length, run, n)
        for n, (start, length, run) in enumerate(sorted(stored))
    ]
    opened = [writing(start, start + length, run, 99) for start, length, run in being_written]
    evidence = Evidence(
        plan,
        UtcMicros(100 * S),
        recording=[point(Axis.RECORDING, *each) for each in sorted(said)],
        device_presence=[point(Axis.PRESENCE, *each) for each in sorted(seen)],
    )

    line = drawn(segments, opened, evidence, now_s=now_s)

    pieces = sorted([*line.spans, *line.gaps], key=lambda piece: piece.start_us)
    edge = 0
    for piece in pieces:
        assert piece.start_us == edge
        assert piece.end_us > piece.start_us
        edge = piece.end_us
    assert edge == min(1000, now_s) * S
