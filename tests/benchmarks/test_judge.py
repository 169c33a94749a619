"""What is judged and what of it is kept; the pieces themselves are run by `make judge`."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks import judge
from benchmarks.judge import PARTS, PIECES, WORLDS, Piece, Result

QUIET = [0] * 8
"""Ticks of a machine."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(judge, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def machine(monkeypatch):
    """Says before and after each run how much time went by, and how much of it was stolen."""
    readings: list[list[int]] = []
    monkeypatch.setattr(judge, "machine_ticks", lambda: readings.pop(0) if readings else QUIET)
    return readings


def stolen(percent: int) -> list[list[int]]:
    return [QUIET, [100 - percent, 0, 0, 0, 0, 0, 0, percent]]


def python(text: str, *, timed: bool = True) -> Piece:
    return Piece("bench", "bench-one", ("-c", text), timed)


def counting(path) -> str:
    """A command that leaves a mark each time it runs."""
    return f"open({str(path)!r}, 'a').write('x')"


def runs(path) -> int:
    return len(path.read_text()) if path.exists() else 0


def test_five_thousand_seeds_are_lived_once_each_in_pieces():
    seeds: Counter[tuple[str, int]] = Counter()
    for piece in PIECES:
        if "simulators.world" in piece.arguments:
            words = dict(zip(piece.arguments[2::2], piece.arguments[3::2], strict=False))
            first, last = map(int, words["--seeds"].split("-"))
            seeds.update((words["--scale"], seed) for seed in range(first, last + 1))

    assert max(seeds.values()) == 1
    assert sum(1 for scale, _ in seeds if scale != "weeks") == 5_000
    assert {worlds.part for worlds in WORLDS} < {*PARTS}


def test_the_deaths_of_the_pieces_are_those_of_the_whole():
    from benchmarks.crash.campaign import Wish

    words = [p.arguments[2:] for p in PIECES if p.part == "crash"]
    *pieces, whole = [Wish(int(kills), int(seed)) for _, kills, _, seed in words]

    assert [batch for wish in pieces for batch in wish.batches] == list(whole.batches)
    assert sum(kills for _, kills in whole.batches) == 1_000


def test_the_names_of_pieces_differ():
    assert len({piece.name for piece in PIECES}) == len(PIECES)


@pytest.mark.parametrize(
    ("part", "asked", "wanted"),
    [
        ("crash", "", True),
        ("crash", "crash", True),
        ("world-full", "world", True),
        ("world-full", "world-small", False),
        ("world-full", "wor", False),
    ],
)
def test_a_part_is_asked_for_by_its_name_or_its_first_words(part, asked, wanted):
    assert judge.wanted(part, asked) is wanted


def test_a_finished_piece_is_not_run_again_for_the_same_tree(tmp_path, machine, monkeypatch):
    piece, mark = python(counting(tmp_path / "mark")), tmp_path / "mark"

    first, second = judge.judged(piece, False), judge.judged(piece, False)
    assert (runs(mark), second) == (1, first)

    monkeypatch.setattr(judge, "tree", lambda: "another")
    judge.judged(piece, False)
    assert runs(mark) == 2


def test_a_piece_is_run_again_when_asked_afresh_or_otherwise(tmp_path, machine):
    mark = tmp_path / "mark"
    judge.judged(python(counting(mark)), False)

    judge.judged(python(counting(mark)), True)
    judge.judged(python(counting(mark) + "; 0"), False)

    assert runs(mark) == 3


def test_stolen_time_voids_figures_and_the_piece_is_run_once_more(tmp_path, machine):
    machine += [*stolen(6), *stolen(5)]

    result = judge.judged(python(counting(tmp_path / "mark")), False)

    assert runs(tmp_path / "mark") == 2
    assert (result["void"], result["stolen"]) == (False, 0.05)
    assert (result["before"]["void"], result["before"]["stolen"]) == (True, 0.06)


def test_figures_that_are_void_twice_do_not_hold_and_are_not_kept(tmp_path, machine):
    machine += [*stolen(20), *stolen(20)]
    piece = python(counting(tmp_path / "mark"))

    result = judge.judged(piece, False)
    assert judge.verdict(result) == "void"
    assert not judge.report_of([result])["holds"]

    judge.judged(piece, False)
    assert runs(tmp_path / "mark") == 3


def test_stolen_time_does_not_matter_to_a_piece_without_times(tmp_path, machine):
    machine += stolen(20)

    result = judge.judged(python(counting(tmp_path / "mark"), timed=False), False)

    assert (runs(tmp_path / "mark"), judge.verdict(result)) == (1, "holds")


def test_figures_and_failures_are_told(machine):
    line = '{"name": "a", "value": 2, "unit": "s", "ratio": null, "holds": false}'

    result = judge.judged(python(f"print({line!r}); raise SystemExit(1)"), False)

    assert [figure["name"] for figure in result["figures"]] == ["a"]
    assert "FAILS" in judge.table([result])


def test_a_piece_that_is_stuck_is_ended(machine, monkeypatch):
    monkeypatch.setattr(judge, "PIECE_S_MAX", 0.3)

    result = judge.judged(python("import time; time.sleep(60)"), False)

    assert not result["holds"]
    assert "it was stuck" in result["errors"]


def test_a_crash_point_is_missed_when_no_life_of_the_scale_hit_it():
    def lives(scale: str, *missed: str) -> Result:
        counts = dict.fromkeys(("lives", "events", "pictures", "deaths"), 2)
        said = {"scale": scale, "failed": [7], "missed_points": [*missed], **counts}
        return {"lives": said, "holds": True, "void": False}

    results = [
        lives("small", "journaled", "released"),
        lives("small", "released"),
        lives("full", "completed"),
    ]
    world = judge.summed("small", results)

    assert (world["missed_points"], world["lives"], world["failed"]) == (["released"], 4, [7, 7])
    assert not judge.report_of(results)["holds"]
