"""Audio payloads of PES or RTP -> frames: G.711 (ITU-T G.711), AAC in ADTS (ISO 14496-3 1.A)."""

from __future__ import annotations

from vsp.media.core.au import CLOCK_HZ, AccessUnit
from vsp.media.core.timeline import Timeline
from vsp.model.stream import AudioCodec

G711_HZ = 8000

ADTS_BYTES = 7
"""Header without CRC; with it nine (ISO 14496-3 1.A.2.2)."""

AUDIO_BYTES_MAX = 65_536
"""One PES or RTP payload: eight seconds of G.711, and no more is ever taken together."""

AAC_SAMPLES = 1024

_RATES_HZ = (
    96000,
    88200,
    64000,
    48000,
    44100,
    32000,
    24000,
    22050,
    16000,
    12000,
    11025,
    8000,
    7350,
)
"""samplingFrequencyIndex (ISO 14496-3 table 1.18)."""

_STREAM_TYPES = {
    0x0F: AudioCodec.AAC,
    0x90: AudioCodec.G711A,
    0x91: AudioCodec.G711U,
    0x03: AudioCodec.OTHER,
    0x04: AudioCodec.OTHER,
    0x11: AudioCodec.OTHER,
    0x92: AudioCodec.OTHER,
    0x93: AudioCodec.OTHER,
    0x99: AudioCodec.OTHER,
    0x9B: AudioCodec.OTHER,
}
"""stream_type of GB/T 28181-2022 annex C table C.1 and what devices use beside it."""


def codec_of_stream_type(stream_type: int) -> AudioCodec | None:
    """None for a stream type that is no audio."""
    return _STREAM_TYPES.get(stream_type)


class AudioAssembler:
    """`add` whole payloads; frames go to `out`. `codec`: as declared, or as the bytes show."""

    def __init__(self, timeline: Timeline, out: list[AccessUnit], oddities: set[str]) -> None:
        self.codec: AudioCodec | None = None
        self._declared: AudioCodec | None = None
        self._timeline = timeline
        self._out = out
        self._oddities = oddities
        self._rest = b""

    def declare(self, codec: AudioCodec) -> None:
        """What the stream map or the SDP says."""
        if codec is not self._declared:
            self._declared = self.codec = codec
            self._rest = b""

    def broken(self) -> None:
        """Something is missing here: a frame that was begun is lost."""
        self._rest = b""

    def add(self, payload: bytes, pts: int | None, rtp_ts: int, arrival_us: int) -> None:
        """One PES or RTP payload."""
        if not payload or len(payload) > AUDIO_BYTES_MAX:
            return
        if not self._rest:
            self._choose_codec(payload)
        if self.codec is AudioCodec.AAC:
            self._add_adts(payload, pts, rtp_ts, arrival_us)
        elif self.codec is AudioCodec.OTHER:
            self._emit(payload, pts, rtp_ts, arrival_us, 0)
        else:
            duration_90k = len(payload) * CLOCK_HZ // G711_HZ
            self._emit(payload, pts, rtp_ts, arrival_us, duration_90k, G711_HZ, 1)

    def _choose_codec(self, payload: bytes) -> None:
        """Without a stream map: ADTS by its sync word, MPEG audio by its layer, else G.711A.

        A map that says G.711 before what is ADTS to the last byte is wrong.
        """
        if self._declared is AudioCodec.OTHER:
            return
        if _is_adts(payload):
            if self._declared in (AudioCodec.G711A, AudioCodec.G711U):
                self._oddities.add("psm-wrong-audio-codec")
            self.codec = AudioCodec.AAC
        elif self._declared is not None:
            self.codec = self._declared
        elif self.codec is None:
            mpeg = len(payload) > 1 and payload[0] == 0xFF and payload[1] & 0xE0 == 0xE0
            layered = mpeg and payload[1] & 0x06
            self.codec = AudioCodec.OTHER if layered else AudioCodec.G711A

    def _add_adts(self, payload: bytes, pts: int | None, rtp_ts: int, arrival_us: int) -> None:
        """Each ADTS frame on its own; the first begun in this payload takes its PTS."""
        carried = len(self._rest)
        data = self._rest + payload
        at = 0
        while at + ADTS_BYTES <= len(data):
            size = _adts_size(data, at)
            if size < ADTS_BYTES:
                found = data.find(b"\xff", at + 1)
                at = found if found >= 0 else len(data)
                continue
            if at + size > len(data):
                break
            own = pts if at >= carried else None
            self._emit_adts(data[at : at + size], own, rtp_ts, arrival_us)
            if own is not None:
                pts = None
            at += size
        self._rest = data[at:]

    def _emit_adts(self, frame: bytes, pts: int | None, rtp_ts: int, arrival_us: int) -> None:
        header = ADTS_BYTES if frame[1] & 1 else ADTS_BYTES + 2
        index = frame[2] >> 2 & 0x0F
        if index >= len(_RATES_HZ) or len(frame) <= header:
            return
        object_type = (frame[2] >> 6) + 1
        channels = (frame[2] & 1) << 2 | frame[3] >> 6
        config = (object_type << 11 | index << 7 | channels << 3).to_bytes(2, "big")
        rate_hz = _RATES_HZ[index]
        duration_90k = AAC_SAMPLES * CLOCK_HZ // rate_hz
        self._emit(
            frame[header:], pts, rtp_ts, arrival_us, duration_90k, rate_hz, channels or 1, config
        )

    def _emit(
        self,
        data: bytes,
        pts: int | None,
        rtp_ts: int,
        arrival_us: int,
        duration_90k: int,
        rate_hz: int = 0,
        channels: int = 0,
        config: bytes = b"",
    ) -> None:
        codec = self.codec
        assert codec is not None
        pts_90k, dts_90k = self._timeline.place(pts, None, rtp_ts, arrival_us, duration_90k)
        self._out.append(
            AccessUnit(
                kind="audio",
                codec=codec,
                pts_90k=pts_90k,
                dts_90k=dts_90k,
                key=True,
                data=data,
                arrival_us=arrival_us,
                config=config,
                duration_90k=duration_90k,
                rate_hz=rate_hz,
                channels=channels,
            )
        )


def _adts_size(data: bytes, at: int) -> int:
    """aac_frame_length with header; 0 where no ADTS header stands."""
    if data[at] != 0xFF or data[at + 1] & 0xF6 != 0xF0:
        return 0
    return (data[at + 3] & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5


def _is_adts(payload: bytes) -> bool:
    """A sync word, and the length leads to the end or to another sync word."""
    if len(payload) < ADTS_BYTES:
        return False
    size = _adts_size(payload, 0)
    if size < ADTS_BYTES or size > len(payload):
        return False
    return size == len(payload) or payload[size] == 0xFF
