"""SIP transactions as printed tables (RFC 3261 17, corrected by RFC 6026).

Four machines. Each is one table: (state, event) -> (next state, actions). A pair that is not in the
table is ignored, which is what the RFC says of every one of them. The agent (`agent.py`) feeds
events, performs the actions that touch the outside (SEND, ACK, DELIVER, INFORM) and asks for the
next deadline; timers are run here.

    client INVITE 17.1.1      CALLING -> PROCEEDING -> COMPLETED | ACCEPTED -> TERMINATED
    client other  17.1.2      TRYING -> PROCEEDING -> COMPLETED -> TERMINATED
    server INVITE 17.2.1      PROCEEDING -> COMPLETED -> CONFIRMED, or ACCEPTED -> TERMINATED
    server other  17.2.2      TRYING -> PROCEEDING -> COMPLETED -> TERMINATED

Server transactions other than INVITE run no timer J each: once answered, only their reply is kept,
in a two-generation cache of the agent. It holds a reply for 64*T1 to 128*T1, which is at least J.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from vsp.model.device import Transport

if TYPE_CHECKING:
    from vsp.sip.core.agent import Peer
    from vsp.sip.core.message import Message

T1_S = 0.5
"""Round-trip estimate (RFC 3261 17.1.1.1). Kept at the default: GB networks allow 400 ms delay."""

T2_S = 4.0
"""Longest interval between retransmissions but of INVITE (RFC 3261 17.1.2.2)."""

T4_S = 5.0
"""Longest time a message stays in the network (RFC 3261 17.1.2.2)."""

LIFE_S = 64 * T1_S
"""Timers B, D, F, H, J, L and M (RFC 3261 table 4; D is "at least 32 s")."""

UNANSWERED_S = 200.0
"""An INVITE that its user never answers is dropped; above timer C (RFC 3261 16.6: > 3 min)."""


class State(Enum):
    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"
    TERMINATED = "terminated"

    __hash__ = object.__hash__


class Event(Enum):
    """What can happen to a transaction. Timers carry the RFC's letters."""

    RECV_1XX = "receives a provisional response"
    RECV_2XX = "receives a 2xx"
    RECV_3XX = "receives a final response above 299"
    RECV_REQUEST = "receives its request again"
    RECV_ACK = "receives an ACK"
    SEND_1XX = "user sends a provisional response"
    SEND_2XX = "user sends a 2xx"
    SEND_3XX = "user sends a final response above 299"
    CANCELLED = "user has sent CANCEL"
    A = "timer A: repeat INVITE"
    B = "timer B: no answer to INVITE"
    C = "no final answer after CANCEL"
    D = "timer D: wait for repeated finals"
    E = "timer E: repeat request"
    F = "timer F: no answer to request"
    G = "timer G: repeat final answer"
    H = "timer H: no ACK"
    I = "timer I: wait for repeated ACKs"  # noqa: E741  the RFC's own letter
    K = "timer K: wait for repeated answers"
    L = "timer L: wait for repeated INVITEs"
    M = "timer M: wait for repeated 2xx"
    N = "the user never answered"

    __hash__ = object.__hash__


class Do(Enum):
    """What a row does. SEND, ACK, DELIVER and INFORM are the agent's; the rest is timers."""

    SEND = "send the request, or the last response, again"
    ACK = "acknowledge the final response, hop by hop"
    DELIVER = "give the message to the user"
    INFORM = "tell the user that nobody answered"
    START_A = "A"
    START_B = "B"
    START_C = "C"
    START_D = "D"
    START_E = "E"
    START_F = "F"
    START_G = "G"
    START_H = "H"
    START_I = "I"
    START_K = "K"
    START_L = "L"
    START_M = "M"
    STOP_A = "stop A"
    STOP_B = "stop B"
    STOP_ALL = "stop all timers"

    __hash__ = object.__hash__


Table = Mapping[tuple[State, Event], tuple[State, tuple[Do, ...]]]

_S, _E, _D = State, Event, Do

