import asyncio

from vsp.store import Store


async def test_a_free_lease_is_held_and_renewed_with_one_epoch(store: Store):
    first = await store.leases.claim("reaper", "node-1", 30)
    renewed = await store.leases.claim("reaper", "node-1", 30)

    assert first == renewed == 1


async def test_another_holder_waits_until_it_ends(store: Store):
    await store.leases.claim("reaper", "node-1", 30)

    assert await store.leases.claim("reaper", "node-2", 30) is None
    assert await store.leases.claim("other", "node-2", 30) == 1


async def test_an_ended_lease_changes_hands_with_a_higher_epoch(store: Store):
    await store.leases.claim("reaper", "node-1", 0)

    assert await store.leases.claim("reaper", "node-2", 30) == 2
    assert await store.leases.claim("reaper", "node-1", 30) is None


async def test_who_slept_through_its_own_end_gets_a_new_epoch(store: Store):
    await store.leases.claim("reaper", "node-1", 0)

    assert await store.leases.claim("reaper", "node-1", 30) == 2


async def test_giving_up_frees_it_and_only_the_holder_can(store: Store):
    await store.leases.claim("reaper", "node-1", 30)

    await store.leases.give_up("reaper", "node-2")
    assert await store.leases.claim("reaper", "node-2", 30) is None

    await store.leases.give_up("reaper", "node-1")
    assert await store.leases.claim("reaper", "node-2", 30) == 2
    await store.leases.give_up("never claimed", "node-1")


async def test_of_many_who_claim_at_once_one_holds(store: Store):
    claims = [store.leases.claim("reaper", f"node-{n}", 30) for n in range(20)]

    epochs = await asyncio.gather(*claims)

    assert [epoch for epoch in epochs if epoch is not None] == [1]
