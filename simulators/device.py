"""Sockets and tasks around a `DeviceUa`: a device that really registers and really sends.

One UDP socket or one TCP connection for SIP, one `MediaLeg` and one task for each stream, one
`Pacer` shared by everybody in the process. Everything that decides is in ua.py.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import assert_never

from simulators.chance import SeededIds, SkewedClock
from simulators.clip import Clip, ClipSpec
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
from simulators.media import (
    Disorder,
    MediaLeg,
    MediaSource,
    SendStats,
    SentLog,
    StreamBudget,
    packer_of,
    tone_of,
)
from simulators.pacer import Pacer
from simulators.rtp import Packetiser
from simulators.spec import ChannelSpec, DeviceSpec, PlatformSpec, VideoSpec
from simulators.ua import DeviceUa
from vsp.clock import MICROS, SystemClock
from vsp.errors import Conflict, Exhausted, Unavailable
from vsp.model.device import Transport
from vsp.ports import Clock, Ids
from vsp.sip.core.agent import Peer, Send
from vsp.sip.core.framing import PING, StreamFramer
from vsp.sip.core.uri import Malformed

STOP_TIMEOUT_S = 1.5
"""Longest wait for the answer to our unregistering; a stop takes 2 s at most altogether."""
CONNECT_TIMEOUT_S = 5.0
RECEIVE_BUFFER_BYTES = 1 << 20


def clip_spec(channel: ChannelSpec, video: VideoSpec) -> ClipSpec:
    """The clip that `channel` shows."""
    return ClipSpec(
        label=channel.label,
        codec=video.codec,
        width=video.width,
        height=video.height,
        fps=video.fps,
        gop_frames=video.gop_frames,
        bits_per_s=video.bits_per_s,
        seconds=video.loop_s,
    )


def clip_specs(spec: DeviceSpec) -> list[ClipSpec]:
    """The clips that a device needs; hand them to `clip.prepare`."""
    return [clip_spec(channel, spec.video) for channel in spec.channels]


@dataclass(slots=True)
class _Stream:
    """One call's sockets, and once the ACK is here its task."""

    leg: MediaLeg
    stats: SendStats = field(default_factory=SendStats)
    task: asyncio.Task[None] | None = None


_KEEPALIVE = b"<CmdType>Keepalive</CmdType>"
_CALL_ID = b"\r\nCall-ID: "


@dataclass(slots=True)
class Heartbeats:
    """Keepalives as they are seen on the socket: repeats are not counted, answers are any final.

    One is unanswered when the next one leaves, or the device goes offline, without an answer to it.
    """

    sent: int = 0
    unanswered: int = 0
    _open: bytes = b""

    def leaving(self, data: bytes) -> None:
        """A message of ours."""
        if data.startswith(b"MESSAGE ") and _KEEPALIVE in data:
            call_id = data.partition(_CALL_ID)[2].partition(b"\r\n")[0]
            if call_id != self._open:
                self.unanswered += bool(self._open)
                self.sent += 1
                self._open = call_id

    def arrived(self, data: bytes) -> None:
        """A message of the platform."""
        if self._open and data.startswith(b"SIP/2.0 ") and data[8:9] != b"1" and self._open in data:
            self._open = b""

    def offline(self) -> None:
        self.unanswered += bool(self._open)
        self._open = b""


