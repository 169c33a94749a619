from __future__ import annotations

import random
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.core import clips
from vsp.errors import Invalid
from vsp.media.core import nal
from vsp.media.core.au import AccessUnit
from vsp.model.stream import VideoCodec

H264, H265 = VideoCodec.H264, VideoCodec.H265


class Writer:
    """Bits of a hand-made SPS."""

    def __init__(self) -> None:
        self.bits = ""

    def u(self, count: int, value: int) -> Writer:
        self.bits += f"{value:0{count}b}"
        return self

    def ue(self, value: int) -> Writer:
        code = f"{value + 1:b}"
        self.bits += "0" * (len(code) - 1) + code
        return self

    def nal(self, header: str) -> bytes:
        bits = self.bits + "1"
        bits += "0" * (-len(bits) % 8)
        rbsp = int(bits, 2).to_bytes(len(bits) // 8, "big")
        return bytes.fromhex(header) + re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\0\0\3", rbsp)


def sps_264(
    profile: int = 77,
    columns: int = 120,
    rows: int = 68,
    crop: tuple[int, int, int, int] | None = (0, 0, 0, 4),
    frames_only: bool = True,
    chroma: int = 1,
    order_type: int = 2,
) -> bytes:
    w = Writer().u(8, profile).u(8, 0).u(8, 40).ue(0)
    if profile >= 100:
        w.ue(chroma)
        if chroma == 3:
            w.u(1, 0)
        w.ue(2).ue(2).u(1, 0).u(1, 1)
        for i in range(12 if chroma == 3 else 8):
            w.u(1, 1 if i == 0 else 0)
            if i == 0:
                w.bits += "1" * 16  # sixteen delta_scale of 0
    w.ue(0).ue(order_type)
    if order_type == 0:
        w.ue(2)
    elif order_type == 1:
        w.u(1, 0).ue(0).ue(0).ue(2).ue(1).ue(2)
    w.ue(1).u(1, 0).ue(columns - 1).ue(rows - 1).u(1, frames_only)
    if not frames_only:
        w.u(1, 1)
    w.u(1, 1)
    if crop is None:
        w.u(1, 0)
    else:
        w.u(1, 1)
        for side in crop:
            w.ue(side)
    return w.u(1, 0).nal("67")


def unit(codec: VideoCodec, data: bytes, key: bool = True, damaged: bool = False) -> AccessUnit:
    return AccessUnit("video", codec, 0, 0, key, data, damaged, nals=nal.split(data))


def nals_of(picture: clips.Picture) -> list[bytes]:
    return [picture.data[begin:end] for begin, end in nal.split(picture.data)]


def test_start_codes_of_three_and_four_bytes_are_not_part_of_the_units():
    data = b"\0\0\0\1\x67abc\0\0\1\x68de\0\0\0\0\1\x65fgh\0\0\0"

    assert [data[b:e] for b, e in nal.split(data)] == [b"\x67abc", b"\x68de", b"\x65fgh"]


def test_what_has_no_start_code_has_no_units():
    assert nal.split(b"") == []
    assert nal.split(b"\0\0\0\0") == []
    assert nal.split(b"\0\0\1") == []
    assert nal.split(b"\0\0\1\0\0\1\0\0\1\x65") == [(9, 10)]


def test_more_units_than_a_picture_can_have_are_left():
    data = b"\0\0\1\x65" * (nal.NALS_MAX + 1)

    assert len(nal.split(data[:-4])) == nal.NALS_MAX
    assert len(nal.split(data)) == nal.NALS_MAX


def test_a_long_run_of_zeros_costs_no_more_than_its_length():
    data = b"\0\0\1\x65x" + bytes(4_000_000) + b"\1\x41y"

    assert [data[b:e] for b, e in nal.split(data)] == [b"\x65x", b"\x41y"]


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=10), st.booleans())
def test_splitting_undoes_joining(units: list[bytes], long: bool):
    units = [b"\x41" + u.replace(b"\0", b"\2") for u in units]
    start = b"\0\0\0\1" if long else b"\0\0\1"

    data = b"".join(start + u for u in units)

    assert [data[b:e] for b, e in nal.split(data)] == units


def test_emulation_prevention_is_removed():
    assert nal.without_emulation(b"\x67\0\0\3\1\0\0\3\0\0\3\x01") == b"\x67\0\0\1\0\0\0\0\x01"


