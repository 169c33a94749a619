from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sip.core import examples
from tests.sip.core.helpers import (
    ADDRESSES,
    CAMERA,
    CAMERA_TCP,
    URI,
    Link,
    agent,
    labels,
    sends,
)
from vsp.errors import Exhausted
from vsp.model.device import Transport
from vsp.sip.core import agent as module
from vsp.sip.core.agent import (
    Dropped,
    Peer,
    RequestReceived,
    ResponseReceived,
    Send,
    SipAgent,
    TimedOut,
)
from vsp.sip.core.message import build_request, parse_message, reply_bytes
from vsp.sip.core.transaction import State


def received(one: SipAgent) -> RequestReceived:
    """The only request among the outputs."""
    (output,) = [item for item in one.take() if isinstance(item, RequestReceived)]
    return output


def reply_to(data: bytes, status: int, reason: str = "R", tag: str = "t") -> bytes:
    return reply_bytes(parse_message(data), status, reason, to_tag=tag)


# ---- requests that come ---------------------------------------------------------------------


def test_a_request_is_reported_once_and_answered_by_echo():
    platform = agent()
    platform.receive(examples.KEEPALIVE, CAMERA, 0.0)
    event = received(platform)

    platform.respond(event.transaction, 200, "OK", now=0.0, to_tag="p43")

    assert platform.take() == [Send(examples.KEEPALIVE_OK, CAMERA)]


def test_a_retransmission_gets_the_same_bytes_and_nobody_else_sees_it():
    platform = agent()
    platform.receive(examples.KEEPALIVE, CAMERA, 0.0)
    platform.respond(received(platform).transaction, 200, "OK", now=0.0)
    first = sends(platform.take())

    for at in (0.5, 1.5, 31.0):
        platform.receive(examples.KEEPALIVE, CAMERA, at)
        assert platform.take() == [Send(first[0], CAMERA)]
    assert platform.absorbed == 3


def test_a_retransmission_before_the_answer_is_absorbed_in_silence():
    platform = agent()
    platform.receive(examples.REGISTER, CAMERA, 0.0)
    event = received(platform)

    platform.receive(examples.REGISTER, CAMERA, 0.5)
    assert platform.take() == []

    platform.respond(event.transaction, 401, "Unauthorized", now=0.6)
    assert labels(platform.take()) == ["> 401 REGISTER"]


def test_a_reply_is_kept_for_64_t1_and_not_for_ever():
    platform = agent()
    platform.receive(examples.KEEPALIVE, CAMERA, 100.0)
    platform.respond(received(platform).transaction, 200, "OK", now=100.0)
    platform.take()

    def others(at: float) -> None:
        data = examples.REGISTER.replace(b"bKr1", b"bKr%d" % int(at))
        platform.receive(data, CAMERA, at)
        platform.take()

    others(131.0)
    platform.receive(examples.KEEPALIVE, CAMERA, 131.9)
    assert labels(platform.take()) == ["> 200 MESSAGE"]
    for at in (133.0, 166.0, 199.0):
        others(at)
    platform.receive(examples.KEEPALIVE, CAMERA, 200.0)
    assert labels(platform.take()) == ["request MESSAGE"]


def test_requests_that_differ_in_source_call_id_or_cseq_are_different():
    platform = agent()
    elsewhere = Peer(Transport.UDP, CAMERA.host, CAMERA.port + 1)
    for data, peer in (
        (examples.KEEPALIVE, CAMERA),
        (examples.KEEPALIVE, elsewhere),
        (examples.KEEPALIVE.replace(b"ka-43", b"ka-44"), CAMERA),
        (examples.KEEPALIVE.replace(b"CSeq: 20", b"CSeq: 21"), CAMERA),
        (examples.KEEPALIVE.replace(b"bKk43", b"bKk44"), CAMERA),
    ):
        platform.receive(data, peer, 0.0)
        assert labels(platform.take()) == ["request MESSAGE"]


