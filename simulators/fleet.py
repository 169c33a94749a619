"""Thousands of devices in one process, each a `Device` like any other.

  python -m simulators fleet --count 2000 --secret S --csv > fleet.csv     for POST /devices:import
  python -m simulators fleet --count 2000 --secret S --platform 127.0.0.1:5060

Codes count on from a first one, and each password is an HMAC of its code, so that a secret and a
number stand for the whole list. A handful of pictures is shared by all: 2,000 clips would take an
hour to encode. One device in ten uses TCP when the transport is mixed.

Devices are switched on at a bounded rate, `registered 1200/2000` on stderr tells how far it is, and
`simulators up` on stdout, once, that all are registered.

The end, within 2 s of SIGTERM, is a power cut for the whole district. 2,000 devices cannot
unregister in that time (two round trips each, and a digest on both sides), and some without the
others would be a third kind of ending: so nobody hangs up and nobody unregisters. Connections
close, streams fall silent, heartbeats stay away. It ends so with its parent, too.
"""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import gc
import hashlib
import hmac
import json
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TextIO

from simulators.camera import camera_spec
from simulators.clip import DEFAULT_CACHE
from simulators.demo import UP_LINE, make_devices, say_progress, stop_signal, unless
from simulators.device import Device
from simulators.faults import Faults
from simulators.media import SentLog, StreamBudget
from simulators.process import die_with_parent
from simulators.spec import ChannelSpec, DeviceSpec, PlatformSpec, Timing, VideoSpec
from vsp.errors import Invalid
from vsp.model.device import RecordPlan, Transport

FIRST_CAMERA = "34020000001320100001"
FIRST_RECORDER = "34020000001180100001"
"""First codes for devices of one channel and of many; beside those of the other simulators."""
COUNT_MAX = 10_000
"""Devices of one process: with a heartbeat a minute an eighth of a core, 230 MB, and a third of the
ports that one host has for them."""
SERIAL_DIGITS = 6
SERIALS = 10**SERIAL_DIGITS
"""Codes that differ in their serial alone (GB/T 28181-2016 annex D)."""
PASSWORD_CHARS = 24
"""Of 64 hexadecimal ones: 96 bits."""
PICTURES = 4
"""Clips of a fleet. Each takes seconds to encode, once."""
TCP_EVERY = 10
"""Of a mixed fleet each tenth device uses TCP; most sites are UDP with a few exceptions."""
RATE_PER_S = 100.0
"""Devices switched on in a second: four messages each, and a catalogue behind them."""
STREAMS_MAX = 64
"""Streams at once: what one process paces without being late."""
FILES_SPARE = 256
"""File descriptors beside those of devices and streams: interpreter, clips, connections."""
FILES_OF_STREAM = 2
POLL_S = 0.2
"""How often it is counted who is registered."""
PROGRESS_S = 1.0

Carriage = Literal["udp", "tcp", "mixed"]


@dataclass(frozen=True, slots=True)
class FleetSpec:
    """What a fleet is.

    channels     of each device: 1 makes cameras, more make recorders
    max_streams  of each device, 0 is no cap; a further INVITE is answered 486
    streams_max  of the whole fleet at once; a further INVITE is answered 500
    """

    secret: str
    count: int = 2000
    first_gb_id: str = ""
    channels: int = 1
    transport: Carriage = "udp"
    bind_host: str = "127.0.0.1"
    gb_version: str = "2.0"
    charset: str = "GB2312"
    max_streams: int = 0
    timing: Timing = field(default_factory=Timing)
    video: VideoSpec = field(default_factory=VideoSpec)
    faults: Faults = field(default_factory=Faults)
    streams_max: int = STREAMS_MAX
    rate_per_s: float = RATE_PER_S

    def __post_init__(self) -> None:
        if not 1 <= self.count <= COUNT_MAX:
            raise Invalid(f"a fleet has 1 to {COUNT_MAX} devices, not {self.count}")
        if self.count * self.channels >= SERIALS:
            raise Invalid(f"{self.count} devices of {self.channels} channels are too many codes")
        if self.channels < 1:
            raise Invalid(f"a device has at least one channel, not {self.channels}")
        if not self.secret:
            raise Invalid("a fleet needs a secret")
        if self.rate_per_s <= 0:
            raise Invalid("devices are switched on at a rate above 0")


