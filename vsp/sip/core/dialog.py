"""INVITE dialogs (RFC 3261 12-15), both ends, without I/O and without an agent.

`InviteDialog` is the caller (UAC). It makes requests as values (`Outgoing`), reads responses and
says what follows. `AnsweredDialog` is the callee (UAS).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vsp.ports import DialogState, Ids
from vsp.sip.core.agent import Peer
from vsp.sip.core.message import Message


class Phase(StrEnum):
    CALLING = "calling"
    PROCEEDING = "proceeding"
    CONFIRMED = "confirmed"
    CANCELLING = "cancelling"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to hand to `SipAgent.request` (or `.ack` for ACK)."""

    method: str
    uri: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    call_id: str
    cseq: int


@dataclass(frozen=True, slots=True)
class Ringing:
    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Answered:
    """2xx: `body` is the SDP answer, `message` the whole response."""

    body: bytes
    message: Message


@dataclass(frozen=True, slots=True)
class Failed:
    """A final refusal. warning = text of the Warning header ("" if none)."""

    status: int
    reason: str
    warning: str


@dataclass(frozen=True, slots=True)
class Transmit:
    """Send this now: an ACK (of a first or repeated 2xx), or a BYE after a late 2xx."""

    outgoing: Outgoing


@dataclass(frozen=True, slots=True)
class Ended:
    cause: str


DialogEvent = Ringing | Answered | Failed | Transmit | Ended


class InviteDialog:
    """The calling side of one INVITE dialog. No re-INVITE (GB/T 28181-2016 does not use it)."""

    call_id: str
    phase: Phase

    def __init__(
        self, ids: Ids, *, local_uri: str, remote_uri: str, target: str, contact: str, peer: Peer
    ) -> None:
        """URIs without brackets; target = Request-URI; peer = where the requests go."""

    @classmethod
    def from_state(cls, state: DialogState, connection: int = 0) -> InviteDialog:
        """A confirmed dialog as persisted."""
        ...

    def to_state(self) -> DialogState:
        """Raises Conflict unless confirmed."""
        ...

    def invite(self, body: bytes, extra: Sequence[tuple[str, str]] = ()) -> Outgoing:
        """extra: Subject and the like. Adds From, To, Contact, Allow, Content-Type."""
        ...

    def on_response(self, message: Message) -> list[DialogEvent]:
        """Every response to the INVITE, repeated 2xx included."""
        ...

    def on_timeout(self) -> list[DialogEvent]: ...
    def cancel(self) -> None:
        """Note that we gave up before a final response: a 2xx that still comes is ACKed and BYEd."""

    def bye(self) -> Outgoing: ...
    def request(
        self, method: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
    ) -> Outgoing:
        """INFO, MESSAGE in the dialog."""
        ...

    def matches(self, message: Message) -> bool:
        """Whether a request received belongs to this dialog (RFC 3261 12.2.2)."""
        ...

    def on_request(self, message: Message) -> list[DialogEvent]:
        """A request that matches: BYE ends the dialog (the caller answers 200)."""
        ...


class AnsweredDialog:
    """The called side: repeats its 200 until the ACK arrives (RFC 3261 13.3.1.4)."""

    call_id: str
    phase: Phase
    local_tag: str

    def __init__(self, ids: Ids, invite: Message, *, contact: str, peer: Peer) -> None: ...

    def answer(self, body: bytes, now: float) -> tuple[tuple[str, str], ...]:
        """Headers (Contact, Content-Type) of the 200; give it `local_tag` as to_tag. Starts the clock."""
        ...

    def advance(self, now: float) -> bool:
        """True when the 200 must be sent again now; ENDED after 64*T1 without ACK."""
        ...

    def next_deadline(self) -> float | None: ...
    def on_ack(self, message: Message) -> None: ...
    def bye(self) -> Outgoing: ...
    def request(
        self, method: str, headers: Sequence[tuple[str, str]] = (), body: bytes = b""
    ) -> Outgoing: ...
    def matches(self, message: Message) -> bool: ...
    def on_request(self, message: Message) -> list[DialogEvent]: ...
