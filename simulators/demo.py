"""Many devices in one process, from a scenario file:

  {"platform": {"host": "127.0.0.1", "port": 5060, "id": "3402...", "domain": "3402000000"},
   "cache": ".cache/clips", "seed": 1, "sent_log": "sent.jsonl",
   "devices": [
     {"kind": "camera", "gb_id": "3402...", "password": "...", "name": "East gate"},
     {"kind": "nvr", "gb_id": "3402...", "password": "...", "name": "Station hall",
      "channels": [{"gb_id": "3402...", "name": "Hall 1"}, ...],
      "transport": "tcp", "codec": "h265", "size": "1280x720",
      "timing": {"keepalive_s": 30}, "faults": {"loss": 0.01}}]}

`platform` and each device's `kind`, `gb_id` and `password` are required. Unknown keys are refused.
While clips are being made it says `encoding clips 3/12` on stderr; when every device is registered
it says `simulators up` on stdout, once. It ends with its parent, and within 2 s of SIGTERM.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulators.camera import Camera, camera_spec
from simulators.clip import DEFAULT_CACHE, prepare
from simulators.device import Device, clip_specs
from simulators.faults import Faults, SsrcFault
from simulators.media import SentLog, StreamBudget
from simulators.nvr import Nvr, nvr_spec
from simulators.pacer import Pacer
from simulators.process import die_with_parent
from simulators.spec import (
    SIZES,
    ChannelSpec,
    DeviceSpec,
    PlatformSpec,
    Timing,
    VideoSpec,
    label_of,
)
from vsp.clock import SystemClock
from vsp.errors import Invalid, Unavailable
from vsp.model.device import Transport
from vsp.model.stream import VideoCodec

UP_LINE = "simulators up"
DEMO_TIMING = Timing(register_jitter_s=0.5, retry_s=2.0)
"""A demonstration does not wait a minute when the platform is a moment late."""
REGISTER_POLL_S = 3600.0

_DEVICE_KEYS = {
    *("kind", "gb_id", "password", "name", "channels", "username", "transport", "codec", "size"),
    *("bind_host", "bind_port", "gb_version", "charset", "max_streams", "timing", "faults"),
    *("audio", "rtcp", "gop_frames", "label"),
}
_PLATFORM_KEYS = {"host", "port", "id", "domain"}
_SCENARIO_KEYS = {"platform", "devices", "cache", "seed", "sent_log"}

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What a scenario file says."""

    platform: PlatformSpec
    devices: tuple[DeviceSpec, ...]
    cache: Path
    seed: int


def video_of(codec: str, size: str, **rest: Any) -> VideoSpec:  # noqa: ANN401  VideoSpec's fields
    """Codec and size by name, with the bit rate that suits the size."""
    sizes = {f"{width}x{height}": (width, height) for width, height in SIZES}
    if size not in sizes:
        raise Invalid(f"size {size!r} is not one of {', '.join(sizes)}")
    width, height = sizes[size]
    bits_per_s = SIZES[width, height]
    return VideoSpec(VideoCodec(codec), width, height, bits_per_s=bits_per_s, **rest)


def read_scenario(path: Path) -> Scenario:
    """Read a scenario file. Raises Invalid naming the place."""
    try:
        text = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Invalid(f"scenario {path}: {error}") from error
    return parse_scenario(text)


