"""The transaction layer of one SIP node, without I/O: bytes and intents in, bytes and events out.

    agent.receive(data, peer, now)     what the network said
    agent.request(...) .respond(...)   what we want
    agent.advance(now)                 time passed
    agent.next_deadline()              wake me no later than this
    agent.take()                       Send and events, in order
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vsp.model.device import Transport
from vsp.ports import Ids
from vsp.sip.core.message import Message
from vsp.sip.core.transaction import (
    ClientTransaction,
    ServerTransaction,
)


@dataclass(frozen=True, slots=True)
class Peer:
    """Where bytes come from or go to. connection = id of the TCP connection, 0 for UDP."""

    transport: Transport
    host: str
    port: int
    connection: int = 0


@dataclass(frozen=True, slots=True)
class Send:
    data: bytes
    peer: Peer


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A new request (never a retransmission, never an ACK). Answer it with `respond`."""

    transaction: ServerTransaction
    message: Message
    peer: Peer


@dataclass(frozen=True, slots=True)
class AckReceived:
    """ACK of a 2xx; belongs to a dialog (Call-ID, tags), not to a transaction."""

    message: Message
    peer: Peer


@dataclass(frozen=True, slots=True)
class ResponseReceived:
    """A provisional or final response. For INVITE each repeated 2xx comes again (RFC 6026)."""

    transaction: ClientTransaction
    message: Message
    peer: Peer


@dataclass(frozen=True, slots=True)
class TimedOut:
    """No final response within 64*T1 (client), or no ACK to a final one (server INVITE)."""

    transaction: ClientTransaction | ServerTransaction


@dataclass(frozen=True, slots=True)
class Dropped:
    """Bytes that led to nothing, with their beginning."""

    reason: str
    peer: Peer
    head: bytes


Output = Send | RequestReceived | AckReceived | ResponseReceived | TimedOut | Dropped


class SipAgent:
    def __init__(self, ids: Ids, sent_by: str, user_agent: str) -> None:
        """sent_by: host:port for Via."""

    def receive(self, data: bytes, peer: Peer, now: float) -> None: ...

    def request(
        self,
        method: str,
        uri: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        peer: Peer,
        now: float,
        *,
        call_id: str | None = None,
        cseq: int = 1,
    ) -> ClientTransaction:
        """Send a request in a new client transaction (not ACK, not CANCEL).

        headers must hold From and To; a From without tag gets one. Call-ID and CSeq are taken from
        the keyword arguments (a Call-ID is made up when none is given). Added: Via with branch and
        rport, Max-Forwards, User-Agent, Content-Length.
        """
        ...

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        reason: str,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
        *,
        now: float,
        to_tag: str | None = None,
    ) -> None: ...

    def ack(
        self,
        uri: str,
        headers: Sequence[tuple[str, str]],
        peer: Peer,
        *,
        call_id: str,
        cseq: int,
        body: bytes = b"",
    ) -> None:
        """ACK of a 2xx: outside transactions, new branch. headers: From and To with both tags."""

    def cancel(self, transaction: ClientTransaction, now: float) -> None:
        """CANCEL an INVITE; waits for the first provisional by itself (RFC 3261 9.1)."""

    def abandon(self, transaction: ClientTransaction) -> None:
        """Stop retransmitting and forget; late responses are dropped."""

    def invite_of(self, cancel: Message, peer: Peer) -> ServerTransaction | None:
        """The INVITE server transaction that a received CANCEL aims at (RFC 3261 9.2)."""
        ...

    def advance(self, now: float) -> None: ...
    def next_deadline(self) -> float | None: ...
    def take(self) -> list[Output]: ...
