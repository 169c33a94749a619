from __future__ import annotations

from dataclasses import replace

import pytest

from simulators.chance import SeededIds
from tests.sip.core import examples
from tests.sip.core.helpers import CAMERA, PLATFORM, Link
from vsp.errors import Conflict
from vsp.model.device import Transport
from vsp.sip.core.agent import (
    AckReceived,
    Output,
    Peer,
    RequestReceived,
    ResponseReceived,
)
from vsp.sip.core.dialog import (
    ANSWERS_MAX,
    Answered,
    AnsweredDialog,
    DialogEvent,
    Ended,
    Failed,
    InviteDialog,
    Outgoing,
    Phase,
    Ringing,
    Strayed,
    Transmit,
)
from vsp.sip.core.message import Message, build_request, parse_message, reply_bytes

LOCAL = "sip:34020000002000000001@3402000000"
REMOTE = "sip:34020000001320000001@3402000000"
TARGET = "sip:34020000001320000001@198.51.100.20:5060"
CONTACT = "sip:34020000002000000001@192.0.2.10:5060"


def calling() -> tuple[InviteDialog, Outgoing]:
    dialog = InviteDialog(
        SeededIds("dialog"),
        local_uri=LOCAL,
        remote_uri=REMOTE,
        target=TARGET,
        contact=CONTACT,
        peer=CAMERA,
    )
    return dialog, dialog.invite(b"v=0\r\n", (("Subject", "a:1,b:0"),))


def on_wire(out: Outgoing) -> Message:
    """What the camera sees of a request."""
    headers = [("Via", "SIP/2.0/UDP 192.0.2.10;branch=z9hG4bKx"), *out.headers]
    headers += [("Call-ID", out.call_id), ("CSeq", f"{out.cseq} {out.method}")]
    return parse_message(build_request(out.method, out.uri, headers, out.body))


def answer(
    out: Outgoing, status: int, reason: str = "R", tag: str = "d77", **headers: str
) -> Message:
    given = [(name.capitalize(), value) for name, value in headers.items()]
    return parse_message(reply_bytes(on_wire(out), status, reason, given, b"sdp", tag))


def kinds(events: list[DialogEvent]) -> list[str]:
    return [
        event.outgoing.method if isinstance(event, Transmit) else type(event).__name__
        for event in events
    ]


def transmitted(events: list[DialogEvent]) -> list[Outgoing]:
    return [event.outgoing for event in events if isinstance(event, Transmit)]


# ---- the calling side -----------------------------------------------------------------------


def test_the_invite_carries_what_the_example_carries():
    _, out = calling()

    example = parse_message(examples.INVITE)
    ours = on_wire(out)
    assert out.uri == example.uri.decode()
    assert ours.header("contact") == example.header("contact")
    assert ours.header("allow") == example.header("allow")
    assert ours.header("content-type") == example.header("content-type")
    assert (ours.from_.uri, ours.to) == (example.from_.uri, example.to)
    assert ours.cseq == example.cseq


def test_an_answer_confirms_the_dialog_and_is_acknowledged():
    dialog, out = calling()
    assert kinds(dialog.on_response(answer(out, 100))) == ["Ringing"]
    assert dialog.phase is Phase.PROCEEDING

    events = dialog.on_response(answer(out, 200, contact="<sip:1@203.0.113.9:7>"))

    assert kinds(events) == ["Answered"]
    ack = dialog.acknowledge()
    assert (ack.cseq, ack.uri) == (1, "sip:1@203.0.113.9:7")
    assert on_wire(ack).to.tag == "d77"
    assert isinstance(events[0], Answered)
    assert events[0].body == b"sdp"
    assert dialog.phase is Phase.CONFIRMED
    assert dialog.peer is CAMERA  # the Contact is only the Request-URI


