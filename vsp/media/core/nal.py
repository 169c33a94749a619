"""NAL units of H.264 (ITU-T H.264) and H.265 (ITU-T H.265): split, types, parameter sets, SEI.

Only what muxing needs is parsed: the SPS up to its picture size and reordering, the first bits of a
slice. Everything read from a device is bounded and either understood or `Invalid`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vsp.errors import Invalid
from vsp.media.core.au import AccessUnit
from vsp.model.stream import VideoCodec

NALS_MAX = 2048
"""NAL units of one picture. Level 6.2 of H.264 allows 600 slices; the rest is room for SEI."""

PARAMETER_SET_BYTES_MAX = 4096
"""A set with every scaling list stays below 1 KiB; avcC could hold 64 KiB of each."""

PARAMETER_SETS_MAX = 32
"""Sets of one kind kept: sps_id ends at 31 (H.264 7.4.2.1.1); cameras use one or two."""

PICTURE_SIDE_MAX = 16_384
"""Pixels. Twice 8K; the largest level of H.265 ends at 16,888."""

SEI_MESSAGES_MAX = 64
"""SEI messages read of one NAL unit."""

_START = re.compile(b"\0\0\1")
# `re` finds a literal in 0.3 s/GB where bytes.find takes 0.65 (CPython 3.11, this scan is the
# dearest step of the whole media plane).

_H264_CHROMA_PROFILES = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""profile_idc whose SPS carries chroma_format_idc (H.264 7.3.2.1.1)."""

# H.264 nal_unit_type (table 7-1) and H.265 nal_unit_type (table 7-1).
H264_SLICE, H264_IDR, H264_SEI, H264_SPS, H264_PPS, H264_AUD = 1, 5, 6, 7, 8, 9
H265_IRAP = range(16, 24)
H265_VPS, H265_SPS, H265_PPS, H265_AUD, H265_PREFIX_SEI, H265_SUFFIX_SEI = 32, 33, 34, 35, 39, 40


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """What a decoder must be told, from the SPS alone. `width`/`height` after cropping.

    codec_string     RFC 6381 without the sample entry: "42C01E", "1.6.L93.B0"
    reorder_max      pictures that may precede another in decode order and follow it in output
                     (B-frames); None if the SPS does not say
    ptl              H.265: general profile, compatibility, constraints, level as 12 bytes, for hvcC
    temporal_layers, temporal_nested   H.265, for hvcC
    """

    codec: VideoCodec
    width: int
    height: int
    profile: int
    level: int
    codec_string: str
    chroma: int
    bit_depth_luma: int
    bit_depth_chroma: int
    interlaced: bool
    reorder_max: int | None
    ptl: bytes = b""
    temporal_layers: int = 1
    temporal_nested: bool = False


# ---- NAL units ------------------------------------------------------------------------------


def split(data: bytes, limit: int = NALS_MAX) -> list[tuple[int, int]]:
    """(begin, end) of each NAL in Annex B data, start codes and trailing zeros excluded.

    Stops after `limit` units: more in one picture is an attack, not a picture.
    """
    nals: list[tuple[int, int]] = []
    begin = -1
    for match in _START.finditer(data):
        at = match.start()
        if begin >= 0:
            end = _trimmed(data, begin, at)
            if end > begin:
                nals.append((begin, end))
                if len(nals) >= limit:
                    return nals
        begin = at + 3
    if begin >= 0:
        end = _trimmed(data, begin, len(data))
        if end > begin:
            nals.append((begin, end))
    return nals


def _trimmed(data: bytes, begin: int, end: int) -> int:
    """Without trailing_zero_8bits and the first zero of a four-byte start code (H.264 B.1.1)."""
    if end == begin or data[end - 1]:
        return end
    end -= 1
    if end > begin and data[end - 1] == 0:
        end = begin + len(data[begin:end].rstrip(b"\0"))
    return end


def nal_type(codec: VideoCodec, first_byte: int) -> int:
    """nal_unit_type from the first byte of a NAL unit."""
    return first_byte >> 1 & 0x3F if codec is VideoCodec.H265 else first_byte & 0x1F


def is_vcl(codec: VideoCodec, kind: int) -> bool:
    """Whether units of this type carry coded picture data."""
    return kind < 32 if codec is VideoCodec.H265 else 1 <= kind <= 5


