"""Sockets: batches, sources, bounds."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from tests.media.core import packer
from tests.media.rig import SSRC, free_ports, until
from vsp.clock import SystemClock, SystemIds
from vsp.media.core.rtp import Burst
from vsp.media.datagrams import SLOT_BYTES, SLOTS
from vsp.media.ingest import HELD_CONNECTIONS_MAX, HELD_PACKETS_MAX, Ingest, MediaPort
from vsp.model.device import MediaTransport
from vsp.model.stream import RemoteMedia


class Sink:
    """Keeps what a port lets through."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.reports: list[bytes] = []
        self.causes: list[str] = []
        self.fault: Exception | None = None

    def media(self, bursts: list[Burst], now: float) -> None:
        if self.fault is not None:
            raise self.fault
        self.payloads += [bytes(part) for burst in bursts for part in burst.parts]

    def control(self, packets: Sequence[bytes], now: float) -> None:
        self.reports += packets

    def broken(self, cause: str) -> None:
        self.causes.append(cause)


@asynccontextmanager
async def opened(
    host: str = "127.0.0.1", ports: int = 20, interval_s: float = 0.01
) -> AsyncIterator[tuple[Ingest, MediaPort, Sink]]:
    first = free_ports(ports)
    made = Ingest(host, (first, first + ports - 1), 1 << 20, interval_s, SystemClock(), SystemIds())
    sink = Sink()
    port = made.open(sink)
    running = asyncio.create_task(made.run())
    try:
        yield made, port, sink
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        port.close()


def sender(port: int, host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, 0))
    sock.connect((host, port))
    return sock


def packet(seq: int, payload: bytes = b"x", ssrc: int = SSRC) -> bytes:
    return next(packer.rtp(payload, seq, 90_000 + seq, ssrc=ssrc, payload_bytes=SLOT_BYTES * 2))


def allow(port: MediaPort, host: str = "127.0.0.1") -> None:
    port.bind(RemoteMedia((host,), 0, None), MediaTransport.UDP)


async def test_packets_beyond_one_call_are_all_read():
    async with opened() as (_, port, sink):
        allow(port)
        camera = sender(port.port)
        for seq in range(SLOTS + 50):
            camera.send(packet(seq))
        await until(lambda: len(sink.payloads) == SLOTS + 50)

        assert port.stats.packets == SLOTS + 50
        camera.close()


async def test_a_datagram_longer_than_a_slot_is_counted_and_not_used():
    async with opened() as (_, port, sink):
        allow(port)
        camera = sender(port.port)
        camera.send(packet(1))
        camera.send(packet(2, bytes(SLOT_BYTES)))
        camera.send(packet(3, bytes(SLOT_BYTES - 12)))
        await until(lambda: len(sink.payloads) == 2)

        assert port.stats.truncated == 1
        assert len(sink.payloads[1]) == SLOT_BYTES - 12
        camera.close()


async def test_the_quarantine_is_bounded_and_keeps_the_newest():
    async with opened() as (_, port, sink):
        camera = sender(port.port)
        for seq in range(HELD_PACKETS_MAX + 10):
            camera.send(packet(seq, seq.to_bytes(2, "big")))
        await until(lambda: port.stats.held_dropped == 10)
        allow(port)

        assert len(sink.payloads) == HELD_PACKETS_MAX
        assert sink.payloads[0] == (10).to_bytes(2, "big")
        camera.close()


async def test_junk_does_not_take_the_place_of_the_stream():
    async with opened() as (_, port, sink):
        allow(port)
        noise, camera = sender(port.port), sender(port.port)
        for junk in (b"", b"hello", b"\x80" * 11, b"\0" * 500):
            noise.send(junk)
        await asyncio.sleep(0.05)
        camera.send(packet(1, b"picture"))
        await until(lambda: sink.payloads)

        assert sink.payloads == [b"picture"]
        assert port.stats.rejected == 4
        noise.close()
        camera.close()


async def test_ipv6_sources_are_pinned_too():
    async with opened("::1") as (_, port, sink):
        allow(port, "::1")
        camera, thief = sender(port.port, "::1"), sender(port.port, "::1")
        camera.send(packet(1, b"one"))
        await until(lambda: sink.payloads)
        thief.send(packet(2, b"two"))
        camera.send(packet(3, b"three"))
        await until(lambda: len(sink.payloads) == 2)

        assert sink.payloads == [b"one", b"three"]
        assert port.stats.foreign == 1
        camera.close()
        thief.close()


def udp_pair() -> tuple[socket.socket, socket.socket]:
    """Two sockets on neighbouring ports, the first even."""
    for _ in range(100):
        first, second = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        try:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            if port % 2 == 0:
                second.bind(("127.0.0.1", port + 1))
                return first, second
        except OSError:
            pass  # the neighbour is somebody else's
        first.close()
        second.close()
    raise AssertionError("no two neighbouring ports are free")


