"""What we write is read by others: PyAV decodes it, ffprobe has nothing to say about it."""

from __future__ import annotations

import re
import struct

import pytest

from tests.media.core import clips, packer
from tests.media.core.helpers import decoded, ffprobe, movie, packs, run, sets_of
from vsp.errors import Invalid, Unsupported
from vsp.media.core import fmp4, nal
from vsp.media.core.au import AccessUnit
from vsp.media.core.fmp4_write import SAMPLES_MAX
from vsp.media.core.ps_demux import PsDemuxer
from vsp.model.stream import AudioCodec, VideoCodec

VARIANTS = [
    (name, b_frames, live)
    for name in ("libx264", "libx265")
    for b_frames in (0, 2)
    for live in (False, True)
]


def units_of(name: str = "libx264", b_frames: int = 0, **how: int) -> list[AccessUnit]:
    kind = packer.H264 if name == "libx264" else packer.H265
    clip = clips.video(name, b_frames=b_frames, **how)
    return run(packer.rtp_stream(packs(clip, kind)), PsDemuxer())


def with_sound(kind: int, frames: tuple[bytes, ...], step_90k: int) -> list[AccessUnit]:
    clip = clips.video()
    packed = [(p.dts, packer.picture(p.data, p.pts, key=p.key, audio=kind)) for p in clip] + [
        (90_000 + i * step_90k, packer.sound(f, 90_000 + i * step_90k))
        for i, f in enumerate(frames)
    ]
    packed.sort(key=lambda pair: pair[0])
    return run(packer.rtp_stream(packed), PsDemuxer())


@pytest.mark.parametrize(("name", "b_frames", "live"), VARIANTS)
def test_every_picture_decodes(name: str, b_frames: int, live: bool):
    units = units_of(name, b_frames)

    data = movie(units, live=live)

    assert decoded(data) == (30, 0)


@pytest.mark.parametrize(("name", "b_frames", "live"), VARIANTS)
@pytest.mark.parametrize("in_band", [True, False])
def test_ffprobe_finds_the_stream_and_nothing_to_complain_of(
    name: str, b_frames: int, live: bool, in_band: bool
):
    data = movie(units_of(name, b_frames), in_band=in_band, live=live)

    found = ffprobe(data, "codec_name", "codec_tag_string", "width", "height", "nb_read_frames")

    h264 = name == "libx264"
    tags = ("avc3", "avc1") if h264 else ("hev1", "hvc1")
    assert found == {
        "codec_name": "h264" if h264 else "hevc",
        "codec_tag_string": tags[0] if in_band else tags[1],
        "width": "160",
        "height": "96",
        "nb_read_frames": "30",
    }


def test_ffprobe_agrees_on_profile_level_and_cropped_size():
    units = units_of(width=162, height=98)

    found = ffprobe(movie(units), "profile", "level", "width", "height", "pix_fmt")

    video = sets_of(units).format
    assert video is not None
    assert found["level"] == str(video.level)
    assert (found["width"], found["height"]) == ("162", "98")
    assert found["pix_fmt"] == "yuv420p"


@pytest.mark.parametrize("live", [False, True])
def test_g711a_is_decoded_beside_the_picture(live: bool):
    units = with_sound(packer.G711A, clips.alaw(), 3600)

    data = movie(units, live=live)

    assert decoded(data) == (30, 30 * 320)
    assert ffprobe(data, "nb_read_frames") == {"nb_read_frames": "30"}


def test_g711u_has_its_own_sample_entry():
    units = with_sound(packer.G711U, clips.alaw(), 3600)

    data = movie(units)

    assert decoded(data) == (30, 30 * 320)
    assert b"ulaw" in data


@pytest.mark.parametrize("live", [False, True])
def test_aac_is_decoded_beside_the_picture(live: bool):
    frames = clips.adts()
    units = with_sound(packer.AAC, frames, 5760)

    data = movie(units, live=live)

    assert decoded(data) == (30, len(frames) * 1024)
    assert ffprobe(data, "nb_read_frames") == {"nb_read_frames": "30"}


