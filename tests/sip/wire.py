"""Devices at the other end of real loopback sockets, and an endpoint on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from simulators.chance import SeededIds
from tests.sip.core import examples
from vsp.clock import SystemClock
from vsp.model.device import Transport
from vsp.model.ids import UtcMicros
from vsp.sip.core.agent import Peer, SipAgent
from vsp.sip.core.message import Message, parse_message, reply_bytes
from vsp.sip.endpoint import SipEndpoint

WAIT_S = 5.0
"""Longest wait for loopback; a hang fails here and not in the whole run's timeout."""

ADDRESSES = (
    ("From", "<sip:34020000002000000001@3402000000>"),
    ("To", "<sip:34020000001320000001@3402000000>"),
)
URI = "sip:34020000001320000001@127.0.0.1"
BURST = 128
"""Two batches; their answers fit the default receive buffer of a Linux socket."""

DRIVERS = ["mmsg", "reader", "stock"]


class ManualClock:
    """Monotonic time in hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def now_us(self) -> UtcMicros:
        return UtcMicros(0)


@asynccontextmanager
async def running(clock: Any = None, **options: Any) -> AsyncIterator[SipEndpoint]:
    """An endpoint on a free port that answers every request 200."""
    options.setdefault("host", "127.0.0.1")
    options.setdefault("port", 0)
    agent = SipAgent(SeededIds("endpoint"), "127.0.0.1:0")
    endpoint = SipEndpoint(agent, clock or SystemClock(), **options)
    endpoint.on_request = lambda received: endpoint.respond(received.transaction, 200, "OK")
    await endpoint.start()
    try:
        yield endpoint
    finally:
        await endpoint.close()


class UdpDevice(asyncio.DatagramProtocol):
    """A device at the other end of a real UDP socket."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.arrived.put_nowait(data)

    def say(self, data: bytes) -> None:
        self.transport.sendto(data)

    async def hear(self) -> Message:
        return parse_message(await asyncio.wait_for(self.arrived.get(), WAIT_S))

    async def hear_method(self, method: str) -> Message:
        """The next request of that method; others are passed over."""
        while (message := await self.hear()).method != method:
            pass
        return message

    def answer(self, request: Message, status: int, reason: str = "R", body: bytes = b"") -> None:
        contact = (("Contact", f"<sip:1@127.0.0.1:{self.port}>"),)
        self.say(reply_bytes(request, status, reason, contact, body, "d77"))

    @property
    def peer(self) -> Peer:
        return Peer(Transport.UDP, "127.0.0.1", self.port)


@asynccontextmanager
async def udp_device(endpoint: SipEndpoint, host: str = "127.0.0.1") -> AsyncIterator[UdpDevice]:
    loop = asyncio.get_running_loop()
    transport, device = await loop.create_datagram_endpoint(
        UdpDevice, remote_addr=(host, endpoint.port)
    )
    try:
        yield device
    finally:
        transport.close()


class TcpDevice:
    """A device at the other end of a real TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self) -> Message:
        async with asyncio.timeout(WAIT_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = int(parse_message(head).header("content-length") or 0)
            return parse_message(head + await self.reader.readexactly(length))

    async def closed(self) -> bool:
        async with asyncio.timeout(WAIT_S):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def tcp_device(endpoint: SipEndpoint) -> AsyncIterator[TcpDevice]:
    reader, writer = await asyncio.open_connection("127.0.0.1", endpoint.port)
    try:
        yield TcpDevice(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):  # the endpoint was faster
            await writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until something is so."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110  a condition of the endpoint, not an event of ours
            await asyncio.sleep(0)


def keepalive(number: int) -> bytes:
    return examples.KEEPALIVE.replace(b"bKk43", b"bKk%d" % number)