def test_a_repeated_answer_is_reported_once_and_acknowledged_once_the_first_one_is():
    dialog, out = calling()
    dialog.on_response(answer(out, 200))

    assert dialog.on_response(answer(out, 200)) == []
    dialog.acknowledge()
    assert kinds(dialog.on_response(answer(out, 200))) == ["ACK"]
    assert kinds(dialog.on_response(answer(out, 200))) == ["ACK"]


def test_a_second_device_that_answers_has_strayed():
    dialog, out = calling()
    dialog.on_response(answer(out, 200))

    [stray] = dialog.on_response(answer(out, 200, tag="other"))

    assert stray == Strayed(replace(dialog.to_state(), remote_tag="other"))
    assert dialog.phase is Phase.CONFIRMED
    assert dialog.on_response(answer(out, 200, tag="other")) == []
    assert on_wire(dialog.acknowledge("other")).to.tag == "other"
    assert on_wire(InviteDialog.from_state(stray.dialog).bye()).to.tag == "other"
    assert kinds(dialog.on_response(answer(out, 200, tag="other"))) == ["ACK"]


def test_answers_of_ever_more_devices_are_noise():
    dialog, out = calling()

    events = [dialog.on_response(answer(out, 200, tag=f"d{number}")) for number in range(50)]

    assert sum(bool(told) for told in events) == ANSWERS_MAX


def test_the_bye_follows_the_example():
    dialog, out = calling()
    dialog.on_response(answer(out, 200, contact=f"<{TARGET}>"))
    dialog.acknowledge()

    bye = dialog.bye()

    example = parse_message(examples.BYE)
    assert on_wire(bye).cseq == example.cseq
    assert bye.uri == example.uri.decode()
    assert on_wire(bye).to == example.to
    assert dialog.phase is Phase.ENDED
    assert dialog.on_response(answer(out, 200)) == [Transmit(dialog._ack("d77"))]


def test_requests_in_the_dialog_count_on():
    dialog, out = calling()
    dialog.on_response(answer(out, 200))

    info = dialog.request("INFO", (("Content-Type", "Application/MANSRTSP"),), b"PAUSE")

    assert (info.cseq, dialog.bye().cseq) == (2, 3)
    assert on_wire(info).from_.tag == dialog.local_tag


def test_a_refusal_tells_status_reason_and_warning():
    dialog, out = calling()

    events = dialog.on_response(answer(out, 486, "Busy Here", warning='399 h "session cap"'))

    assert events == [Failed(486, "Busy Here", '399 h "session cap"')]
    assert dialog.phase is Phase.ENDED
    assert not dialog.cancel()


def test_a_provisional_of_an_odd_number_is_a_provisional():
    dialog, out = calling()

    assert dialog.on_response(answer(out, 101, "Dialog Establishment")) == [
        Ringing(101, "Dialog Establishment")
    ]


def test_an_answer_after_cancel_has_strayed():
    dialog, out = calling()
    dialog.on_response(answer(out, 100))
    assert dialog.cancel()

    events = dialog.on_response(answer(out, 200))

    assert kinds(events) == ["Strayed", "Ended"]
    assert isinstance(events[0], Strayed)
    bye = InviteDialog.from_state(events[0].dialog).bye()
    assert (dialog.acknowledge().cseq, bye.cseq) == (1, 2)
    assert on_wire(bye).to.tag == "d77"
    assert dialog.phase is Phase.ENDED


def test_a_cancelled_invite_ends_with_487():
    dialog, out = calling()
    dialog.cancel()

    assert dialog.on_response(answer(out, 487)) == [Ended("cancelled")]
    assert dialog.phase is Phase.ENDED


def test_silence_ends_the_dialog():
    dialog, _ = calling()

    assert dialog.on_timeout() == [Ended("no answer")]
    assert dialog.on_timeout() == []


@pytest.mark.parametrize("contact", ["<tel:123>", "<sip:a b@c>", "*", ""])
def test_a_contact_that_cannot_be_used_leaves_the_target_as_it_was(contact):
    dialog, out = calling()

    dialog.on_response(answer(out, 200, contact=contact))

    assert dialog.bye().uri == TARGET


