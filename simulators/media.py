"""One outgoing stream: frames of a loop, by the clock, to the address of an offer.

`MediaLeg` is the sockets (GB/T 28181-2016 annex L: UDP, TCP with us as client, TCP with us as
server), `MediaSource` is the frames, a `Sink` takes packets. A source knows no sockets and a leg no
frames.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TextIO

from simulators.clip import Clip
from simulators.faults import Faults
from simulators.g711 import PACKET_US, tone_packet
from simulators.nal import Stamp, stamp_sei
from simulators.ps import PES_BYTES_MAX, PTS_MASK, SPLIT_PES_BYTES_MAX, PsPacker
from simulators.rtp import Packetiser, framed, sender_report
from vsp.clock import MICROS
from vsp.errors import Exhausted, Unavailable
from vsp.model.device import MediaTransport

LATE_US_MAX = 1 * MICROS
"""A source that is later than this (a stopped process) drops what it missed, as a camera would."""
TCP_BACKLOG_BYTES_MAX = 1 << 20
"""Unsent bytes at which frames are dropped up to the next key frame; about ten seconds of video."""
TCP_CONNECT_TRIES = 3
TCP_CONNECT_PAUSE_S = 1.0
"""At least three tries, at least one second apart (GB/T 28181-2022 annex D)."""
TCP_CONNECT_TIMEOUT_S = 5.0
TCP_ACCEPT_TIMEOUT_S = 60.0
"""How long a passive port waits for the platform; devices wait 10 to 60 s."""
RTCP_PERIOD_US = 5 * MICROS
UDP_SEND_BUFFER_BYTES = 1 << 20
"""One key frame of 720p leaves at once; the default of 208 KiB would drop its tail."""
PORT_TRIES_MAX = 100
REORDER_DISTANCE_MAX = 4
_AUDIO_OFFSET_US = PACKET_US // 2
"""Audio falls between the pictures of a 25 frame/s grid, so that no timestamp is used twice."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the offer wants the stream. For TCP_ACTIVE (the platform connects) it is not used."""

    transport: MediaTransport
    host: str
    port: int


@dataclass(slots=True)
class SendStats:
    """What one stream has sent."""

    frames: int = 0
    packets: int = 0
    octets: int = 0
    skipped_frames: int = 0
    refused_packets: int = 0


@dataclass(slots=True)
class StreamBudget:
    """Streams that the devices of one process send at once.

    More than it can pace would all be late, and the figures would be those of the simulator.
    """

    streams_max: int
    running: int = 0
    refused: int = 0

    def take(self) -> bool:
        """Begin one, if there is room."""
        if self.running >= self.streams_max:
            self.refused += 1
            return False
        self.running += 1
        return True

    def give_back(self) -> None:
        """One has ended."""
        self.running -= 1


class Sink(Protocol):
    """Takes the packets of one frame."""

    def send(self, packets: list[bytes], key: bool) -> bool:
        """False when the frame was dropped for want of room."""
        ...