def test_a_request_without_branch_is_matched_all_the_same():
    platform = agent()
    data = examples.KEEPALIVE.replace(b";branch=z9hG4bKk43", b"")
    platform.receive(data, CAMERA, 0.0)
    platform.respond(received(platform).transaction, 200, "OK", now=0.0)
    platform.take()

    platform.receive(data, CAMERA, 0.5)

    assert labels(platform.take()) == ["> 200 MESSAGE"]


def test_a_second_final_answer_is_ignored():
    platform = agent()
    platform.receive(examples.KEEPALIVE, CAMERA, 0.0)
    event = received(platform)
    platform.respond(event.transaction, 200, "OK", now=0.0)
    platform.take()

    platform.respond(event.transaction, 500, "Late", now=1.0)

    assert platform.take() == []


def test_over_tcp_nothing_is_remembered_after_the_answer():
    platform = agent()
    platform.receive(examples.KEEPALIVE, CAMERA_TCP, 0.0)
    platform.respond(received(platform).transaction, 200, "OK", now=0.0)
    platform.take()

    platform.receive(examples.KEEPALIVE, CAMERA_TCP, 0.5)

    assert labels(platform.take()) == ["request MESSAGE"]


@pytest.mark.parametrize("limit", ["RECENT_MAX", "RECENT_BYTES_MAX"])
def test_what_is_remembered_is_bounded_in_number_and_bytes(monkeypatch, limit):
    monkeypatch.setattr(module, limit, 100 if limit == "RECENT_MAX" else 100 * 1200)
    platform = agent()
    for i in range(1000):
        platform.receive(examples.KEEPALIVE.replace(b"bKk43", b"bKk%d" % i), CAMERA, 0.0)
        platform.respond(received(platform).transaction, 200, "OK", now=0.0)
        platform.take()

    assert len(platform._recent) + len(platform._older) <= 210


# ---- junk -----------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"\r\n", b"\r\n\r\n", b"\x00\x00\x00\x00"])
def test_blank_datagrams_are_ignored_in_silence(data):
    platform = agent()

    platform.receive(data, CAMERA, 0.0)

    assert platform.take() == []


def test_a_ping_of_a_connection_is_answered():
    platform = agent()

    platform.receive(b"\r\n\r\n", CAMERA_TCP, 0.0)

    assert platform.take() == [Send(b"\r\n", CAMERA_TCP)]


def test_junk_is_dropped_with_its_beginning():
    platform = agent()

    platform.receive(b"GET / HTTP/1.1\r\n\r\n" + b"x" * 1000, CAMERA, 0.0)

    (dropped,) = platform.take()
    assert isinstance(dropped, Dropped)
    assert dropped.head.startswith(b"GET / HTTP/1.1")
    assert len(dropped.head) == module.DROPPED_BYTES_MAX


def test_a_broken_request_is_answered_400_within_a_bound_per_address():
    platform = agent()
    broken = examples.KEEPALIVE.replace(b"CSeq: 20 MESSAGE", b"CSeq: twenty")

    answered = []
    for i in range(20):
        platform.receive(broken, CAMERA, i / 10)
        answered += sends(platform.take())

    assert len(answered) == module.JUNK_ANSWERS_MAX
    assert answered[0].startswith(b"SIP/2.0 400 ")
    platform.receive(broken, CAMERA, 20.0)
    assert len(sends(platform.take())) == 1


def test_another_version_of_sip_is_answered_505():
    platform = agent()

    platform.receive(examples.REGISTER.replace(b" SIP/2.0\r\n", b" SIP/3.0\r\n", 1), CAMERA, 0.0)

    assert sends(platform.take())[0].startswith(b"SIP/2.0 505 ")


def test_responses_and_acks_that_are_broken_are_never_answered():
    platform = agent()
    for data in (examples.KEEPALIVE_OK, examples.ACK):
        platform.receive(data.replace(b"CSeq: ", b"CSeq: x"), CAMERA, 0.0)

    assert sends(platform.take()) == []


