"""The command: which seeds it lives, what it says at the end, and how it exits."""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from simulators.world import __main__ as command
from tests.world.tiny import PEACE, hurry

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"  # what other tests left behind
)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Worlds that hold, and that fail; Python's sets are in order, they say."""
    never = replace(PEACE, name="never", events=10**9)
    for scale in (PEACE, never):
        monkeypatch.setitem(command.EVERY_SCALE, scale.name, scale)
    hurry(monkeypatch)
    monkeypatch.setenv(command.HASH_SEED, "0")
    yield
    gc.unfreeze()


def said_by(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """How the command exits, and its lines."""
    code = command.main(arguments)
    return code, capsys.readouterr().out.splitlines()


def test_lives_that_hold(capsys: pytest.CaptureFixture[str]):
    code, lines = said_by(capsys, "--scale", "tiny", "--seeds", "2-3", "--jobs", "1")

    assert code == 0
    assert [line.partition(",")[0] for line in lines[:2]] == ["tiny 2: holds", "tiny 3: holds"]
    assert lines[2].startswith("excused: ")
    assert lines[3].startswith("tiny: 2 lives, 0 failed, 0 deaths")
    assert len(lines) == 4


def test_a_life_that_fails_says_how_to_live_it_again(capsys: pytest.CaptureFixture[str]):
    code, lines = said_by(capsys, "--scale", "never", "--seeds", "2", "--jobs", "1")

    assert code == 1
    assert lines[0].startswith("never 2: FAILED")
    assert "at least 1000000000 must be" in lines[1]
    assert lines[2] == "again: make world SCALE=never SEEDS=2"


def test_with_enough_the_first_that_fails_is_the_last(capsys: pytest.CaptureFixture[str]):
    code, lines = said_by(capsys, "--scale", "never", "--seeds", "1-50", "--jobs", "1", "--enough")

    assert code == 1
    assert sum(line.startswith("again:") for line in lines) == 1


def test_a_crash_point_that_is_missed_fails_only_who_asked_for_all(
    capsys: pytest.CaptureFixture[str],
):
    code, lines = said_by(capsys, "--scale", "tiny", "--seeds", "1", "--all-points")

    assert code == 1
    assert any("was hit in no life" in line for line in lines)
    assert not any(line.startswith("again:") for line in lines)


def test_the_sum_as_json(capsys: pytest.CaptureFixture[str]):
    code, lines = said_by(
        capsys, "--scale", "tiny", "--seeds", "1-2", "--jobs", "1", "--twice", "1", "--json"
    )

    summed = json.loads(lines[-1])
    assert code == 0
    assert (summed["holds"], summed["lives"], summed["failed"]) == (True, 3, [])
    assert summed["pictures"] > 0


@pytest.mark.parametrize(("text", "seeds"), [("7", [7]), ("2-4", [2, 3, 4])])
def test_seeds_are_one_or_a_range(text: str, seeds: list[int]):
    assert [*command.parser().parse_args(["--seeds", text]).seeds] == seeds


def test_what_is_no_seed_or_scale_is_refused(capsys: pytest.CaptureFixture[str]):
    for wrong in (["--seeds", "x"], ["--scale", "huge"]):
        with pytest.raises(SystemExit) as exited:
            command.main(wrong)
        assert exited.value.code == 2
    assert "huge" in capsys.readouterr().err


def test_it_begins_again_where_python_orders_its_sets_otherwise(monkeypatch: pytest.MonkeyPatch):
    class Began(Exception):
        pass

    def begin(path: str, arguments: list[str], environment: dict[str, str]) -> None:
        assert path == sys.executable
        assert arguments == [sys.executable, "-m", "simulators.world", "--seeds", "7"]
        assert environment == {**os.environ, command.HASH_SEED: "0"}
        raise Began

    monkeypatch.setattr(os, "execve", begin)
    for other in ("1", "random"):
        monkeypatch.setenv(command.HASH_SEED, other)
        with pytest.raises(Began):
            command.main(["--seeds", "7"])
