import asyncio
from dataclasses import replace

import pytest

from tests.contract.manual import ManualClock
from tests.contract.samples import CAMERA, NVR, camera_id, item, new_device, nvr_id
from vsp.errors import Invalid, NotFound
from vsp.model.device import (
    CatalogItem,
    Channel,
    ChannelClass,
    ChannelLabel,
    Device,
    Presence,
    RecordPlan,
)
from vsp.model.ids import ChannelId, DepartmentId, DeviceId, RegionId, UtcMicros
from vsp.ports import PageRequest
from vsp.store import Store

AT = UtcMicros(1_000)
LATER = UtcMicros(2_000)


@pytest.fixture
async def device(store: Store) -> Device:
    return await store.devices.add_device(new_device(), UtcMicros(1), RecordPlan.ALWAYS)


async def all_channels(store: Store, **wanted) -> list[Channel]:
    return list((await store.devices.channels(PageRequest(size=500), **wanted)).items)


async def test_a_new_item_becomes_a_channel_with_the_devices_plan(store: Store, device: Device):
    reported = item(
        manufacturer="Vendor",
        model="X",
        address="Gate road 1",
        civil_code="340200",
        longitude=118.5,
        latitude=31.25,
        ptz_type=3,
    )

    diff = await store.devices.apply_catalog(device.id, [reported], 1, True, AT)

    [channel] = await all_channels(store)
    assert diff.added == (CAMERA,)
    assert (diff.changed, diff.missing, diff.received) == ((), (), 1)
    assert channel.device_id == device.id
    assert channel.name == "Gate 1"
    assert channel.playable
    assert channel.record_plan is RecordPlan.ALWAYS
    assert (channel.presence, channel.presence_since_us) == (Presence.UNKNOWN, AT)
    assert channel.reported is Presence.ONLINE
    assert channel.parent_gb_id == NVR
    assert (channel.manufacturer, channel.model) == ("Vendor", "X")
    assert (channel.address, channel.civil_code) == ("Gate road 1", "340200")
    assert (channel.longitude, channel.latitude, channel.ptz_type) == (118.5, 31.25, 3)
    assert await store.devices.channel(channel.id) == channel
    assert await store.devices.channels_by_gb_id(CAMERA) == [channel]


async def test_what_kind_an_item_is_decides_whether_it_plays_and_is_planned(
    store: Store, device: Device
):
    items = [
        item(1),
        item(2, gb_id=NVR, parental=True),
        item(3, gb_id="34020000002160000001"),
        item(4, gb_id="340200"),
        item(5, gb_id="34020000001340000001"),
        item(6, gb_id="34020000001110000009"),
    ]

    await store.devices.apply_catalog(device.id, items, 6, True, AT)

    playable = {c.gb_id: c.playable for c in await all_channels(store)}
    assert [code for code, plays in playable.items() if plays] == [
        "34020000001110000009",
        camera_id(1),
    ]
    assert len(playable) == 6
    planned = {channel.gb_id for channel in await store.devices.planned_channels()}
    assert planned == {"34020000001110000009", camera_id(1)}


async def test_a_device_that_is_not_recorded_gives_channels_that_are_not(store: Store):
    device = await store.devices.add_device(
        new_device(record_plan=RecordPlan.NONE), UtcMicros(1), RecordPlan.ALWAYS
    )

    await store.devices.apply_catalog(device.id, [item()], 1, True, AT)

    [channel] = await all_channels(store)
    assert channel.record_plan is RecordPlan.NONE
    assert not await store.devices.planned_channels()


async def test_the_same_catalogue_again_changes_nothing(store: Store, device: Device):
    items = [item(n) for n in range(1, 4)]
    await store.devices.apply_catalog(device.id, items, 3, True, AT)
    before = await all_channels(store)

    diff = await store.devices.apply_catalog(device.id, items[::-1], 3, True, LATER)

    assert (diff.added, diff.changed, diff.missing) == ((), (), ())
    assert await all_channels(store) == before
    told = await store.devices.device(device.id)
    assert (told.catalog_received, told.catalog_expected, told.catalog_complete) == (3, 3, True)
    assert told.catalog_at_us == LATER