def test_the_codec_string_is_what_media_source_wants():
    h264 = fmp4.video_track(sets_of(units_of()))
    h265 = fmp4.video_track(sets_of(units_of("libx265")))
    law = with_sound(packer.G711A, clips.alaw(), 3600)
    aac = with_sound(packer.AAC, clips.adts(), 5760)
    sounds = [next(u for u in units if u.kind == "audio") for units in (law, aac)]

    assert re.fullmatch(r'video/mp4; codecs="avc1\.42C0[0-9A-F]{2}"', fmp4.mime([h264]))
    assert re.fullmatch(r'video/mp4; codecs="hvc1\.1\.6\.L\d+\.90"', fmp4.mime([h265]))
    assert fmp4.mime([h264, fmp4.audio_track(sounds[0])]).endswith(',alaw"')
    assert fmp4.mime([fmp4.audio_track(sounds[1])]) == 'audio/mp4; codecs="mp4a.40.2"'


def test_recordings_say_that_their_sets_may_change():
    sets = sets_of(units_of())

    assert fmp4.video_track(sets, in_band=True).codec_string.startswith("avc3.")
    assert fmp4.video_track(sets_of(units_of("libx265")), in_band=True).entry == "hev1"


def test_avcc_carries_the_sets_and_for_high_profiles_the_format():
    clip = clips.video("libx264", b_frames=2, more=":8x8dct=1")
    units = run(packer.rtp_stream(packs(clip)), PsDemuxer())
    sets = sets_of(units)

    config = fmp4.video_track(sets).config

    sps, pps = sets.sps[0], sets.pps[0]
    assert config[:6] == b"\x01" + sps[1:4] + b"\xff\xe1"
    assert config[6:8] == len(sps).to_bytes(2, "big")
    assert config[8 : 8 + len(sps)] == sps
    assert config[8 + len(sps) :] == b"\x01" + len(pps).to_bytes(2, "big") + pps + b"\xfd\xf8\xf8\0"


def test_hvcc_has_the_profile_without_emulation_bytes_and_all_three_sets():
    sets = sets_of(units_of("libx265"))
    assert b"\0\0\3" in sets.sps[0][:16]

    config = fmp4.video_track(sets).config

    assert config[:13] == b"\x01" + bytes.fromhex("01600000009000000000 00") + config[12:13]
    assert config[13:22] == bytes.fromhex("f000fcfdf8f80000 0f")
    assert config[22] == 3
    arrays = b""
    for kind, unit in ((0xA0, sets.vps[0]), (0xA1, sets.sps[0]), (0xA2, sets.pps[0])):
        arrays += struct.pack(">BHH", kind, 1, len(unit)) + unit
    assert config[23:] == arrays


def test_parameter_sets_and_sei_stay_in_the_samples():
    units = units_of()
    data = movie(units)
    sample = next(fmp4.iter_fragments(data, fmp4.parse_init(data).size)).samples[1][0]
    fragment = next(fmp4.iter_fragments(data, fmp4.parse_init(data).size))
    at = fragment.offset + sample.offset

    kinds = []
    end = at + sample.size
    while at < end:
        length = int.from_bytes(data[at : at + 4], "big")
        kinds.append(data[at + 4] & 0x1F)
        at += 4 + length

    assert kinds == [nal.H264_SPS, nal.H264_PPS, nal.H264_SEI, nal.H264_IDR]


def test_a_live_fragment_has_the_layout_that_media_source_accepts():
    units = units_of()
    fragmenter = fmp4.Fragmenter([fmp4.video_track(sets_of(units))])
    fragmenter.add(units[0])
    fragmenter.fragment()
    fragmenter.add(units[1])

    fragment = fragmenter.fragment()

    assert fragment is not None
    data = fragment.data
    moof = int.from_bytes(data[:4], "big")
    assert data[4:8] == b"moof"
    assert data[8:24] == struct.pack(">I4sII", 16, b"mfhd", 0, 2)
    assert data[32:48] == struct.pack(">I4sII", 16, b"tfhd", 0x020000, 1)
    assert data[48:68] == struct.pack(">I4sIQ", 20, b"tfdt", 1 << 24, units[1].dts_90k)
    size = len(data) - moof - 8
    assert data[68:104] == struct.pack(
        ">I4sIII IIIi", 36, b"trun", 0x01000F01, 1, moof + 8, 3600, size, 0x01010000, 0
    )
    assert data[moof : moof + 8] == struct.pack(">I4s", size + 8, b"mdat")
    assert (fragment.key, fragment.samples, fragment.base_dts_90k) == (False, 1, units[1].dts_90k)


