"""Many lives: what counts as a failure of one, and what happens to those that never end."""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from simulators.world import campaign
from simulators.world.campaign import Campaign, line_of, lives, run
from simulators.world.world import Report, Scale, World
from tests.world.tiny import PEACE, STORM, hurry, lived
from vsp.faults import Point

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"  # what other tests left behind
)


@pytest.fixture(autouse=True)
def _nothing_stays_frozen() -> Iterator[None]:
    """A campaign freezes what is there when it begins, and ends with its process."""
    yield
    gc.unfreeze()


def report(seed: int = 1, **changes: object) -> Report:
    return replace(Report(seed=seed, scale=PEACE), **changes)


class Quick:
    """A world of which the report is known before."""

    def __init__(self, seed: int, scale: Scale) -> None:
        self._report = report(seed, hash=f"hash of {seed}")

    def run(self) -> Report:
        return self._report


class Failing(Quick):
    def run(self) -> Report:
        return replace(self._report, findings=[f"finding {number}" for number in range(20)])


class Raising(Quick):
    def run(self) -> Report:
        raise RuntimeError("virtual time stands still")


class Silent(Quick):
    def run(self) -> Report:
        os._exit(3)


class Hanging(Quick):
    def run(self) -> Report:
        time.sleep(600)
        return self._report


class Fickle(Quick):
    """Lives another life each time."""

    def run(self) -> Report:
        return replace(self._report, hash=f"{time.monotonic_ns()}")


# ---- seeds ----------------------------------------------------------------------------------


def test_the_same_seed_lives_the_same_life_and_another_one_another(
    monkeypatch: pytest.MonkeyPatch,
):
    one, again, other = (lived(monkeypatch, World, seed, STORM) for seed in (1, 1, 2))

    assert one.events > 300
    assert one.blows
    assert replace(one, cpu_s=0.0) == replace(again, cpu_s=0.0)
    assert one.hash != other.hash


def test_a_life_that_is_not_the_same_the_second_time_is_a_finding(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(campaign, "World", Fickle)
    said: list[str] = []

    done = run(range(1, 4), PEACE, 2, 1, said.append)

    assert (done.lives, done.failed) == (4, [1])
    assert any("lived twice, and not the same" in line for line in said)


def test_some_are_lived_twice(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(campaign, "World", Quick)

    done = run(range(1, 6), PEACE, 2, 2, print)

    assert (done.lives, done.failed) == (7, [])


# ---- what fails -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("least", "words"),
    [
        ({"events": 10**9}, r"only \d+ events, at least 1000000000 must be"),
        ({"blows": 50}, r"only \d blows of fate, at least 50 must be"),
        ({"points": 1}, r"only 0 crash points, at least 1 must be"),
    ],
)
def test_a_life_in_which_too_little_happens_fails(
    monkeypatch: pytest.MonkeyPatch, least: dict[str, int], words: str
):
    hurry(monkeypatch)

    found = lived(monkeypatch, World, scale=replace(PEACE, **least)).findings

    assert len(found) == 1
    assert re.search(words, found[0])


@pytest.mark.parametrize(
    ("world", "words"),
    [
        (Raising, "the world ended early:"),
        (Raising, "RuntimeError: virtual time stands still"),
        (Silent, "its process ended with 768 and no word"),
    ],
)
def test_a_life_that_ends_badly_is_a_finding(
    monkeypatch: pytest.MonkeyPatch, world: type[Quick], words: str
):
    found = lived(monkeypatch, world).findings

    assert len(found) == 1
    assert words in found[0]


def test_a_life_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(campaign, "LIFE_S_MAX", 0.1)

    found = lived(monkeypatch, Hanging).findings

    assert [*found] == ["its process ended with 9 and no word"]


def test_who_stops_asking_ends_those_that_are_being_lived(monkeypatch: pytest.MonkeyPatch):
    began: list[int] = []
    begin = campaign._begin

    def noted(seed: int, scale: Scale) -> campaign._Life:
        life = begin(seed, scale)
        began.append(life.pid)
        return life

    def make(seed: int, scale: Scale) -> Quick:
        return (Quick if seed == 1 else Hanging)(seed, scale)

    monkeypatch.setattr(campaign, "_begin", noted)
    monkeypatch.setattr(campaign, "World", make)

    asking = lives([1, 2, 3], PEACE, jobs=3)
    assert next(asking).seed == 1
    asking.close()

    assert len(began) == 3
    for pid in began:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_one_failure_is_enough_when_that_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(campaign, "World", Failing)

    done = run(range(1, 100), PEACE, 1, 0, print, one_is_enough=True)

    assert (done.lives, done.failed) == (1, [1])


def test_of_each_life_only_the_first_findings_are_said(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(campaign, "World", Failing)
    said: list[str] = []

    run([7], PEACE, 1, 0, said.append)

    assert said[0].startswith("tiny 7: FAILED")
    assert len(said) == 1 + campaign.FINDINGS_SHOWN
    assert said[-1].strip() == f"finding {campaign.FINDINGS_SHOWN - 1}"


# ---- the sum --------------------------------------------------------------------------------


def test_a_campaign_is_the_sum_of_its_lives():
    done = Campaign(PEACE)

    done.add(report(1, events=10, pictures=3, deaths=1, lost_s=0.5, points={"spool.written": 1}))
    done.add(report(2, events=20, pictures=4, deaths=2, lost_s=0.2, findings=["x"]))

    assert (done.lives, done.failed, done.events, done.pictures) == (2, [2], 30, 7)
    assert (done.deaths, done.lost_s) == (3, 0.5)


def test_a_crash_point_that_was_hit_in_no_life_is_missed():
    done = Campaign(PEACE)
    points = [str(point) for point in Point]
    done.add(report(1, points=dict.fromkeys(points[::2], 1)))
    done.add(report(2, points=dict.fromkeys(points[1:-1:2], 2)))

    missed = done.missed

    assert set(missed) == {*points} - {*points[::2]} - {*points[1:-1:2]}
    done.add(report(3, points=dict.fromkeys(points, 1)))
    assert done.missed == []


def test_a_line_says_what_happened_beside_the_least_that_must():
    scale = replace(PEACE, events=5, blows=6, points=7)
    blows = {"power cut": 1, "weather": 2}

    line = line_of(report(9, scale=scale, events=50, blows=blows, hash="0123456789abcdef"))

    assert line.startswith("tiny 9: holds, 50 events (min 5), 3 blows (min 6), 0 crash points (m")
    assert line.endswith("0123456789ab")
