"""Devices: the register, its import, and the unknown ones that knock."""

import pytest

from tests.actions.rig import DEVICE_PASSWORD, GB_ID, NOON_US, Rig
from vsp.actions.devices import BATCH_MAX, DeviceChanges
from vsp.actions.imports import parse_devices
from vsp.errors import Conflict, Denied, Invalid, NotFound
from vsp.model.changes import Axis, ChangePoint
from vsp.model.device import (
    Candidate,
    Charset,
    DeviceSettings,
    NewDevice,
    Presence,
    RecordPlan,
    Transport,
)
from vsp.model.ids import GbId, UtcMicros
from vsp.model.people import Role
from vsp.ports import PageRequest

OTHER = GbId("34020000001320000002")
PAGE = PageRequest()


async def test_a_device_is_added_and_signalling_hears_of_it_with_its_secret(rig: Rig):
    admin = await rig.user(Role.ADMIN)

    entry = await rig.actions.devices.add(admin, NewDevice(GB_ID, DEVICE_PASSWORD, " 东门\x07 "))

    assert (entry.device.gb_id, entry.device.name, entry.channels) == (GB_ID, "东门", 0)
    (told,) = rig.signal.added
    assert told[0].id == entry.device.id
    assert told[1].password == DEVICE_PASSWORD


@pytest.mark.parametrize(
    ("gb_id", "password"),
    [
        (GB_ID, ""),
        (GB_ID, GB_ID),
        ("123", DEVICE_PASSWORD),
        ("3402000000118000000a", DEVICE_PASSWORD),
        (GB_ID + "\n", DEVICE_PASSWORD),
        ("３４０２００００００１１８０００００００１", DEVICE_PASSWORD),
    ],
)
async def test_a_bad_code_and_an_unusable_password_are_refused(rig: Rig, gb_id: str, password: str):
    admin = await rig.user(Role.ADMIN)

    with pytest.raises(Invalid):
        await rig.actions.devices.add(admin, NewDevice(GbId(gb_id), password))

    assert rig.signal.added == []


@pytest.mark.parametrize(
    "settings", [DeviceSettings(auth_username='a"b'), DeviceSettings(version="20 22")]
)
async def test_settings_that_would_break_a_header_are_refused(rig: Rig, settings: DeviceSettings):
    admin = await rig.user(Role.ADMIN)

    with pytest.raises(Invalid):
        await rig.actions.devices.add(admin, NewDevice(GB_ID, DEVICE_PASSWORD, settings=settings))


async def test_a_code_is_added_once(rig: Rig):
    admin = await rig.user(Role.ADMIN)
    await rig.actions.devices.add(admin, NewDevice(GB_ID, DEVICE_PASSWORD))

    with pytest.raises(Conflict):
        await rig.actions.devices.add(admin, NewDevice(GB_ID, DEVICE_PASSWORD))


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AUDITOR])
async def test_only_an_administrator_changes_the_register(rig: Rig, role: Role):
    await rig.channel()
    actor = await rig.user(role)
    devices = rig.actions.devices

    with pytest.raises(Denied):
        await devices.add(actor, NewDevice(OTHER, DEVICE_PASSWORD))
    with pytest.raises(Denied):
        await devices.update(actor, GB_ID, lambda device: DeviceChanges(name="mine"))
    with pytest.raises(Denied):
        await devices.remove(actor, GB_ID)
    with pytest.raises(Denied):
        await devices.import_lines(actor, parse_devices("gb_id,password\n"), update=False)
    with pytest.raises(Denied):
        await devices.candidates(actor, PAGE)
    with pytest.raises(Denied):
        await devices.dismiss(actor, [OTHER])
    assert (await devices.get(actor, GB_ID)).channels == 1


async def test_a_list_is_searched_filtered_and_counted(rig: Rig):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    devices = rig.actions.devices

    found = await devices.list(actor, PAGE, "GATE", None)

    assert [(entry.device.gb_id, entry.channels) for entry in found.items] == [(GB_ID, 1)]
    assert (await devices.list(actor, PAGE, "nothing", None)).items == []
    assert (await devices.list(actor, PAGE, "", Presence.ONLINE)).items == []


async def test_a_change_reaches_signalling_with_the_old_or_the_new_secret(rig: Rig):
    admin = await rig.user(Role.ADMIN)
    await rig.actions.devices.add(admin, NewDevice(GB_ID, DEVICE_PASSWORD))
    settings = DeviceSettings(transport=Transport.TCP, charset=Charset.UTF8)

    await rig.actions.devices.update(admin, GB_ID, lambda d: DeviceChanges("西门", settings))
    await rig.actions.devices.update(
        admin, GB_ID, lambda d: DeviceChanges(password="cold-lamp-77-hill")
    )

    assert [secret.password for _, secret in rig.signal.added[1:]] == [
        DEVICE_PASSWORD,
        "cold-lamp-77-hill",
    ]
    told = rig.signal.added[-1][0]
    assert (told.name, told.settings) == ("西门", settings)


async def test_a_change_to_an_unusable_password_changes_nothing(rig: Rig):
    admin = await rig.user(Role.ADMIN)
    await rig.actions.devices.add(admin, NewDevice(GB_ID, DEVICE_PASSWORD))

    with pytest.raises(Invalid):
        await rig.actions.devices.update(admin, GB_ID, lambda d: DeviceChanges(password=GB_ID))

    assert len(rig.signal.added) == 1


