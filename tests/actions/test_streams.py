"""Inbound streams: one per channel, shared, traced, recovered, ended after a grace time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from tests.actions.scripted import (
    Changes,
    Counting,
    Ledger,
    Register,
    Signalling,
    Worker,
    channel,
    dialog_state,
)
from tests.e2e.platform import until
from vsp.access.destination import Surroundings
from vsp.actions import streams as module
from vsp.actions.attempts import LegFailed
from vsp.actions.streams import SsrcSpace, StreamManager
from vsp.actions.workers import WorkerPool
from vsp.clock import SystemClock, SystemIds
from vsp.config import MediaConfig
from vsp.errors import Unavailable
from vsp.model.changes import ChangePoint
from vsp.model.device import DeviceSettings, MediaTransport
from vsp.model.ids import DeviceId, SessionId, UtcMicros, ViewId, WorkerId
from vsp.model.stream import Leg, SessionPort, SessionSpec, SessionStatus, StreamState
from vsp.ports import Clock, DialogRow, DialogUse

GRACE_S = 0.05
NO_MEDIA_S = 0.05

OLD = DialogRow(
    dialog_state("old-call"),
    DeviceId("d1"),
    DialogUse(channel(1).id, SessionId("s1"), WorkerId(0)),
    UtcMicros(1),
)
"""Left by the process before."""


@dataclass
class Bench:
    """A stream manager with scripted neighbours."""

    streams: StreamManager
    signal: Signalling
    worker: Worker
    ledger: Ledger
    changes: Changes
    register: Register
    ended: list[tuple[str, str]]

    async def settle(self) -> None:
        """Let every task that can run, run."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def wait_for(self, condition) -> None:
        async def probe() -> bool:
            return bool(condition())

        await until("the condition holds", probe, 5)


