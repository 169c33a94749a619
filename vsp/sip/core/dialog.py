"""INVITE dialogs (RFC 3261 12 to 15), both ends, without I/O and without an agent.

`InviteDialog` is the caller (UAC), `AnsweredDialog` the callee (UAS). They make requests as values
(`Outgoing`), read what comes and say what follows; the shell hands requests to `SipAgent` and time
to `AnsweredDialog.advance`.

Not here: re-INVITE and session timers, which GB/T 28181-2016 9.2 does not use, and route sets:
requests in a dialog go to the observed address of the peer, because devices write unreachable ones
into Contact and Via (Huawei). The Contact they gave is only the Request-URI.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vsp.errors import Conflict
from vsp.model.dialog import DialogState
from vsp.ports import Ids
from vsp.sip.core.agent import Peer
from vsp.sip.core.message import Message, NameAddr
from vsp.sip.core.transaction import LIFE_S, T1_S, T2_S
from vsp.sip.core.uri import Malformed, Uri

ALLOW = "INVITE, ACK, INFO, CANCEL, BYE, OPTIONS, MESSAGE"
"""GB/T 28181-2016 annex J; 2022 adds nothing."""

SDP_TYPE = "APPLICATION/SDP"
"""As the examples of the standard write it; compared without case by everybody."""

WARNING_LENGTH_MAX = 200
"""Characters of a Warning header passed on."""

ANSWERS_MAX = 8
"""Devices that may answer one INVITE, before what comes is taken for noise."""

Headers = Sequence[tuple[str, str]]


class Phase(StrEnum):
    CALLING = "calling"
    PROCEEDING = "proceeding"
    CONFIRMED = "confirmed"
    CANCELLING = "cancelling"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to hand to `SipAgent.request`, or to `SipAgent.ack` when it is an ACK."""

    method: str
    uri: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    call_id: str
    cseq: int


