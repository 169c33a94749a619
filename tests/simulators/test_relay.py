from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from simulators import relay as relay_module
from simulators.__main__ import main, parser, relay_of
from simulators.relay import (
    BUFFER_BYTES,
    CALM,
    PACKET_OVERHEAD_BYTES,
    RESEND_S,
    SEGMENT_BYTES,
    STREAM_WAITING_BYTES_MAX,
    TIME_S_MAX,
    Direction,
    Impairment,
    Lane,
    Mark,
    Relay,
    Route,
    Way,
    obey,
)
from tests.simulators.live import until
from vsp.errors import Conflict, Invalid

ROOT = Path(__file__).resolve().parents[2]
NEAR, FAR = "127.0.0.1", "127.0.0.2"


def nobody(payload: object) -> None:
    raise AssertionError("the core delivers nothing by itself")


def lane(seed: int | str = 1) -> Lane:
    return Lane(f"{seed}", nobody)


def numbered(count: int, size_bytes: int = 100) -> list[bytes]:
    return [number.to_bytes(4, "big").ljust(size_bytes, b".") for number in range(count)]


def passed(impairment: Impairment, count: int, *, seed: int = 1, gap_s: float = 0.0) -> list[int]:
    """Numbers of the datagrams that come out, in order, when one enters each `gap_s`."""
    direction, one = Direction(impairment), lane(seed)
    came: list[bytes] = []
    for number, data in enumerate(numbered(count)):
        direction.datagram(one, data, number * gap_s)
        came += [payload for _, payload in direction.advance(number * gap_s)]
    came += [payload for _, payload in direction.advance(count * gap_s + 1e6)]
    return [int.from_bytes(data[:4], "big") for data in came]


def dues(direction: Direction) -> list[float]:
    """When each packet under way leaves."""
    found = []
    while (due := direction.next_deadline()) is not None:
        found += [due] * len(direction.advance(due))
    return found


# ---- the core: datagrams --------------------------------------------------------------------


def test_a_calm_direction_lets_everything_through_at_once_and_in_order():
    direction, one = Direction(), lane()
    for data in numbered(3):
        direction.datagram(one, data, 5.0)

    assert direction.next_deadline() == 5.0
    assert [payload for _, payload in direction.advance(5.0)] == numbered(3)
    assert direction.next_deadline() is None


BAD = Impairment(delay_s=0.05, jitter_s=0.03, loss=0.1, reorder=0.1, duplicate=0.1)


def test_the_same_seed_gives_each_packet_the_same_fate():
    first, second, other = (passed(BAD, 500, seed=seed, gap_s=0.001) for seed in (1, 1, 2))

    assert first == second != other


def test_a_higher_loss_loses_the_same_packets_and_others_besides():
    little, much = (set(passed(Impairment(loss=loss), 2000)) for loss in (0.05, 0.2))

    assert much < little


def test_what_was_set_before_does_not_change_the_fates_that_follow():
    direction, one = Direction(BAD), lane()
    for data in numbered(100):
        direction.datagram(one, data, 0.0)
    direction.advance(1e6)
    direction.impairment = Impairment(loss=0.3)
    for data in numbered(200)[100:]:
        direction.datagram(one, data, 1e6)
    after = [int.from_bytes(data[:4], "big") for _, data in direction.advance(1e6)]

    assert after == [number for number in passed(Impairment(loss=0.3), 200) if number >= 100]


def test_chances_are_what_was_asked_for():
    direction, one = Direction(Impairment(loss=0.1, duplicate=0.05, reorder=0.2)), lane()
    for data in numbered(20_000):
        direction.datagram(one, data, 0.0)
    direction.advance(1e6)

    seen = direction.counters
    assert 0.09 < seen.lost / 20_000 < 0.11
    assert 0.045 < seen.duplicated / (20_000 - seen.lost) < 0.055
    assert 0.19 < seen.reordered / (20_000 - seen.lost) < 0.21
    assert seen.forwarded == seen.received - seen.lost + seen.duplicated
    assert seen.forwarded_bytes == seen.forwarded * 100
    assert seen.received_bytes == 2_000_000


