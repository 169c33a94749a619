"""The platform's own numbers, and who may read which."""

import pytest

from tests.actions.rig import CHANNEL_GB_ID, Rig
from vsp.errors import Denied
from vsp.model.people import Role
from vsp.ports import PageRequest


async def test_the_header_counts_what_is_there(rig: Rig):
    channel = await rig.channel()
    actor = await rig.user(Role.OPERATOR)
    rig.streams.recording.add(channel.id)
    await rig.actions.views.open_live(actor, CHANNEL_GB_ID)

    counts = await rig.actions.overview.counts(actor)

    assert (counts.devices, counts.channels, counts.candidates) == (1, 1, 0)
    assert (counts.streams, counts.recording, counts.views) == (1, 1, 1)


async def test_metrics_and_the_audit_log_are_for_auditors_and_administrators(rig: Rig):
    operator = await rig.user(Role.OPERATOR)
    auditor = await rig.user(Role.AUDITOR)
    overview = rig.actions.overview

    with pytest.raises(Denied):
        overview.metrics(operator)
    with pytest.raises(Denied):
        await overview.audit_rows(operator, PageRequest())

    assert "vsp_views_opened" in overview.metrics(auditor)
    newest = (await overview.audit_rows(auditor, PageRequest(1))).items[0]
    assert newest.actor == "auditor"


async def test_the_registers_are_listed_as_of_now(rig: Rig):
    actor = await rig.user(Role.OPERATOR)

    assert list(await rig.actions.overview.regions(actor)) == []
    assert list(await rig.actions.overview.departments(actor)) == []
