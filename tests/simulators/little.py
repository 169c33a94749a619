"""The other end for the simulators' tests: a registrar and caller of a few lines, and a world in
which the two talk without sockets and without waiting.

`LittlePlatform` checks digests with hashlib by RFC 3261 22 alone. `World` carries messages between
it and one `DeviceUa` in virtual time; `drop` decides which vanish.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from simulators.chance import SeededIds
from simulators.line import (
    CloseMedia,
    Connect,
    Died,
    Disconnect,
    Gone,
    OpenMedia,
    Registered,
    StartMedia,
)
from simulators.spec import DeviceSpec, PlatformSpec
from simulators.ua import DeviceUa
from vsp.model.device import Transport
from vsp.model.ids import UtcMicros
from vsp.sip.core.agent import (
    AckReceived,
    Peer,
    RequestReceived,
    ResponseReceived,
    Send,
    SipAgent,
)
from vsp.sip.core.dialog import Answered, Ended, Failed, InviteDialog, Strayed, Transmit
from vsp.sip.core.message import Message

PLATFORM = PlatformSpec("127.0.0.1", 5060)
PASSWORD = "12345678"
CAMERA = "34020000001320000001"
NVR = "34020000001180000001"

OFFER_UDP = """v=0
o=34020000002000000001 0 0 IN IP4 127.0.0.1
s=Play
c=IN IP4 127.0.0.1
t=0 0
m=video {port} RTP/AVP 96 98 97
a=recvonly
a=rtpmap:96 PS/90000
a=rtpmap:98 H264/90000
a=rtpmap:97 MPEG4/90000
y=0200000001
f=v/2/6/25/1/4096a///
"""
OFFER_TCP = (
    OFFER_UDP.replace("RTP/AVP", "TCP/RTP/AVP")
    .replace("y=", "a=setup:{setup}\na=connection:new\ny=")
    .replace("f=v/2/6/25/1/4096a///\n", "")
)


def offer(port: int = 30000, setup: str = "", **replace: str) -> bytes:
    """An offer of the standard's example (UDP, or TCP with `setup`); `replace` old=new by key."""
    text = (OFFER_TCP if setup else OFFER_UDP).format(port=port, setup=setup)
    for line, new in replace.items():
        text = re.sub(rf"^{line}=.*\n", f"{new}\n" if new else "", text, flags=re.M)
    return text.replace("\n", "\r\n").encode()


class FixedClock:
    """A wall clock that stands still unless told."""

    def __init__(self, at_us: int = 1_772_330_400_000_000) -> None:
        self.at_us = at_us

    def now_us(self) -> UtcMicros:
        return UtcMicros(self.at_us)

    def monotonic(self) -> float:
        return 0.0


@dataclass
class Call:
    """A call as the platform sees it."""

    dialog: InviteDialog
    answer: Message | None = None
    answers: int = 0
    failed: Failed | None = None
    ended: str = ""
    byes: int = 0