CLIENT_INVITE: Table = {
    # RFC 3261 figure 5, RFC 6026 figure 1
    (_S.CALLING, _E.A): (_S.CALLING, (_D.SEND, _D.START_A)),
    (_S.CALLING, _E.B): (_S.TERMINATED, (_D.INFORM,)),
    (_S.CALLING, _E.RECV_1XX): (_S.PROCEEDING, (_D.STOP_A, _D.STOP_B, _D.DELIVER)),
    (_S.CALLING, _E.RECV_2XX): (_S.ACCEPTED, (_D.STOP_ALL, _D.START_M, _D.DELIVER)),
    (_S.CALLING, _E.RECV_3XX): (_S.COMPLETED, (_D.STOP_ALL, _D.START_D, _D.ACK, _D.DELIVER)),
    (_S.PROCEEDING, _E.RECV_1XX): (_S.PROCEEDING, (_D.DELIVER,)),
    (_S.PROCEEDING, _E.RECV_2XX): (_S.ACCEPTED, (_D.STOP_ALL, _D.START_M, _D.DELIVER)),
    (_S.PROCEEDING, _E.RECV_3XX): (_S.COMPLETED, (_D.STOP_ALL, _D.START_D, _D.ACK, _D.DELIVER)),
    # RFC 3261 9.1: no final response 64*T1 after CANCEL means the INVITE is over
    (_S.PROCEEDING, _E.CANCELLED): (_S.PROCEEDING, (_D.START_C,)),
    (_S.PROCEEDING, _E.C): (_S.TERMINATED, (_D.INFORM,)),
    (_S.COMPLETED, _E.RECV_3XX): (_S.COMPLETED, (_D.ACK,)),
    (_S.COMPLETED, _E.D): (_S.TERMINATED, ()),
    (_S.ACCEPTED, _E.RECV_2XX): (_S.ACCEPTED, (_D.DELIVER,)),
    (_S.ACCEPTED, _E.M): (_S.TERMINATED, ()),
}

CLIENT_OTHER: Table = {
    # RFC 3261 figure 6
    (_S.TRYING, _E.E): (_S.TRYING, (_D.SEND, _D.START_E)),
    (_S.TRYING, _E.F): (_S.TERMINATED, (_D.INFORM,)),
    (_S.TRYING, _E.RECV_1XX): (_S.PROCEEDING, (_D.DELIVER,)),
    (_S.TRYING, _E.RECV_2XX): (_S.COMPLETED, (_D.STOP_ALL, _D.START_K, _D.DELIVER)),
    (_S.TRYING, _E.RECV_3XX): (_S.COMPLETED, (_D.STOP_ALL, _D.START_K, _D.DELIVER)),
    (_S.PROCEEDING, _E.E): (_S.PROCEEDING, (_D.SEND, _D.START_E)),
    (_S.PROCEEDING, _E.F): (_S.TERMINATED, (_D.INFORM,)),
    (_S.PROCEEDING, _E.RECV_1XX): (_S.PROCEEDING, (_D.DELIVER,)),
    (_S.PROCEEDING, _E.RECV_2XX): (_S.COMPLETED, (_D.STOP_ALL, _D.START_K, _D.DELIVER)),
    (_S.PROCEEDING, _E.RECV_3XX): (_S.COMPLETED, (_D.STOP_ALL, _D.START_K, _D.DELIVER)),
    (_S.COMPLETED, _E.K): (_S.TERMINATED, ()),
}

SERVER_INVITE: Table = {
    # RFC 3261 figure 7, RFC 6026 figure 2; N guards against a user that forgets
    (_S.PROCEEDING, _E.N): (_S.TERMINATED, (_D.INFORM,)),
    (_S.PROCEEDING, _E.RECV_REQUEST): (_S.PROCEEDING, (_D.SEND,)),
    (_S.PROCEEDING, _E.SEND_1XX): (_S.PROCEEDING, (_D.SEND,)),
    (_S.PROCEEDING, _E.SEND_2XX): (_S.ACCEPTED, (_D.STOP_ALL, _D.SEND, _D.START_L)),
    (_S.PROCEEDING, _E.SEND_3XX): (
        _S.COMPLETED,
        (_D.STOP_ALL, _D.SEND, _D.START_G, _D.START_H),
    ),
    (_S.COMPLETED, _E.RECV_REQUEST): (_S.COMPLETED, (_D.SEND,)),
    (_S.COMPLETED, _E.G): (_S.COMPLETED, (_D.SEND, _D.START_G)),
    (_S.COMPLETED, _E.H): (_S.TERMINATED, (_D.INFORM,)),
    (_S.COMPLETED, _E.RECV_ACK): (_S.CONFIRMED, (_D.STOP_ALL, _D.START_I)),
    (_S.CONFIRMED, _E.I): (_S.TERMINATED, ()),
    # RFC 6026 7.1: repeated INVITEs are absorbed in silence, the dialog repeats its own 2xx
    (_S.ACCEPTED, _E.RECV_REQUEST): (_S.ACCEPTED, ()),
    (_S.ACCEPTED, _E.SEND_2XX): (_S.ACCEPTED, (_D.SEND,)),
    (_S.ACCEPTED, _E.RECV_ACK): (_S.ACCEPTED, (_D.DELIVER,)),
    (_S.ACCEPTED, _E.L): (_S.TERMINATED, ()),
}

