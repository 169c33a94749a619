"""Pieces into pictures; what the wire's structure adds to it is tested in test_ps_demux.py."""

from __future__ import annotations

from tests.media.core import clips
from tests.media.core.test_nal import sps_264
from vsp.media.core import nal
from vsp.media.core.assembler import (
    DISTRUST,
    FRAME_BYTES_MAX,
    PIECES_MAX,
    TRUST_NEEDED,
    Hint,
    PictureAssembler,
)
from vsp.media.core.au import AccessUnit
from vsp.media.core.timeline import Timeline
from vsp.model.stream import VideoCodec

IDR, FIRST, SECOND = b"\0\0\1\x65\x88\x80", b"\0\0\1\x41\x9a\x20", b"\0\0\1\x41\x45\x30"


class Bench:
    """An assembler for H.264 with its outputs at hand."""

    def __init__(self, codec: VideoCodec | None = VideoCodec.H264) -> None:
        self.out: list[AccessUnit] = []
        self.oddities: set[str] = set()
        self.assembler = PictureAssembler(Timeline(), self.out, self.oddities)
        if codec is not None:
            self.assembler.declare(codec)

    def add(self, piece: bytes, pts: int | None = None) -> None:
        self.assembler.add(piece, pts, None, 0, 0)

    @property
    def data(self) -> list[bytes]:
        return [unit.data for unit in self.out]


def test_a_picture_ends_where_the_next_begins():
    bench = Bench()

    for piece in (IDR, FIRST, SECOND, FIRST):
        bench.add(piece)
    bench.assembler.flush()

    assert bench.data == [IDR, FIRST + SECOND, FIRST]


def test_a_hint_is_used_after_it_was_right_often_enough():
    bench = Bench()

    given = []
    for _ in range(TRUST_NEEDED + 2):
        bench.add(FIRST)
        bench.assembler.hint(Hint.MARKER)
        given.append(len(bench.out))

    assert given == [0, 1, 2, 4, 5]
    assert bench.assembler.trusts(Hint.MARKER)
    assert not bench.assembler.trusts(Hint.TIMESTAMP)


def test_a_hint_inside_a_picture_is_not_used_for_long():
    bench = Bench()
    bench.add(FIRST)
    bench.assembler.hint(Hint.MARKER)
    bench.add(SECOND)

    for _ in range(DISTRUST + TRUST_NEEDED - 1):
        bench.add(FIRST)
        bench.assembler.hint(Hint.MARKER)
    assert not bench.assembler.trusts(Hint.MARKER)
    for _ in range(3):
        bench.add(FIRST)
        bench.assembler.hint(Hint.MARKER)

    assert bench.assembler.trusts(Hint.MARKER)


def test_a_picture_that_seems_to_be_over_leaves_when_the_sender_rests():
    bench = Bench()
    bench.add(FIRST)
    bench.assembler.pause()
    assert not bench.out, "nothing says that it is over"

    bench.assembler.hint(Hint.MARKER)
    bench.assembler.pause()
    assert bench.data == [FIRST]

    bench.add(IDR)
    bench.assembler.flush()
    assert bench.data == [FIRST, IDR]
    assert not any(picture.damaged for picture in bench.out)


def test_a_hint_that_has_lied_is_not_believed_when_the_sender_rests():
    bench = Bench()
    bench.add(FIRST)
    bench.assembler.hint(Hint.MARKER)
    bench.add(SECOND)
    bench.assembler.hint(Hint.MARKER)

    bench.assembler.pause()

    assert not bench.out


def test_filler_behind_a_picture_does_not_belie_its_end():
    bench = Bench()
    for _ in range(6):
        bench.add(FIRST)
        bench.assembler.hint(Hint.MARKER)
        bench.add(b"\0\0\1\x0c\xff\xff\x80")

    assert bench.assembler.trusts(Hint.MARKER)
    assert bench.oddities == set()