@pytest.mark.parametrize(
    ("codec", "data", "begins"),
    [
        (H264, "6588", True),
        (H264, "6540", False),  # first_mb_in_slice is not 0
        (H264, "419a", True),
        (H264, "0930", True),
        (H264, "67", True),
        (H264, "06", True),
        (H264, "0c", False),  # filler
        (H264, "41", False),  # cut
        (H265, "260180", True),
        (H265, "260100", False),
        (H265, "4001", True),
        (H265, "4e01", True),
        (H265, "5001", False),  # suffix SEI
        (H265, "2601", False),
    ],
)
def test_the_unit_that_begins_a_picture_is_known_by_its_first_bits(
    codec: VideoCodec, data: str, begins: bool
):
    raw = bytes.fromhex(data)

    assert nal.begins_picture(codec, raw, 0, len(raw)) is begins


@pytest.mark.parametrize(
    ("data", "codec"),
    [
        ("4001", H265),
        ("4201", H265),
        ("4401", H265),
        ("6742", H264),
        ("274d", H264),
        ("4764", H264),
        ("6588", None),
        ("2601", None),
        ("67", None),
        ("", None),
        ("6700", None),
    ],
)
def test_a_codec_is_only_told_from_parameter_sets(data: str, codec: VideoCodec | None):
    assert nal.probe(bytes.fromhex(data)) is codec


def test_an_idr_starts_decoding_and_a_plain_slice_does_not():
    idr, plain = b"\0\0\1\x65\x88", b"\0\0\1\x41\x9a"

    assert nal.starts_decoding(H264, idr, nal.split(idr))
    assert not nal.starts_decoding(H264, plain, nal.split(plain))


def test_an_intra_picture_with_parameter_sets_starts_decoding_without_being_idr():
    intra = b"\0\0\1\x67\x4d\0\0\1\x68\xce\0\0\1\x41\x88\x84"  # first_mb 0, slice_type 7
    inter = b"\0\0\1\x67\x4d\0\0\1\x68\xce\0\0\1\x41\x9a\x84"  # slice_type 5

    assert nal.starts_decoding(H264, intra, nal.split(intra))
    assert not nal.starts_decoding(H264, inter, nal.split(inter))


def test_every_irap_of_h265_starts_decoding():
    for kind in range(64):
        data = b"\0\0\1" + bytes([kind << 1, 1, 0x80])
        assert nal.starts_decoding(H265, data, nal.split(data)) is (16 <= kind <= 23)


def test_cropping_gives_1080_lines():
    video = nal.parse_sps_h264(sps_264())

    assert (video.width, video.height) == (1920, 1080)
    assert (video.profile, video.level, video.codec_string) == (77, 40, "4D0028")
    assert (video.interlaced, video.reorder_max) == (False, 0)


def test_interlaced_pictures_are_twice_as_high_as_their_map():
    video = nal.parse_sps_h264(sps_264(rows=34, frames_only=False, crop=(0, 0, 0, 2)))

    assert (video.height, video.interlaced) == (1080, True)


def test_high_profiles_tell_chroma_and_depth_behind_their_scaling_lists():
    video = nal.parse_sps_h264(sps_264(profile=122, chroma=2, crop=(2, 2, 0, 8)))

    assert (video.chroma, video.bit_depth_luma, video.bit_depth_chroma) == (2, 10, 10)
    assert (video.width, video.height) == (1912, 1080)


def test_chroma_444_is_cropped_by_single_pixels():
    video = nal.parse_sps_h264(sps_264(profile=244, chroma=3, crop=(1, 0, 0, 8)))

    assert (video.chroma, video.width, video.height) == (3, 1919, 1080)


@pytest.mark.parametrize("order_type", [0, 1, 2])
def test_every_picture_order_type_is_skipped_rightly(order_type: int):
    video = nal.parse_sps_h264(sps_264(order_type=order_type))

    assert (video.width, video.height) == (1920, 1080)
    assert video.reorder_max == (0 if order_type == 2 else None)


def test_baseline_never_reorders():
    assert nal.parse_sps_h264(sps_264(profile=66, order_type=0)).reorder_max == 0


