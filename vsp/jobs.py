"""The reconcilers and their periods: idempotent, without input, on a timer.

A nudge makes one run early; a lost nudge costs latency, never correctness. Each job is one
coroutine that may fail; the failure is logged and the next turn comes on time.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from vsp.actions.streams import StreamManager
from vsp.actions.workers import WorkerPool
from vsp.ports import Clock, DeviceBook, Metrics

log = structlog.get_logger(__name__)

LAG_PROBE_S = 0.1
"""Ten probes a second see every stall longer than 100 ms and most of the shorter ones."""

MEASURE_S = 1.0
COUNT_S = 5.0


async def every(period_s: float, name: str, job: Callable[[], Awaitable[None]]) -> None:
    """Run `job` for ever, `period_s` apart; its failures are logged and forgotten."""
    while True:
        try:
            await job()
        except Exception:
            log.exception("job failed", job=name)
        await asyncio.sleep(period_s)


class Observer:
    """Measures the node: loop lag, streams, counts. Writes to metrics only."""

    def __init__(
        self,
        *,
        clock: Clock,
        metrics: Metrics,
        devices: DeviceBook,
        streams: StreamManager,
        pool: WorkerPool,
        objects_dir: Path,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._devices = devices
        self._streams = streams
        self._pool = pool
        self._objects_dir = objects_dir

    async def watch_loop(self) -> None:
        """Loop lag, for ever: how late a timer fires is how long a heartbeat would have waited."""
        while True:
            due = self._clock.monotonic() + LAG_PROBE_S
            await asyncio.sleep(LAG_PROBE_S)
            self._metrics.observe("vsp_loop_lag_seconds", max(0.0, self._clock.monotonic() - due))

    async def measure_streams(self) -> None:
        statuses = await self._streams.measure()
        states = Counter(status.state.value for status in statuses)
        for state in ("signalling", "waiting_media", "waiting_keyframe", "flowing", "stalled"):
            self._metrics.gauge("vsp_streams", states.get(state, 0), state=state)
        total = sum(status.stats.bits_per_s for status in statuses)
        self._metrics.gauge("vsp_stream_bits_per_second", total)
        self._metrics.gauge("vsp_packets_lost", sum(status.stats.lost for status in statuses))
        foreign = sum(status.stats.foreign for status in statuses)
        self._metrics.gauge("vsp_packets_foreign", foreign)
        self._metrics.gauge("vsp_workers_alive", len(self._pool.alive))

    async def count(self) -> None:
        counts = await self._devices.counts()
        online = counts["devices_online"]
        self._metrics.gauge("vsp_devices", online, presence="online")
        self._metrics.gauge("vsp_devices", counts["devices"] - online, presence="offline")
        self._metrics.gauge("vsp_channels", counts["channels"])
        self._metrics.gauge("vsp_candidates", counts["candidates"])
        with contextlib.suppress(FileNotFoundError):
            free = shutil.disk_usage(self._objects_dir).free
            self._metrics.gauge("vsp_store_free_bytes", free)
