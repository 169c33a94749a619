"""Channels: lists with their device's name, plans, and the timeline over real rows."""

from dataclasses import replace

import pytest

from tests.actions.rig import CHANNEL_GB_ID, GB_ID, NOON_US, SECOND, Rig
from tests.actions.test_timeline import segment
from vsp.actions import channels as channels_module
from vsp.actions.devices import DeviceChanges
from vsp.errors import Denied, Invalid
from vsp.model.changes import Axis, ChangePoint
from vsp.model.device import RecordPlan
from vsp.model.ids import GbId, UtcMicros
from vsp.model.people import Role
from vsp.model.recording import GapCause, OpenSegment, Segment
from vsp.model.stream import Attempt
from vsp.ports import PageRequest

PAGE = PageRequest()


def stored(rig: Rig, channel_id: str, after_s: float, length_s: float, run_s: float) -> Segment:
    """A segment `after_s` after noon."""
    start_us, run = NOON_US + round(after_s * SECOND), UtcMicros(NOON_US + round(run_s * SECOND))
    made = segment(start_us / SECOND, (start_us + round(length_s * SECOND)) / SECOND)
    key = f"v1/{channel_id}/{start_us}-{run}-0.mp4"
    return replace(made, channel_id=channel_id, key=key, run=run, n=round(after_s))


async def test_a_channel_is_listed_with_its_device_and_whether_it_is_recorded(rig: Rig):
    channel = await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    rig.streams.recording.add(channel.id)

    (entry,) = (await rig.actions.channels.list(actor, PAGE, "", GB_ID)).items

    assert (entry.channel.gb_id, entry.device.gb_id, entry.device.name) == (
        CHANNEL_GB_ID,
        GB_ID,
        "gate",
    )
    assert entry.recording


async def test_a_device_that_is_renamed_here_is_renamed_beside_its_channels_at_once(rig: Rig):
    channel = await rig.channel()
    admin = await rig.user(Role.ADMIN)
    await rig.actions.channels.get(admin, channel.id)

    await rig.actions.devices.update(admin, GB_ID, lambda device: DeviceChanges(name="北门"))

    assert (await rig.actions.channels.get(admin, channel.id)).device.name == "北门"


async def test_an_administrator_changes_plan_and_name_and_the_recorder_is_nudged(rig: Rig):
    channel = await rig.channel()
    admin = await rig.user(Role.ADMIN)
    nudged = []
    rig.actions.channels.on_plan_changed = nudged.append

    await rig.actions.channels.update(admin, channel.id, name=" 东门 2 ")
    assert nudged == []
    entry = await rig.actions.channels.update(admin, channel.id, record_plan=RecordPlan.NONE)

    assert (entry.channel.name, entry.channel.record_plan) == ("东门 2", RecordPlan.NONE)
    assert nudged == [channel.id]
    assert (await rig.audited())[-1][2:] == ("channel_manage", f"channel:{channel.id}", "ok")


async def test_an_operator_changes_no_plan_and_nobody_empties_a_name(rig: Rig):
    channel = await rig.channel()
    operator, admin = await rig.user(Role.OPERATOR), await rig.user(Role.ADMIN)

    with pytest.raises(Denied):
        await rig.actions.channels.update(operator, channel.id, record_plan=RecordPlan.NONE)
    with pytest.raises(Invalid):
        await rig.actions.channels.update(admin, channel.id, name=" \x07 ")


async def test_attempts_are_told_newest_first(rig: Rig):
    channel = await rig.channel()
    actor = await rig.user(Role.AUDITOR)
    for number in range(3):
        started_us = UtcMicros(NOON_US + number)
        await rig.store.streams.save_attempt(Attempt(f"a{number}", channel.id, started_us))

    found = await rig.actions.channels.attempts(actor, CHANNEL_GB_ID, 2)

    assert [attempt.id for attempt in found] == ["a2", "a1"]


async def test_files_on_the_device_are_asked_of_the_device(rig: Rig):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)

    (item,) = await rig.actions.channels.records(
        actor, CHANNEL_GB_ID, NOON_US, UtcMicros(NOON_US + SECOND)
    )

    assert item.size_bytes == 1024


