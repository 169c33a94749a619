"""The network of the world: datagrams in any weather, streams that wait or break, and owners."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from simulators.world.loop import Killed, Process, VirtualLoop, current
from simulators.world.network import CALM, KEEPALIVE_S, Network, StreamEnd, Weather
from simulators.world.trace import Trace

HERE, THERE = ("192.0.2.1", 1), ("192.0.2.2", 2)

STORM = Weather(loss=0.2, duplicate=0.2, jitter_s=1.0)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


def network_of(loop: VirtualLoop, weather: Weather = CALM, seed: int = 1) -> Network:
    network = Network(loop, seed, Trace())
    network.weather = weather
    return network


def pass_time(loop: VirtualLoop, seconds: float) -> None:
    loop.run_until_complete(asyncio.sleep(seconds))


# ---- datagrams ------------------------------------------------------------------------------


def seen_in(
    loop: VirtualLoop, weather: Weather, count: int, seed: int = 1
) -> tuple[list[int], Network]:
    """What of `count` datagrams arrives, and the network."""
    network = network_of(loop, weather, seed)
    seen: list[int] = []
    network.bind(THERE, lambda data, source: seen.append(int(data)))
    for number in range(count):
        network.send(b"%d" % number, HERE, THERE)
    pass_time(loop, 60)
    return seen, network


def test_calm_weather_loses_nothing_and_keeps_the_order(loop: VirtualLoop):
    seen, network = seen_in(loop, CALM, 100)

    assert seen == list(range(100))
    assert (network.delivered, network.lost) == (100, 0)


def test_a_datagram_takes_its_time(loop: VirtualLoop):
    network = network_of(loop, Weather(delay_s=0.5, jitter_s=1.0))
    arrived: list[float] = []
    network.bind(THERE, lambda data, source: arrived.append(loop.now))
    for _ in range(200):
        network.send(b"x", HERE, THERE)

    pass_time(loop, 60)

    assert 0.5 <= min(arrived) < 0.6
    assert 1.4 < max(arrived) < 1.51


def test_bad_weather_loses_doubles_and_overtakes(loop: VirtualLoop):
    seen, network = seen_in(loop, STORM, 1000)

    assert 120 <= network.lost <= 280
    assert 1000 - network.lost == len(set(seen))
    assert len(seen) > len(set(seen))
    assert seen != sorted(seen)


def test_the_same_seed_gives_the_same_trace_and_another_one_another():
    traces = []
    for seed in (1, 1, 2):
        loop = VirtualLoop()
        traces.append(seen_in(loop, STORM, 100, seed)[1].trace.hash)
        loop.close()

    assert traces[0] == traces[1] != traces[2]


def test_a_host_that_is_cut_off_neither_hears_nor_is_heard(loop: VirtualLoop):
    network = network_of(loop)
    seen: list[bytes] = []
    for place in (HERE, THERE):
        network.bind(place, lambda data, source: seen.append(data))
    network.send(b"under way", HERE, THERE)
    network.cut.add(THERE[0])
    network.send(b"to it", HERE, THERE)
    network.send(b"from it", THERE, HERE)
    pass_time(loop, 1)
    before = [*seen]

    network.cut.clear()
    network.send(b"again", HERE, THERE)
    pass_time(loop, 1)

    assert (before, seen, network.lost) == ([], [b"again"], 3)


def test_a_closed_socket_hears_nothing_and_its_address_is_free(loop: VirtualLoop):
    network = network_of(loop)
    seen: list[bytes] = []
    network.bind(THERE, lambda data, source: seen.append(data))
    with pytest.raises(AssertionError, match="is taken"):
        network.bind(THERE, lambda data, source: seen.append(data))
    network.send(b"x", HERE, THERE)

    network.unbind(THERE)
    pass_time(loop, 1)

    assert seen == []
    network.bind(THERE, lambda data, source: seen.append(data))


# ---- streams --------------------------------------------------------------------------------


class Peer(asyncio.Protocol):
    def __init__(self) -> None:
        self.made = False
        self.seen = b""
        self.lost_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made = True

    def data_received(self, data: bytes) -> None:
        self.seen += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost_at = asyncio.get_running_loop().time()


def connected(loop: VirtualLoop, weather: Weather = CALM) -> tuple[Network, Peer, Peer, StreamEnd]:
    """A network, the server's side, the client's side and its end."""
    network = network_of(loop, weather)
    server, client = Peer(), Peer()
    network.listen(THERE, lambda: server)
    end = network.connect(HERE, THERE, lambda: client)
    assert end is not None
    pass_time(loop, 0.1)
    assert server.made
    assert client.made
    return network, server, client, end


def test_a_stream_arrives_whole_and_in_order_whatever_the_weather(loop: VirtualLoop):
    _, server, _, end = connected(loop, Weather(loss=0.5, duplicate=0.5, jitter_s=2.0))
    for number in range(50):
        end.write(b"%d," % number)

    pass_time(loop, 600)

    assert server.seen == b"".join(b"%d," % number for number in range(50))


def test_a_stream_waits_while_its_host_is_cut_off(loop: VirtualLoop):
    network, server, _, end = connected(loop)
    network.cut.add(HERE[0])
    end.write(b"late")
    pass_time(loop, 30)
    before = server.seen
    waiting = end.get_write_buffer_size()

    network.cut.clear()
    pass_time(loop, 2)

    assert (before, waiting, server.seen) == (b"", 4, b"late")


def test_a_reset_is_told_to_both_ends_and_what_was_under_way_is_lost(loop: VirtualLoop):
    _, server, client, end = connected(loop)
    end.write(b"lost")

    end.abort()
    end.write(b"too late")
    pass_time(loop, 1)

    assert client.lost_at is not None
    assert server.lost_at is not None
    assert server.seen == b""
    assert end.is_closing()


def test_a_reset_reaches_a_host_that_is_cut_off_when_it_is_back(loop: VirtualLoop):
    network, server, _, end = connected(loop)
    network.cut.add(THERE[0])
    end.abort()
    pass_time(loop, 30)
    before = server.lost_at

    network.cut.clear()
    pass_time(loop, 2)

    assert before is None
    assert server.lost_at is not None


def test_a_host_that_vanishes_is_missed_after_the_keepalive_and_hears_nothing(loop: VirtualLoop):
    _, server, client, end = connected(loop)

    end.vanish()
    pass_time(loop, KEEPALIVE_S + 1)

    assert client.lost_at is None
    assert server.lost_at == pytest.approx(KEEPALIVE_S + 0.1, abs=1e-3)


def test_nobody_listens_there_or_can_be_reached(loop: VirtualLoop):
    network = network_of(loop)
    assert network.connect(HERE, THERE, Peer) is None

    network.listen(THERE, Peer)
    network.cut.add(THERE[0])

    assert network.connect(HERE, THERE, Peer) is None


# ---- owners ---------------------------------------------------------------------------------


def test_who_binds_is_served_in_its_own_process(loop: VirtualLoop):
    network, process = network_of(loop), Process(loop, "server")
    served_by: list[Process | None] = []
    process.call(network.bind, THERE, lambda data, source: served_by.append(current()))
    network.send(b"x", HERE, THERE)

    pass_time(loop, 1)

    assert served_by == [process]


def test_the_system_closes_the_sockets_of_the_dead(loop: VirtualLoop):
    network, process = network_of(loop), Process(loop, "server")
    server, client = Peer(), Peer()
    seen: list[bytes] = []
    process.call(network.bind, THERE, lambda data, source: seen.append(data))
    process.call(network.listen, THERE, lambda: server)
    network.connect(HERE, THERE, lambda: client)
    pass_time(loop, 1)
    network.send(b"x", HERE, THERE)

    process.kill()
    pass_time(loop, 1)

    assert seen == []
    assert client.lost_at is not None
    assert server.lost_at is None  # the dead are told nothing
    assert network.connect(HERE, THERE, Peer) is None
    network.bind(THERE, lambda data, source: None)
    with pytest.raises(Killed):
        process.call(network.send, b"x", THERE, HERE)
