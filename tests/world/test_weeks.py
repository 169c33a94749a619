"""Months by interval events: a small one of them, and what its judge would not overlook."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from simulators.world.ledger import Ledger
from simulators.world.weeks import WEEKS, Weeks
from simulators.world.world import Report
from vsp.actions import recording, timeline
from vsp.actions.presence import ChannelPresence
from vsp.actions.recording import Archivist
from vsp.actions.timeline import Timeline
from vsp.model.changes import ChangePoint
from vsp.model.ids import DeviceId, UtcMicros
from vsp.model.recording import Gap, GapCause, Segment, Span
from vsp.model.stream import Leg

SMALL = replace(
    WEEKS, name="small weeks", cameras=30, days=30.0, apart_days=0.5, events=4_000, blows=150
)


def live(seed: int = 1) -> Report:
    return Weeks(seed, SMALL).run()


@pytest.fixture(scope="module")
def month() -> Report:
    return live()


def test_a_month_holds_and_the_same_seed_lives_the_same_month(month: Report) -> None:
    again, other = live(1), live(2)

    assert month.findings == []
    assert other.findings == []
    assert month.hash == again.hash != other.hash


@pytest.mark.parametrize(
    "kind", ["off", "silent", "refuses", "plan", "worker", "disk", "node", "power", "back", "forth"]
)
def test_everything_that_may_befall_does(month: Report, kind: str) -> None:
    assert month.blows[kind] > 0


# ---- what the judge finds -------------------------------------------------------------------


def test_a_recorder_that_does_not_tell_why_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(recording.GAP_OF_LEG, Leg.REFUSED, GapCause.DEVICE_OFFLINE)

    assert any("device_offline" in finding for finding in live().findings)


def test_a_lost_word_of_a_full_disk_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(archivist: Archivist, segment: Segment) -> list[ChangePoint]:
        return []

    monkeypatch.setattr(Archivist, "_points", silent)

    assert any("unexplained" in finding for finding in live().findings)


def test_channels_that_do_not_follow_their_device_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stay(presence: ChannelPresence, device_id: DeviceId, evidence: str) -> None:
        """Whatever becomes of the device."""

    monkeypatch.setattr(ChannelPresence, "follow", stay)

    assert any("channel:" in finding for finding in live().findings)


def test_a_span_that_swallows_a_hole_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_one(segments: Sequence[Segment]) -> list[Span]:
        return [Span(segments[0].start_us, segments[-1].end_us)] if segments else []

    monkeypatch.setattr(timeline, "_merge", all_one)

    assert any("recorded but not shown" in finding for finding in live().findings)


# ---- the ledger -----------------------------------------------------------------------------

NOW = UtcMicros(1_000)


def line(spans: Sequence[Span], gaps: Sequence[Gap]) -> Timeline:
    return Timeline(UtcMicros(0), NOW, tuple(spans), tuple(gaps))


def span(start_us: int, end_us: int) -> Span:
    return Span(UtcMicros(start_us), UtcMicros(end_us))


def gap(start_us: int, end_us: int, cause: GapCause) -> Gap:
    return Gap(UtcMicros(start_us), UtcMicros(end_us), cause)


@pytest.fixture
def ledger() -> Ledger:
    """Recorded up to 400, then silent until 700, and recorded again."""
    kept = Ledger()
    kept.kept(0, 400)
    kept.ends(400, {GapCause.NO_MEDIA}, told=True)
    kept.begins(700)
    kept.kept(700, 1_000)
    return kept


def test_a_true_line_has_no_differences(ledger: Ledger) -> None:
    shown = line([span(0, 400), span(700, 1_000)], [gap(400, 700, GapCause.NO_MEDIA)])

    assert [*ledger.differences(shown, NOW, None)] == []


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (line([span(0, 400), span(700, 1_000)], []), "cover"),
        (
            line([span(0, 400), span(600, 1_000)], [gap(400, 700, GapCause.NO_MEDIA)]),
            "cover",
        ),
        (
            line([span(0, 401), span(700, 1_000)], [gap(401, 700, GapCause.NO_MEDIA)]),
            "recorded but not shown",
        ),
        (
            line([span(0, 400), span(700, 1_000)], [gap(400, 700, GapCause.UNEXPLAINED)]),
            "it was",
        ),
    ],
)
def test_a_line_that_is_wrong_by_little_is_found(
    ledger: Ledger, shown: Timeline, found: str
) -> None:
    assert any(found in difference for difference in ledger.differences(shown, NOW, None))


def test_what_nobody_could_have_noticed_must_be_called_unexplained() -> None:
    ledger = Ledger()
    ledger.kept(0, 400)
    ledger.kept(700, 1_000)  # the clock was set forth

    guessed = line([span(0, 400), span(700, 1_000)], [gap(400, 700, GapCause.NO_MEDIA)])

    assert [*ledger.differences(guessed, NOW, None)]
