from dataclasses import replace

from vsp.model.device import MediaTransport, Transport
from vsp.model.dialog import DialogState
from vsp.model.ids import AttemptId, ChannelId, DeviceId, SessionId, UtcMicros, WorkerId
from vsp.model.stream import Attempt, AttemptStep, Leg
from vsp.ports import DialogRow, DialogUse
from vsp.store import Store
from vsp.store import streams as module

CHANNEL = ChannelId("c1")
DIALOG = DialogState(
    call_id="3f1c@192.0.2.10",
    local_uri="sip:34020000002000000001@3402000000",
    local_tag="p1",
    remote_uri="sip:34020000001320000001@3402000000",
    remote_tag="d1",
    remote_target="sip:34020000001320000001@192.0.2.20:5060;" + "x=1;" * 300,
    cseq=20,
    transport=Transport.UDP,
    host="192.0.2.20",
    port=5060,
)


def dialog(call: str, began_us: int = 1) -> DialogRow:
    return DialogRow(
        dialog=replace(DIALOG, call_id=call),
        device_id=DeviceId("d1"),
        use=DialogUse(CHANNEL, SessionId("s1"), WorkerId(1)),
        began_us=UtcMicros(began_us),
    )


def attempt(number: int = 1, **changes) -> Attempt:
    made = Attempt(AttemptId(f"a{number:04d}"), CHANNEL, UtcMicros(1_000 + number))
    return replace(made, **changes)


async def test_dialogs_survive_as_saved_oldest_first(store: Store):
    await store.streams.save(dialog("c2", 20))
    await store.streams.save(dialog("c1", 10))

    assert await store.streams.all() == [dialog("c1", 10), dialog("c2", 20)]


async def test_saving_again_replaces(store: Store):
    await store.streams.save(dialog("c1"))
    ending = replace(
        dialog("c1"),
        dialog=replace(dialog("c1").dialog, cseq=21),
        ending_us=UtcMicros(9),
    )

    await store.streams.save(ending)

    assert await store.streams.all() == [ending]


async def test_a_session_may_have_a_dialog_that_is_up_and_one_that_ends(store: Store):
    before = replace(dialog("c1", 1), ending_us=UtcMicros(5))
    await store.streams.save(before)
    await store.streams.save(dialog("c2", 6))

    assert await store.streams.all() == [before, dialog("c2", 6)]


async def test_tags_tell_dialogs_of_one_call_apart(store: Store):
    fork = replace(dialog("c1"), dialog=replace(dialog("c1").dialog, remote_tag="d2"), use=None)
    stranger = replace(fork, dialog=replace(fork.dialog, remote_tag="x" * 5_000), device_id=None)
    for row in (dialog("c1"), fork, stranger):
        await store.streams.save(row)

    await store.streams.forget(stranger.dialog.key)
    await store.streams.forget(fork.dialog.key)

    assert await store.streams.all() == [dialog("c1")]


async def test_forgetting_is_for_good_and_twice_is_nothing(store: Store):
    await store.streams.save(dialog("c1"))
    await store.streams.save(dialog("c2"))

    await store.streams.forget(dialog("c1").dialog.key)
    await store.streams.forget(dialog("c1").dialog.key)

    assert await store.streams.all() == [dialog("c2")]


async def test_an_attempt_grows_until_it_ends(store: Store):
    begun = attempt(transport=MediaTransport.UDP)
    ended = replace(
        begun,
        ended_us=UtcMicros(9_000),
        purpose="record",
        call_id="x@y",
        succeeded=False,
        leg=Leg.NO_MEDIA,
        cause="no packet within 10 s",
        next_step="check the firewall",
        steps=(AttemptStep(UtcMicros(1), "INVITE", "CSeq 20"), AttemptStep(UtcMicros(2), "200")),
    )

    await store.streams.save_attempt(begun)
    assert await store.streams.attempts(CHANNEL) == [begun]

    await store.streams.save_attempt(ended)
    assert await store.streams.attempts(CHANNEL) == [ended]


async def test_attempts_are_newest_first_and_of_their_channel(store: Store):
    for number in (2, 1, 3):
        await store.streams.save_attempt(attempt(number))
    await store.streams.save_attempt(attempt(9, channel_id=ChannelId("c2")))

    found = await store.streams.attempts(CHANNEL, limit=2)

    assert [entry.id for entry in found] == ["a0003", "a0002"]


async def test_beyond_the_bound_the_oldest_attempts_of_a_channel_go(store: Store, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS_KEPT", 3)
    await store.streams.save_attempt(attempt(50, channel_id=ChannelId("c2")))

    for number in range(1, 7):
        await store.streams.save_attempt(attempt(number))

    found = await store.streams.attempts(CHANNEL, limit=100)
    assert [entry.id for entry in found] == ["a0006", "a0005", "a0004"]
    assert len(await store.streams.attempts(ChannelId("c2"))) == 1


async def test_a_story_without_end_is_cut(store: Store):
    steps = tuple(AttemptStep(UtcMicros(n), "100\x00", "y" * 9_000) for n in range(500))

    await store.streams.save_attempt(attempt(steps=steps))

    [kept] = await store.streams.attempts(CHANNEL)
    assert len(kept.steps) == module.STEPS_MAX
    assert len(kept.steps[0].detail) == 4_000
