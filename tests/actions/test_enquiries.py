"""Questions to a device, and who may put them."""

import pytest

from tests.actions.rig import CHANNEL_GB_ID, GB_ID, Rig
from vsp.errors import Denied, NotFound, Unavailable
from vsp.model.people import Role


async def test_an_operator_asks_a_device_for_its_facts_and_status(rig: Rig):
    await rig.channel()
    actor = await rig.user(Role.OPERATOR)

    assert (await rig.actions.enquiries.info(actor, GB_ID)).model == "M-1"
    assert (await rig.actions.enquiries.status(actor, GB_ID))["Online"] == "ONLINE"


async def test_reading_a_trace_is_audited(rig: Rig):
    channel = await rig.channel()
    actor = await rig.user(Role.OPERATOR)

    lines = await rig.actions.enquiries.trace(actor, GB_ID, 10)

    assert [line.summary for line in lines] == ["REGISTER"]
    subject = f"device:{channel.device_id}"
    assert (await rig.audited())[-1] == ("ended", "operator", "trace", subject, "ok")


async def test_an_auditor_reads_no_trace(rig: Rig):
    await rig.channel()
    actor = await rig.user(Role.AUDITOR)

    for ask in (rig.actions.enquiries.info, rig.actions.enquiries.status):
        with pytest.raises(Denied):
            await ask(actor, GB_ID)
    with pytest.raises(Denied):
        await rig.actions.enquiries.trace(actor, GB_ID, 10)


async def test_a_refreshed_catalogue_says_what_it_changed(rig: Rig):
    await rig.channel()
    admin = await rig.user(Role.ADMIN)

    assert (await rig.actions.enquiries.refresh_catalog(admin, GB_ID)).added == (CHANNEL_GB_ID,)

    rig.signal.failure = Unavailable("no answer within 10 s")
    with pytest.raises(Unavailable):
        await rig.actions.enquiries.refresh_catalog(admin, GB_ID)
    assert (await rig.audited())[-1][4] == "unavailable"


async def test_an_unknown_device_is_not_asked(rig: Rig):
    actor = await rig.user(Role.ADMIN)

    with pytest.raises(NotFound):
        await rig.actions.enquiries.info(actor, GB_ID)
