"""A bad line between a camera and the platform: lossy, late, cut, and whole again.

Media: the platform listens on 127.0.0.1 and advertises 127.0.0.2, where the relay listens on the
same ports. Towards the platform the relay binds 127.0.0.1, the camera's own host, since media is
taken only from where the signalling came from.
"""

from __future__ import annotations

import itertools
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from simulators.camera import Camera, camera_spec
from simulators.clip import prepare
from simulators.device import clip_specs
from simulators.relay import Impairment, Relay, Route, Way
from simulators.spec import PlatformSpec, Timing
from tests.e2e.platform import CLIPS, Platform, until

pytestmark = pytest.mark.timeout(240)

NEAR, FAR = "127.0.0.1", "127.0.0.2"
KINDS = (socket.SOCK_DGRAM, socket.SOCK_STREAM)
GB_ID = "34020000001320000001"
PASSWORD = "relay-test-1"
PORTS = 40
CUT_S = 15.0
SIP_LOSS = 0.2
HEARTBEATS = 6


def free_ports(count: int) -> int:
    """The first of `count` ports, even, that are free on both hosts, below the ephemeral ones."""
    for first in range(21_000, 30_000, count):
        try:
            for port in range(first, first + count):
                for host, kind in itertools.product((NEAR, FAR), KINDS):
                    with socket.socket(socket.AF_INET, kind) as probe:
                        probe.bind((host, port))
        except OSError:
            continue
        return first
    raise AssertionError(f"no {count} ports in a row are free")


@asynccontextmanager
async def camera(host: str, port: int, timing: Timing) -> AsyncIterator[Camera]:
    spec = camera_spec(GB_ID, PASSWORD, timing=timing)
    clips = await prepare(clip_specs(spec), CLIPS / "vsp-clips")
    device = Camera(spec, PlatformSpec(host, port), clips, seed=1)
    await device.start()
    try:
        yield device
    finally:
        await device.stop()


async def add_camera(platform: Platform) -> None:
    answer = await platform.post("/devices:import", {"csv": f"gb_id,password\n{GB_ID},{PASSWORD}"})
    assert answer.body["added"] == 1, answer


async def stream(platform: Platform) -> dict[str, Any] | None:
    found = (await platform.get("/streams")).body["items"]
    return found[0] if found else None


async def test_recording_goes_on_through_loss_and_comes_back_after_a_partition(tmp_path: Path):
    first = free_ports(PORTS)
    settings = {
        "VSP_MEDIA__ADVERTISED_HOST": FAR,
        "VSP_MEDIA__PORTS_PER_WORKER": str(PORTS),
        "VSP_RECORDING__SEGMENT_S": "4",
        "VSP_RECORDING__PART_S": "1",
    }
    platform = Platform(tmp_path, settings=settings, port_first=first, workers=1)
    route = Route(FAR, first, NEAR, ports=PORTS, upstream_host=NEAR, rtp_pairs=True)
    async with platform, Relay(route, seed=1) as relay:
        await add_camera(platform)
        async with camera(NEAR, platform.ready["sip"]["port"], Timing(keepalive_s=5)):
            await flows_well(platform, 25)
            (channel,) = await platform.items("/channels")

            relay.impair(Way.UP, loss=0.01, jitter_s=0.02)
            await flows_well(platform, 250)
            relay.calm()
            await all_losses_are_counted(platform, relay)
            assert relay.counters(Way.UP).lost >= 5

            relay.partition(True)
            cut_at = time.monotonic()
            await until("the stream to be missed", lambda: is_missed(platform), 20)
            await until("the end of the cut", lambda: has_passed(cut_at + CUT_S), CUT_S + 1)
            relay.partition(False)
            await flows_well(platform, 100)
            assert relay.counters(Way.DOWN).forwarded > 0, "no report has found its way back"
            await until("the gap in the timeline", lambda: has_gap(platform, channel["id"]))


async def flows_well(platform: Platform, frames: int) -> None:
    """Wait until a stream flows, is recorded, and so many more frames have come."""
    first: dict[str, int] = {}

    async def probe() -> bool:
        now = await stream(platform)
        if now is None or now["state"] != "flowing" or not now["recording"]:
            return False
        first.setdefault(now["session_id"], now["stats"]["frames"])
        return now["stats"]["frames"] - first[now["session_id"]] >= frames

    await until(f"{frames} frames", probe, 75)


async def all_losses_are_counted(platform: Platform, relay: Relay) -> None:
    """As many as the relay has lost; the last one is known once its follower has come."""

    async def probe() -> bool:
        now = await stream(platform)
        return now is not None and now["stats"]["lost"] == relay.counters(Way.UP).lost

    await until("every lost packet counted", probe, 20)


async def is_missed(platform: Platform) -> bool:
    now = await stream(platform)
    return now is None or now["state"] != "flowing"


async def has_passed(moment: float) -> bool:
    return time.monotonic() >= moment


async def has_gap(platform: Platform, channel_id: str) -> bool:
    """The timeline shows recording, a hole as long as the cut for want of media, and recording."""
    now = datetime.now(UTC)
    answer = await platform.get(
        f"/channels/{channel_id}/timeline",
        **{"from": (now - timedelta(minutes=10)).isoformat(), "to": now.isoformat()},
    )
    assert answer.status == 200, answer
    holes = [gap for gap in answer.body["gaps"] if gap["cause"] == "no_media"]
    spans = answer.body["spans"]
    return any(
        (moment(hole["end"]) - moment(hole["start"])).total_seconds() > CUT_S - 3
        and any(moment(span["end"]) <= moment(hole["start"]) for span in spans)
        and any(moment(span["start"]) >= moment(hole["end"]) for span in spans)
        for hole in holes
    )


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


async def test_registration_heartbeats_and_calls_survive_a_fifth_of_all_datagrams_lost(
    tmp_path: Path,
):
    settings = {"VSP_SIP__KEEPALIVE_INTERVAL_S": "4", "VSP_MEDIA__PORTS_PER_WORKER": str(PORTS)}
    platform = Platform(tmp_path, settings=settings, port_first=free_ports(PORTS), workers=1)
    bad = Impairment(loss=SIP_LOSS)
    async with platform:
        route = Route(FAR, 0, NEAR, platform.ready["sip"]["port"], upstream_host=NEAR, tcp=False)
        await add_camera(platform)
        async with (
            Relay(route, seed=2, up=bad, down=bad) as relay,
            camera(FAR, relay.port, Timing(keepalive_s=4, retry_s=1)) as device,
        ):
            await device.registered(30)
            await platform.channels_playing(1)

            async def enough() -> bool:
                return device.keepalives.sent >= HEARTBEATS

            await until("some heartbeats", enough, 4 * HEARTBEATS + 10)
            overview = await platform.get("/overview")
            assert overview.body["devices_online"] == 1
            assert (device.online, device.registrations) == (True, 1)
            assert min(relay.counters(way).lost for way in (Way.UP, Way.DOWN)) >= 3