def test_a_response_to_no_request_is_dropped():
    platform = agent()

    platform.receive(examples.KEEPALIVE_OK, CAMERA, 0.0)

    assert labels(platform.take()) == ["dropped response to no request of ours"]


@given(st.lists(st.sampled_from(sorted(examples.MESSAGES)) | st.binary(max_size=60), max_size=20))
@settings(max_examples=100, deadline=None)
def test_any_sequence_of_datagrams_is_survived(items):
    platform = agent()
    for i, item in enumerate(items):
        data = examples.MESSAGES[item] if isinstance(item, str) else item
        platform.receive(data, CAMERA, i / 4)
        platform.advance(i / 4)
    platform.advance(10_000.0)

    assert platform.live == 0


# ---- requests of ours -----------------------------------------------------------------------


def test_a_request_is_written_in_the_order_of_the_standard():
    platform = SipAgent(agent()._ids, "192.0.2.10:5060", "vsp")
    headers = (*ADDRESSES, ("Content-Type", "Application/MANSCDP+xml"), ("Subject", "s"))

    transaction = platform.request(
        "MESSAGE", URI, headers, b"body", CAMERA, 0.0, call_id="c@h", cseq=3
    )

    (data,) = sends(platform.take())
    names = [line.partition(b":")[0].decode() for line in data.split(b"\r\n")[1:-2]]
    assert names == [
        "Via", "From", "To", "Call-ID", "CSeq", "Subject", "Max-Forwards", "User-Agent",
        "Content-Type", "Content-Length",
    ]  # fmt: skip
    message = parse_message(data)
    assert message.header("via") == (
        f"SIP/2.0/UDP 192.0.2.10:5060;rport;branch={transaction.branch.decode()}"
    )
    assert message.branch.startswith(b"z9hG4bK")
    assert message.from_.tag
    assert (message.call_id, message.cseq) == ("c@h", (3, "MESSAGE"))


def test_requests_have_call_ids_tags_and_branches_of_their_own():
    platform = agent()
    for _ in range(50):
        platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)
    messages = [parse_message(data) for data in sends(platform.take())]

    assert len({message.call_id for message in messages}) == 50
    assert len({message.branch for message in messages}) == 50
    assert len({message.from_.tag for message in messages}) == 50


def test_the_same_seed_makes_the_same_bytes():
    def speak() -> list[bytes]:
        platform = agent("seed")
        platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)
        platform.receive(examples.KEEPALIVE, CAMERA, 0.0)
        outputs = platform.take()
        for output in outputs:
            if isinstance(output, RequestReceived):
                platform.respond(output.transaction, 200, "OK", now=0.0)
        return sends(outputs + platform.take())

    assert speak() == speak()


def test_over_tcp_the_via_says_so():
    platform = agent()

    platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA_TCP, 0.0)

    assert b"Via: SIP/2.0/TCP " in sends(platform.take())[0]


def test_an_answer_reaches_its_request_once():
    platform = agent()
    transaction = platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)
    (data,) = sends(platform.take())

    for at in (0.1, 0.6):
        platform.receive(reply_to(data, 200, "OK"), CAMERA, at)

    (event,) = platform.take()
    assert isinstance(event, ResponseReceived)
    assert event.transaction is transaction
    assert event.message.status == 200


def test_an_answer_that_lost_our_branch_is_matched_by_call_id_from_the_same_host():
    platform = agent()
    platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)
    (data,) = sends(platform.take())
    mangled = reply_to(data, 200).replace(b";branch=", b";brunch=")

    platform.receive(mangled, Peer(Transport.UDP, "203.0.113.9", 5060), 0.1)
    assert labels(platform.take()) == ["dropped response to no request of ours"]
    platform.receive(mangled, CAMERA, 0.1)
    assert labels(platform.take()) == ["response 200"]


