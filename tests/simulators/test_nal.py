import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.nal import (
    SEI_UUID,
    START_CODE,
    Stamp,
    escape,
    is_parameter_set,
    is_slice,
    read_stamp,
    split_nals,
    stamp_sei,
    unescape,
)
from vsp.model.stream import VideoCodec

CODECS = [VideoCodec.H264, VideoCodec.H265]


def test_units_are_cut_at_both_kinds_of_start_code():
    data = b"\0\0\0\1\x67abc\0\0\1\x68d\0\0\0\1\x65efg"

    assert split_nals(data) == [b"\x67abc", b"\x68d", b"\x65efg"]


def test_a_stream_without_start_code_has_no_units():
    assert split_nals(b"\x67abc") == []


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        (b"\0\0\0\x80", b"\0\0\3\0\x80"),
        (b"\0\0\1", b"\0\0\3\1"),
        (b"\0\0\2", b"\0\0\3\2"),
        (b"\0\0\3", b"\0\0\3\3"),
        (b"\0\0\4", b"\0\0\4"),
        (b"\0\0\0\0\0\1", b"\0\0\3\0\0\3\0\1"),
        (b"\1\0\0", b"\1\0\0\3"),
    ],
)
def test_emulation_prevention_follows_the_standard(plain: bytes, escaped: bytes):
    assert escape(plain) == escaped


@given(st.binary(max_size=64).map(lambda data: bytes(b & 3 for b in data) + b"\x80"))
def test_escaped_data_has_no_start_code_and_comes_back(data: bytes):
    escaped = escape(data)

    assert all(bytes((0, 0, x)) not in escaped for x in (0, 1, 2))
    assert unescape(escaped) == data


@pytest.mark.parametrize("codec", CODECS)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1))
def test_a_stamp_is_read_back(codec: VideoCodec, capture_us: int, frame: int):
    sei = stamp_sei(codec, Stamp(capture_us, frame))

    nals = split_nals(sei + START_CODE + b"\x65slice")

    assert len(nals) == 2
    assert read_stamp(codec, nals) == Stamp(capture_us, frame)


def test_the_h264_form_is_byte_exact():
    sei = stamp_sei(VideoCodec.H264, Stamp(0x0102030405060708, 0x090A0B0C))

    header = bytes.fromhex("00000001 06 05 1c")
    assert sei == header + SEI_UUID + bytes.fromhex("0102030405060708 090a0b0c 80")


def test_the_h265_form_has_a_prefix_sei_header():
    sei = stamp_sei(VideoCodec.H265, Stamp(1 << 40, 5))

    assert sei.startswith(bytes.fromhex("00000001 4e01 05 1c"))


def test_zeros_in_a_stamp_are_protected():
    sei = stamp_sei(VideoCodec.H264, Stamp(0, 0))

    assert b"\0\0\0" not in sei[4:]
    assert read_stamp(VideoCodec.H264, split_nals(sei)) == Stamp(0, 0)


def test_another_sei_is_not_a_stamp():
    other = b"\x06\x05\x10" + bytes(range(1, 17)) + b"\x80"

    assert read_stamp(VideoCodec.H264, [other, b"\x65slice"]) is None


@pytest.mark.parametrize(
    ("codec", "header", "sliced", "parameters"),
    [
        (VideoCodec.H264, 0x65, True, False),
        (VideoCodec.H264, 0x41, True, False),
        (VideoCodec.H264, 0x67, False, True),
        (VideoCodec.H264, 0x68, False, True),
        (VideoCodec.H264, 0x06, False, False),
        (VideoCodec.H265, 0x26, True, False),
        (VideoCodec.H265, 0x02, True, False),
        (VideoCodec.H265, 0x40, False, True),
        (VideoCodec.H265, 0x42, False, True),
        (VideoCodec.H265, 0x44, False, True),
        (VideoCodec.H265, 0x4E, False, False),
    ],
)
def test_kinds_of_units_are_told_apart(codec: VideoCodec, header: int, sliced, parameters):
    nal = bytes((header, 1, 0x80))

    assert is_slice(codec, nal) == sliced
    assert is_parameter_set(codec, nal) == parameters
