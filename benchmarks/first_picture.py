"""From a click to the first key picture: `POST live` sent, first fragment received.

`first-picture`: the channel is being recorded, so the stream is up and the cached GOP is sent.
`first-picture.cold`: nobody looks and nothing is recorded, so the platform has to INVITE and then
to wait for the camera's next key frame, up to 2 s away.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from statistics import median
from typing import Any

import aiohttp

from benchmarks.figure import Figure, percentile
from benchmarks.running import Platform, platform
from tests.e2e.platform import until

CAMERAS = 8
ROUNDS_UP = 8
ROUNDS_COLD = 2
BAR_S = 1.0
GOP_S = 2.0
GRACE_S = 0.5
"""Short in the cold run, so that streams are gone before their next turn."""
PATIENCE_S = 15.0


def measure() -> list[Figure]:
    up = asyncio.run(_measure_up())
    cold = asyncio.run(_measure_cold())
    return [
        Figure("first-picture", percentile(up, 0.95), "s", len(up), bar=BAR_S, note="p95, up"),
        Figure("first-picture.up-p50", median(up), "s", len(up)),
        Figure("first-picture.cold", percentile(cold, 0.95), "s", len(cold), note="p95, cold"),
        Figure("first-picture.cold-p50", median(cold), "s", len(cold)),
    ]


async def _measure_up() -> list[float]:
    async with platform("demo", "--cameras", str(CAMERAS)) as running:
        channels = await running.channels_playing(CAMERAS + 4, 60)
        await asyncio.sleep(3)  # every stream has had a key frame
        return [s for _ in range(ROUNDS_UP) for s in await _look_at_each(running, channels)]


async def _measure_cold() -> list[float]:
    async with platform(
        *("demo", "--cameras", str(CAMERAS)),
        VSP_RECORDING__DEFAULT_PLAN="none",
        VSP_MEDIA__GRACE_S=str(GRACE_S),
    ) as running:

        async def all_there() -> list[dict[str, Any]] | None:
            channels = [c for c in await running.items("/channels") if c["presence"] == "online"]
            return channels if len(channels) >= CAMERAS + 4 else None

        async def no_stream() -> bool:
            return not (await running.get("/streams")).body["items"]

        times: list[float] = []
        channels = await until("channels are online", all_there, 60)
        for _ in range(ROUNDS_COLD):
            await until("streams are gone", no_stream, 30)
            times += await _look_at_each(running, channels, GOP_S)
        return times


async def _look_at_each(
    running: Platform, channels: Sequence[dict[str, Any]], pause_s: float = 0.0
) -> list[float]:
    """pause_s: wait up to this before each look, or all would begin right after a key frame."""
    chance, times = random.Random(1), []
    async with aiohttp.ClientSession() as http:
        for channel in channels:
            await asyncio.sleep(chance.uniform(0, pause_s))
            times.append(await _look_s(running, http, channel["id"]))
    return times


async def _look_s(running: Platform, http: aiohttp.ClientSession, channel: str) -> float:
    began = time.perf_counter()
    view = (await running.post(f"/channels/{channel}/live")).body
    took_s = 0.0
    async with (
        asyncio.timeout(PATIENCE_S),
        http.ws_connect(view["url"], params={"ticket": view["ticket"]}, max_msg_size=0) as socket,
    ):
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY and message.data[4:8] == b"moof":
                took_s = time.perf_counter() - began
                break
    assert took_s, f"no picture of {channel}"
    await running.delete(f"/views/{view['view_id']}")
    return took_s
