"""From the last packet of a picture to the whole fragment at a viewer.

The platform is the demo's, recording; the camera watched is one more, in a process of its own,
which notes the wall time at which the last packet of each picture was handed to the kernel; viewers
sit in a third process on real WebSockets and note when the fragment with that picture's number was
whole. Both clocks are the machine's. Beside it, at the same time, a bare TCP echo of the same size
and pace says what the machine itself takes: its 99th percentile is the peer. A figure is the median
of three runs of at least 1,000 fragments each; `n` is that of the shortest.

`live-latency.20` is over all fragments of 20 viewers, in one client process, whose own queueing
counts too.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.figure import ROOT, Figure, percentile
from benchmarks.running import Platform, platform
from tests.e2e.platform import CLIPS, until

GB_ID = "34020000001320009001"
PASSWORD = "for-one-benchmark"
BACKGROUND_CAMERAS = 4
VIEWERS = {1: 1_100, 20: 320}
"""Viewers, and fragments that each of them takes: at least 1,000 in all after the cached ones, of
which there is a GOP at most."""
REPETITIONS = 3
N_MIN = 1_000
BAR_MS = 10.0
BAR_RATIO = 3.0


def measure() -> list[Figure]:
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    runs: dict[int, list[tuple[list[float], list[float]]]] = {count: [] for count in VIEWERS}
    async with (
        platform("demo", "--cameras", str(BACKGROUND_CAMERAS)) as running,
        camera(running) as (channel, log),
    ):
        await running.channels_playing(BACKGROUND_CAMERAS + 5, 60)
        for _ in range(REPETITIONS):
            for count, frames in VIEWERS.items():
                runs[count].append(await _watch(running, channel, log, count, frames))
    return [figure for count in VIEWERS for figure in _figures(count, runs[count])]


def _figures(viewers: int, runs: Sequence[tuple[list[float], list[float]]]) -> list[Figure]:
    n = min(len(ours) for ours, _ in runs)
    assert n >= N_MIN, f"{n} pictures are too few for a 99th percentile"
    value, peer = (median(percentile(run[k], 0.99) for run in runs) for k in (0, 1))
    name = f"live-latency.{viewers}"
    echo_p50 = median(median(echo) for _, echo in runs)
    return [
        Figure(
            *(name, value, "ms", n),
            bar=BAR_RATIO,
            peer=peer,
            either=BAR_MS,
            note=f"p99, {viewers} viewers; peer: p99 of a TCP echo beside it",
        ),
        Figure(f"{name}-p50", median(median(ours) for ours, _ in runs), "ms", n, peer=echo_p50),
    ]


@asynccontextmanager
async def camera(running: Platform) -> AsyncIterator[tuple[str, Path]]:
    """The camera of camera.py, registered and recorded; its channel and its log."""
    added = await running.post("/devices", {"gb_id": GB_ID, "password": PASSWORD})
    assert added.status == 201, added
    log = running.folder / "departures.txt"
    sip = running.ready["sip"]
    place = {
        **{key: sip[key] for key in ("host", "port", "id", "domain")},
        "gb_id": GB_ID,
        "password": PASSWORD,
        "log": str(log),
        "cache": str(CLIPS / "vsp-clips"),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.camera"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(place).encode())
    process.stdin.close()
    try:

        async def recorded() -> str | None:
            channels = await running.items("/channels", q=GB_ID)
            return next((c["id"] for c in channels if c["recording"]), None)

        yield await until("the camera is recorded", recorded, 30), log
    finally:
        process.terminate()
        await process.wait()


async def _watch(
    running: Platform, channel: str, log: Path, viewers: int, frames: int
) -> tuple[list[float], list[float]]:
    """Latencies in ms over all viewers, and the echo's round trips meanwhile."""
    views = [await _view(running, channel) for _ in range(viewers)]
    told = {"views": views, "frames": frames}
    received, echo_us = await asyncio.gather(
        _output("benchmarks.viewer", given=told), _output("benchmarks.echo", str(frames))
    )
    for view in views:
        await running.delete(f"/views/{view['view_id']}")
    departed = _departures(log)
    ours = [lag for seen in received for lag in _lags_ms(seen, departed)]
    return ours, [us / 1000 for us in echo_us]


def _departures(log: Path) -> dict[int, int]:
    """When the last packet of each picture left; the last line may be half written."""
    lines = [line.split() for line in log.read_text().splitlines()[:-1]]
    return {int(frame): int(at_us) for frame, at_us in lines}


def _lags_ms(seen: Sequence[tuple[int, int]], departed: dict[int, int]) -> list[float]:
    """Of the pictures that left after this viewer had its first: the cached ones are not late."""
    began_us = seen[0][1]
    return [
        (at_us - departed[frame]) / 1000
        for frame, at_us in seen
        if frame in departed and departed[frame] > began_us
    ]


async def _view(running: Platform, channel: str) -> dict[str, Any]:
    answer = await running.post(f"/channels/{channel}/live")
    assert answer.status == 201, answer
    body: dict[str, Any] = answer.body
    return body


async def _output(module: str, *arguments: str, given: object = None) -> Any:  # noqa: ANN401  JSON
    """What a process of ours writes, as JSON."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        cwd=ROOT,
        env=dict(os.environ),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(json.dumps(given).encode())
    assert process.returncode == 0, f"{module} failed"
    return json.loads(out)
