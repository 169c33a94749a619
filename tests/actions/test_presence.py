"""Channels go with their device and come back as what the device reports of them."""

from dataclasses import replace

from tests.actions.scripted import channel
from vsp.actions.presence import ChannelPresence, presence_of
from vsp.model.changes import Axis
from vsp.model.device import CatalogItem, NewDevice, Presence, RecordPlan
from vsp.model.ids import GbId, UtcMicros
from vsp.ports import PageRequest

RECORDER = GbId("34020000001180000001")


def test_a_channel_of_a_lost_device_is_offline_whatever_was_reported():
    reported_on = replace(channel(1), reported=Presence.ONLINE)

    assert presence_of(reported_on, Presence.OFFLINE) is Presence.OFFLINE
    assert presence_of(reported_on, Presence.ONLINE) is Presence.ONLINE


def test_a_channel_reported_off_stays_off_when_its_device_is_back():
    reported_off = replace(channel(1), reported=Presence.OFFLINE)

    assert presence_of(reported_off, Presence.ONLINE) is Presence.OFFLINE


def test_a_channel_of_which_nothing_is_reported_is_as_its_device():
    silent = replace(channel(1), reported=Presence.UNKNOWN)

    assert presence_of(silent, Presence.ONLINE) is Presence.ONLINE


async def test_every_channel_follows_and_each_change_is_on_the_log(rig):
    store, at = rig.store, UtcMicros(1)
    device = await store.devices.add_device(NewDevice(RECORDER, "lamp-77"), at, RecordPlan.NONE)
    items = [
        CatalogItem(GbId(f"3402000000132{number:07d}"), f"门 {number}", status=Presence.ONLINE)
        for number in range(1, 8)
    ]
    items[0] = replace(items[0], status=Presence.OFFLINE)
    await store.devices.apply_catalog(device.id, items, len(items), True, at)
    now = {device.id: Presence.OFFLINE}
    follower = ChannelPresence(store.devices, store.changes, rig.clock, now.__getitem__)

    async def states() -> list[Presence]:
        found = await store.devices.channels(PageRequest(), device_id=device.id)
        return [found_channel.presence for found_channel in found.items]

    await follower.follow(device.id, "no heartbeat for 180 s")
    assert set(await states()) == {Presence.OFFLINE}
    now[device.id] = Presence.ONLINE
    await follower.follow(device.id, "registered")

    assert sorted(await states()) == [Presence.OFFLINE, *[Presence.ONLINE] * 6]
    second = (await store.devices.channels(PageRequest(), device_id=device.id)).items[1]
    log = await store.changes.between(
        f"channel:{second.id}", Axis.PRESENCE, UtcMicros(0), UtcMicros(1 << 60)
    )
    assert [point.state for point in log] == ["offline", "online"]


async def test_what_a_catalogue_says_is_on_the_log_with_its_cause(rig):
    store, at = rig.store, UtcMicros(1)
    device = await store.devices.add_device(NewDevice(RECORDER, "lamp-77"), at, RecordPlan.NONE)
    follower = ChannelPresence(
        store.devices, store.changes, rig.clock, lambda device_id: Presence.ONLINE
    )
    gate = CatalogItem(GbId("34020000001320000001"), "门", status=Presence.ONLINE)

    for status in (Presence.ONLINE, Presence.OFFLINE, Presence.OFFLINE, Presence.ONLINE):
        await store.devices.apply_catalog(device.id, [replace(gate, status=status)], 1, True, at)
        await follower.follow(device.id, "catalogue")

    [known] = (await store.devices.channels(PageRequest(), device_id=device.id)).items
    log = await store.changes.between(
        f"channel:{known.id}", Axis.PRESENCE, UtcMicros(0), UtcMicros(1 << 60)
    )
    assert [(point.state, point.cause, point.evidence) for point in log] == [
        ("online", "the device reports online", "catalogue"),
        ("offline", "the device reports offline", "catalogue"),
        ("online", "the device reports online", "catalogue"),
    ]