def test_a_confirmed_dialog_survives_as_its_state():
    dialog, out = calling()
    dialog.on_response(answer(out, 200, contact="<sip:1@203.0.113.9:7>"))
    dialog.request("INFO")
    state = dialog.to_state()

    again = InviteDialog.from_state(state)

    assert again.to_state() == state
    assert again.bye() == dialog.bye()
    assert (again.peer, state.transport) == (CAMERA, Transport.UDP)
    assert InviteDialog.from_state(state, 9).peer.connection == 9


def test_an_unconfirmed_dialog_has_no_state():
    dialog, _ = calling()

    with pytest.raises(Conflict):
        dialog.to_state()


def test_requests_of_the_device_are_matched_by_call_id_and_tags():
    dialog, out = calling()
    dialog.on_response(answer(out, 200))

    def bye(call_id: str, from_tag: str, to_tag: str) -> Message:
        headers = [("Via", "SIP/2.0/UDP h"), ("From", f"<{REMOTE}>;tag={from_tag}")]
        headers += [("To", f"<{LOCAL}>;tag={to_tag}"), ("Call-ID", call_id), ("CSeq", "1 BYE")]
        return parse_message(build_request("BYE", CONTACT, headers))

    right = bye(dialog.call_id, "d77", dialog.local_tag)
    broken = bye(dialog.call_id, "", "x")
    stranger = Peer(Transport.UDP, "203.0.113.9", 5060)
    assert dialog.matches(right)
    assert not dialog.matches(bye("other@h", "d77", dialog.local_tag), CAMERA)
    assert not dialog.matches(broken)
    assert dialog.matches(broken, CAMERA)
    assert not dialog.matches(broken, stranger)
    assert dialog.on_request(right) == [Ended("BYE received")]
    assert dialog.on_request(right) == []


# ---- the called side ------------------------------------------------------------------------


def called() -> AnsweredDialog:
    invite = parse_message(examples.INVITE)
    return AnsweredDialog(SeededIds("uas"), invite, contact=TARGET, peer=PLATFORM)


def test_an_answer_is_repeated_doubling_until_the_ack():
    dialog = called()
    dialog.answer(b"sdp", 10.0)

    repeated = []
    while (deadline := dialog.next_deadline()) is not None:
        if dialog.advance(deadline):
            repeated.append(deadline - 10.0)

    assert repeated == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert dialog.phase is Phase.ENDED


def test_an_ack_ends_the_repetition():
    dialog = called()
    headers = dialog.answer(b"sdp", 0.0)
    assert headers == (("Contact", f"<{TARGET}>"), ("Content-Type", "APPLICATION/SDP"))

    dialog.on_ack(parse_message(examples.KEEPALIVE))
    assert dialog.advance(0.5)
    dialog.on_ack(parse_message(examples.ACK))

    assert dialog.next_deadline() is None
    assert dialog.phase is Phase.CONFIRMED


def test_the_called_side_speaks_with_its_own_numbers():
    dialog = called()
    dialog.answer(b"sdp", 0.0)

    notice = on_wire(dialog.request("MESSAGE", (("Content-Type", "a/b"),), b"121"))

    example = parse_message(examples.MEDIA_STATUS)
    assert notice.cseq == example.cseq
    assert notice.from_.user == example.from_.user
    assert notice.to.tag == "i1"
    assert notice.from_.tag == dialog.local_tag
    assert notice.uri.decode() == CONTACT


def test_a_bye_of_the_caller_ends_the_called_side():
    dialog = called()
    dialog.answer(b"sdp", 0.0)
    bye = parse_message(examples.BYE.replace(b"tag=d77", b"tag=" + dialog.local_tag.encode()))

    assert dialog.matches(bye)
    assert dialog.on_request(bye) == [Ended("BYE received")]
    assert dialog.next_deadline() is None


