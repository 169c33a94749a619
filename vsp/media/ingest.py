"""Sockets of the media plane: one even port per stream, for UDP and TCP, RTCP on the next one.

A port per session keeps streams apart by construction and gives each seconds of kernel buffer, so
streams that nobody watches are read only every `drain_interval_ms`, all in one go, many packets at
a time into one buffer shared by the worker; watched ones are read as packets come.

Only what the answer promised gets through. Before `bind` packets wait in a bounded quarantine. Then
the first RTP packet from an allowed host fixes (address, port, SSRC) for the life of the session;
everything else is counted as foreign and goes no further. Over TCP the connection takes the place
of address and port; a stranger's is closed. There is no second choice: a sender that has really
moved gets a new session by a new INVITE (RTP injection would look the same).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from vsp.errors import Exhausted, Invalid, Unavailable
from vsp.media.core import rtp
from vsp.media.core.framing import Rfc4571
from vsp.media.datagrams import (
    SLOT_BYTES,
    SLOTS,
    Datagrams,
    Source,
    plain_host,
    stamp_arrivals,
)
from vsp.model.device import MediaTransport
from vsp.model.stream import RemoteMedia
from vsp.ports import Clock, Ids

log = structlog.get_logger(__name__)

ROUNDS_MAX = 8
"""System calls for one stream before the next one has its turn: a flood stays its own problem."""

TCP_READ_BYTES = 256 << 10
"""Bytes of one TCP read: 60 ms of a 35 Mbit/s stream."""

TURN_S = 0.008
"""Reading longer than this lets the rest of the loop run first (budget: lag p99 <= 20 ms).

Within that, all streams are read in one go: after each sleep the first one finds cold caches and
costs several times as much as those behind it."""

YIELDS = 2
"""Rounds of the loop between two turns: one finds what has become due, the next one runs the tasks
that were waiting for it. With a single one they would wait for three turns."""

HELD_PACKETS_MAX = 512
"""Packets kept per session until the answer is known: half a second of a 10 Mbit/s stream."""

HELD_CONNECTIONS_MAX = 4
"""TCP connections waiting unread for the answer; more are closed."""

CONNECT_TRIES = 3
CONNECT_WAIT_S = 1.0
CONNECT_TIMEOUT_S = 3.0
"""TCP active: at least three tries, at least a second apart (GB/T 28181-2022 annex D)."""


class Sink(Protocol):
    """Who gets what a port lets through. Views in bursts are only good during the call."""

    def media(self, bursts: list[rtp.Burst], now: float) -> None: ...
    def control(self, packets: Sequence[bytes], now: float) -> None: ...
    def broken(self, cause: str) -> None:
        """Nothing will come any more: the sender could not be reached over TCP."""
        ...


FORMER_REFUSED_S = 1.0
"""Longer than packets of an ended dialog stay in network and buffers; a device that goes on from
the same port with the same SSRC loses this much of its new dialog."""


@dataclass(slots=True)
class PortStats:
    """Counted per RTP packet, but for `bytes`. foreign: from a source that is not the stream's."""

    packets: int = 0
    bytes: int = 0
    foreign: int = 0
    truncated: int = 0
    rejected: int = 0
    held_dropped: int = 0
    foreign_source: str = ""


