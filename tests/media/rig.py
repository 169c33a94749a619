"""What the media tests share: a camera that sends PS over RTP, a worker on real sockets, a viewer.

The stream is a real H.264 clip (PyAV) packed by the tests' own packer and sent from loopback
addresses; the worker writes to a real folder store and checks real tickets.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from pathlib import Path
from typing import TypeVar

import aiohttp
import av
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.media.core import clips, packer
from vsp.access.ticket import TicketSigner
from vsp.blocking import IoPool
from vsp.clock import SystemClock, SystemIds
from vsp.config import Config
from vsp.disk import SystemDisk
from vsp.link import WorkerLink, socket_path
from vsp.media.chunks import ChunkWriter, OnWritten, Writer, WriterThread
from vsp.media.core.au import AccessUnit
from vsp.media.core.nal import split
from vsp.media.machine import ThisMachine
from vsp.media.spool import Spool
from vsp.media.worker import MediaWorker
from vsp.model.device import MediaTransport
from vsp.model.ids import ChannelId, SessionId, UserId, UtcMicros, ViewId, WorkerId
from vsp.model.people import Ticket
from vsp.model.recording import Segment, SegmentClosed
from vsp.model.stream import RemoteMedia, SessionSpec, VideoCodec, ViewKind, ViewSpec
from vsp.store import Objects, open_objects
from vsp.store.blobs import FolderObjects
from vsp.store.folder import Folder

E = TypeVar("E")

CHANNEL = ChannelId("018f00000001aaaa")
SSRC = 0x0BADF00D
STEP_90K = clips.STEP_90K
GOP = 10

UNTIL_S = 10.0
"""Longest wait of `until`; what it waits for takes milliseconds."""


def free_ports(count: int = 40) -> int:
    """An even port from which `count` are free for UDP and TCP, below the system's own."""
    for first in random.sample(range(12_000, 20_000, 2), 200):
        if all(_is_free(port) for port in range(first, first + count)):
            return first
    raise AssertionError(f"no {count} neighbouring ports are free")


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def settings(folder: Path, **sections: dict[str, object]) -> Config:
    """Everything on loopback and free ports, quick timeouts, short segments."""
    media = {
        "port_first": free_ports(),
        "ports_per_worker": 40,
        "http_port_first": 0,
        "drain_interval_ms": 10,
        "stall_timeout_s": 1.5,
        "first_packet_timeout_s": 1.5,
        "view_attach_timeout_s": 1.5,
    }
    recording = {"segment_s": 2, "part_s": 1, "fsync_interval_s": 0.2}
    return Config.model_validate(
        {
            "node": {"data_dir": folder, "workers": 1},
            "media": media | sections.get("media", {}),
            "recording": recording | sections.get("recording", {}),
        }
    )


def open_spool(folder: Path, bytes_max: int = 1 << 30, fsync_interval_s: float = 0.05) -> Spool:
    """A spool on the real disk, written by a real thread; not started."""

    def writer(core: ChunkWriter, on_written: OnWritten) -> Writer:
        return WriterThread(core, on_written, SystemClock())

    return Spool(folder, SystemDisk(), IoPool("test", 2), writer, bytes_max, fsync_interval_s)


def folder_objects(root: Path) -> FolderObjects:
    return FolderObjects(Folder(root), IoPool("test", 2))


