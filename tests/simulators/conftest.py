"""Clips of two seconds, made once for all tests of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from simulators.clip import Clip, ClipSpec, ensure
from vsp.model.stream import VideoCodec

SECONDS = 2
FRAMES = 50
GOP = 25

SMALL = ClipSpec("CAM 01", gop_frames=GOP, seconds=SECONDS)
SMALL_H265 = ClipSpec("CAM 01", VideoCodec.H265, gop_frames=GOP, seconds=SECONDS)


@pytest.fixture(scope="session")
def clip_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("clips")


@pytest.fixture(scope="session")
def clips(clip_cache: Path) -> Mapping[VideoCodec, Clip]:
    """Two-second loops of CAM 01 in both codecs."""
    return {spec.codec: Clip.load(spec, ensure(spec, clip_cache)) for spec in (SMALL, SMALL_H265)}
