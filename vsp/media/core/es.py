"""Elementary streams straight over RTP: H.264 (RFC 6184), H.265 (RFC 7798), G.711 (RFC 3551)."""

from __future__ import annotations

from vsp.media.core.au import Depacketizer


def depacketizer_for(encoding: str) -> Depacketizer | None:
    """By rtpmap encoding name ("PS", "H264", "H265", "PCMA", "PCMU"); None if we cannot."""
    ...
