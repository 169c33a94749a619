"""Seeds of the world of signalling: `make world SEED=7` replays one, SEEDS=200 runs more."""

from __future__ import annotations

import os

import pytest

from tests.world.world import World

SEED = os.environ.get("SEED")
SEEDS = int(os.environ.get("SEEDS", "20"))


@pytest.mark.parametrize("seed", [int(SEED)] if SEED else range(1, SEEDS + 1))
def test_after_the_storm_both_sides_believe_the_same(seed: int):
    world = World(seed).run()

    assert not world.findings, "\n".join([f"SEED={seed}", *world.findings])
    assert world.opened > 0


def test_the_same_seed_lives_the_same_life():
    first, second = World(int(SEED or 1)).run(), World(int(SEED or 1)).run()

    assert first.delivered > 1000
    assert first.trace == second.trace


def test_another_seed_lives_another_life():
    assert World(1).run().trace != World(2).run().trace
