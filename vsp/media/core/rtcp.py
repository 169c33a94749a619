"""RTCP as far as a receiver needs it: SR and BYE read, RR + SDES written (RFC 3550 6).

Some devices stop sending after about a minute without receiver reports; a report every five
seconds costs nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from vsp.media.core.rtp import Packet

SR, RR, SDES, BYE = 200, 201, 202, 203

_CNAME = 1

REPORTS_MAX = 32
"""Sub-packets read of one compound packet; the standard's largest useful number is far below."""

CNAME_BYTES_MAX = 255
"""One length byte (RFC 3550 6.5)."""


@dataclass(frozen=True, slots=True)
class SenderReport:
    """RFC 3550 6.4.1. ntp: 64-bit NTP time at which `rtp_ts` was sampled."""

    ssrc: int
    ntp: int
    rtp_ts: int
    packets: int
    octets: int


@dataclass(frozen=True, slots=True)
class Bye:
    """RFC 3550 6.6: this source leaves."""

    ssrc: int


def parse(data: bytes | memoryview) -> list[SenderReport | Bye]:
    """The SRs and BYEs of a compound packet; other types are skipped; malformed rest ends it."""
    out: list[SenderReport | Bye] = []
    at = 0
    for _ in range(REPORTS_MAX):
        if at + 8 > len(data) or data[at] >> 6 != 2:
            break
        end = at + 4 + 4 * (data[at + 2] << 8 | data[at + 3])
        if end > len(data):
            break
        kind, ssrc = data[at + 1], int.from_bytes(data[at + 4 : at + 8], "big")
        if kind == SR and end - at >= 28:
            out.append(SenderReport(ssrc, *struct.unpack_from(">QIII", data, at + 8)))
        elif kind == BYE and data[at] & 0x1F:
            out.append(Bye(ssrc))
        at = end
    return out


class Reception:
    """Statistics of one source for RR (RFC 3550 A.3, A.8). Feed it what leaves the sorter.

    jitter_s  interarrival jitter. Measured once per timestamp, i.e. per frame, by its first packet:
              RFC 3550's per-packet figure mostly measures the sender's bursts.
    """

    def __init__(self, ssrc: int, clock_hz: int = 90_000) -> None:
        self.jitter_s = 0.0
        self._ssrc = ssrc
        self._clock_hz = clock_hz
        self._highest = 0
        self._cycles = 0
        self._received = 0
        self._lost = 0
        self._reported = (0, 0)
        self._last: tuple[int, float] | None = None
        self._report: tuple[int, float] | None = None

    def received(self, packet: Packet, now: float) -> None:
        """Count a packet (or several joined) that arrived at `now`, in seconds of any clock."""
        newest = (packet.seq + packet.count - 1) & 0xFFFF
        if self._last is not None and newest < self._highest and self._highest - newest > 0x8000:
            self._cycles += 1
        self._highest = newest
        self._received += packet.count
        self._lost += packet.lost
        self._measure(packet.ts, now)

    def sender_report(self, report: SenderReport, now: float) -> None:
        """Remember when it came, for LSR and DLSR."""
        self._report = (report.ntp >> 16 & 0xFFFFFFFF, now)

    def receiver_report(self, own_ssrc: int, cname: str, now: float) -> bytes:
        """RR with one block, and the SDES CNAME that a compound packet must have (6.1)."""
        lsr, since = self._report if self._report is not None else (0, now)
        delay = int((now - since) * 65536) & 0xFFFFFFFF if lsr else 0
        block = struct.pack(
            ">IIIIII",
            self._ssrc,
            self._fraction() << 24 | min(self._lost, 0x7FFFFF),
            (self._cycles & 0xFFFF) << 16 | self._highest,
            int(self.jitter_s * self._clock_hz) & 0xFFFFFFFF,
            lsr,
            delay,
        )
        report = struct.pack(">BBHI", 0x81, RR, 1 + len(block) // 4, own_ssrc) + block
        return report + _sdes(own_ssrc, cname)

    def _fraction(self) -> int:
        """Lost since the last report, in 256ths."""
        received, lost = self._received - self._reported[0], self._lost - self._reported[1]
        self._reported = (self._received, self._lost)
        return min(255, lost * 256 // (received + lost)) if received + lost else 0

    def _measure(self, ts: int, now: float) -> None:
        last = self._last
        if last is not None and last[0] == ts:
            return
        self._last = (ts, now)
        if last is None:
            return
        step = ((ts - last[0] + 0x80000000) & 0xFFFFFFFF) - 0x80000000
        difference = abs(now - last[1] - step / self._clock_hz)
        if difference < 1.0:  # a jump of the sender's clock is no jitter
            self.jitter_s += (difference - self.jitter_s) / 16


def _sdes(ssrc: int, cname: str) -> bytes:
    text = cname.encode("utf-8")[:CNAME_BYTES_MAX]
    chunk = struct.pack(">IBB", ssrc, _CNAME, len(text)) + text + b"\0"
    chunk += bytes(-len(chunk) % 4)
    return struct.pack(">BBH", 0x81, SDES, len(chunk) // 4) + chunk
