from simulators.chance import SeededIds, SkewedClock
from tests.simulators.little import FixedClock


def test_the_same_seed_gives_the_same_identifiers():
    first, second, other = SeededIds(1), SeededIds(1), SeededIds(2)

    drawn = [(ids.token(), ids.number(10**9), ids.row_id()) for ids in (first, second, other)]

    assert drawn[0] == drawn[1] != drawn[2]


def test_tokens_have_the_length_asked_for_and_numbers_stay_below():
    ids = SeededIds("x")

    assert len(ids.token(4)) == 8
    assert {ids.number(3) for _ in range(100)} == {0, 1, 2}


def test_row_ids_sort_in_the_order_of_their_making():
    ids = SeededIds(1)

    made = [ids.row_id() for _ in range(300)]

    assert made == sorted(made)


def test_a_skewed_clock_is_off_in_wall_time_only():
    base = FixedClock(1_000_000)

    assert SkewedClock(base, 1.5).now_us() == 2_500_000
    assert SkewedClock(base, -0.5).now_us() == 500_000
    assert SkewedClock(base, 9).monotonic() == base.monotonic()