@pytest.mark.parametrize(
    ("codec", "size"),
    [
        (codec, size)
        for codec in ("libx264", "libx265")
        for size in [(64, 64), (160, 96), (162, 98), (320, 180)]
    ],
)
def test_the_size_is_that_which_the_encoder_was_given(codec: str, size: tuple[int, int]):
    width, height = size
    first = clips.video(codec, width=width, height=height, frames=3)[0]
    sps = next(n for n in nals_of(first) if n[0] in (0x67, 0x42))

    video = (nal.parse_sps_h264 if codec == "libx264" else nal.parse_sps_h265)(sps)

    assert (video.width, video.height) == (width, height)
    assert (video.chroma, video.bit_depth_luma, video.bit_depth_chroma) == (1, 8, 8)


@pytest.mark.parametrize(("b_frames", "reorder"), [(0, 0), (2, 1)])
def test_the_vui_of_x264_tells_the_reordering(b_frames: int, reorder: int):
    first = clips.video(
        "libx264", b_frames=b_frames, more=":bframes=2:b-pyramid=none" * (b_frames > 0)
    )[0]

    video = nal.parse_sps_h264(nals_of(first)[0])

    assert video.reorder_max == reorder


@pytest.mark.parametrize(("b_frames", "reorders"), [(0, False), (2, True)])
def test_the_sps_of_x265_tells_the_reordering(b_frames: int, reorders: bool):
    first = clips.video("libx265", b_frames=b_frames)[0]

    video = nal.parse_sps_h265(nals_of(first)[1])

    assert bool(video.reorder_max) is reorders


def test_the_codec_string_of_h265_reverses_flags_and_drops_trailing_zeros():
    main = bytes.fromhex("01 60000000 b00000000000 5d")
    high_tier = bytes.fromhex("22 20000000 900000000000 99")

    assert nal.h265_codec_string(main) == "1.6.L93.B0"
    assert nal.h265_codec_string(high_tier) == "2.4.H153.90"


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_an_sps_cut_anywhere_is_invalid_or_understood(codec: str):
    sps = next(n for n in nals_of(clips.video(codec)[0]) if n[0] in (0x67, 0x42))
    parse = nal.parse_sps_h264 if codec == "libx264" else nal.parse_sps_h265

    for size in range(len(sps)):
        try:
            assert parse(sps[:size]).width == 160
        except Invalid:
            assert size < len(sps)


def test_a_broken_vui_does_not_spoil_the_size():
    sps = nals_of(clips.video("libx264", b_frames=2)[0])[0]

    video = nal.parse_sps_h264(sps[:14])

    assert (video.width, video.height, video.reorder_max) == (160, 96, None)


@pytest.mark.parametrize(
    "sps",
    [
        sps_264(columns=1025),
        sps_264(columns=1, crop=(4, 4, 0, 0)),
        b"\x67" + b"\xff" * nal.PARAMETER_SET_BYTES_MAX,
        b"\x67\x4d\x00\x28" + bytes(20),
        b"\x67",
        b"",
    ],
)
def test_a_size_or_length_beyond_reason_is_invalid(sps: bytes):
    with pytest.raises(Invalid):
        nal.parse_sps_h264(sps)


@given(st.binary(max_size=80))
def test_any_bytes_as_sps_are_invalid_or_understood(data: bytes):
    for parse in (nal.parse_sps_h264, nal.parse_sps_h265):
        try:
            video = parse(data)
        except Invalid:
            continue
        assert 0 < video.width <= nal.PICTURE_SIDE_MAX
        assert 0 < video.height <= nal.PICTURE_SIDE_MAX


def test_flipped_bits_in_a_real_sps_are_invalid_or_understood():
    dice = random.Random(5)
    real = [
        nals_of(clips.video("libx264", b_frames=2)[0])[0],
        nals_of(clips.video("libx265")[0])[1],
    ]

    for _ in range(2000):
        sps = bytearray(dice.choice(real))
        sps[dice.randrange(1, len(sps))] ^= 1 << dice.randrange(8)
        with suppress(Invalid):
            (nal.parse_sps_h264 if sps[0] == 0x67 else nal.parse_sps_h265)(bytes(sps))