class Rig:
    """A worker and what a node has: its tickets, its event stream."""

    def __init__(self, worker: MediaWorker, signer: TicketSigner, objects: Objects) -> None:
        self.worker = worker
        self.signer = signer
        self.objects = objects
        self.clock = SystemClock()
        self.events: list[object] = []
        self.cameras: list[Camera] = []

    def camera(self, port: int, host: str = "127.0.0.1", tcp: bool = False, **clip: int) -> Camera:
        """A sender to `port`; closed with the rig."""
        self.cameras.append(Camera(port, host, tcp, **clip))
        return self.cameras[-1]

    async def open_session(self, session: str = "s1", **spec: object) -> int:
        made = {"transport": MediaTransport.UDP, "ssrc": SSRC, "channel_id": CHANNEL} | spec
        port = await self.worker.open_session(SessionSpec(session_id=SessionId(session), **made))  # type: ignore[arg-type]
        return port.port

    async def bind(self, session: str = "s1", host: str = "127.0.0.1", port: int = 0) -> None:
        await self.worker.bind_remote(
            SessionId(session), RemoteMedia((host,), port, SSRC, dial=(host,))
        )

    async def open_view(self, view: str, **spec: object) -> str:
        made = {"kind": ViewKind.LIVE, "channel_id": CHANNEL, "session_id": SessionId("s1")} | spec
        return (await self.worker.open_view(ViewSpec(view_id=ViewId(view), **made))).url  # type: ignore[arg-type]

    def ticket(self, view: str, kind: str = "live", **changed: object) -> str:
        fields = {
            "view_id": ViewId(view),
            "channel_id": CHANNEL,
            "kind": kind,
            "user_id": UserId("u1"),
            "expires_at_us": UtcMicros(self.clock.now_us() + 60_000_000),
        }
        return self.signer.sign(Ticket(**(fields | changed)))  # type: ignore[arg-type]

    def seen(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def segments(self) -> list[Segment]:
        """All that are closed, by their beginnings: they ship side by side and are told as each is
        done."""
        told = [event.segment for event in self.events if isinstance(event, SegmentClosed)]
        return sorted(told, key=attrgetter("start_us"))

    async def closed(self, count: int) -> list[Segment]:
        """As soon as there are so many."""
        await until(lambda: len(self.segments) >= count)
        return self.segments


@asynccontextmanager
async def running(config: Config, tls: ssl.SSLContext | None = None) -> AsyncIterator[Rig]:
    """A worker in this process, with a listener for its events."""
    signer = TicketSigner(Ed25519PrivateKey.generate())
    objects = open_objects(config)
    clock, ids = SystemClock(), SystemIds()
    machine = ThisMachine(config, 0, clock, ids, tls)
    worker = MediaWorker(config, 0, clock, ids, objects, signer.verifier().verify, machine)
    async with worker:
        rig = Rig(worker, signer, objects)
        listening = asyncio.create_task(_listen(rig))
        await asyncio.sleep(0)  # its first step: from now on no event is missed
        try:
            yield rig
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            for camera in rig.cameras:
                camera.close()
    await objects.close()


@asynccontextmanager
async def rig_link(folder: Path) -> AsyncIterator[WorkerLink]:
    """The node's end of the worker whose data folder this is."""
    link = WorkerLink(socket_path(folder, 0), WorkerId(0))
    try:
        yield link
    finally:
        await link.close()


async def _listen(rig: Rig) -> None:
    async for event in rig.worker.events():
        rig.events.append(event)


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition of the system under test, bounded."""
    async with asyncio.timeout(UNTIL_S):
        while not condition():  # noqa: ASYNC110 - sockets and processes, nothing to be told by
            await asyncio.sleep(0.01)


# ---- camera ---------------------------------------------------------------------------------


class Camera:
    """Sends a looped clip as PS over RTP, from a socket of its own."""

    def __init__(self, port: int, host: str = "127.0.0.1", tcp: bool = False, **clip: int) -> None:
        self.clip = clips.video(**{"frames": 3 * GOP, "gop": GOP, **clip})  # type: ignore[arg-type]
        self.sent_frames = 0
        self.seq = 100
        self._port = port
        self._tcp = tcp
        kind = socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.bind((host, 0))
        self.socket.connect(("127.0.0.1", port))

    def packets(self, frame: int, **how: object) -> list[bytes]:
        """The RTP packets of one frame; frames count on for ever, decode times too."""
        picture = self.clip[frame % len(self.clip)]
        pts = 90_000 + frame * STEP_90K
        pack = packer.picture(picture.data, pts, key=picture.key)
        packets = list(packer.rtp(pack, self.seq, pts, **({"ssrc": SSRC} | how)))  # type: ignore[arg-type]
        self.seq += len(packets)
        return packets

    async def send(self, frames: int, frames_per_s: float = 0.0, **how: object) -> None:
        """`frames_per_s` 0: as fast as goes, yielding after each frame."""
        for _ in range(frames):
            for packet in self.packets(self.sent_frames, **how):
                framed = len(packet).to_bytes(2, "big") + packet if self._tcp else packet
                self.socket.sendall(framed)
            self.sent_frames += 1
            await asyncio.sleep(1 / frames_per_s if frames_per_s else 0.001)

    def close(self) -> None:
        self.socket.close()


def access_units(frames: int, start_us: int, first: int = 0) -> list[AccessUnit]:
    """The same clip as access units that arrived exactly on time, for tests without sockets."""
    clip = clips.video(frames=3 * GOP, gop=GOP)
    return [access_unit(clip[i % len(clip)], i, start_us) for i in range(first, first + frames)]


def access_unit(picture: clips.Picture, frame: int, start_us: int) -> AccessUnit:
    return AccessUnit(
        kind="video",
        codec=VideoCodec.H264,
        pts_90k=frame * STEP_90K,
        dts_90k=frame * STEP_90K,
        key=picture.key,
        data=picture.data,
        arrival_us=start_us + frame * 40_000,
        nals=split(picture.data),
    )


# ---- viewer ---------------------------------------------------------------------------------


class Viewer:
    """A media socket as a page has it: texts parsed, binaries kept, both in order."""

    def __init__(self, socket_: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket_
        self.items: list[object] = []
        self.closed = False

    def texts(self, kind: str) -> list[dict[str, object]]:
        return [x for x in self.items if isinstance(x, dict) and x["type"] == kind]

    def states(self) -> list[object]:
        return [said["state"] for said in self.texts("state")]

    def binaries(self) -> list[bytes]:
        return [item for item in self.items if isinstance(item, bytes)]

    def fragments(self) -> list[bytes]:
        return [item for item in self.binaries() if item[4:8] == b"moof"]

    async def read(self, after: asyncio.Event | None) -> None:
        if after is not None:
            await after.wait()
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self.items.append(json.loads(message.data))
            elif message.type is aiohttp.WSMsgType.BINARY:
                self.items.append(message.data)
        self.closed = True

    async def say(self, **command: object) -> None:
        await self.socket.send_str(json.dumps(command))


@asynccontextmanager
async def viewer(
    url: str, ticket: str | None = None, after: asyncio.Event | None = None, **how: object
) -> AsyncIterator[Viewer]:
    """`after`: nothing is read before it is set."""
    params = {} if ticket is None else {"ticket": ticket}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url, params=params, **how) as connection,  # type: ignore[arg-type]
    ):
        watching = Viewer(connection)
        reading = asyncio.create_task(watching.read(after))
        try:
            yield watching
        finally:
            await connection.close()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


# ---- judging --------------------------------------------------------------------------------


def decoded(data: bytes) -> list[int]:
    """Presentation times in 90 kHz of every picture that libav decodes from a file."""
    with av.open(io.BytesIO(data)) as file:
        stream = file.streams.video[0]
        base = stream.time_base
        assert base is not None
        return [round(frame.pts * base * 90_000) for frame in file.decode(stream)]


def playable(parts: Sequence[bytes]) -> list[int]:
    """As `decoded`, of an init segment and fragments."""
    return decoded(b"".join(parts))
