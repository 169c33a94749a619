"""Reading back what `fmp4_write` writes: playback, recovery of the spool, tests.

Not a reader of other people's MP4. Everything is bounds-checked all the same, because an object
may be cut short or come from a damaged disk: what cannot be read is Invalid.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vsp.errors import Invalid
from vsp.media.core import nal
from vsp.media.core.fmp4_write import (
    NON_SYNC_SAMPLE,
    SAMPLES_MAX,
    SYNC_SAMPLE,
    SampleRun,
    Track,
    write_fragment,
)
from vsp.model.stream import AudioCodec, VideoCodec

TRACKS_MAX = 8
"""Tracks read of one moov; we write two at the most."""

BOXES_MAX = 64
"""Boxes read on one level."""

_NON_SYNC = 0x00010000

_CODECS: dict[str, VideoCodec | AudioCodec] = {
    "avc1": VideoCodec.H264,
    "avc3": VideoCodec.H264,
    "hvc1": VideoCodec.H265,
    "hev1": VideoCodec.H265,
    "alaw": AudioCodec.G711A,
    "ulaw": AudioCodec.G711U,
    "mp4a": AudioCodec.AAC,
}


@dataclass(frozen=True, slots=True)
class Init:
    """A parsed `ftyp moov`. size: its bytes, i.e. the offset of the first fragment."""

    tracks: tuple[Track, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Sample:
    """offset: from the start of its fragment (the moof)."""

    offset: int
    size: int
    dts_90k: int
    pts_90k: int
    duration_90k: int
    key: bool


@dataclass(frozen=True, slots=True)
class FragmentInfo:
    """Where a fragment lies in the data and what is in it. samples: per track id."""

    offset: int
    size: int
    sequence: int
    samples: dict[int, list[Sample]]


def _boxes(data: bytes, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, begin of body, end) of each box in [begin, end). Raises Invalid."""
    for _ in range(BOXES_MAX):
        if begin == end:
            return
        if begin + 8 > end:
            raise Invalid(f"MP4 box header cut at byte {begin}")
        size, kind = struct.unpack_from(">I4s", data, begin)
        if size < 8 or begin + size > end:
            raise Invalid(f"MP4 box {kind!r} at byte {begin} has size {size}")
        yield kind, begin + 8, begin + size
        begin += size


def _find(data: bytes, begin: int, end: int, *path: bytes) -> tuple[int, int]:
    """The body of the first box at `path`. Raises Invalid."""
    for name in path:
        for kind, inner, inner_end in _boxes(data, begin, end):
            if kind == name:
                begin, end = inner, inner_end
                break
        else:
            raise Invalid(f"MP4 has no {name.decode('ascii')} box")
    return begin, end


def _fields(layout: str, data: bytes, begin: int, end: int) -> tuple[int, ...]:
    if begin + struct.calcsize(layout) > end:
        raise Invalid(f"MP4 box body cut at byte {begin}")
    return struct.unpack_from(layout, data, begin)


# ---- init segment ---------------------------------------------------------------------------


def parse_init(data: bytes) -> Init:
    """The init segment at the beginning of `data`; what follows is ignored. Raises Invalid."""
    at = 0
    for _ in range(BOXES_MAX):
        if at + 8 > len(data):
            break
        size, kind = struct.unpack_from(">I4s", data, at)
        if size < 8 or at + size > len(data):
            break
        if kind == b"moov":
            return Init(tuple(_tracks(data, at + 8, at + size)), at + size)
        at += size
    raise Invalid("MP4 init segment is cut or has no moov box")


def _tracks(data: bytes, begin: int, end: int) -> list[Track]:
    tracks = []
    for kind, inner, inner_end in _boxes(data, begin, end):
        if kind == b"trak":
            tracks.append(_track(data, inner, inner_end))
    if not 0 < len(tracks) <= TRACKS_MAX:
        raise Invalid(f"MP4 has {len(tracks)} tracks")
    return tracks


def _track(data: bytes, begin: int, end: int) -> Track:
    header = _find(data, begin, end, b"tkhd")
    (track_id,) = _fields(">12xI", data, *header)
    (timescale,) = _fields(">12xI", data, *_find(data, begin, end, b"mdia", b"mdhd"))
    at, last = _find(data, begin, end, b"mdia", b"minf", b"stbl", b"stsd")
    for kind, inner, inner_end in _boxes(data, at + 8, last):
        entry = kind.decode("latin-1")
        if entry not in _CODECS:
            raise Invalid(f"MP4 sample entry {entry!r} is not ours")
        codec = _CODECS[entry]
        if isinstance(codec, VideoCodec):
            return _video_track(data, inner, inner_end, track_id, entry, codec, timescale)
        return _audio_track(data, inner, inner_end, track_id, entry, codec, timescale)
    raise Invalid("MP4 track has no sample entry")


def _video_track(
    data: bytes, begin: int, end: int, track_id: int, entry: str, codec: VideoCodec, timescale: int
) -> Track:
    width, height = _fields(">24xHH50x", data, begin, end)
    h265 = codec is VideoCodec.H265
    at, last = _find(data, begin + 78, end, b"hvcC" if h265 else b"avcC")
    config = data[at:last]
    if len(config) < (23 if h265 else 7):
        raise Invalid("MP4 decoder configuration is cut")
    suffix = nal.h265_codec_string(config[1:13]) if h265 else config[1:4].hex().upper()
    return Track(
        id=track_id,
        kind="video",
        codec=codec,
        entry=entry,
        codec_string=f"{entry}.{suffix}",
        config=config,
        width=width,
        height=height,
        timescale=timescale,
    )


