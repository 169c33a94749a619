import asyncio
import subprocess
from pathlib import Path

import av
import pytest

from simulators.clip import Clip, ClipSpec, encode, ensure, prepare, read_barcode
from simulators.nal import nal_type, split_nals
from tests.simulators.conftest import FRAMES, GOP, SMALL
from vsp.errors import DataLoss, Invalid
from vsp.model.stream import VideoCodec

DECODERS = {VideoCodec.H264: "h264", VideoCodec.H265: "hevc"}
CODECS = list(DECODERS)
TINY = ClipSpec("CAM 09", width=320, height=180, bits_per_s=250_000, gop_frames=25, seconds=1)


def decoded(clip: Clip, numbers: range) -> list[av.VideoFrame]:
    decoder = av.CodecContext.create(DECODERS[clip.spec.codec], "r")
    pictures = []
    for number in numbers:
        frame = clip.frame(number)
        pictures += decoder.decode(av.Packet(frame.head + frame.slices))
    return pictures + decoder.decode(None)


@pytest.mark.parametrize("codec", CODECS)
def test_every_frame_shows_its_own_time(clips, codec: VideoCodec):
    pictures = decoded(clips[codec], range(FRAMES))

    read = [read_barcode(picture.to_ndarray()[:360]) for picture in pictures]

    assert read == [index * 40 for index in range(FRAMES)]


@pytest.mark.parametrize("codec", CODECS)
def test_the_time_is_still_read_at_half_size(clips, codec: VideoCodec):
    pictures = decoded(clips[codec], range(GOP))

    halves = [picture.reformat(320, 180, format="gray").to_ndarray() for picture in pictures]

    assert [read_barcode(half) for half in halves] == [index * 40 for index in range(GOP)]


@pytest.mark.parametrize("codec", CODECS)
def test_the_loop_goes_round_without_a_broken_picture(clips, codec: VideoCodec):
    pictures = decoded(clips[codec], range(FRAMES - GOP, FRAMES + 10))

    read = [read_barcode(picture.to_ndarray()[:360]) for picture in pictures]

    assert read[-11:] == [(FRAMES - 1) * 40, *(index * 40 for index in range(10))]


@pytest.mark.parametrize("codec", CODECS)
def test_key_frames_stand_at_the_gops_with_their_parameter_sets(clips, codec: VideoCodec):
    clip = clips[codec]

    keys = [number for number in range(len(clip)) if clip.frame(number).key]
    heads = {nal_type(codec, nal) for nal in split_nals(clip.frame(0).head)}

    assert keys == [0, GOP]
    assert heads == ({7, 8} if codec is VideoCodec.H264 else {32, 33, 34})
    assert clip.frame(1).head == b""


@pytest.mark.parametrize("codec", CODECS)
def test_frames_hold_slices_only(clips, codec: VideoCodec):
    clip = clips[codec]

    kinds = {
        nal_type(codec, nal) for n in range(FRAMES) for nal in split_nals(clip.frame(n).slices)
    }

    assert kinds <= ({1, 5} if codec is VideoCodec.H264 else set(range(32)))


def test_h264_is_baseline_that_every_browser_plays(clips):
    sps = split_nals(clips[VideoCodec.H264].frame(0).head)[0]

    assert sps[1] == 66  # profile_idc
    assert sps[2] & 0x40  # constraint_set1: also Main, so no FMO nor ASO
    assert sps[3] <= 31  # level


def test_the_bit_rate_is_about_what_was_asked_for(clips):
    size = sum(len(clips[VideoCodec.H264].frame(n).slices) for n in range(FRAMES))

    assert 0.5 < size * 8 / 2 / SMALL.bits_per_s < 2


def test_encoding_is_repeatable():
    assert encode(TINY) == encode(TINY)


def test_parameters_are_part_of_the_files_name():
    names = {
        spec.file_name
        for spec in (TINY, ClipSpec("CAM 09"), ClipSpec("CAM 10"), ClipSpec("CAM 09", fps=50))
    }

    assert len(names) == 4
    assert TINY.file_name.startswith("cam-09-320x180-h264-")


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 600},
        {"height": 362},
        {"gop_frames": 40, "seconds": 1},
        {"seconds": 7},
        {"codec": VideoCodec.OTHER},
    ],
)
def test_what_cannot_loop_is_refused(wrong: dict):
    with pytest.raises(Invalid):
        ClipSpec("CAM 01", **wrong)


def test_a_clip_is_made_once_and_leaves_no_half_file(tmp_path: Path):
    path = ensure(TINY, tmp_path)
    made = path.stat().st_mtime_ns

    assert ensure(TINY, tmp_path) == path
    assert path.stat().st_mtime_ns == made
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("damage", [b"", b"GARBAGE!" * 4])
def test_a_file_that_is_no_clip_is_named(tmp_path: Path, damage: bytes):
    path = tmp_path / "x.clip"
    path.write_bytes(damage or b"\0")

    with pytest.raises(DataLoss, match=r"x\.clip"):
        Clip.load(TINY, path)


def test_a_cut_file_is_noticed(tmp_path: Path):
    path = ensure(TINY, tmp_path)
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(DataLoss, match="cut short"):
        Clip.load(TINY, path)


async def test_missing_clips_are_made_in_processes_and_progress_is_told(tmp_path: Path):
    specs = [
        ClipSpec(f"CAM {i}", width=320, height=180, gop_frames=25, seconds=1) for i in (1, 2, 3)
    ]
    told: list[tuple[int, int]] = []

    made = await prepare(
        [*specs, specs[0]], tmp_path, lambda done, total: told.append((done, total))
    )
    again = await prepare(specs, tmp_path, lambda done, total: told.append((9, 9)))

    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert list(made) == list(again) == specs
    assert len(list(tmp_path.iterdir())) == 3


async def test_a_cancelled_preparation_leaves_no_process(tmp_path: Path):
    specs = [ClipSpec(f"CAM {i}") for i in range(4)]
    work = asyncio.create_task(prepare(specs, tmp_path))
    await asyncio.sleep(0.3)

    work.cancel()
    await asyncio.gather(work, return_exceptions=True)

    running = subprocess.run(["pgrep", "-f", f"simulators.clip {tmp_path}"], capture_output=True)
    assert running.stdout == b""
