"""The I/O shell of signalling: UDP and TCP sockets around one `SipAgent`, and one timer.

    socket ─▶ agent.receive ─▶ on_request (sync) ─▶ respond ─▶ socket

The receive path never awaits: a batch of datagrams is read, each is parsed, handled and answered,
and the answers leave together. Whatever takes time is started by the handler and answers later.

UDP is read by `recvmmsg` and written by `sendmmsg` through ctypes, 64 datagrams a call. Where that
is not to be had (IPv6, another system, a sandbox without the call) a drained reader does the same
one by one, and where the loop knows no readers its own datagram endpoint.

TCP: requests to a device go over the connection that it opened itself, never over a new one to its
Contact (GB/T 28181-2022 9.1.1 f). Connections are bounded in number, in silence and in bytes.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import itertools
import socket
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Protocol, cast

import structlog

from vsp.errors import Conflict, Invalid, VspError
from vsp.model.device import Transport
from vsp.ports import Clock
from vsp.sip.core.agent import Peer, SipAgent
from vsp.sip.core.framing import StreamFramer
from vsp.sip.core.message import DATAGRAM_BYTES_MAX
from vsp.sip.core.uri import Malformed
from vsp.sip.exchange import EndpointStats, Exchange, InviteRefused, ignore

log = structlog.get_logger(__name__)

RECEIVE_BUFFER_BYTES = 4 << 20
"""SO_RCVBUF: about 5,000 keepalives, six seconds of 50,000 devices."""

BATCH = 64
"""Datagrams of one recvmmsg; larger batches brought nothing in measurements."""

ROUNDS_MAX = 4
"""Batches read before the loop gets its turn: 256 datagrams are about 6 ms of its 20 ms budget."""

SLOT_BYTES = DATAGRAM_BYTES_MAX + 1
"""Room for any datagram; pages that no datagram reaches are never touched."""

SEND_QUEUE_MAX = 8_192
"""Datagrams that wait for a full socket buffer. More are dropped: SIP repeats what matters."""

SEND_QUEUE_BYTES_MAX = 16 << 20
"""Bytes of that queue."""

PEERS_MAX = 200_000
"""Addresses whose Peer object is remembered: twice the largest fleet; then all are forgotten."""

CONNECTIONS_MAX = 20_000
"""TCP connections at a time; a node serves fewer TCP devices, and each costs a file descriptor."""

CONNECTIONS_PER_HOST_MAX = 2_000
"""Of one address: a large site behind one translator; a scanner gets no more."""

FIRST_MESSAGE_S = 30.0
"""A connection that has not sent one whole message by then is closed."""

IDLE_S = 7_200.0
"""Silence after which a connection is closed: twice the longest keepalive period that can be set.
Peers that vanished are found earlier by TCP keepalive."""

SWEEP_S = 10.0
"""Period at which silent connections are looked for."""

BUFFERED_BYTES_MAX = 256 << 20
"""Unfinished messages of all connections: 128 catalogue pages of the largest size at once."""

WRITE_BYTES_MAX = 4 << 20
"""Bytes waiting for one connection; a device that does not read that much is gone."""

BACKLOG = 1_024
"""Connections not yet accepted; after an outage a site comes back within a second."""

PORT_TRIES_MAX = 16
"""Tries to find a port that is free for UDP and TCP when any will do."""

KEEPALIVE_IDLE_S = 60
"""Silence before TCP asks whether the peer is still there; then four times, 15 s apart."""

Driver = Literal["auto", "mmsg", "reader", "stock"]


# ---- UDP ------------------------------------------------------------------------------------


class UdpDriver(Protocol):
    """One bound UDP socket. `send` queues; what is queued leaves soon, in batches."""

    def start(self) -> None: ...
    def send(self, data: bytes, peer: Peer) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


OnDatagram = Callable[[bytes, Peer], None]


class Closable(Protocol):
    """Something that listens until it is closed."""

    def close(self) -> None: ...
    async def wait_closed(self) -> None: ...


class Sockets(Protocol):
    """Where an endpoint's sockets come from; both calls return the port that they really got."""

    async def udp(
        self, host: str, port: int, on_datagram: OnDatagram, stats: EndpointStats
    ) -> tuple[UdpDriver, int]:
        """Bound and not yet read."""
        ...

    async def tcp(
        self, host: str, port: int, factory: Callable[[], asyncio.Protocol]
    ) -> tuple[Closable, int]: ...


