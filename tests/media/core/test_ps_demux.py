"""Every entry of the tolerance list of GB/T 28181 program streams, each by its own test."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.media.core import clips, packer
from tests.media.core.helpers import decoded, movie, packs, pictures, run, sounds
from vsp.media.core import jitter, rtp
from vsp.media.core.au import AccessUnit
from vsp.media.core.ps_demux import BUFFER_BYTES_MAX, OTHER_ID_PATIENCE, PsDemuxer
from vsp.model.stream import AudioCodec, VideoCodec

PACK_START = b"\0\0\1\xba"

CLIPS = [("libx264", packer.H264, VideoCodec.H264), ("libx265", packer.H265, VideoCodec.H265)]


def demux(packed: list[tuple[int, bytes]], **how: object) -> tuple[list[AccessUnit], PsDemuxer]:
    demuxer = PsDemuxer()
    return run(packer.rtp_stream(packed, **how), demuxer), demuxer


def assert_same(units: list[AccessUnit], clip: tuple[clips.Picture, ...]) -> None:
    """Every picture is there, whole, in order, undamaged."""
    got = pictures(units)
    assert [unit.data for unit in got] == [p.data for p in clip]
    assert [unit.key for unit in got] == [p.key for p in clip]
    assert not any(unit.damaged for unit in got)


# ---- the standard's own bytes ----


def test_the_packer_of_these_tests_writes_the_worked_example():
    assert packer.pack_header(90_000, 6106).hex(" ") == "00 00 01 ba 44 00 16 fc 84 01 00 5f 6b f8"
    assert packer.stream_map((0x1B, 0xE0), (0x90, 0xC0)) == bytes.fromhex(
        "000001bc0012e1ff000000081be0000090c00000b9287f16"
    )
    assert packer.stream_map((0x24, 0xE0), (0x0F, 0xC0)) == bytes.fromhex(
        "000001bc0012e1ff0000000824e000000fc00000ad322adc"
    )
    assert packer.pes(0xE0, b"12345", 90_000)[:14] == bytes.fromhex("000001e0000d848005210005bf21")


def test_the_worked_example_gives_one_picture_and_one_sound():
    example = bytes.fromhex(
        "000001ba440016fc8401005f6bf8"
        "000001bb000c80ccf50421 7fe0e190c0c020"
        "000001bc0012e1ff000000081be0000090c00000b9287f16"
        "000001e0000d848005210005bf21 0000016588"
        "000001c0000d848005210005bf21 d5d5d5d5d5"
    )

    demuxer = PsDemuxer()
    units = demuxer.push(example, 0, True) + demuxer.flush()

    (picture,), (sound,) = pictures(units), sounds(units)
    assert (picture.codec, picture.data) == (VideoCodec.H264, b"\0\0\1\x65\x88")
    assert (picture.pts_90k, picture.dts_90k, picture.key) == (90_000, 90_000, True)
    assert (sound.codec, sound.data, sound.pts_90k) == (AudioCodec.G711A, b"\xd5" * 5, 90_000)
    assert (demuxer.oddities, demuxer.skipped_bytes) == (set(), 0)


@pytest.mark.parametrize(("name", "kind", "codec"), CLIPS)
def test_a_well_behaved_stream_comes_out_as_it_went_in(name: str, kind: int, codec: VideoCodec):
    clip = clips.video(name)

    units, demuxer = demux(packs(clip, kind))

    assert_same(units, clip)
    assert {unit.codec for unit in units} == {codec}
    assert [(u.pts_90k, u.dts_90k) for u in units] == [(p.pts, p.dts) for p in clip]
    assert (demuxer.oddities, demuxer.skipped_bytes, demuxer.damaged_frames) == (set(), 0, 0)


@pytest.mark.parametrize(("name", "kind", "codec"), CLIPS)
def test_b_frames_keep_pts_and_dts(name: str, kind: int, codec: VideoCodec):
    clip = clips.video(name, b_frames=2)

    units, _ = demux(packs(clip, kind))

    assert_same(units, clip)
    assert [(u.pts_90k, u.dts_90k) for u in units] == [(p.pts, p.dts) for p in clip]


def test_the_nal_units_of_a_picture_are_given_with_it():
    clip = clips.video()

    units, _ = demux(packs(clip))

    kinds = [unit.data[begin] & 0x1F for unit in units[:1] for begin, _ in unit.nals]
    assert kinds == [7, 8, 6, 5]


def test_the_arrival_is_that_of_the_first_payload():
    demuxer = PsDemuxer()
    first, second = (pack for _, pack in packs(clips.video())[:2])

    demuxer.push(first[:1000], 1, False, arrival_us=100)
    demuxer.push(first[1000:], 1, True, arrival_us=200)
    units = demuxer.push(second, 2, True, arrival_us=300) + demuxer.flush()

    assert [unit.arrival_us for unit in units] == [100, 300]


# ---- when a picture is given away ----


def pushed(packed: list[tuple[int, bytes]], markers: str) -> list[int]:
    """How many pictures each pack's packets gave out, pack by pack."""
    demuxer = PsDemuxer()
    given = []
    for ts, pack in packed:
        out = []
        for packet in packer.rtp(pack, 0, ts, markers=markers):
            out += demuxer.push(packet[12:], ts, packet[1] >= 0x80)
        given.append(len(out))
    return given