def is_plain_slice(codec: VideoCodec, first_byte: int) -> bool:
    """Whether this is the slice that most pictures begin with: none of a key picture, and nothing
    that a parameter set, delimiter or SEI of the other codec could be read as."""
    if codec is VideoCodec.H265:
        return first_byte in (0x00, 0x02)
    return first_byte & 0x9F == H264_SLICE


def begins_picture(codec: VideoCodec, data: bytes, begin: int, end: int) -> bool:
    """Whether this unit, after a coded picture, starts another one.

    H.264 7.4.1.2.3 and H.265 7.4.2.4.4, with "first slice" for the comparison of slice headers:
    first_mb_in_slice is 0, or first_slice_segment_in_pic_flag is 1.
    """
    if codec is VideoCodec.H265:
        kind = data[begin] >> 1 & 0x3F
        if kind < 32:
            return end > begin + 2 and data[begin + 2] >= 0x80
        return kind <= H265_AUD or kind == H265_PREFIX_SEI or 41 <= kind <= 44 or 48 <= kind <= 55
    kind = data[begin] & 0x1F
    if kind in (H264_SLICE, 2, H264_IDR):
        return end > begin + 1 and data[begin + 1] >= 0x80
    return H264_SEI <= kind <= H264_AUD or 14 <= kind <= 18


def starts_decoding(codec: VideoCodec, data: bytes, nals: Sequence[tuple[int, int]]) -> bool:
    """Whether a decoder can begin with this picture.

    H.265: IRAP. H.264: IDR, or parameter sets before an intra picture: some encoders never send
    an IDR after the first one but mark their entry points so.
    """
    if codec is VideoCodec.H265:
        return any(data[begin] >> 1 & 0x3F in H265_IRAP for begin, _ in nals)
    sets = False
    for begin, end in nals:
        kind = data[begin] & 0x1F
        if kind == H264_IDR:
            return True
        if kind == H264_SPS:
            sets = True
        elif kind == H264_SLICE:
            return sets and _is_intra_slice(data[begin + 1 : min(end, begin + 16)])
    return False


def _is_intra_slice(header: bytes) -> bool:
    """slice_type I or SI (H.264 table 7-6)."""
    bits = _Bits(header)
    try:
        bits.ue()
        return bits.ue() in (2, 4, 7, 9)
    except Invalid:
        return False


def probe(data: bytes | memoryview) -> VideoCodec | None:
    """The codec from the first two bytes of a NAL unit, where they leave no doubt.

    An H.265 parameter set read as H.264 is of a type that no encoder sends, and the other way
    round; slices are too alike and answer None.
    """
    if len(data) < 2:
        return None
    first, second = data[0], data[1]
    if first in (0x40, 0x42, 0x44) and second == 1:
        return VideoCodec.H265
    if first in (0x67, 0x27, 0x47) and (second in _H264_CHROMA_PROFILES or second in (66, 77, 88)):
        return VideoCodec.H264
    return None


def without_emulation(nal: bytes) -> bytes:
    """RBSP of a NAL unit: each 00 00 03 loses its 03 (H.264 7.4.1)."""
    return nal.replace(b"\0\0\3", b"\0\0") if b"\0\0\3" in nal else nal


# ---- bits -----------------------------------------------------------------------------------


