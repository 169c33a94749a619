"""How late the loops are while the demo runs and a person looks at it.

The node's lag is its own histogram (`vsp_loop_lag_seconds`), read at the start and at the end over
the API; within a bucket it is interpolated as Prometheus does. The workers tell their worst
lateness of each second over their control sockets; of those it is the 99th percentile, which is
harder. `loop-lag.bare` is an empty loop beside them, probed as the node probes itself: what this
machine takes away from everybody.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

import aiohttp

from benchmarks.figure import Figure, percentile
from benchmarks.running import Platform, platform
from vsp.link import WorkerLink, socket_path
from vsp.model.ids import WorkerId

CAMERAS = 8
WORKERS = 2
WATCHED_S = 60
WARM_UP_S = 5
PROBE_S = 0.1
BAR_MS = 20.0

_BUCKET = re.compile(r'vsp_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)')


def measure() -> list[Figure]:
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    async with platform("demo", "--cameras", str(CAMERAS)) as running, AsyncExitStack() as stack:
        await running.channels_playing(CAMERAS + 4, 60)
        await asyncio.sleep(WARM_UP_S)
        links = [WorkerLink(socket_path(running.data, k), WorkerId(k)) for k in range(WORKERS)]
        for link in links:
            stack.push_async_callback(link.close)
        bare_ms: list[float] = []
        probing = asyncio.create_task(_probe(bare_ms))
        before = await buckets(running)
        worst_ms: list[float] = []
        for _ in range(WATCHED_S):
            await asyncio.sleep(1)
            worst_ms += [(await link.info()).loop_lag_ms for link in links]
            for path in ("/overview", "/channels", "/streams"):
                await running.get(path)
        after = await buckets(running)
        probing.cancel()
    seen = {bound: after[bound] - before[bound] for bound in after}
    return [
        Figure(
            "loop-lag",
            1000 * quantile(seen, 0.99),
            "ms",
            round(max(seen.values())),
            bar=BAR_MS,
            note=f"node, p99 of {WATCHED_S} s, {CAMERAS + 4} channels recorded, console polled",
        ),
        Figure(
            "loop-lag.worker",
            percentile(worst_ms, 0.99),
            "ms",
            len(worst_ms),
            note="workers, p99 of the worst lateness of each second",
        ),
        Figure(
            *("loop-lag.bare", percentile(bare_ms, 0.99), "ms", len(bare_ms)),
            note="this benchmark's own, nearly idle loop in the same minute, p99",
        ),
    ]


async def _probe(lags_ms: list[float]) -> None:
    """As the node probes itself (jobs.py)."""
    while True:
        due = time.monotonic() + PROBE_S
        await asyncio.sleep(PROBE_S)
        lags_ms.append(max(0.0, time.monotonic() - due) * 1000)


async def buckets(running: Platform) -> dict[float, float]:
    """Cumulative counts by upper bound."""
    headers = {"Authorization": f"Bearer {running.token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"{running.url}/api/v1/metrics") as answer,
    ):
        text = await answer.text()
    return {float(bound): float(count) for bound, count in _BUCKET.findall(text)}


def quantile(counts: Mapping[float, float], share: float) -> float:
    """Upper estimate from a histogram: linear within the bucket, its lower end beyond the last."""
    rank = share * max(counts.values())
    below, bottom = 0.0, 0.0
    for bound in sorted(counts):
        if counts[bound] >= rank:
            if bound == float("inf"):
                return bottom
            inside = counts[bound] - below
            return bottom + (bound - bottom) * ((rank - below) / inside if inside else 1.0)
        below, bottom = counts[bound], bound
    return bottom