class _Reader:
    """Drained reader: recvfrom until the socket is empty, sendto with a bounded retry queue."""

    def __init__(self, sock: socket.socket, on_datagram: OnDatagram, stats: EndpointStats) -> None:
        self._socket = sock
        self._on_datagram = on_datagram
        self._stats = stats
        self._loop = asyncio.get_running_loop()
        self._peers: dict[Any, Peer] = {}
        self._queue: deque[tuple[bytes, Peer]] = deque()
        self._queued_bytes = 0
        self._flushing = False
        self._blocked = False
        self._reading = False

    def start(self) -> None:
        self._loop.add_reader(self._socket.fileno(), self._readable)

    def close(self) -> None:
        self.flush()
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        self._socket.close()

    def _readable(self) -> None:
        self._reading = True
        try:
            self._read()
        finally:
            self._reading = False
            self.flush()

    def _read(self) -> None:
        for _ in range(BATCH * ROUNDS_MAX):
            try:
                data, address = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier send; the socket itself is sound
            self._on_datagram(data, self._peer(address))

    def _peer(self, address: tuple[Any, ...]) -> Peer:
        peer = self._peers.get(address)
        if peer is None:
            if len(self._peers) >= PEERS_MAX:
                self._peers.clear()
            peer = self._peers[address] = Peer(Transport.UDP, address[0], address[1])
        return peer

    def send(self, data: bytes, peer: Peer) -> None:
        """Queue one datagram. A full queue drops it: SIP repeats what matters."""
        full = len(self._queue) >= SEND_QUEUE_MAX or self._queued_bytes > SEND_QUEUE_BYTES_MAX
        if full or len(data) > DATAGRAM_BYTES_MAX:
            self._stats.send_dropped += 1
            return
        self._queue.append((data, peer))
        self._queued_bytes += len(data)
        if not (self._reading or self._blocked or self._flushing):
            self._flushing = True
            self._loop.call_soon(self.flush)

    def flush(self) -> None:
        """Send what is queued, as far as the socket takes it."""
        self._flushing = False
        while self._queue and not self._blocked:
            taken = self._send_some()
            if taken == 0:
                self._block()
                return
            for _ in range(taken):
                self._queued_bytes -= len(self._queue.popleft()[0])

    def _block(self) -> None:
        """The socket buffer is full: go on when it has room."""
        self._blocked = True
        self._loop.add_writer(self._socket.fileno(), self._writable)

    def _writable(self) -> None:
        self._blocked = False
        self._loop.remove_writer(self._socket.fileno())
        self.flush()

    def _send_some(self) -> int:
        """Send from the head of the queue; how many are done with, 0 when the socket is full."""
        data, peer = self._queue[0]
        try:
            self._socket.sendto(data, (peer.host, peer.port))
        except BlockingIOError:
            return 0
        except OSError:
            self._stats.send_dropped += 1
            return 1
        self._stats.sent += 1
        return 1