SERVER_OTHER: Table = {
    # RFC 3261 figure 8; timer J is the agent's cache
    (_S.TRYING, _E.SEND_1XX): (_S.PROCEEDING, (_D.SEND,)),
    (_S.TRYING, _E.SEND_2XX): (_S.COMPLETED, (_D.SEND,)),
    (_S.TRYING, _E.SEND_3XX): (_S.COMPLETED, (_D.SEND,)),
    (_S.PROCEEDING, _E.RECV_REQUEST): (_S.PROCEEDING, (_D.SEND,)),
    (_S.PROCEEDING, _E.SEND_1XX): (_S.PROCEEDING, (_D.SEND,)),
    (_S.PROCEEDING, _E.SEND_2XX): (_S.COMPLETED, (_D.SEND,)),
    (_S.PROCEEDING, _E.SEND_3XX): (_S.COMPLETED, (_D.SEND,)),
    (_S.COMPLETED, _E.RECV_REQUEST): (_S.COMPLETED, (_D.SEND,)),
}

_OUTWARD = frozenset({Do.SEND, Do.ACK, Do.DELIVER, Do.INFORM})
_STOPS = {Do.STOP_A: Event.A, Do.STOP_B: Event.B}
_STARTS = {do: Event[do.value] for do in Do if do.name.startswith("START_")}

_FIXED_S: dict[Event, tuple[float, float]] = {
    # event: (seconds on UDP, seconds on a reliable transport), RFC 3261 table 4
    Event.B: (LIFE_S, LIFE_S),
    Event.C: (LIFE_S, LIFE_S),
    Event.D: (LIFE_S, 0.0),
    Event.F: (LIFE_S, LIFE_S),
    Event.H: (LIFE_S, LIFE_S),
    Event.I: (T4_S, 0.0),
    Event.K: (T4_S, 0.0),
    Event.L: (LIFE_S, LIFE_S),
    Event.M: (LIFE_S, LIFE_S),
    Event.N: (UNANSWERED_S, UNANSWERED_S),
}
_REPEATED_CAP_S = {Event.A: LIFE_S, Event.E: T2_S, Event.G: T2_S}
"""Timers that repeat, doubling from T1 up to this; they do not exist on a reliable transport."""


class Transaction:
    """State and timers of one transaction. `on` is the only way to move it."""

    __slots__ = ("_intervals", "_timers", "armed_s", "peer", "reliable", "state")

    table: ClassVar[Table] = {}
    first_timers: ClassVar[tuple[Event, ...]] = ()

    def __init__(self, peer: Peer, state: State) -> None:
        self.peer = peer
        self.reliable = peer.transport is not Transport.UDP
        self.state = state
        self._timers: dict[Event, float] = {}
        self._intervals: dict[Event, float] = {}
        self.armed_s: float | None = None
        """Deadline under which the agent's heap holds this transaction."""

    def on(self, event: Event, now: float) -> tuple[Do, ...]:
        """Take one step. Returns the outward actions, in order; () when the event means nothing."""
        row = self.table.get((self.state, event))
        if row is None:
            return ()
        self.state, actions = row
        outward: tuple[Do, ...] = ()
        for action in actions:
            if action in _OUTWARD:
                outward += (action,)
            elif action is Do.STOP_ALL:
                self._timers.clear()
            elif action in _STOPS:
                self._timers.pop(_STOPS[action], None)
            else:
                outward += self._start(_STARTS[action], now)
        if self.state is State.TERMINATED:
            self._timers.clear()
        return outward

    def begin(self, now: float) -> None:
        """Start the timers that run from the first moment."""
        for timer in self.first_timers:
            self._start(timer, now)

    def _start(self, timer: Event, now: float) -> tuple[Do, ...]:
        if timer in _FIXED_S:
            seconds = _FIXED_S[timer][self.reliable]
            if seconds == 0.0:
                return self.on(timer, now)
            self._timers[timer] = now + seconds
        elif not self.reliable:
            self._timers[timer] = now + self._next_interval_s(timer)
        return ()

    def _next_interval_s(self, timer: Event) -> float:
        """T1, then twice the last one up to the cap; E is T2 once a provisional came (17.1.2.2)."""
        last = self._intervals.get(timer)
        seconds = T1_S if last is None else min(2 * last, _REPEATED_CAP_S[timer])
        if timer is Event.E and self.state is State.PROCEEDING:
            seconds = T2_S
        self._intervals[timer] = seconds
        return seconds

    def deadline(self) -> float | None:
        """When the next timer is due."""
        return min(self._timers.values()) if self._timers else None

    def due(self, now: float) -> Event | None:
        """The earliest timer that is due, taken off; None when none is."""
        if not self._timers:
            return None
        timer = min(self._timers, key=self._timers.__getitem__)
        if self._timers[timer] > now:
            return None
        del self._timers[timer]
        return timer


