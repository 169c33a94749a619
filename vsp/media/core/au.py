"""AccessUnit: one coded picture or one piece of audio with its time. What every core here produces.

A depacketiser (`ps_demux.PsDemuxer`, or one of `es.py`) turns RTP payloads into access units; the
hub, the recorder and the live view see nothing else of the wire. `Timeline` puts the times right.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from vsp.media.core.timeline import Timeline
from vsp.model.stream import AudioCodec, VideoCodec

CLOCK_HZ = 90_000
"""The unit of every time in the media plane (GB/T 28181-2016 annex C.2: PS/90000)."""


@dataclass(slots=True, eq=False)
class AccessUnit:
    """One coded picture (video) or one audio frame, complete, with repaired times.

    pts_90k    presentation time, unwrapped from 33 bits; equals dts_90k without B-frames
    dts_90k    decode time; strictly increasing within a track
    key        decoding can start here (IDR / IRAP); True for all audio
    data       video: Annex B, start codes included. Audio: the raw frame (ADTS header removed)
    damaged    bytes of it, or of a picture it may refer to, were lost; ends at a clean key frame
    arrival_us when its first payload arrived, as given to `push`
    nals       video: (begin, end) of each NAL in `data`, start codes and trailing zeros excluded
    config     AAC: the AudioSpecificConfig (ISO 14496-3 1.6.2.1), else empty
    duration_90k, rate_hz, channels  audio only; how long a picture lasts the next one tells
    """

    kind: Literal["video", "audio"]
    codec: VideoCodec | AudioCodec
    pts_90k: int
    dts_90k: int
    key: bool
    data: bytes
    damaged: bool = False
    arrival_us: int = 0
    nals: list[tuple[int, int]] = field(default_factory=list)
    config: bytes = b""
    duration_90k: int = 0
    rate_hz: int = 0
    channels: int = 0


class Depacketizer(Protocol):
    """RTP payloads of one payload type in, access units out. Never raises on remote bytes.

    oddities        names of the deviations met, for the trace of the device
    damaged_frames  pictures marked damaged so far
    clock           the timeline of its pictures, or of its sound if it has no pictures
    """

    oddities: set[str]
    clock: Timeline

    @property
    def damaged_frames(self) -> int: ...

    def push(
        self,
        payload: bytes | memoryview,
        ts: int,
        marker: bool,
        lost: bool = False,
        arrival_us: int = 0,
    ) -> list[AccessUnit]:
        """Payload in sequence order; `lost`: something before it is missing."""
        ...

    def pause(self) -> list[AccessUnit]:
        """The sender rests: whatever seems complete, though only the next picture tells."""
        ...

    def flush(self) -> list[AccessUnit]:
        """The stream is over (or is being cut): whatever is complete enough to be shown."""
        ...
