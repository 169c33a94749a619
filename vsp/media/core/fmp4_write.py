"""Writing fragmented MP4 (ISO 14496-12, 14496-15).

One writer for both uses. Live: one fragment a picture, pushed into the browser's MediaSource at
once. Recording: one fragment a GOP, appended to an object. Parameter sets and SEI stay in the
samples, so that signatures in the stream survive and a late change of sets is not lost. Every time
is in 90 kHz, in all tracks. The reader is in `fmp4_read`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from vsp.errors import Invalid, Unsupported
from vsp.media.core.au import CLOCK_HZ, AccessUnit
from vsp.media.core.nal import ParameterSets, VideoFormat
from vsp.media.core.timeline import STEP_90K
from vsp.model.stream import AudioCodec, VideoCodec

SAMPLES_MAX = 4096
"""Samples in one fragment: 80 s of 50 pictures a second, far above any GOP. A stream that never
sends a key frame must not grow a fragment without end."""

SYNC_SAMPLE = 0x02000000
"""sample_depends_on 2: on no other (ISO 14496-12 8.8.3.1)."""

NON_SYNC_SAMPLE = 0x01010000
"""sample_depends_on 1: on others; sample_is_non_sync_sample."""

_UNITY_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)

_LANGUAGE_UND = 0x55C4

_SAMPLE = struct.Struct(">IIIi")
"""Duration, size, flags, composition offset: one row of a trun (ISO 14496-12 8.8.8)."""

# tfhd: default-base-is-moof. trun: data offset; per sample duration, size, flags, composition.
_TFHD_FLAGS = 0x020000
_TRUN_FLAGS = 0x000001 | 0x000100 | 0x000200 | 0x000400 | 0x000800

_AUDIO_ENTRIES = {
    AudioCodec.G711A: ("alaw", "alaw"),
    AudioCodec.G711U: ("ulaw", "ulaw"),
    AudioCodec.AAC: ("mp4a", "mp4a.40.2"),
}


@dataclass(frozen=True, slots=True)
class Track:
    """One track of a movie: from `video_track` or `audio_track`, or read back by `parse_init`.

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
    timescale: int = CLOCK_HZ


@dataclass(frozen=True, slots=True)
class Fragment:
    """`moof mdat`.

    key           its first picture is one that decoding can start with
    base_dts_90k  what the tfdt of its first track says (i.e. after `origin_90k`)
    duration_90k  of its first track
    samples       of its first track; `damaged` of them are so marked
    """

    data: bytes
    key: bool
    base_dts_90k: int
    duration_90k: int
    samples: int
    damaged: int


# ---- tracks ---------------------------------------------------------------------------------


def video_track(sets: ParameterSets, track_id: int = 1, in_band: bool = False) -> Track:
    """in_band=True: avc3/hev1 (recordings); False: avc1/hvc1 (MSE). Sets stay in samples anyway.

    Raises Invalid while `sets.format` is None.
    """
    video = sets.format
    if video is None:
        raise Invalid("no decoder configuration before the first key frame with parameter sets")
    if video.codec is VideoCodec.H265:
        entry = "hev1" if in_band else "hvc1"
        config = _hvcc(video, sets, complete=not in_band)
    else:
        entry = "avc3" if in_band else "avc1"
        config = _avcc(video, sets)
    return Track(
        id=track_id,
        kind="video",
        codec=video.codec,
        entry=entry,
        codec_string=f"{entry}.{video.codec_string}",
        config=config,
        width=video.width,
        height=video.height,
    )


def audio_track(au: AccessUnit, track_id: int = 2) -> Track:
    """Raises Unsupported for codecs that we do not put into MP4."""
    if not isinstance(au.codec, AudioCodec) or au.codec not in _AUDIO_ENTRIES:
        raise Unsupported(f"audio codec {au.codec.value} has no MP4 sample entry")
    entry, codec_string = _AUDIO_ENTRIES[au.codec]
    return Track(
        id=track_id,
        kind="audio",
        codec=au.codec,
        entry=entry,
        codec_string=codec_string,
        config=au.config,
        rate_hz=au.rate_hz,
        channels=au.channels,
    )


def mime(tracks: Sequence[Track]) -> str:
    """`video/mp4; codecs="avc1.42C01E"`"""
    kind = "video" if any(track.kind == "video" for track in tracks) else "audio"
    return f'{kind}/mp4; codecs="{",".join(track.codec_string for track in tracks)}"'


