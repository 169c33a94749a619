"""The network and the clock of the world."""

from __future__ import annotations

import asyncio

import pytest

from simulators.network import (
    KEEPALIVE_S,
    START_US,
    Network,
    VirtualClock,
    VirtualLoop,
    Weather,
)

HERE, THERE = ("192.0.2.1", 1), ("192.0.2.2", 2)


@pytest.fixture
def loop():
    made = VirtualLoop()
    yield made
    made.close()


def seen_with(loop: VirtualLoop, weather: Weather, count: int, seed: int = 1):
    """What of `count` datagrams arrives, and the network."""
    network = Network(loop, seed)
    network.weather = weather
    seen: list[int] = []
    network.bind(THERE, lambda data, source: seen.append(int(data)))
    for number in range(count):
        network.send(b"%d" % number, HERE, THERE)
    loop.run_until_complete(asyncio.sleep(60))
    return seen, network


def test_an_hour_passes_at_once(loop: VirtualLoop):
    clock = VirtualClock(loop)

    loop.run_until_complete(asyncio.sleep(3600))

    assert clock.monotonic() == pytest.approx(3600)
    assert clock.now_us() == pytest.approx(START_US + 3600 * 1_000_000, abs=10)


def test_timers_run_in_the_order_of_their_time(loop: VirtualLoop):
    rang: list[int] = []
    for wait_s in (3, 1, 2):
        loop.call_later(wait_s, rang.append, wait_s)

    loop.run_until_complete(asyncio.sleep(5))

    assert rang == [1, 2, 3]


def test_a_loop_that_waits_for_nothing_says_so_instead_of_hanging(loop: VirtualLoop):
    waiting = loop.create_future()

    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        loop.run_until_complete(waiting)


def test_calm_weather_loses_nothing_and_keeps_the_order(loop: VirtualLoop):
    seen, network = seen_with(loop, Weather(), 100)

    assert seen == list(range(100))
    assert (network.delivered, network.lost) == (100, 0)


def test_bad_weather_loses_doubles_and_overtakes(loop: VirtualLoop):
    seen, network = seen_with(loop, Weather(loss=0.2, duplicate=0.2, jitter_s=1.0), 1000)

    assert 120 <= network.lost <= 280
    assert len(seen) > len(set(seen))
    assert seen != sorted(seen)


def test_the_same_seed_gives_the_same_trace_and_another_one_another(loop: VirtualLoop):
    storm = Weather(loss=0.2, duplicate=0.2, jitter_s=1.0)

    traces = []
    for seed in (1, 1, 2):
        fresh = VirtualLoop()
        traces.append(seen_with(fresh, storm, 100, seed)[1].trace)
        fresh.close()

    assert traces[0] == traces[1] != traces[2]


def test_a_host_that_is_cut_off_neither_hears_nor_is_heard(loop: VirtualLoop):
    network = Network(loop, 1)
    seen: list[bytes] = []
    network.bind(HERE, lambda data, source: seen.append(data))
    network.bind(THERE, lambda data, source: seen.append(data))
    network.send(b"under way", HERE, THERE)
    network.cut.add(THERE[0])
    network.send(b"to it", HERE, THERE)
    network.send(b"from it", THERE, HERE)

    loop.run_until_complete(asyncio.sleep(1))

    assert seen == []


class Peer(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.seen = b""
        self.lost_at: float | None = None

    def connection_made(self, transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.seen += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost_at = asyncio.get_running_loop().time()


def connected(loop: VirtualLoop, weather: Weather = Weather()):  # noqa: B008  frozen
    network = Network(loop, 1)
    network.weather = weather
    server, client = Peer(), Peer()
    network.listen(THERE, lambda: server)
    end = network.connect(HERE, THERE, lambda: client)
    assert end is not None
    loop.run_until_complete(asyncio.sleep(0.1))
    return network, server, client, end


def test_a_stream_arrives_whole_and_in_order_whatever_the_weather(loop: VirtualLoop):
    _, server, _, end = connected(loop, Weather(loss=0.5, duplicate=0.5, jitter_s=2.0))
    for number in range(50):
        end.write(b"%d," % number)

    loop.run_until_complete(asyncio.sleep(600))

    assert server.seen == b"".join(b"%d," % number for number in range(50))


def test_a_stream_waits_while_its_host_is_cut_off(loop: VirtualLoop):
    network, server, _, end = connected(loop)
    network.cut.add(HERE[0])
    end.write(b"late")
    loop.run_until_complete(asyncio.sleep(30))
    before = server.seen
    network.cut.clear()
    loop.run_until_complete(asyncio.sleep(2))

    assert (before, server.seen) == (b"", b"late")


def test_a_reset_is_told_to_both_ends(loop: VirtualLoop):
    _, server, client, end = connected(loop)

    end.abort()
    loop.run_until_complete(asyncio.sleep(1))

    assert client.lost_at is not None
    assert server.lost_at is not None
    assert end.is_closing()


def test_a_host_that_vanishes_is_missed_after_the_keepalive_and_hears_nothing(loop: VirtualLoop):
    _, server, client, end = connected(loop)

    end.vanish()
    loop.run_until_complete(asyncio.sleep(KEEPALIVE_S + 1))

    assert client.lost_at is None
    assert server.lost_at == pytest.approx(KEEPALIVE_S + 0.1)


def test_nobody_listens_there(loop: VirtualLoop):
    assert Network(loop, 1).connect(HERE, THERE, Peer) is None