async def test_a_changed_item_keeps_its_id(store: Store, device: Device):
    await store.devices.apply_catalog(device.id, [item(1), item(2)], 2, True, AT)
    before = {channel.gb_id: channel for channel in await all_channels(store)}

    renamed = item(1, name="Renamed", status=Presence.OFFLINE)
    diff = await store.devices.apply_catalog(device.id, [renamed, item(2)], 2, True, LATER)

    after = {channel.gb_id: channel for channel in await all_channels(store)}
    assert diff.changed == (camera_id(1),)
    assert after[camera_id(1)] == replace(
        before[camera_id(1)],
        name="Renamed",
        reported=Presence.OFFLINE,
    )
    assert after[camera_id(2)] == before[camera_id(2)]


async def test_presence_is_our_judgement_whatever_a_catalogue_says(store: Store, device: Device):
    await store.devices.apply_catalog(device.id, [item()], 1, True, AT)
    [channel] = await all_channels(store)
    await store.devices.save_presence([(channel.id, Presence.OFFLINE, UtcMicros(1_500))])

    back = item(name="other", status=Presence.ONLINE)
    await store.devices.apply_catalog(device.id, [back], 1, True, LATER)

    [judged] = await all_channels(store)
    assert (judged.name, judged.reported) == ("other", Presence.ONLINE)
    assert (judged.presence, judged.presence_since_us) == (Presence.OFFLINE, 1_500)


async def test_only_a_complete_answer_marks_missing_and_a_return_unmarks(
    store: Store, device: Device
):
    await store.devices.apply_catalog(device.id, [item(1), item(2)], 2, True, AT)
    ids = {channel.gb_id: channel.id for channel in await all_channels(store)}

    partial = await store.devices.apply_catalog(device.id, [item(1)], 2, False, LATER)
    assert partial.missing == ()
    assert all(channel.missing_since_us is None for channel in await all_channels(store))

    complete = await store.devices.apply_catalog(device.id, [item(1)], 1, True, LATER)
    again = await store.devices.apply_catalog(device.id, [item(1)], 1, True, UtcMicros(3_000))
    missing = await store.devices.channel(ids[camera_id(2)])
    assert complete.missing == (camera_id(2),)
    assert again.missing == (), "it is told once"
    assert missing.missing_since_us == LATER

    back = await store.devices.apply_catalog(device.id, [item(1), item(2)], 2, True, LATER)
    assert back.changed == (camera_id(2),)
    assert (await store.devices.channel(ids[camera_id(2)])).missing_since_us is None


async def test_a_code_on_two_devices_is_two_channels(store: Store, device: Device):
    other = await store.devices.add_device(
        new_device(gb_id=nvr_id(2)), UtcMicros(1), RecordPlan.NONE
    )
    for holder in (device, other):
        await store.devices.apply_catalog(holder.id, [item()], 1, True, AT)

    found = await store.devices.channels_by_gb_id(CAMERA)

    assert {channel.device_id for channel in found} == {device.id, other.id}
    assert len(await all_channels(store)) == 2
    assert len(await all_channels(store, device_id=other.id)) == 1
    counts = await store.devices.channel_counts([device.id, other.id, DeviceId("nobody")])
    assert counts == {device.id: 1, other.id: 1}


async def test_repeated_and_nameless_items_count_once_or_not_at_all(store: Store, device: Device):
    items = [item(1), item(1, name="twice"), item(2, gb_id=""), item(3, gb_id="  ")]

    diff = await store.devices.apply_catalog(device.id, items, 4, False, AT)

    assert diff.received == 1
    [channel] = await all_channels(store)
    assert channel.name == "twice"


