"""Pieces of a video elementary stream -> pictures (access units).

What ends a picture is the first NAL unit of the next one (H.264 7.4.1.2.3, H.265 7.4.2.4.4), and
nothing else: devices put half a picture or several into one PS pack, split parameter sets off, set
the RTP marker on every packet or on none. Waiting for the next picture costs a whole frame of
delay, so the two hints that a picture is complete (marker, change of RTP timestamp) are used once
they have been right TRUST_NEEDED times, and dropped as soon as one of them is wrong.
"""

from __future__ import annotations

from enum import IntEnum

from vsp.errors import Invalid
from vsp.media.core import nal
from vsp.media.core.au import AccessUnit
from vsp.media.core.timeline import Timeline
from vsp.model.stream import VideoCodec

FRAME_BYTES_MAX = 8 << 20
"""One picture. An 8K intra picture at the best quality is below 6 MB; more is no picture."""

PIECES_MAX = 4096
"""PES of one picture: 8 MiB in pieces of 2 KiB, the smallest seen."""

TRUST_NEEDED = 3
"""Pictures in a row whose end a hint got right before it is used; the cost is their delay."""

DISTRUST = 250
"""After a wrong hint: ten seconds of right ones first, and DISTRUST_GROWTH times that each time
again, so that a device which lies once in a while soon never costs a picture."""

DISTRUST_GROWTH = 16


PROBED_NALS, PROBED_BYTES = 4, 256
"""Where parameter sets are looked for to tell the codec: behind an AUD and a small SEI."""


class Hint(IntEnum):
    MARKER = 0
    TIMESTAMP = 1


HINTS = tuple(Hint)
"""Looped over for each picture, and looping over the Enum itself is slow."""


