"""Small real clips, encoded once per test run with PyAV (libx264, libx265, aac)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import av
import numpy as np

STEP_90K = 3600

TIME_BASE = Fraction(1, 90_000)


@dataclass(frozen=True)
class Picture:
    """pts, dts in 90 kHz, from 90,000 on; data in Annex B with sets before each key picture."""

    pts: int
    dts: int
    key: bool
    data: bytes


@cache
def video(
    codec: str = "libx264",
    b_frames: int = 0,
    width: int = 160,
    height: int = 96,
    frames: int = 30,
    gop: int = 10,
    slices: int = 1,
    more: str = "",
) -> tuple[Picture, ...]:
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height = width, height
    encoder.pix_fmt = "yuv420p"
    encoder.framerate = 25
    encoder.time_base = TIME_BASE
    encoder.thread_count = 1
    name = codec.removeprefix("lib")
    parameters = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}"
    if name == "x264":
        parameters += f":slices={slices}"
    else:
        assert slices == 1, "this libx265 dies of slices without a thread pool"
        parameters += ":log-level=none:repeat-headers=1:pools=none:frame-threads=1"
        parameters += ":open-gop=0"
    encoder.options = {"preset": "ultrafast", f"{name}-params": parameters + more}
    packets = []
    for i in range(frames):
        packets += encoder.encode(_frame(i, width, height))
    packets += encoder.encode(None)
    shift = 90_000 - min(0, *(packet.dts for packet in packets))
    return tuple(
        Picture(packet.pts + shift, packet.dts + shift, packet.is_keyframe, bytes(packet))
        for packet in packets
    )


def _frame(i: int, width: int, height: int) -> av.VideoFrame:
    rows, columns = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(i).integers(0, 40, (height, width))
    luma = (columns * 2 + rows + i * 7 + noise) % 256
    plane = np.full((height * 3 // 2, width), 128, np.uint8)
    plane[:height] = luma
    frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
    frame.pts = i * STEP_90K
    frame.time_base = TIME_BASE
    return frame


@cache
def adts(rate_hz: int = 16_000, seconds: float = 1.0) -> tuple[bytes, ...]:
    """AAC-LC mono frames with ADTS headers."""
    encoder = av.CodecContext.create("aac", "w")
    encoder.sample_rate = rate_hz
    encoder.layout = "mono"
    encoder.format = "fltp"
    index = {16_000: 8, 8_000: 11, 48_000: 3}[rate_hz]
    packets = []
    for i in range(int(seconds * rate_hz / 1024)):
        times = (np.arange(1024) + i * 1024) / rate_hz
        samples = np.sin(2 * np.pi * 440 * times).astype(np.float32)[None] * 0.3
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        frame.pts = i * 1024
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    return tuple(_adts_header(index, len(bytes(p))) + bytes(p) for p in packets)


def _adts_header(index: int, size: int) -> bytes:
    size += 7
    return bytes(
        [
            0xFF,
            0xF1,
            0x40 | index << 2,
            0x40 | size >> 11,
            size >> 3 & 0xFF,
            (size & 7) << 5 | 0x1F,
            0xFC,
        ]
    )


@cache
def alaw(frames: int = 30) -> tuple[bytes, ...]:
    """40 ms of G.711A each: 320 bytes."""
    ramp = bytes((i * 5) & 0xFF for i in range(320))
    return (ramp,) * frames