async def test_removing_a_device_ends_its_registration_and_its_views(rig: Rig):
    channel = await rig.channel()
    admin = await rig.user(Role.ADMIN)
    opened = await rig.actions.views.open_live(admin, channel.id)

    await rig.actions.devices.remove(admin, GB_ID)

    assert rig.signal.removed == [channel.device_id]
    assert rig.streams.detached == [(opened.view.id, "the device was removed")]
    with pytest.raises(NotFound):
        await rig.actions.devices.get(admin, GB_ID)


async def test_an_import_adds_the_good_lines_and_names_the_bad_ones(rig: Rig):
    admin = await rig.user(Role.ADMIN)
    await rig.actions.devices.add(admin, NewDevice(GB_ID, DEVICE_PASSWORD))
    lines = parse_devices(
        "gb_id,password,name\n"
        f"{OTHER},x7Kd92mP,ok\n"
        f"{GB_ID},x7Kd92mP,taken\n"
        "12,x7Kd92mP,short\n"
        "34020000001320000003,,empty\n"
        "34020000001320000004,34020000001320000004,its own code\n"
    )

    result = await rig.actions.devices.import_lines(admin, lines, update=False)

    assert (result.added, result.updated, result.total) == (1, 0, 5)
    failed = {line.line: line.error for line in result.failed}
    assert sorted(failed) == [3, 4, 5, 6]
    assert "exists" in failed[3]
    assert "empty" in failed[5]
    assert "own code" in failed[6]


async def test_an_import_may_update_what_is_known(rig: Rig):
    admin = await rig.user(Role.ADMIN)
    await rig.actions.devices.add(admin, NewDevice(GB_ID, DEVICE_PASSWORD, "old"))
    lines = parse_devices(f"gb_id,password,name\n{GB_ID},x7Kd92mP,new\n{OTHER},x7Kd92mP,\n")

    result = await rig.actions.devices.import_lines(admin, lines, update=True)

    assert (result.added, result.updated, result.failed) == (1, 1, ())
    assert (await rig.actions.devices.get(admin, GB_ID)).device.name == "new"
    assert rig.signal.added[-2][1].password == "x7Kd92mP"


async def test_an_import_is_one_act_in_the_audit_log(rig: Rig):
    admin = await rig.user(Role.ADMIN)
    before = len(await rig.audited())

    await rig.actions.devices.import_lines(
        admin, parse_devices(f"gb_id,password\n{OTHER},x7Kd92mP\n"), update=False
    )

    assert len(await rig.audited()) == before + 2


async def test_the_plan_of_a_new_device_is_the_one_asked_for(rig: Rig):
    admin = await rig.user(Role.ADMIN)

    await rig.actions.devices.add(
        admin, NewDevice(GB_ID, DEVICE_PASSWORD, record_plan=RecordPlan.NONE)
    )

    assert await rig.store.devices.planned_channels() == []


async def test_history_tells_when_a_device_came_and_went(rig: Rig):
    channel = await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    point = ChangePoint(
        f"device:{channel.device_id}", Axis.PRESENCE, NOON_US, "online", "registered", "REGISTER"
    )
    await rig.store.changes.append([point])
    devices = rig.actions.devices

    points = await devices.history(actor, GB_ID, UtcMicros(NOON_US - 1), UtcMicros(NOON_US + 1))

    assert [(p.state, p.evidence) for p in points] == [("online", "REGISTER")]
    with pytest.raises(Invalid):
        await devices.history(actor, GB_ID, NOON_US, NOON_US)
    with pytest.raises(Invalid):
        await devices.history(actor, GB_ID, UtcMicros(0), NOON_US)


# ---- candidates -----------------------------------------------------------------------------


def knocking(gb_id: GbId) -> Candidate:
    return Candidate(gb_id, "192.0.2.9", 5060, Transport.UDP, "IPC", NOON_US, NOON_US, 3)


async def test_a_candidate_becomes_a_device_with_a_password_of_its_own(rig: Rig):
    admin = await rig.user(Role.ADMIN)
    await rig.store.devices.saw_candidates([knocking(GB_ID), knocking(OTHER)])

    result = await rig.actions.devices.approve(
        admin, [NewDevice(GB_ID, DEVICE_PASSWORD, "gate"), NewDevice(OTHER, OTHER)]
    )

    assert result.approved == 1
    assert [failed.gb_id for failed in result.failed] == [OTHER]
    left = await rig.actions.devices.candidates(admin, PAGE)
    assert [candidate.gb_id for candidate in left.items] == [OTHER]
    assert (await rig.actions.devices.get(admin, GB_ID)).device.name == "gate"


async def test_a_dismissed_candidate_is_gone_until_it_knocks_again(rig: Rig):
    admin = await rig.user(Role.ADMIN)
    await rig.store.devices.saw_candidates([knocking(GB_ID)])

    await rig.actions.devices.dismiss(admin, [GB_ID])

    assert (await rig.actions.devices.candidates(admin, PAGE)).items == []


@pytest.mark.parametrize("size", [0, BATCH_MAX + 1])
async def test_batches_are_bounded(rig: Rig, size: int):
    admin = await rig.user(Role.ADMIN)

    with pytest.raises(Invalid):
        await rig.actions.devices.dismiss(admin, [GB_ID] * size)
    with pytest.raises(Invalid):
        await rig.actions.devices.approve(admin, [NewDevice(GB_ID, "x")] * size)
