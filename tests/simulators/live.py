"""`LittlePlatform` on real loopback sockets, and receivers of RTP, for tests of the shells."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from simulators.spec import PlatformSpec
from tests.simulators.little import LittlePlatform
from vsp.model.device import Transport
from vsp.sip.core.agent import Peer, Send
from vsp.sip.core.framing import StreamFramer

TICK_S = 0.02


async def until(what: str, probe: Callable[[], object], timeout_s: float = 10.0) -> None:
    """The one bounded wait."""
    try:
        async with asyncio.timeout(timeout_s):
            while not probe():  # noqa: ASYNC110  polls what has no event of its own
                await asyncio.sleep(TICK_S)
    except TimeoutError as error:
        raise AssertionError(f"{what}: not within {timeout_s:g} s") from error


@dataclass
class Live:
    """The sockets of a little platform."""

    little: LittlePlatform
    host: str = "127.0.0.1"
    port: int = 0
    _udp: asyncio.DatagramTransport | None = None
    _server: asyncio.Server | None = None
    _connections: dict[int, asyncio.Transport] = field(default_factory=dict)

    @property
    def spec(self) -> PlatformSpec:
        return PlatformSpec(self.host, self.port)

    def now(self) -> float:
        return time.monotonic()

    def received(self, data: bytes, peer: Peer) -> None:
        self.little.receive(data, peer, self.now())
        self.flush()

    def flush(self) -> None:
        """Send what the platform has to say."""
        for send in self.little.settle(self.now()):
            self._send(send)

    def _send(self, send: Send) -> None:
        if send.peer.transport is Transport.UDP:
            assert self._udp is not None
            self._udp.sendto(send.data, (send.peer.host, send.peer.port))
        elif (transport := self._connections.get(send.peer.connection)) is not None:
            transport.write(send.data)

    def cut_connections(self) -> None:
        """Break every TCP connection, as a restart would."""
        for transport in list(self._connections.values()):
            transport.abort()

    async def ticks(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.little.agent.advance(self.now())
            self.flush()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, live: Live) -> None:
        self.live = live

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.live.received(data, Peer(Transport.UDP, addr[0], addr[1]))


class _Tcp(asyncio.Protocol):
    def __init__(self, live: Live) -> None:
        self.live = live
        self.framer = StreamFramer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.number = id(self)
        self.live._connections[self.number] = transport
        self.address = transport.get_extra_info("peername")

    def data_received(self, data: bytes) -> None:
        for message in self.framer.feed(data):
            self.live.received(message, Peer(Transport.TCP, *self.address, self.number))

    def connection_lost(self, exc: Exception | None) -> None:
        self.live._connections.pop(self.number, None)


@asynccontextmanager
async def live(little: LittlePlatform | None = None) -> AsyncIterator[Live]:
    """A platform on one free port, UDP and TCP."""
    platform = Live(little or LittlePlatform())
    loop = asyncio.get_running_loop()
    platform._server = await loop.create_server(lambda: _Tcp(platform), platform.host, 0)
    platform.port = platform._server.sockets[0].getsockname()[1]
    platform._udp, _ = await loop.create_datagram_endpoint(
        lambda: _Udp(platform), local_addr=(platform.host, platform.port)
    )
    ticking = loop.create_task(platform.ticks())
    try:
        yield platform
    finally:
        ticking.cancel()
        platform._udp.close()
        platform.cut_connections()
        platform._server.close()
        await platform._server.wait_closed()
        await asyncio.sleep(0)


class UdpReceiver:
    """Collects datagrams on an even port."""

    def __init__(self, port: int | None = None) -> None:
        self.packets: list[bytes] = []
        self.arrived_us: list[int] = []
        self.sources: set[tuple[str, int]] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.bind(("127.0.0.1", port or 0))
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]

    def start(self) -> UdpReceiver:
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    def _read(self) -> None:
        while True:
            try:
                packet, source = self._socket.recvfrom(65535)
            except BlockingIOError:
                return
            self.packets.append(packet)
            self.arrived_us.append(time.time_ns() // 1000)
            self.sources.add(source)

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def has_key_frame(self, packets_after: int = 60) -> bool:
        """Whether a key frame has begun, and so many packets came after it."""
        return any(b"\0\0\1\xbb" in packet for packet in self.packets[: -packets_after or None])


def ps_of(packets: list[bytes]) -> bytes:
    """The program stream in RTP packets that came in order, from the first whole key frame on."""
    stream = b"".join(packet[12:] for packet in packets)
    return stream[stream.index(b"\0\0\1\xbb") - 14 :]
