"""The door: what is hidden and what does not exist look alike, and refusals are written down."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.actions.rig import CHANNEL_GB_ID, GB_ID, Rig
from tests.actions.rig import rig as open_rig
from vsp.access.policy import PLATFORM
from vsp.errors import Conflict, Denied, NotFound, VspError
from vsp.model.ids import GbId
from vsp.model.people import Action, Role


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path) as opened:
        yield opened


async def test_an_object_is_found_by_our_id_and_by_its_code(rig: Rig):
    channel = await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    access = rig.actions.access

    device = await access.device(actor, GB_ID)

    assert (await access.device(actor, device.id)).gb_id == GB_ID
    assert (await access.channel(actor, channel.id)).id == channel.id
    assert (await access.channel(actor, CHANNEL_GB_ID)).id == channel.id


@pytest.mark.parametrize(
    "reference",
    [
        "0" * 28,
        "34020000001320009999",
        "../../etc/passwd",
        "",
        "a" * 65,
        "' OR 1=1",
        "\x00",
        "频道",
    ],
)
async def test_whatever_does_not_exist_answers_the_same(rig: Rig, reference: str):
    actor = await rig.user(Role.ADMIN)

    with pytest.raises(NotFound) as device:
        await rig.actions.access.device(actor, reference)
    with pytest.raises(NotFound) as channel:
        await rig.actions.access.channel(actor, reference)

    assert device.value.message == "no such device"
    assert channel.value.message == "no such channel"


async def test_without_the_right_a_known_and_an_unknown_id_cannot_be_told_apart(rig: Rig):
    known = await rig.channel()
    actor = await rig.user(Role.AUDITOR)
    words = set()

    for reference in (known.id, "0" * 28, CHANNEL_GB_ID, "34020000001320009999"):
        with pytest.raises(VspError) as refused:
            await rig.actions.access.channel(actor, reference, Action.VIEW_LIVE)
        words.add((refused.value.kind, refused.value.message, refused.value.cause))

    assert len(words) == 1


async def test_a_code_that_two_devices_use_asks_for_our_id(rig: Rig):
    await rig.channel()
    await rig.channel(gb_id=GbId("34020000001180000002"))
    actor = await rig.user(Role.OPERATOR)

    with pytest.raises(Conflict, match="2 channels"):
        await rig.actions.access.channel(actor, CHANNEL_GB_ID)


async def test_a_refused_act_is_audited_from_beginning_to_end(rig: Rig):
    actor = await rig.user(Role.OPERATOR)

    with pytest.raises(Denied):
        async with rig.actions.access.act(actor, Action.USER_MANAGE, PLATFORM):
            raise AssertionError("not reached")

    assert (await rig.audited())[-2:] == [
        ("opened", "operator", "user_manage", "platform", ""),
        ("ended", "operator", "user_manage", "platform", "denied"),
    ]
