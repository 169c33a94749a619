"""RTP of a program stream (RFC 3550, payload type 96), its framing over TCP (RFC 4571), RTCP SR."""

from __future__ import annotations

import struct

PAYLOAD_BYTES_MAX = 1400
"""GB/T 28181-2016 annex C.1 asks for packets below the MTU; every known device uses 1,400."""
PAYLOAD_TYPE_PS = 96

_VERSION = 0x80
_MARKER = 0x80
_HEADER = struct.Struct(">BBHII")
_LENGTH = struct.Struct(">H")
_SENDER_REPORT = struct.Struct(">BBHIQIII")
_NTP_EPOCH_S = 2_208_988_800
"""Seconds from 1900 (NTP) to 1970."""


class Packetiser:
    """Cuts packs into RTP packets of one SSRC, counting as it goes."""

    def __init__(self, ssrc: int, sequence: int) -> None:
        self.ssrc = ssrc
        self.packets = 0
        self.octets = 0
        self._sequence = sequence

    def packets_of(self, pack: bytes, timestamp: int) -> list[bytes]:
        """One timestamp for the whole pack (GB/T 28181-2022 4.3.6), marker on the last packet."""
        sequence, ssrc = self._sequence, self.ssrc
        last = len(pack) - PAYLOAD_BYTES_MAX
        packets = [
            _HEADER.pack(
                _VERSION,
                PAYLOAD_TYPE_PS | _MARKER if offset >= last else PAYLOAD_TYPE_PS,
                sequence + index & 0xFFFF,
                timestamp,
                ssrc,
            )
            + pack[offset : offset + PAYLOAD_BYTES_MAX]
            for index, offset in enumerate(range(0, len(pack), PAYLOAD_BYTES_MAX))
        ]
        self._sequence = sequence + len(packets) & 0xFFFF
        self.packets += len(packets)
        self.octets += len(pack)
        return packets


def framed(packets: list[bytes]) -> bytes:
    """RFC 4571: each packet behind its length in two bytes."""
    parts: list[bytes] = []
    for packet in packets:
        parts.append(_LENGTH.pack(len(packet)))
        parts.append(packet)
    return b"".join(parts)


def sender_report(source: Packetiser, now_us: int, timestamp: int) -> bytes:
    """RTCP SR without report blocks (RFC 3550 6.4.1)."""
    seconds, micros = divmod(now_us, 1_000_000)
    ntp = seconds + _NTP_EPOCH_S << 32 | (micros << 32) // 1_000_000
    return _SENDER_REPORT.pack(
        _VERSION,
        200,
        6,
        source.ssrc,
        ntp & 0xFFFF_FFFF_FFFF_FFFF,
        timestamp,
        source.packets & 0xFFFF_FFFF,
        source.octets & 0xFFFF_FFFF,
    )


__all__ = ["PAYLOAD_BYTES_MAX", "PAYLOAD_TYPE_PS", "Packetiser", "framed", "sender_report"]