def test_an_honest_marker_soon_saves_a_frame_of_delay():
    given = pushed(packs(clips.video()), "last")

    assert given[:4] == [0, 1, 1, 2]
    assert given[4:] == [1] * 26


def test_without_markers_a_picture_leaves_when_the_next_begins():
    given = pushed(packs(clips.video()), "none")

    assert given[:5] == [0, 0, 1, 1, 2]
    assert given[5:] == [1] * 25


@pytest.mark.parametrize("markers", ["all", "none", "last"])
@pytest.mark.parametrize("slices", [1, 4])
@pytest.mark.parametrize("most", [65_000, 1_000, 500])
def test_the_marker_decides_nothing(markers: str, slices: int, most: int):
    clip = clips.video(slices=slices)

    units, _ = demux(packs(clip, most=most), markers=markers, payload_bytes=514)

    assert_same(units, clip)


def test_a_marker_on_every_pes_of_a_key_picture_costs_nothing():
    """Each PES is sent like a frame of its own, with a marker; one RTP timestamp for all."""
    clip = clips.video(gop=30)
    packets: list[bytes] = []
    for p in clip:
        pack = packer.picture(p.data, p.pts, key=p.key, most=1500)
        at = 0
        while at < len(pack):
            end = pack.find(b"\0\0\1\xe0", at + 1000)
            end = end if end > 0 else len(pack)
            packets += packer.rtp(pack[at:end], len(packets), p.pts, payload_bytes=65_000)
            at = end

    units = run(packets, PsDemuxer())

    assert_same(units, clip)


def test_a_marker_that_begins_to_lie_is_not_believed_for_long():
    """First marker and frame agree; then each half frame is a pack of its own with a marker."""
    clip = clips.video(slices=2, frames=30, gop=30)
    packets: list[bytes] = []
    for i, p in enumerate(clip):
        if i < 8:
            packets += packer.rtp(packer.picture(p.data, p.pts, key=p.key), len(packets), p.pts)
            continue
        half = p.data.index(b"\0\0\1", 10)
        for piece in (p.data[:half], p.data[half:]):
            packets += packer.rtp(packer.picture(piece, p.pts), len(packets), p.pts)
    demuxer = PsDemuxer()

    units = run(packets, demuxer)

    assert "marker-inside-picture" in demuxer.oddities
    assert sum(unit.damaged for unit in units) <= 22
    assert [u.data for u in units[-20:]] == [p.data for p in clip[-20:]]
    assert len(units) == len(clip) + 1


# ---- 1, 2, 3: stream map missing, wrong, changed ----


