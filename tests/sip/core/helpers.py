"""Two agents joined in memory: loss, order and time are function calls."""

from __future__ import annotations

from collections.abc import Callable

from simulators.chance import SeededIds
from vsp.model.device import Transport
from vsp.sip.core.agent import (
    AckReceived,
    Dropped,
    Output,
    Peer,
    RequestReceived,
    ResponseReceived,
    Send,
    SipAgent,
    TimedOut,
)
from vsp.sip.core.message import parse_message

CAMERA = Peer(Transport.UDP, "198.51.100.20", 5060)
PLATFORM = Peer(Transport.UDP, "192.0.2.10", 5060)
CAMERA_TCP = Peer(Transport.TCP, "198.51.100.20", 40000, 7)
ADDRESSES = (
    ("From", "<sip:34020000002000000001@3402000000>"),
    ("To", "<sip:34020000001320000001@3402000000>"),
)
URI = "sip:34020000001320000001@198.51.100.20:5060"


def agent(seed: str = "agent", **options: bool) -> SipAgent:
    return SipAgent(SeededIds(seed), "192.0.2.10:5060", **options)


def label(data: bytes) -> str:
    """`200 INVITE`, `MESSAGE`: what a packet is, for drop rules and assertions."""
    message = parse_message(data)
    return message.method or f"{message.status} {message.cseq[1]}"


def sends(outputs: list[Output]) -> list[bytes]:
    return [output.data for output in outputs if isinstance(output, Send)]


def labels(outputs: list[Output]) -> list[str]:
    """Every output in one word or two."""
    names: list[str] = []
    for output in outputs:
        match output:
            case Send(data=data):
                names.append(f"> {label(data)}")
            case RequestReceived(message=message):
                names.append(f"request {message.method}")
            case ResponseReceived(message=message):
                names.append(f"response {message.status}")
            case AckReceived():
                names.append("ack")
            case TimedOut():
                names.append("timed out")
            case Dropped(reason=reason):
                names.append(f"dropped {reason}")
    return names


class Link:
    """A platform and a camera, with a network between them that loses what it is told to.

    drop_first   label -> how many of them are lost, on either way
    delay_s      how long a packet travels
    """

    def __init__(
        self,
        *,
        seed: str = "link",
        drop_first: dict[str, int] | None = None,
        loses: Callable[[str], bool] | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.platform = SipAgent(SeededIds(f"{seed}-p"), "192.0.2.10:5060")
        self.camera = SipAgent(SeededIds(f"{seed}-c"), "198.51.100.20:5060")
        self.now = 0.0
        self.sent: list[tuple[float, str]] = []
        self.at_platform: list[Output] = []
        self.at_camera: list[Output] = []
        self.on_camera_request: Callable[[RequestReceived], None] = lambda received: None
        self.on_camera_output: Callable[[Output], None] = lambda output: None
        self.on_platform_output: Callable[[Output], None] = lambda output: None
        self.also_advance: Callable[[float], None] = lambda now: None
        self.also_deadline: Callable[[], float | None] = lambda: None
        self._drop = dict(drop_first or {})
        self._loses = loses or (lambda name: False)
        self._delay_s = delay_s
        self._flying: list[tuple[float, int, SipAgent, bytes, Peer]] = []
        self._count = 0

    def sent_at(self, name: str) -> list[float]:
        """When packets of that label were sent, lost ones included."""
        return [at for at, what in self.sent if what == name]

    def run(self, until: float) -> None:
        """Let time pass, stopping at every deadline of either side."""
        self._settle()
        while (moment := self._next()) is not None and moment <= until:
            self.now = max(self.now, moment)
            for one in (self.platform, self.camera):
                one.advance(self.now)
            self.also_advance(self.now)
            self._settle()
        self.now = until

    def _next(self) -> float | None:
        dues = [self.platform.next_deadline(), self.camera.next_deadline(), self.also_deadline()]
        dues += [at for at, *_ in self._flying]
        return min((due for due in dues if due is not None), default=None)

    def _settle(self) -> None:
        """Carry packets and events until nothing moves at this moment."""
        moved = True
        while moved:
            moved = self._collect(self.platform, self.camera, PLATFORM)
            moved |= self._collect(self.camera, self.platform, CAMERA)
            moved |= self._deliver()

    def _collect(self, one: SipAgent, other: SipAgent, source: Peer) -> bool:
        outputs = one.take()
        for output in outputs:
            if isinstance(output, Send):
                self._launch(output.data, other, source)
            elif one is self.camera:
                self.at_camera.append(output)
                if isinstance(output, RequestReceived):
                    self.on_camera_request(output)
                self.on_camera_output(output)
            else:
                self.at_platform.append(output)
                self.on_platform_output(output)
        return bool(outputs)

    def _launch(self, data: bytes, to: SipAgent, source: Peer) -> None:
        name = label(data)
        self.sent.append((self.now, name))
        left = self._drop.get(name, 0)
        if left > 0:
            self._drop[name] = left - 1
        elif not self._loses(name):
            self._count += 1
            self._flying.append((self.now + self._delay_s, self._count, to, data, source))

    def _deliver(self) -> bool:
        due = sorted(item for item in self._flying if item[0] <= self.now)
        for item in due:
            self._flying.remove(item)
            item[2].receive(item[3], item[4], self.now)
        return bool(due)