def gb_ids(fleet: FleetSpec) -> list[str]:
    """The codes of the devices: consecutive. Raises Invalid when the serial has not so many."""
    first = fleet.first_gb_id or (FIRST_CAMERA if fleet.channels == 1 else FIRST_RECORDER)
    if len(first) != 20 or not (first.isascii() and first.isdigit()):
        raise Invalid(f"{first!r} is not a code of 20 digits")
    prefix, serial = first[:-SERIAL_DIGITS], int(first[-SERIAL_DIGITS:])
    if serial + fleet.count > SERIALS:
        raise Invalid(f"there are no {fleet.count} codes from {first} on")
    return [f"{prefix}{serial + number:0{SERIAL_DIGITS}d}" for number in range(fleet.count)]


def password_of(secret: str, gb_id: str) -> str:
    """The device's password: whoever knows the secret knows them all, and nobody else does."""
    return hmac.new(secret.encode(), gb_id.encode(), hashlib.sha256).hexdigest()[:PASSWORD_CHARS]


def device_specs(fleet: FleetSpec) -> list[DeviceSpec]:
    """Every device of the fleet."""
    return [_device(fleet, number, gb_id) for number, gb_id in enumerate(gb_ids(fleet))]


def _device(fleet: FleetSpec, number: int, gb_id: str) -> DeviceSpec:
    name = f"Fleet {number + 1:04d}"
    spec = camera_spec(
        gb_id,
        password_of(fleet.secret, gb_id),
        name=name,
        label=_label(number),
        transport=_transport(fleet.transport, number),
        bind_host=fleet.bind_host,
        gb_version=fleet.gb_version,
        charset=fleet.charset,
        max_streams=fleet.max_streams,
        timing=fleet.timing,
        video=fleet.video,
        faults=fleet.faults,
    )
    if fleet.channels == 1:
        return spec
    channels = _channels(fleet, number, gb_id, name)
    return dataclasses.replace(spec, kind="nvr", channels=channels)


def _channels(fleet: FleetSpec, number: int, gb_id: str, name: str) -> tuple[ChannelSpec, ...]:
    """Codes of type 131, or 132 where the devices have that one: no channel is a device's twin."""
    kind = "132" if gb_id[10:13] == "131" else "131"
    first = number * fleet.channels + 1
    return tuple(
        ChannelSpec(
            f"{gb_id[:10]}{kind}{gb_id[13]}{first + channel:0{SERIAL_DIGITS}d}",
            f"{name} {channel + 1:02d}",
            _label(number + channel),
        )
        for channel in range(fleet.channels)
    )


def _label(number: int) -> str:
    return f"CAM {number % PICTURES + 1:02d}"


def _transport(carriage: Carriage, number: int) -> Transport:
    if carriage == "mixed":
        return Transport.TCP if number % TCP_EVERY == TCP_EVERY - 1 else Transport.UDP
    return Transport(carriage)


def write_csv(fleet: FleetSpec, plan: RecordPlan | None, out: TextIO) -> None:
    """What the platform's import takes: a heading, then a line for each device.

    plan  of recording, for each; None leaves it to the platform
    """
    sheet = csv.writer(out, lineterminator="\n")
    sheet.writerow(["gb_id", "password", "name", *(["record"] if plan else [])])
    for spec in device_specs(fleet):
        sheet.writerow([spec.gb_id, spec.password, spec.name, *([plan.value] if plan else [])])


# ---- running --------------------------------------------------------------------------------


