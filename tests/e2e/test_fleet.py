"""A platform with 2,000 devices, all of them real on the wire, from one process of simulators."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.platform import CLIPS, ROOT, Platform, until
from tests.e2e.test_relay import free_ports

pytestmark = [pytest.mark.timeout(300), pytest.mark.slow]

DEVICES = 2000
VIEWED = 20
PORTS = 4 * VIEWED
RATE_PER_S = 200
KEEPALIVE_S = 15
HEARTBEATS = 2
"""Of each device, while nobody may go off line."""


@dataclass
class Fleet:
    """The process of a fleet, and what it has said so far."""

    process: asyncio.subprocess.Process
    up: bool = False
    statuses: list[dict[str, int]] = field(default_factory=list)

    async def listen(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line.startswith(b"{"):
                self.statuses.append(json.loads(line))
            else:
                self.up |= line == b"simulators up\n"

    @property
    def keepalives_sent(self) -> int:
        return self.statuses[-1]["keepalives_sent"] if self.statuses else 0

    async def stop(self) -> float:
        """Seconds that it took after SIGTERM."""
        began = time.monotonic()
        self.process.terminate()
        async with asyncio.timeout(10):
            await self.process.wait()
        return time.monotonic() - began


def command(secret: str, *words: str) -> list[str]:
    fleet = (sys.executable, "-m", "simulators", "fleet")
    return [*fleet, "--count", str(DEVICES), "--secret", secret, *words]


async def sheet(secret: str) -> str:
    """What an operator would import; nothing is recorded at first."""
    printing = await asyncio.create_subprocess_exec(
        *command(secret, "--csv", "--record", "none"), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    text, _ = await printing.communicate()
    assert printing.returncode == 0
    return text.decode()


@asynccontextmanager
async def fleet_of(secret: str, platform: Platform, folder: Path) -> AsyncIterator[Fleet]:
    words = ("--transport", "mixed", "--rate", str(RATE_PER_S), "--keepalive", str(KEEPALIVE_S))
    words += ("--platform", f"127.0.0.1:{platform.ready['sip']['port']}", "--status-every", "1")
    words += ("--cache", str(CLIPS / "vsp-clips"))
    with (folder / "fleet.txt").open("wb") as complaints:
        process = await asyncio.create_subprocess_exec(
            *command(secret, *words), cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=complaints
        )
    fleet = Fleet(process)
    listening = asyncio.create_task(fleet.listen())
    try:
        yield fleet
    finally:
        if process.returncode is None:
            process.kill()
        await listening
        await process.wait()


async def test_2000_devices_register_answer_keep_alive_and_20_are_recorded(tmp_path: Path):
    secret = secrets.token_hex(16)
    settings = {
        "VSP_SIP__KEEPALIVE_INTERVAL_S": str(KEEPALIVE_S),
        "VSP_MEDIA__PORTS_PER_WORKER": str(PORTS),
    }
    platform = Platform(tmp_path, settings=settings, port_first=free_ports(PORTS), workers=1)
    async with platform:
        answer = await platform.post("/devices:import", {"csv": await sheet(secret)})
        assert (answer.status, answer.body["added"]) == (200, DEVICES), answer.status
        async with fleet_of(secret, platform, tmp_path) as fleet:
            await until("every device registered", lambda: is_up(fleet), 60)
            await counts(platform, "devices_online", DEVICES, 10)
            all_there = datetime.now(UTC)
            beats = fleet.keepalives_sent

            await until(f"{VIEWED} channels", lambda: has_channels(platform, VIEWED))
            await record(platform, await platform.items("/channels"))
            await every_catalogue_has_come(platform)
            await platform.channels_playing(VIEWED)
            await until("pictures of all", lambda: all_flow(platform), 30)

            enough = beats + HEARTBEATS * DEVICES
            await until("heartbeats of all", lambda: has_sent(fleet, enough), 4 * KEEPALIVE_S)
            last = fleet.statuses[-1]
            assert (last["registered"], last["keepalives_unanswered"]) == (DEVICES, 0)
            await nobody_left_after(platform, all_there)
            assert await all_flow(platform)
            assert await fleet.stop() < 2


async def is_up(fleet: Fleet) -> bool:
    assert fleet.process.returncode is None, "the fleet has ended"
    return fleet.up


async def counts(platform: Platform, name: str, wanted: int, timeout_s: float) -> None:
    async def probe() -> bool:
        return bool((await platform.get("/overview")).body[name] == wanted)

    await until(f"{wanted} {name}", probe, timeout_s)


async def has_channels(platform: Platform, count: int) -> bool:
    return bool((await platform.get("/overview")).body["channels"] >= count)


async def every_catalogue_has_come(platform: Platform) -> None:
    """Each device has told of its channel, and nobody else's."""
    await counts(platform, "channels", DEVICES, 90)
    channels = await platform.items("/channels")
    assert len({channel["device_id"] for channel in channels}) == DEVICES
    assert all(channel["gb_id"] == channel["device_gb_id"] for channel in channels)


async def record(platform: Platform, channels: list[dict[str, Any]]) -> None:
    """Have VIEWED of them recorded; none was so far."""
    assert not any(channel["recording"] for channel in channels)
    for channel in channels[:VIEWED]:
        answer = await platform._request(
            "PATCH", f"/channels/{channel['id']}", json={"record_plan": "always"}
        )
        assert answer.status == 200, answer


async def all_flow(platform: Platform) -> bool:
    streams = await platform.items("/streams")
    return len(streams) == VIEWED and all(
        stream["state"] == "flowing" and stream["stats"]["frames"] > 50 for stream in streams
    )


async def has_sent(fleet: Fleet, keepalives: int) -> bool:
    return fleet.keepalives_sent >= keepalives


async def nobody_left_after(platform: Platform, moment: datetime) -> None:
    """All are on line, and have been so without a break."""
    devices = await platform.items("/devices")
    assert len(devices) == DEVICES
    wrong = [
        device["gb_id"]
        for device in devices
        if device["presence"] != "online"
        or datetime.fromisoformat(device["presence_since"]) > moment
    ]
    assert not wrong, wrong[:5]
