"""A tone in G.711 A-law (ITU-T G.711 table 1a), 8 kHz, in packets of 40 ms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SAMPLE_HZ = 8000
PACKET_SAMPLES = 320
PACKET_US = 40_000
TONE_STEP_HZ = 25
"""A tone that is a multiple of this has whole periods in 40 ms, so each packet is the same."""

_AMPLITUDE = 6000
_EVEN_BITS = 0x55
"""A-law inverts every other bit."""


def a_law(samples: NDArray[np.int16]) -> bytes:
    """16-bit linear samples to A-law octets: sign, three bits of segment, four of step."""
    linear = samples.astype(np.int32) >> 3  # thirteen bits, as in the table
    sign = np.where(linear >= 0, 0x80, 0)
    magnitude = np.where(linear >= 0, linear, ~linear)
    segment = np.maximum(0, np.floor(np.log2(np.maximum(magnitude, 1))).astype(np.int32) - 4)
    step = magnitude >> np.maximum(segment, 1) & 0x0F
    octets: bytes = ((sign | segment << 4 | step) ^ _EVEN_BITS).astype(np.uint8).tobytes()
    return octets


def tone_packet(hertz: int) -> bytes:
    """One packet of a tone, the frequency taken to the next multiple of 25 Hz."""
    whole = max(1, round(hertz / TONE_STEP_HZ)) * TONE_STEP_HZ
    phase = np.arange(PACKET_SAMPLES) * (2 * np.pi * whole / SAMPLE_HZ)
    return a_law((np.sin(phase) * _AMPLITUDE).astype(np.int16))


__all__ = ["PACKET_SAMPLES", "PACKET_US", "SAMPLE_HZ", "TONE_STEP_HZ", "a_law", "tone_packet"]
