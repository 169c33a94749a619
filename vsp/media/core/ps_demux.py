"""MPEG program stream as GB/T 28181 devices send it -> access units (see gb/t 28181-2016 annex C.1)."""

from __future__ import annotations

from vsp.media.core.au import AccessUnit


class PsDemuxer:
    """`push` the payloads of PS packets in order; never raises on what a device sends.

    Counters for StreamStats and the trace: `damaged_frames`, `skipped_bytes`, `oddities` (names of
    the deviations met, e.g. "psm-missing", "psm-wrong-codec", "pes-length-0", "mpeg-ts").
    """

    def __init__(self) -> None:
        self.damaged_frames = 0
        self.skipped_bytes = 0
        self.oddities: set[str] = set()

    def push(
        self,
        payload: bytes | memoryview,
        ts: int,
        marker: bool,
        lost: bool = False,
        arrival_us: int = 0,
    ) -> list[AccessUnit]: ...
    def flush(self) -> list[AccessUnit]: ...