async def test_hostile_items_are_bounded_and_do_no_harm(store: Store, device: Device):
    hostile = item(
        1,
        name="\x00" + "名" * 10_000,
        manufacturer="a\ud800b",
        longitude=float("nan"),
        latitude=1e300,
        ptz_type=1 << 80,
        secrecy=-(1 << 70),
        parent_ids=tuple(f"p{n}\x00" * 100 for n in range(1_000)),
        business_group_id="\x00" * 500,
        extra=tuple((f"n{n}" * 100, "v\x00" * 1_000) for n in range(500)),
    )
    odd = item(2, gb_id="x\x00y" * 100)

    diff = await store.devices.apply_catalog(device.id, [hostile, odd], 1 << 90, True, AT)

    assert diff.received == 2
    [channel] = await store.devices.channels_by_gb_id(camera_id(1))
    assert len(channel.name) == 512
    assert channel.manufacturer == "a?b"
    assert (channel.longitude, channel.latitude, channel.ptz_type) == (None, None, None)
    assert (await store.devices.device(device.id)).catalog_expected is None


async def test_a_large_catalogue_is_applied_whole_and_leaves_others_room(
    store: Store, device: Device
):
    items = [item(n) for n in range(1, 2_101)]

    async with asyncio.timeout(30):
        applying = asyncio.create_task(
            store.devices.apply_catalog(device.id, items, 2_100, True, AT)
        )
        while not applying.done():
            await store.devices.counts()
            await asyncio.sleep(0)  # memory answers without a turn of the loop
        diff = await applying

    assert len(diff.added) == 2_100
    assert (await store.devices.counts())["channels"] == 2_100
    assert len(await store.devices.planned_channels()) == 2_100
    fewer = await store.devices.apply_catalog(device.id, items[:100], 100, True, LATER)
    assert len(fewer.missing) == 2_000


async def test_two_answers_of_one_device_at_once_are_taken_one_after_the_other(
    store: Store, device: Device
):
    answers = [
        store.devices.apply_catalog(device.id, [item(n) for n in range(1, 600)], 599, True, AT)
        for _ in range(3)
    ]

    diffs = await asyncio.gather(*answers)

    assert sorted(len(diff.added) for diff in diffs) == [0, 0, 599]


async def test_a_given_name_holds_against_the_catalogue_until_it_is_emptied(
    store: Store, device: Device
):
    await store.devices.apply_catalog(device.id, [item()], 1, True, AT)
    [channel] = await all_channels(store)

    named = await store.devices.update_channel(channel.id, name="Ours")
    await store.devices.apply_catalog(device.id, [item(name="Theirs 2")], 1, True, LATER)

    assert named.name == "Ours"
    assert (await store.devices.channel(channel.id)).name == "Ours"
    assert (await store.devices.update_channel(channel.id, name="")).name == "Theirs 2"


async def test_a_plan_is_changed_but_not_for_what_has_no_picture(store: Store, device: Device):
    folder = item(2, gb_id="34020000002150000001")
    await store.devices.apply_catalog(device.id, [item(), folder], 2, True, AT)
    by_code = {channel.gb_id: channel for channel in await all_channels(store)}

    off = await store.devices.update_channel(by_code[CAMERA].id, record_plan=RecordPlan.NONE)

    assert off.record_plan is RecordPlan.NONE
    assert not await store.devices.planned_channels()
    assert await store.devices.update_channel(off.id) == off
    with pytest.raises(Invalid):
        await store.devices.update_channel(by_code[folder.gb_id].id, record_plan=RecordPlan.ALWAYS)
    with pytest.raises(NotFound):
        await store.devices.update_channel(ChannelId("nobody"), name="x")


async def test_search_finds_names_codes_and_places(store: Store, device: Device):
    items = [
        item(1, name="北门 50%"),
        item(2, name="South", address="Harbour"),
        item(3, civil_code="340299"),
    ]
    await store.devices.apply_catalog(device.id, items, 3, True, AT)

    async def found(search: str) -> list[str]:
        return [channel.gb_id[-1] for channel in await all_channels(store, search=search)]

    assert await found("北门") == ["1"]
    assert await found("50%") == ["1"]
    assert await found("%") == ["1"]
    assert await found("harb") == ["2"]
    assert await found("340299") == ["3"]
    assert await found("nothing like it") == []