class SentLog:
    """JSON lines, one for each picture sent, for comparison with what arrived elsewhere.

    `frame` and `capture_us` are those of the SEI, `sent_us` is the true time of sending. Several
    devices may write to the same file: each line is one write to a file opened for appending.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("a", buffering=1, encoding="ascii")

    def write(
        self, channel: str, ssrc: int, stamp: Stamp, key: bool, size_bytes: int, sent_us: int
    ) -> None:
        line = {
            "channel": channel,
            "frame": stamp.frame,
            "capture_us": stamp.capture_us,
            "key": key,
            "size_bytes": size_bytes,
            "sent_us": sent_us,
            "ssrc": ssrc,
        }
        self._file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()


class Disorder:
    """Loses, doubles and delays packets by chance. A delayed one comes 1 to 4 packets later."""

    def __init__(self, faults: Faults, seed: str) -> None:
        self._faults = faults
        self._random = random.Random(seed)
        self._held: list[tuple[int, bytes]] = []

    def pass_through(self, packets: list[bytes]) -> list[bytes]:
        """What leaves now, in order."""
        leaving: list[bytes] = []
        for packet in packets:
            draw = self._random.random
            if draw() < self._faults.loss:
                continue
            if draw() < self._faults.reorder:
                self._held.append((self._random.randint(1, REORDER_DISTANCE_MAX), packet))
                continue
            leaving.append(packet)
            if draw() < self._faults.dup:
                leaving.append(packet)
            leaving += self._overtaken()
        return leaving

    def _overtaken(self) -> list[bytes]:
        waiting = [(left - 1, packet) for left, packet in self._held]
        self._held = [entry for entry in waiting if entry[0] > 0]
        return [packet for left, packet in waiting if left <= 0]


class UdpSink:
    """Datagrams to one address. What the kernel refuses is counted, as a network would lose it."""

    def __init__(
        self,
        sock: socket.socket,
        address: tuple[str, int],
        disorder: Disorder | None,
        stats: SendStats,
    ) -> None:
        self._send = sock.sendto
        self._address = address
        self._disorder = disorder
        self._stats = stats

    def send(self, packets: list[bytes], key: bool) -> bool:
        if self._disorder is not None:
            packets = self._disorder.pass_through(packets)
        send, address = self._send, self._address
        for packet in packets:
            try:
                send(packet, address)
            except OSError:
                self._stats.refused_packets += 1
        return True


class TcpSink(asyncio.Protocol):
    """RFC 4571 frames on one connection."""

    def __init__(self) -> None:
        self.lost = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None
        self._waiting_for_key = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(str(exc) if exc else "closed by the platform")

    def send(self, packets: list[bytes], key: bool) -> bool:
        transport = self._transport
        if transport is None:
            return False
        crowded = transport.get_write_buffer_size() > TCP_BACKLOG_BYTES_MAX
        self._waiting_for_key = crowded or (self._waiting_for_key and not key)
        if self._waiting_for_key:
            return False
        transport.write(framed(packets))
        return True

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class MediaLeg:
    """The local end of one stream: bound before the answer leaves, open after the ACK."""

    def __init__(self, target: Target, bind_host: str, rtcp: bool = False) -> None:
        """Binds. Raises Exhausted when no port is free.

        Over TCP any port will do: the kernel hands out odd ones to whoever only binds.
        """
        self.target = target
        self._rtcp_socket: socket.socket | None = None
        self._tcp: TcpSink | None = None
        if target.transport is MediaTransport.UDP:
            self._socket = self._bind_pair(bind_host, rtcp)
        else:
            self._socket = _bound(bind_host, 0, socket.SOCK_STREAM)
        self.host, self.port = self._socket.getsockname()[:2]
        if target.transport is MediaTransport.TCP_ACTIVE:
            self._socket.listen(1)

    def _bind_pair(self, host: str, rtcp: bool) -> socket.socket:
        """An even port, and for RTCP the odd one above it (RFC 3550 11)."""
        for _ in range(PORT_TRIES_MAX):
            sock = _bound(host, 0, socket.SOCK_DGRAM)
            port = sock.getsockname()[1]
            try:
                if port % 2 == 0:
                    if rtcp:
                        self._rtcp_socket = _bound(host, port + 1, socket.SOCK_DGRAM)
                    return sock
            except OSError:
                pass  # the odd port is somebody else's: try another pair
            sock.close()
        raise Exhausted(f"no even media port is free on {host}")

    async def connect(self, disorder: Disorder | None, stats: SendStats) -> Sink:
        """The way to the platform, once it is open. Raises Unavailable when it does not open."""
        target = self.target
        if target.transport is MediaTransport.UDP:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UDP_SEND_BUFFER_BYTES)
            return UdpSink(self._socket, (target.host, target.port), disorder, stats)
        if target.transport is MediaTransport.TCP_ACTIVE:
            connection = await self._accept()
        else:
            connection = await self._connect_out()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        _, self._tcp = await loop.create_connection(TcpSink, sock=connection)
        return self._tcp

    async def _accept(self) -> socket.socket:
        try:
            async with asyncio.timeout(TCP_ACCEPT_TIMEOUT_S):
                connection, _ = await asyncio.get_running_loop().sock_accept(self._socket)
        except TimeoutError as error:
            raise Unavailable(f"nobody connected to media port {self.port}") from error
        return connection

    async def _connect_out(self) -> socket.socket:
        address = (self.target.host, self.target.port)
        for attempt in range(1, TCP_CONNECT_TRIES + 1):
            try:
                async with asyncio.timeout(TCP_CONNECT_TIMEOUT_S):
                    await asyncio.get_running_loop().sock_connect(self._socket, address)
                return self._socket
            except (OSError, TimeoutError) as error:
                if attempt == TCP_CONNECT_TRIES:
                    raise Unavailable(
                        f"no TCP media connection to {address[0]}:{address[1]} "
                        f"after {attempt} tries: {error}"
                    ) from error
            self._socket.close()
            await asyncio.sleep(TCP_CONNECT_PAUSE_S)
            self._socket = _bound(self.host, self.port, socket.SOCK_STREAM)
        raise AssertionError("the last try returns or raises")

    async def lost(self) -> str:
        """Waits until the TCP connection ends and says why; over UDP it waits for ever."""
        if self._tcp is None:
            return str(await asyncio.get_running_loop().create_future())
        return str(await self._tcp.lost)

    def send_rtcp(self, packet: bytes) -> None:
        if self._rtcp_socket is not None:
            with suppress(OSError):  # as lossy as the network it goes to
                self._rtcp_socket.sendto(packet, (self.target.host, self.target.port + 1))

    @property
    def has_rtcp(self) -> bool:
        return self._rtcp_socket is not None

    def close(self) -> None:
        """Free the ports."""
        if self._tcp is not None:
            self._tcp.close()
        self._socket.close()
        if self._rtcp_socket is not None:
            self._rtcp_socket.close()


def _bound(host: str, port: int, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.setblocking(False)
    if kind is socket.SOCK_STREAM:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


@dataclass(slots=True)
class MediaSource:
    """The frames of one channel for one viewer, due by the device's own clock.

    skew_us  how far the device's clock is ahead; pictures, PTS and SEI follow it
    """

    channel: str
    clip: Clip
    packer: PsPacker
    packetiser: Packetiser
    sink: Sink
    leg: MediaLeg
    skew_us: int = 0
    tone: bytes = b""
    log: SentLog | None = None
    stats: SendStats = field(default_factory=SendStats)
    _next_frame: int = 0
    _next_audio: int = 0
    _next_rtcp_us: int = 0

    def begin(self, now_us: int) -> None:
        """Start with the first frame after `now_us`."""
        self._next_frame = self._frame_after(now_us)
        self._next_audio = (now_us + self.skew_us - _AUDIO_OFFSET_US) // PACKET_US + 1
        self._next_rtcp_us = now_us

    def due_us(self) -> int:
        video_us = self._capture_us(self._next_frame) - self.skew_us
        return (
            min(video_us, self._audio_us(self._next_audio) - self.skew_us)
            if self.tone
            else video_us
        )

    def emit(self, now_us: int) -> None:
        if now_us - self.due_us() > LATE_US_MAX:
            self._skip_to(now_us)
        while self.due_us() <= now_us:
            video_us = self._capture_us(self._next_frame)
            if not self.tone or video_us <= self._audio_us(self._next_audio):
                self._send_picture(now_us)
            else:
                self._send_audio()
        if self.leg.has_rtcp and now_us >= self._next_rtcp_us:
            self._send_rtcp(now_us)

    def _skip_to(self, now_us: int) -> None:
        frame = self._frame_after(now_us) - 1
        self.stats.skipped_frames += frame - self._next_frame
        self._next_frame = frame
        self._next_audio = (now_us + self.skew_us - _AUDIO_OFFSET_US) // PACKET_US

    def _send_picture(self, now_us: int) -> None:
        number = self._next_frame
        self._next_frame += 1
        frame = self.clip.frame(number)
        stamp = Stamp(self._capture_us(number), number & 0xFFFF_FFFF)
        unit = frame.head + stamp_sei(self.clip.spec.codec, stamp) + frame.slices
        pts_90k = _ticks(stamp.capture_us)
        self._send(self.packer.video(unit, pts_90k, frame.key), pts_90k, frame.key)
        if self.log is not None:
            ssrc = self.packetiser.ssrc
            self.log.write(self.channel, ssrc, stamp, frame.key, len(unit), now_us)

    def _send_audio(self) -> None:
        pts_90k = _ticks(self._audio_us(self._next_audio))
        self._next_audio += 1
        self._send(self.packer.audio(self.tone, pts_90k), pts_90k, key=False)

    def _send(self, pack: bytes, pts_90k: int, key: bool) -> None:
        packets = self.packetiser.packets_of(pack, pts_90k & 0xFFFF_FFFF)
        if self.sink.send(packets, key):
            self.stats.frames += 1
            self.stats.packets += len(packets)
            self.stats.octets += len(pack)
        else:
            self.stats.skipped_frames += 1

    def _send_rtcp(self, now_us: int) -> None:
        self._next_rtcp_us = now_us + RTCP_PERIOD_US
        device_us = now_us + self.skew_us
        timestamp = _ticks(device_us) & 0xFFFF_FFFF
        self.leg.send_rtcp(sender_report(self.packetiser, device_us, timestamp))

    def _frame_after(self, now_us: int) -> int:
        return (now_us + self.skew_us) * self.clip.spec.fps // MICROS + 1

    def _capture_us(self, frame: int) -> int:
        return frame * MICROS // self.clip.spec.fps

    @staticmethod
    def _audio_us(number: int) -> int:
        return number * PACKET_US + _AUDIO_OFFSET_US


def _ticks(wall_us: int) -> int:
    """PTS of a wall time: 90 kHz, 33 bits."""
    return wall_us * 9 // 100 & PTS_MASK


def tone_of(label: str) -> bytes:
    """The channel's tone, from the number in its label: 300 Hz and up."""
    digits = "".join(c for c in label if c.isdigit()) or "0"
    return tone_packet(300 + int(digits) % 40 * 50)


def packer_of(clip: Clip, faults: Faults) -> PsPacker:
    """The packer that behaves as `faults` say."""
    return PsPacker(
        clip.spec.codec,
        psm=not faults.no_psm,
        bd=faults.bd_packets,
        pes_bytes=SPLIT_PES_BYTES_MAX if faults.split_pes else PES_BYTES_MAX,
    )


__all__ = [
    "Disorder",
    "MediaLeg",
    "MediaSource",
    "SendStats",
    "SentLog",
    "Sink",
    "StreamBudget",
    "Target",
    "TcpSink",
    "UdpSink",
    "packer_of",
    "tone_of",
]