class ClientTransaction(Transaction):
    """A request of ours. `user` is free for whoever asked (a future, a dialog)."""

    __slots__ = ("branch", "call_id", "cancel_wanted", "cseq", "data", "method", "uri", "user")

    def __init__(
        self, peer: Peer, state: State, method: str, uri: str, call_id: str, cseq: int
    ) -> None:
        super().__init__(peer, state)
        self.method = method
        self.uri = uri
        self.call_id = call_id
        self.cseq = cseq
        self.branch = b""
        self.data = b""
        self.cancel_wanted = False
        self.user: object = None

    def __repr__(self) -> str:
        return f"<{self.method} CSeq {self.cseq} Call-ID {self.call_id} {self.state.value}>"


class ClientInvite(ClientTransaction):
    __slots__ = ()
    table = CLIENT_INVITE
    first_timers = (Event.A, Event.B)

    def __init__(self, peer: Peer, method: str, uri: str, call_id: str, cseq: int) -> None:
        super().__init__(peer, State.CALLING, method, uri, call_id, cseq)


class ClientNonInvite(ClientTransaction):
    __slots__ = ()
    table = CLIENT_OTHER
    first_timers = (Event.E, Event.F)

    def __init__(self, peer: Peer, method: str, uri: str, call_id: str, cseq: int) -> None:
        super().__init__(peer, State.TRYING, method, uri, call_id, cseq)


ServerKey = tuple[bytes, bytes, int, str, str]
"""Branch (or the whole top Via), Call-ID, CSeq number, method, peer; see `agent.server_key`."""


class ServerTransaction(Transaction):
    """A request of somebody else's. `reply` is the last response sent."""

    __slots__ = ("key", "reply", "request", "to_tag")

    def __init__(self, peer: Peer, state: State, key: ServerKey, request: Message) -> None:
        super().__init__(peer, state)
        self.key = key
        self.request = request
        self.reply = b""
        self.to_tag = ""

    @property
    def method(self) -> str:
        return self.request.method or ""

    @property
    def answered(self) -> bool:
        """Whether a final response has been sent."""
        return self.state not in (State.TRYING, State.PROCEEDING)

    def __repr__(self) -> str:
        return f"<server {self.method} Call-ID {self.request.call_id} {self.state.value}>"


class ServerInvite(ServerTransaction):
    __slots__ = ()
    table = SERVER_INVITE
    first_timers = (Event.N,)

    def __init__(self, peer: Peer, key: ServerKey, request: Message) -> None:
        super().__init__(peer, State.PROCEEDING, key, request)


class ServerNonInvite(ServerTransaction):
    __slots__ = ()
    table = SERVER_OTHER

    def __init__(self, peer: Peer, key: ServerKey, request: Message) -> None:
        super().__init__(peer, State.TRYING, key, request)


def event_of_response(status: int) -> Event:
    if status < 200:
        return Event.RECV_1XX
    return Event.RECV_2XX if status < 300 else Event.RECV_3XX


def event_of_reply(status: int) -> Event:
    if status < 200:
        return Event.SEND_1XX
    return Event.SEND_2XX if status < 300 else Event.SEND_3XX


def timer_span_s(timer: Event, *, reliable: bool) -> float:
    """Seconds of a timer that does not repeat (RFC 3261 table 4)."""
    return _FIXED_S[timer][reliable]


__all__ = [
    "CLIENT_INVITE",
    "CLIENT_OTHER",
    "LIFE_S",
    "SERVER_INVITE",
    "SERVER_OTHER",
    "T1_S",
    "T2_S",
    "T4_S",
    "ClientInvite",
    "ClientNonInvite",
    "ClientTransaction",
    "Do",
    "Event",
    "ServerInvite",
    "ServerKey",
    "ServerNonInvite",
    "ServerTransaction",
    "State",
    "Transaction",
    "event_of_reply",
    "event_of_response",
    "timer_span_s",
]
