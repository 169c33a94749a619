"""Cameras of a world: the simulators' own state machine on the world's network.

A camera is no process that can be killed at a line of code: its power can be cut, its line can
break, its clock can be wrong. It sends one small picture each `Film.picture_s`, every
`Film.gop_pictures`-th of them a key picture, numbered, to whoever invited it. A stream begins with
a few at the usual rate, from which a receiver learns how its pictures end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from simulators.chance import SeededIds
from simulators.line import (
    CloseMedia,
    Connect,
    Died,
    Disconnect,
    Gone,
    OpenMedia,
    Output,
    Registered,
    StartMedia,
)
from simulators.media import Target
from simulators.rtp import Packetiser
from simulators.spec import ChannelSpec, DeviceSpec, PlatformSpec, Timing
from simulators.ua import DeviceUa
from simulators.world.loop import VirtualClock, VirtualLoop
from simulators.world.network import Network, StreamEnd
from simulators.world.pictures import packet, picture
from vsp.model.device import MediaTransport, Transport
from vsp.sip.core.agent import Peer, Send
from vsp.sip.core.framing import PING, StreamFramer

TCP_CONNECT_S = 3.0
"""A camera gives a connection up that is not there by then."""

MEDIA_PORT_FIRST = 30_000

OPENING_PICTURES = 4
OPENING_S = 0.04
"""Key pictures with which a stream begins, and the time between them."""


@dataclass(frozen=True, slots=True)
class Film:
    """What cameras of a world show."""

    picture_s: float = 10.0
    gop_pictures: int = 1


@dataclass(slots=True)
class _Stream:
    """One call: where it goes, and once the ACK is here its packets."""

    target: Target
    port: int
    packetiser: Packetiser | None = None


class Camera:
    """The shell around a `DeviceUa`: its timer, its address, its switch, its lens."""

    def __init__(
        self,
        spec: DeviceSpec,
        host: str,
        platform: PlatformSpec,
        network: Network,
        film: Film,
        seed: int | str,
    ) -> None:
        self.spec = spec
        self.host = host
        self.clock = VirtualClock(network.loop)
        self.ua: DeviceUa | None = None
        self.tables_max = 0
        self._platform = platform
        self._network = network
        self._loop: VirtualLoop = network.loop
        self._film = film
        self._ids = SeededIds(f"{seed}/{spec.gb_id}")
        self._phase_s = self._ids.number(1000) / 1000 * film.picture_s
        self._port = 20_000
        self._media_ports = MEDIA_PORT_FIRST
        self._connections = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._shutter: asyncio.TimerHandle | None = None
        self._count = 0
        self._opening = 0
        self._stream: StreamEnd | None = None
        self._streams: dict[str, _Stream] = {}

    @property
    def on(self) -> bool:
        return self.ua is not None

    @property
    def online(self) -> bool:
        return self.ua is not None and self.ua.online

    @property
    def sending(self) -> bool:
        """Whether pictures leave it, to anybody."""
        return any(stream.packetiser is not None for stream in self._streams.values())

    @property
    def live_transactions(self) -> int:
        agent = self.ua._line.agent if self.ua is not None else None
        return agent.live if agent is not None else 0

    def calls(self) -> set[str]:
        """Call-IDs of dialogs that this side considers up."""
        if self.ua is None:
            return set()
        return {call_id for call_id, call in self.ua._calls._calls.items() if call.acknowledged}

    # ---- the switch -------------------------------------------------------------------------

    def switch_on(self) -> None:
        assert self.ua is None
        self.ua = DeviceUa(self.spec, self._platform, self._ids, self.clock)
        self.ua.start(self._loop.now)
        self._run()

    def switch_off(self) -> None:
        """In order: BYE, unregister. The world does not wait for it."""
        if self.ua is not None:
            self.ua.stop(self._loop.now)
            self._run()

    def cut_power(self) -> None:
        """Without a word. Whoever was connected is not told."""
        self.ua = None
        self._streams.clear()
        self._disarm()
        self._network.unbind((self.host, self._port))
        if self._stream is not None:
            self._stream.vanish()
            self._stream = None

    def break_link(self) -> None:
        """A translator forgets us: the next packet comes from another port; TCP is reset."""
        if self.ua is None:
            return
        if self._stream is not None:
            self._stream.abort()
        elif self.ua._line.linked:
            self._network.unbind((self.host, self._port))
            self.ua.unlinked(self._loop.now, "the address changed")
            self._run()

    # ---- what the network says --------------------------------------------------------------

    def received(self, data: bytes, peer: Peer) -> None:
        if self.ua is not None:
            self.ua.receive(data, peer, self._loop.now)
            self._run()

    def connection_made(self, peer: Peer) -> None:
        if self.ua is not None:
            self.ua.linked(peer, self.host, self._port, self._loop.now)
            self._run()

    def connection_lost(self) -> None:
        self._stream = None
        if self.ua is not None:
            self.ua.unlinked(self._loop.now, "the connection broke")
            self._run()

    # ---- what the state machine wants -------------------------------------------------------

    def _run(self) -> None:
        while self.ua is not None and (outputs := self.ua.take()):
            for output in outputs:
                self._do(output)
        self._arm()

    def _do(self, output: Output) -> None:
        match output:
            case Send(data=data, peer=peer):
                self._send(data, peer)
            case Connect():
                self._link()
            case Disconnect():
                if self._stream is not None:
                    self._stream.abort()
            case OpenMedia():
                self._open_media(output)
            case StartMedia(call_id=call_id, ssrc=ssrc):
                self._streams[call_id].packetiser = Packetiser(ssrc, self._ids.number(1 << 16))
                self._opening = OPENING_PICTURES
                self._disarm_shutter()
                self._see_to_shutter()
            case CloseMedia(call_id=call_id):
                self._streams.pop(call_id, None)
            case Gone():
                self._gone()
            case Registered() | Died():
                pass

    def _gone(self) -> None:
        self._network.unbind((self.host, self._port))
        if self._stream is not None:
            self._stream.abort()
        self.ua = None
        self._streams.clear()  # a call may have been taken while leaving

    def _send(self, data: bytes, peer: Peer) -> None:
        if self._stream is not None:
            self._stream.write(data)
        elif self.spec.transport is Transport.UDP:
            self._network.send(data, (self.host, self._port), (peer.host, peer.port))

    def _link(self) -> None:
        """A new port each time, as behind a translator."""
        self._port += 1
        place = (self._platform.host, self._platform.port)
        if self.spec.transport is Transport.UDP:
            peer = Peer(Transport.UDP, *place)
            self._network.bind((self.host, self._port), lambda data, _: self.received(data, peer))
            self._loop.call_soon(self.connection_made, peer)
            return
        self._connections += 1
        peer = Peer(Transport.TCP, *place, self._connections)
        end = self._network.connect((self.host, self._port), place, lambda: _Tcp(self, peer))
        if end is None:
            self._loop.call_later(TCP_CONNECT_S, self.connection_lost)
        self._stream = end

    def _arm(self) -> None:
        if self.ua is None:
            self._disarm()
            return
        self.tables_max = max(self.tables_max, self.live_transactions)
        due = self.ua.next_deadline()
        if due is None or (self._timer is not None and self._timer_due <= due):
            return  # one that rings too early finds nothing to do and asks again
        self._disarm()
        self._timer_due = max(due, self._loop.now)
        self._timer = self._loop.call_at(self._timer_due, self._wake)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        self._timer = None
        if self.ua is not None:
            self.ua.advance(self._loop.now)
            self._run()

    # ---- pictures ---------------------------------------------------------------------------

    def _open_media(self, wanted: OpenMedia) -> None:
        """Pictures of a world travel over UDP; a camera that is offered TCP refuses."""
        assert self.ua is not None
        if wanted.target.transport is not MediaTransport.UDP:
            self.ua.media_failed(wanted.call_id, self._loop.now)
            return
        self._media_ports += 2
        self._streams[wanted.call_id] = _Stream(wanted.target, self._media_ports)
        self.ua.media_opened(wanted.call_id, self.host, self._media_ports, self._loop.now)

    def _see_to_shutter(self) -> None:
        if self._shutter is None and self.sending:
            now, period_s = self._loop.now, self._film.picture_s
            slot = int((now - self._phase_s) / period_s) + 1
            due = now + OPENING_S if self._opening else self._phase_s + slot * period_s
            self._shutter = self._loop.call_at(due, self._shoot)

    def _disarm_shutter(self) -> None:
        if self._shutter is not None:
            self._shutter.cancel()
            self._shutter = None

    def _shoot(self) -> None:
        self._shutter = None
        number, self._count = self._count, self._count + 1
        capture_us = self.clock.now_us()
        key = self._opening > 0 or number % self._film.gop_pictures == 0
        self._opening = max(0, self._opening - 1)
        pack = b""
        for stream in self._streams.values():
            if stream.packetiser is not None:
                pack = pack or picture(number, capture_us, key)
                data = packet(stream.packetiser, pack, capture_us)
                target = (stream.target.host, stream.target.port)
                self._network.send(data, (self.host, stream.port), target)
        self._see_to_shutter()


class _Tcp(asyncio.Protocol):
    def __init__(self, camera: Camera, peer: Peer) -> None:
        self._camera = camera
        self._peer = peer
        self._framer = StreamFramer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._camera.connection_made(self._peer)

    def data_received(self, data: bytes) -> None:
        for message in self._framer.feed(data):
            if message != PING:
                self._camera.received(message, self._peer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._camera.connection_lost()


def camera_spec(number: int, password: str, transport: Transport, timing: Timing) -> DeviceSpec:
    """A camera whose channel has its own code."""
    gb_id = f"3402000000132{number:07d}"
    name = f"CAM {number:03d}"
    channel = ChannelSpec(gb_id, name, name)
    return DeviceSpec(
        "camera", gb_id, password, name, (channel,), transport=transport, timing=timing
    )


__all__ = ["Camera", "Film", "camera_spec"]