@pytest.mark.parametrize(("name", "kind", "codec"), CLIPS)
def test_1_without_a_stream_map_the_codec_is_guessed(name: str, kind: int, codec: VideoCodec):
    clip = clips.video(name)
    packed = [(p.dts, packer.pack_header() + packer.pes(0xE0, p.data, p.pts)) for p in clip]

    units, demuxer = demux(packed)

    assert_same(units, clip)
    assert units[0].codec is codec
    assert demuxer.oddities == {"psm-missing"}


def test_1_without_a_stream_map_sound_is_adts_or_g711a():
    law = [(t, packer.sound(b"\xd5" * 320, 90_000 + t)) for t in range(0, 36_000, 3600)]
    aac = [(i * 5760, packer.sound(f, 90_000 + i * 5760)) for i, f in enumerate(clips.adts())]

    assert {unit.codec for unit in demux(law)[0]} == {AudioCodec.G711A}
    assert {unit.codec for unit in demux(aac)[0]} == {AudioCodec.AAC}


def test_1_before_the_first_key_picture_nothing_is_guessed_wrong():
    clip = clips.video("libx265")
    packed = [(p.dts, packer.pack_header() + packer.pes(0xE0, p.data, p.pts)) for p in clip]

    units, _ = demux(packed[5:])

    assert_same(units, clip[10:])


@pytest.mark.parametrize(
    ("name", "announced", "codec"),
    [("libx265", packer.H264, VideoCodec.H265), ("libx264", packer.H265, VideoCodec.H264)],
)
def test_2_a_stream_map_with_the_wrong_codec_is_overruled(
    name: str, announced: int, codec: VideoCodec
):
    clip = clips.video(name)

    units, demuxer = demux(packs(clip, announced))

    assert_same(units, clip)
    assert {unit.codec for unit in units} == {codec}
    assert demuxer.oddities == {"psm-wrong-codec"}


def test_3_a_codec_that_changes_in_mid_stream_is_followed():
    first, second = clips.video("libx264"), clips.video("libx265")
    shift = first[-1].dts + 3600 - second[0].dts
    later = [
        (p.dts + shift, packer.picture(p.data, p.pts + shift, key=p.key, video=packer.H265))
        for p in second
    ]

    units, demuxer = demux(packs(first) + later)

    assert [u.codec for u in units] == [VideoCodec.H264] * 30 + [VideoCodec.H265] * 30
    assert [u.data for u in units] == [p.data for p in (*first, *second)]
    assert {b.dts_90k - a.dts_90k for a, b in pairwise(units)} == {3600}
    assert demuxer.damaged_frames == 0


def test_3_a_resolution_that_changes_in_mid_stream_is_only_another_key_picture():
    first, second = clips.video(), clips.video(width=320, height=180)

    units, _ = demux(packs(first) + packs(second))

    assert [u.data for u in units] == [p.data for p in (*first, *second)]


# ---- 4, 5: vendors ----


@pytest.mark.parametrize(
    "broken",
    [
        packer.stream_map((0x1B, 0xE0), info=b"\x40\x0eHIKVISION....."),
        packer.stream_map((0x1B, 0xE0), (0x90, 0xC0))[:-4] + b"\0\0\0\0",
        # es_info_length of the first entry runs past the map's end
        bytes.fromhex("000001bc0012e1ff000000081be0ff0090c00000b9287f16"),
        # elementary_stream_map_length is too long
        bytes.fromhex("000001bc0012e1ff000000ff1be0000090c00000b9287f16"),
        # program_stream_info_length runs past the end
        bytes.fromhex("000001bc0012e1ff0fff00081be0000090c00000b9287f16"),
        bytes.fromhex("000001bc0002e1ff"),
    ],
)
def test_4_a_stream_map_whose_inner_lengths_disagree_is_left_at_its_own_end(broken: bytes):
    clip = clips.video()
    packed = [
        (p.dts, packer.pack_header() + broken * p.key + packer.pes(0xE0, p.data, p.pts))
        for p in clip
    ]

    units, demuxer = demux(packed)

    assert_same(units, clip)
    assert demuxer.skipped_bytes == 0


