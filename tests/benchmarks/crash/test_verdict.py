from benchmarks.crash.batch import Kill, Sync
from benchmarks.crash.recorded import Picture, Recorded
from benchmarks.crash.schedule import NODE
from benchmarks.crash.verdict import Cost, acknowledged_lost, costs, slowest_sync_s

CHANNEL, OTHER = "34020000001320000001", "34020000001320000002"
FPS = 10
STEP_US = 100_000
BEGAN_US = 1_000_000_000


def at_us(number: float) -> int:
    return BEGAN_US + round(number * STEP_US)


def stream(numbers: range, ssrc: int) -> list[Picture]:
    """A picture each 100 ms; the first one of ten is a key picture."""
    return [Picture(at_us(n), at_us(n), n % FPS == 0, 100, frozenset({ssrc})) for n in numbers]


def recorded(*numbers: range, code: str = CHANNEL) -> Recorded:
    found = Recorded()
    found.channels[code] = [at_us(n) for each in numbers for n in each]
    return found


def death(number: float, process: str = "worker-0", held: frozenset[str] = frozenset({CHANNEL})):
    return Kill(at_us(number), process, None, held)


def judged(kills: list[Kill], sent: list[Picture], kept: Recorded) -> tuple[list[Cost], int]:
    of_each, strays = costs(kills, {CHANNEL: sent}, kept, FPS)
    return of_each, len(strays)


def test_a_death_costs_what_was_received_and_not_saved_and_then_the_outage():
    """Recorded up to 14, dead after 19, a new stream from 25 on, its key picture is 30."""
    sent = stream(range(25), 1) + stream(range(25, 50), 2)

    [cost], strays = judged([death(19.5)], sent, recorded(range(15), range(30, 50)))

    assert cost == Cost(received_s=0.5, outage_s=1.05)
    assert not strays


def test_what_the_next_worker_received_and_lost_is_its_own_cost():
    """The stream after the first death began at 25, and its worker died at 44 with 30-43 in hand:
    what the first camera stream sent meanwhile went to a port that was closed."""
    sent = stream(range(25), 1) + stream(range(25, 50), 2) + stream(range(50, 70), 3)

    [first, second], _ = judged(
        [death(19.5), death(43.5, "worker-1")], sent, recorded(range(15), range(50, 70))
    )

    assert first.received_s == 0.5
    assert second.received_s == 1.4


def test_a_death_of_another_worker_explains_nothing():
    sent = stream(range(50), 1)

    [cost], strays = judged(
        [death(19.5, held=frozenset({OTHER}))], sent, recorded(range(15), range(30, 50))
    )

    assert cost == Cost()
    assert strays == 1


def test_a_hole_after_the_death_of_a_parent_is_its_cost():
    sent = stream(range(50), 1)

    [cost], strays = judged(
        [death(19.5, NODE, frozenset())], sent, recorded(range(25), range(30, 50))
    )

    assert cost == Cost(missing_s=0.5)
    assert not strays


def test_a_parent_is_not_asked_about_a_hole_of_long_after():
    sent = stream(range(400), 1)

    [cost], strays = judged(
        [death(19.5, NODE, frozenset())], sent, recorded(range(300), range(310, 400))
    )

    assert cost == Cost()
    assert strays == 1


def test_nothing_missing_costs_nothing():
    sent = stream(range(50), 1)

    assert judged([death(19.5), death(30, NODE, frozenset())], sent, recorded(range(50))) == (
        [Cost(), Cost()],
        0,
    )


def test_an_acknowledged_segment_is_lost_when_it_is_gone_or_has_other_bytes():
    kept = Recorded(digests={"a": "1", "b": "2"})

    assert acknowledged_lost({"a": "1", "b": "0", "c": "3"}, kept) == ["b", "c"]
    assert acknowledged_lost({"a": "1"}, kept) == []


def test_a_disk_that_was_slow_during_an_outage_is_told_beside_it():
    syncs = [
        Sync(at_us(10), took_s=0.7),
        Sync(at_us(18), took_s=0.3),
        Sync(at_us(25), took_s=0.2),
        Sync(at_us(90), took_s=9.0),
    ]

    assert slowest_sync_s(death(20), 2.0, syncs) == 0.3
    assert slowest_sync_s(death(50), 1.0, syncs) == 0.0