def test_an_answer_from_another_host_is_none_however_well_it_knows_the_request():
    platform = agent()
    platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)
    (data,) = sends(platform.take())

    platform.receive(reply_to(data, 200), Peer(Transport.UDP, "203.0.113.9", CAMERA.port), 0.1)
    assert labels(platform.take()) == ["dropped response to no request of ours"]
    platform.receive(reply_to(data, 200), CAMERA, 0.2)
    assert labels(platform.take()) == ["response 200"]


def test_an_abandoned_request_is_not_repeated_and_its_answer_dropped():
    platform = agent()
    transaction = platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)
    (data,) = sends(platform.take())

    platform.abandon(transaction)

    platform.advance(40.0)
    platform.receive(reply_to(data, 200), CAMERA, 40.0)
    assert labels(platform.take()) == ["dropped response to no request of ours"]
    assert platform.live == 0


def test_requests_of_ours_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "CLIENTS_MAX", 3)
    platform = agent()
    for _ in range(3):
        platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)

    with pytest.raises(Exhausted):
        platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)


def test_deadlines_come_in_order_and_end():
    platform = agent()
    platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)
    platform.take()

    moments = []
    while (deadline := platform.next_deadline()) is not None:
        moments.append(deadline)
        platform.advance(deadline)

    assert moments == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5, 32.0]
    outputs = platform.take()
    assert labels(outputs) == ["> MESSAGE"] * 10 + ["timed out"]
    assert isinstance(outputs[-1], TimedOut)
    assert platform.live == 0


def test_a_leap_of_time_fires_each_timer_once():
    platform = agent()
    platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)
    platform.take()

    platform.advance(10_000.0)

    assert labels(platform.take()) == ["> MESSAGE", "timed out"]


# ---- INVITE, CANCEL, ACK --------------------------------------------------------------------


def test_an_invite_is_answered_100_at_once_unless_told_otherwise():
    eager, patient = agent(), agent(trying=False)
    for one in (eager, patient):
        one.receive(examples.BROADCAST_INVITE, CAMERA, 0.0)

    assert labels(eager.take()) == ["> 100 INVITE", "request INVITE"]
    assert labels(patient.take()) == ["request INVITE"]


def test_all_answers_to_an_invite_carry_the_same_tag():
    platform = agent()
    platform.receive(examples.BROADCAST_INVITE, CAMERA, 0.0)
    event = received(platform)

    platform.respond(event.transaction, 180, "Ringing", now=0.1)
    platform.respond(event.transaction, 486, "Busy", now=0.2)

    tags = {parse_message(data).to.tag for data in sends(platform.take())}
    assert len(tags) == 1
    assert tags != {""}


def test_a_refusal_is_repeated_until_its_ack():
    platform = agent(trying=False)
    platform.receive(examples.BROADCAST_INVITE, CAMERA, 0.0)
    event = received(platform)
    platform.respond(event.transaction, 488, "No", now=0.0, to_tag="t")
    platform.take()
    platform.advance(0.5)
    assert labels(platform.take()) == ["> 488 INVITE"]

    invite = parse_message(examples.BROADCAST_INVITE)
    headers = [(name, invite.header(name.lower()) or "") for name in ("Via", "From", "Call-ID")]
    headers += [("To", f"{invite.header('to')};tag=t"), ("CSeq", "1 ACK")]
    platform.receive(build_request("ACK", URI, headers), CAMERA, 0.7)
    platform.advance(4.0)

    assert platform.take() == []
    platform.advance(6.0)
    assert platform.live == 0


def test_an_ack_with_a_branch_of_its_own_still_ends_a_refusal():
    platform = agent(trying=False)
    platform.receive(examples.BROADCAST_INVITE, CAMERA, 0.0)
    platform.respond(received(platform).transaction, 488, "No", now=0.0, to_tag="t")
    platform.take()
    ack = examples.BROADCAST_INVITE.replace(b"INVITE", b"ACK").replace(b"bKbi1", b"bKother")

    platform.receive(ack, CAMERA, 0.2)
    platform.advance(10.0)

    assert platform.take() == []