def test_composition_offsets_are_those_of_the_b_frames():
    units = units_of(b_frames=2)
    data = movie(units)

    times = [
        (sample.pts_90k, sample.dts_90k)
        for fragment in fmp4.iter_fragments(data, fmp4.parse_init(data).size)
        for sample in fragment.samples[1]
    ]

    assert times == [(unit.pts_90k, unit.dts_90k) for unit in units]


def test_negative_composition_offsets_are_written():
    units = units_of()
    units[1].pts_90k -= 5000
    data = movie(units)

    sample = next(fmp4.iter_fragments(data, fmp4.parse_init(data).size)).samples[1][1]

    assert sample.pts_90k - sample.dts_90k == -5000


def test_the_last_picture_lasts_until_the_next_or_as_long_as_the_one_before():
    units = units_of()
    tracks = [fmp4.video_track(sets_of(units))]
    known, guessed = fmp4.Fragmenter(tracks), fmp4.Fragmenter(tracks)
    for unit in units[:10]:
        known.add(unit)
        guessed.add(unit)

    first, second = known.fragment(end_dts_90k=units[9].dts_90k + 9000), guessed.fragment()

    assert first is not None
    assert second is not None
    assert (first.duration_90k, second.duration_90k) == (9 * 3600 + 9000, 36_000)
    assert (first.samples, first.key, first.damaged) == (10, True, 0)


def test_an_origin_moves_the_decode_time():
    units = units_of()
    fragmenter = fmp4.Fragmenter([fmp4.video_track(sets_of(units))], origin_90k=units[0].dts_90k)
    fragmenter.add(units[0])

    fragment = fragmenter.fragment()

    assert fragment is not None
    assert fragment.base_dts_90k == 0


def test_damaged_pictures_are_counted():
    units = units_of()
    units[3].damaged = True
    fragmenter = fmp4.Fragmenter([fmp4.video_track(sets_of(units))])
    for unit in units[:10]:
        fragmenter.add(unit)

    fragment = fragmenter.fragment()

    assert fragment is not None
    assert fragment.damaged == 1


def test_nothing_added_is_no_fragment_and_foreign_sound_is_ignored():
    units = with_sound(packer.G711A, clips.alaw(), 3600)
    fragmenter = fmp4.Fragmenter([fmp4.video_track(sets_of(units))])

    for unit in units:
        if unit.kind == "audio":
            fragmenter.add(unit)

    assert fragmenter.pending == 0
    assert fragmenter.fragment() is None


def test_a_picture_before_what_is_written_is_left_out():
    units = units_of()
    fragmenter = fmp4.Fragmenter([fmp4.video_track(sets_of(units))])
    fragmenter.add(units[5])
    fragmenter.fragment()

    assert not fragmenter.add(units[4])
    assert not fragmenter.add(units[5])
    assert fragmenter.add(units[6])
    assert fragmenter.refused == 2


def test_a_fragment_does_not_grow_without_end():
    units = units_of()
    fragmenter = fmp4.Fragmenter([fmp4.video_track(sets_of(units))])
    small = AccessUnit("video", VideoCodec.H264, 0, 0, False, b"\0\0\1\x41\x9a", nals=[(3, 5)])
    for i in range(SAMPLES_MAX):
        assert not fragmenter.full
        small.dts_90k = small.pts_90k = i * 3600
        fragmenter.add(small)

    assert fragmenter.full
    assert not fragmenter.add(small)
    fragment = fragmenter.fragment()
    assert fragment is not None
    assert fragment.samples == SAMPLES_MAX


def test_without_a_decoder_configuration_there_is_no_track():
    with pytest.raises(Invalid):
        fmp4.video_track(nal.ParameterSets())


def test_audio_without_a_sample_entry_is_unsupported():
    with pytest.raises(Unsupported):
        fmp4.audio_track(AccessUnit("audio", AudioCodec.OTHER, 0, 0, True, b"x"))