@pytest.mark.parametrize("code", [0xBD, 0xBE, 0xBF, 0xF0, 0xF2, 0xFF])
def test_5_private_and_padding_streams_are_skipped_by_their_length(code: int):
    """Their content may look like anything, here like a pack with a picture."""
    clip = clips.video(frames=8)
    bait = packer.pack_header() + packer.pes(0xE0, b"\0\0\1\x65\x88", 5)
    private = b"\0\0\1" + bytes([code]) + len(bait).to_bytes(2, "big") + bait
    packed = []
    for p in clip:
        most = len(p.data) // 2 + 1
        pack = packer.picture(p.data, p.pts, key=p.key, most=most)
        second = pack.index(b"\0\0\1\xe0", pack.index(b"\0\0\1\xe0") + most)
        packed.append((p.dts, pack[:second] + private + pack[second:] + private))

    units, demuxer = demux(packed)

    assert_same(units, clip)
    assert demuxer.oddities == set()


def test_5_a_bare_pack_start_code_right_before_a_pes_is_a_pack_header():
    clip = clips.video("libx265")
    packed = [(p.dts, PACK_START + packer.pes(0xE0, p.data, p.pts, most=1300)) for p in clip]

    units, demuxer = demux(packed)

    assert_same(units, clip)
    assert "bare-pack-header" in demuxer.oddities


# ---- 6: sound beside PS ----


