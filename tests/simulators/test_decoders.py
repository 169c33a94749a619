"""The program stream as others read it: FFmpeg, GStreamer and PyAV, none of them ours."""

from __future__ import annotations

import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from simulators.clip import read_barcode
from simulators.faults import Faults
from simulators.media import tone_of
from simulators.nal import read_stamp, split_nals
from tests.simulators.test_media import START_US, run, source_of
from vsp.clock import MICROS
from vsp.model.stream import VideoCodec

SECONDS = 2
FRAMES = SECONDS * 25 + 1
CODECS = [VideoCodec.H264, VideoCodec.H265]
FAULTS = {
    "none": Faults(),
    "split": Faults(split_pes=True),
    "bd": Faults(bd_packets=True),
    "no-psm": Faults(no_psm=True),
}


@pytest.fixture
def stream(request: pytest.FixtureRequest, clips, tmp_path: Path):
    """Writes the program stream of a codec under a fault."""

    def write(codec: VideoCodec, faults: Faults = FAULTS["none"]) -> Path:
        source = source_of(clips[codec], faults, tone=tone_of("CAM 01"))
        run(source, START_US - 1, START_US + SECONDS * MICROS)
        path = tmp_path / f"{codec}.ps"
        packs = [packet[12:] for packets, _ in source.sink.frames for packet in packets]
        path.write_bytes(b"".join(packs))
        return path

    return write


def output_of(command: str) -> str:
    done = subprocess.run(command.split(), capture_output=True, text=True, check=True, timeout=30)
    return done.stdout


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("fault", FAULTS)
def test_ffprobe_decodes_every_picture(stream, codec: VideoCodec, fault: str):
    path = stream(codec, FAULTS[fault])

    counted = output_of(
        f"ffprobe -v error -f mpeg -count_frames -select_streams v:0 "
        f"-show_entries stream=codec_name,width,height,nb_read_frames -of csv=p=0 {path}"
    )

    name = {"h264": "h264", "h265": "hevc"}[codec]
    assert counted.strip() == f"{name},640,360,{FRAMES}"


@pytest.mark.parametrize("codec", CODECS)
def test_gstreamer_decodes_every_picture(stream, codec: VideoCodec, tmp_path: Path):
    path, raw = stream(codec), tmp_path / "raw.yuv"

    output_of(
        f"gst-launch-1.0 -q filesrc location={path} ! mpegpsdemux name=d d. ! queue ! "
        f"{codec}parse ! avdec_{codec} ! video/x-raw,format=I420 ! filesink location={raw}"
    )

    assert raw.stat().st_size == FRAMES * 640 * 360 * 3 // 2


@pytest.mark.parametrize("codec", CODECS)
def test_the_bar_codes_follow_the_stamps_picture_by_picture(stream, codec: VideoCodec):
    with av.open(str(stream(codec)), format="mpeg") as file:
        stamps = [
            read_stamp(codec, split_nals(bytes(packet)))
            for packet in file.demux(video=0)
            if packet.size
        ]
    with av.open(str(stream(codec)), format="mpeg") as file:
        shown = [read_barcode(picture.to_ndarray()[:360]) for picture in file.decode(video=0)]

    assert len(stamps) == len(shown) == FRAMES
    loop_ms = SECONDS * 1000
    assert shown == [stamp.capture_us // 1000 % loop_ms for stamp in stamps]


def test_the_tone_is_heard(stream):
    with av.open(str(stream(VideoCodec.H264)), format="mpeg") as file:
        assert file.streams.audio[0].codec_context.name == "pcm_alaw"
        heard = np.concatenate([f.to_ndarray()[0] for f in file.decode(audio=0)]).astype(float)

    spectrum = np.abs(np.fft.rfft(heard[:8000]))
    assert len(heard) == SECONDS * 8000
    assert spectrum.argmax() == 350  # hertz: 300 + 50 for channel 1


def test_presentation_times_are_those_of_the_pictures(stream):
    with av.open(str(stream(VideoCodec.H264)), format="mpeg") as file:
        times = [packet.pts for packet in file.demux(video=0) if packet.pts is not None]

    assert np.diff(times).tolist() == [3600] * (FRAMES - 1)
