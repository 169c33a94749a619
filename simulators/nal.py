"""NAL units of H.264 and H.265, as far as a camera needs: cut, tell apart, add an SEI.

The SEI (user_data_unregistered, payload type 5; ITU-T H.264 D.1.7, H.265 D.2.7) makes every frame
tell when it was taken:

  UUID (16 bytes, `SEI_UUID`) | capture time, u64 big-endian, microseconds UTC | frame number, u32

The frame number counts pictures since 1970 at the channel's frame rate, modulo 2**32: consecutive
pictures have consecutive numbers, and two streams of one channel the same.

Emulation prevention (H.264 7.3.1, H.265 7.3.1.1): inside a NAL unit 00 00 0x, x <= 3, is written
00 00 03 0x.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from vsp.model.stream import VideoCodec

START_CODE = b"\0\0\0\1"
SEI_UUID = bytes.fromhex("9b6a8f0e4c1d4e7fa2538d17c0be64f1")
_SEI_STAMP = struct.Struct(">QI")
_SEI_PAYLOAD_TYPE = 5
_SEI_NAL_HEADER = {VideoCodec.H264: b"\x06", VideoCodec.H265: b"\x4e\x01"}
_START = re.compile(rb"\x00\x00\x01")
_EMULATION = re.compile(rb"\x00\x00(?=[\x00-\x03])")


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the SEI of one frame says."""

    capture_us: int
    frame: int


def split_nals(data: bytes) -> list[bytes]:
    """NAL units of an Annex B byte stream, without start codes."""
    starts = [m.end() for m in _START.finditer(data)]
    ends = [start - 3 for start in starts[1:]] + [len(data)]
    # A four-byte start code leaves its first zero behind the previous unit; no unit ends in zero.
    return [
        data[start:end].rstrip(b"\0") if end < len(data) else data[start:end]
        for start, end in zip(starts, ends, strict=False)
    ]


def nal_type(codec: VideoCodec, nal: bytes) -> int:
    """nal_unit_type (H.264 7.3.1: five bits; H.265 7.3.1.2: six bits)."""
    return nal[0] & 0x1F if codec is VideoCodec.H264 else nal[0] >> 1 & 0x3F


def is_slice(codec: VideoCodec, nal: bytes) -> bool:
    """Whether the unit carries picture data (VCL)."""
    kind = nal_type(codec, nal)
    return 1 <= kind <= 5 if codec is VideoCodec.H264 else kind < 32


def is_parameter_set(codec: VideoCodec, nal: bytes) -> bool:
    """SPS or PPS; VPS too in H.265."""
    return nal_type(codec, nal) in ({7, 8} if codec is VideoCodec.H264 else {32, 33, 34})


def escape(payload: bytes) -> bytes:
    """Insert emulation prevention bytes."""
    escaped = _EMULATION.sub(b"\0\0\3", payload)
    return escaped + b"\3" if escaped.endswith(b"\0") else escaped


def unescape(payload: bytes) -> bytes:
    """Remove emulation prevention bytes."""
    return payload.replace(b"\0\0\3", b"\0\0")


def stamp_sei(codec: VideoCodec, stamp: Stamp) -> bytes:
    """The SEI NAL unit of one frame, with its start code."""
    content = SEI_UUID + _SEI_STAMP.pack(stamp.capture_us, stamp.frame & 0xFFFF_FFFF)
    # rbsp_trailing_bits: one 1 bit, then zeros to the byte's end.
    rbsp = bytes((_SEI_PAYLOAD_TYPE, len(content))) + content + b"\x80"
    return START_CODE + _SEI_NAL_HEADER[codec] + escape(rbsp)


def read_stamp(codec: VideoCodec, nals: Sequence[bytes]) -> Stamp | None:
    """The stamp among the NAL units of one access unit, or None."""
    header = _SEI_NAL_HEADER[codec]
    for nal in nals:
        if not nal.startswith(header):
            continue
        rbsp = unescape(nal[len(header) :])
        content = rbsp[2 : 2 + rbsp[1]]
        if rbsp[0] == _SEI_PAYLOAD_TYPE and content.startswith(SEI_UUID):
            capture_us, frame = _SEI_STAMP.unpack_from(content, len(SEI_UUID))
            return Stamp(capture_us, frame)
    return None


__all__ = [
    "SEI_UUID",
    "START_CODE",
    "Stamp",
    "escape",
    "is_parameter_set",
    "is_slice",
    "nal_type",
    "read_stamp",
    "split_nals",
    "stamp_sei",
    "unescape",
]
