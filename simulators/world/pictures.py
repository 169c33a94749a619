"""Pictures of a world's cameras: as small as they can be, each with its number in it.

The slices are those of a grey 32x32 picture, H.264 baseline by x264: enough for every part of the
platform that does not decode, and none does on the media path. The stamp (SEI) tells one picture
from all others wherever it turns up.
"""

from __future__ import annotations

from simulators.nal import SEI_UUID, START_CODE, Stamp, stamp_sei, unescape
from simulators.ps import PsPacker
from simulators.rtp import Packetiser
from vsp.model.stream import VideoCodec

_SETS = START_CODE.join(
    (b"", bytes.fromhex("6742c00ada25a1000003000100000300328f1226a0"), bytes.fromhex("68ce0fc8"))
)
_KEY_SLICE = START_CODE + bytes.fromhex("6588843a27275d78")
_SLICE = START_CODE + bytes.fromhex("419a20268b")

_STAMP_BYTES = 12
_ESCAPED_BYTES = _STAMP_BYTES + 6
"""With as many emulation prevention bytes as could be in it."""

PACKER = PsPacker(VideoCodec.H264)


def picture(number: int, capture_us: int, key: bool) -> bytes:
    """The program stream pack of one picture."""
    stamp = stamp_sei(VideoCodec.H264, Stamp(capture_us, number))
    unit = _SETS + stamp + _KEY_SLICE if key else stamp + _SLICE
    return PACKER.video(unit, capture_us * 9 // 100 & 0x1_FFFF_FFFF, key)


def packet(packetiser: Packetiser, pack: bytes, capture_us: int) -> bytes:
    """The one RTP packet that carries it."""
    [made] = packetiser.packets_of(pack, capture_us * 9 // 100 & 0xFFFF_FFFF)
    return made


def is_key(data: bytes) -> bool:
    """Whether there is a key picture in some bytes."""
    return _KEY_SLICE in data


def numbers_in(data: bytes) -> list[int]:
    """The numbers of all pictures in some bytes (packet, fragment, object), in order."""
    found: list[int] = []
    at = data.find(SEI_UUID)
    while at >= 0:
        begin = at + len(SEI_UUID)
        stamp = unescape(data[begin : begin + _ESCAPED_BYTES])[:_STAMP_BYTES]
        found.append(int.from_bytes(stamp[8:12], "big"))
        at = data.find(SEI_UUID, begin)
    return found


__all__ = ["is_key", "numbers_in", "packet", "picture"]
