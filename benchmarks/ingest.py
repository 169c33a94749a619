"""CPU of receiving and recording a program stream, against `ffmpeg -c copy` from a file.

Ours is the whole platform: `vsp run` with the supervisor, the node (signalling, database, jobs) and
its workers with their writers, recording simulated cameras over loopback UDP. Every process of it
counts, in windows of steady recording. The peer reads the same program stream from a file on the
same file system, with neither network nor pacing nor syncs nor hashes:

    ffmpeg -i X -map 0:v -c copy -movflags frag_keyframe+empty_moov out.mp4

X is five minutes long, or its start would be most of what it takes. Both are CPU seconds per GB
(1e9 bytes) of program stream, measured in turns. In the end the cameras fall silent, and the
recording is compared with what they sent, picture by picture, the last GOP included:
`ingest.missing`.
"""

from __future__ import annotations

import asyncio
import bisect
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median

from benchmarks import texture
from benchmarks.crash.recorded import Picture, read_recorded, read_rows, read_sent
from benchmarks.figure import ROOT, Figure
from benchmarks.running import Platform, cpu_s, family, pids, platform
from tests.e2e.platform import until

STREAMS = 16
REPETITIONS = 3
WINDOW_S = 60.0
"""As long as a segment of the product's, so that each window closes one of each stream."""
WARM_UP_S = 20.0
BAR = 4.0
GB = 1e9
PASSWORD = "for-one-benchmark"
QUIET_S = 60.0
"""Until the last segments are rows: silence is noticed, objects end, the node commits."""


def measure() -> list[Figure]:
    loop = texture.clip()
    source = texture.program_stream(loop)
    with tempfile.TemporaryDirectory(prefix="vsp-bench-") as name:
        windows, peer, missing, pictures = asyncio.run(_measure(source, Path(name)))
    pack_bytes = [len(texture.pack(loop, frame)) for frame in range(len(loop))]
    ours = [window.cost(pictures, pack_bytes) for window in windows]
    return [
        Figure(
            *("ingest", median(ours), "CPU-s/GB", len(ours)),
            bar=BAR,
            peer=median(peer),
            note=f"{STREAMS} streams of 4 Mbit/s 1080p; node, workers and supervisor",
        ),
        Figure(
            *("ingest.missing", missing, "pictures", len(pictures)),
            bar=0,
            note="sent after a channel's first recorded picture, and not recorded",
        ),
    ]


async def _measure(
    source: Path, folder: Path
) -> tuple[list[Window], list[float], int, list[Picture]]:
    windows, peer = [], []
    async with platform("run") as running:
        log = folder / "sent.jsonl"
        async with cameras(running, log):
            await running.channels_playing(STREAMS, 90)
            await asyncio.sleep(WARM_UP_S)
            for _ in range(REPETITIONS):
                windows.append(await _window(running))
                # The cameras go on meanwhile: ffmpeg has the machine that our workers had.
                peer.append(await asyncio.to_thread(_peer, source, folder))
        sent = read_sent(log)
        missing = await _missing(running, sent)
    pictures = sorted((p for each in sent.values() for p in each), key=lambda p: p.sent_us)
    return windows, peer, missing, pictures


# ---- ours -----------------------------------------------------------------------------------


class Window:
    """A minute of the platform: what it spent between two instants of wall time."""

    def __init__(self, start_us: int, end_us: int, spent_s: float) -> None:
        self._start_us, self._end_us, self._spent_s = start_us, end_us, spent_s

    def cost(self, pictures: Sequence[Picture], pack_bytes: Sequence[int]) -> float:
        """CPU seconds per GB of what was sent within it. pictures: by time of sending."""
        first = bisect.bisect_left(pictures, self._start_us, key=lambda p: p.sent_us)
        end = bisect.bisect_left(pictures, self._end_us, key=lambda p: p.sent_us)
        period_us = 1_000_000 // texture.VIDEO.fps
        sent_bytes = sum(
            pack_bytes[picture.capture_us // period_us % len(pack_bytes)]
            for picture in pictures[first:end]
        )
        return self._spent_s * GB / sent_bytes


async def _window(running: Platform) -> Window:
    assert running.process is not None
    members = family(running.process.pid)
    assert members >= {*pids(running).values()}, "a process of the platform is not counted"
    start_us, before = time.time_ns() // 1000, {pid: cpu_s(pid) for pid in members}
    await asyncio.sleep(WINDOW_S)
    end_us = time.time_ns() // 1000
    spent_s = sum(cpu_s(pid) - before_s for pid, before_s in before.items())
    assert family(running.process.pid) == members, "a process of the platform came or went"
    return Window(start_us, end_us, spent_s)


@asynccontextmanager
async def cameras(running: Platform, log: Path) -> AsyncIterator[None]:
    """Registered with the platform, sending, and silent afterwards."""
    gb_ids = [f"3402000000132{number:07d}" for number in range(1, STREAMS + 1)]
    for gb_id in gb_ids:
        added = await running.post("/devices", {"gb_id": gb_id, "password": PASSWORD})
        assert added.status == 201, added
    sip = running.ready["sip"]
    place = {key: sip[key] for key in ("host", "port", "id", "domain")}
    told = texture.Cameras(gb_ids, PASSWORD, **place, sent_log=str(log))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.texture"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(told.encode())
    process.stdin.close()
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def _missing(running: Platform, sent: Mapping[str, Sequence[Picture]]) -> int:
    """Pictures that were sent after a channel's first recorded one and are in no segment."""
    missing = 0

    def compare() -> int:
        rows = read_rows(running.data / "vsp.sqlite")
        recorded = read_recorded(rows, running.data / "segments").channels
        return sum(
            len({p.capture_us for p in pictures} - kept - _before(min(kept), pictures))
            if (kept := set(recorded[channel]))
            else len(pictures)
            for channel, pictures in sent.items()
        )

    async def complete() -> bool:
        nonlocal missing
        missing = await asyncio.to_thread(compare)
        return not missing

    try:
        await until("every picture is recorded", complete, QUIET_S)
    except AssertionError:  # the figure says how many
        return missing
    return 0


def _before(first_us: int, pictures: Sequence[Picture]) -> set[int]:
    return {picture.capture_us for picture in pictures if picture.capture_us < first_us}


# ---- the peer -------------------------------------------------------------------------------


def _peer(source: Path, folder: Path) -> float:
    """CPU seconds per GB of ffmpeg."""
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
    return (used.ru_utime + used.ru_stime) * GB / source.stat().st_size
