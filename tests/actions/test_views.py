"""Views: no media without a row that says who, and none after the right has gone."""

import asyncio

import pytest

from tests.actions.rig import CHANNEL_GB_ID, NOON_US, SECOND, Rig
from vsp.actions import views as views_module
from vsp.errors import Denied, Exhausted, Invalid, NotFound, Unavailable, Unsupported
from vsp.model.ids import ChannelId, GbId, UtcMicros, ViewId
from vsp.model.people import Role
from vsp.model.stream import Attempt, StreamState, ViewEndpoint

START_US = UtcMicros(NOON_US - 60 * SECOND)


async def test_a_live_view_comes_with_an_address_and_a_ticket_of_its_own(rig: Rig):
    channel = await rig.channel()
    actor = await rig.user(Role.OPERATOR)

    opened = await rig.actions.views.open_live(actor, CHANNEL_GB_ID)

    assert opened.url == f"ws://127.0.0.1:18100/live/{opened.view.id}"
    assert opened.ticket not in opened.url
    ticket = rig.signer.verifier().verify(opened.ticket, rig.clock.now_us())
    assert (ticket.view_id, ticket.channel_id, ticket.kind) == (opened.view.id, channel.id, "live")
    assert ticket.user_id == actor.user.id
    assert ticket.expires_at_us == opened.expires_at_us == NOON_US + 60 * SECOND


async def test_a_view_is_one_row_when_it_opens_and_one_when_it_ends(rig: Rig):
    channel = await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    opened = await rig.actions.views.open_live(actor, CHANNEL_GB_ID, "incident 7")
    subject = f"channel:{channel.id}"

    assert (await rig.audited())[-1] == ("opened", "operator", "view_live", subject, "")
    rig.clock.pass_s(90)
    await rig.streams.on_view_ended(opened.view.id, "the viewer has gone")

    assert (await rig.audited())[-1] == ("ended", "operator", "view_live", subject, "ok")
    assert await rig.store.audit.verify() == 4


async def test_the_end_may_be_reported_twice_or_for_a_stranger(rig: Rig):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    opened = await rig.actions.views.open_live(actor, CHANNEL_GB_ID)

    for view_id in (opened.view.id, opened.view.id, ViewId("never")):
        await rig.streams.on_view_ended(view_id, "gone")

    assert len(await rig.audited()) == 4


async def test_a_failed_opening_is_audited_with_its_kind_and_leaves_nothing_open(rig: Rig):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    rig.streams.failure = Unavailable("device is offline", cause="device_offline: no heartbeat")

    with pytest.raises(Unavailable):
        await rig.actions.views.open_live(actor, CHANNEL_GB_ID)

    assert (await rig.audited())[-1][4] == "unavailable"
    assert rig.actions.views.open_count == 0


async def test_playback_needs_its_end_after_its_start(rig: Rig):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)

    with pytest.raises(Invalid):
        await rig.actions.views.open_playback(actor, CHANNEL_GB_ID, START_US, START_US)
    opened = await rig.actions.views.open_playback(actor, CHANNEL_GB_ID, START_US, None)

    assert rig.signer.verifier().verify(opened.ticket, NOON_US).kind == "playback"
    assert (await rig.actions.views.get(actor, opened.view.id)).state is StreamState.FLOWING


@pytest.mark.parametrize("open_it", ["open_live", "open_playback"])
async def test_an_auditor_sees_no_pictures(rig: Rig, open_it: str):
    await rig.channel()
    actor = await rig.user(Role.AUDITOR)
    more = (START_US, None) if open_it == "open_playback" else ()

    with pytest.raises(Denied):
        await getattr(rig.actions.views, open_it)(actor, CHANNEL_GB_ID, *more)

    assert rig.streams.attached == {}


async def test_what_is_not_a_camera_cannot_be_played(rig: Rig):
    channel = await rig.channel(playable=False)
    actor = await rig.user(Role.OPERATOR)

    with pytest.raises(Unsupported):
        await rig.actions.views.open_live(actor, channel.id)


async def test_a_user_has_room_for_a_bounded_number_of_views(rig: Rig, monkeypatch):
    monkeypatch.setattr(views_module, "VIEWS_PER_USER_MAX", 3)
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    opened = [await rig.actions.views.open_live(actor, CHANNEL_GB_ID) for _ in range(3)]

    with pytest.raises(Exhausted):
        await rig.actions.views.open_live(actor, CHANNEL_GB_ID)
    await rig.actions.views.close(actor, opened[0].view.id)

    assert await rig.actions.views.open_live(actor, CHANNEL_GB_ID)


async def test_a_view_is_its_owners_and_an_administrators_alone(rig: Rig):
    await rig.channel()
    owner = await rig.user(Role.OPERATOR)
    other = await rig.user(Role.OPERATOR, "other")
    admin = await rig.user(Role.ADMIN)
    opened = await rig.actions.views.open_live(owner, CHANNEL_GB_ID)

    for act in (rig.actions.views.get, rig.actions.views.close):
        with pytest.raises(NotFound):
            await act(other, opened.view.id)
    assert (await rig.actions.views.get(admin, opened.view.id)).view.user_id == owner.user.id
    await rig.actions.views.close(admin, opened.view.id)

    assert rig.actions.views.open_count == 0