@pytest.mark.parametrize("shared", [True, False])
def test_6_sound_of_another_payload_type_does_not_disturb_the_picture(shared: bool):
    clip = clips.video()
    packets: list[bytes] = []
    sound_seq = 5000
    for p in clip:
        seq = len(packets) if shared else sum(1 for x in packets if x[1] & 0x7F == 96)
        packets += packer.rtp(packer.picture(p.data, p.pts, key=p.key), seq, p.dts)
        seq = len(packets) if shared else sound_seq
        packets += packer.rtp(b"\xd5" * 320, seq, p.dts // 90 * 8, pt=8)
        sound_seq += 1
    only_ps = PsDemuxer()

    sorter = jitter.Sorter()
    units = []
    for packet in sorter.push_batch(rtp.collect(map(memoryview, packets)).bursts, 0.0):
        if packet.pt == 96:
            units += only_ps.push(packet.payload, packet.ts, packet.marker, packet.lost > 0)
    units += only_ps.flush()

    assert_same(units, clip)
    assert sorter.lost == 0


# ---- 7: packs and timestamps ----


def test_7_two_frames_under_one_rtp_timestamp_are_two_pictures():
    clip = clips.video()
    packed = [(i // 2 * 7200, packer.picture(p.data, p.pts, key=p.key)) for i, p in enumerate(clip)]

    units, _ = demux(packed, markers="none")

    assert_same(units, clip)


def test_7_two_frames_in_one_pes_are_two_pictures():
    clip = clips.video()
    packed = [
        (a.dts, packer.picture(a.data + b.data, a.pts, key=a.key))
        for a, b in zip(clip[::2], clip[1::2], strict=True)
    ]

    units, demuxer = demux(packed)

    assert_same(units, clip)
    assert [u.dts_90k for u in units] == [p.dts for p in clip]
    assert "several-pictures-in-one-pack" in demuxer.oddities


def test_7_half_a_frame_in_each_pack_is_one_picture():
    clip = clips.video(slices=2)
    packed = []
    for p in clip:
        half = p.data.index(b"\0\0\1", len(p.data) // 4)
        packed += [
            (p.dts, packer.picture(p.data[:half], p.pts, key=p.key)),
            (p.dts, packer.picture(p.data[half:], p.pts)),
        ]

    units, _ = demux(packed)

    assert_same(units, clip)


def test_7_halves_under_different_rtp_timestamps_are_one_picture():
    clip = clips.video(slices=2)
    packed = []
    for p in clip:
        half = p.data.index(b"\0\0\1", len(p.data) // 4)
        packed += [
            (p.dts, packer.picture(p.data[:half], p.pts, key=p.key)),
            (p.dts + 90, packer.picture(p.data[half:], None)),
        ]

    units, _ = demux(packed)

    assert_same(units, clip)


def test_7_parameter_sets_sent_as_if_they_were_a_frame_belong_to_the_next():
    clip = clips.video()
    packed = []
    for p in clip:
        cut = p.data.rindex(b"\0\0\1") if p.key else 0
        cut -= cut > 0 and p.data[cut - 1] == 0
        if cut:
            packed.append((p.dts - 5, packer.picture(p.data[:cut], p.pts - 5, key=True)))
        packed.append((p.dts, packer.picture(p.data[cut:], p.pts)))

    units, _ = demux(packed)

    assert_same(units, clip)
    assert [u.pts_90k for u in units] == [p.pts for p in clip]


def test_7_every_nal_unit_in_a_pes_of_its_own_with_the_same_pts_is_one_picture():
    clip = clips.video(slices=3)
    packed = []
    for p in clip:
        units = p.data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
        body = b"".join(packer.pes(0xE0, b"\0\0\1" + unit, p.pts) for unit in units)
        head = packer.pack_header() + (packer.stream_map((0x1B, 0xE0)) if p.key else b"")
        packed.append((p.dts, head + body))

    got, _ = demux(packed)

    assert [u.data for u in got] == [p.data.replace(b"\0\0\0\1", b"\0\0\1") for p in clip]


@pytest.mark.parametrize("markers", ["last", "none"])
def test_7_sound_with_a_time_of_its_own_between_the_frames_disturbs_nothing(markers: str):
    clip = clips.video()
    packed = []
    for p, law in zip(clip, clips.alaw(), strict=True):
        packed += [
            (p.dts, packer.picture(p.data, p.pts, key=p.key)),
            (p.dts + 1800, packer.sound(law, p.pts + 1800)),
        ]

    units, _ = demux(packed, markers=markers)

    assert_same(units, clip)
    assert [s.pts_90k for s in sounds(units)] == [p.pts + 1800 for p in clip]


def test_7_sound_in_the_pack_of_the_picture_is_found():
    clip = clips.video()
    packed = [
        (p.dts, packer.picture(p.data, p.pts, key=p.key) + packer.pes(0xC0, law, p.pts))
        for p, law in zip(clip, clips.alaw(), strict=True)
    ]

    units, _ = demux(packed)

    assert_same(units, clip)
    assert len(sounds(units)) == len(clip)


def test_7_a_map_that_names_sound_first_hides_no_picture():
    clip = clips.video("libx265")
    stream_map = packer.stream_map((0x90, 0xC0), (0x24, 0xE0))
    packed = [
        (p.dts, packer.pack_header() + stream_map * p.key + packer.pes(0xE0, p.data, p.pts))
        for p in clip
    ]

    units, demuxer = demux(packed)

    assert_same(units, clip)
    assert demuxer.oddities == set()


# ---- 8: boundaries ----


@pytest.mark.parametrize("payload_bytes", [1, 2, 3, 5, 7, 11, 13, 188])
def test_8_start_codes_may_straddle_packets(payload_bytes: int):
    clip = clips.video(frames=4, width=64, height=64)

    units, demuxer = demux(packs(clip, most=400), payload_bytes=payload_bytes)

    assert_same(units, clip)
    assert demuxer.skipped_bytes == 0


def test_8_a_stream_of_bytes_cut_without_regard_to_frames_is_the_same_stream():
    clip = clips.video()
    stream = b"".join(pack for _, pack in packs(clip))
    demuxer = PsDemuxer()
    units = []

    for at in range(0, len(stream), 1000):
        units += demuxer.push(stream[at : at + 1000], at // 4000, at % 3 == 0)
    units += demuxer.flush()

    assert_same(units, clip)


def test_8_a_picture_larger_than_65_535_bytes_is_in_several_pes():
    clip = clips.video(width=320, height=256, frames=2, more=":qp=0")
    assert len(clip[0].data) > 65_535

    units, _ = demux(packs(clip))

    assert_same(units, clip)


def test_8_pes_of_length_0_end_at_the_next_pack_header():
    clip = clips.video(frames=12)

    def open_ended(p: clips.Picture) -> bytes:
        header = packer.pes_header(p.pts, None)
        head = packer.pack_header() + (packer.stream_map((0x1B, 0xE0)) if p.key else b"")
        return head + b"\0\0\1\xe0\0\0" + header + p.data

    units, demuxer = demux([(p.dts, open_ended(p)) for p in clip])

    assert_same(units, clip)
    assert "pes-length-0" in demuxer.oddities


def test_8_a_pes_length_counted_beyond_16_bits_is_understood():
    clip = clips.video(width=320, height=256, frames=3, more=":qp=0")

    def overflowing(p: clips.Picture) -> bytes:
        body = packer.pes_header(p.pts, None) + p.data
        return packer.pack_header() + b"\0\0\1\xe0" + (len(body) & 0xFFFF).to_bytes(2, "big") + body

    units, demuxer = demux([(p.dts, overflowing(p)) for p in clip])

    assert_same(units, clip)
    assert "pes-length-wrong" in demuxer.oddities


def test_8_a_pes_header_length_past_its_end_is_nonsense():
    slices = [b"\0\0\1\x65\x88" + bytes([i]) * 100 for i in range(1, 4)]
    packed = []
    for i, data in enumerate(slices):
        pack = bytearray(packer.picture(data, i * 3600, key=True))
        header_length_at = pack.index(b"\0\0\1\xe0") + 8
        pack[header_length_at] = 0xFF
        packed.append((i * 3600, bytes(pack)))

    units, _ = demux(packed)

    assert [unit.data for unit in units] == slices


def test_8_mpeg_1_pack_and_pes_headers_are_read():
    clip = clips.video(frames=6)
    pack = bytes.fromhex("000001ba2100010001800001")

    def old(p: clips.Picture) -> bytes:
        body = b"\xff\xff\x60\x20" + packer.timestamp(2, p.pts) + p.data
        return pack + b"\0\0\1\xe0" + len(body).to_bytes(2, "big") + body

    units, demuxer = demux([(p.dts, old(p)) for p in clip])

    assert_same(units, clip)
    assert [u.pts_90k for u in units] == [p.pts for p in clip]
    assert demuxer.skipped_bytes == 0


# ---- 9, 10: times ----


def test_9_without_pts_the_rtp_timestamp_is_taken():
    clip = clips.video()
    packed = [(500 + i * 4500, packer.picture(p.data, None, key=p.key)) for i, p in enumerate(clip)]

    units, _ = demux(packed)

    assert_same(units, clip)
    assert [u.dts_90k for u in units] == [500 + i * 4500 for i in range(30)]


def test_9_pts_wraps_at_33_bits():
    clip = clips.video()
    shift = (1 << 33) - clip[10].pts
    packed = [(p.dts, packer.picture(p.data, (p.pts + shift) % (1 << 33), key=p.key)) for p in clip]

    units, _ = demux(packed)

    assert [u.dts_90k for u in units] == [p.dts + shift for p in clip]


def test_9_pts_that_stands_at_0_is_repaired():
    clip = clips.video()

    units, _ = demux([(p.dts, packer.picture(p.data, 0, key=p.key)) for p in clip])

    assert_same(units, clip)
    assert {b.dts_90k - a.dts_90k for a, b in pairwise(units)} == {3600}


def test_9_rtp_timestamps_in_milliseconds_without_pts_run_at_the_speed_of_the_wall():
    clip = clips.video(frames=150, gop=50)
    demuxer = PsDemuxer()
    units = []
    for i, p in enumerate(clip):
        pack = packer.picture(p.data, None, key=p.key)
        units += demuxer.push(pack, i * 40, True, arrival_us=1_000_000 + i * 40_000)
    units += demuxer.flush()

    assert {b.dts_90k - a.dts_90k for a, b in pairwise(units[60:])} == {3600}


def test_10_a_nonsense_scr_is_not_looked_at():
    clip = clips.video()
    packed = [
        (p.dts, packer.pack_header(scr=(i * 7919) ** 3) + packer.pes(0xE0, p.data, p.pts))
        for i, p in enumerate(clip)
    ]

    units, _ = demux(packed)

    assert_same(units, clip)
    assert [u.dts_90k for u in units] == [p.dts for p in clip]


def test_10_stuffing_behind_the_pack_header_is_skipped():
    clip = clips.video(frames=8)
    packed = [
        (p.dts, packer.pack_header(stuffing=i) + packer.pes(0xE0, p.data, p.pts))
        for i, p in enumerate(clip)
    ]

    assert_same(demux(packed)[0], clip)


# ---- 11, 12: other containers, padding, end ----


def test_11_a_transport_stream_is_recognised():
    demuxer = PsDemuxer()
    packet = b"\x47" + bytes(187)

    units = demuxer.push(packet * 7, 0, True) + demuxer.flush()

    assert units == []
    assert demuxer.oddities == {"mpeg-ts"}


def test_12_program_end_codes_and_zeros_between_packs_are_skipped():
    clip = clips.video()
    packed = [(ts, pack + b"\0\0\1\xb9" + bytes(i % 5)) for i, (ts, pack) in enumerate(packs(clip))]

    assert_same(demux(packed)[0], clip)


# ---- several streams ----


def test_pictures_of_a_second_camera_in_the_stream_are_not_mixed_in():
    clip = clips.video()
    packed = [(ts, pack + packer.pes(0xE1, b"\0\0\1\x65\x88other", ts)) for ts, pack in packs(clip)]

    units, demuxer = demux(packed)

    assert_same(units, clip)
    assert "several-video-ids" in demuxer.oddities


def test_a_stream_id_that_takes_over_is_followed():
    clip = clips.video(frames=OTHER_ID_PATIENCE + 40, gop=10, width=64, height=64)
    packed = [
        (p.dts, packer.pack_header() + packer.pes(0xE0 if i < 10 else 0xE2, p.data, p.pts))
        for i, p in enumerate(clip)
    ]

    units, _ = demux(packed)

    assert [u.data for u in units[:10]] == [p.data for p in clip[:10]]
    assert units[-1].data == clip[-1].data


@pytest.mark.parametrize("kind", [0x10, 0x80])
def test_codecs_that_are_not_ours_come_out_as_other(kind: int):
    packed = [
        (t, packer.picture(b"\0\0\1\x67\x42whatever", t, key=t == 0, video=0x80))
        for t in range(0, 36_000, 3600)
    ]

    units, _ = demux(packed)

    assert {u.codec for u in units} == {VideoCodec.OTHER}
    assert len(units) == 10
    assert not any(u.key for u in units)


# ---- loss ----


def lossy(drop: set[int], markers: str = "last") -> tuple[list[AccessUnit], PsDemuxer, list[bytes]]:
    packets = packer.rtp_stream(packs(clips.video()), markers=markers)
    demuxer = PsDemuxer()
    kept = [packet for i, packet in enumerate(packets) if i not in drop]
    return run(kept, demuxer), demuxer, packets


def test_loss_marks_pictures_until_the_next_key_picture_and_no_further():
    clip = clips.video()
    packets = packer.rtp_stream(packs(clip))
    third = next(i for i, p in enumerate(packets) if p[12:16] == PACK_START and i > 12)

    units, demuxer, _ = lossy({third + 1})

    assert [u.data for u in units[10:]] == [p.data for p in clip[10:]]
    damaged = [i for i, unit in enumerate(units) if unit.damaged]
    assert damaged == list(range(damaged[0], 10))
    assert demuxer.damaged_frames == len(damaged)


@pytest.mark.parametrize("markers", ["last", "none", "all"])
def test_any_single_lost_packet_costs_at_most_its_picture(markers: str):
    """Not the first of all: whoever begins to listen after it has lost nothing."""
    clip = clips.video()
    whole = {p.data for p in clip}
    count = len(packer.rtp_stream(packs(clip)))

    for lost in range(1, count):
        units, _, _ = lossy({lost}, markers)
        missing = whole - {unit.data for unit in units}
        assert len(missing) <= 1
        assert [u.data for u in units if not u.damaged and u.data not in whole] == []


def test_a_lost_whole_picture_taints_the_rest_of_its_gop():
    clip = clips.video()
    packed = packs(clip)
    packets = [packer.rtp_stream([pack], seq=i * 20) for i, pack in enumerate(packed)]
    before = [x for p in packets[:4] for x in p]

    demuxer = PsDemuxer()
    units = []
    for packet in before:
        units += demuxer.push(packet[12:], 0, packet[1] >= 0x80)
    for i in range(5, 30):
        for j, packet in enumerate(packets[i]):
            lost = i == 5 and j == 0
            units += demuxer.push(packet[12:], i, packet[1] >= 0x80, lost)
    units += demuxer.flush()

    assert [u.data for u in units] == [p.data for i, p in enumerate(clip) if i != 4]
    assert [i for i, u in enumerate(units) if u.damaged] == [4, 5, 6, 7, 8]


def test_after_loss_in_a_key_picture_its_gop_is_damaged_but_given():
    units, _, _ = lossy({2})

    assert all(unit.damaged for unit in units[:10])
    assert not any(unit.damaged for unit in units[-20:])


def test_damage_that_nobody_reported_is_seen_between_the_packs():
    clip = clips.video()
    stream = b"".join(pack for _, pack in packs(clip))
    torn = stream[:9000] + stream[13_000:]
    demuxer = PsDemuxer()

    units = demuxer.push(torn, 0, True) + demuxer.flush()

    assert "garbage-between-packs" in demuxer.oddities
    assert any(unit.damaged for unit in units)
    assert [u.data for u in units[-20:]] == [p.data for p in clip[-20:]]


def test_joining_in_the_middle_is_no_damage():
    clip = clips.video()
    stream = b"".join(pack for _, pack in packs(clip))
    demuxer = PsDemuxer()

    units = demuxer.push(stream[1234:], 0, True) + demuxer.flush()

    assert [u.data for u in units] == [p.data for p in clip[10:]]
    assert demuxer.damaged_frames == 0


def test_the_last_picture_is_given_by_flush():
    clip = clips.video(frames=1)
    demuxer = PsDemuxer()

    assert demuxer.push(packs(clip)[0][1], 0, False) == []
    assert [u.data for u in demuxer.flush()] == [clip[0].data]
    assert demuxer.flush() == []


# ---- limits ----


def test_a_pes_without_end_is_given_up_at_its_limit():
    demuxer = PsDemuxer()
    demuxer.push(packer.pack_header() + b"\0\0\1\xe0\0\0\x84\0\0\0\0\1\x65\x88", 0, False)
    chunk = b"\x55" * 60_000

    for _ in range(2 * BUFFER_BYTES_MAX // len(chunk)):
        demuxer.push(chunk, 0, False)
        assert demuxer.buffered_bytes <= BUFFER_BYTES_MAX + 2 * len(chunk)

    assert "unit-too-large" in demuxer.oddities


def test_a_picture_beyond_its_limit_is_dropped_and_the_next_one_is_fine():
    clip = clips.video(frames=2)
    demuxer = PsDemuxer()
    first = packer.picture(clip[0].data, 0, key=True)
    endless = packer.pes(0xE0, b"\x55" * 60_000)
    demuxer.push(first, 0, False)
    for _ in range(150):
        demuxer.push(endless, 0, False)

    units = demuxer.push(packer.picture(clip[0].data, 3600, key=True), 1, True) + demuxer.flush()

    assert "picture-too-large" in demuxer.oddities
    assert [u.data for u in units] == [clip[0].data]


def test_what_comes_out_decodes():
    units, _ = demux(packs(clips.video(b_frames=2)))

    assert decoded(movie(units)) == (30, 0)