def test_parameter_sets_alone_are_no_picture():
    bench = Bench()

    bench.add(b"\0\0\1\x67\x4d\0\x28")
    bench.assembler.hint(Hint.MARKER)
    bench.assembler.flush()

    assert bench.data == []


def test_two_fields_with_one_pts_are_one_picture():
    bench = Bench()
    key = b"\0\0\1" + sps_264(rows=34, frames_only=False) + b"\0\0\1\x68\xce" + IDR
    bench.add(key, 0)
    bench.assembler.flush()

    for pts in (3600, 7200):
        bench.add(FIRST, pts)
        bench.add(FIRST, pts)
    bench.assembler.flush()

    assert bench.data == [key, FIRST * 2, FIRST * 2]


def test_fields_without_any_pts_still_end():
    bench = Bench()
    bench.add(b"\0\0\1" + sps_264(rows=34, frames_only=False) + b"\0\0\1\x68\xce" + IDR, 0)
    bench.assembler.flush()

    for _ in range(10):
        bench.add(FIRST)
    bench.assembler.flush()

    assert bench.data[1:] == [FIRST * 2] * 5


def test_a_codec_shows_itself_behind_delimiter_and_sei():
    bench = Bench(None)

    bench.add(b"\0\0\1\x46\x01\x50\0\0\1\x4e\x01\x05\x01\x80\0\0\1\x40\x01\x0c\0\0\1\x26\x01\xaf")

    assert bench.assembler.codec is VideoCodec.H265


def test_unknown_pieces_before_any_codec_are_left_out():
    bench = Bench(None)

    bench.add(FIRST)
    bench.add(b"\x55" * 100)
    bench.assembler.flush()

    assert bench.data == []


def test_the_tail_of_something_lost_is_left_out():
    bench = Bench()
    bench.add(IDR)
    bench.assembler.broken()

    bench.add(b"\x77" * 50)
    bench.add(FIRST)
    bench.assembler.flush()

    assert bench.data == [IDR, FIRST]
    assert [unit.damaged for unit in bench.out] == [True, True]


def test_a_picture_known_to_be_complete_is_not_damaged_by_what_is_lost_after_it():
    bench = Bench()
    bench.add(IDR)
    bench.assembler.hint(Hint.MARKER)

    bench.assembler.broken()
    bench.add(FIRST)
    bench.add(IDR)
    bench.assembler.flush()

    assert [unit.damaged for unit in bench.out] == [False, True, False]
    assert bench.assembler.damaged == 1


def test_several_pictures_in_a_piece_leave_one_by_one_and_only_the_first_takes_the_pts():
    bench = Bench()
    clip = clips.video(frames=3)

    bench.add(b"".join(p.data for p in clip), 90_000)
    bench.assembler.flush()

    assert bench.data == [p.data for p in clip]
    assert [unit.pts_90k for unit in bench.out] == [90_000, 93_600, 97_200]
    for unit in bench.out:
        assert unit.nals == nal.split(unit.data)


def test_a_picture_is_dropped_just_beyond_its_size():
    fits, larger = Bench(), Bench()
    body = b"\x55" * (FRAME_BYTES_MAX - len(IDR))

    fits.add(IDR)
    fits.add(body)
    fits.assembler.flush()
    larger.add(IDR)
    larger.add(body + b"\x55")
    larger.assembler.flush()

    assert len(fits.out[0].data) == FRAME_BYTES_MAX
    assert larger.out == []
    assert larger.oddities == {"picture-too-large"}


def test_a_picture_of_too_many_pieces_is_dropped():
    bench = Bench()
    bench.add(IDR)

    for _ in range(PIECES_MAX):
        bench.add(b"\x55")
    bench.assembler.flush()

    assert bench.out == []


def test_a_picture_with_more_units_than_sense_is_damaged():
    bench = Bench()

    bench.add(IDR + SECOND * nal.NALS_MAX)
    bench.assembler.flush()

    assert [unit.damaged for unit in bench.out] == [True]
    assert len(bench.out[0].nals) == nal.NALS_MAX