def _avcc(video: VideoFormat, sets: ParameterSets) -> bytes:
    """AVCDecoderConfigurationRecord (ISO 14496-15 5.3.3.1)."""
    sps, pps = sets.sps[:31], sets.pps[:255]
    record = b"\x01" + sps[0][1:4] + b"\xff" + bytes([0xE0 | len(sps)]) + _sized(sps)
    record += bytes([len(pps)]) + _sized(pps)
    if video.profile not in (66, 77, 88):
        depths = (video.bit_depth_luma - 8, video.bit_depth_chroma - 8)
        record += bytes([0xFC | video.chroma, 0xF8 | depths[0], 0xF8 | depths[1], 0])
    return record


def _hvcc(video: VideoFormat, sets: ParameterSets, complete: bool) -> bytes:
    """HEVCDecoderConfigurationRecord (ISO 14496-15 8.3.3.1).

    min_spatial_segmentation_idc, parallelismType, avgFrameRate, constantFrameRate: 0, unknown.
    """
    layers = min(video.temporal_layers, 7) << 3 | video.temporal_nested << 2 | 3
    record = b"\x01" + video.ptl + b"\xf0\x00\xfc"
    record += bytes(
        [
            0xFC | video.chroma,
            0xF8 | (video.bit_depth_luma - 8) & 7,
            0xF8 | (video.bit_depth_chroma - 8) & 7,
            0,
            0,
            layers,
            3,
        ]
    )
    for kind, units in ((32, sets.vps), (33, sets.sps), (34, sets.pps)):
        record += struct.pack(">BH", complete << 7 | kind, len(units)) + _sized(units)
    return record


def _sized(units: Sequence[bytes]) -> bytes:
    return b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)


# ---- boxes ----------------------------------------------------------------------------------


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def init_segment(tracks: Sequence[Track]) -> bytes:
    """`ftyp moov`: no samples, a trex for each track."""
    brands = b"iso5\0\0\2\0iso5iso6mp41"
    # mvhd: no times, timescale 1000, duration 0, rate 1.0, volume 1.0, next_track_ID.
    movie = struct.pack(">IIIIIH10x", 0, 0, 1000, 0, 0x10000, 0x100) + _UNITY_MATRIX + bytes(24)
    next_id = max((track.id for track in tracks), default=0) + 1
    extends = [_full(b"trex", 0, 0, struct.pack(">5I", t.id, 1, 0, 0, 0)) for t in tracks]
    return _box(b"ftyp", brands) + _box(
        b"moov",
        _full(b"mvhd", 0, 0, movie, struct.pack(">I", next_id)),
        *(_trak(track) for track in tracks),
        _box(b"mvex", *extends),
    )


def _trak(track: Track) -> bytes:
    volume = 0x100 if track.kind == "audio" else 0
    header = struct.pack(">5I8xHHHH", 0, 0, track.id, 0, 0, 0, 0, volume, 0) + _UNITY_MATRIX
    header += struct.pack(">II", track.width << 16, track.height << 16)
    return _box(b"trak", _full(b"tkhd", 0, 7, header), _box(b"mdia", *_media(track)))


def _media(track: Track) -> list[bytes]:
    video = track.kind == "video"
    handler = struct.pack(">I4s12x", 0, b"vide" if video else b"soun") + b"vsp\0"
    media_header = _full(b"vmhd", 0, 1, bytes(8)) if video else _full(b"smhd", 0, 0, bytes(4))
    here = _full(b"dref", 0, 0, struct.pack(">I", 1), _full(b"url ", 0, 1))
    entry = _video_entry(track) if video else _audio_entry(track)
    table = _box(
        b"stbl",
        _full(b"stsd", 0, 0, struct.pack(">I", 1), entry),
        *(_full(kind, 0, 0, bytes(4)) for kind in (b"stts", b"stsc")),
        _full(b"stsz", 0, 0, bytes(8)),
        _full(b"stco", 0, 0, bytes(4)),
    )
    times = struct.pack(">IIIIHH", 0, 0, track.timescale, 0, _LANGUAGE_UND, 0)
    return [
        _full(b"mdhd", 0, 0, times),
        _full(b"hdlr", 0, 0, handler),
        _box(b"minf", media_header, _box(b"dinf", here), table),
    ]