def test_delay_and_jitter_are_bounded_and_keep_the_order():
    direction, one = Direction(Impairment(delay_s=0.1, jitter_s=0.04)), lane()
    for number, data in enumerate(numbered(1000)):
        direction.datagram(one, data, number * 0.1)

    late_s = [due - number * 0.1 for number, due in enumerate(dues(direction))]
    assert min(late_s) >= 0.1 - 1e-9
    assert 0.135 < max(late_s) <= 0.14 + 1e-9
    assert passed(Impairment(jitter_s=1.0), 500, gap_s=0.01) == list(range(500))


def test_a_packet_that_is_held_back_is_overtaken_by_those_right_behind_it():
    came = passed(Impairment(reorder=0.1, reorder_s=0.02), 200, gap_s=0.01)

    assert sorted(came) == list(range(200)) != came
    places = [place - number for place, number in enumerate(came)]
    assert set(places) <= {-2, -1, 0, 1, 2}


def test_two_flows_have_fates_of_their_own():
    direction = Direction(Impairment(loss=0.5))
    for name in ("a", "b"):
        one = lane(name)
        for data in numbered(100):
            direction.datagram(one, data, 0.0)

    came: dict[Lane, list[bytes]] = {}
    for which, data in direction.advance(0.0):
        came.setdefault(which, []).append(data)
    first, second = came.values()
    assert first != second


def test_a_rate_spaces_packets_by_their_size():
    direction, one = Direction(Impairment(rate_bytes_per_s=10_000)), lane()
    for size_bytes in (1000, 500, 2000):
        direction.datagram(one, bytes(size_bytes), 0.0)

    assert dues(direction) == pytest.approx([0.1, 0.15, 0.35])


def test_what_waits_for_the_rate_has_room_up_to_the_last_byte_and_no_further():
    for size_bytes, dropped in ((1000, 0), (1001, 1)):
        direction = Direction(Impairment(rate_bytes_per_s=10_000, queue_bytes=3000))
        one = lane()
        direction.datagram(one, bytes(2000), 0.0)
        direction.datagram(one, bytes(size_bytes), 0.0)

        assert direction.counters.dropped_by_rate == dropped


def test_a_packet_that_nobody_is_in_front_of_does_not_wait():
    direction, one = Direction(Impairment(rate_bytes_per_s=10_000, queue_bytes=100)), lane()
    direction.datagram(one, bytes(1000), 0.0)
    direction.datagram(one, bytes(1000), 0.1)

    assert dues(direction) == pytest.approx([0.1, 0.2])


def test_datagrams_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch):
    each_bytes = 100 + PACKET_OVERHEAD_BYTES
    monkeypatch.setattr(relay_module, "UNDER_WAY_BYTES_MAX", 10 * each_bytes)
    direction, one = Direction(Impairment(delay_s=1.0)), lane()
    for data in numbered(11):
        direction.datagram(one, data, 0.0)

    assert direction.counters.dropped_by_bound == 1
    assert [data for _, data in direction.advance(1.0)] == numbered(10)
    direction.datagram(one, b"there is room again", 1.0)
    assert direction.counters.dropped_by_bound == 1


def test_a_partition_loses_what_is_under_way_and_what_comes():
    direction, one = Direction(Impairment(delay_s=1.0)), lane()
    direction.datagram(one, b"under way", 0.0)
    direction.partition(True)
    direction.datagram(one, b"into the gap", 0.5)
    assert direction.next_deadline() is None

    direction.partition(False)
    direction.datagram(one, b"healed", 2.0)

    assert [data for _, data in direction.advance(3.0)] == [b"healed"]
    assert direction.counters.cut == 2


# ---- the core: streams ----------------------------------------------------------------------


def through(direction: Direction, one: Lane, data: bytes, now: float) -> list[tuple[float, bytes]]:
    direction.bytes_of(one, data, now)
    came = []
    while (due := direction.next_deadline()) is not None:
        came += [(due, payload) for _, payload in direction.advance(due)]
    return came


def test_bytes_of_a_connection_are_late_and_never_lost_or_out_of_order():
    data = bytes(range(256)) * 400
    came = through(Direction(BAD), lane(), data, 0.0)

    assert b"".join(payload for _, payload in came) == data
    moments = [due for due, _ in came]
    assert moments == sorted(moments)
    assert all(len(payload) <= SEGMENT_BYTES for _, payload in came)


