"""A bad line between two real ends, for UDP and TCP: late, lossy, out of order, narrow, cut.

    client ──▶ 127.0.0.2:20000 ═ up ═▶ 127.0.0.1:20000 target
           ◀──                 ◀ down ═

    async with Relay(Route("127.0.0.2", 20000, "127.0.0.1", ports=400), seed=1) as relay:
        relay.impair(loss=0.01, jitter_s=0.02)
        relay.partition(True, Way.UP)
        relay.counters(Way.UP).lost

`Direction` is the pure core: every packet's fate, drawn from the seed, and what is under way. Four
numbers are drawn for each packet, whatever is set, so that the n-th packet of a flow has the same
fate in each run, and a higher loss loses the same packets and others besides. `Relay` is the
sockets around two of them. One UDP socket towards the target for each client and port, so that the
target sees as many sources as there are and its answers find their way back.

Over TCP nothing gets lost: a lost segment is late by a retransmission, an overtaken one by the time
until it comes. A partition stops the flow and leaves the connections as they are. Not modelled: the
two ends' own keepalives and the opening of a connection, which this machine's kernel answers; a
connection that was opened into a partition gets no word through until it heals. Bytes are those of
the payload. A change of settings holds for what comes after it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import json
import os
import random
import signal
import socket
import stat
import struct
import sys
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from enum import Enum, StrEnum
from functools import partial
from typing import Any, cast

from simulators.process import die_with_parent
from vsp.errors import Conflict, Invalid, VspError

TIME_S_MAX = 60.0
"""Longest delay, jitter or overtaking; more is a partition."""
SEGMENT_BYTES = 1_448
"""Of TCP payload in an Ethernet frame: what one loss costs a retransmission."""
RESEND_S = 0.2
"""The least retransmission time of Linux; each further loss of the same segment doubles it."""
RESENDS_MAX = 6
"""Losses of one segment that count: 12.6 s late."""
UNDER_WAY_BYTES_MAX = 64 << 20
"""Datagrams of one direction on their way, 5 s of 100 Mbit/s; the newest are dropped."""
PACKET_OVERHEAD_BYTES = 200
"""What a waiting datagram costs beside its payload, so that many small ones are bounded too."""
STREAM_WAITING_BYTES_MAX = 256 << 10
"""Of one connection and direction; beyond it the sender is not read, and its kernel holds it up."""
FLOWS_MAX = 4_096
"""UDP clients and ports at a time, one socket each; the one longest silent gives way."""
FLOW_IDLE_S = 180.0
"""Silence that ends a flow: three heartbeats, or a keepalive would come from another port."""
CONNECTIONS_MAX = 4_096
"""TCP connections at a time, two sockets each; further ones are reset."""
PORTS_MAX = 4_096
"""Listening ports; each costs two sockets."""
PORT_LAST = 65_535
PORT_TRIES_MAX = 16
"""Tries to find a port that is free for UDP and TCP, or a pair of them."""
CONNECT_TIMEOUT_S = 5.0
"""Of a connection to the target."""
BUFFER_BYTES = 1 << 20
"""Kernel buffer of each UDP socket: a key frame comes all at once."""
READS_MAX = 64
"""Datagrams of one socket before the next one has its turn."""
DATAGRAM_BYTES_MAX = 65_535
CONTROL_LINE_BYTES_MAX = 4_096

Address = tuple[str, int]


class Way(StrEnum):
    """UP is from whoever turns to the relay to the target."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"

    @property
    def each(self) -> tuple[Way, ...]:
        return (Way.UP, Way.DOWN) if self is Way.BOTH else (self,)


