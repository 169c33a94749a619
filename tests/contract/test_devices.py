import asyncio

import pytest

from tests.contract.manual import ManualClock
from tests.contract.samples import CAMERA, NVR, candidate, item, new_device, nvr_id
from vsp.errors import Conflict, Invalid, NotFound
from vsp.model.device import (
    Binding,
    Charset,
    DeviceKind,
    DeviceSettings,
    DigestAlgorithm,
    MediaTransport,
    Presence,
    RecordPlan,
    Transport,
)
from vsp.model.ids import DeviceId, UtcMicros
from vsp.ports import PAGE_SIZE_MAX, DeviceFacts, DeviceState, PageRequest
from vsp.store import Store

BINDING = Binding(
    transport=Transport.TCP,
    host="192.0.2.20",
    port=40_001,
    contact="sip:34020000001180000001@10.0.0.9:5060",
    registered_at_us=UtcMicros(10),
    expires_at_us=UtcMicros(3_600_000_010),
    user_agent="NVR/4.2 华",
    gb_version="2.0",
)


def state(device_id: DeviceId, **changes) -> DeviceState:
    values = {
        "binding": BINDING,
        "last_seen_us": UtcMicros(20),
        "presence": Presence.ONLINE,
        "presence_since_us": UtcMicros(10),
        **changes,
    }
    return DeviceState(device_id, **values)


async def test_an_added_device_is_found_by_id_and_by_code(store: Store):
    added = await store.devices.add_device(
        new_device(name="North gate"), UtcMicros(5), RecordPlan.ALWAYS
    )

    assert added.gb_id == NVR
    assert added.name == "North gate"
    assert added.kind is DeviceKind.RECORDER
    assert added.presence is Presence.UNKNOWN
    assert added.created_at_us == 5
    assert await store.devices.device(added.id) == added
    assert await store.devices.device_by_gb_id(NVR) == added
    assert await store.devices.device_by_gb_id(CAMERA) is None


async def test_settings_come_back_as_given(store: Store):
    settings = DeviceSettings(
        auth_username="nvr-7",
        transport=Transport.TCP,
        media_transport=MediaTransport.TCP_PASSIVE,
        charset=Charset.GB18030,
        version="2022",
        digest=DigestAlgorithm.SM3,
        keepalive_interval_s=30,
        keepalive_misses=5,
        send_date=False,
    )

    added = await store.devices.add_device(
        new_device(settings=settings), UtcMicros(1), RecordPlan.NONE
    )
    changed = await store.devices.update_device(added.id, settings=DeviceSettings(), name="x")

    assert added.settings == settings
    assert changed.settings == DeviceSettings()
    assert changed.name == "x"


async def test_a_taken_code_is_a_conflict_and_changes_nothing(store: Store):
    first = await store.devices.add_device(new_device(), UtcMicros(1), RecordPlan.NONE)

    with pytest.raises(Conflict, match=NVR):
        await store.devices.add_device(new_device(name="other"), UtcMicros(2), RecordPlan.NONE)

    assert await store.devices.device_by_gb_id(NVR) == first


async def test_of_two_who_add_the_same_code_at_once_one_wins(store: Store):
    adding = [
        store.devices.add_device(new_device(), UtcMicros(1), RecordPlan.NONE) for _ in range(5)
    ]

    results = await asyncio.gather(*adding, return_exceptions=True)

    assert sum(isinstance(result, Conflict) for result in results) == 4


async def test_secrets_are_loaded_with_their_devices_and_follow_a_change(store: Store):
    one = await store.devices.add_device(new_device(), UtcMicros(1), RecordPlan.NONE)
    two = await store.devices.add_device(
        new_device(gb_id=nvr_id(2), password="第二"), UtcMicros(1), RecordPlan.NONE
    )
    await store.devices.update_device(one.id, password="battery staple")

    found = {device.id: secret for device, secret in await store.devices.all_devices()}

    assert found[one.id].password == "battery staple"
    assert found[two.id].password == "第二"
    assert found[two.id].device_id == two.id