class Fleet:
    """Devices that are switched on one after the other and counted from then on."""

    def __init__(self, devices: Sequence[Device], rate_per_s: float, budget: StreamBudget) -> None:
        self._devices = devices
        self._rate_per_s = rate_per_s
        self._budget = budget

    async def switch_on(self) -> None:
        """Start every device, at the rate; returns before the last ones are registered."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, device in enumerate(self._devices):
            wait_s = began + number / self._rate_per_s - loop.time()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            await device.start()

    async def cut_power(self) -> None:
        """The end; see the module."""
        await asyncio.gather(*(device.cut_power() for device in self._devices))

    @property
    def registered(self) -> int:
        return sum(device.online for device in self._devices)

    def status(self) -> dict[str, int]:
        """What `--status-every` says."""
        return {
            "devices": len(self._devices),
            "registered": self.registered,
            "streams": self._budget.running,
            "streams_refused": self._budget.refused,
            "keepalives_sent": sum(device.keepalives.sent for device in self._devices),
            "keepalives_unanswered": sum(d.keepalives.unanswered for d in self._devices),
        }

    async def say_when_up(self) -> None:
        """Progress on stderr until all are registered; then the line on stdout."""
        total, said, next_s = len(self._devices), -1, 0.0
        loop = asyncio.get_running_loop()
        while True:
            registered = self.registered
            if registered != said and (loop.time() >= next_s or registered == total):
                _say(sys.stderr, f"registered {registered}/{total}")
                said, next_s = registered, loop.time() + PROGRESS_S
            if registered == total:
                break
            await asyncio.sleep(POLL_S)
        # What is there now stays: the collector need not look through it again and again, which
        # would hold up every stream for as long.
        gc.collect()
        gc.freeze()
        _say(sys.stdout, UP_LINE)

    async def say_status(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            _say(sys.stdout, json.dumps(self.status()))


def _say(out: TextIO, line: str) -> None:
    out.write(f"{line}\n")
    out.flush()


async def run_until_stopped(
    spec: FleetSpec,
    platform: PlatformSpec,
    *,
    cache: Path = DEFAULT_CACHE,
    seed: int = 0,
    sent_log: Path | None = None,
    status_every_s: float = 0.0,
) -> None:
    """Until SIGTERM or SIGINT.

    status_every_s  0: no status
    """
    stop = stop_signal()
    loop = asyncio.get_running_loop()
    log = SentLog(sent_log) if sent_log is not None else None
    budget = StreamBudget(spec.streams_max)
    specs = device_specs(spec)
    making = make_devices(specs, platform, cache, seed, say_progress, log=log, budget=budget)
    made = loop.create_task(making)
    if not await unless(stop, made):
        return
    fleet = Fleet(made.result(), spec.rate_per_s, budget)
    try:
        await unless(stop, loop.create_task(_run(fleet, status_every_s)))
        await stop.wait()
    finally:
        await fleet.cut_power()
        if log is not None:
            log.close()


async def _run(fleet: Fleet, status_every_s: float) -> None:
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(fleet.switch_on()), loop.create_task(fleet.say_when_up())]
    if status_every_s:
        tasks.append(loop.create_task(fleet.say_status(status_every_s)))
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def allow_files(spec: FleetSpec) -> None:
    """Have as many file descriptors as the fleet needs. Raises Invalid when that is forbidden."""
    needed = spec.count + FILES_OF_STREAM * spec.streams_max + FILES_SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise Invalid(f"{spec.count} devices need {needed} open files, {hard} are allowed")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def main(
    spec: FleetSpec,
    platform: PlatformSpec,
    *,
    cache: Path,
    seed: int,
    sent_log: Path | None,
    status_every_s: float,
) -> int:
    """`python -m simulators fleet ...`."""
    die_with_parent()
    allow_files(spec)
    asyncio.run(
        run_until_stopped(
            spec,
            platform,
            cache=cache,
            seed=seed,
            sent_log=sent_log,
            status_every_s=status_every_s,
        )
    )
    return 0


__all__ = [
    "Fleet",
    "FleetSpec",
    "allow_files",
    "device_specs",
    "gb_ids",
    "main",
    "password_of",
    "run_until_stopped",
    "write_csv",
]