def test_the_ack_of_a_2xx_is_reported():
    platform = agent(trying=False)
    platform.receive(examples.BROADCAST_INVITE, CAMERA, 0.0)
    platform.respond(received(platform).transaction, 200, "OK", now=0.0, to_tag="t")
    platform.take()
    ack = examples.BROADCAST_INVITE.replace(b"INVITE", b"ACK").replace(b"bKbi1", b"bKother")

    platform.receive(ack, CAMERA, 0.2)

    assert labels(platform.take()) == ["ack"]


def test_a_cancel_finds_its_invite():
    platform = agent(trying=False)
    platform.receive(examples.BROADCAST_INVITE, CAMERA, 0.0)
    invite = received(platform).transaction
    cancel = examples.BROADCAST_INVITE.replace(b"INVITE", b"CANCEL")
    platform.receive(cancel, CAMERA, 0.1)
    event = received(platform)

    assert event.message.method == "CANCEL"
    assert platform.invite_of(event.message, CAMERA) is invite
    other = parse_message(cancel.replace(b"talk-1", b"talk-2"))
    assert platform.invite_of(other, CAMERA) is None


def test_invites_to_us_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "INVITES_MAX", 2)
    platform = agent(trying=False)
    for i in range(3):
        data = examples.BROADCAST_INVITE.replace(b"talk-1", b"talk-%d" % i)
        platform.receive(data, CAMERA, 0.0)

    assert labels(platform.take()) == ["request INVITE", "request INVITE", "> 503 INVITE"]


def test_a_refused_invite_of_ours_is_acknowledged_within_its_transaction():
    platform = agent()
    platform.request("INVITE", URI, ADDRESSES, b"", CAMERA, 0.0)
    (invite,) = sends(platform.take())

    platform.receive(reply_to(invite, 486, "Busy", "d9"), CAMERA, 0.1)

    ack = parse_message(sends(platform.take())[0])
    sent = parse_message(invite)
    assert (ack.method, ack.cseq, ack.uri) == ("ACK", (1, "ACK"), sent.uri)
    assert ack.vias == sent.vias
    assert (ack.call_id, ack.from_) == (sent.call_id, sent.from_)
    assert ack.to.tag == "d9"


def test_a_cancel_waits_for_the_first_provisional():
    platform = agent()
    transaction = platform.request("INVITE", URI, ADDRESSES, b"", CAMERA, 0.0)
    (invite,) = sends(platform.take())

    platform.cancel(transaction, 0.2)
    assert platform.take() == []
    platform.receive(reply_to(invite, 100), CAMERA, 0.3)

    assert labels(platform.take()) == ["response 100", "> CANCEL"]


def test_a_cancel_is_a_sibling_of_its_invite():
    platform = agent()
    transaction = platform.request("INVITE", URI, ADDRESSES, b"", CAMERA, 0.0)
    (invite,) = sends(platform.take())
    platform.receive(reply_to(invite, 100), CAMERA, 0.1)
    platform.take()

    platform.cancel(transaction, 0.2)

    cancel, sent = parse_message(sends(platform.take())[0]), parse_message(invite)
    assert (cancel.method, cancel.cseq) == ("CANCEL", (1, "CANCEL"))
    assert (cancel.vias, cancel.uri, cancel.call_id) == (sent.vias, sent.uri, sent.call_id)
    assert (cancel.from_, cancel.to) == (sent.from_, sent.to)
    platform.receive(reply_to(sends([Send(invite, CAMERA)])[0], 487), CAMERA, 0.3)
    assert labels(platform.take()) == ["> ACK", "response 487"]


