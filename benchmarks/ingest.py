"""CPU of receiving and recording a program stream, against `ffmpeg -c copy` from a file.

Ours is the real worker process: paced RTP over loopback UDP, reordering, demultiplexing, fragments,
spool with its syncs, objects with their hashes. All CPU of the process counts within a window of
steady recording. The peer reads the same PS from a file on the same file system:

    ffmpeg -i X -map 0:v -c copy -movflags frag_keyframe+empty_moov out.mp4

which has neither network nor pacing nor syncs nor hashes, but pays for its start: most of what it
takes for 30 s. `ingest` compares with all of its CPU, as a process for each stream would cost;
`ingest.marginal` takes the start off, found by the same command on the first two seconds, and is
the harder comparison. Both are CPU seconds per GB (1e9 bytes) of stream, measured in turns.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import av
import numpy as np

from benchmarks.figure import ROOT, Figure
from benchmarks.running import cpu_s
from simulators.ps import PTS_MASK, PsPacker, pts_field
from simulators.rtp import Packetiser
from vsp.errors import Unavailable
from vsp.link import WorkerLink, socket_path
from vsp.model.device import MediaTransport
from vsp.model.ids import ChannelId, SessionId, WorkerId
from vsp.model.recording import RecordingSpec, SegmentClosed
from vsp.model.stream import RemoteMedia, SessionSpec, StreamState, VideoCodec

CACHE = ROOT / ".cache" / "bench"
WIDTH, HEIGHT, FPS, GOP, SECONDS = 1920, 1080, 25, 50, 30
BITS_PER_S = 4_000_000
STREAMS = 16
REPETITIONS = 5
WINDOW_S = 10.0
SEGMENT_S = 8.0
"""Short, so that each window closes a segment of each stream: more work, not less."""
BAR = 4.0
GB = 1e9
PORT_FIRST = 24_000
"""Below the range that the kernel hands out by itself, and beside that of `running.platform`."""
UP_TIMEOUT_S = 20.0

PACK = re.compile(rb"\x00\x00\x01\xba")


def measure() -> list[Figure]:
    whole, head = program_stream()
    return asyncio.run(_measure(whole, head))


async def _measure(whole: Path, head: Path) -> list[Figure]:
    ours: list[float] = []
    peer: list[float] = []
    peer_marginal: list[float] = []
    with tempfile.TemporaryDirectory(prefix="vsp-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        async with worker(folder) as (link, pid):
            sender = Sender(pack_list(whole), [await _record(link, k) for k in range(STREAMS)])
            sending = asyncio.create_task(sender.run())
            await _flowing(link)
            for _ in range(REPETITIONS):
                ours.append(await _window(sender, pid))
                # The sender goes on meanwhile: ffmpeg has the other core, as our worker had.
                cost, marginal = await asyncio.to_thread(_peer, whole, head, folder)
                peer.append(cost)
                peer_marginal.append(marginal)
            lost = await _lost(link)
            sending.cancel()
    note = f"{STREAMS} streams of 4 Mbit/s 1080p, {lost} packets lost; peer: whole command"
    n = len(ours)
    value, unit = median(ours), "CPU-s/GB"
    return [
        Figure("ingest", value, unit, n, bar=BAR, peer=median(peer), note=note),
        Figure(
            *("ingest.marginal", value, unit, n),
            peer=median(peer_marginal),
            note="the same; peer: without its start",
        ),
    ]


async def _window(sender: Sender, pid: int) -> float:
    before_s, before_bytes = cpu_s(pid), sender.sent_bytes
    await asyncio.sleep(WINDOW_S)
    return (cpu_s(pid) - before_s) * GB / (sender.sent_bytes - before_bytes)


# ---- the peer -------------------------------------------------------------------------------


def _peer(whole: Path, head: Path, folder: Path) -> tuple[float, float]:
    """CPU seconds per GB of ffmpeg on the whole file, and without its start; medians of three."""
    times = [(_ffmpeg_s(whole, folder), _ffmpeg_s(head, folder)) for _ in range(3)]
    all_s, head_s = median(pair[0] for pair in times), median(pair[1] for pair in times)
    bytes_whole, bytes_head = whole.stat().st_size, head.stat().st_size
    return all_s * GB / bytes_whole, (all_s - head_s) * GB / (bytes_whole - bytes_head)


def _ffmpeg_s(source: Path, folder: Path) -> float:
    out = folder / "out.mp4"
    out.unlink(missing_ok=True)
    copying = ("-map", "0:v", "-c", "copy", "-movflags", "frag_keyframe+empty_moov")
    process = subprocess.Popen(
        ["ffmpeg", "-i", str(source), *copying, str(out)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, "ffmpeg failed"
    return used.ru_utime + used.ru_stime


# ---- our worker -----------------------------------------------------------------------------


@asynccontextmanager
async def worker(folder: Path) -> AsyncIterator[tuple[WorkerLink, int]]:
    """The worker process of `vsp run`, alone, its closed segments acknowledged as a node does."""
    settings = {
        "VSP_NODE__DATA_DIR": str(folder / "data"),
        "VSP_NODE__WORKERS": "1",
        "VSP_MEDIA__HTTP_PORT_FIRST": "0",
        "VSP_MEDIA__PORT_FIRST": str(PORT_FIRST),
    }
    (folder / "data" / "run").mkdir(parents=True, mode=0o700)
    log = folder / "worker.log"
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "vsp.worker", "--index", "0"),
            cwd=ROOT,
            env={**os.environ, **settings},
            stderr=file,
        )
    link = WorkerLink(socket_path(folder / "data", 0), WorkerId(0))
    try:
        await _answering(link, log)
        acknowledging = asyncio.create_task(_acknowledge(link))
        try:
            yield link, process.pid
        finally:
            acknowledging.cancel()
    finally:
        await link.close()
        process.terminate()
        await process.wait()


async def _answering(link: WorkerLink, log: Path) -> None:
    give_up = time.monotonic() + UP_TIMEOUT_S
    while True:
        try:
            await link.info()
            return
        except Unavailable:
            if time.monotonic() > give_up:
                raise AssertionError(f"no worker; log:\n{_tail(log)}") from None
            await asyncio.sleep(0.1)


def _tail(log: Path) -> str:
    return log.read_text()[-2000:]


async def _acknowledge(link: WorkerLink) -> None:
    async for event in link.events():
        if isinstance(event, SegmentClosed):
            await link.acknowledge(event.seq)


async def _record(link: WorkerLink, number: int) -> tuple[int, int]:
    """Open and record one session; its port and SSRC."""
    session, ssrc = SessionId(f"bench{number}"), 100_000_000 + number
    channel = ChannelId(f"018f0000{number:08x}")
    port = await link.open_session(SessionSpec(session, channel, MediaTransport.UDP, ssrc))
    await link.bind_remote(session, RemoteMedia(("127.0.0.1",), 0, ssrc))
    await link.start_recording(session, RecordingSpec(segment_s=SEGMENT_S))
    return port.port, ssrc


async def _flowing(link: WorkerLink) -> None:
    give_up = time.monotonic() + UP_TIMEOUT_S
    while any(status.state is not StreamState.FLOWING for status in await link.sessions()):
        assert time.monotonic() < give_up, "streams do not flow"
        await asyncio.sleep(0.2)
    await asyncio.sleep(SEGMENT_S)


async def _lost(link: WorkerLink) -> int:
    return sum(status.stats.lost for status in await link.sessions())


# ---- the camera -----------------------------------------------------------------------------


class Sender:
    """Sends the packs of a loop to every port, frame by frame at real time."""

    def __init__(self, packs: Sequence[bytes], targets: Sequence[tuple[int, int]]) -> None:
        self.sent_bytes = 0
        self._packs = packs
        self._ends = []
        for number, (port, ssrc) in enumerate(targets):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            sock.connect(("127.0.0.1", port))
            # Spread over the frame period and over the loop, as cameras are.
            self._ends.append((sock, Packetiser(ssrc, 0), number / len(targets), number * 31))

    async def run(self) -> None:
        began, tick = time.monotonic(), 0
        while True:
            for sock, packetiser, phase, first in self._ends:
                due = began + (tick + phase) / FPS
                if (wait_s := due - time.monotonic()) > 0.001:
                    await asyncio.sleep(wait_s)
                self._send(sock, packetiser, first + tick)
            tick += 1
            await asyncio.sleep(0)

    def _send(self, sock: socket.socket, packetiser: Packetiser, frame: int) -> None:
        turn, index = divmod(frame, len(self._packs))
        pack = self._packs[index]
        if turn:
            pack = later(pack, turn * SECONDS * 90_000)
        for packet in packetiser.packets_of(pack, frame * 90_000 // FPS & 0xFFFF_FFFF):
            sock.send(packet)
        self.sent_bytes += len(pack)


def later(pack: bytes, ticks_90k: int) -> bytes:
    """The same pack with its PTS moved on; the packer's layout has it in the first video PES."""
    at = pack.index(b"\x00\x00\x01\xe0") + 9
    field = pack[at : at + 5]
    pts = (
        (field[0] >> 1 & 7) << 30 | field[1] << 22 | field[2] >> 1 << 15 | field[3] << 7
        | field[4] >> 1
    )  # fmt: skip
    return pack[:at] + pts_field(pts + ticks_90k & PTS_MASK) + pack[at + 5 :]


