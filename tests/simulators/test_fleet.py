from __future__ import annotations

import asyncio
import hashlib
import hmac
import io
import json
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from simulators.__main__ import fleet_of, main, parser
from simulators.camera import Camera
from simulators.device import clip_specs
from simulators.faults import Faults
from simulators.fleet import (
    COUNT_MAX,
    FILES_OF_STREAM,
    FILES_SPARE,
    PICTURES,
    Fleet,
    FleetSpec,
    allow_files,
    device_specs,
    gb_ids,
    password_of,
    write_csv,
)
from simulators.media import StreamBudget
from simulators.spec import DeviceSpec, Timing, VideoSpec
from tests.simulators.conftest import GOP, SECONDS
from tests.simulators.little import LittlePlatform
from tests.simulators.live import Live, live, until
from vsp.actions.imports import parse_devices
from vsp.errors import Invalid
from vsp.model.catalog import is_playable
from vsp.model.device import RecordPlan, Transport
from vsp.model.stream import VideoCodec

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a secret of the tests"


# ---- what a fleet is ------------------------------------------------------------------------


def test_codes_count_on_from_the_first_one():
    assert gb_ids(FleetSpec(SECRET, 3)) == [
        "34020000001320100001",
        "34020000001320100002",
        "34020000001320100003",
    ]
    given = FleetSpec(SECRET, 2, first_gb_id="11010500001320000099")
    assert gb_ids(given) == ["11010500001320000099", "11010500001320000100"]
    assert gb_ids(FleetSpec(SECRET, 1, channels=4))[0][10:13] == "118"


def test_codes_end_where_the_serial_ends():
    last = FleetSpec(SECRET, 2, first_gb_id="34020000001320999998")
    assert gb_ids(last)[1] == "34020000001320999999"
    for wrong in ("34020000001320999999", "3402000000132099999", "3402000000132099999x", "①" * 20):
        with pytest.raises(Invalid):
            gb_ids(FleetSpec(SECRET, 2, first_gb_id=wrong))


def test_a_password_is_an_hmac_of_the_code():
    code = "34020000001320100001"
    whole = hmac.new(SECRET.encode(), code.encode(), hashlib.sha256).hexdigest()

    assert whole.startswith(password_of(SECRET, code))
    assert len(password_of(SECRET, code)) == 24
    assert len({password_of(SECRET, code), password_of("x", code), password_of(SECRET, "1")}) == 3


def test_the_platforms_own_import_reads_the_sheet():
    spec = FleetSpec(SECRET, 2000)
    sheet = io.StringIO()
    write_csv(spec, RecordPlan.NONE, sheet)

    lines = parse_devices(sheet.getvalue())

    assert [line.error for line in lines if line.new is None] == []
    read = [(line.new.gb_id, line.new.password, line.new.name) for line in lines]
    assert read == [(one.gb_id, one.password, one.name) for one in device_specs(spec)]
    assert {line.new.record_plan for line in lines} == {RecordPlan.NONE}


def test_without_a_plan_the_sheet_says_nothing_about_recording():
    sheet = io.StringIO()
    write_csv(FleetSpec(SECRET, 1), None, sheet)

    assert sheet.getvalue().splitlines()[0] == "gb_id,password,name"
    assert parse_devices(sheet.getvalue())[0].new.record_plan is None


def test_of_a_mixed_fleet_each_tenth_device_uses_tcp():
    transports = [one.transport for one in device_specs(FleetSpec(SECRET, 20, transport="mixed"))]

    assert [number for number, kind in enumerate(transports) if kind is Transport.TCP] == [9, 19]
    for kind in ("udp", "tcp"):
        specs = device_specs(FleetSpec(SECRET, 11, transport=kind))
        assert {one.transport for one in specs} == {Transport(kind)}


@pytest.mark.parametrize("first", ["", "34020000001310000001", "34020000001320000001"])
def test_channels_of_recorders_have_codes_of_their_own(first: str):
    specs = device_specs(FleetSpec(SECRET, 300, channels=5, first_gb_id=first))
    codes = [channel.gb_id for one in specs for channel in one.channels]

    assert len(set(codes)) == 1500
    assert not set(codes) & {one.gb_id for one in specs}
    assert all(is_playable(code, False, False) for code in codes)
    assert {one.kind for one in specs} == {"nvr"}


