"""The transaction layer of one SIP node, without I/O: bytes and intents in, bytes and events out.

    agent.receive(data, peer, now)     what the network said
    agent.request(...) .respond(...)   what we want
    agent.advance(now)                 time passed
    agent.next_deadline()              wake me no later than this
    agent.take()                       Send and events, in order

Requests that come again are answered by their transaction before anybody else, the digest check
above all, sees them (RFC 3261 17.2). Where a request came from decides where its answer goes:
always back to the source address, also without rport, because devices behind NAT forget it
(RFC 3581 asks for rport first; GB/T 28181-2016 examples have none).

Two tables hold server transactions: INVITEs with their timers, and everything else in two
generations of replies. When a generation is 64*T1 old, or full, the older one is dropped whole, so
expiry costs nothing per message. A generation that fills early means that a very late
retransmission may be taken for new; the digest's replay table still refuses it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from vsp.errors import Exhausted
from vsp.model.device import Transport
from vsp.ports import Ids
from vsp.sip.core.message import Malformed, Message, build_request, parse_message, reply_bytes
from vsp.sip.core.transaction import (
    LIFE_S,
    ClientInvite,
    ClientNonInvite,
    ClientTransaction,
    Do,
    Event,
    ServerInvite,
    ServerKey,
    ServerNonInvite,
    ServerTransaction,
    State,
    Transaction,
    event_of_reply,
    event_of_response,
)

BRANCH_COOKIE = "z9hG4bK"
"""RFC 3261 8.1.1.7."""

MAX_FORWARDS = "70"
"""RFC 3261 8.1.1.6."""

RECENT_MAX = 131_072
"""Server transactions in one generation: four times the 834/s of 50,000 devices over 32 s."""

RECENT_BYTES_MAX = 128 << 20
"""Bytes of one generation: the 27,000 requests of 50,000 devices in 32 s make about 40 MB; echoed
headers may be 64 KB each, so a count alone would not bound memory."""

RECENT_OVERHEAD_BYTES = 1_024
"""Counted for a remembered request beside its body: key, objects and an ordinary reply."""

CLIENTS_MAX = 20_000
"""Live requests of ours: 10,000 devices queried at once, twice; more is a runaway loop."""

INVITES_MAX = 10_000
"""Live INVITEs towards us: one for each channel of a large site."""

JUNK_ANSWERS_MAX = 5
"""400s sent to one address within JUNK_WINDOW_S; a device needs one, a scanner gets no more."""

JUNK_WINDOW_S = 10.0
"""Window of JUNK_ANSWERS_MAX; one keepalive period of a broken device stays answered."""

JUNK_HOSTS_MAX = 4_096
"""Addresses counted at a time; beyond it junk stays unanswered until the window ends."""

DROPPED_BYTES_MAX = 128
"""Bytes of a dropped datagram kept for the log."""


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """Where bytes come from or go to. connection = id of the TCP connection, 0 for UDP.

    `text` is its one-word form for keys and logs: `udp:192.0.2.7:5060`, `tcp:192.0.2.7:40000#12`.
    """

    transport: Transport
    host: str
    port: int
    connection: int = 0
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        tail = f"#{self.connection}" if self.connection else ""
        object.__setattr__(self, "text", f"{self.transport.value}:{self.host}:{self.port}{tail}")

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Peer) and self.text == other.text

    def __str__(self) -> str:
        return self.text


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
    """No final response within 64*T1 (client), or no ACK to a refusal (server INVITE)."""

    transaction: ClientTransaction | ServerTransaction


@dataclass(frozen=True, slots=True)
class Dropped:
    """Bytes that led to nothing, with their beginning."""

    reason: str
    peer: Peer
    head: bytes


Output = Send | RequestReceived | AckReceived | ResponseReceived | TimedOut | Dropped

Headers = Sequence[tuple[str, str]]


class SipAgent:
    """Transactions of one node. Registration, dialogs and routing are above it."""

    def __init__(
        self, ids: Ids, sent_by: str, user_agent: str = "", *, trying: bool = True
    ) -> None:
        """sent_by: host:port written into Via. trying: answer INVITEs with 100 at once."""
        self.sent_by = sent_by
        self.user_agent = user_agent
        self.absorbed = 0
        """Requests that came again and were answered here."""
        self._ids = ids
        self._trying = trying
        self._out: list[Output] = []
        self._clients: dict[tuple[bytes, str], ClientTransaction] = {}
        self._clients_by_call: dict[tuple[str, int, str], ClientTransaction] = {}
        self._invites: dict[ServerKey, ServerInvite] = {}
        self._invites_by_call: dict[tuple[bytes, int, str], ServerInvite] = {}
        self._recent: dict[ServerKey, bytes | ServerNonInvite] = {}
        self._older: dict[ServerKey, bytes | ServerNonInvite] = {}
        self._recent_bytes = 0
        self._rotated_s = 0.0
        self._heap: list[tuple[float, int, Transaction]] = []
        self._pushes = 0
        self._tag_stem = ids.token(6)
        self._tags = 0
        self._junk: dict[str, int] = {}
        self._junk_since_s = 0.0

    # ---- what the network said ------------------------------------------------------------

    def receive(self, data: bytes, peer: Peer, now: float) -> None:
        """One datagram, or one message cut out of a stream by `framing.StreamFramer`."""
        try:
            message = parse_message(data)
        except Malformed as error:
            self._receive_junk(data, peer, error, now)
            return
        if message.method is None:
            self._receive_response(message, peer, now)
        else:
            self._receive_request(message, peer, now)

    def _receive_request(self, message: Message, peer: Peer, now: float) -> None:
        method = message.method
        if method == "ACK":
            self._receive_ack(message, peer, now)
            return
        key = server_key(message, peer)
        if method == "INVITE":
            self._receive_invite(key, message, peer, now)
            return
        held = self._recent.get(key) or self._older.get(key)
        if held is not None:
            self._repeat(held, peer, now)
            return
        transaction = ServerNonInvite(peer, key, message)
        if not transaction.reliable:
            self._remember(key, transaction, len(message.body) + RECENT_OVERHEAD_BYTES, now)
        self._out.append(RequestReceived(transaction, message, peer))

    def _repeat(self, held: bytes | ServerNonInvite, peer: Peer, now: float) -> None:
        """Absorb a retransmission: the reply again, or nothing while there is none."""
        self.absorbed += 1
        if isinstance(held, bytes):
            self._out.append(Send(held, peer))
        else:
            self._perform(held, held.on(Event.RECV_REQUEST, now), None, peer)

    def _remember(
        self, key: ServerKey, value: bytes | ServerNonInvite, size_bytes: int, now: float
    ) -> None:
        if (
            now - self._rotated_s >= LIFE_S
            or len(self._recent) >= RECENT_MAX
            or self._recent_bytes > RECENT_BYTES_MAX
        ):
            self._older, self._recent, self._rotated_s = self._recent, {}, now
            self._recent_bytes = 0
        self._recent[key] = value
        self._recent_bytes += size_bytes

    def _receive_invite(self, key: ServerKey, message: Message, peer: Peer, now: float) -> None:
        known = self._invites.get(key)
        if known is not None:
            self.absorbed += 1
            self._perform(known, known.on(Event.RECV_REQUEST, now), message, peer)
            return
        if len(self._invites) >= INVITES_MAX:
            self._out.append(Send(reply_bytes(message, 503, "Busy", to_tag=self._tag()), peer))
            return
        transaction = ServerInvite(peer, key, message)
        self._invites[key] = transaction
        self._invites_by_call[_call_key(message, peer)] = transaction
        transaction.begin(now)
        self._arm(transaction)
        if self._trying:
            self.respond(transaction, 100, "Trying", now=now)
        self._out.append(RequestReceived(transaction, message, peer))

    def _receive_ack(self, message: Message, peer: Peer, now: float) -> None:
        """ACK of a refusal ends with its transaction; that of a 2xx is the dialog's (17.1.1.3)."""
        transaction = self.invite_of(message, peer)
        if transaction is None or transaction.state is State.ACCEPTED:
            self._out.append(AckReceived(message, peer))
            return
        self._perform(transaction, transaction.on(Event.RECV_ACK, now), message, peer)
        self._settle(transaction)

    def invite_of(self, message: Message, peer: Peer) -> ServerInvite | None:
        """The INVITE that a received CANCEL or ACK aims at: same branch (RFC 3261 9.2, 17.2.3).

        Devices that make a new branch for it are matched by Call-ID and CSeq number.
        """
        branch, call_id, number, _, text = server_key(message, peer)
        found = self._invites.get((branch, call_id, number, "INVITE", text))
        return found or self._invites_by_call.get(_call_key(message, peer))

    def _receive_response(self, message: Message, peer: Peer, now: float) -> None:
        """The answer to a request of ours, from the host that it was sent to: who has seen a branch
        on its way must not answer for somebody else."""
        number, method = message.cseq
        transaction = self._clients.get((message.branch, method))
        if transaction is None:
            # Quirk `via-mangled`: RFC 3261 17.1.3 wants our branch back; some devices lose it.
            transaction = self._clients_by_call.get((message.call_id, number, method))
        if transaction is None or transaction.peer.host != peer.host:
            self._drop("response to no request of ours", peer, message.start_line.encode())
            return
        actions = transaction.on(event_of_response(message.status), now)
        self._perform(transaction, actions, message, peer)
        if transaction.cancel_wanted and transaction.state is State.PROCEEDING:
            self.cancel(transaction, now)
        self._settle(transaction)

    def _receive_junk(self, data: bytes, peer: Peer, error: Malformed, now: float) -> None:
        """Answer what can be answered, within a bound per address; drop the rest.

        Line ends alone are a keepalive of the connection (RFC 5626 3.5.1): CRLF answers CRLF CRLF
        on a stream; on UDP nothing is sent and nothing said.
        """
        if not data.strip(b"\r\n\x00"):
            if peer.connection and data.startswith(b"\r\n\r\n"):
                self._out.append(Send(b"\r\n", peer))
            return
        request = error.partial
        if isinstance(request, Message) and self._may_answer_junk(peer.host, now):
            reply = reply_bytes(request, error.status, error.message, to_tag=self._tag(), peer=peer)
            self._out.append(Send(reply, peer))
        self._drop(error.message, peer, data)

    def _may_answer_junk(self, host: str, now: float) -> bool:
        if now - self._junk_since_s >= JUNK_WINDOW_S:
            self._junk.clear()
            self._junk_since_s = now
        count = self._junk.get(host, 0)
        if count >= JUNK_ANSWERS_MAX or (count == 0 and len(self._junk) >= JUNK_HOSTS_MAX):
            return False
        self._junk[host] = count + 1
        return True

    def _drop(self, reason: str, peer: Peer, data: bytes) -> None:
        self._out.append(Dropped(reason, peer, data[:DROPPED_BYTES_MAX]))

    # ---- what we want ---------------------------------------------------------------------

    def request(
        self,
        method: str,
        uri: str,
        headers: Headers,
        body: bytes,
        peer: Peer,
        now: float,
        *,
        call_id: str | None = None,
        cseq: int = 1,
    ) -> ClientTransaction:
        """Send a request in a new client transaction (not ACK, not CANCEL).

        headers must hold From and To; a From without tag gets one. Call-ID and CSeq are the keyword
        arguments (a Call-ID is made up when none is given). Added: Via with branch and rport,
        Max-Forwards, User-Agent, Content-Length. Raises Exhausted when too many are under way.
        """
        if len(self._clients) >= CLIENTS_MAX:
            raise Exhausted(f"{CLIENTS_MAX} SIP requests are waiting for their answers")
        call_id = call_id or f"{self._ids.token(8)}@{self.sent_by.rpartition(':')[0]}"
        kind = ClientInvite if method == "INVITE" else ClientNonInvite
        transaction = kind(peer, method, uri, call_id, cseq)
        branch = BRANCH_COOKIE + self._ids.token(8)
        transaction.branch = branch.encode()
        full = self._full_headers(headers, branch, peer, call_id, f"{cseq} {method}")
        transaction.data = build_request(method, uri, full, body)
        self._clients[transaction.branch, method] = transaction
        self._clients_by_call[call_id, cseq, method] = transaction
        transaction.begin(now)
        self._arm(transaction)
        self._out.append(Send(transaction.data, peer))
        return transaction

    def _full_headers(
        self, headers: Headers, branch: str, peer: Peer, call_id: str, cseq: str
    ) -> list[tuple[str, str]]:
        """The caller's headers between those of the transaction, in the order of the standard."""
        given = {name.lower(): value for name, value in headers}
        sender = given["from"]
        if ";tag=" not in sender:
            sender = f"{sender};tag={self._ids.token(4)}"
        via = f"SIP/2.0/{peer.transport.value.upper()} {self.sent_by};rport;branch={branch}"
        full = [("Via", via), ("From", sender), ("To", given["to"])]
        full += [("Call-ID", call_id), ("CSeq", cseq)]
        set_apart = {"from", "to", "content-type"}
        full += [(name, value) for name, value in headers if name.lower() not in set_apart]
        if "max-forwards" not in given:
            full.append(("Max-Forwards", MAX_FORWARDS))
        if self.user_agent:
            full.append(("User-Agent", self.user_agent))
        if "content-type" in given:
            full.append(("Content-Type", given["content-type"]))
        return full

    def respond(
        self,
        transaction: ServerTransaction,
        status: int,
        reason: str,
        headers: Headers = (),
        body: bytes = b"",
        *,
        now: float,
        to_tag: str | None = None,
    ) -> None:
        """Answer a request. All answers to one INVITE carry the same To tag.

        A second final answer is ignored, but for a 2xx repeated by its dialog (RFC 6026 7.1).
        """
        if to_tag:
            transaction.to_tag = to_tag
        elif not transaction.to_tag:
            transaction.to_tag = self._tag()
        reply = reply_bytes(
            transaction.request, status, reason, headers, body, transaction.to_tag, transaction.peer
        )
        actions = transaction.on(event_of_reply(status), now)
        if not actions:
            return
        transaction.reply = reply
        self._out.append(Send(reply, transaction.peer))
        if isinstance(transaction, ServerInvite):
            self._settle(transaction)
        elif status >= 200 and not transaction.reliable:
            self._remember(transaction.key, reply, max(0, len(reply) - RECENT_OVERHEAD_BYTES), now)

    def ack(
        self,
        uri: str,
        headers: Headers,
        peer: Peer,
        *,
        call_id: str,
        cseq: int,
        body: bytes = b"",
    ) -> None:
        """ACK of a 2xx: outside transactions, new branch. headers: From and To with both tags."""
        branch = BRANCH_COOKIE + self._ids.token(8)
        full = self._full_headers(headers, branch, peer, call_id, f"{cseq} ACK")
        self._out.append(Send(build_request("ACK", uri, full, body), peer))

    def cancel(self, transaction: ClientTransaction, now: float) -> None:
        """CANCEL an INVITE. Before its first provisional it is only noted (RFC 3261 9.1)."""
        transaction.cancel_wanted = transaction.state is State.CALLING
        if transaction.state is not State.PROCEEDING:
            return
        original = parse_message(transaction.data)
        cancelling = ClientNonInvite(
            transaction.peer, "CANCEL", transaction.uri, transaction.call_id, transaction.cseq
        )
        cancelling.branch = transaction.branch
        cancelling.data = _sibling("CANCEL", original, original.header("to") or "")
        self._clients[cancelling.branch, "CANCEL"] = cancelling
        cancelling.begin(now)
        self._arm(cancelling)
        self._out.append(Send(cancelling.data, transaction.peer))
        transaction.on(Event.CANCELLED, now)
        self._arm(transaction)

    def abandon(self, transaction: ClientTransaction) -> None:
        """Stop repeating and forget; answers that still come are dropped."""
        transaction.state = State.TERMINATED
        self._settle(transaction)

    # ---- time -----------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Run the timers that are due."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            _, _, transaction = heapq.heappop(heap)
            transaction.armed_s = None
            while (timer := transaction.due(now)) is not None:
                actions = transaction.on(timer, now)
                self._perform(transaction, actions, None, transaction.peer)
            self._settle(transaction)

    def next_deadline(self) -> float | None:
        """The moment `advance` is wanted next; it may turn out that nothing is due then."""
        return self._heap[0][0] if self._heap else None

    def take(self) -> list[Output]:
        """Outputs since the last call, in order."""
        out = self._out
        if out:
            self._out = []
        return out

    @property
    def live(self) -> int:
        """Transactions with timers running; for metrics and tests."""
        return len(self._clients) + len(self._invites)

    # ---- within ---------------------------------------------------------------------------

    def _perform(
        self, transaction: Transaction, actions: tuple[Do, ...], message: Message | None, peer: Peer
    ) -> None:
        """Do what a row of the table asks of the outside."""
        for action in actions:
            if action is Do.SEND:
                self._send_again(transaction)
            elif action is Do.ACK and isinstance(transaction, ClientInvite) and message:
                original = parse_message(transaction.data)
                data = _sibling("ACK", original, message.header("to") or "")
                self._out.append(Send(data, transaction.peer))
            elif action is Do.DELIVER and message is not None:
                if isinstance(transaction, ClientTransaction):
                    self._out.append(ResponseReceived(transaction, message, peer))
            elif action is Do.INFORM:
                assert isinstance(transaction, ClientTransaction | ServerTransaction)
                self._out.append(TimedOut(transaction))

    def _send_again(self, transaction: Transaction) -> None:
        if isinstance(transaction, ClientTransaction):
            self._out.append(Send(transaction.data, transaction.peer))
        elif isinstance(transaction, ServerTransaction) and transaction.reply:
            self._out.append(Send(transaction.reply, transaction.peer))

    def _settle(self, transaction: Transaction) -> None:
        """Arm what lives on, forget what has ended."""
        if transaction.state is not State.TERMINATED:
            self._arm(transaction)
        elif isinstance(transaction, ClientTransaction):
            self._clients.pop((transaction.branch, transaction.method), None)
            by_call = (transaction.call_id, transaction.cseq, transaction.method)
            if self._clients_by_call.get(by_call) is transaction:
                del self._clients_by_call[by_call]
        elif isinstance(transaction, ServerInvite):
            self._invites.pop(transaction.key, None)
            called = _call_key(transaction.request, transaction.peer)
            if self._invites_by_call.get(called) is transaction:
                del self._invites_by_call[called]

    def _arm(self, transaction: Transaction) -> None:
        """Put the next deadline on the heap, unless an earlier wake-up is there already."""
        deadline = transaction.deadline()
        armed = transaction.armed_s
        if deadline is None or (armed is not None and armed <= deadline):
            return
        transaction.armed_s = deadline
        self._pushes += 1
        heapq.heappush(self._heap, (deadline, self._pushes, transaction))

    def _tag(self) -> str:
        """A To tag: 48 random bits of this agent and a counter (RFC 3261 19.3)."""
        self._tags += 1
        return f"{self._tag_stem}{self._tags:x}"


