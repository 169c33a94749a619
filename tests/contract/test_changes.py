from vsp.model.changes import Axis, ChangePoint
from vsp.model.ids import UtcMicros
from vsp.store import Store

SUBJECT = "device:d1"


def point(at_us: int, state: str, **changes) -> ChangePoint:
    values = {"subject": SUBJECT, "axis": Axis.PRESENCE, "cause": "c", "evidence": "e", **changes}
    return ChangePoint(at_us=UtcMicros(at_us), state=state, **values)


async def states(store: Store, start: int, end: int, axis: Axis = Axis.PRESENCE) -> list[str]:
    found = await store.changes.between(SUBJECT, axis, UtcMicros(start), UtcMicros(end))
    return [entry.state for entry in found]


async def test_a_point_comes_back_as_it_was(store: Store):
    whole = point(5, "online", cause="REGISTER", evidence="CSeq 2, 192.0.2.7")

    await store.changes.append([whole])

    found = await store.changes.between(SUBJECT, Axis.PRESENCE, UtcMicros(0), UtcMicros(9))
    assert found == [whole]


async def test_the_state_in_force_comes_first_then_every_change_inside(store: Store):
    await store.changes.append([point(10, "a"), point(20, "b"), point(30, "c"), point(40, "d")])

    assert await states(store, 25, 40) == ["b", "c"]
    assert await states(store, 20, 40) == ["b", "c"], "a point at the start is in force"
    assert await states(store, 0, 15) == ["a"], "nothing is known before the first point"
    assert await states(store, 50, 60) == ["d"]
    assert await states(store, 0, 10) == []


async def test_late_arrivals_take_their_place_in_time(store: Store):
    await store.changes.append([point(30, "c")])
    await store.changes.append([point(10, "a"), point(20, "b")])

    assert await states(store, 0, 100) == ["a", "b", "c"]


async def test_of_two_points_at_one_instant_the_later_arrival_is_in_force(store: Store):
    await store.changes.append([point(10, "first")])
    await store.changes.append([point(10, "second")])

    assert await states(store, 10, 20) == ["second"]
    assert await states(store, 5, 20) == ["first", "second"]


async def test_subjects_and_axes_are_apart(store: Store):
    await store.changes.append(
        [
            point(10, "online"),
            point(11, "recording", axis=Axis.RECORDING),
            point(12, "offline", subject="device:d2"),
        ]
    )
    await store.changes.append([])

    assert await states(store, 0, 100) == ["online"]
    assert await states(store, 0, 100, Axis.RECORDING) == ["recording"]


async def test_a_thousand_points_are_one_transaction(store: Store):
    await store.changes.append([point(n, str(n)) for n in range(1_001)])

    assert await states(store, 0, 5_000) == [str(n) for n in range(1_001)]