class SteadyClock(SystemClock):
    """Monotonic time as the test says."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


def build(settings: DeviceSettings | None = None, clock: Clock | None = None) -> Bench:
    register = Register(channel(1), channel(2), settings=settings)
    signal, worker, ledger, changes = Signalling(), Worker(), Ledger(), Changes()
    pool = WorkerPool([worker])
    pool._sessions[worker.worker_id] = 0
    streams = StreamManager(
        devices=register,
        signal=signal,
        pool=pool,
        book=ledger,
        changes=changes,
        clock=clock or SystemClock(),
        ids=SystemIds(),
        metrics=Counting(),
        media=MediaConfig(grace_s=GRACE_S, first_packet_timeout_s=NO_MEDIA_S),
        platform_id="34020000002000000001",
        around=Surroundings(),
    )
    worker.on_session = streams.session_changed
    ended: list[tuple[str, str]] = []

    async def view_ended(view_id: ViewId, cause: str) -> None:
        ended.append((view_id, cause))

    streams.on_view_ended = view_ended
    return Bench(streams, signal, worker, ledger, changes, register, ended)


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = build()
    yield made
    await made.streams.close()


async def test_two_viewers_of_a_channel_share_one_invite(bench: Bench):
    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.streams.attach_live(channel(1), ViewId("v2"), "li")
    await bench.wait_for(lambda: bench.ledger.told)

    assert len(bench.signal.invites) == 1
    assert set(bench.worker.views) == {"v1", "v2"}
    assert bench.ledger.told[-1].succeeded


async def test_the_last_viewer_leaving_ends_the_stream_after_the_grace_time(bench: Bench):
    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)

    await bench.streams.detach(ViewId("v1"), "closed")
    await bench.settle()
    assert not bench.signal.byes, "within the grace time nothing is hung up"
    await bench.wait_for(lambda: bench.signal.byes)
    await bench.settle()

    assert bench.streams.stream_of(channel(1).id) is None
    assert bench.worker.closed[0][1] == "nobody watches any more"


async def test_a_viewer_within_the_grace_time_keeps_the_stream(bench: Bench):
    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)
    await bench.streams.detach(ViewId("v1"), "closed")

    await bench.streams.attach_live(channel(1), ViewId("v2"), "chen")
    await asyncio.sleep(GRACE_S * 3)

    assert not bench.signal.byes
    assert len(bench.signal.invites) == 1


async def test_a_recorded_stream_outlives_its_viewers(bench: Bench):
    await bench.streams.record(channel(1))
    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)

    await bench.streams.detach(ViewId("v1"), "closed")
    await asyncio.sleep(GRACE_S * 3)

    assert not bench.signal.byes


async def test_an_offline_device_fails_at_once_and_names_its_leg(bench: Bench):
    bench.signal.online = False

    with pytest.raises(LegFailed) as failed:
        await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")

    assert failed.value.leg is Leg.DEVICE_OFFLINE
    assert bench.ledger.told[0].leg is Leg.DEVICE_OFFLINE
    assert not bench.signal.invites


async def test_no_media_over_udp_is_tried_again_over_tcp_on_the_same_port(bench: Bench):
    bench.worker.media = lambda: bench.signal.invites[-1].transport == "tcp_passive"

    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)

    assert [spec.transport for spec in bench.signal.invites] == ["udp", "tcp_passive"]
    assert len({spec.port for spec in bench.signal.invites}) == 1
    assert [dialog.call_id for dialog in bench.signal.byes] == ["call-1"]
    told = bench.ledger.told[-1]
    assert told.succeeded
    assert told.transport is MediaTransport.TCP_PASSIVE
    assert "udp failed" in [step.what for step in told.steps]


async def test_a_device_that_cannot_send_over_udp_is_asked_over_tcp(bench: Bench):
    refusal = LegFailed(Leg.REFUSED, "488 Not Acceptable Here")
    refusal.status = 488  # type: ignore[attr-defined]
    bench.signal.answers = [refusal]

    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)

    assert [spec.transport for spec in bench.signal.invites] == ["udp", "tcp_passive"]
    assert bench.ledger.told[-1].succeeded


async def test_an_administrators_transport_is_not_overruled():
    bench = build(DeviceSettings(media_transport=MediaTransport.TCP_PASSIVE))
    bench.worker.media = lambda: False

    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)

    assert [spec.transport for spec in bench.signal.invites] == ["tcp_passive"]
    assert bench.ledger.told[-1].leg is Leg.NO_MEDIA
    await bench.streams.close()


async def test_a_refused_invite_tells_the_viewer_the_leg_and_ends_the_view(bench: Bench):
    refusal = LegFailed(Leg.REFUSED, "486 Busy Here (Call-ID c1)")
    bench.signal.answers = [refusal]

    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ended)

    assert bench.ended == [("v1", "refused: 486 Busy Here (Call-ID c1)")]
    assert bench.worker.closed[0][1] == "refused: 486 Busy Here (Call-ID c1)"
    assert bench.ledger.told[-1].cause == "refused: 486 Busy Here (Call-ID c1)"
    assert bench.streams.stream_of(channel(1).id) is None


async def test_packets_from_elsewhere_are_named_as_such(bench: Bench):
    bench.worker.media = lambda: False
    bench.worker.foreign = 17

    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)

    assert bench.ledger.told[-1].leg is Leg.FOREIGN_MEDIA
    assert "17 packets" in bench.ledger.told[-1].cause


async def test_a_stalled_stream_is_invited_again_and_its_viewers_stay(bench: Bench):
    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)
    (session_id,) = bench.worker.opened

    await bench.worker.becomes(session_id, StreamState.STALLED, "no packet for 10 s")
    await bench.wait_for(lambda: len(bench.ledger.told) == 2)

    assert [dialog.call_id for dialog in bench.signal.byes] == ["call-1"]
    assert len(bench.signal.invites) == 2
    assert set(bench.worker.views) == {"v1"}
    assert list(bench.worker.opened) == [session_id]


async def test_a_bye_from_the_device_brings_the_stream_up_again(bench: Bench):
    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)

    bench.streams.dialog_ended("call-1", "BYE from the device")
    await bench.wait_for(lambda: len(bench.ledger.told) == 2)

    assert not bench.signal.byes
    assert [remote.dialog.call_id for remote in bench.worker.bound] == ["call-1", "call-2"]
    assert bench.signal.invites[0].ssrc != bench.signal.invites[1].ssrc


async def test_a_restarted_node_adopts_what_the_worker_still_receives(bench: Bench):
    bench.worker.opened[SessionId("s1")] = None  # type: ignore[assignment]
    bench.worker.views[ViewId("old-view")] = None  # type: ignore[assignment]
    status = _status("s1", "c1")

    await bench.streams.restore([OLD])
    await bench.streams.worker_adopted(WorkerId(0), [status])

    assert not bench.worker.views, "views of the node before have nobody who judges them"
    assert bench.streams.status_of(channel(1).id).session_id == "s1"
    assert not bench.signal.invites
    assert not bench.signal.byes


async def test_media_without_a_picture_is_told_as_such(bench: Bench):
    await bench.streams.record(channel(1))
    await bench.wait_for(lambda: bench.ledger.told)
    (session_id,) = bench.worker.opened
    cause = "media, but no key picture for 12 s"

    await bench.worker.becomes(session_id, StreamState.WAITING_KEYFRAME)
    await bench.worker.becomes(session_id, StreamState.WAITING_KEYFRAME, cause)

    failed = bench.ledger.told[-1]
    assert (failed.succeeded, failed.leg, failed.cause) == (
        False,
        Leg.NOT_DECODABLE,
        f"not_decodable: {cause}",
    )
    assert failed.next_step


async def test_we_connect_to_the_device_itself_and_nowhere_else():
    bench = build(DeviceSettings(media_transport=MediaTransport.TCP_ACTIVE))
    stream = await bench.streams.record(channel(1))
    await bench.wait_for(lambda: bench.worker.bound)
    assert bench.worker.bound[0].dial == ("192.0.2.7",)
    assert stream.dialog is not None

    bench.signal.media_hosts = ("10.0.0.5",)
    with pytest.raises(LegFailed) as refused:
        bench.streams._may_be_dialled(await bench.signal.invite(bench.signal.invites[0]))
    await bench.streams.close()

    assert refused.value.leg is Leg.DESTINATION_REFUSED
    assert "neither the device's own address (192.0.2.7)" in refused.value.message


async def test_a_stream_that_fell_silent_while_nobody_looked_is_invited_again(bench: Bench):
    await bench.worker.open_session(
        SessionSpec(SessionId("s1"), channel(1).id, MediaTransport.UDP, 1)
    )
    await bench.streams.restore([OLD])

    stalled = replace(_status("s1", "c1"), state=StreamState.STALLED)
    await bench.streams.worker_adopted(WorkerId(0), [stalled])
    await bench.wait_for(lambda: bench.ledger.told)

    assert [dialog.call_id for dialog in bench.signal.byes] == ["old-call"]
    assert bench.ledger.told[0].succeeded
    assert bench.streams.stream_of(channel(1).id).state is StreamState.FLOWING


async def test_a_stream_that_outlived_the_node_is_not_asked_for_twice(bench: Bench):
    await bench.streams.restore([OLD])

    early = asyncio.create_task(bench.streams.record(channel(1)))
    await bench.settle()
    assert not early.done(), "the worker has not said yet what it receives"
    await bench.streams.worker_adopted(WorkerId(0), [_status("s1", "c1")])
    stream = await early

    assert stream.session_id == "s1"
    assert not bench.signal.invites


async def test_a_worker_that_lost_its_sessions_has_its_dialogs_hung_up(bench: Bench):
    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)

    await bench.streams.worker_adopted(WorkerId(0), [])
    await bench.wait_for(lambda: bench.signal.byes)
    await bench.settle()

    assert [dialog.call_id for dialog in bench.signal.byes] == ["call-1"]
    assert bench.ended[0][0] == "v1"


async def test_a_stream_that_is_opened_while_its_worker_is_adopted_stays(bench: Bench):
    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)
    keep_views = bench.worker.keep_views

    async def opening_one(view_ids: Sequence[ViewId]) -> Sequence[ViewId]:
        await bench.streams.attach_live(channel(2), ViewId("v2"), "li")
        await bench.wait_for(lambda: len(bench.ledger.told) == 2)
        return await keep_views(view_ids)

    bench.worker.keep_views = opening_one  # type: ignore[method-assign]
    await bench.streams.worker_adopted(WorkerId(0), [])
    await bench.wait_for(lambda: bench.signal.byes)
    await bench.settle()

    assert [dialog.call_id for dialog in bench.signal.byes] == ["call-1"]
    assert bench.streams.stream_of(channel(2).id) is not None


@pytest.mark.parametrize("state", [StreamState.SIGNALLING, StreamState.WAITING_MEDIA])
async def test_a_session_that_had_no_packet_yet_is_begun_anew(bench: Bench, state: StreamState):
    bench.worker.opened[SessionId("s1")] = None  # type: ignore[assignment]
    await bench.streams.restore([OLD])

    await bench.streams.worker_adopted(WorkerId(0), [replace(_status("s1", "c1"), state=state)])
    await bench.wait_for(lambda: bench.signal.byes)
    await bench.streams.record(channel(1))
    await bench.wait_for(lambda: bench.signal.invites)

    assert bench.worker.closed == [("s1", "worker: not asked for any more")]
    assert [dialog.call_id for dialog in bench.signal.byes] == ["old-call"]


async def test_a_worker_is_adopted_while_the_database_refuses(bench: Bench):
    await bench.streams.restore([OLD])
    bench.register.refuses = True

    await bench.streams.worker_adopted(WorkerId(0), [_status("s1", "c1")])

    assert bench.streams.status_of(channel(1).id).session_id == "s1"


async def test_a_stream_that_was_asked_for_anew_meanwhile_is_not_adopted_beside(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    await bench.streams.restore([OLD])
    monkeypatch.setattr(module, "ADOPTION_WAIT_S", 0.01)
    anew = await bench.streams.record(channel(1))
    bench.worker.opened[SessionId("s1")] = None  # type: ignore[assignment]

    await bench.streams.worker_adopted(
        WorkerId(0), [_status("s1", "c1"), _status(anew.session_id, "c1")]
    )
    await bench.wait_for(lambda: bench.signal.byes)

    assert bench.streams.stream_of(channel(1).id) is anew
    assert bench.worker.closed == [("s1", "worker: not asked for any more")]


async def test_a_stream_that_is_ending_is_not_taken_over_once_more(bench: Bench):
    flowing = _status("s1", "c1")
    await bench.streams.restore([OLD])
    await bench.streams.worker_adopted(WorkerId(0), [flowing])
    bench.streams.stream_of(channel(1).id).state = StreamState.WAITING_MEDIA
    at_change, going_on = asyncio.Event(), asyncio.Event()

    async def slowly(points: Sequence[ChangePoint]) -> None:
        at_change.set()
        await going_on.wait()

    bench.changes.append = slowly  # type: ignore[method-assign]
    ending = asyncio.create_task(bench.streams.device_offline(DeviceId("d1")))
    await at_change.wait()

    await bench.streams.worker_adopted(WorkerId(0), [flowing])
    going_on.set()
    await ending
    await bench.wait_for(lambda: bench.signal.byes)

    assert bench.streams.stream_of(channel(1).id) is None
    assert {session_id for session_id, _ in bench.worker.closed} == {"s1"}
    assert [dialog.call_id for dialog in bench.signal.byes] == ["old-call"]


async def test_what_a_device_has_ended_is_not_ended_again(bench: Bench):
    await bench.streams.restore([OLD])

    bench.streams.dialog_ended("old-call", "BYE from the device")
    await bench.streams.worker_adopted(WorkerId(0), [])
    await bench.settle()

    assert not bench.signal.byes


async def test_a_call_whose_worker_is_no_more_is_ended(bench: Bench):
    elsewhere = replace(OLD, use=replace(OLD.use, worker_id=WorkerId(9)))
    await bench.streams.restore([elsewhere])

    bench.streams.end_what_nobody_receives()
    await bench.wait_for(lambda: bench.signal.byes)
    await asyncio.wait_for(bench.streams.record(channel(1)), 1)

    assert [dialog.call_id for dialog in bench.signal.byes] == ["old-call"]


async def test_what_is_being_ended_is_no_stream_any_more(bench: Bench):
    await bench.streams.restore([replace(OLD, ending_us=UtcMicros(2)), replace(OLD, use=None)])

    await bench.streams.worker_adopted(WorkerId(0), [_status("s1", "c1")])
    await bench.settle()

    assert bench.worker.closed == [("s1", "worker: not asked for any more")]
    assert not bench.signal.byes, "signalling sees to it"


async def test_a_dialog_says_whose_it_is(bench: Bench):
    stream = await bench.streams.record(channel(1))
    await bench.wait_for(lambda: bench.signal.invites)

    assert bench.signal.invites[0].use == DialogUse(channel(1).id, stream.session_id, WorkerId(0))


async def test_a_session_nobody_knows_is_closed_on_the_worker(bench: Bench):
    await bench.streams.worker_adopted(WorkerId(0), [_status("orphan", "c9")])

    assert bench.worker.closed == [("orphan", "worker: not asked for any more")]


async def test_a_call_whose_row_was_never_written_is_ended_as_its_worker_knows_it(bench: Bench):
    unknown = replace(_status("orphan", "c9"), dialog=dialog_state("unwritten"))

    await bench.streams.worker_adopted(WorkerId(0), [unknown])
    await bench.wait_for(lambda: bench.signal.byes)

    assert [dialog.call_id for dialog in bench.signal.byes] == ["unwritten"]


async def test_a_session_that_was_opened_after_we_gave_it_up_is_ended(bench: Bench):
    open_session = bench.worker.open_session

    async def too_late(spec: SessionSpec) -> SessionPort:
        await open_session(spec)
        raise Unavailable("media worker 0 did not answer within 10 s")

    bench.worker.open_session = too_late  # type: ignore[method-assign]
    with pytest.raises(LegFailed):
        await bench.streams.record(channel(1))
    (orphan,) = bench.worker.opened

    await bench.streams.measure()
    assert not bench.worker.closed, "its end may be on the way"
    await bench.streams.measure()

    assert bench.worker.closed == [(orphan, "worker: not asked for any more")]


async def test_a_session_that_is_being_opened_is_not_taken_for_nobodys(bench: Bench):
    open_session, answered = bench.worker.open_session, asyncio.Event()

    async def slowly(spec: SessionSpec) -> SessionPort:
        port = await open_session(spec)
        await answered.wait()
        return port

    bench.worker.open_session = slowly  # type: ignore[method-assign]
    opening = asyncio.create_task(bench.streams.record(channel(1)))
    await bench.wait_for(lambda: bench.worker.opened)

    for _ in range(3):
        await bench.streams.measure()
        await bench.streams.worker_adopted(WorkerId(0), await bench.worker.sessions())
    answered.set()
    stream = await opening

    assert not bench.worker.closed
    assert bench.streams.stream_of(channel(1).id) is stream


async def test_a_session_that_is_being_ended_is_left_to_who_ends_it(bench: Bench):
    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.wait_for(lambda: bench.ledger.told)
    bench.signal.answers_bye.clear()
    await bench.streams.detach(ViewId("v1"), "closed")
    await bench.wait_for(lambda: bench.signal.byes)

    for _ in range(3):
        await bench.streams.measure()
    bench.signal.answers_bye.set()
    await bench.wait_for(lambda: bench.worker.closed)

    assert [cause for _, cause in bench.worker.closed] == ["nobody watches any more"]


async def test_a_worker_that_does_not_answer_hides_no_other(bench: Bench):
    class Silent(Worker):
        worker_id = WorkerId(7)

        async def sessions(self) -> Sequence[SessionStatus]:
            raise Unavailable("media worker 7 did not answer within 10 s")

    stream = await bench.streams.record(channel(1))
    pool = bench.streams._pool
    pool._workers = {WorkerId(7): Silent(), **pool._workers}
    pool._sessions = {WorkerId(7): 0, **pool._sessions}
    stream.status = None

    await bench.streams.measure()

    assert stream.status is not None


# ---- streams that do not last ---------------------------------------------------------------


async def lost_again(bench: Bench, times: int) -> list[float]:
    """Seconds from each loss to the next INVITE, of a stream that is lost as soon as it is up."""
    loop = asyncio.get_running_loop()
    waits: list[float] = []
    (session_id,) = bench.worker.opened
    for _ in range(times):
        lost, told = loop.time(), len(bench.ledger.told)
        await bench.worker.becomes(session_id, StreamState.ENDED, "internal error")
        await bench.wait_for(lambda told=told: len(bench.ledger.told) > told)
        waits.append(loop.time() - lost)
    return waits


async def test_a_stream_that_is_lost_as_soon_as_it_is_up_is_invited_with_growing_pauses(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "RETRY_FIRST_S", 0.1)
    monkeypatch.setattr(module, "RETRY_MAX_S", 0.3)
    await bench.streams.record(channel(1))
    await bench.wait_for(lambda: bench.ledger.told)

    waits = await lost_again(bench, 5)

    assert all(waited >= due for waited, due in zip(waits, (0, 0.1, 0.2, 0.3, 0.3), strict=True))


async def test_a_lost_stream_waits_for_a_register_that_refuses(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "RETRY_FIRST_S", 0.05)
    stream = await bench.streams.record(channel(1))
    await bench.wait_for(lambda: bench.ledger.told)
    (session_id,) = bench.worker.opened

    bench.register.refuses = True
    await bench.worker.becomes(session_id, StreamState.STALLED, "no packet for 10 s")
    await bench.wait_for(lambda: len(bench.ledger.told) > 1)
    assert bench.ledger.told[-1].cause == "the database refuses"
    bench.register.refuses = False
    await bench.wait_for(lambda: len(bench.signal.invites) == 2)

    assert bench.streams.stream_of(channel(1).id) is stream


async def test_a_stream_that_was_steady_is_invited_at_once_however_often_it_was_lost():
    clock = SteadyClock()
    bench = build(clock=clock)
    await bench.streams.record(channel(1))
    await bench.wait_for(lambda: bench.ledger.told)

    for _ in range(3):
        clock.now += module.STEADY_S
        [waited] = await lost_again(bench, 1)
        assert waited < module.RETRY_FIRST_S

    clock.now += module.STEADY_S - 1
    [waited] = await lost_again(bench, 1)
    assert waited >= module.RETRY_FIRST_S
    await bench.streams.close()


async def test_a_stream_whose_packets_come_again_within_the_pause_is_let_be(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "RETRY_FIRST_S", 0.1)
    await bench.streams.record(channel(1))
    await bench.wait_for(lambda: bench.ledger.told)
    (session_id,) = bench.worker.opened
    await lost_again(bench, 1)

    await bench.worker.becomes(session_id, StreamState.STALLED, "no packet for 10 s")
    await bench.settle()
    await bench.worker.becomes(session_id, StreamState.FLOWING)
    bring_up = bench.streams.stream_of(channel(1).id).bring_up
    await asyncio.wait_for(bring_up, 5)

    assert len(bench.signal.invites) == 2
    assert len(bench.signal.byes) == 1


def _status(session_id: str, channel_id: str):
    from vsp.model.ids import ChannelId
    from vsp.model.stream import SessionStatus, StreamStats

    return SessionStatus(
        session_id=SessionId(session_id),
        channel_id=ChannelId(channel_id),
        worker_id=WorkerId(0),
        state=StreamState.FLOWING,
        transport=MediaTransport.UDP,
        port=30000,
        recording=True,
        viewers=0,
        stats=StreamStats(),
    )


def test_ssrcs_carry_the_domain_and_do_not_repeat_while_in_use():
    # GB/T 28181-2016 annex F: 0, digits 4-8 of the code, four digits
    space = SsrcSpace("13010000002000000001")
    first = space.take(set())

    assert f"{first:010d}".startswith("010000")
    assert space.take({first + 1}) == first + 2


async def test_views_that_a_restarted_worker_does_not_know_have_ended(bench: Bench):
    await bench.streams.attach_live(channel(1), ViewId("v1"), "chen")
    await bench.streams.attach_playback(channel(2), ViewId("v2"), UtcMicros(1), None)
    await bench.streams.attach_playback(channel(2), ViewId("v3"), UtcMicros(1), None)
    await bench.wait_for(lambda: bench.ledger.told)
    del bench.worker.views[ViewId("v2")]

    await bench.streams.worker_adopted(WorkerId(0), await bench.worker.sessions())

    assert bench.ended == [("v2", "worker: the media worker was restarted")]
    assert set(bench.worker.views) == {"v1", "v3"}
