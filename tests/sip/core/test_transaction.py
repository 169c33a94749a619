from __future__ import annotations

import pytest

from tests.sip.core import examples
from tests.sip.core.helpers import CAMERA, CAMERA_TCP, URI
from vsp.sip.core.message import parse_message
from vsp.sip.core.transaction import (
    CLIENT_INVITE,
    CLIENT_OTHER,
    LIFE_S,
    SERVER_INVITE,
    SERVER_OTHER,
    T4_S,
    ClientInvite,
    ClientNonInvite,
    Do,
    Event,
    ServerInvite,
    ServerNonInvite,
    State,
    Transaction,
    event_of_reply,
    event_of_response,
)

TABLES = {
    "client invite": (CLIENT_INVITE, State.CALLING),
    "client other": (CLIENT_OTHER, State.TRYING),
    "server invite": (SERVER_INVITE, State.PROCEEDING),
    "server other": (SERVER_OTHER, State.TRYING),
}


def client_invite(peer=CAMERA, now: float = 0.0) -> ClientInvite:
    transaction = ClientInvite(peer, "INVITE", URI, "c@h", 1)
    transaction.begin(now)
    return transaction


def client_other(peer=CAMERA, now: float = 0.0) -> ClientNonInvite:
    transaction = ClientNonInvite(peer, "MESSAGE", URI, "c@h", 1)
    transaction.begin(now)
    return transaction


def server_invite(peer=CAMERA, now: float = 0.0) -> ServerInvite:
    key = (b"b", b"c@h", 1, "INVITE", peer.text)
    transaction = ServerInvite(peer, key, parse_message(examples.INVITE))
    transaction.begin(now)
    return transaction


def ticks(transaction: Transaction, until: float) -> list[tuple[float, str]]:
    """Let time pass; every timer that fired, with its moment."""
    fired = []
    while (deadline := transaction.deadline()) is not None and deadline <= until:
        timer = transaction.due(deadline)
        assert timer is not None
        fired.append((deadline, timer.name))
        transaction.on(timer, deadline)
    return fired


# ---- the tables -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLES)
def test_every_state_of_a_table_can_be_reached(name):
    table, first = TABLES[name]
    reached = {first}
    for _ in State:
        reached |= {after for (before, _), (after, _) in table.items() if before in reached}

    assert reached == {state for state, _ in table} | {after for after, _ in table.values()}


@pytest.mark.parametrize("name", TABLES)
def test_nothing_leaves_the_terminated_state(name):
    table, _ = TABLES[name]

    assert not [event for state, event in table if state is State.TERMINATED]


@pytest.mark.parametrize("name", TABLES)
def test_every_timer_that_is_started_has_a_row_where_it_ends(name):
    table, _ = TABLES[name]
    started = {
        (after, Event[do.value])
        for after, actions in table.values()
        for do in actions
        if do.name.startswith("START_")
    }

    assert started <= set(table)


def test_an_event_that_a_state_does_not_know_changes_nothing():
    transaction = client_other()

    assert transaction.on(Event.RECV_ACK, 0.0) == ()
    assert transaction.state is State.TRYING


# ---- client INVITE, RFC 3261 17.1.1 ---------------------------------------------------------