def _audio_track(
    data: bytes, begin: int, end: int, track_id: int, entry: str, codec: AudioCodec, timescale: int
) -> Track:
    channels, rate = _fields(">16xH6xI", data, begin, end)
    config = b""
    if codec is AudioCodec.AAC:
        at, last = _find(data, begin + 28, end, b"esds")
        mark = data.find(b"\x05", at + 24, last)
        config = data[mark + 2 : mark + 2 + data[mark + 1]] if 0 <= mark < last - 1 else b""
    return Track(
        id=track_id,
        kind="audio",
        codec=codec,
        entry=entry,
        codec_string="mp4a.40.2" if codec is AudioCodec.AAC else entry,
        config=config,
        rate_hz=rate >> 16,
        channels=channels,
        timescale=timescale,
    )


# ---- fragments ------------------------------------------------------------------------------


def iter_fragments(data: bytes, offset: int = 0) -> Iterator[FragmentInfo]:
    """The whole fragments of `data` from `offset` on; a cut last one is left out. Raises Invalid.

    `offset` is where a moof begins: `Init.size`, or a fragment's own offset in its object.
    """
    size = len(data)
    at = offset
    while at + 8 <= size:
        moof_size, kind = struct.unpack_from(">I4s", data, at)
        if kind != b"moof" or moof_size < 8:
            raise Invalid(f"MP4 has {kind!r} at byte {at} where a moof belongs")
        mdat = at + moof_size
        if mdat + 8 > size:
            return
        mdat_size, kind = struct.unpack_from(">I4s", data, mdat)
        if kind != b"mdat" or mdat_size < 8:
            raise Invalid(f"MP4 has {kind!r} at byte {mdat} where an mdat belongs")
        end = mdat + mdat_size
        if end > size:
            return
        yield _fragment_info(data, at, mdat, end)
        at = end


def _fragment_info(data: bytes, at: int, mdat: int, end: int) -> FragmentInfo:
    sequence = 0
    samples: dict[int, list[Sample]] = {}
    for kind, inner, inner_end in _boxes(data, at + 8, mdat):
        if kind == b"mfhd":
            (sequence,) = _fields(">4xI", data, inner, inner_end)
        elif kind == b"traf" and len(samples) < TRACKS_MAX:
            track_id, run = _traf(data, inner, inner_end, mdat + 8 - at, end - at)
            samples.setdefault(track_id, []).extend(run)
    return FragmentInfo(at, end - at, sequence, samples)


def _traf(data: bytes, begin: int, end: int, low: int, high: int) -> tuple[int, list[Sample]]:
    """The samples of one track; their bytes must lie in [low, high) of the fragment."""
    flags, track_id = _fields(">II", data, *_find(data, begin, end, b"tfhd"))
    version, base = _fields(">IQ", data, *_find(data, begin, end, b"tfdt"))
    at, last = _find(data, begin, end, b"trun")
    run_flags, count, offset = _fields(">III", data, at, last)
    layout = (0x020000, 0x01000000, 0x01000F01)
    if (flags, version, run_flags) != layout or count > SAMPLES_MAX:
        raise Invalid(f"MP4 fragment has a traf that we did not write (trun {run_flags:#x})")
    if at + 12 + 16 * count > last:
        raise Invalid(f"MP4 trun is cut: {count} samples in {last - at} bytes")
    samples, dts = [], base
    for duration, size, sample_flags, shift in struct.iter_unpack(
        ">IIIi", data[at + 12 : at + 12 + 16 * count]
    ):
        if offset < low or offset + size > high:
            raise Invalid("MP4 sample lies outside of its mdat")
        key = not sample_flags & _NON_SYNC
        samples.append(Sample(offset, size, dts, dts + shift, duration, key))
        offset += size
        dts += duration
    return track_id, samples


def remux(data: bytes, track_ids: Sequence[int], shift_90k: int = 0, sequence: int = 1) -> bytes:
    """One fragment again, with only these tracks and its times moved.

    For playback into MSE, which refuses G.711, and for one time line over several recordings.
    Returns b"" when nothing is left. Raises Invalid.
    """
    fragment = next(iter_fragments(data), None)
    if fragment is None:
        raise Invalid("MP4 fragment is cut")
    view = memoryview(data)
    runs: list[SampleRun] = []
    buffers: list[memoryview] = []
    for track_id in track_ids:
        samples = fragment.samples.get(track_id)
        if samples:
            runs.append(_run_of(track_id, samples, shift_90k))
            begin = samples[0].offset
            buffers.append(view[begin : begin + runs[-1].size])
    return write_fragment(sequence, runs, buffers) if runs else b""


def _run_of(track_id: int, samples: Sequence[Sample], shift_90k: int) -> SampleRun:
    table = b"".join(
        struct.pack(
            ">IIIi",
            sample.duration_90k,
            sample.size,
            SYNC_SAMPLE if sample.key else NON_SYNC_SAMPLE,
            sample.pts_90k - sample.dts_90k,
        )
        for sample in samples
    )
    base = max(samples[0].dts_90k + shift_90k, 0)
    return SampleRun(track_id, base, len(samples), table, sum(sample.size for sample in samples))