async def test_more_devices_than_are_turned_into_nouns_at_once_are_all_loaded(store: Store):
    await asyncio.gather(
        *(
            store.devices.add_device(new_device(gb_id=nvr_id(n)), UtcMicros(1), RecordPlan.NONE)
            for n in range(1, 71)
        )
    )

    assert len(await store.devices.all_devices()) == 70


async def test_a_saved_state_carries_binding_presence_and_last_seen(store: Store):
    added = await store.devices.add_device(new_device(), UtcMicros(1), RecordPlan.NONE)

    await store.devices.save_states([state(added.id)])
    there = await store.devices.device(added.id)
    await store.devices.save_states(
        [
            state(
                added.id,
                binding=None,
                last_seen_us=None,
                presence=Presence.OFFLINE,
                presence_since_us=UtcMicros(99),
            )
        ]
    )
    gone = await store.devices.device(added.id)

    assert there.binding == BINDING
    assert there.presence is Presence.ONLINE
    assert gone.binding is None
    assert (gone.presence, gone.presence_since_us) == (Presence.OFFLINE, 99)
    assert gone.last_seen_us == 20, "what was known is not forgotten by not knowing"


async def test_states_of_unknown_devices_are_dropped_without_harm_to_the_others(store: Store):
    added = await store.devices.add_device(new_device(), UtcMicros(1), RecordPlan.NONE)

    await store.devices.save_states([state(DeviceId("nobody")), state(added.id)])

    assert (await store.devices.device(added.id)).presence is Presence.ONLINE


async def test_what_a_device_says_of_itself_does_not_replace_its_given_name(store: Store):
    named = await store.devices.add_device(new_device(name="ours"), UtcMicros(1), RecordPlan.NONE)
    plain = await store.devices.add_device(
        new_device(gb_id=nvr_id(2)), UtcMicros(1), RecordPlan.NONE
    )
    facts = DeviceFacts(manufacturer="Vendor", model="X1", firmware="V1.0", name="theirs")

    for device in (named, plain):
        await store.devices.save_facts(device.id, facts)

    told = await store.devices.device(plain.id)
    assert (told.name, told.manufacturer, told.model, told.firmware) == (
        "theirs",
        "Vendor",
        "X1",
        "V1.0",
    )
    assert (await store.devices.device(named.id)).name == "ours"


async def test_a_removed_device_is_gone_with_its_channels_and_its_code_is_free(store: Store):
    added = await store.devices.add_device(new_device(), UtcMicros(1), RecordPlan.ALWAYS)
    await store.devices.apply_catalog(added.id, [item()], 1, True, UtcMicros(2))
    channel = (await store.devices.channels(PageRequest())).items[0]

    await store.devices.remove_device(added.id)

    for call in (
        store.devices.device(added.id),
        store.devices.remove_device(added.id),
        store.devices.update_device(added.id, name="x"),
        store.devices.save_facts(added.id, DeviceFacts("", "", "", "")),
        store.devices.apply_catalog(added.id, [item()], 1, True, UtcMicros(2)),
        store.devices.channel(channel.id),
    ):
        with pytest.raises(NotFound):
            await call
    assert await store.devices.device_by_gb_id(NVR) is None
    assert not await store.devices.all_devices()
    assert not await store.devices.planned_channels()
    assert not (await store.devices.channels(PageRequest())).items
    again = await store.devices.add_device(new_device(), UtcMicros(3), RecordPlan.NONE)
    assert again.id != added.id


async def test_pages_walk_the_whole_list_once_in_the_order_of_codes(store: Store):
    for number in (3, 1, 5, 2, 4):
        await store.devices.add_device(
            new_device(gb_id=nvr_id(number)), UtcMicros(1), RecordPlan.NONE
        )

    seen, after, totals = [], None, []
    while True:
        page = await store.devices.devices(PageRequest(size=2, after=after))
        seen += [device.gb_id for device in page.items]
        totals.append(page.total)
        after = page.next
        if after is None:
            break

    assert seen == [nvr_id(n) for n in range(1, 6)]
    assert totals == [5, None, None]


