from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simulators.demo import parse_scenario, read_scenario
from simulators.faults import SsrcFault
from tests.simulators.little import PASSWORD, LittlePlatform
from tests.simulators.live import live, until
from vsp.errors import Invalid
from vsp.model.device import Transport
from vsp.model.stream import VideoCodec

CAMERAS = ["34020000001320000001", "34020000001320000002"]
NVR = "34020000001180000001"
ROOT = Path(__file__).resolve().parents[2]


def scenario(port: int = 5060, **more) -> dict:
    return {
        "platform": {"host": "127.0.0.1", "port": port},
        "devices": [
            *(
                {"kind": "camera", "gb_id": c, "password": PASSWORD, "size": "320x180"}
                for c in CAMERAS
            ),
            {
                "kind": "nvr",
                "gb_id": NVR,
                "password": PASSWORD,
                "name": "录像机",
                "channels": [{"gb_id": "34020000001320000009", "name": "街道办 前厅"}],
                "transport": "tcp",
                "size": "320x180",
            },
        ],
        **more,
    }


def test_a_scenario_says_what_each_device_is():
    text = scenario(cache="/tmp/clips", seed=4, sent_log="sent.jsonl")
    text["devices"][0] |= {
        "codec": "h265",
        "faults": {"loss": 0.1, "ssrc": "zero"},
        "timing": {"keepalive_s": 7},
        "audio": False,
        "label": "EAST GATE",
    }

    read = parse_scenario(text)

    first, second, nvr = read.devices
    assert (read.cache, read.seed) == (Path("/tmp/clips"), 4)
    assert first.video.codec is VideoCodec.H265
    assert (first.video.width, first.video.bits_per_s, first.video.audio) == (320, 250_000, False)
    assert (first.faults.loss, first.faults.ssrc) == (0.1, SsrcFault.ZERO)
    assert first.timing.keepalive_s == 7
    assert first.channels[0].label == "EAST GATE"
    assert (second.name, second.channels[0].label) == ("CAM 02", "CAM 02")
    assert (nvr.transport, nvr.channels[0].name) == (Transport.TCP, "街道办 前厅")
    assert nvr.channels[0].label == "CAM 09"
    assert {device.sent_log for device in read.devices} == {Path("sent.jsonl")}


def test_the_platforms_id_and_domain_may_be_given():
    text = scenario()
    text["platform"] |= {"id": "11010500002000000001", "domain": "1101050000"}

    platform = parse_scenario(text).platform

    assert (platform.gb_id, platform.domain) == ("11010500002000000001", "1101050000")


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ((), {"devises": []}),
        (("platform",), {"prot": 5060}),
        (("platform",), {"port": "many"}),
        (("devices", 0), {"gb-id": "1"}),
        (("devices", 0), {"kind": "toaster"}),
        (("devices", 0), {"codec": "mjpeg"}),
        (("devices", 0), {"size": "100x100"}),
        (("devices", 0), {"transport": "pigeon"}),
        (("devices", 0), {"faults": {"gremlins": 1}}),
        (("devices", 0), {"timing": {"keepalive": 1}}),
        (("devices", 0), {"channels": []}),
        (("devices", 0), {"channels": [{"name": "no code"}]}),
    ],
)
def test_what_a_scenario_cannot_mean_is_refused(place: tuple, change: dict):
    text = scenario()
    target = text
    for key in place:
        target = target[key]
    target |= change

    with pytest.raises(Invalid):
        parse_scenario(text)


def test_a_list_is_no_scenario():
    with pytest.raises(Invalid):
        parse_scenario([scenario()])


@pytest.mark.parametrize("lost", ["gb_id", "password", "kind"])
def test_what_is_required_is_required(lost: str):
    text = scenario()
    del text["devices"][0][lost]

    with pytest.raises(Invalid):
        parse_scenario(text)


def test_a_file_that_is_no_scenario_is_named(tmp_path: Path):
    path = tmp_path / "x.json"
    path.write_text("{")

    with pytest.raises(Invalid, match=r"x\.json"):
        read_scenario(path)
    with pytest.raises(Invalid, match="absent"):
        read_scenario(tmp_path / "absent.json")


async def started(path: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulators", "demo", "--scenario", str(path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )


async def ended_within(process: asyncio.subprocess.Process, seconds: float) -> float:
    began = time.monotonic()
    async with asyncio.timeout(seconds):
        await process.wait()
    return time.monotonic() - began


async def test_a_demo_comes_up_says_so_once_and_leaves_in_order(tmp_path: Path):
    little = LittlePlatform()
    path = tmp_path / "scenario.json"
    async with live(little) as platform:
        path.write_text(json.dumps(scenario(platform.port, cache=str(tmp_path / "clips"))))
        process = await started(path)
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"simulators up\n"
        registered = {message.from_.user for message in little.requests("REGISTER")}

        process.send_signal(signal.SIGTERM)
        await ended_within(process, 2)
        said, complained = await process.stdout.read(), await process.stderr.read()
        left = [m.from_.user for m in little.requests("REGISTER") if m.expires == 0]

    assert registered == {*CAMERAS, NVR} == set(left)
    assert (process.returncode, said) == (0, b"")
    lines = complained.decode().splitlines()
    assert lines == [f"encoding clips {n}/3" for n in range(4)]


async def test_a_demo_can_be_stopped_while_it_encodes(tmp_path: Path):
    path = tmp_path / "scenario.json"
    text = scenario(9, cache=str(tmp_path / "clips"))
    for device in text["devices"]:
        device |= {"size": "1280x720", "codec": "h265"}
    path.write_text(json.dumps(text))
    process = await started(path)
    async with asyncio.timeout(20):
        assert await process.stderr.readline() == b"encoding clips 0/3\n"

    process.send_signal(signal.SIGTERM)

    await ended_within(process, 2)
    assert process.returncode == 0
    await process.communicate()
    workers = ["pgrep", "-f", f"simulators.clip {tmp_path}"]
    await until("no worker is left", lambda: subprocess.run(workers, check=False).returncode == 1)


async def test_a_demo_dies_with_its_parent(tmp_path: Path):
    little = LittlePlatform()
    path = tmp_path / "scenario.json"
    async with live(little) as platform:
        path.write_text(json.dumps(scenario(platform.port, cache=str(tmp_path / "clips"))))
        command = [sys.executable, "-m", "simulators", "demo", "--scenario", str(path)]
        launcher = f"import subprocess; subprocess.run({command!r})"
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", launcher),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=ROOT,
        )
        async with asyncio.timeout(30):
            await parent.stdout.readline()

        parent.kill()

        # Its standard output ends only when the demo itself has gone.
        async with asyncio.timeout(3):
            await parent.communicate()
        assert not little.registered