class _Bits:
    """Reader of an RBSP. Reading past the end is Invalid."""

    def __init__(self, rbsp: bytes) -> None:
        self._value = int.from_bytes(rbsp, "big")
        self._left = len(rbsp) * 8

    def u(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise Invalid("parameter set ends in the middle of a field")
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        return self.u(1) == 1

    def ue(self) -> int:
        """Exp-Golomb, at most 32 leading zeros (H.264 9.1)."""
        zeros = 0
        while not self.u(1):
            zeros += 1
            if zeros > 32:
                raise Invalid("parameter set has an Exp-Golomb code of more than 32 bits")
        return (1 << zeros) - 1 + self.u(zeros)

    def se(self) -> int:
        code = self.ue()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def _bounded(name: str, value: int, limit: int) -> int:
    if value > limit:
        raise Invalid(f"SPS {name} is {value}, more than {limit}")
    return value


def _rbsp(nal: bytes, header_bytes: int) -> bytes:
    if len(nal) > PARAMETER_SET_BYTES_MAX:
        raise Invalid(f"SPS of {len(nal)} bytes, more than {PARAMETER_SET_BYTES_MAX}")
    return without_emulation(nal[header_bytes:])


def _side(name: str, coded: int, cropped: int) -> int:
    side = coded - cropped
    if not 0 < side <= PICTURE_SIDE_MAX:
        raise Invalid(f"SPS gives a {name} of {side} pixels")
    return side


# ---- H.264 ----------------------------------------------------------------------------------


def parse_sps_h264(nal: bytes) -> VideoFormat:
    """H.264 7.3.2.1.1, from the NAL header on. A broken VUI is ignored. Raises Invalid."""
    rbsp = _rbsp(nal, 1)
    bits = _Bits(rbsp)
    profile, _constraints, level = bits.u(8), bits.u(8), bits.u(8)
    _bounded("seq_parameter_set_id", bits.ue(), 31)
    chroma, luma_bits, chroma_bits, planes = _h264_chroma(bits, profile)
    bits.ue()  # log2_max_frame_num_minus4
    order_type = _h264_picture_order(bits)
    bits.ue()  # max_num_ref_frames
    bits.u(1)  # gaps_in_frame_num_value_allowed_flag
    columns, rows = bits.ue() + 1, bits.ue() + 1
    frames_only = bits.flag()
    if not frames_only:
        bits.u(1)  # mb_adaptive_frame_field_flag
    bits.u(1)  # direct_8x8_inference_flag
    across, down = _crop(bits, 0 if planes else chroma)
    fields = 1 if frames_only else 2
    return VideoFormat(
        codec=VideoCodec.H264,
        width=_side("width", columns * 16, across),
        height=_side("height", rows * 16 * fields, down * fields),
        profile=profile,
        level=level,
        codec_string=rbsp[:3].hex().upper(),
        chroma=chroma,
        bit_depth_luma=luma_bits,
        bit_depth_chroma=chroma_bits,
        interlaced=not frames_only,
        # Baseline has no B slices (A.2.1); order type 2 means output order is decode order.
        reorder_max=0 if profile == 66 or order_type == 2 else _h264_reorder(bits),
    )


def _h264_chroma(bits: _Bits, profile: int) -> tuple[int, int, int, bool]:
    """chroma_format_idc, both bit depths, separate_colour_plane_flag; skips scaling lists."""
    if profile not in _H264_CHROMA_PROFILES:
        return 1, 8, 8, False
    chroma = _bounded("chroma_format_idc", bits.ue(), 3)
    planes = chroma == 3 and bits.flag()
    luma = 8 + _bounded("bit_depth_luma_minus8", bits.ue(), 6)
    depth = 8 + _bounded("bit_depth_chroma_minus8", bits.ue(), 6)
    bits.u(1)  # qpprime_y_zero_transform_bypass_flag
    if bits.flag():
        for i in range(12 if chroma == 3 else 8):
            if bits.flag():
                _skip_scaling_list(bits, 16 if i < 6 else 64)
    return chroma, luma, depth, planes


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    """H.264 7.3.2.1.1.1."""
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _h264_picture_order(bits: _Bits) -> int:
    kind = _bounded("pic_order_cnt_type", bits.ue(), 2)
    if kind == 0:
        bits.ue()
    elif kind == 1:
        bits.u(1)
        bits.se()
        bits.se()
        for _ in range(_bounded("num_ref_frames_in_pic_order_cnt_cycle", bits.ue(), 255)):
            bits.se()
    return kind


def _crop(bits: _Bits, chroma: int) -> tuple[int, int]:
    """Pixels cut off across and down, before field doubling (H.264 7.4.2.1.1, H.265 7.4.3.2.1)."""
    if not bits.flag():
        return 0, 0
    left, right, top, bottom = bits.ue(), bits.ue(), bits.ue(), bits.ue()
    return (left + right) * (2 if chroma in (1, 2) else 1), (top + bottom) * (1 + (chroma == 1))


def _h264_reorder(bits: _Bits) -> int | None:
    """max_num_reorder_frames of the VUI (E.1.1); None where there is none or it is broken."""
    try:
        if not bits.flag():
            return None
        _skip_h264_vui(bits)
        if not bits.flag():
            return None
        bits.u(1)
        for _ in range(4):
            bits.ue()
        return min(bits.ue(), 16)
    except Invalid:
        return None


def _skip_h264_vui(bits: _Bits) -> None:
    """Up to bitstream_restriction_flag."""
    if bits.flag() and bits.u(8) == 255:  # aspect_ratio_idc Extended_SAR
        bits.u(32)
    if bits.flag():  # overscan_info_present_flag
        bits.u(1)
    if bits.flag():  # video_signal_type_present_flag
        bits.u(4)
        if bits.flag():
            bits.u(24)
    if bits.flag():  # chroma_loc_info_present_flag
        bits.ue()
        bits.ue()
    if bits.flag():  # timing_info_present_flag
        bits.u(65)
    hrd = 0
    for _ in range(2):
        if bits.flag():
            hrd += 1
            _skip_hrd(bits)
    if hrd:
        bits.u(1)
    bits.u(1)  # pic_struct_present_flag


def _skip_hrd(bits: _Bits) -> None:
    """E.1.2."""
    count = _bounded("cpb_cnt_minus1", bits.ue(), 31) + 1
    bits.u(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.u(1)
    bits.u(20)


# ---- H.265 ----------------------------------------------------------------------------------


def parse_sps_h265(nal: bytes) -> VideoFormat:
    """H.265 7.3.2.2.1, from the NAL header on, up to the sub-layer ordering. Raises Invalid."""
    rbsp = _rbsp(nal, 2)
    bits = _Bits(rbsp)
    bits.u(4)  # sps_video_parameter_set_id
    sub_layers = bits.u(3)
    nested = bits.flag()
    ptl = rbsp[1:13]
    bits.u(96)
    _skip_sub_layer_profiles(bits, sub_layers)
    _bounded("sps_seq_parameter_set_id", bits.ue(), 15)
    chroma = _bounded("chroma_format_idc", bits.ue(), 3)
    planes = chroma == 3 and bits.flag()
    coded_width, coded_height = bits.ue(), bits.ue()
    across, down = _crop(bits, 0 if planes else chroma)
    luma = 8 + _bounded("bit_depth_luma_minus8", bits.ue(), 8)
    depth = 8 + _bounded("bit_depth_chroma_minus8", bits.ue(), 8)
    return VideoFormat(
        codec=VideoCodec.H265,
        width=_side("width", coded_width, across),
        height=_side("height", coded_height, down),
        profile=ptl[0] & 0x1F,
        level=ptl[11],
        codec_string=h265_codec_string(ptl),
        chroma=chroma,
        bit_depth_luma=luma,
        bit_depth_chroma=depth,
        interlaced=False,
        reorder_max=_h265_reorder(bits, sub_layers),
        ptl=ptl,
        temporal_layers=sub_layers + 1,
        temporal_nested=nested,
    )


def _skip_sub_layer_profiles(bits: _Bits, sub_layers: int) -> None:
    """H.265 7.3.3, what follows general_level_idc."""
    present = [(bits.flag(), bits.flag()) for _ in range(sub_layers)]
    if sub_layers:
        bits.u(2 * (8 - sub_layers))
    for profile, level in present:
        bits.u(88 * profile + 8 * level)


def _h265_reorder(bits: _Bits, sub_layers: int) -> int | None:
    """sps_max_num_reorder_pics of the highest layer."""
    try:
        bits.ue()  # log2_max_pic_order_cnt_lsb_minus4
        reorder = 0
        for _ in range(sub_layers + 1 if bits.flag() else 1):
            bits.ue()
            reorder = bits.ue()
            bits.ue()
    except Invalid:
        return None
    return min(reorder, 16)


def h265_codec_string(ptl: bytes) -> str:
    """ISO 14496-15 annex E.3: profile, reversed compatibility, tier and level, constraints."""
    space = ("", "A", "B", "C")[ptl[0] >> 6]
    reversed_flags = int(f"{int.from_bytes(ptl[1:5], 'big'):032b}"[::-1], 2)
    tier = "H" if ptl[0] & 0x20 else "L"
    constraints = "".join(f".{byte:X}" for byte in ptl[5:11].rstrip(b"\0"))
    return f"{space}{ptl[0] & 0x1F}.{reversed_flags:X}.{tier}{ptl[11]}{constraints}"


# ---- SEI ------------------------------------------------------------------------------------


def user_data(au: AccessUnit) -> Iterator[tuple[bytes, bytes]]:
    """(uuid, payload) of each SEI user_data_unregistered of a picture, emulation removed.

    H.264 D.1.7, H.265 D.2.7: payload type 5, 16 bytes of UUID, then the sender's own.
    """
    h265 = au.codec is VideoCodec.H265
    for begin, end in au.nals:
        first = au.data[begin]
        if h265 and first >> 1 & 0x3F in (H265_PREFIX_SEI, H265_SUFFIX_SEI):
            header = 2
        elif not h265 and first & 0x1F == H264_SEI:
            header = 1
        else:
            continue
        for kind, payload in _sei_messages(without_emulation(au.data[begin + header : end])):
            if kind == 5 and len(payload) >= 16:
                yield payload[:16], payload[16:]


def _sei_messages(rbsp: bytes) -> Iterator[tuple[int, bytes]]:
    """H.264 7.3.2.3.1; a message that runs past the end is cut short."""
    at = 0
    for _ in range(SEI_MESSAGES_MAX):
        if at + 2 >= len(rbsp):
            return
        kind, at = _sei_number(rbsp, at)
        size, at = _sei_number(rbsp, at)
        yield kind, rbsp[at : at + size]
        at += size


def _sei_number(rbsp: bytes, at: int) -> tuple[int, int]:
    """A number written as FF bytes and a last byte."""
    total = 0
    while at < len(rbsp):
        byte = rbsp[at]
        at += 1
        total += byte
        if byte != 0xFF:
            break
    return total, at


# ---- parameter sets in force ----------------------------------------------------------------


class ParameterSets:
    """The sets in force, fed by key pictures.

        if sets.update(au): ... a new init segment is needed
        sets.format, sets.vps, sets.sps, sets.pps

    format   of the SPS first sent with the latest key picture; None before one was understood
    """

    def __init__(self) -> None:
        self.codec: VideoCodec | None = None
        self.format: VideoFormat | None = None
        self.vps: Sequence[bytes] = ()
        self.sps: Sequence[bytes] = ()
        self.pps: Sequence[bytes] = ()
        self._last: tuple[bytes, ...] = ()

    def update(self, au: AccessUnit) -> bool:
        """True when the decoder configuration changed. Unparsable sets are ignored.

        The sets sent with a key picture replace all of that kind: what it does not carry again
        stays in force only if it carries none of the kind.
        """
        if not au.key or not isinstance(au.codec, VideoCodec):
            return False
        found = _sets_of(au)
        # Nearly every key picture repeats the sets of the one before; damage brings none in.
        if not found or au.damaged or (found == self._last and au.codec is self.codec):
            return False
        return self._take(au.codec, found)

    def _take(self, codec: VideoCodec, found: tuple[bytes, ...]) -> bool:
        vps, sps, pps = _by_kind(codec, found)
        same = codec is self.codec
        sps = sps or (tuple(self.sps) if same else ())
        pps = pps or (tuple(self.pps) if same else ())
        vps = vps or (tuple(self.vps) if same else ())
        if not sps or not pps or (codec is VideoCodec.H265 and not vps):
            return False
        try:
            parsed = parse_sps_h265(sps[0]) if codec is VideoCodec.H265 else parse_sps_h264(sps[0])
        except Invalid:
            return False
        changed = (codec, vps, sps, pps) != (self.codec, self.vps, self.sps, self.pps)
        self.codec, self.format, self.vps, self.sps, self.pps = codec, parsed, vps, sps, pps
        self._last = found
        return changed


def _sets_of(au: AccessUnit) -> tuple[bytes, ...]:
    """The parameter sets of a picture in order; they precede its first slice."""
    data, found = au.data, []
    h265 = au.codec is VideoCodec.H265
    for begin, end in au.nals:
        first = data[begin]
        wanted = 32 <= first >> 1 & 0x3F <= 34 if h265 else first & 0x1F in (7, 8)
        if wanted and end - begin <= PARAMETER_SET_BYTES_MAX:
            found.append(data[begin:end])
    return tuple(found)


def _by_kind(codec: VideoCodec, found: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], ...]:
    """VPS, SPS, PPS without repetitions."""
    kinds = (H265_VPS, H265_SPS, H265_PPS) if codec is VideoCodec.H265 else (-1, H264_SPS, H264_PPS)
    sorted_out = []
    for kind in kinds:
        of_kind = dict.fromkeys(nal for nal in found if nal_type(codec, nal[0]) == kind)
        sorted_out.append(tuple(of_kind)[:PARAMETER_SETS_MAX])
    return tuple(sorted_out)