@dataclass
class LittlePlatform:
    """Registrar, MESSAGE box and caller. Everything seen is kept."""

    password: str = PASSWORD
    algorithm: str = "MD5"
    qop: str = ""
    expires_s: int | None = None
    keepalive_status: int = 200
    register_status: int = 0
    register_headers: tuple[tuple[str, str], ...] = ()
    silent: bool = False
    acknowledge: bool = True
    realm: str = "3402000000"
    agent: SipAgent = field(init=False)
    peer: Peer | None = None
    seen: list[tuple[float, Message]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    registered: bool = False
    stale_once: bool = False
    calls: dict[str, Call] = field(default_factory=dict)
    responses: list[Message] = field(default_factory=list)
    _nonces: int = 0

    def __post_init__(self) -> None:
        self.agent = SipAgent(SeededIds("platform"), "127.0.0.1:5060", "little/1.0", trying=True)
        self.ids = SeededIds("dialogs")

    # ---- requests of the device ---------------------------------------------------------

    def receive(self, data: bytes, peer: Peer, now: float) -> None:
        if self.silent:
            return
        self.agent.receive(data, peer, now)

    def settle(self, now: float) -> list[Send]:
        """React to what came; gives what leaves."""
        sends: list[Send] = []
        while outputs := self.agent.take():
            for output in outputs:
                match output:
                    case Send():
                        sends.append(output)
                    case RequestReceived():
                        self._request(output, now)
                    case ResponseReceived(transaction=transaction, message=message):
                        self._response(transaction, message, now)
                    case AckReceived():
                        raise AssertionError("a device does not call")
                    case _:
                        pass
        return sends

    def _request(self, received: RequestReceived, now: float) -> None:
        message = received.message
        self.seen.append((now, message))
        self.peer = received.peer
        if message.method == "REGISTER":
            status, reason, headers = self._registrar(message)
        elif message.method == "BYE":
            status, reason, headers = self._bye(message)
        else:
            self.bodies.append(message.body)
            keepalive = b"<CmdType>Keepalive<" in message.body
            status = self.keepalive_status if keepalive else 200
            reason, headers = "OK", []
        self.agent.respond(received.transaction, status, reason, headers, now=now)

    def _bye(self, message: Message) -> tuple[int, str, list[tuple[str, str]]]:
        call = self.calls.get(message.call_id)
        if call is None:
            return 481, "Call Does Not Exist", []
        assert call.answer is not None, "BYE of a call that was never answered"
        tags = (call.answer.to.tag, call.dialog.local_tag)
        assert (message.from_.tag, message.to.tag) == tags
        call.byes += 1
        call.ended = "BYE from the device"
        return 200, "OK", []

    def _registrar(self, message: Message) -> tuple[int, str, list[tuple[str, str]]]:
        if self.register_status:
            return self.register_status, "No", list(self.register_headers)
        given = message.header("authorization")
        if given is None or self.stale_once or not self._digest_holds(given):
            stale = ", stale=true" if self.stale_once else ""
            self.stale_once = False
            self._nonces += 1
            qop = f', qop="{self.qop}"' if self.qop else ""
            challenge = (
                f'Digest realm="{self.realm}", nonce="n{self._nonces}", '
                f"algorithm={self.algorithm}{qop}{stale}"
            )
            return 401, "Unauthorized", [("WWW-Authenticate", challenge)]
        asked_s = message.expires
        assert asked_s is not None
        self.registered = asked_s > 0
        granted_s = self.expires_s if self.expires_s is not None and asked_s else asked_s
        return 200, "OK", [("Expires", str(granted_s)), ("Date", "2026-03-01T10:00:00.000")]

    def _digest_holds(self, header: str) -> bool:
        given = dict(re.findall(r'(\w+)="?([^",]+)"?', header))
        name = {"MD5": "md5", "SHA-256": "sha256", "SM3": "sm3"}[self.algorithm]

        def h(text: str) -> str:
            return hashlib.new(name, text.encode()).hexdigest()

        ha1 = h(f"{given['username']}:{self.realm}:{self.password}")
        ha2 = h(f"REGISTER:{given['uri']}")
        middle = f"{given['nonce']}"
        if self.qop:
            middle += f":{given['nc']}:{given['cnonce']}:{given['qop']}"
        return given["response"] == h(f"{ha1}:{middle}:{ha2}")

    # ---- requests of ours ---------------------------------------------------------------

    def query(self, command: str, to: str, now: float, extra: str = "", sn: int = 17430) -> None:
        """A MANSCDP query, as in the standard's worked example."""
        body = (
            '<?xml version="1.0" encoding="GB2312"?>\r\n'
            f"<Query><CmdType>{command}</CmdType><SN>{sn}</SN><DeviceID>{to}</DeviceID>"
            f"{extra}</Query>\r\n"
        ).encode("gb18030")
        self.message(to, body, now)

    def message(self, to: str, body: bytes, now: float) -> None:
        self.request("MESSAGE", to, now, body, "Application/MANSCDP+xml")

    def request(
        self, method: str, to: str, now: float, body: bytes = b"", content_type: str = ""
    ) -> None:
        assert self.peer is not None
        headers = [
            ("From", f"<sip:{PLATFORM.gb_id}@{PLATFORM.domain}>"),
            ("To", f"<sip:{to}@{PLATFORM.domain}>"),
            *([("Content-Type", content_type)] if content_type else []),
        ]
        uri = f"sip:{to}@{self.peer.host}:{self.peer.port}"
        self.agent.request(method, uri, headers, body, self.peer, now)

    def invite(
        self, channel: str, now: float, sdp: bytes | None = None, seq: str = "0200000001"
    ) -> Call:
        assert self.peer is not None
        dialog = InviteDialog(
            self.ids,
            local_uri=f"sip:{PLATFORM.gb_id}@{PLATFORM.domain}",
            remote_uri=f"sip:{channel}@{PLATFORM.domain}",
            target=f"sip:{channel}@{self.peer.host}:{self.peer.port}",
            contact=f"sip:{PLATFORM.gb_id}@127.0.0.1:5060",
            peer=self.peer,
        )
        subject = f"{channel}:{seq},{PLATFORM.gb_id}:0"
        call = self.calls[dialog.call_id] = Call(dialog)
        self._send(dialog.invite(offer() if sdp is None else sdp, [("Subject", subject)]), now)
        return call

    def cancel(self, call: Call, now: float) -> None:
        call.dialog.cancel()
        for transaction in list(self.agent._clients.values()):
            if transaction.call_id == call.dialog.call_id and transaction.method == "INVITE":
                self.agent.cancel(transaction, now)

    def bye(self, call: Call, now: float) -> None:
        self._send(call.dialog.bye(), now)
        call.ended = "BYE from the platform"

    def ack(self, call: Call, now: float) -> None:
        assert call.answer is not None
        call.dialog.on_response(call.answer)
        self._send(call.dialog.acknowledge(), now)

    def _send(self, outgoing, now: float) -> None:
        assert self.peer is not None
        keys = {"call_id": outgoing.call_id, "cseq": outgoing.cseq}
        if outgoing.method == "ACK":
            self.agent.ack(outgoing.uri, outgoing.headers, self.peer, **keys)
            return
        self.agent.request(
            outgoing.method, outgoing.uri, outgoing.headers, outgoing.body, self.peer, now, **keys
        )

    def _response(self, transaction, message: Message, now: float) -> None:
        self.responses.append(message)
        call = self.calls.get(message.call_id)
        if call is None or transaction.method != "INVITE":
            return
        if 200 <= message.status < 300:
            call.answer = message
            call.answers += 1
            if not self.acknowledge:
                return
        for event in call.dialog.on_response(message):
            match event:
                case Transmit(outgoing=outgoing):
                    self._send(outgoing, now)
                case Failed():
                    call.failed = event
                case Ended(cause=cause):
                    call.ended = cause
                case Answered():
                    self._send(call.dialog.acknowledge(), now)
                case Strayed(dialog=stray):
                    self._send(call.dialog.acknowledge(stray.remote_tag), now)
                    self._send(InviteDialog.from_state(stray).bye(), now)

    # ---- what was seen ------------------------------------------------------------------

    def requests(self, method: str) -> list[Message]:
        return [message for _, message in self.seen if message.method == method]

    def times(self, method: str) -> list[float]:
        return [now for now, message in self.seen if message.method == method]

    def bodies_of(self, command: str) -> list[str]:
        """Bodies with this CmdType, decoded."""
        marked = f"<CmdType>{command}<".encode()
        return [body.decode("gb18030") for body in self.bodies if marked in body]


STEP_S = 0.01


@dataclass
class World:
    """One device and one platform over a lossless wire of 1 ms, in virtual time."""

    spec: DeviceSpec
    platform: LittlePlatform = field(default_factory=LittlePlatform)
    clock: FixedClock = field(default_factory=FixedClock)
    drop: Callable[[bytes], bool] = lambda data: False
    reachable: bool = True
    now: float = 0.0
    events: list[tuple[float, object]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ua = DeviceUa(self.spec, PLATFORM, SeededIds(self.spec.gb_id), self.clock)
        self._connections = 0
        self.device_sent: list[tuple[float, bytes]] = []

    def start(self) -> World:
        self.ua.start(self.now)
        return self

    def run(self, until: float) -> None:
        """Let time pass to `until`, jumping from deadline to deadline."""
        while True:
            self._exchange()
            due = self._next()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            self.ua.advance(self.now)
            self.platform.agent.advance(self.now)
        self.now = until
        self.ua.advance(self.now)
        self.platform.agent.advance(self.now)
        self._exchange()

    def _next(self) -> float | None:
        dues = [self.ua.next_deadline(), self.platform.agent.next_deadline()]
        return min((due for due in dues if due is not None), default=None)

    def _exchange(self) -> None:
        """Until nobody has anything to say at this moment."""
        device_peer = Peer(self.spec.transport, "127.0.0.1", 40000, self._connections)
        platform_peer = Peer(self.spec.transport, "127.0.0.1", 5060, self._connections)
        moved = True
        while moved:
            moved = False
            for output in self.ua.take():
                moved = True
                self._device_output(output, device_peer)
            for send in self.platform.settle(self.now):
                moved = True
                if not self.drop(send.data):
                    self.ua.receive(send.data, platform_peer, self.now)

    def _device_output(self, output: object, device_peer: Peer) -> None:
        match output:
            case Send(data=data):
                self.device_sent.append((self.now, data))
                if not self.drop(data):
                    self.platform.receive(data, device_peer, self.now)
            case Connect():
                self.events.append((self.now, output))
                if self.reachable:
                    self.link()
                else:
                    self.ua.unlinked(self.now, "refused")
            case Disconnect():
                self.events.append((self.now, output))
                self.ua.unlinked(self.now, "given up")
            case OpenMedia(call_id=call_id):
                self.events.append((self.now, output))
                self.ua.media_opened(call_id, "127.0.0.1", 15060, self.now)
            case Registered() | Gone() | Died() | StartMedia() | CloseMedia():
                self.events.append((self.now, output))
            case _:
                raise AssertionError(output)

    def link(self) -> None:
        self._connections += self.spec.transport is Transport.TCP
        peer = Peer(self.spec.transport, "127.0.0.1", 5060, self._connections)
        self.ua.linked(peer, "127.0.0.1", 40000, self.now)

    def of(self, kind: type) -> list:
        """Events of one kind, in order."""
        return [event for _, event in self.events if isinstance(event, kind)]