@dataclass(frozen=True, slots=True)
class Ringing:
    """A provisional response, 100 included."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The first 2xx: `body` is the SDP answer, `message` the whole response."""

    body: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Failed:
    """A final refusal. warning = Warning header ("" if none), e.g. why a recorder said 486."""

    status: int
    reason: str
    warning: str


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send this now: the ACK of a 2xx that is repeated although it was acknowledged."""

    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class Strayed:
    """A 2xx has set up a dialog that nobody waits for: acknowledge it and say BYE.

    It came too late (RFC 3261 9.1), or from a second device behind one number (13.2.2.4).
    """

    dialog: DialogState


@dataclass(frozen=True, slots=True)
class Ended:
    cause: str


DialogEvent = Ringing | Answered | Failed | Transmit | Strayed | Ended


class _Dialog:
    """What both ends share: identifiers, the local sequence, requests within the dialog."""

    def __init__(self, call_id: str, local_uri: str, remote_uri: str, peer: Peer) -> None:
        self.call_id = call_id
        self.local_uri = local_uri
        self.local_tag = ""
        self.remote_uri = remote_uri
        self.remote_tag = ""
        self.target = ""
        self.contact = ""
        self.cseq = 0
        self.peer = peer
        self.phase = Phase.CALLING

    def request(self, method: str, headers: Headers = (), body: bytes = b"") -> Outgoing:
        """INFO or MESSAGE in the dialog; the next CSeq (RFC 3261 12.2.1.1)."""
        self.cseq += 1
        return self._outgoing(method, self.cseq, headers, body)

    def bye(self) -> Outgoing:
        """End the dialog from this side."""
        self.phase = Phase.ENDED
        return self.request("BYE")

    def matches(self, message: Message, peer: Peer | None = None) -> bool:
        """Whether a request belongs to this dialog: Call-ID and both tags (RFC 3261 12.2.2).

        peer   given, it stands in for tags that some devices break: the source address then
               decides together with the Call-ID, which is 64 random bits of the caller
        """
        if message.call_id != self.call_id:
            return False
        if peer is not None and peer.host == self.peer.host:
            return True
        return (message.from_.tag, message.to.tag) == (self.remote_tag, self.local_tag)

    def on_request(self, message: Message) -> list[DialogEvent]:
        """A request that matches. BYE ends the dialog; the shell answers 200 in any case."""
        if message.method != "BYE" or self.phase is Phase.ENDED:
            return []
        self.phase = Phase.ENDED
        return [Ended("BYE received")]

    def _outgoing(
        self, method: str, cseq: int, headers: Headers = (), body: bytes = b"", tag: str = ""
    ) -> Outgoing:
        tag = tag or self.remote_tag
        addresses = [
            ("From", f"<{self.local_uri}>;tag={self.local_tag}"),
            ("To", f"<{self.remote_uri}>" + (f";tag={tag}" if tag else "")),
        ]
        return Outgoing(method, self.target, (*addresses, *headers), body, self.call_id, cseq)


class InviteDialog(_Dialog):
    """The calling side."""

    def __init__(
        self, ids: Ids, *, local_uri: str, remote_uri: str, target: str, contact: str, peer: Peer
    ) -> None:
        """URIs without brackets. target = Request-URI; peer = where requests really go."""
        super().__init__(f"{ids.token(8)}@{Uri.parse(contact).host}", local_uri, remote_uri, peer)
        self.local_tag = ids.token(4)
        self.target = target
        self.contact = contact
        self._invite_cseq = 0
        self._answers: dict[str, bool] = {}
        """Tags of all 2xx, and whether each is acknowledged."""

    @classmethod
    def from_state(cls, state: DialogState, connection: int = 0) -> InviteDialog:
        """A confirmed dialog as persisted. connection: of the peer now, when it is on TCP."""
        dialog = cls.__new__(cls)
        peer = Peer(state.transport, state.host, state.port, connection)
        _Dialog.__init__(dialog, state.call_id, state.local_uri, state.remote_uri, peer)
        dialog.local_tag = state.local_tag
        dialog.remote_tag = state.remote_tag
        dialog.target = state.remote_target
        dialog.cseq = state.cseq
        dialog._invite_cseq = 0
        dialog._answers = {}
        dialog.phase = Phase.CONFIRMED
        return dialog

    def to_state(self) -> DialogState:
        """What a BYE after a restart needs. Raises Conflict unless the dialog is confirmed."""
        if self.phase is not Phase.CONFIRMED:
            raise Conflict(f"dialog {self.call_id} is {self.phase}, not confirmed")
        return self._state(self.remote_tag)

    def _state(self, tag: str) -> DialogState:
        return DialogState(
            call_id=self.call_id,
            local_uri=self.local_uri,
            local_tag=self.local_tag,
            remote_uri=self.remote_uri,
            remote_tag=tag,
            remote_target=self.target,
            cseq=self.cseq,
            transport=self.peer.transport,
            host=self.peer.host,
            port=self.peer.port,
        )

    def invite(self, body: bytes, extra: Headers = ()) -> Outgoing:
        """The INVITE. extra: Subject and the like; Contact, Allow and Content-Type are added."""
        headers = [("Contact", f"<{self.contact}>"), *extra, ("Allow", ALLOW)]
        headers.append(("Content-Type", SDP_TYPE))
        outgoing = self.request("INVITE", headers, body)
        self._invite_cseq = outgoing.cseq
        return outgoing

    def on_response(self, message: Message) -> list[DialogEvent]:
        """Every response to the INVITE, repeated 2xx included."""
        if message.status < 200:
            if self.phase is Phase.CALLING:
                self.phase = Phase.PROCEEDING
            return [Ringing(message.status, message.reason)]
        if message.status < 300:
            return self._on_success(message)
        return self._on_refusal(message)

    def _on_success(self, message: Message) -> list[DialogEvent]:
        """The first 2xx of each tag waits for `acknowledge`; until then its device repeats it."""
        tag = _tag_of(message)
        acknowledged = self._answers.get(tag)
        if acknowledged is not None or len(self._answers) >= ANSWERS_MAX:
            return [Transmit(self._ack(tag))] if acknowledged else []
        self._answers[tag] = False
        if self.phase in (Phase.CALLING, Phase.PROCEEDING):
            self._confirm(message, tag)
            self.phase = Phase.CONFIRMED
            return [Answered(message.body, message)]
        if self.phase is Phase.CANCELLING:
            self._confirm(message, tag)
            self.phase = Phase.ENDED
            return [Strayed(self._state(tag)), Ended("answered too late")]
        return [Strayed(self._state(tag))]

    def acknowledge(self, tag: str = "") -> Outgoing:
        """The ACK of the 2xx with this tag, by itself of the one that was answered."""
        tag = tag or self.remote_tag
        self._answers[tag] = True
        return self._ack(tag)

    def _confirm(self, message: Message, tag: str) -> None:
        self.remote_tag = tag
        try:
            contact = message.contact
        except Malformed:
            contact = None
        if contact is not None and contact.uri.scheme in {"sip", "sips"}:
            self.target = str(contact.uri)

    def _ack(self, tag: str) -> Outgoing:
        return self._outgoing("ACK", self._invite_cseq, tag=tag)

    def _on_refusal(self, message: Message) -> list[DialogEvent]:
        if self.phase not in (Phase.CALLING, Phase.PROCEEDING, Phase.CANCELLING):
            return []
        cancelled = self.phase is Phase.CANCELLING
        self.phase = Phase.ENDED
        if cancelled:
            return [Ended("cancelled")]
        warning = (message.header("warning") or "")[:WARNING_LENGTH_MAX]
        return [Failed(message.status, message.reason, warning)]

    def on_timeout(self) -> list[DialogEvent]:
        """The INVITE's transaction ended without a final response."""
        if self.phase not in (Phase.CALLING, Phase.PROCEEDING, Phase.CANCELLING):
            return []
        self.phase = Phase.ENDED
        return [Ended("no answer")]

    def cancel(self) -> bool:
        """We give up before the final response; True when a CANCEL is to be sent.

        A 2xx that comes all the same has strayed.
        """
        if self.phase not in (Phase.CALLING, Phase.PROCEEDING):
            return False
        self.phase = Phase.CANCELLING
        return True