async def test_the_timeline_is_drawn_from_rows_open_segments_and_change_points(rig: Rig):
    channel = await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    rig.clock.pass_s(300)
    await rig.store.segments.commit(
        [stored(rig, channel.id, 10, 60, 10), stored(rig, channel.id, 70, 60, 10)]
    )
    now = rig.clock.now_us()
    rig.streams.writing = [
        OpenSegment(channel.id, UtcMicros(NOON_US + 200 * SECOND), 0,
                    UtcMicros(NOON_US + 200 * SECOND), UtcMicros(now - SECOND))
    ]  # fmt: skip
    await rig.store.changes.append(
        [
            ChangePoint(f"channel:{channel.id}", Axis.RECORDING, UtcMicros(NOON_US + at * SECOND),
                        state, cause, evidence)
            for at, state, cause, evidence in (
                (0, "gap", "platform_restart", "bringing up"),
                (10, "recording", "", ""),
                (130, "gap", "no_media", "stalled"),
                (200, "recording", "", ""),
            )
        ]
    )  # fmt: skip

    line = await rig.actions.channels.timeline(
        actor, CHANNEL_GB_ID, UtcMicros(NOON_US - 60 * SECOND), UtcMicros(NOON_US + 3600 * SECOND)
    )

    def since_noon(piece) -> tuple[int, int]:
        return (piece.start_us - NOON_US) // SECOND, (piece.end_us - NOON_US) // SECOND

    assert [(*since_noon(span), span.open) for span in line.spans] == [
        (10, 130, False),
        (200, 300, True),
    ]
    assert [(*since_noon(gap), gap.cause) for gap in line.gaps] == [
        (-60, 0, GapCause.NOT_PLANNED),
        (0, 10, GapCause.PLATFORM_RESTART),
        (130, 200, GapCause.NO_MEDIA),
    ]


async def test_a_window_that_ends_before_a_gap_was_noticed_has_its_cause_too(rig: Rig):
    channel = await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    rig.clock.pass_s(300)
    await rig.store.segments.commit([stored(rig, channel.id, 10, 60, 10)])
    await rig.store.changes.append(
        [
            ChangePoint(f"channel:{channel.id}", Axis.RECORDING, UtcMicros(NOON_US + at * SECOND),
                        state, cause)
            for at, state, cause in ((10, "recording", ""), (85, "gap", "no_media"))
        ]
    )  # fmt: skip

    line = await rig.actions.channels.timeline(
        actor, CHANNEL_GB_ID, UtcMicros(NOON_US + 30 * SECOND), UtcMicros(NOON_US + 75 * SECOND)
    )

    assert [gap.cause for gap in line.gaps] == [GapCause.NO_MEDIA]


async def test_a_long_timeline_is_read_page_by_page(rig: Rig, monkeypatch):
    monkeypatch.setattr(channels_module, "FIND_ROWS", 4)
    channel = await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    rig.clock.pass_s(600)
    await rig.store.segments.commit(
        [stored(rig, channel.id, number * 60, 60, 0) for number in range(10)]
    )

    line = await rig.actions.channels.timeline(
        actor, channel.id, NOON_US, UtcMicros(NOON_US + 600 * SECOND)
    )

    assert [(span.start_us, span.end_us) for span in line.spans] == [
        (NOON_US, NOON_US + 600 * SECOND)
    ]
    assert line.gaps == ()


@pytest.mark.parametrize(("from_us", "until_us"), [(5, 5), (6, 5), (0, 32 * 86_400_000_000)])
async def test_a_window_is_forwards_and_a_month_at_most(rig: Rig, from_us: int, until_us: int):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)

    for ask in (rig.actions.channels.timeline, rig.actions.channels.records):
        with pytest.raises(Invalid):
            await ask(actor, CHANNEL_GB_ID, UtcMicros(from_us), UtcMicros(until_us))


async def test_an_auditor_learns_nothing_of_recordings(rig: Rig):
    await rig.channel()
    actor = await rig.user(Role.AUDITOR)

    with pytest.raises(Denied):
        await rig.actions.channels.timeline(
            actor, GbId(CHANNEL_GB_ID), NOON_US, UtcMicros(NOON_US + 1)
        )