class _UdpLink(asyncio.DatagramProtocol):
    def __init__(self, device: Device) -> None:
        self._device = device

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._device.datagram(data, Peer(Transport.UDP, addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        """ICMP says that nobody listens; the transaction's timer will say so too."""


class _TcpLink(asyncio.Protocol):
    def __init__(self, device: Device, peer: Peer) -> None:
        self._device = device
        self._peer = peer
        self._framer = StreamFramer()

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._framer.feed(data)
        except Malformed as error:
            self._device.connection_lost(self._peer, error)
            return
        for message in messages:
            if message != PING:
                self._device.received(message, self._peer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._device.connection_lost(self._peer, exc)


class Device:
    """A camera or NVR. `start`, `registered`, `stop`; everything else happens by itself.

    clips   a clip for each of `clip_specs(spec)`
    seed    fixes tags, SSRCs, jitter and every fault that is drawn by chance
    pacer   shared by the devices of a process; its own when none is given
    log     shared by them likewise; its own when the spec names a file and none is given
    budget  of streams, shared by them likewise; beyond it an INVITE is refused
    """

    def __init__(
        self,
        spec: DeviceSpec,
        platform: PlatformSpec,
        clips: Mapping[ClipSpec, Clip],
        *,
        seed: int = 0,
        clock: Clock | None = None,
        ids: Ids | None = None,
        pacer: Pacer | None = None,
        log: SentLog | None = None,
        budget: StreamBudget | None = None,
    ) -> None:
        self.spec = spec
        self.platform = platform
        self.last_event = "not started"
        self.keepalives = Heartbeats()
        self._clips = clips
        self._seed = f"{seed}/{spec.gb_id}"
        self._random = random.Random(self._seed)
        self._clock: Clock = clock or SystemClock()
        self._ids: Ids = ids or SeededIds(self._seed)
        self._own_pacer = pacer is None
        self._pacer = pacer or Pacer(self._clock)
        device_clock = SkewedClock(self._clock, spec.faults.clock_skew_s)
        self._ua = DeviceUa(spec, platform, self._ids, device_clock)
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Transport | None = None
        self._connections = 0
        self._local_host = spec.bind_host
        self._streams: dict[str, _Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._online = asyncio.Event()
        self._gone = asyncio.Event()
        self._dead = False
        self._own_log = log is None
        self._log = log
        self._budget = budget

    # ---- for the owner ----------------------------------------------------------------------

    async def start(self) -> None:
        """Bind and begin to register; returns before the platform has answered."""
        if self.spec.sent_log is not None and self._own_log:
            self._log = SentLog(self.spec.sent_log)
        if self.spec.transport is Transport.UDP:
            await self._bind_udp()
        self._ua.start(self._clock.monotonic())
        self._run_outputs()

    async def registered(self, timeout_s: float) -> None:
        """Wait until the platform has answered 200. Raises Unavailable with what happened."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._online.wait()
        except TimeoutError as error:
            raise Unavailable(
                f"{self.spec.gb_id} is not registered after {timeout_s} s: {self.last_event}"
            ) from error

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Hang up, unregister, close; what the platform does not answer in time is left."""
        if not self._dead:
            self._ua.stop(self._clock.monotonic())
            self._run_outputs()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._gone.wait()
            except TimeoutError:
                self.last_event = "unregistering was not answered"
        await self._close()

    async def cut_power(self) -> None:
        """End at once and without a word; the kernel closes what was open."""
        await self._close()

    @property
    def online(self) -> bool:
        return self._online.is_set()

    @property
    def registrations(self) -> int:
        """REGISTER attempts so far, refreshes included."""
        return self._ua.registrations

    @property
    def streams(self) -> Mapping[str, SendStats]:
        """Call-ID -> what has been sent, for the calls under way."""
        return {call_id: stream.stats for call_id, stream in self._streams.items()}

    # ---- SIP --------------------------------------------------------------------------------

    async def _bind_udp(self) -> None:
        loop = asyncio.get_running_loop()
        address = (self.spec.bind_host, self.spec.bind_port)
        try:
            self._udp, _ = await loop.create_datagram_endpoint(
                lambda: _UdpLink(self), local_addr=address
            )
        except OSError as error:
            raise Conflict(
                f"SIP port {address[0]}:{address[1]} cannot be bound: {error}"
            ) from error
        sock = self._udp.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)

    async def _link(self) -> None:
        """Make the way that `Connect` asks for, and say what became of it."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                found = await loop.getaddrinfo(
                    self.platform.host, self.platform.port, family=socket.AF_INET
                )
                host, port = found[0][4][:2]
                peer = Peer(self.spec.transport, str(host), int(port), self._next_connection())
                if self._udp is None:
                    await self._connect_tcp(peer)
        except (OSError, TimeoutError) as error:
            self._tell_unlinked(f"no way to {self.platform.host}:{self.platform.port}: {error}")
            return
        transport = self._udp or self._tcp
        assert transport is not None, "one of the two has just been made"
        own_host, own_port = transport.get_extra_info("sockname")[:2]
        self._local_host = _outward_host(own_host, peer)
        self._ua.linked(peer, self._local_host, own_port, self._clock.monotonic())
        self._run_outputs()

    def _next_connection(self) -> int:
        if self.spec.transport is Transport.UDP:
            return 0
        self._connections += 1
        return self._connections

    async def _connect_tcp(self, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        self._tcp, _ = await loop.create_connection(
            lambda: _TcpLink(self, peer),
            peer.host,
            peer.port,
            local_addr=(self.spec.bind_host, self.spec.bind_port),
        )

    def datagram(self, data: bytes, peer: Peer) -> None:
        """From the UDP socket."""
        if not self._lost():
            self.received(data, peer)

    def received(self, data: bytes, peer: Peer) -> None:
        """One whole message, from either transport."""
        if not self._dead:
            self.keepalives.arrived(data)
            self._ua.receive(data, peer, self._clock.monotonic())
            self._run_outputs()

    def connection_lost(self, peer: Peer, exc: Exception | None) -> None:
        """The TCP connection has ended."""
        if peer.connection == self._connections and not self._dead and self._tcp is not None:
            self._tcp.close()
            self._tcp = None
            self._tell_unlinked(f"connection lost: {exc or 'closed by the platform'}")

    def _tell_unlinked(self, why: str) -> None:
        self._ua.unlinked(self._clock.monotonic(), why)
        self.last_event = why
        self._run_outputs()

    def _send(self, data: bytes, peer: Peer) -> None:
        if self._udp is not None:
            if not self._lost():
                self._udp.sendto(data, (peer.host, peer.port))
        elif self._tcp is not None:
            self._tcp.write(data)

    def _lost(self) -> bool:
        chance = self.spec.faults.sip_loss
        return chance > 0 and self._random.random() < chance

    # ---- what the state machine wants -------------------------------------------------------

    def _run_outputs(self) -> None:
        while outputs := self._ua.take():
            for output in outputs:
                self._run_output(output)
        self._arm()

    def _run_output(self, output: Output) -> None:
        match output:
            case Send(data=data, peer=peer):
                self.keepalives.leaving(data)
                self._send(data, peer)
            case Connect():
                self._own(self._link())
            case Disconnect():
                if self._tcp is not None:
                    self._tcp.abort()  # connection_lost follows
            case Registered(online=online, why=why):
                self.last_event = why
                if online:
                    self._online.set()
                else:
                    self._online.clear()
                    self.keepalives.offline()
            case OpenMedia():
                self._open_media(output)
            case StartMedia():
                stream = self._streams[output.call_id]
                stream.task = self._own(self._stream(stream, output))
            case CloseMedia(call_id=call_id):
                self._close_media(call_id)
            case Gone():
                self._gone.set()
            case Died():
                self._die()
            case _:
                assert_never(output)

    def _own(self, work: asyncio._CoroutineLike[None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._ua.next_deadline()
        if due is not None and not self._gone.is_set():
            wait_s = max(0.0, due - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._ua.advance(self._clock.monotonic())
        self._run_outputs()

    # ---- media ------------------------------------------------------------------------------

    def _open_media(self, wanted: OpenMedia) -> None:
        now = self._clock.monotonic()
        if self._budget is not None and not self._budget.take():
            self.last_event = f"{self._budget.streams_max} streams are enough"
            self._ua.media_failed(wanted.call_id, now)
            return
        try:
            leg = MediaLeg(wanted.target, self.spec.bind_host, self.spec.video.rtcp)
        except Exhausted as error:
            self._give_back()
            self.last_event = str(error)
            self._ua.media_failed(wanted.call_id, now)
            return
        self._streams[wanted.call_id] = _Stream(leg)
        self._ua.media_opened(wanted.call_id, self._local_host, leg.port, now)

    async def _stream(self, stream: _Stream, start: StartMedia) -> None:
        """From the ACK to the end of the stream."""
        faults = self.spec.faults
        chancy = faults.loss or faults.reorder or faults.dup
        disorder = Disorder(faults, f"{self._seed}/{start.call_id}") if chancy else None
        try:
            sink = await stream.leg.connect(disorder, stream.stats)
        except (Unavailable, OSError) as error:
            self._media_lost(start.call_id, str(error))
            return
        channel = next(c for c in self.spec.channels if c.gb_id == start.channel_id)
        clip = self._clips[clip_spec(channel, self.spec.video)]
        source = MediaSource(
            channel=channel.gb_id,
            clip=clip,
            packer=packer_of(clip, faults),
            packetiser=Packetiser(start.ssrc, self._ids.number(1 << 16)),
            sink=sink,
            leg=stream.leg,
            skew_us=round(faults.clock_skew_s * MICROS),
            tone=tone_of(channel.label) if self.spec.video.audio else b"",
            log=self._log,
            stats=stream.stats,
        )
        source.begin(self._clock.now_us())
        self._pacer.add(source)
        try:
            why = await stream.leg.lost()
        finally:
            self._pacer.remove(source)
        self._media_lost(start.call_id, why)

    def _media_lost(self, call_id: str, why: str) -> None:
        self.last_event = f"media of {call_id}: {why}"
        if not self._dead:
            self._ua.media_lost(call_id, self._clock.monotonic())
            self._run_outputs()

    def _close_media(self, call_id: str) -> None:
        stream = self._streams.pop(call_id, None)
        if stream is None:
            return
        self._give_back()
        if stream.task is None or stream.task.done():
            stream.leg.close()
            return
        # The task may be waiting on the very socket: it lets go first, then the port is freed.
        stream.task.add_done_callback(lambda _: stream.leg.close())
        if stream.task is not asyncio.current_task():
            stream.task.cancel()

    def _give_back(self) -> None:
        if self._budget is not None:
            self._budget.give_back()

    # ---- the end ----------------------------------------------------------------------------

    def _die(self) -> None:
        """Power cut. Sockets stay open, as a dead device closes nothing; streams go quiet."""
        self._dead = True
        self.last_event = "died silently"
        self._online.clear()
        for stream in self._streams.values():
            if stream.task is not None:
                stream.task.cancel()

    async def _close(self) -> None:
        self._dead = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for call_id in list(self._streams):
            self._close_media(call_id)
        for transport in (self._udp, self._tcp):
            if transport is not None:
                transport.close()
        self._udp = self._tcp = None
        if self._own_pacer:
            self._pacer.close()
        if self._log is not None and self._own_log:
            self._log.close()
        self._log = None
        await asyncio.sleep(0)  # lets the transports' own last callbacks run


def _outward_host(own_host: str, peer: Peer) -> str:
    """Our address as the platform sees it; asks the routing table when we are bound to all."""
    if own_host != "0.0.0.0":
        return own_host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((peer.host, peer.port))
        return str(probe.getsockname()[0])


__all__ = ["Device", "Heartbeats", "clip_spec", "clip_specs"]
