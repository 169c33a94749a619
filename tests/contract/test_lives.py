"""Rows belong to the database: processes come and go, and several may be there at once."""

from tests.contract.conftest import Reopen
from tests.contract.manual import ManualClock
from tests.contract.samples import START_US, candidate, item, new_device, row_of, segment, user
from tests.contract.test_changes import point
from tests.contract.test_people import session
from tests.contract.test_register import region
from tests.contract.test_streams import CHANNEL, attempt, dialog
from vsp.model.changes import Axis
from vsp.model.device import RecordPlan
from vsp.model.ids import UtcMicros
from vsp.model.people import Action
from vsp.ports import PageRequest
from vsp.store import Store


async def fill(store: Store) -> None:
    """One row at least of everything."""
    device = await store.devices.add_device(new_device(), UtcMicros(1), RecordPlan.ALWAYS)
    await store.devices.apply_catalog(device.id, [item(1), item(2)], 2, True, UtcMicros(2))
    await store.devices.saw_candidates([candidate(7)])
    await store.segments.commit([segment(0), segment(1)])
    await store.changes.append([point(10, "online")])
    await store.people.add_user(user(), "hash")
    await store.people.save_session(session())
    await store.people.note_sign_in("op", "::1", False, UtcMicros(START_US))
    await store.people.put_region(region(), UtcMicros(1))
    await store.streams.save(dialog("c1"))
    await store.streams.save_attempt(attempt())
    async with store.audit.act(None, Action.LIST, "everything"):
        pass


async def told(store: Store) -> list[object]:
    """What a store says of all of it."""
    page = PageRequest()
    return [
        await store.devices.all_devices(),
        (await store.devices.channels(page)).items,
        await store.devices.planned_channels(),
        (await store.devices.candidates(page)).items,
        await store.devices.counts(),
        await store.segments.walk("", 10),
        await row_of(store.segments, segment(1)),
        await store.changes.between("device:d1", Axis.PRESENCE, UtcMicros(0), UtcMicros(99)),
        await store.people.users(),
        await store.people.session(session().token_hash),
        await store.people.failed_sign_ins("op", UtcMicros(0)),
        await store.people.regions(UtcMicros(200)),
        await store.streams.all(),
        await store.streams.attempts(CHANNEL),
        (await store.audit.rows(page)).items,
        await store.audit.verify(),
    ]


async def test_rows_outlive_the_store_that_wrote_them(reopen: Reopen):
    first = await reopen()
    await fill(first)
    written = await told(first)
    await first.close()

    second = await reopen()
    assert await told(second) == written
    [(_, secret)] = await second.devices.all_devices()
    assert secret.password == "correct horse"
    await second.close()


async def test_two_stores_at_once_see_the_same_rows(store: Store, reopen: Reopen):
    other = await reopen("node-2")
    await fill(store)

    assert await told(other) == await told(store)
    device = (await other.devices.devices(PageRequest())).items[0]
    await other.devices.remove_device(device.id)
    assert await store.devices.planned_channels() == []
    await other.close()


async def test_a_lease_outlives_its_holder_until_its_end(
    store: Store, reopen: Reopen, clock: ManualClock
):
    await store.leases.claim("reaper", "node-1", 3_600)

    other = await reopen("node-2")
    assert await other.leases.claim("reaper", "node-2", 3_600) is None
    await other.close()


async def test_a_chain_is_continued_by_the_next_life_of_its_node(reopen: Reopen):
    for _ in range(3):
        life = await reopen()
        async with life.audit.act(None, Action.LIST, "x"):
            pass
        await life.close()

    last = await reopen()
    assert [row.seq for row in (await last.audit.rows(PageRequest())).items] == [6, 5, 4, 3, 2, 1]
    assert await last.audit.verify() == 6
    await last.close()