@dataclass(frozen=True, slots=True)
class Impairment:
    """What one direction does to what it carries. All off by default.

    delay_s           of everything
    jitter_s          up to this on top, drawn for each packet; alone it never changes the order
    loss              chance of a datagram to vanish, of a TCP segment to be sent again
    reorder           chance of a packet to be held back by `reorder_s`, so that those behind it
                      overtake; a TCP segment holds up those behind it instead
    duplicate         chance of a datagram to come twice; over TCP nobody notices
    rate_bytes_per_s  of all flows together, of UDP and of TCP each; 0 is no limit
    queue_bytes       what may wait for that rate: datagrams beyond it are dropped; TCP is not read
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    reorder_s: float = 0.02
    duplicate: float = 0.0
    rate_bytes_per_s: float = 0.0
    queue_bytes: float = 256 << 10

    def __post_init__(self) -> None:
        for name in ("loss", "reorder", "duplicate"):
            _check(name, getattr(self, name), 1.0)
        for name in ("delay_s", "jitter_s", "reorder_s"):
            _check(name, getattr(self, name), TIME_S_MAX)
        for name in ("rate_bytes_per_s", "queue_bytes"):
            _check(name, getattr(self, name), float("inf"))


def _check(name: str, value: object, most: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= cast(float, value) <= most:
        raise Invalid(f"{name} is a number from 0 to {most:g}, not {value!r}")


CALM = Impairment()


@dataclass(slots=True)
class Counters:
    """Packets of one direction: datagrams, or segments of TCP.

    lost        by chance                      cut               by a partition
    reordered   held back to be overtaken      dropped_by_rate   no room in front of the rate
    duplicated  sent twice                     dropped_by_bound  UNDER_WAY_BYTES_MAX
    late        segments sent again            refused           by this machine's kernel
    """

    received: int = 0
    received_bytes: int = 0
    forwarded: int = 0
    forwarded_bytes: int = 0
    lost: int = 0
    reordered: int = 0
    duplicated: int = 0
    late: int = 0
    cut: int = 0
    dropped_by_rate: int = 0
    dropped_by_bound: int = 0
    refused: int = 0


# ---- the core -------------------------------------------------------------------------------


class Mark(Enum):
    """What passes through a lane of TCP beside bytes, and as late as they do."""

    OPEN = "connect to the target"
    END = "nothing more to say"
    RESET = "the connection has broken"


Payload = bytes | Mark
Draw = tuple[float, float, float, float]


class Lane:
    """One flow's share of a direction: its own chance and its own order.

    deliver  for whoever moves the bytes; nothing here calls it
    """

    def __init__(self, seed: str, deliver: Callable[[Payload], None]) -> None:
        self.deliver = deliver
        self.waiting_bytes = 0
        self.latest = float("-inf")
        self._random = random.Random(seed)

    def draw(self) -> Draw:
        """Numbers in [0, 1) for loss, order, double and jitter of one packet."""
        number = self._random.random
        return number(), number(), number(), number()

    def in_order(self, due: float) -> float:
        """`due`, or the moment of the packet before if that is later."""
        self.latest = max(self.latest, due)
        return self.latest


@dataclass(slots=True)
class Bottleneck:
    """The narrow place of a direction."""

    free_at: float = 0.0

    def passed_at(self, size_bytes: int, now: float, rate: float, queue_bytes: float) -> float:
        """When a packet is through; infinity when it finds no room to wait."""
        if not rate:
            return now
        wait_s = max(0.0, self.free_at - now)
        if wait_s and wait_s * rate + size_bytes > queue_bytes:
            return float("inf")
        self.free_at = now + wait_s + size_bytes / rate
        return self.free_at


@dataclass(slots=True)
class Direction:
    """Everything under way one way. All times `now` are seconds of the same clock."""

    impairment: Impairment = CALM
    partitioned: bool = False
    counters: Counters = field(default_factory=Counters)
    _datagrams: list[tuple[float, int, Lane, bytes]] = field(default_factory=list)
    _segments: list[tuple[float, int, Lane, Payload]] = field(default_factory=list)
    _datagram_rate: Bottleneck = field(default_factory=Bottleneck)
    _segment_rate: Bottleneck = field(default_factory=Bottleneck)
    _under_way_bytes: int = 0
    _order: int = 0

    # ---- fates ------------------------------------------------------------------------------

    def fate(self, lane: Lane, size_bytes: int, now: float) -> tuple[float, ...]:
        """When a datagram leaves: once, twice, or (empty) never."""
        loss, order, double, jitter = lane.draw()
        how, counters = self.impairment, self.counters
        if self.partitioned:
            counters.cut += 1
            return ()
        if loss < how.loss:
            counters.lost += 1
            return ()
        passed = self._datagram_rate.passed_at(
            size_bytes, now, how.rate_bytes_per_s, how.queue_bytes
        )
        if passed == float("inf"):
            counters.dropped_by_rate += 1
            return ()
        due = passed + how.delay_s + how.jitter_s * jitter
        if order < how.reorder:
            counters.reordered += 1
            due = max(due, lane.latest) + how.reorder_s
        else:
            due = lane.in_order(due)
        if double < how.duplicate:
            counters.duplicated += 1
            return (due, due)
        return (due,)

    def lateness(self, lane: Lane, size_bytes: int, now: float) -> float:
        """When a segment of TCP leaves: never before the one in front of it."""
        loss, order, _, jitter = lane.draw()
        how = self.impairment
        passed = self._segment_rate.passed_at(size_bytes, now, how.rate_bytes_per_s, float("inf"))
        due = passed + how.delay_s + how.jitter_s * jitter
        if loss < how.loss:
            self.counters.late += 1
            due += _resending_s(loss, how.loss)
        if order < how.reorder:
            self.counters.reordered += 1
            due += how.reorder_s
        return lane.in_order(due)

    # ---- what comes in ----------------------------------------------------------------------

    def datagram(self, lane: Lane, data: bytes, now: float) -> None:
        """One datagram enters."""
        self._received(len(data))
        for due in self.fate(lane, len(data), now):
            cost_bytes = len(data) + PACKET_OVERHEAD_BYTES
            if self._under_way_bytes + cost_bytes > UNDER_WAY_BYTES_MAX:
                self.counters.dropped_by_bound += 1
                continue
            self._under_way_bytes += cost_bytes
            self._order += 1
            heapq.heappush(self._datagrams, (due, self._order, lane, data))

    def bytes_of(self, lane: Lane, data: bytes, now: float) -> None:
        """Bytes of a connection enter; the caller heeds `lane.waiting_bytes`."""
        lane.waiting_bytes += len(data)
        for start in range(0, len(data), SEGMENT_BYTES):
            segment = data[start : start + SEGMENT_BYTES]
            self._received(len(segment))
            self._push(lane, segment, self.lateness(lane, len(segment), now))

    def mark(self, lane: Lane, mark: Mark, now: float) -> None:
        """A connection opens, ends or breaks: that, too, has to get through."""
        self._push(lane, mark, self.lateness(lane, 0, now))

    def _push(self, lane: Lane, payload: Payload, due: float) -> None:
        self._order += 1
        heapq.heappush(self._segments, (due, self._order, lane, payload))

    def _received(self, size_bytes: int) -> None:
        self.counters.received += 1
        self.counters.received_bytes += size_bytes

    def partition(self, on: bool) -> None:
        """Datagrams on their way are lost; bytes of a connection wait until it is over."""
        self.partitioned = on
        if on:
            self.counters.cut += len(self._datagrams)
            self._datagrams.clear()
            self._under_way_bytes = 0

    # ---- what goes out ----------------------------------------------------------------------

    def advance(self, now: float) -> list[tuple[Lane, Payload]]:
        """What leaves now, in order."""
        leaving: list[tuple[Lane, Payload]] = []
        while self._datagrams and self._datagrams[0][0] <= now:
            _, _, lane, data = heapq.heappop(self._datagrams)
            self._under_way_bytes -= len(data) + PACKET_OVERHEAD_BYTES
            self._forwarded(len(data))
            leaving.append((lane, data))
        while self._segments and self._segments[0][0] <= now and not self.partitioned:
            _, _, lane, payload = heapq.heappop(self._segments)
            if isinstance(payload, bytes):
                lane.waiting_bytes -= len(payload)
                self._forwarded(len(payload))
            leaving.append((lane, payload))
        return leaving

    def next_deadline(self) -> float | None:
        """When `advance` has something to give, as far as is known."""
        dues = [self._datagrams[0][0]] if self._datagrams else []
        if self._segments and not self.partitioned:
            dues.append(self._segments[0][0])
        return min(dues, default=None)

    def _forwarded(self, size_bytes: int) -> None:
        self.counters.forwarded += 1
        self.counters.forwarded_bytes += size_bytes


def _resending_s(drawn: float, loss: float) -> float:
    """What a lost segment costs. `drawn` < `loss`; below its square the second try is lost too."""
    resend_s = cost_s = RESEND_S
    for tries in range(2, RESENDS_MAX + 1):
        if drawn >= loss**tries:
            break
        resend_s *= 2
        cost_s += resend_s
    return cost_s


# ---- UDP ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Route:
    """Where a relay listens, and where it forwards to. Hosts are IPv4 addresses, not names.

    port_first     of the listening ports; 0, for a single one, takes a free one
    to_port_first  the n-th listening port forwards to the n-th port from here; 0: the same ports
    upstream_host  own address towards the target; "" leaves it to the routing table
    rtp_pairs      an even port carries RTP and the next one its RTCP: clients on a pair of ports
                   get a pair towards the target (RFC 3550 11), so that its RTCP comes back
    """

    host: str
    port_first: int
    to_host: str
    to_port_first: int = 0
    ports: int = 1
    upstream_host: str = ""
    udp: bool = True
    tcp: bool = True
    rtp_pairs: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.ports <= PORTS_MAX:
            raise Invalid(f"a relay has 1 to {PORTS_MAX} ports, not {self.ports}")
        if not self.port_first and (self.ports > 1 or not self.to_port_first):
            raise Invalid("a free port can be taken only for one, with a port to forward to")
        last = max(self.port_first, self.to_port_first) + self.ports - 1
        if last > PORT_LAST:
            raise Invalid(f"there is no port {last}")
        if not (self.udp or self.tcp):
            raise Invalid("a relay carries UDP or TCP or both")

    def target(self, index: int) -> Address:
        """Where the listening port number `index` forwards to."""
        return self.to_host, (self.to_port_first or self.port_first) + index


class _Flow:
    """One UDP client at one listening port. `partner` is the other half of an RTP pair."""

    def __init__(self, relay: Relay, index: int, client: Address, upstream: socket.socket) -> None:
        self.index = index
        self.client = client
        self.upstream = upstream
        self.seen = 0.0
        self.partner: _Flow | None = None
        self._relay = relay
        number = relay.number("udp", index)
        self.up = Lane(relay.seed_of("udp", index, number, Way.UP), self._deliver_up)
        self.down = Lane(relay.seed_of("udp", index, number, Way.DOWN), self._deliver_down)
        asyncio.get_running_loop().add_reader(upstream.fileno(), self._read)

    @property
    def key(self) -> tuple[int, Address]:
        return self.index, self.client

    def _read(self) -> None:
        for data, _ in _datagrams(self.upstream):
            self._relay.touch(self)
            self._relay.datagram(Way.DOWN, self.down, data)
        self._relay.pump()

    def _deliver_up(self, payload: Payload) -> None:
        assert isinstance(payload, bytes), "UDP carries no marks"
        try:
            self.upstream.send(payload)
        except OSError:  # nobody listens there, no room, or the flow has ended meanwhile
            self._relay.counters(Way.UP).refused += 1

    def _deliver_down(self, payload: Payload) -> None:
        assert isinstance(payload, bytes), "UDP carries no marks"
        try:
            self._relay.listener(self.index).sendto(payload, self.client)
        except OSError:
            self._relay.counters(Way.DOWN).refused += 1

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.upstream.fileno())
        self.upstream.close()


def _datagrams(sock: socket.socket) -> Iterator[tuple[bytes, Address]]:
    """What waits in a socket, up to a turn's share."""
    for _ in range(READS_MAX):
        try:
            yield sock.recvfrom(DATAGRAM_BYTES_MAX)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            continue  # ICMP about something sent earlier; the socket itself is sound