def sei(uuid: bytes, payload: bytes, header: bytes, kind: int = 5) -> bytes:
    body = uuid + payload
    message = bytes([kind]) + b"\xff" * (len(body) // 255) + bytes([len(body) % 255]) + body
    escaped = re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\0\0\3", message + b"\x80")
    return b"\0\0\1" + header + escaped


@pytest.mark.parametrize(("codec", "header"), [(H264, b"\x06"), (H265, b"\x4e\x01")])
def test_user_data_is_found_in_the_sei(codec: VideoCodec, header: bytes):
    uuid = bytes(range(16))
    stamp = (1_700_000_000_000_000).to_bytes(8, "big") + (0).to_bytes(4, "big")
    slice_ = b"\0\0\1\x26\x01\x80" if codec is H265 else b"\0\0\1\x65\x88"
    data = sei(bytes(16), b"other", header) + sei(uuid, stamp, header) + slice_

    found = list(nal.user_data(unit(codec, data)))

    assert found == [(bytes(16), b"other"), (uuid, stamp)]


def test_long_and_foreign_sei_messages_are_skipped_by_their_length():
    uuid = b"U" * 16
    data = sei(b"", b"\1" * 300, b"\x06", kind=4) + sei(uuid, b"x" * 600, b"\x06")

    assert list(nal.user_data(unit(H264, data))) == [(uuid, b"x" * 600)]


@given(st.binary(max_size=120))
def test_any_sei_is_read_to_its_end(data: bytes):
    for _ in nal.user_data(unit(H264, b"\0\0\1\x06" + data)):
        pass


@pytest.mark.parametrize(("codec", "name"), [(H264, "libx264"), (H265, "libx265")])
def test_the_sets_of_a_key_picture_are_taken_once(codec: VideoCodec, name: str):
    clip = clips.video(name)
    sets = nal.ParameterSets()

    changes = [sets.update(unit(codec, p.data, p.key)) for p in clip]

    assert changes == [True] + [False] * (len(clip) - 1)
    assert sets.format is not None
    assert (sets.format.width, sets.format.height) == (160, 96)
    assert (len(sets.vps), len(sets.sps), len(sets.pps)) == (codec is H265, 1, 1)


def test_another_resolution_is_a_change():
    sets = nal.ParameterSets()
    sets.update(unit(H264, clips.video("libx264")[0].data))

    assert sets.update(unit(H264, clips.video("libx264", width=320, height=180, frames=3)[0].data))
    assert sets.format is not None
    assert sets.format.width == 320


def test_a_changed_pps_alone_is_a_change_and_keeps_the_sps():
    data = clips.video("libx264")[0].data
    sets = nal.ParameterSets()
    sets.update(unit(H264, data))
    sps = sets.sps

    assert sets.update(unit(H264, b"\0\0\1\x68\xee\x3c\x80\0\0\1\x65\x88"))

    assert (sets.sps, sets.pps) == (sps, (b"\x68\xee\x3c\x80",))


def test_another_codec_replaces_everything():
    sets = nal.ParameterSets()
    sets.update(unit(H264, clips.video("libx264")[0].data))

    assert sets.update(unit(H265, clips.video("libx265")[0].data))
    assert sets.codec is H265


def test_sets_that_cannot_be_parsed_or_are_incomplete_are_ignored():
    sets = nal.ParameterSets()

    assert not sets.update(unit(H264, b"\0\0\1\x67\xff\0\0\1\x68\xee\0\0\1\x65\x88"))
    assert not sets.update(unit(H264, b"\0\0\1" + sps_264() + b"\0\0\1\x65\x88"))
    assert not sets.update(unit(H265, clips.video("libx264")[0].data))
    assert sets.format is None


def test_damage_and_ordinary_pictures_bring_no_sets_in():
    data = clips.video("libx264")[0].data
    sets = nal.ParameterSets()

    assert not sets.update(unit(H264, data, damaged=True))
    assert not sets.update(unit(H264, data, key=False))


def test_a_set_beyond_its_size_is_not_kept():
    data = clips.video("libx264")[0].data
    huge = b"\0\0\1\x68" + b"\x55" * nal.PARAMETER_SET_BYTES_MAX
    sets = nal.ParameterSets()
    sets.update(unit(H264, data))

    assert not sets.update(unit(H264, huge + b"\0\0\1\x65\x88"))
    assert len(sets.pps) == 1
