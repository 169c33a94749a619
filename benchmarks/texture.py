"""The stream whose bytes are counted: 1080p of moving texture, so that 4 Mbit/s are really used.

It is made once, as a clip of the simulators (simulators/clip.py), and is then sent by real
simulated cameras and, packed the same way, read from a file by the peer. `python -m
benchmarks.texture` runs the cameras; their places come as JSON on standard input.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from benchmarks.figure import ROOT
from simulators.camera import camera_spec
from simulators.clip import MAGIC, Clip, ClipSpec
from simulators.demo import DEMO_TIMING, run_until_stopped
from simulators.device import clip_specs
from simulators.faults import Faults
from simulators.nal import START_CODE, Stamp, is_parameter_set, is_slice, split_nals, stamp_sei
from simulators.process import die_with_parent
from simulators.ps import PsPacker
from simulators.spec import DeviceSpec, PlatformSpec, VideoSpec

CACHE = ROOT / ".cache" / "bench"
LOOP_S = 30
VIDEO = VideoSpec(width=1920, height=1080, bits_per_s=4_000_000, audio=False, loop_s=LOOP_S)
FILE_S = 300
"""Of stream in the peer's file: 150 MB, so that its start is a small part of what it takes."""
FILE_FRAMES = FILE_S * VIDEO.fps
GOP_S = VIDEO.gop_frames / VIDEO.fps


@dataclass(frozen=True, slots=True)
class Cameras:
    """What the process of the cameras is told: codes, and where they register."""

    gb_ids: Sequence[str]
    password: str
    host: str
    port: int
    id: str
    domain: str
    sent_log: str

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def device_specs(cameras: Cameras) -> list[DeviceSpec]:
    """Clocks differ, so that pictures and key pictures are spread in time as those of a street."""
    apart_s = GOP_S / len(cameras.gb_ids)
    return [
        camera_spec(
            gb_id,
            cameras.password,
            label="texture",
            timing=DEMO_TIMING,
            video=VIDEO,
            faults=Faults(clock_skew_s=round(number * apart_s, 3)),
            sent_log=Path(cameras.sent_log),
        )
        for number, gb_id in enumerate(cameras.gb_ids)
    ]


def main() -> None:
    die_with_parent()
    cameras = Cameras(**json.load(sys.stdin))
    platform = PlatformSpec(cameras.host, cameras.port, cameras.id, cameras.domain)
    asyncio.run(run_until_stopped(device_specs(cameras), platform, CACHE, seed=1))


# ---- as a clip, as packs, as a file ---------------------------------------------------------


def clip() -> Clip:
    """Made when it is not there."""
    [spec] = clip_specs(camera_spec("34020000001320000001", "", label="texture", video=VIDEO))
    path = CACHE / spec.file_name
    if not path.exists():
        frames = [_cut(spec, unit) for unit in _pictures(spec)]
        header = json.dumps({"frames": [[len(h), len(s), int(bool(h))] for h, s in frames]})
        body = b"".join(head + slices for head, slices in frames)
        CACHE.mkdir(parents=True, exist_ok=True)
        _write(path, MAGIC + struct.pack(">I", len(header)) + header.encode() + body)
    return Clip.load(spec, path)


def pack(loop: Clip, frame: int) -> bytes:
    """What a camera sends for this frame, byte for byte but for the time in its stamp."""
    stamp = Stamp(frame * 1_000_000 // VIDEO.fps, frame)
    shown = loop.frame(frame)
    unit = shown.head + stamp_sei(VIDEO.codec, stamp) + shown.slices
    return PsPacker(VIDEO.codec).video(unit, frame * 90_000 // VIDEO.fps, shown.key)


def program_stream(loop: Clip) -> Path:
    """The peer's file."""
    path = CACHE / f"texture-{FILE_S}s.ps"
    if not path.exists():
        _write(path, b"".join(pack(loop, frame) for frame in range(FILE_FRAMES)))
    return path


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    made = path.with_suffix(".tmp")
    made.write_bytes(data)
    made.replace(path)


def _cut(spec: ClipSpec, unit: bytes) -> tuple[bytes, bytes]:
    """Parameter sets and slices; the encoder's own SEI is left out."""
    nals = split_nals(unit)
    sets = (nal for nal in nals if is_parameter_set(spec.codec, nal))
    slices = (nal for nal in nals if is_slice(spec.codec, nal))
    return (
        b"".join(START_CODE + nal for nal in sets),
        b"".join(START_CODE + nal for nal in slices),
    )


def _pictures(spec: ClipSpec) -> Iterator[bytes]:
    """Access units (Annex B)."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = spec.width, spec.height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, spec.fps), Fraction(spec.fps)
    encoder.gop_size, encoder.bit_rate = spec.gop_frames, spec.bits_per_s
    gop = f"keyint={spec.gop_frames}:min-keyint={spec.gop_frames}:scenecut=0:bframes=0"
    kbit_per_s = spec.bits_per_s // 1000
    rate = f"vbv-maxrate={kbit_per_s}:vbv-bufsize={kbit_per_s}"
    encoder.options = {"preset": "ultrafast", "x264-params": f"{gop}:{rate}"}
    texture = np.random.default_rng(1).integers(
        0, 256, (spec.height // 8, spec.width // 8), np.uint8
    )
    texture = np.kron(texture, np.ones((8, 8), np.uint8))
    planes = np.full((spec.height * 3 // 2, spec.width), 128, np.uint8)
    for index in range(spec.frames):
        planes[: spec.height] = np.roll(texture, (index * 3, index * 5), (0, 1))
        picture = av.VideoFrame.from_ndarray(planes, "yuv420p")
        picture.pts = index
        yield from map(bytes, encoder.encode(picture))
    yield from map(bytes, encoder.encode(None))


if __name__ == "__main__":
    main()
