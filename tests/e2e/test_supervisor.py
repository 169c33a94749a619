"""`vsp run` is killed while cameras record; the next one goes on as if nothing had happened."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.crash.recorded import holes, order, read_recorded, read_rows, read_sent
from simulators.camera import camera_spec
from simulators.demo import make_devices, video_of
from simulators.device import Device
from simulators.media import SentLog
from simulators.spec import PlatformSpec, Timing
from tests.e2e.platform import CLIPS, Platform, runs, until
from tests.e2e.test_relay import free_ports

pytestmark = pytest.mark.timeout(240)

GB_IDS = [f"3402000000132000000{number}" for number in range(1, 5)]
PASSWORD = "supervisor-test-1"
OVER_TCP = GB_IDS[-1]
"""Sends its media over TCP: the connection is the worker's, and must stay open."""

PORTS = 40
ALONE_S = 3.0
"""How long nobody supervises, at least: more than one GOP and one sync of the spool."""
GOES_ON_S = 5.0
KEEPALIVE_S = 10
"""Three that nobody answers make a camera register again: nobody is away for as long as that."""
MICROS = 1_000_000


@asynccontextmanager
async def cameras(platform: Platform, sent_log: Path) -> AsyncIterator[list[Device]]:
    """Four cameras in this very process, known to the platform; one line for each picture sent."""
    lines = "".join(f"{gb_id},{PASSWORD}\n" for gb_id in GB_IDS)
    answer = await platform.post("/devices:import", {"csv": f"gb_id,password\n{lines}"})
    assert answer.body["added"] == len(GB_IDS), answer
    for device in await platform.items("/devices"):
        if device["gb_id"] == OVER_TCP:
            wish = {"media_transport": "tcp_passive"}
            assert (await platform.patch(f"/devices/{device['id']}", wish)).status == 200

    video = video_of("h264", "320x180", audio=False)
    timing = Timing(keepalive_s=KEEPALIVE_S)
    specs = [camera_spec(gb_id, PASSWORD, video=video, timing=timing) for gb_id in GB_IDS]
    sip, log = platform.ready["sip"], SentLog(sent_log)
    where = PlatformSpec(sip["host"], sip["port"])
    devices = await make_devices(specs, where, CLIPS / "vsp-clips", 1, log=log)
    try:
        for device in devices:
            await device.start()
        yield devices
    finally:
        for device in devices:
            await device.stop()
        log.close()


async def flowing(platform: Platform) -> list[dict[str, Any]]:
    """Streams that are recorded, and have had a key picture."""
    return [
        stream
        for stream in await platform.items("/streams")
        if stream["recording"] and stream["state"] == "flowing"
    ]


async def all_record(platform: Platform) -> dict[str, dict[str, Any]]:
    """Wait until every camera is recorded; its stream by the channel."""

    async def probe() -> list[dict[str, Any]] | None:
        streams = await flowing(platform)
        return streams if len(streams) == len(GB_IDS) else None

    streams = await until("all cameras recorded", probe, 60)
    return {stream["channel_id"]: stream for stream in streams}


def now_us() -> int:
    return time.time_ns() // 1000


async def has_passed(moment: float) -> bool:
    return time.monotonic() >= moment


async def recorded_up_to(platform: Platform, at_us: int) -> None:
    """Wait for rows of every camera up to then."""

    async def probe() -> bool:
        ends = {row.channel: row.end_us for row in read_rows(platform.data / "vsp.sqlite")}
        return len(ends) == len(GB_IDS) and min(ends.values()) >= at_us

    await until("the rows of what was recorded", probe, 60)


def calls(devices: Sequence[Device]) -> list[tuple[int, list[str]]]:
    """Of each camera: how often it has registered, and the calls that are up."""
    return [(device.registrations, sorted(device.streams)) for device in devices]


async def test_workers_record_on_while_nobody_supervises_and_are_adopted(tmp_path: Path):
    settings = {
        "VSP_MEDIA__PORTS_PER_WORKER": str(PORTS),
        "VSP_RECORDING__SEGMENT_S": "4",
        "VSP_RECORDING__PART_S": "1",
    }
    platform = Platform(tmp_path, settings=settings, port_first=free_ports(2 * PORTS))
    async with platform, cameras(platform, tmp_path / "sent.jsonl") as devices:
        streams_before = await all_record(platform)
        await recorded_up_to(platform, now_us())
        calls_before, address, workers = calls(devices), address_of(platform), workers_of(platform)

        await platform.lose_supervisor()
        killed_at, killed_us = time.monotonic(), now_us()
        await until("a while alone", lambda: has_passed(killed_at + ALONE_S), ALONE_S + 1)
        await platform.start()
        streams = await all_record(platform)
        back_us = now_us()
        await recorded_up_to(platform, back_us + round(GOES_ON_S * MICROS))
        assert workers_of(platform) == workers
        assert address_of(platform) == address
        assert ids_of(streams) == ids_of(streams_before)
        assert {stream["transport"] for stream in streams.values()} == {"udp", "tcp_passive"}
        assert [stream["stats"]["lost"] for stream in await flowing(platform)] == [0] * len(GB_IDS)
        assert calls(devices) == calls_before
        assert not faults_of(platform, tmp_path / "sent.jsonl", killed_us, back_us)

        adoptions = events(platform, "process adopted")
        assert [line["pid"] for line in adoptions] == workers
        assert min(line["alone_s"] for line in adoptions) > ALONE_S - 1.5
        assert not events(platform, "worker lost")

        assert await platform.stop(signal.SIGTERM) <= 5.0
        assert not any(runs(pid) for pid in workers)


def workers_of(platform: Platform) -> list[int]:
    pids = [platform.pid("worker-0"), platform.pid("worker-1")]
    return [pid for pid in pids if pid is not None]


def address_of(platform: Platform) -> tuple[str, dict[str, Any]]:
    return platform.url, platform.ready["sip"]


def ids_of(streams: dict[str, dict[str, Any]]) -> dict[str, tuple[str, int, int]]:
    return {
        channel: (stream["session_id"], stream["worker_id"], stream["port"])
        for channel, stream in streams.items()
    }


def faults_of(platform: Platform, sent_log: Path, from_us: int, until_us: int) -> list[str]:
    """What is wrong with the pictures from before till after: holes, and what came twice or from
    nowhere. Each camera has sent them in one dialog."""
    sent = read_sent(sent_log)
    rows = read_rows(platform.data / "vsp.sqlite")
    recorded = read_recorded(rows, platform.data / "segments")
    assert recorded.digests.keys() == {row.key for row in rows}
    assert not recorded.altered + recorded.miscounted
    wrong = []
    for code, pictures in sent.items():
        found = recorded.channels[code]
        assert found[0] < from_us < until_us < found[-1]
        assert len({dialog for picture in pictures for dialog in picture.dialogs}) == 1
        gaps = [len(hole.pictures) for hole in holes(code, pictures, found)]
        faults = order(pictures, found)
        if gaps or faults.doubled or faults.disordered or faults.unknown:
            wrong.append(f"{code}: {gaps} pictures missing, {faults}")
    assert len(sent) == len(GB_IDS)
    return wrong


def events(platform: Platform, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in platform.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]