def parse_scenario(text: object) -> Scenario:
    """A scenario from parsed JSON. Raises Invalid."""
    if not isinstance(text, dict):
        raise Invalid("a scenario is a JSON object")
    _only(text, _SCENARIO_KEYS, "the scenario")
    try:
        where = text["platform"]
        _only(where, _PLATFORM_KEYS, "platform")
        platform = PlatformSpec(where["host"], int(where["port"]))
        platform = dataclasses.replace(
            platform,
            gb_id=where.get("id", platform.gb_id),
            domain=where.get("domain", platform.domain),
        )
        log = Path(text["sent_log"]) if text.get("sent_log") else None
        devices = [_device(fields, log) for fields in text["devices"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Invalid(f"scenario: {type(error).__name__}: {error}") from error
    cache = Path(text.get("cache") or DEFAULT_CACHE)
    return Scenario(platform, tuple(devices), cache, int(text.get("seed", 0)))


def _only(fields: Fields, known: set[str], where: str) -> None:
    unknown = set(fields) - known
    if unknown:
        raise Invalid(f"unknown key {sorted(unknown)[0]!r} in {where}")


def _device(fields: Fields, log: Path | None) -> DeviceSpec:
    gb_id, password = str(fields["gb_id"]), str(fields["password"])
    _only(fields, _DEVICE_KEYS, f"device {gb_id}")
    kind, name = fields["kind"], fields.get("name") or label_of(gb_id)
    if kind == "camera":
        spec = camera_spec(gb_id, password, name=name, label=fields.get("label", ""))
    elif kind == "nvr":
        spec = nvr_spec(gb_id, password, name=name)
    else:
        raise Invalid(f"device {gb_id}: kind {kind!r} is neither camera nor nvr")
    if "channels" in fields:
        spec = dataclasses.replace(spec, channels=tuple(map(_channel, fields["channels"])))
    plain = ("username", "bind_host", "bind_port", "gb_version", "charset", "max_streams")
    moving = {key: fields[key] for key in ("audio", "rtcp", "gop_frames") if key in fields}
    return dataclasses.replace(
        spec,
        transport=Transport(fields.get("transport", "udp")),
        video=video_of(fields.get("codec", "h264"), fields.get("size", "640x360"), **moving),
        timing=dataclasses.replace(DEMO_TIMING, **fields.get("timing", {})),
        faults=_faults(fields.get("faults", {})),
        sent_log=log,
        **{key: fields[key] for key in plain if key in fields},
    )


def _channel(fields: Fields) -> ChannelSpec:
    gb_id = str(fields["gb_id"])
    return ChannelSpec(
        gb_id,
        fields.get("name") or label_of(gb_id),
        fields.get("label") or label_of(gb_id),
        bool(fields.get("online", True)),
    )


def _faults(fields: Fields) -> Faults:
    ssrc = SsrcFault(fields.get("ssrc", SsrcFault.NONE))
    return Faults(**{**fields, "ssrc": ssrc})


# ---- running --------------------------------------------------------------------------------


async def make_devices(
    specs: Sequence[DeviceSpec],
    platform: PlatformSpec,
    cache: Path,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
    *,
    log: SentLog | None = None,
    budget: StreamBudget | None = None,
) -> list[Device]:
    """Devices with their clips made, one pacer for all, not yet started.

    log, budget  as of `Device`
    """
    wanted = [clip for spec in specs for clip in clip_specs(spec)]
    clips = await prepare(wanted, cache, progress)
    clock = SystemClock()
    pacer = Pacer(clock)
    kinds: Mapping[str, type[Device]] = {"camera": Camera, "nvr": Nvr}
    return [
        kinds[spec.kind](
            spec,
            platform,
            clips,
            seed=seed,
            clock=clock,
            pacer=pacer,
            log=log,
            budget=budget,
        )
        for spec in specs
    ]


async def run_until_stopped(
    specs: Sequence[DeviceSpec], platform: PlatformSpec, cache: Path, seed: int
) -> None:
    """Until SIGTERM or SIGINT; then hang up and unregister, all devices at once."""
    stop = stop_signal()
    loop = asyncio.get_running_loop()
    making = loop.create_task(make_devices(specs, platform, cache, seed, say_progress))
    if not await unless(stop, making):
        return
    devices = making.result()
    try:
        await asyncio.gather(*(device.start() for device in devices))
        await unless(stop, loop.create_task(_say_when_up(devices)))
        await stop.wait()
    finally:
        await asyncio.gather(*(device.stop() for device in devices))


def stop_signal() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def unless(stop: asyncio.Event, work: asyncio.Task[Any]) -> bool:
    """True when `work` ended by itself, False when it was cancelled because of `stop`."""
    stopping = asyncio.get_running_loop().create_task(stop.wait())
    try:
        await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    if work.done():
        work.result()
        return True
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
    return False


async def _say_when_up(devices: Sequence[Device]) -> None:
    """Devices go on trying by themselves, so the wait has no end but a stop."""
    for device in devices:
        while not device.online:
            try:
                await device.registered(REGISTER_POLL_S)
            except Unavailable as error:
                sys.stderr.write(f"{error}\n")
    sys.stdout.write(f"{UP_LINE}\n")
    sys.stdout.flush()


def say_progress(done: int, total: int) -> None:
    sys.stderr.write(f"encoding clips {done}/{total}\n")
    sys.stderr.flush()


def main(scenario_path: Path) -> int:
    """`python -m simulators demo --scenario FILE`."""
    die_with_parent()
    scenario = read_scenario(scenario_path)
    asyncio.run(
        run_until_stopped(scenario.devices, scenario.platform, scenario.cache, scenario.seed)
    )
    return 0


__all__ = [
    "UP_LINE",
    "Scenario",
    "main",
    "make_devices",
    "parse_scenario",
    "read_scenario",
    "run_until_stopped",
    "say_progress",
    "stop_signal",
    "unless",
    "video_of",
]