def test_an_answered_invite_cannot_be_cancelled():
    platform = agent()
    transaction = platform.request("INVITE", URI, ADDRESSES, b"", CAMERA, 0.0)
    (invite,) = sends(platform.take())
    platform.receive(reply_to(invite, 200), CAMERA, 0.1)
    platform.take()

    platform.cancel(transaction, 0.2)

    assert platform.take() == []
    assert transaction.state is State.ACCEPTED


# ---- two agents and a network that loses ----------------------------------------------------


def answering(link: Link, status: int = 200) -> None:
    """The camera answers everything at once."""

    def answer(event: RequestReceived) -> None:
        link.camera.respond(event.transaction, status, "R", now=link.now)

    link.on_camera_request = answer


@pytest.mark.parametrize("lost", [{"MESSAGE": 3}, {"200 MESSAGE": 3}])
def test_a_lost_message_or_answer_is_made_good_by_repetition(lost):
    link = Link(drop_first=lost)
    answering(link)

    link.platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)
    link.run(until=60.0)

    assert labels(link.at_platform) == ["response 200"]
    assert labels(link.at_camera) == ["request MESSAGE"]
    assert link.sent_at("MESSAGE") == [0.0, 0.5, 1.5, 3.5]
    assert link.platform.live == 0


def test_a_slow_network_causes_no_second_delivery():
    link = Link(delay_s=0.4)
    answering(link)

    link.platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)
    link.run(until=60.0)

    assert link.sent_at("MESSAGE") == [0.0, 0.5]
    assert labels(link.at_platform) == ["response 200"]
    assert labels(link.at_camera) == ["request MESSAGE"]


def test_a_dead_device_is_reported_after_64_t1():
    link = Link(loses=lambda name: name == "MESSAGE")

    link.platform.request("MESSAGE", URI, ADDRESSES, b"", CAMERA, 0.0)
    link.run(until=31.9)
    assert link.at_platform == []
    link.run(until=32.0)

    assert labels(link.at_platform) == ["timed out"]


@pytest.mark.parametrize("lost", [{"ACK": 2}, {"486 INVITE": 2}, {"INVITE": 2}])
def test_a_refusal_and_its_ack_survive_loss(lost):
    link = Link(drop_first=lost)
    answering(link, 486)

    link.platform.request("INVITE", URI, ADDRESSES, b"", CAMERA, 0.0)
    link.run(until=100.0)

    assert labels(link.at_platform) in (
        ["response 100", "response 486"],
        ["response 486"],
    )
    assert (link.platform.live, link.camera.live) == (0, 0)


@given(st.randoms(use_true_random=False), st.sampled_from(["MESSAGE", "INVITE"]))
@settings(max_examples=60, deadline=None)
def test_with_half_of_all_packets_lost_each_request_ends_once(chance, method):
    link = Link(loses=lambda name: chance.random() < 0.5, delay_s=0.05)
    answering(link, 404)

    for _ in range(5):
        link.platform.request(method, URI, ADDRESSES, b"", CAMERA, link.now)
    link.run(until=200.0)

    # An answer that is repeated after its request has timed out belongs to nobody any more.
    seen = [name for name in labels(link.at_platform) if not name.startswith("dropped")]
    ended = len([name for name in seen if name != "response 100"])
    assert len([name for name in labels(link.at_camera) if name.startswith("request")]) <= 5
    # An INVITE that heard 100 and nothing more waits for its user to cancel (RFC 3261 17.1.1.2).
    waiting = seen.count("response 100") if method == "INVITE" else 0
    assert ended + link.platform.live == 5
    assert link.platform.live <= waiting


def test_peers_are_equal_by_what_they_are():
    assert Peer(Transport.UDP, "h", 1) == Peer(Transport.UDP, "h", 1)
    assert len({Peer(Transport.TCP, "h", 1, 1), Peer(Transport.TCP, "h", 1, 2)}) == 2
    assert str(Peer(Transport.TCP, "h", 1, 2)) == "tcp:h:1#2"
    assert Peer(Transport.UDP, "h", 1) != "udp:h:1"
