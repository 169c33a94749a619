"""RTP over TCP: RFC 4571 two-byte lengths, or the `$ channel length` of RTSP (RFC 2326 10.12).

GB/T 28181-2016 annex L wants RFC 4571; some devices send the other, so the first bytes decide.
A sender that overwrites its own buffer leaves garbage between packets: the next packet is then
found by its SSRC, and by a second packet standing where its length says.
"""

from __future__ import annotations

from typing import Literal

from vsp.errors import Invalid

RTP_HEADER_BYTES = 12

RTCP_HEADER_BYTES = 8

SOURCES_MAX = 4
"""SSRCs taken as known on one connection: video, audio, one restart of each."""

GARBAGE_BYTES_MAX = 1 << 20
"""Two seconds of 4 Mbit/s without one packet: this is no RTP stream, the connection is useless."""


class Rfc4571:
    """`feed` whatever was received, get whole RTP/RTCP packets (views into owned bytes).

    framing        what the first bytes showed; None before them
    resyncs        times the boundary was lost and found again
    skipped_bytes  garbage left out in all
    """

    def __init__(self) -> None:
        self.framing: Literal["rfc4571", "interleaved"] | None = None
        self.resyncs = 0
        self.skipped_bytes = 0
        self._rest = b""
        self._prefix = 2
        self._sources: list[bytes] = []
        self._astray = False
        self._astray_bytes = 0

    def feed(self, data: bytes) -> list[memoryview]:
        """Raises Invalid when the stream is not RTP and no packet boundary can be found again."""
        buffer = self._rest + data if self._rest else bytes(data)
        frames: list[memoryview] = []
        begin = 0
        if self.framing is None:
            if len(buffer) < 6:
                self._rest = buffer
                return frames
            self._detect(buffer)
        while True:
            if self._astray:
                begin = self._search(buffer, begin)
                if self._astray:
                    break
            begin = self._cut(buffer, begin, frames)
            if not self._astray:
                break
        self._rest = buffer[begin:]
        return frames

    def _detect(self, buffer: bytes) -> None:
        """RFC 4571 has the RTP version bits in byte 2, interleaved framing in byte 4."""
        if buffer[2] >> 6 != 2 and buffer[0] == 0x24 and buffer[4] >> 6 == 2:
            self.framing, self._prefix = "interleaved", 4
        else:
            self.framing = "rfc4571"

    def _cut(self, buffer: bytes, begin: int, frames: list[memoryview]) -> int:
        """Take whole packets from `begin` on; stops at a cut one or, astray, at a wrong one."""
        view = memoryview(buffer)
        size = len(buffer)
        prefix = self._prefix
        known = self._sources[0] if self._sources else b""
        while begin + prefix + RTP_HEADER_BYTES <= size:
            body = begin + prefix
            end = body + (buffer[body - 2] << 8 | buffer[body - 1])
            ours = buffer[body] >> 6 == 2 and buffer[body + 8 : body + 12] == known
            if not (ours and end - body >= RTP_HEADER_BYTES) and end != body:
                verdict = self._judge(buffer, body, end)
                if verdict is None:
                    return begin
                if not verdict:
                    self._astray = True
                    self.resyncs += 1
                    return begin
                known = self._sources[0] if self._sources else b""
            if end > size:
                return begin
            if end > body:
                frames.append(view[body:end])
            begin = end
        return begin

    def _judge(self, buffer: bytes, body: int, end: int) -> bool | None:
        """A packet that is not from the usual source: fine, garbage, or (None) not yet known.

        A new SSRC is believed when another packet follows where the length says.
        """
        length = end - body
        if self._prefix == 4 and buffer[body - 4] != 0x24:
            return False
        if length < RTCP_HEADER_BYTES or buffer[body] >> 6 != 2:
            return False
        if 200 <= buffer[body + 1] <= 206:
            return True
        if length < RTP_HEADER_BYTES:
            return False
        source = buffer[body + 8 : body + 12]
        if source in self._sources or not self._sources:
            return self._learn(source)
        following = end + self._prefix
        if following >= len(buffer):
            return None
        return self._learn(source) if buffer[following] >> 6 == 2 else False

    def _learn(self, source: bytes) -> bool:
        """The source seen last comes first, for the quick test; the oldest is forgotten."""
        others = [known for known in self._sources if known != source]
        self._sources = [source, *others][:SOURCES_MAX]
        return True

    def _search(self, buffer: bytes, begin: int) -> int:
        """The next packet of a known source from `begin` on. Stays astray when there is none yet.

        Raises Invalid after GARBAGE_BYTES_MAX in a row, or with no source to look for.
        """
        at = begin + 1
        best = -1
        for source in self._sources:
            found = self._search_source(buffer, at, source)
            if found >= 0 and (best < 0 or found < best):
                best = found
        # Without a find, keep as much as may be the beginning of one.
        to = best if best >= 0 else max(begin, len(buffer) - self._prefix - RTP_HEADER_BYTES)
        self.skipped_bytes += to - begin
        self._astray_bytes += to - begin
        if best >= 0:
            self._astray, self._astray_bytes = False, 0
        elif self._astray_bytes > GARBAGE_BYTES_MAX or not self._sources:
            raise Invalid(
                f"TCP media stream is not RTP: {self._astray_bytes} bytes without a packet",
                cause="The device's stream over TCP has no packet boundaries.",
                next_step="Set the device's media transport to UDP.",
            )
        return to

    def _search_source(self, buffer: bytes, begin: int, source: bytes) -> int:
        ssrc_at = buffer.find(source, begin + self._prefix + 8)
        while ssrc_at >= 0:
            body = ssrc_at - 8
            if self._plausible(buffer, body):
                return body - self._prefix
            ssrc_at = buffer.find(source, ssrc_at + 1)
        return -1

    def _plausible(self, buffer: bytes, body: int) -> bool:
        """Version 2, a sane length, and another packet behind it as far as can be seen."""
        length = buffer[body - 2] << 8 | buffer[body - 1]
        if buffer[body] >> 6 != 2 or length < RTP_HEADER_BYTES:
            return False
        following = body + length + self._prefix
        return following >= len(buffer) or buffer[following] >> 6 == 2