async def test_reports_are_told_apart_on_both_ports_and_answered_on_the_next_one():
    async with opened() as (_, port, sink):
        allow(port)
        camera, control = udp_pair()
        report = b"\x80\xc8\x00\x06" + SSRC.to_bytes(4, "big") + bytes(20)
        camera.sendto(packet(1), ("127.0.0.1", port.port))
        await until(lambda: sink.payloads)
        camera.sendto(report, ("127.0.0.1", port.port))
        control.sendto(report, ("127.0.0.1", port.port + 1))
        await until(lambda: len(sink.reports) == 2)
        port.send_rtcp(b"receiver report")
        control.settimeout(2)

        assert sink.reports == [report, report]
        assert control.recv(100) == b"receiver report"
        camera.close()
        control.close()


async def test_a_fault_of_ours_ends_one_stream_and_not_the_worker():
    async with opened() as (made, port, sink):
        other_sink = Sink()
        other = made.open(other_sink)
        sink.fault = RuntimeError("a bug")
        allow(port)
        allow(other)
        for target in (port, other):
            camera = sender(target.port)
            camera.send(packet(1))
            camera.close()
        await until(lambda: sink.causes and other_sink.payloads)

        assert "a bug" in sink.causes[0]
        other.close()


async def test_a_watched_port_is_read_at_once():
    async with opened(interval_s=100.0) as (_, port, sink):
        allow(port)
        camera = sender(port.port)
        port.watch(True)
        camera.send(packet(1))
        await until(lambda: sink.payloads)

        port.watch(False)
        port.watch(False)
        camera.close()


async def test_a_connection_may_come_before_the_answer_and_few_may_wait():
    async with opened() as (_, port, sink):
        waiting = []
        for _ in range(HELD_CONNECTIONS_MAX + 2):
            _, writer = await asyncio.open_connection("127.0.0.1", port.port)
            waiting.append(writer)
        waiting[0].write(len(packet(1)).to_bytes(2, "big") + packet(1))
        await until(lambda: len(port._held_connections) == HELD_CONNECTIONS_MAX)
        port.bind(RemoteMedia(("127.0.0.1",), 0, None), MediaTransport.TCP_PASSIVE)
        await until(lambda: sink.payloads)

        assert port.stats.foreign == HELD_CONNECTIONS_MAX - 1
        for writer in waiting:
            writer.close()


async def test_a_connection_that_comes_before_the_answer_of_a_new_dialog_is_its_own():
    async with opened() as (_, port, sink):
        allow(port)
        port.watch(True)
        connection = socket.create_connection(("127.0.0.1", port.port))
        await until(lambda: port.source is not None)

        port.unpin()
        port.bind(RemoteMedia(("127.0.0.1",), 0, None), MediaTransport.TCP_PASSIVE)
        data = packet(1)
        connection.sendall(len(data).to_bytes(2, "big") + data)
        await until(lambda: sink.payloads)

        connection.close()


async def test_a_connection_of_the_dialog_before_is_closed():
    async with opened() as (_, port, sink):
        port.bind(RemoteMedia(("127.0.0.1",), 0, None), MediaTransport.TCP_PASSIVE)
        connection = socket.create_connection(("127.0.0.1", port.port))
        data = packet(1)
        connection.sendall(len(data).to_bytes(2, "big") + data)
        await until(lambda: sink.payloads)

        port.unpin()

        connection.settimeout(2)
        assert connection.recv(1) == b""
        connection.close()


async def test_a_connection_that_breaks_makes_room_for_the_next():
    async with opened() as (_, port, sink):
        port.bind(RemoteMedia(("127.0.0.1",), 0, None), MediaTransport.TCP_PASSIVE)
        for n in range(2):
            connection = socket.create_connection(("127.0.0.1", port.port))
            data = packet(n, ssrc=SSRC + n)
            connection.sendall(len(data).to_bytes(2, "big") + data)
            await until(lambda n=n: len(sink.payloads) == n + 1)
            connection.close()
            await until(lambda: port.source is None)

        assert port.ssrc == SSRC + 1


async def test_bytes_that_are_no_rtp_end_the_connection():
    async with opened() as (_, port, sink):
        port.bind(RemoteMedia(("127.0.0.1",), 0, None), MediaTransport.TCP_PASSIVE)
        connection = socket.create_connection(("127.0.0.1", port.port))
        connection.setblocking(False)
        for _ in range(40):
            with suppress(BlockingIOError, ConnectionError):
                connection.send(b"GET / HTTP/1.1\r\n" * 4000)
            await asyncio.sleep(0.01)
        await until(lambda: port.source is None)

        assert sink.payloads == []
        assert port.stats.rejected
        connection.close()


async def test_ports_are_even_and_taken_ones_are_passed_over():
    first = free_ports(8)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", first + 3))
        made = Ingest("127.0.0.1", (first, first + 7), 65536, 0.1, SystemClock(), SystemIds())
        ports = [made.open(Sink()) for _ in range(3)]

        assert sorted(port.port for port in ports) == [first, first + 4, first + 6]
        for port in ports:
            port.close()