async def test_search_and_presence_narrow_the_list(store: Store):
    for number, name in ((1, "North Gate"), (2, "south gate"), (3, "100%_done")):
        added = await store.devices.add_device(
            new_device(gb_id=nvr_id(number), name=name), UtcMicros(1), RecordPlan.NONE
        )
    await store.devices.save_states([state(added.id)])

    async def names(**wanted) -> list[str]:
        page = await store.devices.devices(PageRequest(), **wanted)
        assert page.total == len(page.items)
        return [device.name for device in page.items]

    assert await names(search="GATE") == ["North Gate", "south gate"]
    assert await names(search="%_") == ["100%_done"]
    assert await names(search="_") == ["100%_done"], "a wildcard is text"
    assert await names(search="192.0.2.2") == ["100%_done"]
    assert await names(search="'; DROP TABLE devices; --") == []
    assert await names(search="0000002") == ["south gate"]
    assert await names(presence=Presence.ONLINE) == ["100%_done"]
    assert await names(presence=Presence.UNKNOWN, search="north") == ["North Gate"]


@pytest.mark.parametrize(
    "cursor", ["", "x", "W10", "WyJhIl0", "é", "WzEsMl0", "A" * 5000, "bnVsbA"]
)
async def test_a_foreign_cursor_is_invalid(store: Store, cursor: str):
    with pytest.raises(Invalid):
        await store.devices.devices(PageRequest(after=cursor))


async def test_a_page_has_a_size_within_limits(store: Store):
    with pytest.raises(Invalid):
        await store.devices.devices(PageRequest(size=0))

    page = await store.devices.devices(PageRequest(size=PAGE_SIZE_MAX * 10))

    assert page.next is None


async def test_text_no_database_can_hold_is_cleaned(store: Store):
    hostile = "a\x00b\ud800c" + "x" * 10_000
    added = await store.devices.add_device(new_device(name=hostile), UtcMicros(1), RecordPlan.NONE)

    assert added.name.startswith("a\ufffdb?cxxx")
    assert len(added.name) == 512
    for search in ("a\x00b", "B\ud800C", "x" * 10_000):
        page = await store.devices.devices(PageRequest(), search=search)
        assert len(page.items) == (0 if search.startswith("x") else 1)


async def test_counts_count_what_is_present(store: Store, clock: ManualClock):
    one = await store.devices.add_device(new_device(), UtcMicros(1), RecordPlan.NONE)
    two = await store.devices.add_device(new_device(gb_id=nvr_id(2)), UtcMicros(1), RecordPlan.NONE)
    await store.devices.save_states([state(one.id), state(two.id)])
    off = item(2, status=Presence.OFFLINE)
    folder = item(3, gb_id="34020000002160000001")
    await store.devices.apply_catalog(one.id, [item(1), off, folder], 3, True, UtcMicros(1))
    await store.devices.apply_catalog(two.id, [item(9)], 1, True, UtcMicros(1))
    shown = (await store.devices.channels(PageRequest())).items
    judged = [(channel.id, channel.reported, UtcMicros(2)) for channel in shown]
    await store.devices.save_presence(judged)
    await store.devices.saw_candidates([candidate(7)])
    await store.devices.remove_device(two.id)

    counts = await store.devices.counts()

    assert counts == {
        "devices": 1,
        "devices_online": 1,
        "channels": 2,
        "channels_online": 1,
        "candidates": 1,
    }


async def test_the_secret_of_one_device_is_its_password(store: Store):
    device = await store.devices.add_device(new_device(gb_id=CAMERA), UtcMicros(1), RecordPlan.NONE)

    secret = await store.devices.secret(device.id)

    assert (secret.device_id, secret.password) == (device.id, new_device(gb_id=CAMERA).password)
    with pytest.raises(NotFound):
        await store.devices.secret(DeviceId("nobody"))