async def test_a_closed_view_says_why_for_a_while_and_closing_it_again_is_harmless(rig: Rig):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    opened = await rig.actions.views.open_live(actor, CHANNEL_GB_ID)
    await rig.actions.views.close(actor, opened.view.id)

    status = await rig.actions.views.get(actor, opened.view.id)

    assert status.state is StreamState.ENDED
    assert status.view.cause == "closed by its viewer"
    await rig.actions.views.close(actor, opened.view.id)
    assert len(rig.streams.detached) == 1


async def test_ended_views_are_forgotten_oldest_first(rig: Rig, monkeypatch):
    monkeypatch.setattr(views_module, "ENDED_KEPT", 2)
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    opened = [await rig.actions.views.open_live(actor, CHANNEL_GB_ID) for _ in range(3)]
    for each in opened:
        await rig.actions.views.close(actor, each.view.id)

    with pytest.raises(NotFound):
        await rig.actions.views.get(actor, opened[0].view.id)
    assert await rig.actions.views.get(actor, opened[2].view.id)


async def test_a_view_shows_its_stream_and_the_last_attempt(rig: Rig):
    channel = await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    opened = await rig.actions.views.open_live(actor, CHANNEL_GB_ID)
    await rig.store.streams.save_attempt(
        Attempt("a1", channel.id, NOON_US, succeeded=False, cause="refused: 486")
    )

    status = await rig.actions.views.get(actor, opened.view.id)

    assert status.state is StreamState.FLOWING
    assert status.status.stats.width == 1920
    assert status.attempt.cause == "refused: 486"


async def test_a_right_that_was_taken_away_elsewhere_cuts_the_view_at_the_next_check(rig: Rig):
    await rig.channel()
    actor, other = await rig.user(Role.OPERATOR), await rig.user(Role.OPERATOR, "other")
    cut = await rig.actions.views.open_live(actor, CHANNEL_GB_ID)
    kept = await rig.actions.views.open_live(other, CHANNEL_GB_ID)
    await rig.actions.views.enforce()
    assert rig.streams.detached == []

    # Another process (the command line) changed the row; nobody told us.
    await rig.store.people.set_user(actor.user.id, role=Role.AUDITOR)
    await rig.actions.views.enforce()

    assert [view for view, _ in rig.streams.detached] == [cut.view.id]
    assert "right has ended" in rig.streams.detached[0][1]
    assert (await rig.actions.views.get(other, kept.view.id)).view.ended_us is None


async def test_a_worker_that_is_away_does_not_keep_the_books_open(rig: Rig, monkeypatch):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    opened = await rig.actions.views.open_live(actor, CHANNEL_GB_ID)

    async def away(view_id: ViewId, cause: str) -> None:
        raise Unavailable("worker 0 does not answer")

    monkeypatch.setattr(rig.streams, "detach", away)
    await rig.actions.views.close(actor, opened.view.id)

    assert (await rig.audited())[-1][0] == "ended"
    assert rig.actions.views.open_count == 0


async def test_a_view_cut_while_it_is_being_opened_does_not_stay_open(rig: Rig, monkeypatch):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    attaching, go_on = asyncio.Event(), asyncio.Event()

    async def slowly(channel, view_id: ViewId, name: str) -> ViewEndpoint:
        attaching.set()
        await go_on.wait()
        return rig.streams._attach(channel, view_id, "live")

    monkeypatch.setattr(rig.streams, "attach_live", slowly)
    opening = asyncio.create_task(rig.actions.views.open_live(actor, CHANNEL_GB_ID))
    await attaching.wait()
    await rig.actions.views.cut_user(actor.user.id, "the account was changed")
    go_on.set()

    with pytest.raises(Unavailable):
        await opening
    assert rig.streams.attached == {}
    assert rig.actions.views.open_count == 0


async def test_a_stop_completes_every_row(rig: Rig):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    for _ in range(3):
        await rig.actions.views.open_live(actor, CHANNEL_GB_ID)

    await rig.actions.views.close_all("the platform is stopping")

    phases = [row[0] for row in await rig.audited()]
    assert phases.count("opened") == phases.count("ended")


async def test_without_an_audit_log_nothing_is_opened(rig: Rig, monkeypatch):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)

    async def broken(draft: object) -> None:
        raise Unavailable("the database is read-only")

    monkeypatch.setattr(rig.store.audit, "_append", broken)

    with pytest.raises(Unavailable):
        await rig.actions.views.open_live(actor, CHANNEL_GB_ID)
    assert rig.streams.attached == {}


async def test_an_unknown_channel_is_not_found(rig: Rig):
    actor = await rig.user(Role.OPERATOR)

    with pytest.raises(NotFound):
        await rig.actions.views.open_live(actor, ChannelId("0" * 28))
    with pytest.raises(NotFound):
        await rig.actions.views.open_live(actor, GbId("34020000001320009999"))
