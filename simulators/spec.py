"""What a simulated device is: its codes, its channels, its platform, its habits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from simulators.faults import Faults
from vsp.errors import Invalid
from vsp.model.device import Transport
from vsp.model.stream import VideoCodec

CHANNELS_MAX = 10_000
"""Channels of one device: the hard limit of one catalogue message (GB/T 28181-2022 annex M)."""


@dataclass(frozen=True, slots=True)
class PlatformSpec:
    """Where to register. `domain` is the host part of the platform's and the device's URIs."""

    host: str
    port: int
    gb_id: str = "34020000002000000001"
    domain: str = "3402000000"


@dataclass(frozen=True, slots=True)
class ChannelSpec:
    """One source. `label` is burned into the picture: digits, Latin letters and `.:-/` show."""

    gb_id: str
    name: str
    label: str
    online: bool = True


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """What the channels of a device send. The GOP length divides the loop.

    rtcp    sender reports over UDP, from and to the odd port
    loop_s  60, so that the picture tells the time; less only where a test is in a hurry
    """

    codec: VideoCodec = VideoCodec.H264
    width: int = 640
    height: int = 360
    fps: int = 25
    gop_frames: int = 50
    bits_per_s: int = 600_000
    audio: bool = True
    rtcp: bool = False
    loop_s: int = 60


@dataclass(frozen=True, slots=True)
class Timing:
    """A device's periods. Defaults are those of GB/T 28181-2016 9.1 and 9.6.

    register_jitter_s   the first REGISTER leaves after a random wait up to this
    retry_s             wait after a failed registration: random between this and twice this
    keepalive_misses    unanswered keepalives after which the device registers again
    """

    expires_s: int = 3600
    register_jitter_s: float = 0.0
    retry_s: float = 60.0
    keepalive_s: float = 60.0
    keepalive_misses: int = 3


@dataclass(frozen=True, slots=True)
class DeviceSpec:
    """One device. For a camera the single channel has the device's own code or a neighbour."""

    kind: Literal["camera", "nvr"]
    gb_id: str
    password: str
    name: str
    channels: tuple[ChannelSpec, ...]
    username: str = ""
    transport: Transport = Transport.UDP
    bind_host: str = "127.0.0.1"
    bind_port: int = 0
    gb_version: str = "2.0"
    charset: str = "GB2312"
    max_streams: int = 0
    timing: Timing = Timing()
    video: VideoSpec = VideoSpec()
    faults: Faults = field(default_factory=Faults)
    sent_log: Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.channels) <= CHANNELS_MAX:
            raise Invalid(f"a device has 1 to {CHANNELS_MAX} channels, not {len(self.channels)}")


SIZES = {(320, 180): 250_000, (640, 360): 600_000, (1280, 720): 1_500_000}
"""Picture sizes on offer and the bits per second that keep the bar code and the clock crisp."""


def label_of(gb_id: str) -> str:
    """The short name for the picture, from the serial of a code: `...0003` -> `CAM 03`."""
    digits = "".join(c for c in gb_id[-6:] if c.isdigit()) or "0"
    return f"CAM {int(digits):02d}"


def numbered_channels(first_gb_id: str, count: int, name: str) -> Sequence[ChannelSpec]:
    """`count` channels with consecutive codes: `name 01`, `name 02`, ..."""
    prefix, serial = first_gb_id[:-6], int(first_gb_id[-6:])
    codes = [f"{prefix}{serial + i:06d}" for i in range(count)]
    return [
        ChannelSpec(code, f"{name} {i:02d}", label_of(code))
        for i, code in enumerate(codes, start=1)
    ]


__all__ = [
    "CHANNELS_MAX",
    "SIZES",
    "ChannelSpec",
    "DeviceSpec",
    "PlatformSpec",
    "Timing",
    "VideoSpec",
    "label_of",
    "numbered_channels",
]
