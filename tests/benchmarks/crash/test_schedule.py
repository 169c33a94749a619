from collections import Counter

import pytest

from benchmarks.crash.schedule import (
    A_WORKER,
    NODE,
    PASSES_MAX,
    PLACES,
    SUPERVISOR,
    Blow,
    Place,
    cast,
    named_points,
    schedule,
)
from vsp.faults import Point

KILLS, SEED = 50, 7
A, B = Blow(A_WORKER, delay_s=1.0), Blow(A_WORKER, delay_s=2.0)


def blows(kills: int = KILLS, seed: int = SEED) -> list[Blow]:
    return [blow for chains in schedule(kills, seed) for chain in chains for blow in chain]


@pytest.mark.parametrize("kills", [1, 2, 20, 49, 50])
@pytest.mark.parametrize("seed", range(8))
def test_a_schedule_has_exactly_the_deaths_that_were_asked_for(kills: int, seed: int):
    assert len(blows(kills, seed)) == kills


def test_the_same_seed_gives_the_same_schedule_and_another_one_another():
    assert schedule(KILLS, SEED) == schedule(KILLS, SEED)
    assert schedule(KILLS, SEED) != schedule(KILLS, SEED + 1)


def test_runs_of_twenty_deaths_with_seeds_in_a_row_go_round_all_points():
    hit = [point for seed in range(4) for point in named_points(20, seed)]

    assert Counter(hit) == Counter(Point)


def test_each_point_that_is_due_is_in_the_schedule():
    sentences = [blow.sentence for blow in blows() if blow.sentence]

    assert Counter(s.point for s in sentences) == Counter(named_points(KILLS, SEED))
    assert all(1 <= s.passes <= PASSES_MAX[PLACES[s.point]] for s in sentences)


def test_every_kind_of_process_dies_at_any_moment_too():
    by_signal = {blow.process for blow in blows(100) if blow.sentence is None}

    assert by_signal == {A_WORKER, NODE, SUPERVISOR}


def test_what_is_passed_only_while_starting_follows_a_death():
    for chains in schedule(200, SEED):
        for chain in chains:
            for before, blow in zip((None, *chain), chain, strict=False):
                starting = blow.sentence and PLACES[blow.sentence.point] in {
                    Place.STARTING,
                    Place.ADOPTING,
                }
                assert blow.at_start or not starting
                assert before is not None or not blow.at_start


def test_two_workers_that_both_receive_die_together():
    now, later = cast(((A,), (B,)), {"worker-0": 9, "worker-1": 11})

    assert [chain[0].process for chain in now] == ["worker-1", "worker-0"]
    assert not later


def test_a_worker_that_receives_nothing_is_left_alone():
    now, later = cast(((A,), (B,)), {"worker-1": 20})

    assert [chain[0].process for chain in now] == ["worker-1"]
    assert later == ((B,),)
    assert cast(later, {"worker-0": 20})[0][0][0].process == "worker-0"


def test_who_is_no_worker_dies_under_its_own_name():
    now, later = cast(((A,), (Blow(NODE),)), {"worker-0": 20})

    assert [chain[0].process for chain in now] == ["worker-0", NODE]
    assert not later