def test_an_unanswered_invite_is_repeated_doubling_until_timer_b():
    fired = ticks(client_invite(), until=100.0)

    times = [0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert fired == [(at, "A") for at in times] + [(32.0, "B")]


def test_over_tcp_an_invite_is_not_repeated_but_times_out():
    assert ticks(client_invite(CAMERA_TCP), until=100.0) == [(32.0, "B")]


def test_a_provisional_stops_repeating_and_timing_out():
    transaction = client_invite()

    assert transaction.on(Event.RECV_1XX, 0.2) == (Do.DELIVER,)
    assert transaction.state is State.PROCEEDING
    assert ticks(transaction, until=1000.0) == []


def test_a_refusal_is_acknowledged_every_time_and_delivered_once():
    transaction = client_invite()

    assert transaction.on(Event.RECV_3XX, 1.0) == (Do.ACK, Do.DELIVER)
    assert transaction.on(Event.RECV_3XX, 1.5) == (Do.ACK,)
    assert ticks(transaction, until=100.0) == [(1.0 + LIFE_S, "D")]
    assert transaction.state is State.TERMINATED


def test_over_tcp_a_refusal_ends_the_transaction_at_once():
    transaction = client_invite(CAMERA_TCP)

    assert transaction.on(Event.RECV_3XX, 1.0) == (Do.ACK, Do.DELIVER)
    assert transaction.state is State.TERMINATED


def test_every_2xx_is_delivered_while_accepted():
    transaction = client_invite()

    assert transaction.on(Event.RECV_2XX, 1.0) == (Do.DELIVER,)
    assert transaction.on(Event.RECV_2XX, 2.0) == (Do.DELIVER,)
    assert transaction.on(Event.RECV_1XX, 2.0) == ()
    assert transaction.state is State.ACCEPTED
    assert ticks(transaction, until=100.0) == [(33.0, "M")]


def test_a_cancelled_invite_without_final_answer_ends_after_64_t1():
    transaction = client_invite()
    transaction.on(Event.RECV_1XX, 0.1)

    transaction.on(Event.CANCELLED, 5.0)

    assert ticks(transaction, until=100.0) == [(37.0, "C")]


# ---- client non-INVITE, RFC 3261 17.1.2 -----------------------------------------------------


def test_an_unanswered_request_is_repeated_up_to_t2_until_timer_f():
    fired = ticks(client_other(), until=100.0)

    times = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert fired == [(at, "E") for at in times] + [(32.0, "F")]


def test_after_a_provisional_a_request_is_repeated_every_t2():
    transaction = client_other()
    transaction.on(Event.RECV_1XX, 0.1)

    fired = ticks(transaction, until=100.0)

    assert fired[:3] == [(0.5, "E"), (4.5, "E"), (8.5, "E")]
    assert fired[-1] == (32.0, "F")


def test_a_final_answer_is_delivered_once_and_repetitions_are_absorbed_for_t4():
    transaction = client_other()

    assert transaction.on(Event.RECV_2XX, 1.0) == (Do.DELIVER,)
    assert transaction.on(Event.RECV_2XX, 1.5) == ()
    assert ticks(transaction, until=100.0) == [(1.0 + T4_S, "K")]


def test_over_tcp_a_request_is_not_repeated_and_ends_with_its_answer():
    waiting, answered = client_other(CAMERA_TCP), client_other(CAMERA_TCP)

    assert ticks(waiting, until=100.0) == [(32.0, "F")]
    assert answered.on(Event.RECV_3XX, 1.0) == (Do.DELIVER,)
    assert answered.state is State.TERMINATED


# ---- server INVITE, RFC 3261 17.2.1 and RFC 6026 --------------------------------------------


def test_a_refusal_is_repeated_up_to_t2_until_timer_h():
    transaction = server_invite()

    assert transaction.on(Event.SEND_3XX, 0.0) == (Do.SEND,)

    fired = ticks(transaction, until=100.0)
    times = [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert fired == [(at, "G") for at in times] + [(32.0, "H")]


def test_an_ack_ends_the_repetition_of_a_refusal():
    transaction = server_invite()
    transaction.on(Event.SEND_3XX, 0.0)

    transaction.on(Event.RECV_ACK, 0.7)

    assert transaction.state is State.CONFIRMED
    assert transaction.on(Event.RECV_REQUEST, 0.8) == ()
    assert ticks(transaction, until=100.0) == [(0.7 + T4_S, "I")]


def test_over_tcp_a_refusal_is_not_repeated():
    transaction = server_invite(CAMERA_TCP)
    transaction.on(Event.SEND_3XX, 0.0)

    assert ticks(transaction, until=100.0) == [(32.0, "H")]


def test_a_2xx_is_repeated_by_its_dialog_only():
    transaction = server_invite()

    assert transaction.on(Event.SEND_2XX, 0.0) == (Do.SEND,)
    assert transaction.on(Event.RECV_REQUEST, 0.5) == ()
    assert transaction.on(Event.SEND_2XX, 0.5) == (Do.SEND,)
    assert transaction.on(Event.RECV_ACK, 0.6) == (Do.DELIVER,)
    assert ticks(transaction, until=100.0) == [(32.0, "L")]


def test_an_invite_that_nobody_answers_is_forgotten():
    transaction = server_invite()

    assert ticks(transaction, until=1000.0) == [(200.0, "N")]
    assert transaction.state is State.TERMINATED


# ---- server non-INVITE, RFC 3261 17.2.2 -----------------------------------------------------


def test_a_request_is_answered_once_and_its_repetitions_by_the_same_answer():
    key = (b"b", b"c@h", 1, "MESSAGE", CAMERA.text)
    transaction = ServerNonInvite(CAMERA, key, parse_message(examples.KEEPALIVE))

    assert transaction.on(Event.RECV_REQUEST, 0.0) == ()
    assert transaction.on(Event.SEND_2XX, 0.1) == (Do.SEND,)
    assert transaction.on(Event.SEND_3XX, 0.2) == ()
    assert transaction.on(Event.RECV_REQUEST, 0.3) == (Do.SEND,)


@pytest.mark.parametrize(
    ("status", "received", "sent"),
    [
        (100, Event.RECV_1XX, Event.SEND_1XX),
        (199, Event.RECV_1XX, Event.SEND_1XX),
        (200, Event.RECV_2XX, Event.SEND_2XX),
        (299, Event.RECV_2XX, Event.SEND_2XX),
        (300, Event.RECV_3XX, Event.SEND_3XX),
        (699, Event.RECV_3XX, Event.SEND_3XX),
    ],
)
def test_statuses_become_events(status, received, sent):
    assert event_of_response(status) is received
    assert event_of_reply(status) is sent
