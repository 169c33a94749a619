"""Fragmented MP4 (ISO 14496-12, -15): our own writer and the reader that playback needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from vsp.media.core.au import AccessUnit
from vsp.media.core.nal import ParameterSets, VideoFormat
from vsp.model.stream import AudioCodec, VideoCodec


@dataclass(frozen=True, slots=True)
class Track:
    """One track of a movie: make it by `video_track` / `audio_track`, or get it by `parse_init`.

    entry         sample entry: avc1 avc3 hvc1 hev1 alaw ulaw mp4a
    codec_string  for MSE: "avc1.42C01E", "hvc1.1.6.L93.B0", "mp4a.40.2", "alaw"
    config        the avcC / hvcC record, or the AudioSpecificConfig
    """

    id: int
    kind: Literal["video", "audio"]
    codec: VideoCodec | AudioCodec
    entry: str
    codec_string: str
    config: bytes
    width: int = 0
    height: int = 0
    rate_hz: int = 0
    channels: int = 0
    timescale: int = 90_000


def video_track(sets: ParameterSets, track_id: int = 1, in_band: bool = False) -> Track:
    """in_band=True: avc3/hev1 (recordings); False: avc1/hvc1 (MSE). Sets stay in samples anyway.

    Raises Invalid while `sets.format` is None.
    """
    ...


def audio_track(au: AccessUnit, track_id: int = 2) -> Track:
    """Raises Unsupported for codecs that we do not put into MP4."""
    ...


def init_segment(tracks: Sequence[Track]) -> bytes:
    """`ftyp moov`."""
    ...


def mime(tracks: Sequence[Track]) -> str:
    """`video/mp4; codecs="avc1.42C01E"`"""
    ...


@dataclass(frozen=True, slots=True)
class Fragment:
    """`moof mdat`. base_dts_90k is what its first track's tfdt says (after `origin_90k`)."""

    data: bytes
    key: bool
    base_dts_90k: int
    duration_90k: int
    samples: int
    damaged: int


class Fragmenter:
    """Collects access units, gives fragments: one per picture (live) or per GOP (recording).

    fragmenter.add(au); fragmenter.fragment()                       # live
    if au.key: fragmenter.fragment(end_dts_90k=au.dts_90k)          # recording, before add
    """

    def __init__(self, tracks: Sequence[Track], origin_90k: int = 0) -> None:
        self.pending = 0

    def add(self, au: AccessUnit) -> None:
        """Audio without an audio track is ignored. Video decode times must increase."""
        ...

    def fragment(self, end_dts_90k: int | None = None) -> Fragment | None:
        """Everything added since the last one; None if nothing. The last picture lasts until
        `end_dts_90k`, or as long as the one before it."""
        ...


@dataclass(frozen=True, slots=True)
class Init:
    """A parsed `ftyp moov`. size: its bytes, i.e. the offset of the first fragment."""

    tracks: tuple[Track, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Sample:
    """offset: from the start of the fragment (its moof)."""

    offset: int
    size: int
    dts_90k: int
    pts_90k: int
    duration_90k: int
    key: bool


@dataclass(frozen=True, slots=True)
class FragmentInfo:
    """Where a fragment lies and what is in it. samples: per track id."""

    offset: int
    size: int
    sequence: int
    samples: dict[int, list[Sample]]


def parse_init(data: bytes) -> Init:
    """Raises Invalid."""
    ...


def iter_fragments(data: bytes, offset: int = 0) -> Iterator[FragmentInfo]:
    """The whole fragments of `data` from `offset` on; a cut last one is left out. Raises Invalid."""
    ...


def remux(data: bytes, track_ids: Sequence[int], shift_90k: int = 0, sequence: int = 1) -> bytes:
    """One fragment again with only these tracks and times moved: playback into MSE drops G.711."""
    ...