def test_a_lost_segment_costs_a_retransmission():
    direction = Direction(Impairment(loss=0.1))
    one = lane()
    late_s = []
    for number in range(2000):
        (due, _), *_ = through(direction, one, b"x", number * 60.0)
        late_s.append(round(due - number * 60.0, 3))

    lost = [wait for wait in late_s if wait]
    assert len(lost) == direction.counters.late
    assert 0.08 < len(lost) / 2000 < 0.12
    assert set(lost) <= {RESEND_S, 0.6, 1.4, 3.0}
    assert lost.count(RESEND_S) > 8 * lost.count(0.6) > 0


def test_a_segment_that_is_always_lost_comes_in_the_end():
    (due, _), *_ = through(Direction(Impairment(loss=1.0)), lane(), b"x", 0.0)

    assert due == pytest.approx(12.6)


def test_a_segment_that_was_overtaken_holds_up_those_behind_it():
    direction, one = Direction(Impairment(reorder=1.0, reorder_s=0.5)), lane()
    direction.bytes_of(one, b"first", 0.0)
    direction.impairment = CALM
    direction.bytes_of(one, b"second", 0.1)

    assert direction.advance(0.49) == []
    assert [payload for _, payload in direction.advance(0.5)] == [b"first", b"second"]


def test_a_partition_keeps_the_bytes_of_a_connection_until_it_is_over():
    direction, one = Direction(), lane()
    direction.partition(True)
    direction.bytes_of(one, b"held", 0.0)
    direction.mark(one, Mark.END, 0.0)
    assert direction.next_deadline() is None
    assert direction.advance(10.0) == []
    assert one.waiting_bytes == 4

    direction.partition(False)

    assert [payload for _, payload in direction.advance(10.0)] == [b"held", Mark.END]
    assert one.waiting_bytes == 0
    assert direction.counters.cut == 0


def test_the_rate_of_connections_drops_nothing():
    direction = Direction(Impairment(rate_bytes_per_s=10_000, queue_bytes=100))
    came = through(direction, lane(), bytes(50_000), 0.0)

    assert sum(len(payload) for _, payload in came) == 50_000
    assert came[-1][0] == pytest.approx(5.0)
    assert direction.counters.dropped_by_rate == 0


@pytest.mark.parametrize("name", ["loss", "reorder", "duplicate"])
def test_a_chance_lies_between_0_and_1(name: str):
    assert getattr(Impairment(**{name: 1}), name) == 1
    for wrong in (-0.01, 1.01, float("nan"), "much", True, None):
        with pytest.raises(Invalid, match=name):
            Impairment(**{name: wrong})


@pytest.mark.parametrize("name", ["delay_s", "jitter_s", "reorder_s"])
def test_a_delay_is_at_most_a_minute(name: str):
    Impairment(**{name: TIME_S_MAX})
    for wrong in (-0.01, TIME_S_MAX + 0.01):
        with pytest.raises(Invalid, match=name):
            Impairment(**{name: wrong})


# ---- sockets: UDP ---------------------------------------------------------------------------


class Peer:
    """A UDP socket that keeps what comes."""

    def __init__(self, host: str = NEAR, port: int = 0, echo: bool = False) -> None:
        self.came: list[bytes] = []
        self.sources: list[tuple[str, int]] = []
        self._echo = echo
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.bind((host, port))
        self._socket.setblocking(False)
        self.port = self._socket.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._socket, self._read)

    def _read(self) -> None:
        data, source = self._socket.recvfrom(65535)
        self.came.append(data)
        self.sources.append(source)
        if self._echo:
            self._socket.sendto(data, source)

    def send(self, data: bytes, port: int, host: str = NEAR) -> None:
        self._socket.sendto(data, (host, port))

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


@asynccontextmanager
async def peers(*made: Peer) -> AsyncIterator[None]:
    try:
        yield
    finally:
        for peer in made:
            peer.close()


def udp(to_port: int, **more) -> Route:
    return Route(NEAR, 0, NEAR, to_port, tcp=False, **more)


async def test_each_client_has_a_source_of_its_own_and_gets_its_answers():
    target, one, two = Peer(echo=True), Peer(), Peer()
    async with peers(target, one, two), Relay(udp(target.port)) as relay:
        one.send(b"one", relay.port)
        two.send(b"two", relay.port)
        await until("both answers", lambda: one.came and two.came)

    assert (one.came, two.came) == ([b"one"], [b"two"])
    assert len(set(target.sources)) == 2
    assert one.sources == [(NEAR, relay.port)]
    assert relay.counters(Way.UP).forwarded == relay.counters(Way.DOWN).forwarded == 2
    assert relay.counters(Way.DOWN).forwarded_bytes == 6


