"""Worlds small enough for a test: a camera or two, minutes instead of hours, in a process each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from simulators.world import campaign
from simulators.world import world as module
from simulators.world.campaign import lives
from simulators.world.world import SMALL, Report, Scale, World

MINUTES_S = 100.0

PEACE = replace(
    SMALL,
    name="tiny",
    cameras=1,
    seconds=MINUTES_S,
    workers=1,
    visitors=1,
    picture_s=10.0,
    segment_s=60.0,
    part_s=20.0,
    pace_s=(MINUTES_S, MINUTES_S + 1),
    crash_s=(1e6, 1e6),
    events=0,
    blows=0,
    points=0,
)
"""Nothing befalls it."""

STORM = replace(PEACE, cameras=2, seconds=300.0, pace_s=(5.0, 20.0), crash_s=(10.0, 60.0))

SETTLE_S = 60.0
"""Long enough for what is left to do where nothing was wrong."""

Make = Callable[[int, Scale], World]


def lived(patch: pytest.MonkeyPatch, make: Make, seed: int = 1, scale: Scale = PEACE) -> Report:
    """The life of a world that `make` makes, in a process of its own: what it leaves behind in
    memory would run its last words in ours."""
    patch.setattr(campaign, "World", make)
    [report] = lives([seed], scale, jobs=1)
    return report


def hurry(patch: pytest.MonkeyPatch) -> None:
    """For worlds in peace: hardly any time for the dust to settle."""
    patch.setattr(module, "CALM_S", SETTLE_S)
    patch.setattr(module, "LAST_S", SETTLE_S)
