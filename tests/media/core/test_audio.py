from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.media.core import clips
from vsp.media.core.au import AccessUnit
from vsp.media.core.audio import AUDIO_BYTES_MAX, AudioAssembler, codec_of_stream_type
from vsp.media.core.timeline import Timeline
from vsp.model.stream import AudioCodec


def assembler() -> tuple[AudioAssembler, list[AccessUnit], set[str]]:
    out: list[AccessUnit] = []
    oddities: set[str] = set()
    return AudioAssembler(Timeline(), out, oddities), out, oddities


def test_stream_types_name_their_codec():
    assert codec_of_stream_type(0x90) is AudioCodec.G711A
    assert codec_of_stream_type(0x91) is AudioCodec.G711U
    assert codec_of_stream_type(0x0F) is AudioCodec.AAC
    assert codec_of_stream_type(0x92) is AudioCodec.OTHER
    assert codec_of_stream_type(0x1B) is None


def test_a_payload_of_g711_is_one_unit_as_long_as_its_samples():
    audio, out, _ = assembler()
    audio.declare(AudioCodec.G711U)

    audio.add(b"\x55" * 320, 90_000, 0, 0)

    (unit,) = out
    assert (unit.codec, unit.duration_90k, unit.rate_hz, unit.channels) == (
        AudioCodec.G711U,
        3600,
        8000,
        1,
    )
    assert (unit.kind, unit.key, unit.pts_90k, unit.data) == ("audio", True, 90_000, b"\x55" * 320)


def test_several_adts_frames_in_one_payload_are_units_of_their_own():
    audio, out, _ = assembler()
    audio.declare(AudioCodec.AAC)
    frames = clips.adts()[:3]

    audio.add(b"".join(frames), 90_000, 0, 0)

    assert [unit.data for unit in out] == [frame[7:] for frame in frames]
    assert [unit.pts_90k for unit in out] == [90_000, 95_760, 101_520]
    assert {unit.config for unit in out} == {bytes.fromhex("1408")}
    assert {(unit.rate_hz, unit.channels, unit.duration_90k) for unit in out} == {(16_000, 1, 5760)}


def test_an_adts_frame_over_two_payloads_is_put_together():
    audio, out, _ = assembler()
    first, second = clips.adts()[1:3]
    stream = first + second

    audio.add(stream[:-20], 90_000, 0, 0)
    audio.add(stream[-20:], None, 0, 0)

    assert [unit.data for unit in out] == [first[7:], second[7:]]


def test_after_a_loss_the_begun_frame_is_given_up():
    audio, out, _ = assembler()
    frame = clips.adts()[1]
    audio.add(frame + frame[:50], 90_000, 0, 0)

    audio.broken()
    audio.add(frame, 100_000, 0, 0)

    assert [unit.data for unit in out] == [frame[7:], frame[7:]]


def test_without_a_declaration_adts_is_recognised_and_the_rest_is_g711a():
    aac, aac_out, _ = assembler()
    law, law_out, _ = assembler()
    layer_two, other_out, _ = assembler()

    aac.add(clips.adts()[1], 0, 0, 0)
    law.add(b"\xd5" * 160, 0, 0, 0)
    layer_two.add(b"\xff\xfd\x84\x04" + bytes(100), 0, 0, 0)

    assert aac_out[0].codec is AudioCodec.AAC
    assert law_out[0].codec is AudioCodec.G711A
    assert other_out[0].codec is AudioCodec.OTHER


def test_a_map_that_says_g711_before_adts_is_wrong():
    audio, out, oddities = assembler()
    audio.declare(AudioCodec.G711A)

    audio.add(clips.adts()[1], 0, 0, 0)

    assert out[0].codec is AudioCodec.AAC
    assert oddities == {"psm-wrong-audio-codec"}


def test_a_payload_beyond_reason_is_dropped():
    audio, out, _ = assembler()
    audio.declare(AudioCodec.G711A)

    audio.add(bytes(AUDIO_BYTES_MAX + 1), 0, 0, 0)
    audio.add(b"", 0, 0, 0)
    assert out == []
    audio.add(bytes(AUDIO_BYTES_MAX), 0, 0, 0)

    assert len(out) == 1


def test_crc_protected_adts_has_a_longer_header():
    frame = bytearray(clips.adts()[1])
    body = bytes(frame[7:])
    size = len(body) + 9
    header = bytes(
        [0xFF, 0xF0, frame[2], 0x40 | size >> 11, size >> 3 & 0xFF, (size & 7) << 5, 0xFC]
    )
    audio, out, _ = assembler()

    audio.add(header + b"CC" + body, 0, 0, 0)

    assert [unit.data for unit in out] == [body]


@given(st.lists(st.binary(max_size=100), max_size=30), st.sampled_from(list(AudioCodec)))
def test_any_payloads_are_taken_and_nothing_piles_up(payloads: list[bytes], codec: AudioCodec):
    audio, out, _ = assembler()
    audio.declare(codec)

    for payload in payloads:
        audio.add(payload, None, 0, 0)

    assert sum(len(unit.data) for unit in out) <= sum(map(len, payloads))
