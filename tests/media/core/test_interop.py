"""Program streams that others made: nothing in them agrees with our packer by construction."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.media.core import clips, interop
from tests.media.core.helpers import decoded, ffprobe, movie
from vsp.media.core import nal
from vsp.media.core.au import AccessUnit
from vsp.media.core.ps_demux import PsDemuxer

needs_ffmpeg = pytest.mark.skipif(not interop.FFMPEG, reason="FFmpeg is not installed")
needs_gstreamer = pytest.mark.skipif(not interop.GSTREAMER, reason="GStreamer is not installed")


def demux(stream: bytes, payload_bytes: int = 1400) -> tuple[list[AccessUnit], PsDemuxer]:
    demuxer = PsDemuxer()
    units = []
    for at in range(0, len(stream), payload_bytes):
        units += demuxer.push(stream[at : at + payload_bytes], at // 20_000, False)
    return units + demuxer.flush(), demuxer


def slices(data: bytes, codec: str) -> list[bytes]:
    """The coded pictures: muxers may add delimiters and repeat sets."""
    out = []
    for begin, end in nal.split(data):
        kind = data[begin] & 0x1F if codec == "libx264" else data[begin] >> 1 & 0x3F
        if kind in (1, 5) if codec == "libx264" else kind < 32:
            out.append(data[begin:end])
    return out


def assert_whole(units: list[AccessUnit], codec: str, b_frames: int) -> None:
    clip = clips.video(codec, b_frames=b_frames)
    assert [slices(u.data, codec) for u in units] == [slices(p.data, codec) for p in clip]
    assert [u.key for u in units] == [p.key for p in clip]
    assert not any(u.damaged for u in units)
    assert all(b.dts_90k > a.dts_90k for a, b in pairwise(units))


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("payload_bytes", [1400, 199, 100_000])
def test_a_vob_of_ffmpeg_gives_every_picture(codec: str, b_frames: int, payload_bytes: int):
    units, demuxer = demux(interop.ffmpeg_vob(codec, b_frames), payload_bytes)

    assert_whole(units, codec, b_frames)
    assert demuxer.skipped_bytes == 0
    assert decoded(movie(units)) == (30, 0)


@needs_ffmpeg
@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_the_times_of_a_vob_are_those_of_the_clip(codec: str):
    units, _ = demux(interop.ffmpeg_vob(codec))
    clip = clips.video(codec)

    shift = units[0].pts_90k - clip[0].pts
    off = [abs(u.pts_90k - p.pts - shift) for u, p in zip(units, clip, strict=True)]

    assert max(off) <= 1


@needs_gstreamer
@pytest.mark.parametrize("b_frames", [0, 2])
@pytest.mark.parametrize("payload_bytes", [1400, 199, 100_000])
def test_the_ps_of_gstreamer_gives_every_picture(b_frames: int, payload_bytes: int):
    units, demuxer = demux(interop.gstreamer_ps("libx264", b_frames), payload_bytes)

    assert_whole(units, "libx264", b_frames)
    assert demuxer.oddities == set()
    assert decoded(movie(units)) == (30, 0)
    assert ffprobe(movie(units, live=True), "nb_read_frames") == {"nb_read_frames": "30"}


@needs_gstreamer
def test_the_presentation_times_of_gstreamers_b_frames_are_kept():
    units, _ = demux(interop.gstreamer_ps("libx264", 2))
    clip = clips.video(b_frames=2)

    shift = units[0].pts_90k - clip[0].pts
    off = [abs(u.pts_90k - p.pts - shift) for u, p in zip(units, clip, strict=True)]

    assert max(off) <= 1