def server_key(message: Message, peer: Peer) -> ServerKey:
    """What makes two requests the same one (RFC 3261 17.2.3).

    The branch decides there; Call-ID and CSeq are added because some firmware uses one branch for
    everything, the source because branches of strangers may collide. Without a branch (Hikvision
    platforms) the whole top Via takes its place.
    """
    call_id = message.raw("call-id")
    assert call_id is not None
    branch = message.branch or message.vias[0]
    return (branch, call_id.strip(), message.cseq[0], message.method or "", peer.text)


def _call_key(message: Message, peer: Peer) -> tuple[bytes, int, str]:
    call_id = message.raw("call-id")
    assert call_id is not None
    return (call_id.strip(), message.cseq[0], peer.host)


def _sibling(method: str, original: Message, to: str) -> bytes:
    """ACK of a refusal, or CANCEL: the INVITE's own URI, Via, From, Call-ID (17.1.1.3, 9.1)."""
    headers = [
        ("Via", original.header("via") or ""),
        ("From", original.header("from") or ""),
        ("To", to),
        ("Call-ID", original.call_id),
        ("CSeq", f"{original.cseq[0]} {method}"),
        ("Max-Forwards", MAX_FORWARDS),
    ]
    headers += [("Route", route) for route in original.headers("route")]
    return build_request(method, original.uri.decode(), headers)


__all__ = [
    "AckReceived",
    "Dropped",
    "Output",
    "Peer",
    "RequestReceived",
    "ResponseReceived",
    "Send",
    "SipAgent",
    "TimedOut",
    "server_key",
]