# ---- both ends over a network that loses ----------------------------------------------------


class Call:
    """A platform that INVITEs and a camera that answers, joined by a link."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.dialog, out = calling()
        self.camera: AnsweredDialog | None = None
        self.events: list[DialogEvent] = []
        self._invite: RequestReceived | None = None
        link.on_camera_output = self._at_camera
        link.on_platform_output = self._at_platform
        link.also_advance = self._advance
        link.also_deadline = lambda: self.camera.next_deadline() if self.camera else None
        self._send(out)

    def _send(self, out: Outgoing) -> None:
        platform = self.link.platform
        if out.method == "ACK":
            platform.ack(out.uri, out.headers, CAMERA, call_id=out.call_id, cseq=out.cseq)
        else:
            platform.request(
                out.method, out.uri, out.headers, out.body, CAMERA, self.link.now,
                call_id=out.call_id, cseq=out.cseq,
            )  # fmt: skip

    def _at_camera(self, output: Output) -> None:
        if isinstance(output, AckReceived) and self.camera is not None:
            self.camera.on_ack(output.message)
        elif isinstance(output, RequestReceived) and output.message.method == "INVITE":
            self._invite = output
            ids = SeededIds("uas")
            self.camera = AnsweredDialog(ids, output.message, contact=TARGET, peer=PLATFORM)
            self.camera.answer(b"sdp", self.link.now)
            self._answer()
        elif isinstance(output, RequestReceived):
            self.link.camera.respond(output.transaction, 200, "OK", now=self.link.now)

    def _answer(self) -> None:
        assert self.camera is not None
        assert self._invite is not None
        self.link.camera.respond(
            self._invite.transaction, 200, "OK", (("Contact", f"<{TARGET}>"),), b"sdp",
            now=self.link.now, to_tag=self.camera.local_tag,
        )  # fmt: skip

    def _at_platform(self, output: Output) -> None:
        if isinstance(output, ResponseReceived) and output.transaction.method == "INVITE":
            events = self.dialog.on_response(output.message)
            self.events += events
            for out in transmitted(events):
                self._send(out)
            if any(isinstance(event, Answered) for event in events):
                self._send(self.dialog.acknowledge())

    def _advance(self, now: float) -> None:
        if self.camera is not None and self.camera.advance(now):
            self._answer()


def test_a_lost_200_ok_is_repeated_until_the_ack_arrives():
    link = Link(drop_first={"200 INVITE": 3, "100 INVITE": 9})
    call = Call(link)

    link.run(until=60.0)

    assert link.sent_at("200 INVITE") == [0.0, 0.5, 1.5, 3.5]  # T1 doubling, RFC 3261 13.3.1.4
    assert kinds(call.events) == ["Answered"]
    assert call.dialog.phase is Phase.CONFIRMED
    assert call.camera is not None
    assert call.camera.phase is Phase.CONFIRMED


def test_a_lost_ack_is_made_good_by_the_repeated_200():
    link = Link(drop_first={"ACK": 2})
    call = Call(link)

    link.run(until=60.0)

    assert link.sent_at("ACK") == [0.0, 0.5, 1.5]
    assert kinds(call.events) == ["Ringing", "Answered", "ACK", "ACK"]
    assert call.camera is not None
    assert call.camera.phase is Phase.CONFIRMED


def test_without_any_ack_the_camera_gives_up_after_64_t1():
    link = Link(loses=lambda name: name == "ACK")
    call = Call(link)

    link.run(until=60.0)

    assert call.camera is not None
    assert call.camera.phase is Phase.ENDED
    assert link.sent_at("200 INVITE")[-1] == 31.5


def test_a_lost_bye_is_repeated():
    link = Link(drop_first={"BYE": 2})
    call = Call(link)
    link.run(until=1.0)

    call._send(call.dialog.bye())
    link.run(until=60.0)

    assert link.sent_at("BYE") == [1.0, 1.5, 2.5]
    assert link.platform.live == 0
