"""What no database can hold, or should: every free text is cleaned and cut on its way in."""

from dataclasses import replace

from tests.contract.samples import candidate, item, new_device, row_of, segment, user
from tests.contract.test_changes import SUBJECT, point
from tests.contract.test_devices import BINDING, state
from tests.contract.test_people import session
from tests.contract.test_register import region
from tests.contract.test_streams import CHANNEL, DIALOG, attempt, dialog
from vsp.model.changes import Axis
from vsp.model.device import DeviceSettings, RecordPlan
from vsp.model.ids import DepartmentId, UtcMicros
from vsp.model.people import Department
from vsp.model.stream import AttemptStep
from vsp.ports import DeviceFacts, PageRequest
from vsp.store import Store

HOSTILE = "a\x00b\ud800c" + "x" * 10_000
WORDS = ("a\ufffdb?c" + "x" * 10_000)[:512]
NOTE = ("a\ufffdb?c" + "x" * 10_000)[:4_000]
AT = UtcMicros(1)


async def test_texts_of_a_device(store: Store):
    settings = DeviceSettings(auth_username=HOSTILE, version=HOSTILE)
    added = await store.devices.add_device(new_device(settings=settings), AT, RecordPlan.NONE)
    binding = replace(
        BINDING, host=HOSTILE, contact=HOSTILE, user_agent=HOSTILE, gb_version=HOSTILE
    )

    await store.devices.save_states([state(added.id, binding=binding)])
    await store.devices.save_facts(added.id, DeviceFacts(HOSTILE, HOSTILE, HOSTILE, HOSTILE))

    kept = await store.devices.device(added.id)
    assert (kept.settings.auth_username, kept.settings.version) == (WORDS, WORDS)
    assert kept.binding == replace(
        BINDING, host=WORDS, contact=WORDS, user_agent=WORDS, gb_version=WORDS
    )
    assert (kept.name, kept.manufacturer, kept.model, kept.firmware) == (WORDS,) * 4
    renamed = await store.devices.update_device(added.id, name=HOSTILE, settings=settings)
    assert (renamed.name, renamed.settings.version) == (WORDS, WORDS)


async def test_texts_of_a_channel(store: Store):
    device = await store.devices.add_device(new_device(), AT, RecordPlan.NONE)
    reported = item(
        name=HOSTILE, manufacturer=HOSTILE, model=HOSTILE, address=HOSTILE, civil_code=HOSTILE
    )

    await store.devices.apply_catalog(device.id, [reported], 1, True, AT)

    [kept] = (await store.devices.channels(PageRequest())).items
    assert (kept.name, kept.manufacturer, kept.model) == (WORDS, WORDS, WORDS)
    assert (kept.address, kept.civil_code) == (WORDS, WORDS)
    assert (await store.devices.update_channel(kept.id, name=HOSTILE + "ours")).name == WORDS
    for search in ("A\ufffdB", "a\x00b\ud800C"):
        found = await store.devices.channels(PageRequest(), search=search)
        assert [channel.id for channel in found.items] == [kept.id]


async def test_texts_of_a_candidate(store: Store):
    await store.devices.saw_candidates([candidate(host=HOSTILE, user_agent=HOSTILE)])

    [kept] = (await store.devices.candidates(PageRequest())).items
    assert (kept.host, kept.user_agent) == (WORDS, WORDS)


async def test_texts_of_a_change_point(store: Store):
    await store.changes.append([point(1, HOSTILE, cause=HOSTILE, evidence=HOSTILE)])

    [kept] = await store.changes.between(SUBJECT, Axis.PRESENCE, UtcMicros(0), UtcMicros(9))
    assert kept == point(1, WORDS, cause=NOTE, evidence=NOTE)


async def test_texts_of_a_segment(store: Store):
    await store.segments.commit([segment(codecs=HOSTILE)])

    assert await row_of(store.segments, segment()) == segment(codecs=WORDS)


async def test_texts_of_a_stream(store: Store):
    hostile = replace(
        DIALOG,
        call_id=HOSTILE,
        local_uri=HOSTILE,
        local_tag=HOSTILE,
        remote_uri=HOSTILE,
        remote_tag=HOSTILE,
        remote_target=HOSTILE,
        host=HOSTILE,
    )

    await store.streams.save(replace(dialog("c1"), dialog=hostile))

    [kept] = await store.streams.all()
    assert kept.dialog == replace(
        DIALOG,
        call_id=NOTE,
        local_uri=NOTE,
        local_tag=NOTE,
        remote_uri=NOTE,
        remote_tag=NOTE,
        remote_target=NOTE,
        host=NOTE,
    )


async def test_texts_of_an_attempt(store: Store):
    steps = (AttemptStep(AT, HOSTILE, HOSTILE),)
    hostile = attempt(
        purpose=HOSTILE, call_id=HOSTILE, cause=HOSTILE, next_step=HOSTILE, steps=steps
    )

    await store.streams.save_attempt(hostile)

    assert await store.streams.attempts(CHANNEL) == [
        attempt(
            purpose=WORDS,
            call_id=WORDS,
            cause=NOTE,
            next_step=NOTE,
            steps=(AttemptStep(AT, NOTE, NOTE),),
        )
    ]


async def test_texts_of_people_and_registers(store: Store):
    body = Department(DepartmentId("d1"), HOSTILE, HOSTILE, None, AT, None)
    name = HOSTILE.replace("\ud800", "")

    await store.people.add_user(user(name=name, display_name=HOSTILE), "hash")
    await store.people.save_session(session(address=HOSTILE))
    await store.people.put_region(region(name=HOSTILE), AT)
    await store.people.put_department(body, AT)

    [kept] = await store.people.users()
    assert (kept.name, kept.display_name) == (WORDS.replace("?", "") + "x", WORDS)
    assert await store.people.user_by_name(name.upper()) == (kept, "hash")
    found = await store.people.session(session().token_hash)
    assert found is not None
    assert found[0].address == WORDS
    assert await store.people.regions(UtcMicros(200)) == [region(name=WORDS)]
    assert await store.people.departments(UtcMicros(200)) == [replace(body, name=WORDS, kind=WORDS)]