# ---- the stream -----------------------------------------------------------------------------


def program_stream() -> tuple[Path, Path]:
    """X, made once: moving texture, so that 4 Mbit/s are really used; and its first GOP."""
    whole, head = CACHE / "1080p-4M-30s.ps", CACHE / "1080p-4M-2s.ps"
    if not (whole.exists() and head.exists()):
        CACHE.mkdir(parents=True, exist_ok=True)
        packer = PsPacker(VideoCodec.H264)
        packs = [
            packer.video(unit, index * 90_000 // FPS, key)
            for index, (unit, key) in enumerate(pictures())
        ]
        head.write_bytes(b"".join(packs[:GOP]))
        whole.write_bytes(b"".join(packs))
    return whole, head


def pack_list(path: Path) -> list[bytes]:
    """Cut at pack headers, which slices cannot imitate."""
    data = path.read_bytes()
    starts = [match.start() for match in PACK.finditer(data)]
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]


def pictures() -> Iterator[tuple[bytes, bool]]:
    """Access units (Annex B) and whether each is a key frame."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.video.codeccontext.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, FPS), Fraction(FPS)
    encoder.gop_size, encoder.bit_rate = GOP, BITS_PER_S
    gop = f"keyint={GOP}:min-keyint={GOP}:scenecut=0:bframes=0"
    rate = f"nal-hrd=cbr:vbv-maxrate={BITS_PER_S // 1000}:vbv-bufsize={BITS_PER_S // 1000}"
    encoder.options = {"preset": "ultrafast", "x264-params": f"{gop}:{rate}"}
    texture = np.random.default_rng(1).integers(0, 256, (HEIGHT // 8, WIDTH // 8), np.uint8)
    texture = np.kron(texture, np.ones((8, 8), np.uint8))
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    for index in range(FPS * SECONDS):
        planes[:HEIGHT] = np.roll(texture, (index * 3, index * 5), (0, 1))
        picture = av.VideoFrame.from_ndarray(planes, "yuv420p")
        picture.pts = index
        yield from _units(encoder.encode(picture))
    yield from _units(encoder.encode(None))


def _units(packets: Sequence[av.Packet[Any]]) -> Iterator[tuple[bytes, bool]]:
    for packet in packets:
        yield bytes(packet), packet.is_keyframe