def test_the_channel_of_a_camera_has_the_cameras_code():
    (spec,) = device_specs(FleetSpec(SECRET, 1))

    assert (spec.kind, spec.channels[0].gb_id) == ("camera", spec.gb_id)


@pytest.mark.parametrize("channels", [1, 16])
def test_a_fleet_needs_no_more_than_a_handful_of_clips(channels: int):
    specs = device_specs(FleetSpec(SECRET, 2000, channels=channels))

    assert len({clip for one in specs for clip in clip_specs(one)}) == PICTURES


def test_a_fleet_has_bounds():
    FleetSpec(SECRET, COUNT_MAX)
    FleetSpec(SECRET, 9_999, channels=100)
    for wrong in (
        {"count": 0},
        {"count": COUNT_MAX + 1},
        {"count": 10_000, "channels": 100},
        {"channels": 0},
        {"rate_per_s": 0},
        {"secret": ""},
    ):
        with pytest.raises(Invalid):
            FleetSpec(**{"secret": SECRET, **wrong})


def test_habits_media_and_faults_are_those_of_every_device():
    words = ("--count", "3", "--keepalive", "20", "--size", "320x180", "--sip-loss", "0.1")
    words += ("--transport", "mixed", "--streams-max", "7", "--rate", "50", "--max-streams", "2")
    fleet = fleet_of(parser().parse_args(["fleet", "--secret", SECRET, *words]))

    assert (fleet.streams_max, fleet.rate_per_s) == (7, 50)
    for spec in device_specs(fleet):
        assert spec.timing.keepalive_s == 20
        assert (spec.video.width, spec.max_streams) == (320, 2)
        assert spec.faults == Faults(sip_loss=0.1)


def test_the_sheet_is_printed_without_a_platform(capsys: pytest.CaptureFixture):
    assert main(["fleet", "--secret", SECRET, "--count", "2", "--csv", "--record", "none"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "gb_id,password,name,record",
        *(f"{code},{password_of(SECRET, code)},Fleet {n:04d},none" for n, code in codes(2)),
    ]


def codes(count: int) -> list[tuple[int, str]]:
    return list(enumerate(gb_ids(FleetSpec(SECRET, count)), start=1))


def test_a_fleet_that_cannot_be_ends_with_2_and_a_sentence(capsys: pytest.CaptureFixture):
    assert main(["fleet", "--secret", SECRET, "--count", "0"]) == 2

    assert "1 to 10000 devices" in capsys.readouterr().err


def test_open_files_are_allowed_as_far_as_they_may_be(monkeypatch: pytest.MonkeyPatch):
    needed = 100 + 5 * FILES_OF_STREAM + FILES_SPARE
    spec = FleetSpec(SECRET, 100, streams_max=5)
    limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, both: limits.append(both))

    for had, hard in ((needed - 1, needed), (needed, needed), (1, resource.RLIM_INFINITY)):
        monkeypatch.setattr(resource, "getrlimit", lambda which, both=(had, hard): both)
        allow_files(spec)
    assert limits == [(needed, needed), (needed, resource.RLIM_INFINITY)]

    monkeypatch.setattr(resource, "getrlimit", lambda which: (1, needed - 1))
    with pytest.raises(Invalid, match=f"{needed} open files"):
        allow_files(spec)


# ---- a fleet that runs ----------------------------------------------------------------------


@dataclass
class Keyring(LittlePlatform):
    """A platform that knows the password of each device of a fleet."""

    def _digest_holds(self, header: str) -> bool:
        self.password = password_of(SECRET, header.partition('username="')[2][:20])
        return super()._digest_holds(header)


SMALL = FleetSpec(
    SECRET,
    12,
    transport="mixed",
    rate_per_s=40,
    timing=Timing(retry_s=0.2),
    video=VideoSpec(gop_frames=GOP, loop_s=SECONDS),
)


@asynccontextmanager
async def running(spec: FleetSpec, platform: Live, clips) -> AsyncIterator[Fleet]:
    """A fleet whose devices all show the clip of CAM 01; not yet switched on."""
    budget = StreamBudget(spec.streams_max)

    def device(one: DeviceSpec) -> Camera:
        shown = dict.fromkeys(clip_specs(one), clips[VideoCodec.H264])
        return Camera(one, platform.spec, shown, budget=budget)

    made = Fleet([device(one) for one in device_specs(spec)], spec.rate_per_s, budget)
    try:
        yield made
    finally:
        await made.cut_power()


