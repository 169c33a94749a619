"""What the witness writes down, and what it answers about when something was wrong."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from simulators.rtp import Packetiser
from simulators.world.loop import Process, VirtualLoop
from simulators.world.pictures import packet, picture
from simulators.world.witness import ROW_BEFORE_S, Received, Witness
from vsp.model.changes import AuditRow
from vsp.model.device import MediaTransport
from vsp.model.ids import ChannelId, SessionId, UtcMicros, ViewId
from vsp.model.people import Action
from vsp.model.stream import SessionSpec, ViewKind, ViewSpec
from vsp.store.audit import ENDED, OPENED

SESSION, CHANNEL = SessionId("a session"), ChannelId("a channel")


@pytest.fixture
def worker() -> Iterator[Process]:
    loop = VirtualLoop()
    yield Process(loop, "worker-0#1")
    loop.close()


def filmed(number: int, *, key: bool = True) -> bytes:
    """The packet of one picture."""
    return packet(Packetiser(7, 0), picture(number, number * 1_000_000, key), number * 1_000_000)


def recording(worker: Process, witness: Witness, now: float) -> SessionSpec:
    """A session that is being recorded from `now` on."""
    spec = SessionSpec(SESSION, CHANNEL, MediaTransport.UDP, 7)
    worker.call(witness.told, "open_session", [spec], now)
    worker.call(witness.told, "start_recording", [SESSION], now)
    return spec


# ---- what was received ----------------------------------------------------------------------


def test_what_a_session_is_given_while_it_is_recorded_is_written_down(worker: Process):
    witness = Witness()
    spec = SessionSpec(SESSION, CHANNEL, MediaTransport.UDP, 7)
    witness.media(spec, filmed(1), 0.5, 0.5)

    recording(worker, witness, 1.0)
    witness.media(spec, filmed(2), 2.0, 2.0)
    witness.media(spec, filmed(3, key=False), 3.0, 3.0)
    worker.call(witness.told, "stop_recording", [SESSION], 4.0)
    witness.media(spec, filmed(4), 5.0, 5.0)

    [taping] = witness.tapings
    assert (taping.channel_id, taping.begin, taping.end) == (CHANNEL, 1.0, 4.0)
    assert taping.received == [Received(2, 2.0, True, 2.0), Received(3, 3.0, False, 3.0)]


def test_a_session_that_is_told_twice_is_recorded_once(worker: Process):
    witness = Witness()

    recording(worker, witness, 1.0)
    worker.call(witness.told, "start_recording", [SESSION], 2.0)

    assert [taping.begin for taping in witness.tapings] == [1.0]


def test_the_next_life_of_a_worker_is_another_recording(worker: Process):
    witness = Witness()
    recording(worker, witness, 1.0)

    recording(Process(worker._loop, "worker-0#2"), witness, 9.0)

    assert [taping.begin for taping in witness.tapings] == [1.0, 9.0]


# ---- who may look ---------------------------------------------------------------------------


def row(channel: ChannelId, phase: str = OPENED) -> AuditRow:
    return AuditRow(
        seq=1,
        act_id=f"{phase} {channel}",
        phase=phase,
        at_us=UtcMicros(0),
        actor="user-1",
        address="203.0.113.9",
        action=Action.VIEW_LIVE,
        subject=f"channel:{channel}",
        reason="",
        result="",
        detail="",
        previous_hash="",
        hash="",
    )


def opened(witness: Witness, view: str, now: float) -> None:
    spec = ViewSpec(ViewId(view), ViewKind.LIVE, CHANNEL, SESSION)
    witness.told("open_view", [spec], now)


def test_every_view_takes_a_row_that_was_written_before():
    witness = Witness()
    witness.acted(row(CHANNEL), 1.0)

    opened(witness, "a", 2.0)
    opened(witness, "a", 2.5)  # asked for again, for the answer was lost
    assert witness.findings == []

    opened(witness, "b", 3.0)
    assert witness.findings == ["3.000 view b of a channel is open and not in the log"]


@pytest.mark.parametrize(
    ("written", "at"),
    [
        (row(ChannelId("another")), 1.0),
        (row(CHANNEL, ENDED), 1.0),
        (row(CHANNEL), 9.0 - ROW_BEFORE_S - 0.1),
    ],
)
def test_another_row_does_not_do(written: AuditRow, at: float):
    witness = Witness()
    witness.acted(written, at)

    opened(witness, "a", 9.0)

    assert len(witness.findings) == 1


# ---- what was wrong -------------------------------------------------------------------------


def test_a_window_disturbs_whom_it_is_about_and_when_it_is_open():
    witness = Witness()
    witness.begin("disk", 10.0).end = 20.0
    witness.begin("worker stopped", 30.0, about="worker-1")

    assert witness.disturbed(0, 10, "disk")
    assert witness.disturbed(20, 25, "clock", "disk")
    assert not witness.disturbed(20.1, 25, "disk")
    assert not witness.disturbed(0, 50, "clock")
    assert witness.disturbed(90, 99, "worker stopped", about="worker-1")  # it has not ended
    assert not witness.disturbed(90, 99, "worker stopped", about="worker-0")


def test_a_death_counts_in_its_time_and_for_its_name(worker: Process):
    witness = Witness()
    for at in (5.0, 15.0):
        witness.died(worker, at)

    assert witness.died_within(4.0, 6.0, "worker-0")
    assert witness.died_within(15.0, 15.0)
    assert not witness.died_within(5.1, 14.9)
    assert not witness.died_within(0.0, 99.0, "node")
