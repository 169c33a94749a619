"""Elementary streams straight over RTP: H.264 (RFC 6184), H.265 (RFC 7798), G.711 (RFC 3551).

GB/T 28181-2016 annex C.2: a device may answer with 98 (H.264) or send its sound beside PS as PT 8.
Here packet boundaries mean something, so these take one RTP packet at a time
(`ReorderBuffer(joined=())`, or `Sorter(joined=...)` without their payload types).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from vsp.media.core.assembler import FRAME_BYTES_MAX, Hint, PictureAssembler
from vsp.media.core.au import AccessUnit, Depacketizer
from vsp.media.core.audio import AudioAssembler
from vsp.media.core.ps_demux import PsDemuxer
from vsp.media.core.timeline import PTS_MODULUS, Timeline
from vsp.model.stream import AudioCodec, VideoCodec

START_CODE = b"\0\0\0\1"

AGGREGATED_MAX = 64
"""NAL units in one aggregation packet: 1,400 bytes hold no more that mean anything."""


class _VideoPayload(ABC):
    """What H.264 and H.265 over RTP have in common: NAL units in, pictures out."""

    codec: VideoCodec
    skip_bytes: int
    """Payload header in front of a fragment's data or of aggregated units."""

    def __init__(self) -> None:
        self.oddities: set[str] = set()
        self._out: list[AccessUnit] = []
        self.clock = Timeline()
        self._video = PictureAssembler(self.clock, self._out, self.oddities)
        self._video.declare(self.codec)
        self._fragment: list[bytes] = []
        self._fragment_bytes = 0
        self._ts: int | None = None
        self._time = 0
        self._begun_us = 0

    @property
    def damaged_frames(self) -> int:
        """Pictures marked damaged so far."""
        return self._video.damaged

    def push(
        self,
        payload: bytes | memoryview,
        ts: int,
        marker: bool,
        lost: bool = False,
        arrival_us: int = 0,
    ) -> list[AccessUnit]:
        """One RTP packet."""
        if lost:
            self._lose()
        self._advance(ts, arrival_us)
        data = bytes(payload)
        if len(data) > self.skip_bytes:
            self._payload(data)
        if marker and not self._fragment:
            self._video.hint(Hint.MARKER)
        return self._take()

    def pause(self) -> list[AccessUnit]:
        """The sender rests: a picture that seems to be over leaves."""
        self._video.pause()
        return self._take()

    def flush(self) -> list[AccessUnit]:
        """The stream is over: the last picture leaves."""
        self._fragment.clear()
        self._video.flush()
        return self._take()

    @abstractmethod
    def _payload(self, data: bytes) -> None:
        """Read one packet of this payload format."""

    def _advance(self, ts: int, arrival_us: int) -> None:
        """Extend the 32-bit timestamp, so that its wrap is not taken for a new clock."""
        if self._ts is None:
            self._time = ts
        elif ts != self._ts:
            step = ((ts - self._ts + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
            self._time = (self._time + step) % PTS_MODULUS
            if not self._fragment:
                self._video.hint(Hint.TIMESTAMP)
        if ts != self._ts:
            self._begun_us = arrival_us
        self._ts = ts

    def _lose(self) -> None:
        if self._fragment:
            self._unit(b"".join(self._fragment))
            self._fragment.clear()
            self._video.cut()
        self._video.broken()

    def _unit(self, nal: bytes) -> None:
        if nal:
            assert self._ts is not None
            self._video.add(START_CODE + nal, self._time, None, self._ts, self._begun_us)

    def _fragmented(self, header: bytes, start: bool, end: bool, data: bytes) -> None:
        """FU: the NAL header is rebuilt by the first, the rest is appended."""
        if start:
            if self._fragment:
                self._video.cut()
            self._fragment = [header, data]
            self._fragment_bytes = len(data)
        elif self._fragment:
            self._fragment.append(data)
            self._fragment_bytes += len(data)
        else:
            return  # its beginning was lost
        if self._fragment_bytes > FRAME_BYTES_MAX:
            self.oddities.add("picture-too-large")
            self._fragment.clear()
            self._video.broken()
        elif end:
            self._unit(b"".join(self._fragment))
            self._fragment.clear()

    def _aggregated(self, data: bytes, at: int) -> None:
        """STAP-A and AP: 16-bit size, NAL unit, again."""
        for _ in range(AGGREGATED_MAX):
            if at + 2 > len(data):
                return
            size = data[at] << 8 | data[at + 1]
            self._unit(data[at + 2 : at + 2 + size])
            at += 2 + size

    def _take(self) -> list[AccessUnit]:
        out = self._out.copy()
        self._out.clear()
        return out


class H264Payload(_VideoPayload):
    """RFC 6184, packetization mode 0 and 1: single units, STAP-A, FU-A."""

    codec = VideoCodec.H264
    skip_bytes = 1

    def _payload(self, data: bytes) -> None:
        kind = data[0] & 0x1F
        if 1 <= kind <= 23:
            self._unit(data)
        elif kind == 24:
            self._aggregated(data, 1)
        elif kind == 28:
            header = bytes([data[0] & 0xE0 | data[1] & 0x1F])
            self._fragmented(header, data[1] >= 0x80, bool(data[1] & 0x40), data[2:])
        else:
            self.oddities.add("interleaved-packetization")


class H265Payload(_VideoPayload):
    """RFC 7798 without DONL (sprop-max-don-diff 0): single units, AP, FU."""

    codec = VideoCodec.H265
    skip_bytes = 2

    def _payload(self, data: bytes) -> None:
        kind = data[0] >> 1 & 0x3F
        if kind < 48:
            self._unit(data)
        elif kind == 48:
            self._aggregated(data, 2)
        elif kind == 49:
            header = bytes([data[0] & 0x81 | (data[2] & 0x3F) << 1, data[1]])
            self._fragmented(header, data[2] >= 0x80, bool(data[2] & 0x40), data[3:])
        else:
            self.oddities.add("paci-packets")


class G711Payload:
    """RFC 3551 4.5.14: the payload is the samples; the timestamp counts them at 8 kHz.

    beside  whose pictures it is the sound of. Their clock starts anywhere else, and without RTCP
            only the moment of arrival joins the two; sound before the first picture is left out.
            Without it the times are the sender's own.
    """

    def __init__(self, codec: AudioCodec, beside: Depacketizer | None = None) -> None:
        self.damaged_frames = 0
        self.oddities: set[str] = set()
        self._out: list[AccessUnit] = []
        self.clock = Timeline()
        self._pictures = beside.clock if beside is not None else None
        self._audio = AudioAssembler(self.clock, self._out, self.oddities)
        self._audio.declare(codec)

    def push(
        self,
        payload: bytes | memoryview,
        ts: int,
        marker: bool,
        lost: bool = False,
        arrival_us: int = 0,
    ) -> list[AccessUnit]:
        """One RTP packet."""
        pts = ts * 45 // 4 % PTS_MODULUS
        if self._pictures is not None:
            at_90k = self._pictures.at(arrival_us)
            if at_90k is None:
                return []
            self.clock.align(at_90k, pts)
            self._pictures = None
        self._audio.add(bytes(payload), pts, ts, arrival_us)
        return self.flush()

    def pause(self) -> list[AccessUnit]:
        return self.flush()

    def flush(self) -> list[AccessUnit]:
        """Sound is never held back."""
        out = self._out.copy()
        self._out.clear()
        return out


def depacketizer_for(encoding: str, beside: Depacketizer | None = None) -> Depacketizer | None:
    """By rtpmap encoding name ("PS", "H264", "H265", "PCMA", "PCMU"); None if we cannot.

    beside  for sound of its own payload type: the depacketiser of the pictures
    """
    match encoding.upper():
        case "PS" | "MP2P":
            return PsDemuxer()
        case "H264":
            return H264Payload()
        case "H265" | "HEVC":
            return H265Payload()
        case "PCMA":
            return G711Payload(AudioCodec.G711A, beside)
        case "PCMU":
            return G711Payload(AudioCodec.G711U, beside)
        case _:
            return None