def _bound(kind: socket.SocketKind, address: Address) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.setblocking(False)
    if kind is socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    else:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    try:
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _bound_pair(host: str) -> tuple[socket.socket, socket.socket]:
    """An even port and the odd one above it."""
    for _ in range(PORT_TRIES_MAX):
        first = _bound(socket.SOCK_DGRAM, (host, 0))
        port = first.getsockname()[1]
        with suppress(OSError):  # the neighbour is somebody else's: try elsewhere
            second = _bound(socket.SOCK_DGRAM, (host, port ^ 1))
            return (second, first) if port % 2 else (first, second)
        first.close()
    raise Conflict(f"no pair of UDP ports is free on {host}")


# ---- TCP ------------------------------------------------------------------------------------


class _End(asyncio.Protocol):
    """One of the two sockets of a connection. What it says goes through its lane to the other."""

    def __init__(self, connection: _Connection, way: Way) -> None:
        self._connection = connection
        self._way = way
        self.transport: asyncio.Transport | None = None
        self.congested = False
        self._said_all = False
        self._told_all = False
        relay, index, number = connection.relay, connection.index, connection.number
        self.lane = Lane(relay.seed_of("tcp", index, number, way), self._deliver)

    @property
    def other(self) -> _End:
        return self._connection.server if self._way is Way.UP else self._connection.client

    # ---- from the socket --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._connection.made(self)

    def data_received(self, data: bytes) -> None:
        self._connection.relay.stream_bytes(self._way, self.lane, data)
        self.throttle()

    def eof_received(self) -> bool:
        self._said_all = True
        self._connection.relay.stream_mark(self._way, self.lane, Mark.END)
        self._close_when_done()
        return True  # the other half stays open until its own end

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not (self._said_all and self._told_all):
            self._connection.relay.stream_mark(self._way, self.lane, Mark.RESET)
        self._connection.forget_when_over()

    def pause_writing(self) -> None:
        self.congested = True
        self.other.throttle()

    def resume_writing(self) -> None:
        self.congested = False
        self.other.throttle()

    # ---- from the lane ----------------------------------------------------------------------

    def _deliver(self, payload: Payload) -> None:
        """What this end said has come through."""
        if payload is Mark.OPEN:
            self._connection.connect()
        else:
            self.other.tell(payload)
        self.throttle()

    def tell(self, payload: Payload) -> None:
        """To whoever is behind this socket."""
        if payload is Mark.RESET:
            self.reset()
        elif self.transport is None:
            return
        elif isinstance(payload, bytes):
            self.transport.write(payload)
        else:
            self._told_all = True
            self.transport.write_eof()
            self._close_when_done()

    def _close_when_done(self) -> None:
        if self._said_all and self._told_all and self.transport is not None:
            self.transport.close()

    def throttle(self) -> None:
        """Read only while both the lane and the other socket take it."""
        if self.transport is None or self.transport.is_closing() or self._said_all:
            return
        ready = self.other.transport is not None and not self.other.congested
        if ready and self.lane.waiting_bytes <= STREAM_WAITING_BYTES_MAX:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def reset(self) -> None:
        """Break the connection at once: RST, not FIN."""
        self._connection.cancel()
        if self.transport is not None:
            sock = self.transport.get_extra_info("socket")
            with suppress(OSError):  # broken already
                at_once = struct.pack("ii", 1, 0)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            self.transport.abort()