class AnsweredDialog(_Dialog):
    """The called side: repeats its 200 until the ACK arrives (RFC 3261 13.3.1.4)."""

    def __init__(self, ids: Ids, invite: Message, *, contact: str, peer: Peer) -> None:
        """Raises Malformed when From, To or Contact of the INVITE cannot be read."""
        super().__init__(invite.call_id, str(invite.to.uri), str(invite.from_.uri), peer)
        self.local_tag = ids.token(4)
        self.remote_tag = invite.from_.tag
        self.target = _target(invite.contact, invite.from_)
        self.contact = contact
        self._interval_s = T1_S
        self._repeat_s: float | None = None
        self._give_up_s = 0.0

    def answer(self, body: bytes, now: float) -> tuple[tuple[str, str], ...]:
        """Headers of the 200 with this body; send it with `local_tag`. Starts the clock."""
        self.phase = Phase.PROCEEDING
        self._interval_s = T1_S
        self._repeat_s = now + T1_S
        self._give_up_s = now + LIFE_S
        contact = ("Contact", f"<{self.contact}>")
        return (contact, ("Content-Type", SDP_TYPE)) if body else (contact,)

    def next_deadline(self) -> float | None:
        return self._repeat_s

    def advance(self, now: float) -> bool:
        """True when the 200 is to be sent again now. Without ACK for 64*T1 the phase is ENDED."""
        if self._repeat_s is None or now < self._repeat_s:
            return False
        if now >= self._give_up_s:
            self.phase = Phase.ENDED
            self._repeat_s = None
            return False
        self._interval_s = min(2 * self._interval_s, T2_S)
        self._repeat_s = min(self._repeat_s + self._interval_s, self._give_up_s)
        return True

    def on_ack(self, message: Message) -> None:
        """An ACK of a 2xx; one of another dialog is ignored."""
        if message.call_id != self.call_id:
            return
        self._repeat_s = None
        if self.phase is Phase.PROCEEDING:
            self.phase = Phase.CONFIRMED

    def on_request(self, message: Message) -> list[DialogEvent]:
        self._repeat_s = None if message.method == "BYE" else self._repeat_s
        return super().on_request(message)


def _tag_of(message: Message) -> str:
    try:
        return message.to.tag
    except Malformed:
        return ""


def _target(contact: NameAddr | None, sender: NameAddr) -> str:
    """Contact where there is one, else From: ours must not fail where a device omits it."""
    return str(contact.uri if contact is not None else sender.uri)


__all__ = [
    "ALLOW",
    "Answered",
    "AnsweredDialog",
    "DialogEvent",
    "Ended",
    "Failed",
    "InviteDialog",
    "Outgoing",
    "Phase",
    "Ringing",
    "Strayed",
    "Transmit",
]