class PictureAssembler:
    """`add` pieces in order, `hint` and `broken` as the wire shows it; pictures go to `out`.

    codec          what is being assembled: as declared, or as its parameter sets showed
    damaged        pictures marked damaged so far
    """

    def __init__(self, timeline: Timeline, out: list[AccessUnit], oddities: set[str]) -> None:
        self.codec: VideoCodec | None = None
        self.damaged = 0
        self._timeline = timeline
        self._out = out
        self._oddities = oddities
        self._declared: VideoCodec | None = None
        self._trust = [0, 0]
        self._penalty = [DISTRUST, DISTRUST]
        self._tainted = False
        self._started = False
        self._interlaced = False
        self._sps = b""
        self._ended_by: Hint | None = None
        self._clear()

    def _clear(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0
        self._coded = False
        self._cut = False
        self._fields = 0
        self._hinted: set[Hint] = set()
        self._pts: int | None = None
        self._dts: int | None = None
        self._rtp_ts = 0
        self._arrival_us = 0

    # ---- input ----

    def declare(self, codec: VideoCodec) -> None:
        """What the stream map says. Believed until the stream itself shows something else."""
        if codec is self._declared:
            return
        self._declared = codec
        if self.codec is not None and self.codec is not codec:
            self._switch(codec)

    def trusts(self, hint: Hint) -> bool:
        return self._trust[hint] >= TRUST_NEEDED

    def add(
        self, piece: bytes, pts: int | None, dts: int | None, rtp_ts: int, arrival_us: int
    ) -> None:
        """The payload of one PES, or one NAL unit with its start code."""
        begin = _first_nal(piece)
        if not begin and not self._pieces and self.codec is not VideoCodec.OTHER:
            self._belie(piece, begin)
            piece = self._from_start_code(piece)
            begin = _first_nal(piece)
            if not begin:
                return
        if begin:
            self._choose_codec(piece, begin)
        if self.codec is None:
            return
        if self._begins(piece, begin, pts):
            self._confirm()
            if self._coded:
                self._finish()
        else:
            self._belie(piece, begin)
            inner = self._inner_begin(piece) if pts is not None and self._coded else 0
            if inner:
                self._append(piece[:inner], None, None, rtp_ts, arrival_us)
                self.add(piece[inner:], pts, dts, rtp_ts, arrival_us)
                return
        self._append(piece, pts, dts, rtp_ts, arrival_us)
        if not self._coded:
            self._coded = self._is_slice(piece, begin) or self._has_slice(piece)

    def hint(self, hint: Hint) -> None:
        """All that came before belongs to whole PES, and the wire says that a picture is over."""
        if not self._coded:
            return
        self._hinted.add(hint)
        if self.trusts(hint):
            self._finish()
            self._ended_by = hint

    def broken(self) -> None:
        """Something is missing here. Without a hint after it the current picture may lack it."""
        if self._pieces:
            self._cut = self._cut or not self._hinted
            self._finish()
        self._tainted = True
        self._ended_by = None

    def pause(self) -> None:
        """Nothing has come for a while. A picture that a hint says is over has no need of being
        trusted to leave now; a hint that has lied before still has."""
        for hint in HINTS:
            if hint in self._hinted and self._trust[hint] >= 0:
                self._finish()
                self._ended_by = hint
                return

    def flush(self) -> None:
        """Nothing more will come."""
        self._finish()
        self._ended_by = None

    def cut(self) -> None:
        """The piece added last is incomplete."""
        self._cut = True

    # ---- codec ----

    def _choose_codec(self, piece: bytes, begin: int) -> None:
        if self._declared is VideoCodec.OTHER:
            self.codec = VideoCodec.OTHER
            return
        if self.codec is not None and nal.is_plain_slice(self.codec, piece[begin]):
            return  # nearly every picture, and no parameter set is before it
        seen = _shown_codec(piece, begin)
        if seen is not None and self._declared not in (seen, None):
            self._oddities.add("psm-wrong-codec")
        wanted = seen or self.codec or self._declared
        if wanted is not self.codec and wanted is not None:
            self._switch(wanted)

    def _switch(self, codec: VideoCodec) -> None:
        """Another codec from here on: main and sub stream swapped, or the encoder reconfigured."""
        self._finish()
        self.codec = codec
        self._interlaced, self._sps = False, b""
        self._timeline.reorder = 0

    # ---- where pictures end ----

    def _begins(self, piece: bytes, begin: int, pts: int | None) -> bool:
        """Whether `piece` starts another picture than the one being assembled."""
        codec = self.codec
        assert codec is not None
        if codec is VideoCodec.OTHER:
            return pts is not None and pts != self._pts
        if not begin or not nal.begins_picture(codec, piece, begin, len(piece)):
            return False
        if self._interlaced and self._coded and pts in (None, self._pts):
            # Two fields make one picture and each begins like one; only another PTS tells.
            self._fields += 1
            return self._fields > 1
        return True

    def _from_start_code(self, piece: bytes) -> bytes:
        """What a decoder can use of a piece whose beginning is gone or was given away already."""
        self._tainted = self._tainted or self._started
        at = piece.find(b"\0\0\1")
        return piece[at:] if at >= 0 else b""

    def _inner_begin(self, piece: bytes) -> int:
        """Where in a continuing piece the next picture begins; 0 if it does not.

        A PTS belongs to the first picture that begins in its PES (ISO 13818-1 2.4.3.7), which
        need not be at the front: FFmpeg's `vob` fills PES of 2 KiB without regard to pictures.
        """
        codec = self.codec
        assert codec is not None
        if codec is VideoCodec.OTHER:
            return 0
        at = piece.find(b"\0\0\1")
        while 0 <= at < len(piece) - 3:
            if nal.begins_picture(codec, piece, at + 3, len(piece)):
                return at - 1 if at and piece[at - 1] == 0 else at
            at = piece.find(b"\0\0\1", at + 3)
        return 0

    def _is_slice(self, piece: bytes, begin: int) -> bool:
        """Whether the unit that begins the piece is one; `begin` 0: no unit does."""
        codec = self.codec
        assert codec is not None
        return begin > 0 and nal.is_vcl(codec, nal.nal_type(codec, piece[begin]))

    def _has_slice(self, piece: bytes) -> bool:
        """Stops at the first slice, so that its data are not searched twice."""
        codec = self.codec
        if codec is VideoCodec.OTHER:
            return True
        assert codec is not None
        at = piece.find(b"\0\0\1")
        while 0 <= at < len(piece) - 3:
            if nal.is_vcl(codec, nal.nal_type(codec, piece[at + 3])):
                return True
            at = piece.find(b"\0\0\1", at + 3)
        return False

    def _confirm(self) -> None:
        """A picture begins: whoever said that the last one was over was right."""
        for hint in HINTS:
            if hint in self._hinted or hint is self._ended_by:
                self._trust[hint] = min(self._trust[hint] + 1, TRUST_NEEDED)
        self._ended_by = None

    def _belie(self, piece: bytes, begin: int) -> None:
        """The picture goes on: whoever said that it was over was wrong.

        A filler or a suffix SEI behind the picture proves nothing.
        """
        codec = self.codec
        if not (self._coded or self._ended_by is not None) or codec is None:
            return
        if begin and not nal.is_vcl(codec, nal.nal_type(codec, piece[begin])):
            return
        for hint in HINTS:
            if hint in self._hinted or hint is self._ended_by:
                self._trust[hint] = -self._penalty[hint]
                self._penalty[hint] *= DISTRUST_GROWTH
        if self._ended_by is not None:
            self._oddities.add("marker-inside-picture")
            self._cut = True
        self._ended_by = None
        self._hinted.clear()

    def _append(
        self, piece: bytes, pts: int | None, dts: int | None, rtp_ts: int, arrival_us: int
    ) -> None:
        if not self._pieces:
            self._rtp_ts, self._arrival_us = rtp_ts, arrival_us
        if pts is not None and (self._pts is None or not self._coded):
            self._pts, self._dts = pts, dts
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > FRAME_BYTES_MAX or len(self._pieces) > PIECES_MAX:
            self._oddities.add("picture-too-large")
            self._clear()
            self._tainted = True

    # ---- output ----

    def _finish(self) -> None:
        """Everything assembled leaves, as one picture or, if it holds several, as each of them."""
        if not self._coded:
            if self._pieces:
                self._clear()
            return
        pieces = self._pieces
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pts, dts, cut = self._pts, self._dts, self._cut
        times = (self._rtp_ts, self._arrival_us)
        self._clear()
        if self.codec is VideoCodec.OTHER:
            self._emit(data, [], pts, dts, cut, times)
            return
        nals = nal.split(data)
        cut = cut or len(nals) >= nal.NALS_MAX
        begins = self._inner_pictures(data, nals) if len(nals) > 1 else []
        if not begins:
            self._emit(data, nals, pts, dts, cut, times)
            return
        self._emit_several(data, nals, begins, (pts, dts), cut, times)

    def _emit_several(
        self,
        data: bytes,
        nals: list[tuple[int, int]],
        begins: list[int],
        sent: tuple[int | None, int | None],
        cut: bool,
        times: tuple[int, int],
    ) -> None:
        """Several pictures under one PTS: it belongs to the first, the others follow in step."""
        self._oddities.add("several-pictures-in-one-pack")
        pts, dts = sent
        for first, after in zip([0, *begins], [*begins, len(nals)], strict=True):
            lo = 0 if first == 0 else nals[first - 1][1]
            hi = nals[after - 1][1] if after < len(nals) else len(data)
            inner = [(begin - lo, end - lo) for begin, end in nals[first:after]]
            self._emit(data[lo:hi], inner, pts, dts, cut and after == len(nals), times)
            pts = dts = None

    def _inner_pictures(self, data: bytes, nals: list[tuple[int, int]]) -> list[int]:
        """Indexes of the units that begin a further picture."""
        codec = self.codec
        assert codec is not None
        begins: list[int] = []
        coded = False
        for i, (begin, end) in enumerate(nals):
            if coded and not self._interlaced and nal.begins_picture(codec, data, begin, end):
                begins.append(i)
                coded = False
            coded = coded or nal.is_vcl(codec, nal.nal_type(codec, data[begin]))
        if begins and not coded:
            begins.pop()  # what trails the last picture without a slice stays with it
        return begins

    def _emit(
        self,
        data: bytes,
        nals: list[tuple[int, int]],
        pts: int | None,
        dts: int | None,
        cut: bool,
        times: tuple[int, int],
    ) -> None:
        codec = self.codec
        assert codec is not None
        key = codec is not VideoCodec.OTHER and nal.starts_decoding(codec, data, nals)
        if key:
            self._learn(codec, data, nals)
            self._tainted = self._tainted and cut
        damaged = cut or self._tainted
        self._started = True
        self._tainted = damaged
        self.damaged += damaged
        rtp_ts, arrival_us = times
        pts_90k, dts_90k = self._timeline.place(pts, dts, rtp_ts, arrival_us)
        self._out.append(
            AccessUnit("video", codec, pts_90k, dts_90k, key, data, damaged, arrival_us, nals)
        )

    def _learn(self, codec: VideoCodec, data: bytes, nals: list[tuple[int, int]]) -> None:
        """Interlacing and reordering from a new SPS; one that cannot be parsed teaches nothing."""
        wanted = nal.H265_SPS if codec is VideoCodec.H265 else nal.H264_SPS
        for begin, end in nals:
            if nal.nal_type(codec, data[begin]) == wanted:
                sps = data[begin:end]
                break
        else:
            return
        if sps == self._sps:
            return
        self._sps = sps
        try:
            if codec is VideoCodec.H265:
                parsed = nal.parse_sps_h265(sps)
            else:
                parsed = nal.parse_sps_h264(sps)
        except Invalid:
            return
        self._interlaced = parsed.interlaced
        self._timeline.reorder = parsed.reorder_max or 0


def _shown_codec(piece: bytes, begin: int) -> VideoCodec | None:
    """The codec by the first parameter set at the front, behind a delimiter or SEI."""
    for _ in range(PROBED_NALS):
        seen = nal.probe(piece[begin : begin + 2])
        if seen is not None:
            return seen
        at = piece.find(b"\0\0\1", begin, begin + PROBED_BYTES)
        if at < 0:
            return None
        begin = at + 3
    return None


def _first_nal(piece: bytes) -> int:
    """Where the unit begins that `piece` starts with; 0 if it continues one."""
    if piece.startswith(b"\0\0\0\1"):
        begin = 4
    elif piece.startswith(b"\0\0\1"):
        begin = 3
    elif piece.startswith(b"\0\0\0\0"):
        begin = 1 + piece.find(b"\1", 0, 64)  # leading zeros are legal (H.264 B.1.1 zero_byte)
        if begin < 4 or any(piece[: begin - 1]):
            return 0
    else:
        return 0
    return begin if begin < len(piece) else 0
