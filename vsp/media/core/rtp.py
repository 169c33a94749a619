"""RTP headers (RFC 3550 5.1) and the grouping of received packets into bursts.

`collect` looks once at each received packet. What belongs together (same source, type, timestamp,
consecutive sequence numbers: normally one frame) leaves as one `Burst`, so that everything above
works per frame and not per packet. The views in a Burst are borrowed from the receive buffer; they
become owned bytes in `jitter`, in the same call that the shell makes before it receives again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

HEADER_BYTES = 12
"""Fixed part of the header; CSRC list and extension follow (RFC 3550 5.1)."""

_PLAIN = 0x80
"""First byte of nearly every packet: version 2, no padding, no extension, no CSRC."""

_MARKER = 0x80 << 48
"""The marker bit in the first eight bytes of a packet read as one number."""

_NEXT_SEQ = 1 << 32
"""Adding this to the same number counts the sequence number up by one."""

_SEQ_MASK = 0xFFFF << 32

_FIXED = struct.Struct(">QI").unpack_from


class RtpHeader(NamedTuple):
    """`offset` and `end` bound the payload in the packet: CSRC, extension, padding are off."""

    seq: int
    ts: int
    ssrc: int
    pt: int
    marker: bool
    offset: int
    end: int


@dataclass(slots=True, eq=False)
class Burst:
    """RTP packets with consecutive sequence numbers from `seq`; `parts` are their payloads.

    Same ssrc, pt and ts. `marker` is that of the last packet and only the last may have it.
    arrival_us is that of the first packet, 0 when not known.
    """

    seq: int
    ts: int
    ssrc: int
    pt: int
    marker: bool
    parts: list[memoryview]
    arrival_us: int = 0


@dataclass(slots=True, eq=False)
class Packet:
    """What leaves the reorder buffer: payload in order, owned, of one ts and pt.

    count       RTP packets joined in `payload` (always 1 where joining is off)
    lost        RTP packets missing right before it
    arrival_us  when the first of them came, 0 when not known
    """

    seq: int
    ts: int
    ssrc: int
    pt: int
    marker: bool
    payload: bytes
    count: int = 1
    lost: int = 0
    arrival_us: int = 0


class Received(NamedTuple):
    """One batch, sorted out. `rejected` counts what is neither RTP nor RTCP."""

    bursts: list[Burst]
    rtcp: list[memoryview]
    rejected: int


def is_rtcp(data: bytes | memoryview) -> bool:
    """Packet types 200-206 share the port with RTP on some devices (RFC 5761 4).

    As RTP they would be payload types 72-78 with the marker set, which nobody assigns.
    """
    return len(data) >= 8 and data[0] >> 6 == 2 and 200 <= data[1] <= 206


def parse_header(data: bytes | memoryview) -> RtpHeader | None:
    """Header of one packet; None when it is not RTP (too short, not version 2, RTCP)."""
    size = len(data)
    if size < HEADER_BYTES or data[0] >> 6 != 2 or 200 <= data[1] <= 206:
        return None
    first, ssrc = _FIXED(data)
    offset = HEADER_BYTES + 4 * (data[0] & 0x0F)
    if data[0] & 0x10:
        if offset + 4 > size:
            return None
        offset += 4 + 4 * (data[offset + 2] << 8 | data[offset + 3])
    end = size - data[size - 1] if data[0] & 0x20 else size
    if offset > end:
        return None
    return RtpHeader(
        first >> 32 & 0xFFFF,
        first & 0xFFFFFFFF,
        ssrc,
        first >> 48 & 0x7F,
        bool(first & _MARKER),
        offset,
        end,
    )


def _not_known(_index: int) -> int:
    return 0


def collect(
    frames: Iterable[memoryview], arrival_us: Callable[[int], int] = _not_known
) -> Received:
    """Group packets in order of arrival: what one recvmmsg brought, or `Rfc4571.feed`.

    arrival_us  tells when the frame of an index came; asked once per burst

    The loop's first branch is the whole cost of a healthy stream: one comparison says that a packet
    is plain, of the same type and timestamp, and the next in sequence.
    """
    bursts: list[Burst] = []
    rtcp: list[memoryview] = []
    rejected = 0
    want = ssrc = -1
    parts: list[memoryview] = []
    for index, frame in enumerate(frames):
        try:
            first, source = _FIXED(frame)
        except struct.error:  # shorter than an RTP header
            first = source = -2
        if first == want and source == ssrc:
            parts.append(frame[HEADER_BYTES:])
            want += _NEXT_SEQ
            continue
        if first == want | _MARKER and source == ssrc and want >= 0:
            parts.append(frame[HEADER_BYTES:])
            bursts[-1].marker = True
            want = -1
            continue
        header = parse_header(frame)
        if header is None:
            if is_rtcp(frame):
                rtcp.append(frame)
            else:
                rejected += 1
            continue
        ssrc = source
        parts = _append(bursts, header, frame, arrival_us, index)
        want = _expected(first, header)
    return Received(bursts, rtcp, rejected)


def _append(
    bursts: list[Burst],
    header: RtpHeader,
    frame: memoryview,
    arrival_us: Callable[[int], int],
    index: int,
) -> list[memoryview]:
    """Add an unplain packet, or one that begins something; returns the parts that now grow."""
    payload = frame[header.offset : header.end]
    last = bursts[-1] if bursts else None
    if last is not None and _continues(last, header):
        last.parts.append(payload)
        last.marker = header.marker
        return last.parts
    seq, ts, ssrc, pt, marker, _, _ = header
    parts = [payload]
    bursts.append(Burst(seq, ts, ssrc, pt, marker, parts, arrival_us(index)))
    return parts


def _continues(last: Burst, header: RtpHeader) -> bool:
    return (
        not last.marker
        and last.ts == header.ts
        and last.pt == header.pt
        and last.ssrc == header.ssrc
        and (last.seq + len(last.parts)) & 0xFFFF == header.seq
    )


def _expected(first: int, header: RtpHeader) -> int:
    """The first eight bytes of a plain packet that continues this one; -1 if none can."""
    if header.marker:
        return -1
    seq = (header.seq + 1 & 0xFFFF) << 32
    return _PLAIN << 56 | first & ~(0xFF << 56 | _SEQ_MASK) | seq