async def test_devices_register_one_after_the_other_at_the_rate(clips, capsys):
    async with live(Keyring()) as platform, running(SMALL, platform, clips) as fleet:
        async with asyncio.timeout(20):
            await asyncio.gather(fleet.switch_on(), fleet.say_when_up())
        status = fleet.status()
        first = [
            when
            for when, message in platform.little.seen
            if message.method == "REGISTER" and message.header("authorization") is None
        ]

    assert (status["devices"], status["registered"]) == (12, 12)
    assert len(first) == 12
    assert first[-1] - first[0] >= 11 / 40 - 0.05
    said = capsys.readouterr()
    assert said.out == "simulators up\n"
    assert said.err.splitlines()[-1] == "registered 12/12"


async def test_heartbeats_are_counted_over_all_devices(clips):
    quick = FleetSpec(SECRET, 3, timing=Timing(keepalive_s=0.2, keepalive_misses=9))
    async with live(Keyring()) as platform, running(quick, platform, clips) as fleet:
        await fleet.switch_on()
        await until("heartbeats", lambda: fleet.status()["keepalives_sent"] >= 9)
        assert fleet.status()["keepalives_unanswered"] == 0
        platform.little.silent = True
        await until("silence", lambda: fleet.status()["keepalives_unanswered"] >= 3)


async def test_a_power_cut_says_nothing(clips):
    async with live(Keyring()) as platform, running(SMALL, platform, clips) as fleet:
        await fleet.switch_on()
        await until("all", lambda: fleet.registered == 12)
        said = len(platform.little.seen)
        await fleet.cut_power()

        await until("the broken connection", lambda: not platform._connections)
        assert len(platform.little.seen) == said


# ---- the command ----------------------------------------------------------------------------


def words(port: int, cache: Path, *more: str) -> list[str]:
    media = ("--size", "320x180", "--cache", str(cache))
    return [
        *(sys.executable, "-m", "simulators", "fleet", "--platform", f"127.0.0.1:{port}"),
        *("--secret", SECRET, "--count", "20", "--transport", "mixed", *media, *more),
    ]


async def test_a_fleet_comes_up_says_how_it_is_and_goes_on_sigterm(
    tmp_path: Path, clip_cache: Path
):
    little = Keyring()
    async with live(little) as platform:
        process = await asyncio.create_subprocess_exec(
            *words(platform.port, clip_cache, "--status-every", "0.3", "--rate", "50"),
            *("--sent-log", str(tmp_path / "sent.jsonl")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
        )
        async with asyncio.timeout(60):
            lines = []
            while not lines or lines[-1] != b"simulators up\n":
                lines.append(await process.stdout.readline())
            status = json.loads(await process.stdout.readline())
        registered = {message.from_.user for message in little.requests("REGISTER")}

        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(5):
            _, complained = await process.communicate()
        took_s = time.monotonic() - began
        left = [message for message in little.requests("REGISTER") if message.expires == 0]

    assert registered == set(gb_ids(FleetSpec(SECRET, 20)))
    assert set(status) == {
        *("devices", "registered", "streams", "streams_refused"),
        *("keepalives_sent", "keepalives_unanswered"),
    }
    assert (status["devices"], status["registered"], status["streams"]) == (20, 20, 0)
    assert (process.returncode, left) == (0, [])
    assert took_s < 2
    assert complained.decode().splitlines()[-1] == "registered 20/20"
    assert (tmp_path / "sent.jsonl").exists()


async def test_a_fleet_dies_with_its_parent(clip_cache: Path):
    async with live(Keyring()) as platform:
        command = words(platform.port, clip_cache, "--rate", "100")
        launcher = f"import subprocess; subprocess.run({command!r})"
        parent = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", launcher),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=ROOT,
        )
        async with asyncio.timeout(60):
            assert await parent.stdout.readline() == b"simulators up\n"

        parent.kill()

        # Its standard output ends only when the fleet itself has gone.
        async with asyncio.timeout(3):
            await parent.communicate()


def test_no_device_of_a_fleet_writes_a_log_of_its_own():
    assert {spec.sent_log for spec in device_specs(SMALL)} == {None}