class _Connection:
    """A client's connection to one listening port and ours to the target."""

    def __init__(self, relay: Relay, index: int) -> None:
        self.relay = relay
        self.index = index
        self.number = relay.number("tcp", index)
        self.client = _End(self, Way.UP)
        self.server = _End(self, Way.DOWN)
        self._connecting: asyncio.Task[None] | None = None

    def made(self, end: _End) -> None:
        """The client's end waits until the target's is there: nothing is read meanwhile."""
        if end is self.server:
            self.client.throttle()
            return
        end.throttle()
        if self.relay.admit(self):
            self.relay.stream_mark(Way.UP, end.lane, Mark.OPEN)
        else:
            end.reset()

    def connect(self) -> None:
        if self.client.transport is not None and self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        route = self.relay.route
        local = (route.upstream_host, 0) if route.upstream_host else None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().create_connection(
                    lambda: self.server, *route.target(self.index), local_addr=local
                )
        except (OSError, TimeoutError):
            self.client.reset()

    def cancel(self) -> None:
        if self._connecting is not None and self._connecting is not asyncio.current_task():
            self._connecting.cancel()

    def reset(self) -> None:
        self.client.reset()
        self.server.reset()

    def forget_when_over(self) -> None:
        if self.client.transport is None and self.server.transport is None:
            self.cancel()
            self.relay.forget(self)

    async def over(self) -> None:
        """Nothing of it runs any more."""
        if self._connecting is not None:
            await asyncio.wait({self._connecting})


