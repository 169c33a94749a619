"""A program stream packer for these tests only, written from GB/T 28181-2016 annex C and 13818-1.

Hand-made: its bytes are checked against the worked example of the standard in test_ps_demux.py.
Every deviation that a test needs is an argument or is made by joining the parts differently.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

H264, H265, AAC, G711A, G711U = 0x1B, 0x24, 0x0F, 0x90, 0x91
VIDEO, AUDIO = 0xE0, 0xC0
PAYLOAD_BYTES = 1400


def pack_header(scr: int = 90000, mux_rate: int = 6106, stuffing: int = 0) -> bytes:
    clock = (
        0b01 << 46
        | (scr >> 30 & 7) << 43
        | 1 << 42
        | (scr >> 15 & 0x7FFF) << 27
        | 1 << 26
        | (scr & 0x7FFF) << 11
        | 1 << 10
        | 1
    )
    rate = (mux_rate << 2 | 3).to_bytes(3, "big")
    tail = bytes([0xF8 | stuffing]) + b"\xff" * stuffing
    return b"\0\0\1\xba" + clock.to_bytes(6, "big") + rate + tail


def system_header() -> bytes:
    return bytes.fromhex("000001bb000c80ccf50421 7fe0e190c0c020")


def stream_map(*streams: tuple[int, int], info: bytes = b"", version: int = 1) -> bytes:
    """streams: (stream_type, stream_id)."""
    entries = b"".join(struct.pack(">BBH", kind, code, 0) for kind, code in streams)
    body = bytes([0xE0 | version, 0xFF]) + struct.pack(">H", len(info)) + info
    body += struct.pack(">H", len(entries)) + entries
    unit = b"\0\0\1\xbc" + struct.pack(">H", len(body) + 4) + body
    return unit + struct.pack(">I", crc32_mpeg(unit))


def crc32_mpeg(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return crc


def timestamp(prefix: int, value: int) -> bytes:
    return bytes(
        [
            prefix << 4 | value >> 29 & 0x0E | 1,
            value >> 22 & 0xFF,
            value >> 14 & 0xFE | 1,
            value >> 7 & 0xFF,
            value << 1 & 0xFE | 1,
        ]
    )


def pes_header(pts: int | None, dts: int | None) -> bytes:
    """From the flags on; 0x84 as in the standard's example: data alignment."""
    if pts is None:
        return b"\x84\x00\x00"
    if dts is None or dts == pts:
        return b"\x84\x80\x05" + timestamp(2, pts)
    return b"\x84\xc0\x0a" + timestamp(3, pts) + timestamp(1, dts)


def pes(
    code: int, data: bytes, pts: int | None = None, dts: int | None = None, most: int = 65000
) -> bytes:
    """As many PES as `data` needs; only the first has times."""
    out = b""
    for at in range(0, len(data), most) or (0,):
        header = pes_header(pts, dts) if at == 0 else pes_header(None, None)
        piece = data[at : at + most]
        length = struct.pack(">H", len(header) + len(piece))
        out += b"\0\0\1" + bytes([code]) + length + header + piece
    return out


def picture(
    data: bytes,
    pts: int | None,
    dts: int | None = None,
    key: bool = False,
    video: int = H264,
    audio: int = G711A,
    most: int = 65000,
) -> bytes:
    """One video frame as one pack (GB/T 28181-2016 annex C.1)."""
    head = pack_header(pts or 0)
    if key:
        head += system_header() + stream_map((video, VIDEO), (audio, AUDIO))
    return head + pes(VIDEO, data, pts, dts, most)


def sound(data: bytes, pts: int | None) -> bytes:
    return pack_header(pts or 0) + pes(AUDIO, data, pts)


def rtp(
    pack: bytes,
    seq: int,
    ts: int,
    pt: int = 96,
    ssrc: int = 0x0BADF00D,
    markers: str = "last",
    payload_bytes: int = PAYLOAD_BYTES,
) -> Iterator[bytes]:
    """One pack as RTP packets. markers: "last", "all" or "none"."""
    starts = range(0, len(pack), payload_bytes)
    for i, at in enumerate(starts):
        last = i == len(starts) - 1
        marker = markers == "all" or (markers == "last" and last)
        yield (
            struct.pack(
                ">BBHII",
                0x80,
                pt | marker << 7,
                (seq + i) & 0xFFFF,
                ts & 0xFFFFFFFF,
                ssrc,
            )
            + pack[at : at + payload_bytes]
        )


def rtp_stream(packs: Iterable[tuple[int, bytes]], seq: int = 1000, **how: object) -> list[bytes]:
    """(RTP timestamp, pack) -> packets numbered through."""
    packets: list[bytes] = []
    for ts, pack in packs:
        packets += rtp(pack, seq + len(packets), ts, **how)  # type: ignore[arg-type]
    return packets
