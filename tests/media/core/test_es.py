"""H.264, H.265 and G.711 straight over RTP, also as GStreamer's payloaders send them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.core import clips, interop, packer
from tests.media.core.helpers import run
from vsp.media.core import nal
from vsp.media.core.assembler import FRAME_BYTES_MAX
from vsp.media.core.au import AccessUnit, Depacketizer
from vsp.media.core.es import H264Payload, H265Payload, depacketizer_for
from vsp.model.stream import AudioCodec, VideoCodec

CODECS = [("libx264", "H264", 1), ("libx265", "H265", 2)]


def units_of(picture: clips.Picture) -> list[bytes]:
    return [picture.data[begin:end] for begin, end in nal.split(picture.data)]


def fragments(unit: bytes, h265: bool, most: int = 400) -> list[bytes]:
    """FU-A of RFC 6184 5.8, FU of RFC 7798 4.4.3."""
    header = 2 if h265 else 1
    body = unit[header:]
    out = []
    for at in range(0, len(body), most):
        flags = (at == 0) << 7 | (at + most >= len(body)) << 6
        if h265:
            kind = unit[0] >> 1 & 0x3F
            head = bytes([unit[0] & 0x81 | 49 << 1, unit[1], flags | kind])
        else:
            head = bytes([unit[0] & 0xE0 | 28, flags | unit[0] & 0x1F])
        out.append(head + body[at : at + most])
    return out


def aggregate(units: Sequence[bytes], h265: bool) -> bytes:
    head = b"\x60\x01" if h265 else b"\x18"
    return head + b"".join(struct.pack(">H", len(unit)) + unit for unit in units)


def payloads(picture: clips.Picture, h265: bool) -> list[bytes]:
    """Parameter sets together, long units in fragments, short ones alone."""
    units = units_of(picture)
    out = []
    if picture.key:
        together = 3 if h265 else 2
        out.append(aggregate(units[:together], h265))
        units = units[together:]
    for unit in units:
        out += fragments(unit, h265) if len(unit) > 500 else [unit]
    return out


def stream(
    clip: Sequence[clips.Picture], h265: bool, markers: str = "last", first_ts: int = 0
) -> list[bytes]:
    packets: list[bytes] = []
    for p in clip:
        parts = payloads(p, h265)
        for i, part in enumerate(parts):
            marker = markers == "all" or (markers == "last" and i == len(parts) - 1)
            ts = (p.pts - clip[0].pts + first_ts) & 0xFFFFFFFF
            head = struct.pack(">BBHII", 0x80, marker << 7 | 98, len(packets) & 0xFFFF, ts, 7)
            packets.append(head + part)
    return packets


def nals(units: Sequence[AccessUnit]) -> list[list[bytes]]:
    return [[unit.data[begin:end] for begin, end in unit.nals] for unit in units]


def made(encoding: str) -> Depacketizer:
    depacketizer = depacketizer_for(encoding)
    assert depacketizer is not None
    return depacketizer


@pytest.mark.parametrize("markers", ["last", "none", "all"])
@pytest.mark.parametrize(("name", "encoding", "_header"), CODECS)
def test_single_units_fragments_and_aggregates_make_pictures(
    name: str, encoding: str, _header: int, markers: str
):
    clip = clips.video(name, slices=2 if name == "libx264" else 1)

    units = run(stream(clip, encoding == "H265", markers), made(encoding), joined=())

    assert nals(units) == [units_of(p) for p in clip]
    assert [unit.key for unit in units] == [p.key for p in clip]
    assert {b.dts_90k - a.dts_90k for a, b in pairwise(units)} == {3600}
    assert not any(unit.damaged for unit in units)


def test_the_rtp_timestamp_wraps_without_a_jump():
    clip = clips.video()

    units = run(stream(clip, False, first_ts=0xFFFFFFFF - 9000), made("H264"), joined=())

    assert {b.dts_90k - a.dts_90k for a, b in pairwise(units)} == {3600}


def test_b_frames_get_decode_times_though_rtp_has_none():
    clip = clips.video(b_frames=2)

    units = run(stream(clip, False), made("H264"), joined=())

    decode = [unit.dts_90k for unit in units]
    assert [u.pts_90k - units[0].pts_90k for u in units] == [p.pts - clip[0].pts for p in clip]
    assert decode == sorted(set(decode))


@pytest.mark.parametrize(("name", "encoding", "_header"), CODECS)
def test_a_lost_fragment_damages_its_picture_and_those_that_refer_to_it(
    name: str, encoding: str, _header: int
):
    clip = clips.video(name)
    packets = stream(clip, encoding == "H265")
    victim = next(i for i, p in enumerate(packets) if i > 30 and not p[1] >> 7)
    del packets[victim]

    units = run(packets, made(encoding), joined=())

    damaged = [i for i, unit in enumerate(units) if unit.damaged]
    assert damaged
    assert damaged[-1] < 20
    assert nals(units)[-10:] == [units_of(p) for p in clip[-10:]]


def test_a_fragment_without_its_beginning_is_left_out():
    depacketizer = H264Payload()
    parts = fragments(b"\x65" + b"\x88" * 1000, h265=False)

    units = depacketizer.push(parts[1], 0, False) + depacketizer.push(parts[2], 0, True)

    assert units + depacketizer.flush() == []


def test_fragments_without_end_are_given_up_at_the_size_of_a_picture():
    depacketizer = H265Payload()
    depacketizer.push(b"\x62\x01\x93" + bytes(10), 0, False)

    for _ in range(FRAME_BYTES_MAX // 60_000 + 2):
        depacketizer.push(b"\x62\x01\x13" + b"\x55" * 60_000, 0, False)

    assert "picture-too-large" in depacketizer.oddities


@pytest.mark.parametrize(("encoding", "codec"), [("PCMA", "g711a"), ("pcmu", "g711u")])
def test_g711_is_given_at_once_in_90_khz(encoding: str, codec: str):
    depacketizer = made(encoding)

    first = depacketizer.push(b"\xd5" * 160, 8000, True, arrival_us=5)
    second = depacketizer.push(b"\xd5" * 160, 8160, True)

    assert [unit.dts_90k for unit in first + second] == [90_000, 91_800]
    assert (first[0].codec, first[0].arrival_us) == (AudioCodec(codec), 5)
    assert depacketizer.flush() == []


def test_sound_beside_a_program_stream_is_joined_to_its_picture_by_arrival():
    pictures = made("PS")
    sound = depacketizer_for("PCMA", beside=pictures)
    assert sound is not None
    early = sound.push(b"\xd5" * 160, 3_000_000_000, True, arrival_us=1_000_000)
    units = []
    for i, p in enumerate(clips.video(frames=6)):
        pack = packer.picture(p.data, p.pts, key=p.key)
        units += pictures.push(pack, p.pts, True, arrival_us=1_100_000 + i * 40_000)
    shown = units[-1]

    heard = []
    for i in range(3):
        at_us = shown.arrival_us + 10_000 + i * 20_000
        heard += sound.push(b"\xd5" * 160, 3_000_001_000 + i * 160, True, arrival_us=at_us)

    assert early == []
    assert [u.dts_90k - shown.dts_90k for u in heard] == [900, 2700, 4500]


def test_encodings_are_found_by_name_and_unknown_ones_are_none():
    assert depacketizer_for("ps") is not None
    assert depacketizer_for("H265") is not None
    assert depacketizer_for("SVAC") is None


@pytest.mark.skipif(not interop.GSTREAMER, reason="GStreamer is not installed")
@pytest.mark.parametrize(("name", "encoding", "_header"), CODECS)
def test_what_gstreamers_payloaders_send_is_understood(name: str, encoding: str, _header: int):
    clip = clips.video(name)

    units = run(interop.gstreamer_rtp(name), made(encoding), joined=())

    assert [u.codec for u in units] == [VideoCodec(encoding.lower())] * len(clip)
    slices = [[n for n in unit if n[0] & 0x1F in (1, 5)] for unit in nals(units)]
    if name == "libx264":
        assert slices == [[n for n in units_of(p) if n[0] & 0x1F in (1, 5)] for p in clip]
    assert not any(unit.damaged for unit in units)


@given(
    st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 3), st.booleans(), st.booleans())),
    st.sampled_from(["H264", "H265", "PCMA"]),
)
def test_any_payloads_are_taken(packets: list[tuple[bytes, int, bool, bool]], encoding: str):
    depacketizer = made(encoding)

    units = []
    for payload, ts, marker, lost in packets:
        units += depacketizer.push(payload, ts, marker, lost)
    units += depacketizer.flush()

    assert sum(len(unit.data) for unit in units) <= 5 * sum(len(p[0]) for p in packets)
