"""NAL units of H.264 (ITU-T H.264) and H.265 (ITU-T H.265): split, types, parameter sets, SEI."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vsp.media.core.au import AccessUnit
from vsp.model.stream import VideoCodec


@dataclass(frozen=True, slots=True)
class VideoFormat:
    """What a decoder must be told, from the SPS alone. `width`/`height` after cropping.

    codec_string   RFC 6381 without the sample entry: "42C01E", "1.6.L93.B0"
    reorder_max    pictures that may precede in decode order (B-frames); None if not said
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


def split(data: bytes) -> list[tuple[int, int]]:
    """(begin, end) of each NAL in Annex B data, start codes and trailing zeros excluded."""
    ...


def parse_sps_h264(nal: bytes) -> VideoFormat:
    """Raises Invalid."""
    ...


def parse_sps_h265(nal: bytes) -> VideoFormat:
    """Raises Invalid."""
    ...


def user_data(au: AccessUnit) -> Iterator[tuple[bytes, bytes]]:
    """(uuid, payload) of each SEI user_data_unregistered of a picture, emulation removed."""
    ...


class ParameterSets:
    """The sets in force, fed by key pictures.

    if sets.update(au): ... a new init segment is needed
    sets.format, sets.vps, sets.sps, sets.pps
    """

    format: VideoFormat | None
    vps: Sequence[bytes]
    sps: Sequence[bytes]
    pps: Sequence[bytes]

    def update(self, au: AccessUnit) -> bool:
        """True when the decoder configuration changed. Unparsable sets are ignored."""
        ...