def free_pair() -> int:
    """An even port that was free on both hosts, with its neighbour."""
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind((NEAR, 0))
            port = probe.getsockname()[1] & ~1
        try:
            for host in (NEAR, FAR):
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    for number in (port, port + 1):
                        with socket.socket(socket.AF_INET, kind) as probe:
                            probe.bind((host, number))
        except OSError:
            continue
        return port
    raise AssertionError("no pair of ports is free")


async def test_a_range_of_ports_forwards_to_the_same_ports_of_another_host():
    port = free_pair()
    even, odd, client = Peer(port=port), Peer(port=port + 1), Peer()
    route = Route(FAR, port, NEAR, ports=2, upstream_host="127.0.0.3")
    async with peers(even, odd, client), Relay(route):
        client.send(b"rtp", port, FAR)
        client.send(b"rtcp", port + 1, FAR)
        await until("both", lambda: even.came and odd.came)

    assert (even.came, odd.came) == ([b"rtp"], [b"rtcp"])
    assert {host for host, _ in even.sources + odd.sources} == {"127.0.0.3"}


async def test_rtcp_that_goes_to_the_port_beside_the_source_comes_back():
    port, own = free_pair(), free_pair()
    rtp, rtcp = Peer(port=port), Peer(port=port + 1)
    client, client_rtcp = Peer(port=own), Peer(port=own + 1)
    route = Route(FAR, port, NEAR, ports=2, rtp_pairs=True)
    async with peers(rtp, rtcp, client, client_rtcp), Relay(route) as relay:
        client.send(b"media", port, FAR)
        await until("media", lambda: rtp.came)
        source = rtp.sources[0][1]
        rtcp.send(b"receiver report", source + 1)
        client_rtcp.send(b"sender report", port + 1, FAR)
        await until("reports", lambda: client_rtcp.came and rtcp.came)
        assert relay.flows == 2

    assert source % 2 == 0
    assert client_rtcp.came == [b"receiver report"]
    assert client_rtcp.sources == [(FAR, port + 1)]
    assert rtcp.sources == [(NEAR, source + 1)]


async def test_the_same_seed_loses_the_same_datagrams_on_real_sockets():
    async def survivors(seed: int) -> list[bytes]:
        target, client = Peer(), Peer()
        async with peers(target, client), Relay(udp(target.port), seed=seed) as relay:
            relay.impair(Way.UP, loss=0.3)
            for data in numbered(200):
                client.send(data, relay.port)
            counters = relay.counters(Way.UP)
            await until("all of them", lambda: counters.received == 200)
            await until("the rest", lambda: len(target.came) == counters.forwarded)
            return target.came

    assert await survivors(1) == await survivors(1) != await survivors(2)


async def test_delay_is_real():
    target, client = Peer(), Peer()
    late = Impairment(delay_s=0.15)
    async with peers(target, client), Relay(udp(target.port), up=late) as relay:
        began = time.monotonic()
        client.send(b"x", relay.port)
        await until("it", lambda: target.came)

    assert 0.149 <= time.monotonic() - began < 1.0


async def test_a_partition_can_be_of_one_way_and_heals():
    target, client = Peer(echo=True), Peer()
    async with peers(target, client), Relay(udp(target.port)) as relay:
        relay.partition(True, Way.DOWN)
        client.send(b"heard, not answered", relay.port)
        await until("it", lambda: relay.counters(Way.DOWN).cut)
        assert target.came
        assert not client.came

        relay.partition(False)
        client.send(b"again", relay.port)
        await until("an answer", lambda: client.came)

    assert client.came == [b"again"]
    assert relay.counters(Way.UP).cut == 0


async def test_flows_are_bounded_and_the_longest_silent_one_gives_way():
    target, *clients = Peer(echo=True), Peer(), Peer(), Peer()
    async with peers(target, *clients), Relay(udp(target.port), flows_max=3) as relay:
        for client in clients:
            client.send(b"first", relay.port)
            await until("an answer", lambda client=client: client.came)
            assert relay.flows <= 3
        clients[0].send(b"second", relay.port)
        await until("an answer", lambda: len(clients[0].came) == 2)

    assert target.sources[0] != target.sources[3]