# ---- both -----------------------------------------------------------------------------------


class Relay:
    """See the module. Use as `async with`; raises Conflict when a port is taken."""

    def __init__(
        self,
        route: Route,
        *,
        seed: int | str = 0,
        up: Impairment = CALM,
        down: Impairment = CALM,
        flows_max: int = FLOWS_MAX,
        idle_s: float = FLOW_IDLE_S,
    ) -> None:
        self.route = route
        self._seed = seed
        self._ways = {Way.UP: Direction(up), Way.DOWN: Direction(down)}
        self._flows_max = flows_max
        self._idle_s = idle_s
        self._listeners: list[socket.socket] = []
        self._servers: list[asyncio.Server] = []
        self._flows: OrderedDict[tuple[int, Address], _Flow] = OrderedDict()
        self._connections: set[_Connection] = set()
        self._numbers: Counter[tuple[str, int]] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def __aenter__(self) -> Relay:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    # ---- for the owner ----------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The (first) listening port."""
        return self.route.port_first

    @property
    def flows(self) -> int:
        """UDP clients and ports with a socket of their own."""
        return len(self._flows)

    @property
    def connections(self) -> int:
        return len(self._connections)

    def counters(self, way: Way) -> Counters:
        """UP's or DOWN's, counting on."""
        return self._ways[way].counters

    def impair(self, way: Way = Way.BOTH, /, **changes: float) -> None:
        """Change these fields of `Impairment`, keep the others. Raises Invalid."""
        known = {one.name for one in dataclasses.fields(Impairment)}
        if unknown := changes.keys() - known:
            raise Invalid(f"{sorted(unknown)[0]!r} is not one of {', '.join(sorted(known))}")
        for one in way.each:
            direction = self._ways[one]
            direction.impairment = dataclasses.replace(direction.impairment, **changes)

    def calm(self, way: Way = Way.BOTH) -> None:
        """No impairment any more; a partition is not one."""
        for one in way.each:
            self._ways[one].impairment = CALM

    def partition(self, on: bool, way: Way = Way.BOTH) -> None:
        """Cut the line, or mend it."""
        for one in way.each:
            self._ways[one].partition(on)
        self.pump()

    def reset_connections(self) -> int:
        """Break every TCP connection, at both ends. Returns how many there were."""
        broken = list(self._connections)
        for connection in broken:
            connection.reset()
        return len(broken)

    async def start(self) -> None:
        """Listen. Raises Conflict."""
        try:
            await self._listen()
        except OSError as error:
            await self.close()
            raise Conflict(f"{self.route.host}:{self.route.port_first}: {error}") from error
        except BaseException:
            await self.close()
            raise
        self._sweep()

    async def close(self) -> None:
        """Break what runs and free the ports."""
        self._closed = True
        for timer in (self._timer, self._sweep_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._sweep_timer = None
        for server in self._servers:
            server.close()
        for connection in list(self._connections):
            connection.reset()
            await connection.over()
        for flow in list(self._flows.values()):
            self._end(flow)
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener.fileno())
            listener.close()
        self._servers, self._listeners = [], []
        await asyncio.sleep(0)  # lets the transports' own last callbacks run

    # ---- listening --------------------------------------------------------------------------

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for index, (datagrams, streams) in enumerate(self._sockets()):
            if datagrams is not None:
                self._listeners.append(datagrams)
                loop.add_reader(datagrams.fileno(), self._read, index)
            if streams is not None:
                factory = partial(self._accepted, index)
                self._servers.append(await loop.create_server(factory, sock=streams))

    def _sockets(self) -> Iterator[tuple[socket.socket | None, socket.socket | None]]:
        """The sockets of each listening port."""
        if not self.route.port_first:
            port, *both = self._free_port()
            self.route = dataclasses.replace(self.route, port_first=port)
            yield both[0], both[1]
            return
        for port in range(self.route.port_first, self.route.port_first + self.route.ports):
            yield self._bound(port)

    def _free_port(self) -> tuple[int, socket.socket | None, socket.socket | None]:
        """One that is free for all that the route carries."""
        for _ in range(PORT_TRIES_MAX):
            kind = socket.SOCK_STREAM if self.route.tcp else socket.SOCK_DGRAM
            with _bound(kind, (self.route.host, 0)) as probe:
                port = probe.getsockname()[1]
            with suppress(OSError):  # taken for the other kind
                return port, *self._bound(port)
        raise Conflict(f"no port is free on {self.route.host}")

    def _bound(self, port: int) -> tuple[socket.socket | None, socket.socket | None]:
        address = (self.route.host, port)
        datagrams = _bound(socket.SOCK_DGRAM, address) if self.route.udp else None
        try:
            return datagrams, _bound(socket.SOCK_STREAM, address) if self.route.tcp else None
        except OSError:
            if datagrams is not None:
                datagrams.close()
            raise

    def listener(self, index: int) -> socket.socket:
        """The UDP socket of a listening port."""
        return self._listeners[index]

    # ---- UDP --------------------------------------------------------------------------------

    def _read(self, index: int) -> None:
        for data, client in _datagrams(self._listeners[index]):
            try:
                flow = self._flows.get((index, client)) or self._open(index, client)
            except (OSError, Conflict):  # out of sockets or ports: as good as lost
                self.counters(Way.UP).refused += 1
                continue
            self.touch(flow)
            self.datagram(Way.UP, flow.up, data)
        self.pump()

    def datagram(self, way: Way, lane: Lane, data: bytes) -> None:
        """One has come; `pump` follows."""
        self._ways[way].datagram(lane, data, self._now())

    def touch(self, flow: _Flow) -> None:
        """It lives, and so does its pair's other half."""
        for half in (flow.partner, flow):
            if half is not None and half.key in self._flows:
                half.seen = self._now()
                self._flows.move_to_end(half.key)

    def _open(self, index: int, client: Address) -> _Flow:
        """A flow for a client that has none; on a pair of ports two of them."""
        while len(self._flows) + 2 > self._flows_max and self._flows:
            self._end(next(iter(self._flows.values())))
        route = self.route
        port, odd = route.port_first + index, client[1] % 2
        other = (port ^ 1) - route.port_first
        paired = route.rtp_pairs and port % 2 == odd and 0 <= other < route.ports
        if not paired:
            own = _bound(socket.SOCK_DGRAM, (route.upstream_host, 0))
            return self._opened({index: own}, client)[0]
        pair = _bound_pair(route.upstream_host)
        flow, partner = self._opened({index: pair[odd], other: pair[1 - odd]}, client)
        flow.partner, partner.partner = partner, flow
        return flow

    def _opened(self, upstreams: Mapping[int, socket.socket], client: Address) -> list[_Flow]:
        """Flows of a client and, where there are two, of the port beside its own."""
        try:
            for index, upstream in upstreams.items():
                upstream.connect(self.route.target(index))
        except OSError:
            for upstream in upstreams.values():
                upstream.close()
            raise
        clients = (client, (client[0], client[1] ^ 1))
        flows = [
            _Flow(self, index, whose, upstream)
            for (index, upstream), whose in zip(upstreams.items(), clients, strict=False)
        ]
        for flow in flows:
            flow.seen = self._now()
            self._flows[flow.key] = flow
        return flows

    def _end(self, flow: _Flow) -> None:
        for half in (flow.partner, flow):
            if half is not None and self._flows.pop(half.key, None) is not None:
                half.close()

    def _sweep(self) -> None:
        """End the flows that have been silent for too long; the first one is the most silent."""
        while self._flows and self._now() - next(iter(self._flows.values())).seen >= self._idle_s:
            self._end(next(iter(self._flows.values())))
        loop = asyncio.get_running_loop()
        self._sweep_timer = loop.call_later(self._idle_s / 4, self._sweep)

    # ---- TCP --------------------------------------------------------------------------------

    def _accepted(self, index: int) -> asyncio.Protocol:
        return _Connection(self, index).client

    def admit(self, connection: _Connection) -> bool:
        """Whether there is room for one more."""
        if len(self._connections) >= CONNECTIONS_MAX:
            return False
        self._connections.add(connection)
        return True

    def forget(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    def stream_bytes(self, way: Way, lane: Lane, data: bytes) -> None:
        self._ways[way].bytes_of(lane, data, self._now())
        self.pump()

    def stream_mark(self, way: Way, lane: Lane, mark: Mark) -> None:
        self._ways[way].mark(lane, mark, self._now())
        self.pump()

    # ---- time and chance --------------------------------------------------------------------

    def number(self, kind: str, index: int) -> int:
        """Counts the flows of a port: the seed of the next one has this number."""
        self._numbers[kind, index] += 1
        return self._numbers[kind, index]

    def seed_of(self, kind: str, index: int, number: int, way: Way) -> str:
        """Without addresses, which are others in each run."""
        return f"{self._seed}/{kind}/{index}/{number}/{way}"

    def pump(self) -> None:
        """Let out what is due, and wake up for what comes next."""
        if self._closed:
            return
        for direction in self._ways.values():
            for lane, payload in direction.advance(self._now()):
                lane.deliver(payload)
        self._arm()

    def _arm(self) -> None:
        dues = [due for one in self._ways.values() if (due := one.next_deadline()) is not None]
        due = min(dues, default=None)
        if self._timer is not None:
            if due is not None and self._timer.when() <= due and not self._timer.cancelled():
                return
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = None if due is None else loop.call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.pump()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


# ---- the command ----------------------------------------------------------------------------

WORDS = """A bad line between two real ends, UDP and TCP: late, lossy, out of order, narrow, cut.
The same seed gives the n-th packet of a flow the same fate.

It says `ready {...}` on stdout, with its ports, and then reads one JSON object a line
from stdin, each answered by one on stdout: {"ok": true, ...} or {"error": "..."}.

  {"do": "impair", "way": "up", "loss": 0.05, "jitter_s": 0.02}   change these, keep the others
  {"do": "calm"}                                                  none any more
  {"do": "partition", "on": true, "way": "down"}                  cut, or with false mend
  {"do": "reset"}                                                 break every TCP connection
  {"do": "counters"}                                              what has happened so far

"way" is up (towards the target), down or both (when it is left out). It ends with its parent, and
within 2 s of SIGTERM; the end of stdin only ends the control."""


def obey(relay: Relay, line: bytes) -> Mapping[str, object]:
    """The answer to one line of control, done."""
    try:
        order = json.loads(line)
        if not isinstance(order, dict):
            raise Invalid("an order is a JSON object")
        return {"ok": True, **_obey(relay, order)}
    except (ValueError, VspError) as error:
        return {"error": error.message if isinstance(error, VspError) else str(error)}


def _obey(relay: Relay, order: dict[str, Any]) -> Mapping[str, object]:
    do, way = order.pop("do", None), Way(order.pop("way", Way.BOTH))
    match do:
        case "impair":
            relay.impair(way, **order)
            return {}
        case "partition":
            on = order.pop("on", None)
            if not isinstance(on, bool):
                raise Invalid("a partition is on (true) or off (false)")
            relay.partition(on, way)
        case "calm":
            relay.calm(way)
        case "reset":
            return {"reset": relay.reset_connections()}
        case "counters":
            return {str(one): asdict(relay.counters(one)) for one in way.each}
        case _:
            raise Invalid(f"do is impair, calm, partition, reset or counters, not {do!r}")
    return {}


async def run_until_stopped(relay: Relay) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with relay:
        route = relay.route
        ready = {"host": route.host, "port_first": route.port_first, "ports": route.ports}
        _say(f"ready {json.dumps({**ready, 'to': list(route.target(0))})}")
        control = loop.create_task(_control(relay))
        try:
            await stop.wait()
        finally:
            control.cancel()
            await asyncio.gather(control, return_exceptions=True)


async def _control(relay: Relay) -> None:
    """Obey the lines of stdin, if it is anything that orders can come through."""
    mode = os.fstat(sys.stdin.fileno()).st_mode
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or sys.stdin.isatty()):
        return
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=CONTROL_LINE_BYTES_MAX)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while True:
            try:
                line = await reader.readline()
            except ValueError:  # the reader has dropped it
                _say(json.dumps({"error": f"a line has at most {CONTROL_LINE_BYTES_MAX} bytes"}))
                continue
            if not line:
                return
            _say(json.dumps(obey(relay, line)))
    finally:
        transport.close()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(relay: Relay) -> int:
    """`python -m simulators relay ...`."""
    die_with_parent()
    asyncio.run(run_until_stopped(relay))
    return 0


__all__ = [
    "CALM",
    "WORDS",
    "Bottleneck",
    "Counters",
    "Direction",
    "Impairment",
    "Lane",
    "Mark",
    "Relay",
    "Route",
    "Way",
    "main",
    "obey",
]