class _IoVec(ctypes.Structure):
    _fields_: ClassVar = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _MsgHdr(ctypes.Structure):
    _fields_: ClassVar = [
        ("name", ctypes.c_void_p),
        ("namelen", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _MMsgHdr(ctypes.Structure):
    _fields_: ClassVar = [("header", _MsgHdr), ("length", ctypes.c_uint)]


_NAME_BYTES = 16
"""sizeof(struct sockaddr_in)."""

_MSG_DONTWAIT = 0x40


class _Slots:
    """`BATCH` message headers with a buffer and an address each, for one direction."""

    def __init__(self) -> None:
        self.data = bytearray(SLOT_BYTES * BATCH)
        self.names = bytearray(_NAME_BYTES * BATCH)
        data_at = ctypes.addressof((ctypes.c_char * len(self.data)).from_buffer(self.data))
        names_at = ctypes.addressof((ctypes.c_char * len(self.names)).from_buffer(self.names))
        self._vectors = (_IoVec * BATCH)()
        self._headers = (_MMsgHdr * BATCH)()
        for i in range(BATCH):
            self._vectors[i].base = data_at + i * SLOT_BYTES
            self._vectors[i].length = SLOT_BYTES
            header = self._headers[i].header
            header.name = names_at + i * _NAME_BYTES
            header.namelen = _NAME_BYTES
            header.iov = ctypes.addressof(self._vectors[i])
            header.iovlen = 1
        self.address = ctypes.addressof(self._headers)
        self.stride = ctypes.sizeof(_MMsgHdr)
        # Lengths are read and written through these views: a ctypes attribute costs ten times more.
        self.received = memoryview(self._headers).cast("B").cast("I")
        self.received_stride = self.stride // 4
        self.received_offset = _MMsgHdr.length.offset // 4
        self.lengths = memoryview(self._vectors).cast("B").cast("Q")


class _Mmsg(_Reader):
    """recvmmsg and sendmmsg: one system call for up to 64 datagrams. IPv4 on 64-bit Linux."""

    def __init__(self, sock: socket.socket, on_datagram: OnDatagram, stats: EndpointStats) -> None:
        super().__init__(sock, on_datagram, stats)
        libc = ctypes.CDLL(None, use_errno=True)
        self._recvmmsg = libc.recvmmsg
        self._recvmmsg.argtypes = [
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_void_p,
        ]
        self._sendmmsg = libc.sendmmsg
        self._sendmmsg.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int]
        self._in = _Slots()
        self._out = _Slots()
        self._names: dict[Peer, bytes] = {}
        self._fd = sock.fileno()

    @staticmethod
    def usable(sock: socket.socket) -> bool:
        """Whether this system and this socket can do it, found out by one empty call."""
        if not sys.platform.startswith("linux") or sock.family != socket.AF_INET:
            return False
        if ctypes.sizeof(ctypes.c_void_p) != 8:
            return False
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            result = libc.recvmmsg(sock.fileno(), None, 0, _MSG_DONTWAIT, None)
            unable = result < 0 and ctypes.get_errno() in {errno.ENOSYS, errno.EPERM}
            return hasattr(libc, "sendmmsg") and not unable
        except (OSError, AttributeError):
            return False

    def _read(self) -> None:
        slots = self._in
        for _ in range(ROUNDS_MAX):
            count = self._recvmmsg(self._fd, slots.address, BATCH, _MSG_DONTWAIT, None)
            if count <= 0:
                return
            for i in range(count):
                length = slots.received[i * slots.received_stride + slots.received_offset]
                start = i * SLOT_BYTES
                name = i * _NAME_BYTES
                peer = self._peer_of(bytes(slots.names[name : name + 8]))
                self._on_datagram(bytes(slots.data[start : start + length]), peer)
            self.flush()
            if count < BATCH:
                return

    def _peer_of(self, raw: bytes) -> Peer:
        """raw: family, port and address of a sockaddr_in."""
        peer = self._peers.get(raw)
        if peer is None:
            if len(self._peers) >= PEERS_MAX:
                self._peers.clear()
                self._names.clear()
            port = int.from_bytes(raw[2:4], "big")
            peer = Peer(Transport.UDP, socket.inet_ntoa(raw[4:8]), port)
            self._peers[raw] = peer
            self._names[peer] = raw + bytes(_NAME_BYTES - 8)
        return peer

    def _send_some(self) -> int:
        slots = self._out
        count = min(len(self._queue), BATCH)
        for i, (data, peer) in zip(range(count), self._queue, strict=False):
            name = self._names.get(peer) or self._name(peer)
            slots.data[i * SLOT_BYTES : i * SLOT_BYTES + len(data)] = data
            slots.names[i * _NAME_BYTES : (i + 1) * _NAME_BYTES] = name
            slots.lengths[2 * i + 1] = len(data)
        sent: int = self._sendmmsg(self._fd, slots.address, count, _MSG_DONTWAIT)
        if sent > 0:
            self._stats.sent += sent
            return sent
        if ctypes.get_errno() in {errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR}:
            return 0
        # The first one cannot be sent at all (unreachable, filtered); the others still may.
        self._stats.send_dropped += 1
        return 1

    def _name(self, peer: Peer) -> bytes:
        """The sockaddr_in of an address we have not heard from; all zero when it is none."""
        try:
            address = socket.inet_aton(peer.host)
        except OSError:
            return bytes(_NAME_BYTES)
        family = int(socket.AF_INET).to_bytes(2, sys.byteorder)
        name = family + peer.port.to_bytes(2, "big") + address + bytes(8)
        if len(self._names) < PEERS_MAX:
            self._names[peer] = name
        return name


class _Stock(asyncio.DatagramProtocol):
    """The loop's own datagram endpoint, for loops that know no readers."""

    def __init__(self, sock: socket.socket, on_datagram: OnDatagram, stats: EndpointStats) -> None:
        self._socket = sock
        self._on_datagram = on_datagram
        self._stats = stats
        self._transport: asyncio.DatagramTransport | None = None
        self._held = False

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, sock=self._socket)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._on_datagram(data, Peer(Transport.UDP, addr[0], addr[1]))

    def pause_writing(self) -> None:
        """The loop's own buffer is full (64 KiB): what comes now is dropped, SIP repeats it."""
        self._held = True

    def resume_writing(self) -> None:
        self._held = False

    def error_received(self, exc: Exception) -> None:
        """An ICMP error of an earlier send; the socket itself is sound."""
        self._stats.send_dropped += 1

    def start(self) -> None:
        """Reading began with `open`."""

    def send(self, data: bytes, peer: Peer) -> None:
        transport = self._transport
        if transport is None or self._held:
            self._stats.send_dropped += 1
            return
        transport.sendto(data, (peer.host, peer.port))
        self._stats.sent += 1

    def flush(self) -> None:
        """The loop sends at once."""

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