async def test_a_silent_flow_ends_and_may_begin_anew():
    target, client = Peer(echo=True), Peer()
    async with peers(target, client), Relay(udp(target.port), idle_s=0.2) as relay:
        client.send(b"first", relay.port)
        await until("an answer", lambda: client.came)
        await until("its end", lambda: relay.flows == 0)
        client.send(b"second", relay.port)
        await until("an answer", lambda: len(client.came) == 2)


async def test_a_target_that_is_not_there_is_counted():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind((NEAR, 0))
        port = free.getsockname()[1]
    client = Peer()
    async with peers(client), Relay(udp(port)) as relay:
        for _ in range(3):
            client.send(b"x", relay.port)
            await asyncio.sleep(0.02)
        assert relay.counters(Way.UP).received == 3


async def test_a_taken_port_is_named_and_nothing_stays_open():
    port = free_pair()
    with socket.create_server((NEAR, port + 1)):
        for _ in range(2):
            with pytest.raises(Conflict, match=str(port)):
                await Relay(Route(NEAR, port, NEAR, 9, ports=2)).start()
        with socket.create_server((NEAR, port)):
            pass


@pytest.mark.parametrize(
    "route",
    [
        {"ports": 0},
        {"ports": 4097},
        {"port_first": 0},
        {"port_first": 0, "to_port_first": 9, "ports": 2},
        {"port_first": 65_535, "ports": 2},
        {"udp": False, "tcp": False},
    ],
)
def test_a_route_that_leads_nowhere_is_refused(route: dict):
    with pytest.raises(Invalid):
        Route(**{"host": NEAR, "port_first": 9, "to_host": NEAR, **route})


# ---- sockets: TCP ---------------------------------------------------------------------------