async def test_pages_of_channels_walk_codes_that_repeat(store: Store, device: Device):
    other = await store.devices.add_device(
        new_device(gb_id=nvr_id(2)), UtcMicros(1), RecordPlan.NONE
    )
    for holder in (device, other):
        await store.devices.apply_catalog(holder.id, [item(n) for n in range(1, 6)], 5, True, AT)

    seen, after = [], None
    while True:
        page = await store.devices.channels(PageRequest(size=3, after=after))
        seen += [(channel.gb_id, channel.id) for channel in page.items]
        after = page.next
        if after is None:
            break

    assert len(seen) == len(set(seen)) == 10
    assert seen == sorted(seen)


async def test_a_placement_speaks_from_its_date_on(
    store: Store, device: Device, clock: ManualClock
):
    await store.devices.apply_catalog(device.id, [item()], 1, True, AT)
    [channel] = await all_channels(store)
    assert (channel.klass, channel.label) == (ChannelClass.ORDINARY, ChannelLabel.DEDICATED)
    assert channel.region_id is None
    now_us = clock.now_us()
    place = store.people.place_channel

    await place(channel.id, RegionId("r1"), DepartmentId("d1"), UtcMicros(now_us - 10))
    await place(channel.id, RegionId("r2"), None, UtcMicros(now_us + 1_000_000))

    before = await store.devices.channel(channel.id)
    clock.advance(2)
    [after] = await all_channels(store)
    assert (before.region_id, before.department_id) == ("r1", "d1")
    assert (after.region_id, after.department_id) == ("r2", None)
    with pytest.raises(NotFound):
        await place(ChannelId("nobody"), None, None, now_us)


async def test_a_placement_follows_a_clock_that_steps_back(
    store: Store, device: Device, clock: ManualClock
):
    await store.devices.apply_catalog(device.id, [item()], 1, True, AT)
    [channel] = await all_channels(store)
    now_us = clock.now_us()
    await store.people.place_channel(channel.id, RegionId("r1"), None, now_us)
    placed = await store.devices.channel(channel.id)

    clock.advance(-1)
    before = await store.devices.channel(channel.id)
    clock.advance(1)

    assert (placed.region_id, before.region_id) == ("r1", None)
    assert await store.devices.channel(channel.id) == placed


async def test_a_placement_survives_a_changed_item(store: Store, device: Device):
    await store.devices.apply_catalog(device.id, [item()], 1, True, AT)
    [channel] = await all_channels(store)
    await store.people.place_channel(channel.id, RegionId("r1"), None, UtcMicros(0))

    await store.devices.apply_catalog(device.id, [item(name="other")], 1, True, LATER)

    [changed] = await all_channels(store)
    assert (changed.name, changed.region_id) == ("other", "r1")


async def test_planned_channels_and_those_of_a_code_come_by_id(store: Store, device: Device):
    other = await store.devices.add_device(
        new_device(gb_id=nvr_id(2)), UtcMicros(1), RecordPlan.ALWAYS
    )
    for holder in (other, device):
        items = [item(n) for n in (3, 1, 2)]
        await store.devices.apply_catalog(holder.id, items, 3, True, AT)

    planned = [channel.id for channel in await store.devices.planned_channels()]
    of_code = [channel.id for channel in await store.devices.channels_by_gb_id(camera_id(1))]

    assert len(planned) == 6
    assert planned == sorted(planned)
    assert len(of_code) == 2
    assert of_code == sorted(of_code)


async def test_what_stops_playing_is_planned_no_more_until_it_plays_again(
    store: Store, device: Device
):
    encoder = item(gb_id="34020000001110000009")
    below = item(2, parent_ids=(encoder.gb_id,))

    async def planned(*items: CatalogItem) -> set[str]:
        await store.devices.apply_catalog(device.id, items, len(items), True, AT)
        return {channel.gb_id for channel in await store.devices.planned_channels()}

    assert await planned(encoder) == {encoder.gb_id}
    assert await planned(encoder, below) == {below.gb_id}
    assert await planned(encoder, replace(below, parent_ids=(NVR,))) == {encoder.gb_id, below.gb_id}