def _video_entry(track: Track) -> bytes:
    """VisualSampleEntry (ISO 14496-12 12.1.3), 72 dpi, one frame a sample, depth 24."""
    config = _box(b"hvcC" if track.codec is VideoCodec.H265 else b"avcC", track.config)
    fields = struct.pack(
        ">6xH16xHHIIIH32xHh", 1, track.width, track.height, 0x480000, 0x480000, 0, 1, 24, -1
    )
    return _box(track.entry.encode("ascii"), fields, config)


def _audio_entry(track: Track) -> bytes:
    """AudioSampleEntry (ISO 14496-12 12.2.3); the rate is 16.16, so it ends at 65,535 Hz."""
    rate = min(track.rate_hz, 0xFFFF) << 16
    fields = struct.pack(">6xH8xHHHHI", 1, max(track.channels, 1), 16, 0, 0, rate)
    extra = _esds(track.config) if track.codec is AudioCodec.AAC else b""
    return _box(track.entry.encode("ascii"), fields, extra)


def _esds(config: bytes) -> bytes:
    """ES descriptor of AAC (ISO 14496-1 7.2.6.5): object type 0x40, audio stream."""
    specific = bytes([5, len(config)]) + config
    decoder = b"\x40\x15" + bytes(11) + specific
    descriptor = b"\0\0\0" + bytes([4, len(decoder)]) + decoder + b"\x06\x01\x02"
    return _full(b"esds", 0, 0, bytes([3, len(descriptor)]) + descriptor)


# ---- fragments ------------------------------------------------------------------------------


class _Pending:
    """The samples of one track that go into the next fragment.

    Kept as they come, because that happens for each picture, and written in `run`, once for all.

    written_to    decode time of the last sample in a fragment
    duration_90k  of the last fragment's samples
    """

    def __init__(self, track: Track) -> None:
        self.track = track
        self.units: list[AccessUnit] = []
        self.times: list[int] = []
        self.written_to: int | None = None
        self.duration_90k = 0
        self._step = STEP_90K

    def add(self, au: AccessUnit) -> None:
        dts = au.dts_90k
        if self.times and dts <= self.times[-1]:
            dts = self.times[-1] + 1  # a duration is never zero: MSE drops samples without one
        self.times.append(dts)
        self.units.append(au)

    def run(
        self, origin_90k: int, end_dts_90k: int | None, buffers: list[bytes | memoryview]
    ) -> SampleRun:
        """All of them, their data added to `buffers`. Begins anew."""
        units, times = self.units, self.times
        self.units, self.times = [], []
        durations = self._durations(units, times, end_dts_90k)
        self.written_to, self.duration_90k = times[-1], sum(durations)
        append = _append_nals if self.track.kind == "video" else _append_whole
        sizes = [append(au, buffers) for au in units]
        flags = [SYNC_SAMPLE if au.key else NON_SYNC_SAMPLE for au in units]
        offsets = [_clamped(au.pts_90k - dts) for au, dts in zip(units, times, strict=True)]
        table = b"".join(map(_SAMPLE.pack, durations, sizes, flags, offsets))
        base = max(times[0] - origin_90k, 0)
        return SampleRun(self.track.id, base, len(units), table, sum(sizes))

    def _durations(
        self, units: list[AccessUnit], times: list[int], end_dts_90k: int | None
    ) -> list[int]:
        """Each lasts until the next; the last one until the given end, or as long as is usual."""
        durations = [after - dts for dts, after in pairwise(times)]
        if durations:
            self._step = durations[-1]
        if end_dts_90k is not None and end_dts_90k > times[-1]:
            last = end_dts_90k - times[-1]
        else:
            last = units[-1].duration_90k or self._step
        return [*durations, last]


