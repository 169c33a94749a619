"""Program stream bytes against the worked layout of GB/T 28181-2016 annex C.1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulators.ps import (
    PES_BYTES_MAX,
    PTS_MASK,
    SPLIT_PES_BYTES_MAX,
    PsPacker,
    crc32_mpeg,
    pack_header,
    pes_packets,
    pts_field,
    stream_map,
)
from vsp.model.stream import VideoCodec

PACK = bytes.fromhex("000001ba 4400 16fc 8401 005f6bf8")
SYSTEM_HEADER = bytes.fromhex("000001bb 000c 80ccf5 04 21 7f e0e190 c0c020")
MAP_H264_G711A = bytes.fromhex("000001bc 0012 e1ff 0000 0008 1be00000 90c00000 b9287f16")
MAP_H265_AAC = bytes.fromhex("000001bc 0012 e1ff 0000 0008 24e00000 0fc00000 ad322adc")
PES_START = bytes.fromhex("000001e0 000d 84 80 05 21 0005 bf21")


def pts_of(field: bytes) -> int:
    return (
        (field[0] >> 1 & 7) << 30
        | (field[1] << 7 | field[2] >> 1) << 15
        | (field[3] << 7 | field[4] >> 1)
    )


def units(stream: bytes) -> list[tuple[int, bytes]]:
    """(id, whole unit) of a program stream, by lengths only."""
    found = []
    offset = 0
    while offset < len(stream):
        assert stream[offset : offset + 3] == b"\0\0\1", stream[offset : offset + 16].hex()
        kind = stream[offset + 3]
        length = int.from_bytes(stream[offset + 4 : offset + 6], "big") + 6
        size = 14 if kind == 0xBA else length
        found.append((kind, stream[offset : offset + size]))
        offset += size
    return found


def payload(pes: bytes) -> bytes:
    return pes[9 + pes[8] :]


def test_the_pack_header_is_the_worked_example():
    assert pack_header(90_000) == PACK


def test_the_stream_maps_are_the_worked_examples():
    assert stream_map(0x1B, 0x90) == MAP_H264_G711A
    assert stream_map(0x24, 0x0F) == MAP_H265_AAC


def test_a_pes_packet_is_the_worked_example():
    assert pes_packets(0xE0, b"12345", 90_000, PES_BYTES_MAX) == [PES_START + b"12345"]


def test_a_key_frame_is_pack_system_header_map_and_picture_in_that_order():
    pack = PsPacker(VideoCodec.H264).video(b"12345", 90_000, key=True)

    assert pack == PACK + SYSTEM_HEADER + MAP_H264_G711A + PES_START + b"12345"


def test_another_frame_is_pack_and_picture_alone():
    pack = PsPacker(VideoCodec.H264).video(b"12345", 90_000, key=False)

    assert pack == PACK + PES_START + b"12345"


def test_audio_has_a_pack_of_its_own():
    pack = PsPacker(VideoCodec.H264).audio(b"\xd5" * 320, 90_000)

    assert [kind for kind, _ in units(pack)] == [0xBA, 0xC0]
    assert payload(units(pack)[1][1]) == b"\xd5" * 320


@given(st.integers(0, PTS_MASK))
def test_any_pts_is_read_back_and_has_its_markers(pts: int):
    field = pts_field(pts)

    assert pts_of(field) == pts
    assert field[0] >> 4 == 2
    assert field[0] & field[2] & field[4] & 1


@given(st.integers(0, PTS_MASK))
def test_any_scr_is_read_back(scr: int):
    bits = int.from_bytes(pack_header(scr)[4:10], "big")

    assert (bits >> 43 & 7) << 30 | (bits >> 27 & 0x7FFF) << 15 | bits >> 11 & 0x7FFF == scr
    assert bits >> 46 == 1
    assert all(bits >> marker & 1 for marker in (42, 26, 10, 0))


@pytest.mark.parametrize("size", [1, 64_985, 64_986, 64_987, 200_000, 1_700_000])
def test_large_pictures_are_cut_and_only_the_first_part_has_a_pts(size: int):
    data = bytes(i * 31 & 0xFF for i in range(size))

    parts = pes_packets(0xE0, data, 90_000, PES_BYTES_MAX)

    assert b"".join(payload(part) for part in parts) == data
    assert max(map(len, parts)) <= PES_BYTES_MAX
    assert [part[7] >> 7 for part in parts] == [1] + [0] * (len(parts) - 1)
    assert units(b"".join(parts)) == [(0xE0, part) for part in parts]


def test_split_pes_makes_many_small_ones():
    packer = PsPacker(VideoCodec.H264, pes_bytes=SPLIT_PES_BYTES_MAX)

    kinds = [kind for kind, _ in units(packer.video(bytes(9_000), 0, key=False))]

    assert kinds == [0xBA] + [0xE0] * 5


def test_without_a_map_the_system_header_stays():
    pack = PsPacker(VideoCodec.H265, psm=False).video(b"x", 0, key=True)

    assert [kind for kind, _ in units(pack)] == [0xBA, 0xBB, 0xE0]


def test_private_packets_are_skipped_by_length_and_hold_a_false_start_code():
    pack = PsPacker(VideoCodec.H264, bd=True).video(b"picture", 0, key=False)

    kinds = [kind for kind, _ in units(pack)]
    private = units(pack)[1][1]
    assert kinds == [0xBA, 0xBD, 0xE0]
    assert b"\0\0\1\xe0" in private[6:]


def test_the_crc_is_that_of_the_standard():
    assert crc32_mpeg(b"123456789") == 0x0376E6E7  # the published check value of CRC-32/MPEG-2
