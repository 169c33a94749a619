from tests.contract.samples import CAMERA, START_US, camera_id, candidate, new_device
from vsp.model.device import RecordPlan, Transport
from vsp.model.ids import UtcMicros
from vsp.ports import PageRequest
from vsp.store import Store
from vsp.store import candidates as module


async def test_sightings_add_up_and_the_first_one_stays(store: Store):
    await store.devices.saw_candidates([candidate(attempts=3)])
    later = candidate(
        host="192.0.2.99",
        port=5062,
        transport=Transport.TCP,
        user_agent="IPC/2.0",
        first_seen_us=UtcMicros(START_US + 50),
        last_seen_us=UtcMicros(START_US + 60),
        attempts=4,
    )
    await store.devices.saw_candidates([later])

    [known] = (await store.devices.candidates(PageRequest())).items

    assert known.attempts == 7
    assert known.first_seen_us == START_US
    assert known.last_seen_us == START_US + 60
    assert (known.host, known.port, known.transport) == ("192.0.2.99", 5062, Transport.TCP)
    assert known.user_agent == "IPC/2.0"


async def test_sightings_of_one_code_in_one_batch_add_up(store: Store):
    await store.devices.saw_candidates([candidate(attempts=2), candidate(attempts=3)])

    [known] = (await store.devices.candidates(PageRequest())).items
    assert known.attempts == 5


async def test_the_list_shows_new_acquaintances_first(store: Store):
    await store.devices.saw_candidates(
        [candidate(n, first_seen_us=UtcMicros(START_US + n % 3)) for n in range(1, 7)]
    )

    first = await store.devices.candidates(PageRequest(size=4))
    second = await store.devices.candidates(PageRequest(size=4, after=first.next))

    order = [entry.gb_id for entry in (*first.items, *second.items)]
    assert order == [camera_id(n) for n in (5, 2, 4, 1, 6, 3)]
    assert first.total == 6
    assert second.next is None


async def test_adding_or_dropping_ends_being_a_candidate(store: Store):
    await store.devices.saw_candidates([candidate(1), candidate(2), candidate(3)])

    await store.devices.add_device(new_device(gb_id=CAMERA), UtcMicros(1), RecordPlan.NONE)
    await store.devices.drop_candidates([camera_id(2), camera_id(99)])

    left = (await store.devices.candidates(PageRequest())).items
    assert [entry.gb_id for entry in left] == [camera_id(3)]


async def test_beyond_the_bound_those_silent_longest_go(store: Store, monkeypatch):
    monkeypatch.setattr(module, "CANDIDATES_MAX", 3)
    await store.devices.saw_candidates(
        [candidate(n, last_seen_us=UtcMicros(START_US + n)) for n in range(1, 4)]
    )

    await store.devices.saw_candidates([candidate(9, last_seen_us=UtcMicros(START_US + 9))])

    left = {entry.gb_id for entry in (await store.devices.candidates(PageRequest())).items}
    assert left == {camera_id(2), camera_id(3), camera_id(9)}


async def test_no_sightings_are_nothing(store: Store):
    await store.devices.saw_candidates([])
    await store.devices.drop_candidates([])

    assert (await store.devices.candidates(PageRequest())).total == 0
