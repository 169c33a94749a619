"""Rows a second through `SegmentIndex.commit` on SQLite with full synchronisation.

One row a commit is what a quiet platform does, a thousand what follows an outage. Wall time, since
the disk is waited for; each repetition has rows of its own.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure
from vsp.clock import SystemClock, SystemIds
from vsp.config import Config, NodeConfig
from vsp.model.device import CatalogItem, NewDevice, Presence, RecordPlan
from vsp.model.ids import ChannelId, GbId, UtcMicros
from vsp.model.recording import Container, EndReason, Segment
from vsp.model.stream import VideoCodec
from vsp.ports import PageRequest
from vsp.store import Store, open_store

REPETITIONS = 5
SINGLES = 300
BATCH = 1_000
BATCHES = 5
CHANNELS = 16
MINUTE_US = 60_000_000
START_US = 1_700_000_000_000_000
FRAGMENTS = 30
"""Key frames of a minute with a GOP of 2 s, as real rows have them."""


def measure() -> list[Figure]:
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="vsp-bench-") as folder:
        config = Config(node=NodeConfig(data_dir=Path(folder)))
        store = await open_store(config, SystemClock(), SystemIds())
        try:
            channels = await _channels(store)
            single, batched = [], []
            for turn in range(REPETITIONS):
                first = turn * (SINGLES + BATCH * BATCHES)
                single.append(await _rate(store, channels, first, SINGLES, 1))
                batched.append(
                    await _rate(store, channels, first + SINGLES, BATCH * BATCHES, BATCH)
                )
        finally:
            await store.close()
    return [
        _figure("segment-commit.single", single, "one row a commit"),
        _figure("segment-commit.batch", batched, f"{BATCH} rows a commit"),
    ]


def _figure(name: str, rates: Sequence[float], note: str) -> Figure:
    return Figure(name, median(rates), "rows/s", len(rates), better="higher", note=note)


async def _channels(store: Store) -> Sequence[ChannelId]:
    """Channels of a recorder, so that rows belong to something."""
    now_us = SystemClock().now_us()
    recorder = GbId("34020000001180000001")
    device = await store.devices.add_device(
        NewDevice(recorder, "a benchmark's"), now_us, RecordPlan.NONE
    )
    items = [
        CatalogItem(
            GbId(f"3402000000132{number:07d}"),
            f"Gate {number}",
            status=Presence.ONLINE,
            parent_ids=(recorder,),
        )
        for number in range(CHANNELS)
    ]
    await store.devices.apply_catalog(device.id, items, len(items), True, now_us)
    page = await store.devices.channels(PageRequest(size=100), device_id=device.id)
    return [channel.id for channel in page.items if channel.gb_id != recorder]


async def _rate(
    store: Store, channels: Sequence[ChannelId], first: int, rows: int, at_once: int
) -> float:
    segments = [_segment(channels[i % len(channels)], first + i) for i in range(rows)]
    began = time.perf_counter()
    for start in range(0, rows, at_once):
        await store.segments.commit(segments[start : start + at_once])
    return rows / (time.perf_counter() - began)


def _segment(channel: ChannelId, minute: int) -> Segment:
    start_us = START_US + minute * MINUTE_US
    return Segment(
        channel_id=channel,
        key=f"v1/{channel}/2023/11/14/{start_us}-{START_US}-{minute}.mp4",
        container=Container.MP4,
        run=UtcMicros(START_US),
        n=minute,
        start_us=UtcMicros(start_us),
        end_us=UtcMicros(start_us + MINUTE_US),
        start_90k=minute * 5_400_000,
        duration_90k=5_400_000,
        size_bytes=30_000_000,
        sha256=f"{minute:064x}",
        init_bytes=812,
        fragments=tuple((i * 2000, 812 + i * 1_000_000, 1_000_000) for i in range(FRAGMENTS)),
        video=VideoCodec.H264,
        audio=None,
        codecs="avc3.640028",
        width=1920,
        height=1080,
        frames=1500,
        damaged_frames=0,
        end_reason=EndReason.ROLLED,
    )
