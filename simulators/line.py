"""The line of one device to its platform: transactions, timers and an outbox, without I/O.

Everything that a device does (registration, answers, calls) shares one of these. A link is a bound
UDP socket or an open TCP connection; each new link gets a new transaction layer, since what was
under way on a broken connection will not be answered.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simulators.media import Target
from simulators.spec import DeviceSpec, PlatformSpec
from vsp.ports import Ids
from vsp.sip.core.agent import Peer, Send, SipAgent
from vsp.sip.core.message import Message
from vsp.sip.core.transaction import ClientTransaction, ServerTransaction

USER_AGENT = "sim-{kind}/1.0"
ALLOW = "INVITE, ACK, CANCEL, BYE, OPTIONS, MESSAGE"

Headers = Sequence[tuple[str, str]]
OnFinal = Callable[[Message | None, float], None]
"""Called once with the final response and now, or with None when none came."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a link (bind or connect), then call `linked` or `unlinked`."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Give the TCP connection up: nothing comes back on it. `unlinked` follows."""


@dataclass(frozen=True, slots=True)
class Registered:
    """The registration began or ended. `why` says what was seen."""

    online: bool
    why: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The orderly stop is done: unregistered, or not worth waiting for."""


@dataclass(frozen=True, slots=True)
class Died:
    """Power cut: from now on nothing leaves, nothing is answered, nothing is closed."""


@dataclass(frozen=True, slots=True)
class OpenMedia:
    """Bind the media port of a call, then call `media_opened` or `media_failed`."""

    call_id: str
    target: Target


@dataclass(frozen=True, slots=True)
class StartMedia:
    """The ACK is here: begin to send. `ssrc` is what RTP carries, right or wrong."""

    call_id: str
    channel_id: str
    ssrc: int


@dataclass(frozen=True, slots=True)
class CloseMedia:
    """Stop sending and free the port."""

    call_id: str


Output = (
    Send | Connect | Disconnect | Registered | Gone | Died | OpenMedia | StartMedia | CloseMedia
)


@dataclass(slots=True)
class Alarm:
    """A timer that was set; `cancel` it."""

    due: float
    action: Callable[[float], None] | None

    def cancel(self) -> None:
        self.action = None


@dataclass(slots=True)
class Line:
    """See the module. `call` and `reply` need a link; `linked` tells whether there is one."""

    spec: DeviceSpec
    platform: PlatformSpec
    ids: Ids
    out: list[Output] = field(default_factory=list)
    agent: SipAgent | None = None
    peer: Peer | None = None
    host: str = ""
    port: int = 0
    _alarms: list[tuple[float, int, Alarm]] = field(default_factory=list)
    _order: itertools.count[int] = field(default_factory=itertools.count)
    _serial: int = 0

    # ---- link -------------------------------------------------------------------------------

    def link(self, peer: Peer, host: str, port: int) -> None:
        """`host`, `port`: our own end."""
        self.peer, self.host, self.port = peer, host, port
        agent_name = USER_AGENT.format(kind=self.spec.kind)
        self.agent = SipAgent(self.ids, f"{host}:{port}", agent_name)

    def unlink(self) -> None:
        self.agent, self.peer = None, None

    @property
    def linked(self) -> bool:
        return self.agent is not None

    # ---- addresses --------------------------------------------------------------------------

    @property
    def own_uri(self) -> str:
        return f"sip:{self.spec.gb_id}@{self.platform.domain}"

    @property
    def contact(self) -> str:
        return f"sip:{self.spec.gb_id}@{self.host}:{self.port}"

    @property
    def registrar_uri(self) -> str:
        """With the domain, as in REGISTER."""
        return f"sip:{self.platform.gb_id}@{self.platform.domain}"

    def next_serial(self) -> int:
        """SN of a message of our own: counts from 1 (annex A.2.1)."""
        self._serial += 1
        return self._serial

    # ---- talk -------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        uri: str,
        headers: Headers,
        body: bytes,
        now: float,
        on_final: OnFinal,
        *,
        call_id: str | None = None,
        cseq: int = 1,
    ) -> ClientTransaction:
        """Send a request; `on_final` hears how it ended, unless the link breaks first."""
        assert self.agent is not None, "talk needs a link"
        assert self.peer is not None, "talk needs a link"
        transaction = self.agent.request(
            method, uri, headers, body, self.peer, now, call_id=call_id, cseq=cseq
        )
        transaction.user = on_final
        return transaction

    def message(self, to_id: str, body: bytes, now: float, on_final: OnFinal) -> ClientTransaction:
        """A MANSCDP MESSAGE outside dialogs."""
        target = f"sip:{to_id}@{self.platform.host}:{self.platform.port}"
        headers = [
            ("From", f"<{self.own_uri}>"),
            ("To", f"<sip:{to_id}@{self.platform.domain}>"),
            ("Content-Type", "Application/MANSCDP+xml"),
        ]
        return self.call("MESSAGE", target, headers, body, now, on_final)

    def reply(
        self,
        transaction: ServerTransaction,
        status: int,
        reason: str,
        now: float,
        headers: Headers = (),
        body: bytes = b"",
        to_tag: str | None = None,
    ) -> None:
        """Answer a request; a link that has gone meanwhile swallows it."""
        if self.agent is not None:
            self.agent.respond(transaction, status, reason, headers, body, now=now, to_tag=to_tag)

    def abandon(self, transaction: ClientTransaction | None) -> None:
        """Nobody waits for this one any more."""
        if transaction is not None and self.agent is not None:
            transaction.user = None
            self.agent.abandon(transaction)

    # ---- time -------------------------------------------------------------------------------

    def at(self, due: float, action: Callable[[float], None]) -> Alarm:
        """Run `action(now)` once `due` is reached."""
        alarm = Alarm(due, action)
        heapq.heappush(self._alarms, (due, next(self._order), alarm))
        return alarm

    def advance(self, now: float) -> None:
        """Transactions first, then alarms in order."""
        if self.agent is not None:
            self.agent.advance(now)
        while self._alarms and self._alarms[0][0] <= now:
            alarm = heapq.heappop(self._alarms)[2]
            action, alarm.action = alarm.action, None
            if action is not None:
                action(now)

    def next_deadline(self) -> float | None:
        while self._alarms and self._alarms[0][2].action is None:
            heapq.heappop(self._alarms)
        dues = [self._alarms[0][0]] if self._alarms else []
        if self.agent is not None and (due := self.agent.next_deadline()) is not None:
            dues.append(due)
        return min(dues, default=None)

    def random_s(self, span_s: float) -> float:
        """Between 0 and `span_s`, to the millisecond."""
        return self.ids.number(int(span_s * 1000) + 1) / 1000


__all__ = [
    "ALLOW",
    "Alarm",
    "CloseMedia",
    "Connect",
    "Died",
    "Disconnect",
    "Gone",
    "Headers",
    "Line",
    "OnFinal",
    "OpenMedia",
    "Output",
    "Registered",
    "StartMedia",
]
