"""Program stream, as GB/T 28181 wants it (ISO 13818-1; GB/T 28181-2016 annex C.1, 2022 annex C).

One pack a frame: pack header, on a key frame also system header and program stream map, then the
PES packets of the picture. Audio comes in packs of its own between frames. The constant parts are
the bytes of the standard's worked layout, not the product of a general muxer: this file must not
share an idea with the demultiplexer it is there to test.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vsp.model.stream import VideoCodec

PES_BYTES_MAX = 65_000
"""Of one PES packet from its start code on; the length field allows 65,541."""
SPLIT_PES_BYTES_MAX = 2_000
PTS_MASK = (1 << 33) - 1

STREAM_TYPES = {VideoCodec.H264: 0x1B, VideoCodec.H265: 0x24}
STREAM_TYPE_G711A = 0x90

_VIDEO = 0xE0
_AUDIO = 0xC0
_MUX_RATE_AND_STUFFING = bytes.fromhex("005f6bf8")
"""6,106 units of 50 bytes/s, no stuffing."""
_SYSTEM_HEADER = bytes.fromhex("000001bb000c80ccf504217fe0e190c0c020")
"""One video (E0, buffer 400 KiB) and one audio stream (C0, 4 KiB)."""
_PES_FIRST = bytes((0x84, 0x80, 0x05))
"""Marker 10, data_alignment_indicator; PTS only; five header bytes follow."""
_PES_FURTHER = bytes((0x80, 0x00, 0x00))
_BD_PACKET = (
    bytes.fromhex("000001bd0020 800000")
    + b"HKP\0"
    + bytes.fromhex("000001e00000") * 3
    + (b"\xff" * 7)
)
"""Private data with start codes inside: whoever does not skip by length trips over it."""


def crc32_mpeg(data: bytes) -> int:
    """CRC-32 of ISO 13818-1 annex A: polynomial 04C11DB7, start FFFFFFFF, no reflection."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C1_1DB7) & 0xFFFF_FFFF if crc & 0x8000_0000 else crc << 1
    return crc


def pack_header(scr_90k: int) -> bytes:
    """Fourteen bytes: 01, SCR in 3 + 15 + 15 bits with markers, extension 0, mux rate."""
    bits = (
        1 << 46
        | (scr_90k >> 30 & 7) << 43
        | 1 << 42
        | (scr_90k >> 15 & 0x7FFF) << 27
        | 1 << 26
        | (scr_90k & 0x7FFF) << 11
        | 1 << 10
        | 1
    )
    return b"\0\0\1\xba" + bits.to_bytes(6, "big") + _MUX_RATE_AND_STUFFING


def stream_map(video_type: int, audio_type: int) -> bytes:
    """Program stream map, version 1, no descriptors."""
    streams = bytes((video_type, _VIDEO, 0, 0, audio_type, _AUDIO, 0, 0))
    body = b"\xe1\xff\0\0" + struct.pack(">H", len(streams)) + streams
    head = b"\0\0\1\xbc" + struct.pack(">H", len(body) + 4) + body
    return head + struct.pack(">I", crc32_mpeg(head))


def pts_field(pts_90k: int) -> bytes:
    """Five bytes: 0010, PTS in 3 + 15 + 15 bits, each part followed by a marker."""
    return bytes(
        (
            0x21 | pts_90k >> 29 & 0x0E,
            pts_90k >> 22 & 0xFF,
            pts_90k >> 14 & 0xFE | 1,
            pts_90k >> 7 & 0xFF,
            pts_90k << 1 & 0xFE | 1,
        )
    )


def pes_packets(stream_id: int, data: bytes, pts_90k: int, bytes_max: int) -> list[bytes]:
    """`data` in as many PES packets as it takes; only the first carries the PTS."""
    head = _PES_FIRST + pts_field(pts_90k)
    packets = []
    offset = 0
    while offset < len(data):
        chunk = data[offset : offset + bytes_max - 6 - len(head)]
        start = struct.pack(">IH", 0x100 | stream_id, len(head) + len(chunk))
        packets.append(start + head + chunk)
        offset += len(chunk)
        head = _PES_FURTHER
    return packets


@dataclass(frozen=True, slots=True)
class PsPacker:
    """Frames to packs. Holds no state: the same frame gives the same bytes.

    psm        False leaves the program stream map out
    bd         True puts a private_stream_1 packet before each picture
    pes_bytes  size of a PES packet at most
    """

    codec: VideoCodec
    psm: bool = True
    bd: bool = False
    pes_bytes: int = PES_BYTES_MAX

    def video(self, access_unit: bytes, pts_90k: int, key: bool) -> bytes:
        """The pack of one picture (Annex B)."""
        parts = [pack_header(pts_90k)]
        if key:
            parts.append(_SYSTEM_HEADER)
            if self.psm:
                parts.append(_STREAM_MAPS[self.codec])
        if self.bd:
            parts.append(_BD_PACKET)
        parts += pes_packets(_VIDEO, access_unit, pts_90k, self.pes_bytes)
        return b"".join(parts)

    def audio(self, frame: bytes, pts_90k: int) -> bytes:
        """The pack of one audio frame."""
        return pack_header(pts_90k) + b"".join(pes_packets(_AUDIO, frame, pts_90k, PES_BYTES_MAX))


_STREAM_MAPS = {
    codec: stream_map(video_type, STREAM_TYPE_G711A) for codec, video_type in STREAM_TYPES.items()
}


__all__ = [
    "PES_BYTES_MAX",
    "PTS_MASK",
    "SPLIT_PES_BYTES_MAX",
    "STREAM_TYPES",
    "STREAM_TYPE_G711A",
    "PsPacker",
    "crc32_mpeg",
    "pack_header",
    "pes_packets",
    "pts_field",
    "stream_map",
]