class Fragmenter:
    """Collects access units, gives fragments: one per picture (live) or per GOP (recording).

        fragmenter.add(au); fragmenter.fragment()                       # live
        if au.key: fragmenter.fragment(end_dts_90k=au.dts_90k)          # recording, before add

    tracks      video first; audio units are ignored where no audio track is given
    origin_90k  decode time that becomes 0
    full        SAMPLES_MAX is reached: take a fragment now, key picture or not
    refused     units that `add` did not take
    """

    def __init__(self, tracks: Sequence[Track], origin_90k: int = 0) -> None:
        self._pending = [_Pending(track) for track in tracks]
        self._by_kind = {pending.track.kind: pending for pending in self._pending}
        self._origin_90k = origin_90k
        self._sequence = 0
        self.refused = 0

    @property
    def pending(self) -> int:
        """Samples added since the last fragment."""
        return sum(len(pending.units) for pending in self._pending)

    @property
    def full(self) -> bool:
        """Whether one more sample may be refused."""
        return self.pending >= SAMPLES_MAX

    def add(self, au: AccessUnit) -> bool:
        """False, and the unit is left out, when it has no track or cannot be written any more.

        That is: it is not after what is written (two sources of sound at once), or SAMPLES_MAX
        wait already. Devices can cause both, so neither is an error.
        """
        pending = self._by_kind.get(au.kind)
        if pending is None:
            return False
        late = pending.written_to is not None and au.dts_90k <= pending.written_to
        if late or len(pending.units) >= SAMPLES_MAX:
            self.refused += 1
            return False
        pending.add(au)
        return True

    def fragment(self, end_dts_90k: int | None = None) -> Fragment | None:
        """Everything added since the last one; None if nothing was.

        The last picture lasts until `end_dts_90k`, or as long as the one before it.
        """
        tracks = [pending for pending in self._pending if pending.units]
        if not tracks:
            return None
        first = tracks[0].units
        buffers: list[bytes | memoryview] = []
        runs: list[SampleRun] = []
        for pending in tracks:
            end = end_dts_90k if pending.track.kind == "video" else None
            runs.append(pending.run(self._origin_90k, end, buffers))
        self._sequence += 1
        return Fragment(
            data=write_fragment(self._sequence, runs, buffers),
            key=first[0].key,
            base_dts_90k=runs[0].base,
            duration_90k=tracks[0].duration_90k,
            samples=len(first),
            damaged=sum(au.damaged for au in first),
        )


@dataclass(frozen=True, slots=True)
class SampleRun:
    """One traf: base decode time, and (duration, size, flags, composition offset) per sample."""

    track_id: int
    base: int
    count: int
    table: bytes
    size: int


def write_fragment(
    sequence: int, runs: Sequence[SampleRun], buffers: Sequence[bytes | memoryview]
) -> bytes:
    """`moof mdat`, the data of each run behind that of the one before."""
    moof_bytes = 8 + 16 + sum(8 + 16 + 20 + 20 + len(run.table) for run in runs)
    parts: list[bytes | memoryview] = [
        struct.pack(">I4sI4sII", moof_bytes, b"moof", 16, b"mfhd", 0, sequence & 0xFFFFFFFF)
    ]
    data_offset = moof_bytes + 8
    for run in runs:
        parts.append(_traf_header(run, data_offset))
        parts.append(run.table)
        data_offset += run.size
    parts.append(struct.pack(">I4s", data_offset - moof_bytes, b"mdat"))
    parts += buffers
    return b"".join(parts)


def _traf_header(run: SampleRun, data_offset: int) -> bytes:
    """tfhd, tfdt version 1 (64 bits), trun version 1 (signed composition offsets)."""
    return struct.pack(
        ">I4s I4sII I4sIQ I4sIII",
        8 + 16 + 20 + 20 + len(run.table),
        b"traf",
        16,
        b"tfhd",
        _TFHD_FLAGS,
        run.track_id,
        20,
        b"tfdt",
        0x01000000,
        run.base,
        20 + len(run.table),
        b"trun",
        0x01000000 | _TRUN_FLAGS,
        run.count,
        data_offset,
    )


def _append_nals(au: AccessUnit, buffers: list[bytes | memoryview]) -> int:
    """Append the sample (four-byte lengths, ISO 14496-15 5.3.2) to `buffers`; returns its size."""
    view = memoryview(au.data)
    size = 0
    for begin, end in au.nals:
        length = end - begin
        buffers.append(length.to_bytes(4, "big"))
        buffers.append(view[begin:end])
        size += length + 4
    return size


def _append_whole(au: AccessUnit, buffers: list[bytes | memoryview]) -> int:
    buffers.append(au.data)
    return len(au.data)


def _clamped(offset: int) -> int:
    return max(-0x80000000, min(offset, 0x7FFFFFFF))