# ---- TCP ------------------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """One accepted TCP connection."""

    def __init__(self, endpoint: SipEndpoint) -> None:
        self._endpoint = endpoint
        self._framer = StreamFramer()
        self._transport: asyncio.Transport | None = None
        self._buffered = 0
        self.peer: Peer | None = None
        self.last_s = 0.0
        self.spoken = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        name = transport.get_extra_info("peername")
        if name is None or not self._endpoint._admit(self, name[0], name[1]):
            transport.abort()
            return
        _keep_alive(transport.get_extra_info("socket"))

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            return
        self.last_s = self._endpoint._clock.monotonic()
        try:
            messages = self._framer.feed(data)
        except Malformed as error:
            self._endpoint._broken(self, error, data)
            return
        before, self._buffered = self._buffered, self._framer.buffered
        self._endpoint._on_buffered(self, self._buffered - before)
        for message in messages:
            self.spoken = True
            self._endpoint._received(message, self.peer)
        if messages and self._framer.resyncs:
            self._endpoint.stats.resyncs += self._framer.resyncs
            self._framer.resyncs = 0

    def connection_lost(self, exc: Exception | None) -> None:
        if self.peer is not None:
            self._endpoint._on_buffered(self, -self._buffered)
            self._endpoint._lost(self.peer)

    def write(self, data: bytes) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > WRITE_BYTES_MAX:
            log.warning("sip connection does not read", peer=str(self.peer))
            transport.abort()
            return
        transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def _keep_alive(sock: socket.socket | None) -> None:
    """Let TCP itself find out that a peer has vanished."""
    if sock is None:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", KEEPALIVE_IDLE_S), ("TCP_KEEPINTVL", 15)):
        if hasattr(socket, option):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    if hasattr(socket, "TCP_KEEPCNT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4)


class SipEndpoint(Exchange):
    """Sockets around an exchange. Callbacks are set before `start` and run in the loop."""

    def __init__(
        self,
        agent: SipAgent,
        clock: Clock,
        host: str,
        port: int,
        transports: Sequence[Literal["udp", "tcp"]] = ("udp", "tcp"),
        *,
        driver: Driver = "auto",
        sockets: Sockets | None = None,
        idle_s: float = IDLE_S,
        first_message_s: float = FIRST_MESSAGE_S,
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """port 0 picks one that is free for all transports.

        driver   how UDP is read
        sockets  where sockets come from; None: from the system
        """
        super().__init__(agent, clock)
        self.on_traffic: Callable[[bool, Peer, bytes], None] | None = None
        """(outgoing, peer, bytes) of every message, retransmissions included."""
        self.on_disconnect: Callable[[Peer], None] = ignore
        self._host = host
        self._port = port
        self._transports = tuple(transports)
        self._sockets = sockets or SystemSockets(driver)
        self._idle_s = idle_s
        self._first_message_s = first_message_s
        self._connections_max = connections_max
        self._udp: UdpDriver | None = None
        self._server: Closable | None = None
        self._connections: dict[int, _Connection] = {}
        self._hosts: dict[str, int] = {}
        self._numbers = itertools.count(1)
        self._buffered = 0
        self._sweeper: asyncio.TimerHandle | None = None

    # ---- life -----------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind. Raises Conflict naming sip.port when it is taken, Invalid for a bad sip.host."""
        wanted = self._port
        tries = PORT_TRIES_MAX if wanted == 0 else 1
        for left in reversed(range(tries)):
            try:
                await self._bind(wanted)
                break
            except OSError as error:
                self._unbind()
                self._port = wanted
                if left == 0 or error.errno != errno.EADDRINUSE:
                    raise _bind_failure(error, self._host, wanted) from error
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    async def _bind(self, port: int) -> None:
        """UDP first, then TCP on the same port; reading begins when both are there."""
        if "udp" in self._transports:
            self._udp, self._port = await self._sockets.udp(
                self._host, port, self._received, self.stats
            )
        if "tcp" in self._transports:
            port = self._port if self._udp is not None else port
            self._server, self._port = await self._sockets.tcp(
                self._host, port, lambda: _Connection(self)
            )
        if self._udp is not None:
            self._udp.start()

    def _unbind(self) -> None:
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        if self._server is not None:
            self._server.close()
            self._server = None

    async def close(self) -> None:
        """Stop listening, drop connections; whoever waits for an answer gets Unavailable."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        server = self._server
        self._stop()
        self._unbind()
        for connection in list(self._connections.values()):
            connection.abort()
        if server is not None:
            await server.wait_closed()
        await asyncio.sleep(0)  # connection_lost of what was aborted

    @property
    def port(self) -> int:
        """The port listened on."""
        return self._port

    @property
    def connections(self) -> int:
        return len(self._connections)

    # ---- receiving --------------------------------------------------------------------------

    def _received(self, data: bytes, peer: Peer) -> None:
        """One datagram, or one message of a stream. Foreign traffic is ignored in silence.

        GB/T 28181-2016 9.1: nothing else belongs on the SIP port; CRLF, STUN and scanners do come.
        """
        self.stats.received += 1
        if not data[:1].isalpha():
            data = self._unblanked(data, peer)
            if not data:
                return
        if self.on_traffic is not None:
            self.on_traffic(False, peer, data)
        self.receive(data, peer)

    def _unblanked(self, data: bytes, peer: Peer) -> bytes:
        """Without leading line ends (RFC 3261 7.5); pings of a connection are answered."""
        rest = data.lstrip(b"\r\n")
        if not rest and peer.connection:
            self.receive(data, peer)
        elif not rest[:1].isalpha():
            self.stats.junk += 1
            return b""
        return rest

    # ---- sending ----------------------------------------------------------------------------

    def _transmit(self, data: bytes, peer: Peer) -> None:
        if self.on_traffic is not None:
            self.on_traffic(True, peer, data)
        if peer.transport is Transport.UDP:
            if self._udp is not None:
                self._udp.send(data, peer)
            return
        connection = self._connections.get(peer.connection)
        if connection is None:
            self.stats.send_dropped += 1
        else:
            self.stats.sent += 1
            connection.write(data)

    def send(self, data: bytes, peer: Peer) -> None:
        """Send bytes as they are, outside any transaction."""
        self._transmit(data, peer)

    # ---- connections ------------------------------------------------------------------------

    def connected(self, peer: Peer) -> bool:
        """UDP: while this endpoint is open. TCP: whether that very connection is still open."""
        if peer.transport is Transport.UDP:
            return self._udp is not None
        return peer.connection in self._connections

    def _admit(self, connection: _Connection, host: str, port: int) -> bool:
        """Number a new connection, or refuse it."""
        from_host = self._hosts.get(host, 0)
        full = len(self._connections) >= self._connections_max
        if full or from_host >= CONNECTIONS_PER_HOST_MAX:
            self.stats.refused_connections += 1
            return False
        self._hosts[host] = from_host + 1
        connection.peer = Peer(Transport.TCP, host, port, next(self._numbers))
        connection.last_s = self._clock.monotonic()
        self._connections[connection.peer.connection] = connection
        return True

    def _sweep(self) -> None:
        """Close connections that are silent too long."""
        now = self._clock.monotonic()
        for connection in list(self._connections.values()):
            limit_s = self._idle_s if connection.spoken else self._first_message_s
            if now - connection.last_s > limit_s:
                connection.abort()
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _on_buffered(self, connection: _Connection, change: int) -> None:
        self._buffered += change
        if change > 0 and self._buffered > BUFFERED_BYTES_MAX:
            log.warning("sip connections hold too many bytes", peer=str(connection.peer))
            connection.abort()

    def _broken(self, connection: _Connection, error: Malformed, data: bytes) -> None:
        """A stream beyond saving is closed; its device opens another."""
        self.stats.junk += 1
        log.info("sip connection closed", peer=str(connection.peer), reason=error.message)
        connection.abort()

    def _lost(self, peer: Peer) -> None:
        """A connection is gone: free its place, fail who waits on it, tell whoever cares."""
        self._connections.pop(peer.connection, None)
        left = self._hosts.get(peer.host, 1) - 1
        if left > 0:
            self._hosts[peer.host] = left
        else:
            self._hosts.pop(peer.host, None)
        self._fail_calls(peer.connection, "the device closed its TCP connection")
        self.on_disconnect(peer)


# ---- the system's sockets -------------------------------------------------------------------


class SystemSockets:
    """Real ones."""

    def __init__(self, driver: Driver = "auto") -> None:
        self._driver = driver

    async def udp(
        self, host: str, port: int, on_datagram: OnDatagram, stats: EndpointStats
    ) -> tuple[UdpDriver, int]:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        sock = _udp_socket(infos[0][0], infos[0][4])
        return await self._drive(sock, on_datagram, stats), sock.getsockname()[1]

    async def _drive(
        self, sock: socket.socket, on_datagram: OnDatagram, stats: EndpointStats
    ) -> UdpDriver:
        if self._driver == "stock" or not hasattr(asyncio.get_running_loop(), "add_reader"):
            stock = _Stock(sock, on_datagram, stats)
            await stock.open()
            return stock
        if self._driver in {"auto", "mmsg"} and _Mmsg.usable(sock):
            return _Mmsg(sock, on_datagram, stats)
        return _Reader(sock, on_datagram, stats)

    async def tcp(
        self, host: str, port: int, factory: Callable[[], asyncio.Protocol]
    ) -> tuple[Closable, int]:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        address = str(infos[0][4][0])
        server = await loop.create_server(factory, address, port, backlog=BACKLOG)
        return server, server.sockets[0].getsockname()[1]


# ---- odds and ends --------------------------------------------------------------------------


def _udp_socket(family: int, address: tuple[Any, ...]) -> socket.socket:
    """Bound, without SO_REUSEADDR: two receivers on one port would share its packets."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_failure(error: OSError, host: str, port: int) -> VspError:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"sip.port: {where} is taken",
            cause="another program listens there",
            next_step="stop it, or set sip.port",
        )
    if error.errno == errno.EACCES:
        return Invalid(f"sip.port: {where} is not allowed to this user ({error.strerror})")
    return Invalid(f"sip.host: {where} cannot be listened on ({error.strerror or error})")


__all__ = [
    "Closable",
    "EndpointStats",
    "InviteRefused",
    "OnDatagram",
    "SipEndpoint",
    "Sockets",
    "UdpDriver",
]