@asynccontextmanager
async def tcp(
    serve, up: Impairment = CALM, down: Impairment = CALM, seed: int = 1
) -> AsyncIterator[Relay]:
    """A relay in front of a server that runs `serve(reader, writer)`."""
    server = await asyncio.start_server(serve, NEAR, 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with Relay(Route(NEAR, 0, NEAR, port, udp=False), seed=seed, up=up, down=down) as it:
            yield it
    finally:
        server.close()
        await server.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> bytes:
    writer.write(data)
    async with asyncio.timeout(10):
        return await reader.readexactly(len(data))


async def test_a_connection_carries_everything_through_loss_and_jitter():
    data = bytes(range(256)) * 2000
    bad = Impairment(loss=0.02, jitter_s=0.002, reorder=0.05, reorder_s=0.002)
    async with tcp(echo, bad) as relay:
        reader, writer = await asyncio.open_connection(NEAR, relay.port)
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(30):
            assert await reader.read() == data
        writer.close()
        await until("the end", lambda: relay.connections == 0)

    assert relay.counters(Way.UP).late > 0
    assert relay.counters(Way.UP).forwarded_bytes == len(data)


async def test_a_half_that_has_ended_lets_the_other_half_speak():
    async def late_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.read()
        await asyncio.sleep(0.1)
        writer.write(question + b"!")
        writer.close()

    async with tcp(late_answer) as relay:
        reader, writer = await asyncio.open_connection(NEAR, relay.port)
        writer.write(b"well")
        writer.write_eof()
        async with asyncio.timeout(5):
            assert await reader.read() == b"well!"
        writer.close()
        await until("the end", lambda: relay.connections == 0)


async def test_a_partition_stops_the_flow_and_keeps_the_connection():
    async with tcp(echo) as relay:
        reader, writer = await asyncio.open_connection(NEAR, relay.port)
        assert await ask(reader, writer, b"before") == b"before"
        relay.partition(True)
        writer.write(b"into the gap")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.read(1)
        assert relay.connections == 1

        relay.partition(False)

        async with asyncio.timeout(5):
            assert await reader.readexactly(12) == b"into the gap"
        writer.close()


async def test_a_connection_that_is_opened_into_a_partition_waits_for_its_end():
    async with tcp(echo) as relay:
        relay.partition(True, Way.UP)
        reader, writer = await asyncio.open_connection(NEAR, relay.port)
        asking = asyncio.create_task(ask(reader, writer, b"anybody there"))
        await asyncio.sleep(0.2)
        assert not asking.done()

        relay.partition(False)

        assert await asking == b"anybody there"
        writer.close()


async def test_connections_can_be_reset_at_both_ends():
    ends: list[str] = []

    async def watch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except ConnectionResetError:
            ends.append("server")
        writer.close()

    async with tcp(watch) as relay:
        reader, writer = await asyncio.open_connection(NEAR, relay.port)
        writer.write(b"x")
        await until("it to get through", lambda: relay.counters(Way.UP).forwarded)

        assert relay.reset_connections() == 1

        with pytest.raises(ConnectionResetError):
            await reader.read()
        await until("the server to see it too", lambda: ends)
        await until("the end", lambda: relay.connections == 0)
        assert relay.reset_connections() == 0
        writer.close()


async def test_a_reset_by_one_end_reaches_the_other():
    async def slam(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.transport.abort()

    async with tcp(slam) as relay:
        reader, writer = await asyncio.open_connection(NEAR, relay.port)
        writer.write(b"x" + bytes(100_000))
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await until("the end", lambda: relay.connections == 0)


async def test_a_target_that_does_not_listen_resets_the_client():
    with socket.create_server((NEAR, 0)) as held:
        port = held.getsockname()[1]
    async with Relay(Route(NEAR, 0, NEAR, port, udp=False)) as relay:
        reader, writer = await asyncio.open_connection(NEAR, relay.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()
        await until("the end", lambda: relay.connections == 0)


async def test_a_sender_that_nobody_reads_is_held_up():
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    done = asyncio.Event()
    async with tcp(deaf) as relay:
        relay.partition(True, Way.UP)
        _, writer = await asyncio.open_connection(NEAR, relay.port)
        relay.partition(False)
        writer.write(b"x")
        await until("it to get through", lambda: relay.counters(Way.UP).forwarded)
        relay.partition(True, Way.UP)

        writer.write(bytes(32 << 20))
        received = relay.counters(Way.UP)
        await until("some of it", lambda: received.received_bytes > STREAM_WAITING_BYTES_MAX)
        await asyncio.sleep(0.3)

        assert received.received_bytes <= STREAM_WAITING_BYTES_MAX + (256 << 10) + 1
        done.set()
        writer.transport.abort()


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(relay_module, "CONNECTIONS_MAX", 1)
    async with tcp(echo) as relay:
        first = await asyncio.open_connection(NEAR, relay.port)
        assert await ask(*first, b"in") == b"in"
        reader, writer = await asyncio.open_connection(NEAR, relay.port)
        with pytest.raises(ConnectionResetError):
            await reader.read()
        assert await ask(*first, b"still in") == b"still in"
        for end in (first[1], writer):
            end.close()


async def test_closing_while_connections_run_leaves_nothing():
    async with tcp(echo, Impairment(delay_s=30.0)) as relay:
        reader, writer = await asyncio.open_connection(NEAR, relay.port)
        writer.write(b"on its way for long")
        await until("it", lambda: relay.connections == 1)
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


# ---- orders and the command -----------------------------------------------------------------


async def test_orders_change_the_line_while_it_runs():
    relay = Relay(Route(NEAR, 0, NEAR, 9))

    def order(**what: object) -> dict:
        return dict(obey(relay, json.dumps(what).encode()))

    assert order(do="impair", way="up", loss=0.5) == {"ok": True}
    assert order(do="impair", delay_s=1) == {"ok": True}
    assert relay._ways[Way.UP].impairment == Impairment(loss=0.5, delay_s=1)
    assert relay._ways[Way.DOWN].impairment == Impairment(delay_s=1)
    assert order(do="calm", way="down") == {"ok": True}
    assert relay._ways[Way.DOWN].impairment == CALM
    assert order(do="partition", on=True, way="down") == {"ok": True}
    assert (relay._ways[Way.UP].partitioned, relay._ways[Way.DOWN].partitioned) == (False, True)
    assert order(do="reset") == {"ok": True, "reset": 0}
    assert order(do="counters")["up"]["lost"] == 0
    assert set(order(do="counters", way="up")) == {"ok", "up"}


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"\xff",
        b'{"do": "explode"}',
        b'{"do": "impair", "lots": 1}',
        b'{"do": "impair", "self": 1}',
        b'{"do": "impair", "loss": "much"}',
        b'{"do": "impair", "loss": 2}',
        b'{"do": "calm", "way": "sideways"}',
        b'{"do": "calm", "way": []}',
        b'{"do": "partition"}',
        b'{"do": "partition", "on": 1}',
    ],
)
async def test_an_order_that_makes_no_sense_is_answered_with_a_sentence(line: bytes):
    answer = obey(Relay(Route(NEAR, 0, NEAR, 9)), line)

    assert set(answer) == {"error"}
    assert answer["error"]


def described(*words: str) -> Relay:
    return relay_of(parser().parse_args(["relay", *words]))


def test_the_command_line_describes_a_relay():
    relay = described(
        *("--listen", "127.0.0.2:20000-20399", "--to", "127.0.0.1"),
        *("--upstream-host", "127.0.0.1", "--transport", "udp", "--rtp-pairs", "--seed", "3"),
        *("--loss", "0.01", "--jitter", "0.02", "--up", "loss=0.5,delay_s=1", "--idle", "9"),
    )

    assert relay.route == Route(
        FAR, 20000, NEAR, ports=400, upstream_host=NEAR, tcp=False, rtp_pairs=True
    )
    assert relay.route.target(399) == (NEAR, 20399)
    assert relay._ways[Way.UP].impairment == Impairment(loss=0.5, jitter_s=0.02, delay_s=1)
    assert relay._ways[Way.DOWN].impairment == Impairment(loss=0.01, jitter_s=0.02)


@pytest.mark.parametrize(
    "words",
    [
        ("--listen", "20000", "--to", NEAR),
        ("--listen", f"{NEAR}:x", "--to", NEAR),
        ("--listen", f"{NEAR}:9-8", "--to", NEAR),
        ("--listen", f"{NEAR}:9", "--to", f"{NEAR}:x"),
        ("--listen", f"{NEAR}:0", "--to", NEAR),
        ("--listen", f"{NEAR}:9", "--to", NEAR, "--loss", "2"),
        ("--listen", f"{NEAR}:9", "--to", NEAR, "--up", "lots=2"),
        ("--listen", f"{NEAR}:9", "--to", NEAR, "--up", "loss=much"),
    ],
)
def test_what_cannot_be_a_relay_ends_with_2(words: tuple[str, ...], capsys: pytest.CaptureFixture):
    assert main(["relay", *words]) == 2

    assert capsys.readouterr().err


@asynccontextmanager
async def command(*words: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulators", "relay", *words),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def line_of(process: asyncio.subprocess.Process) -> bytes:
    async with asyncio.timeout(20):
        return await process.stdout.readline()


async def test_a_relay_says_where_it_is_obeys_and_goes_on_sigterm():
    target, client = Peer(echo=True), Peer()
    async with (
        peers(target, client),
        command("--listen", f"{NEAR}:0", "--to", f"{NEAR}:{target.port}") as process,
    ):
        word, _, text = (await line_of(process)).partition(b" ")
        ready = json.loads(text)
        assert (word, ready["host"], ready["ports"]) == (b"ready", NEAR, 1)
        client.send(b"through", ready["port_first"])
        await until("an answer", lambda: client.came)

        process.stdin.write(b'{"do": "partition", "on": true}\n{"do": "counters"}\n' + b"x" * 9999)
        process.stdin.write(b"\n")
        process.stdin.close()
        assert json.loads(await line_of(process)) == {"ok": True}
        assert json.loads(await line_of(process))["down"]["forwarded"] == 1
        assert "error" in json.loads(await line_of(process))
        client.send(b"into the gap", ready["port_first"])
        await asyncio.sleep(0.1)
        assert len(client.came) == 1

        began = time.monotonic()
        process.terminate()
        async with asyncio.timeout(5):
            await process.wait()
        assert time.monotonic() - began < 2
        assert process.returncode == 0


async def test_a_relay_dies_with_its_parent():
    words = [sys.executable, "-m", "simulators", "relay", "--listen", f"{NEAR}:0", "--to"]
    launcher = f"import subprocess; subprocess.run({[*words, f'{NEAR}:9']!r})"
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", launcher), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    await line_of(parent)

    parent.kill()

    # Its standard output ends only when the relay itself has gone.
    async with asyncio.timeout(3):
        await parent.communicate()
