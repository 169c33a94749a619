from __future__ import annotations

import random
import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.core import clips, packer
from tests.media.core.helpers import decoded, movie, packs, run, sets_of
from tests.media.core.test_fmp4_write import units_of, with_sound
from vsp.errors import Invalid
from vsp.media.core import fmp4
from vsp.media.core.ps_demux import PsDemuxer


def read_all(data: bytes) -> list[fmp4.FragmentInfo]:
    return list(fmp4.iter_fragments(data, fmp4.parse_init(data).size))


@pytest.mark.parametrize("name", ["libx264", "libx265"])
@pytest.mark.parametrize("in_band", [True, False])
def test_the_tracks_come_back_as_they_were_written(name: str, in_band: bool):
    units = units_of(name)
    data = movie(units, in_band=in_band)

    init = fmp4.parse_init(data)

    assert init.tracks == (fmp4.video_track(sets_of(units), in_band=in_band),)
    assert data[init.size + 4 : init.size + 8] == b"moof"


@pytest.mark.parametrize(
    ("kind", "frames", "step"),
    [
        (packer.G711A, clips.alaw, 3600),
        (packer.G711U, clips.alaw, 3600),
        (packer.AAC, clips.adts, 5760),
    ],
)
def test_sound_tracks_come_back_too(kind: int, frames: object, step: int):
    units = with_sound(kind, frames(), step)  # type: ignore[operator]
    heard = next(unit for unit in units if unit.kind == "audio")

    tracks = fmp4.parse_init(movie(units)).tracks

    assert tracks[1] == fmp4.audio_track(heard)


def test_fragments_and_samples_are_found_with_their_times():
    units = units_of(b_frames=2)
    data = movie(units)

    fragments = read_all(data)

    samples = [sample for fragment in fragments for sample in fragment.samples[1]]
    assert [fragment.sequence for fragment in fragments] == [1, 2, 3]
    assert sum(fragment.size for fragment in fragments) == len(data) - fmp4.parse_init(data).size
    assert [s.key for s in samples] == [u.key for u in units]
    assert [s.dts_90k for s in samples] == [u.dts_90k for u in units]
    assert {s.duration_90k for s in samples} == {3600}


def test_a_cut_last_fragment_is_left_out():
    data = movie(units_of())
    last = read_all(data)[-1]

    for size in (last.offset + 4, last.offset + 60, last.offset + last.size - 1):
        assert len(read_all(data[:size])) == 2


def test_a_fragment_found_by_its_offset_is_read_alone():
    data = movie(units_of())
    second = read_all(data)[1]

    alone = next(fmp4.iter_fragments(data, second.offset))
    cut_out = next(fmp4.iter_fragments(data[second.offset : second.offset + second.size]))

    assert alone == second
    assert cut_out.samples == second.samples
    assert cut_out.offset == 0


def test_remuxing_leaves_the_picture_and_moves_its_time():
    units = with_sound(packer.G711A, clips.alaw(), 3600)
    data = movie(units)
    init = fmp4.parse_init(data)
    video = init.tracks[0]

    parts = [fmp4.init_segment([video])]
    for i, fragment in enumerate(read_all(data)):
        whole = data[fragment.offset : fragment.offset + fragment.size]
        parts.append(fmp4.remux(whole, [video.id], shift_90k=-90_000, sequence=i + 1))

    again = b"".join(parts)
    assert decoded(again) == (30, 0)
    assert [f.samples[1][0].dts_90k for f in read_all(again)] == [0, 36_000, 72_000]
    assert all(list(f.samples) == [1] for f in read_all(again))


def test_remuxing_with_all_tracks_changes_nothing():
    data = movie(with_sound(packer.AAC, clips.adts(), 5760))

    for fragment in read_all(data):
        whole = data[fragment.offset : fragment.offset + fragment.size]
        assert fmp4.remux(whole, [1, 2], sequence=fragment.sequence) == whole


def test_remuxing_a_track_that_is_not_there_gives_nothing():
    data = movie(units_of())
    fragment = read_all(data)[0]

    assert fmp4.remux(data[fragment.offset : fragment.offset + fragment.size], [7]) == b""


def test_a_negative_time_ends_at_zero():
    data = movie(units_of())
    fragment = read_all(data)[0]

    moved = fmp4.remux(data[fragment.offset : fragment.offset + fragment.size], [1], -(1 << 40))

    assert next(fmp4.iter_fragments(moved)).samples[1][0].dts_90k == 0


def test_a_cut_init_segment_is_invalid():
    data = movie(units_of())
    size = fmp4.parse_init(data).size

    for cut in range(0, size, 7):
        with pytest.raises(Invalid):
            fmp4.parse_init(data[:cut])


def test_other_peoples_fragments_are_invalid():
    data = movie(units_of())
    fragment = read_all(data)[0]
    whole = bytearray(data[fragment.offset : fragment.offset + fragment.size])
    trun = whole.index(b"trun")
    whole[trun + 6] = 0

    with pytest.raises(Invalid):
        list(fmp4.iter_fragments(bytes(whole)))
    with pytest.raises(Invalid):
        list(fmp4.iter_fragments(struct.pack(">I4s", 8, b"free") + bytes(whole)))
    with pytest.raises(Invalid):
        fmp4.remux(b"", [1])


def test_mutated_files_are_read_or_invalid():
    dice = random.Random(11)
    clip = clips.video(frames=6, gop=3, width=64, height=64)
    good = movie(run(packer.rtp_stream(packs(clip)), PsDemuxer()))
    tables = [i for i in range(len(good)) if i < 900 or good[i : i + 1] == b"\0"]

    for _ in range(1500):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            data[dice.choice(tables)] = dice.randrange(256)
        with suppress(Invalid):
            read_all(bytes(data))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_invalid(data: bytes):
    for read in (fmp4.parse_init, lambda d: list(fmp4.iter_fragments(d))):
        with suppress(Invalid):
            read(data)