class MediaPort:
    """One session's sockets. Made by `Ingest.open`."""

    def __init__(self, ingest: Ingest, sink: Sink, port: int, sockets: _Sockets) -> None:
        self.port = port
        self.stats = PortStats()
        self.ssrc: int | None = None
        self.source: Source | None = None
        self._ingest = ingest
        self._sink = sink
        self._sockets = sockets
        self._allowed: frozenset[str] | None = None
        self._held: deque[tuple[Source, bytes, int]] = deque()
        self._held_connections: list[tuple[socket.socket, str]] = []
        self._connection: socket.socket | None = None
        self._deframer = Rfc4571()
        self._watched = False
        self._closed = False
        self._connecting: asyncio.Task[None] | None = None
        self._former: tuple[Source, int | None] | None = None
        self._former_until = 0.0
        loop = asyncio.get_running_loop()
        loop.add_reader(sockets.listener.fileno(), self._accept)
        loop.add_reader(sockets.rtcp.fileno(), self._read_rtcp)

    # ---- what the session asks for ----------------------------------------------------------

    def bind(self, remote: RemoteMedia, transport: MediaTransport) -> None:
        """From now on packets of these hosts count; what was held is judged. Idempotent."""
        self._allowed = frozenset(plain_host(host) for host in remote.hosts)
        held, self._held = self._held, deque()
        for source, packet, arrival_us in held:
            self._judge(memoryview(packet), source, arrival_us)
        waiting, self._held_connections = self._held_connections, []
        for connection, host in waiting:
            self._admit(connection, host)
        if transport is MediaTransport.TCP_ACTIVE and self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(remote))

    def unpin(self) -> None:
        """A new dialog: whoever comes first from its hosts is the stream's sender.

        For a moment packets of the former sender with the former SSRC do not count: they were on
        their way when the old dialog ended.
        """
        if self._connection is not None and self.ssrc is None:
            self._hold_connection(self._connection)
        elif self._connection is not None:
            self._disconnected(self._connection, "a new dialog has begun")
        if self.source is not None:
            self._former = self.source, self.ssrc
            self._former_until = self._ingest.clock.monotonic() + FORMER_REFUSED_S
        self.source = self.ssrc = self._allowed = None
        if self._connecting is not None and self._connecting.done():
            self._connecting = None

    def _hold_connection(self, connection: socket.socket) -> None:
        """One that has brought nothing yet: a device connects once it has answered, which may be
        before we are told of the answer."""
        assert self.source is not None, "a connection has a source"
        if self._watched:
            asyncio.get_running_loop().remove_reader(connection.fileno())
        self._held_connections.append((connection, self.source.host))
        self._connection = self.source = None

    def _is_former(self, source: Source, ssrc: int) -> bool:
        if self._former is None or self._ingest.clock.monotonic() > self._former_until:
            return False
        former, former_ssrc = self._former
        return ssrc == former_ssrc and str(source) == str(former)

    def watch(self, watched: bool) -> None:
        """Read as packets come while somebody looks."""
        if watched == self._watched or self._closed:
            return
        self._watched = watched
        loop = asyncio.get_running_loop()
        for sock in self._media_sockets():
            if watched:
                loop.add_reader(sock.fileno(), self.drain)
            else:
                loop.remove_reader(sock.fileno())

    def send_rtcp(self, data: bytes) -> None:
        """To the sender's RTCP port, best effort. Over TCP none is sent: devices do not read it."""
        if self.source is not None and self._connection is None and self.source.port < 65535:
            try:
                self._sockets.rtcp.sendto(data, (self.source.host, self.source.port + 1))
            except OSError as error:
                log.debug("RTCP not sent", to=str(self.source), why=str(error))

    def close(self) -> None:
        if self._closed:
            return
        self.watch(False)
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sockets.listener.fileno())
        loop.remove_reader(self._sockets.rtcp.fileno())
        for connection, _ in self._held_connections:
            connection.close()
        if self._connection is not None:
            self._connection.close()
        self._sockets.close()
        self._ingest.forget(self)

    # ---- reading ----------------------------------------------------------------------------

    def drain(self) -> None:
        """Read what waits. An error of ours ends this stream only, never the worker."""
        if self._closed:
            return
        try:
            self._drain_udp()
            if self._connection is not None:
                self._drain_tcp(self._connection)
        except Exception as error:
            log.exception("stream given up", port=self.port)
            self._sink.broken(f"internal error while reading: {error}")

    def _drain_udp(self) -> None:
        datagrams = self._ingest.datagrams
        fd = self._sockets.rtp.fileno()
        for _ in range(ROUNDS_MAX):
            count = datagrams.receive(fd)
            if count:
                self._sort_out(datagrams, count)
            if count < SLOTS:
                return

    def _sort_out(self, datagrams: Datagrams, count: int) -> None:
        """Datagrams of the pinned source go on as one batch; anything else goes one by one."""
        frames = datagrams.frames()
        self.stats.truncated += len(datagrams.truncated())
        source = self.source
        if source is None or self._connection is not None:
            for index, frame in enumerate(frames):
                self._judge(frame, datagrams.source(index), self._arrival_us(index))
        elif datagrams.all_from(source):
            self._deliver(frames, self._arrival_us)
        else:
            self._deliver_some(datagrams, frames, source)

    def _deliver_some(self, datagrams: Datagrams, frames: list[memoryview], source: Source) -> None:
        """Strangers are among them."""
        ours = datagrams.from_source(source)
        stranger = next(index for index in range(len(frames)) if index not in ours)
        self._foreign(len(frames) - len(ours), str(datagrams.source(stranger)))
        self._deliver([frames[i] for i in ours], lambda at: self._arrival_us(ours[at]))

    def _arrival_us(self, index: int) -> int:
        return self._ingest.datagrams.arrival_us(index) or self._ingest.clock.now_us()

    def _judge(self, frame: memoryview, source: Source, arrival_us: int) -> None:
        """Nobody is pinned yet: hold, take the first allowed sender, or count."""
        if self.source is not None or self._connection is not None:
            self._judge_pinned(frame, source, arrival_us)
        elif self._allowed is None:
            self._hold(frame, source, arrival_us)
        elif source.host not in self._allowed:
            self._foreign(1, str(source))
        elif (header := rtp.parse_header(frame)) is None:
            self.stats.rejected += 1
        elif self._is_former(source, header.ssrc):
            self._foreign(1, f"{source} of the dialog before")
        else:
            self.source = source
            self._deliver([frame], lambda _: arrival_us)

    def _judge_pinned(self, frame: memoryview, source: Source, arrival_us: int) -> None:
        if self._connection is None and str(source) == str(self.source):
            self._deliver([frame], lambda _: arrival_us)
        else:
            self._foreign(1, str(source))

    def _hold(self, frame: memoryview, source: Source, arrival_us: int) -> None:
        if len(self._held) >= HELD_PACKETS_MAX:
            self._held.popleft()
            self.stats.held_dropped += 1
        self._held.append((source, bytes(frame), arrival_us))

    def _foreign(self, count: int, source: str) -> None:
        self.stats.foreign += count
        self.stats.foreign_source = source

    def _deliver(self, frames: list[memoryview], arrival_us: Callable[[int], int]) -> None:
        """Frames of the right source: the first SSRC is the stream's, any other is foreign."""
        bursts, reports, rejected = rtp.collect(frames, arrival_us)
        self.stats.rejected += rejected
        if bursts:
            self.stats.bytes += sum(map(len, frames))
            self._media(bursts)
        if reports:
            packets = [bytes(packet) for packet in reports]
            self._sink.control(packets, self._ingest.clock.monotonic())

    def _media(self, bursts: list[rtp.Burst]) -> None:
        if self.ssrc is None:
            self.ssrc = bursts[0].ssrc
        packets = 0
        ours = []
        for burst in bursts:
            if burst.ssrc == self.ssrc:
                packets += len(burst.parts)
                ours.append(burst)
            else:
                self._foreign(len(burst.parts), f"{self.source} with another SSRC")
        self.stats.packets += packets
        self._sink.media(ours, self._ingest.clock.monotonic())

    def _read_rtcp(self) -> None:
        """Reports of the stream's own host; another's are not even counted."""
        packets = []
        for _ in range(ROUNDS_MAX):
            try:
                data, address = self._sockets.rtcp.recvfrom(SLOT_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                continue
            if self.source is not None and plain_host(address[0]) == self.source.host:
                packets.append(data)
        if packets:
            self._sink.control(packets, self._ingest.clock.monotonic())

    # ---- TCP --------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, address = self._sockets.listener.accept()
        except OSError as error:
            log.debug("accept failed", port=self.port, why=str(error))
            return
        connection.setblocking(False)
        host = plain_host(address[0])
        if self._allowed is not None:
            self._admit(connection, host)
        elif len(self._held_connections) < HELD_CONNECTIONS_MAX:
            self._held_connections.append((connection, host))
        else:
            connection.close()

    def _admit(self, connection: socket.socket, host: str) -> None:
        """One connection from an allowed host; it ends a pin by UDP that never brought media."""
        assert self._allowed is not None
        if host not in self._allowed or self._connection is not None or self.source is not None:
            self._foreign(1, f"{host} over TCP")
            connection.close()
            return
        name = connection.getpeername()
        self._connection = connection
        self.source = Source.of(host, name[1])
        self.ssrc = None
        self._deframer = Rfc4571()
        if self._watched:
            asyncio.get_running_loop().add_reader(connection.fileno(), self.drain)

    def _drain_tcp(self, connection: socket.socket) -> None:
        for _ in range(ROUNDS_MAX):
            try:
                data = connection.recv(TCP_READ_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._disconnected(connection, str(error))
                return
            if not data:
                self._disconnected(connection, "closed by the sender")
                return
            try:
                self._unframe(data)
            except Invalid as error:
                self.stats.rejected += 1
                self._disconnected(connection, str(error))
                return
            if len(data) < TCP_READ_BYTES:
                return

    def _unframe(self, data: bytes) -> None:
        """A connection has no stamps: what is read came now. Raises Invalid."""
        now_us = self._ingest.clock.now_us()
        self._deliver(self._deframer.feed(data), lambda _: now_us)

    def _disconnected(self, connection: socket.socket, why: str) -> None:
        """Free the place: the same host may connect again, which nobody else can pretend to."""
        log.info("media connection ended", port=self.port, peer=str(self.source), why=why)
        if self._watched:
            asyncio.get_running_loop().remove_reader(connection.fileno())
        connection.close()
        self._connection = self.source = None

    async def _connect(self, remote: RemoteMedia) -> None:
        """TCP active: we connect to where the answer says that the sender listens, if we may.

        Behind a translator that is its signalling address: each place is tried in turn.
        """
        places = [(host, remote.port) for host in remote.dial]
        cause = "" if places else "there is none that we may connect to"
        for attempt in range(CONNECT_TRIES * len(places)):
            if attempt and attempt % len(places) == 0:
                await asyncio.sleep(CONNECT_WAIT_S)
            address = places[attempt % len(places)]
            sock = socket.socket(self._sockets.rtp.family, socket.SOCK_STREAM)
            sock.setblocking(False)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await asyncio.get_running_loop().sock_connect(sock, address)
            except (OSError, TimeoutError) as error:
                sock.close()
                cause = str(error) or "timed out"
                continue
            except asyncio.CancelledError:
                sock.close()
                raise
            self._admit(sock, plain_host(address[0]))
            return
        shown = ", ".join(f"{host}:{port}" for host, port in places) or f"port {remote.port}"
        self._sink.broken(f"no TCP connection to {shown}: {cause}")

    def _media_sockets(self) -> list[socket.socket]:
        found = [self._sockets.rtp]
        return found if self._connection is None else [*found, self._connection]


@dataclass(frozen=True, slots=True)
class _Sockets:
    rtp: socket.socket
    rtcp: socket.socket
    listener: socket.socket

    def close(self) -> None:
        for sock in (self.rtp, self.rtcp, self.listener):
            sock.close()


class Ingest:
    """Every media port of a worker, and the task that drains those that nobody watches.

    ports  first and last port of the worker, both inclusive
    """

    def __init__(
        self,
        host: str,
        ports: tuple[int, int],
        receive_buffer_bytes: int,
        drain_interval_s: float,
        clock: Clock,
        ids: Ids,
    ) -> None:
        self.datagrams = Datagrams()
        self.clock = clock
        self._host = "127.0.0.1" if host == "localhost" else host
        self._family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._first, self._last = ports
        self._receive_buffer_bytes = receive_buffer_bytes
        self._drain_interval_s = drain_interval_s
        self._ids = ids
        self._open: dict[int, MediaPort] = {}
        self._any = asyncio.Event()

    def open(self, sink: Sink) -> MediaPort:
        """A free even port, at random: a guessed port is one of a thousand. Raises Exhausted."""
        pairs = (self._last + 1 - self._first) // 2
        begin = self._ids.number(pairs)
        for step in range(pairs):
            port = self._first + (begin + step) % pairs * 2
            if port in self._open:
                continue
            sockets = self._bind(port)
            if sockets is not None:
                return self._add(MediaPort(self, sink, port, sockets))
        raise Exhausted(
            f"all {pairs} media ports from {self._first} to {self._last} are taken",
            next_step="raise media.ports_per_worker, or start more workers",
        )

    def forget(self, port: MediaPort) -> None:
        self._open.pop(port.port, None)

    async def run(self) -> None:
        """Drain every port, for ever."""
        due = self.clock.monotonic()
        while True:
            if not self._open:
                self._any.clear()
                await self._any.wait()
                due = self.clock.monotonic()
            await self._drain(list(self._open.values()))
            # What is late is not made up for: the next drain reads it all the same.
            due = max(due + self._drain_interval_s, self.clock.monotonic())
            await asyncio.sleep(due - self.clock.monotonic())

    async def _drain(self, ports: Sequence[MediaPort]) -> None:
        begun = self.clock.monotonic()
        for port in ports:
            port.drain()
            if self.clock.monotonic() - begun > TURN_S:
                for _ in range(YIELDS):
                    await asyncio.sleep(0)
                begun = self.clock.monotonic()

    def _add(self, port: MediaPort) -> MediaPort:
        self._open[port.port] = port
        self._any.set()
        return port

    def _bind(self, port: int) -> _Sockets | None:
        """The three sockets of a port; None when something else holds one of them."""
        made: list[socket.socket] = []
        try:
            for kind, number in (
                (socket.SOCK_DGRAM, port),
                (socket.SOCK_DGRAM, port + 1),
                (socket.SOCK_STREAM, port),
            ):
                sock = socket.socket(self._family, kind)
                made.append(sock)
                sock.setblocking(False)
                size = self._receive_buffer_bytes if number == port else 65_536
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
                if kind == socket.SOCK_STREAM:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((self._host, number))
            stamp_arrivals(made[0])
            made[2].listen(HELD_CONNECTIONS_MAX)
        except OSError as error:
            for sock in made:
                sock.close()
            if error.errno == errno.EADDRINUSE:
                return None
            raise Unavailable(
                f"media port {port} on {self._host} cannot be opened: {error}",
                next_step="look at media.host and at the limit of open files",
            ) from error
        return _Sockets(*made)
