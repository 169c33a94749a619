"""Each checker finds the lie that it is there for, planted into a life in which all is well."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import structlog

from simulators.world.checkers import CAMERA_TABLE_MAX, CUT_WITHIN_S, Checker
from simulators.world.witness import Death, Showing
from simulators.world.world import Scale, World
from tests.world.tiny import hurry, lived
from vsp.actions.channels import Channels
from vsp.composition import Platform
from vsp.errors import Unavailable
from vsp.media.worker import MediaWorker
from vsp.model.device import Presence
from vsp.model.ids import DeviceId, GbId, UtcMicros, ViewId
from vsp.model.recording import Segment
from vsp.store.audit import ENDED, OPENED

Lie = Callable[[World], None]

BUCKET, FOLDER = 1, 2
"""Seeds whose objects are in a bucket, and in a folder."""


class Planted(Checker):
    """A checker that is lied to a moment before it looks."""

    def __init__(self, world: World, in_the_calm: Lie, at_the_end: Lie) -> None:
        super().__init__(world)
        self._lies = in_the_calm, at_the_end

    async def in_the_calm(self) -> None:
        self._lies[0](self._world)
        await asyncio.sleep(0.01)
        await super().in_the_calm()

    async def at_the_end(self) -> None:
        self._lies[1](self._world)
        await super().at_the_end()


def nothing(world: World) -> None:
    """No lie."""


def found(
    patch: pytest.MonkeyPatch, calm: Lie = nothing, end: Lie = nothing, seed: int = BUCKET
) -> list[str]:
    """What the checkers find."""

    def make(seed: int, scale: Scale) -> World:
        world = World(seed, scale)
        world.checker = Planted(world, calm, end)
        return world

    hurry(patch)
    report = lived(patch, make, seed)
    assert report.pictures  # else it ended early
    return [*report.findings]


def assert_found(words: str, findings: list[str]) -> None:
    assert any(re.search(words, finding) for finding in findings), findings


# ---- what is planted ------------------------------------------------------------------------


def a_segment(world: World) -> Segment:
    """One with some pictures, and others before and behind it."""
    rows = sorted(world.database.segments.by_key.values(), key=lambda each: each.start_us)
    return next(each for each in rows[1:-1] if each.frames > 2)


def drop_object(world: World, key: str) -> None:
    if world.bucket is not None:
        world.bucket.drop(key)
    else:
        world.host.disk.remove(world.estate.config.objects_dir / key)


def change_row(world: World, old: Segment, new: Segment) -> None:
    table = world.database.segments
    rows = table.of_channel[old.channel_id].rows
    table.by_key[old.key] = rows[rows.index(old)] = new


def a_row_loses_its_object(world: World) -> None:
    drop_object(world, a_segment(world).key)


def an_object_changes(world: World) -> None:
    segment = a_segment(world)
    change_row(world, segment, replace(segment, sha256="0" * 64))


def a_row_goes(world: World) -> None:
    del world.database.segments.by_key[a_segment(world).key]


def a_segment_was_never_kept(world: World) -> None:
    """Neither row nor object, and nothing of it was ever promised."""
    segment = a_segment(world)
    drop_object(world, segment.key)
    del world.database.segments.by_key[segment.key]
    del world.witness.committed[segment.key]


def a_row_counts_wrong(world: World) -> None:
    segment = a_segment(world)
    change_row(world, segment, replace(segment, frames=segment.frames + 1))


def rows_overlap(world: World) -> None:
    segment = a_segment(world)
    change_row(world, segment, replace(segment, end_us=UtcMicros(segment.end_us + 5_000_000)))


def an_act_does_not_end(world: World) -> None:
    chain = next(iter(world.database.audit.chains.values()))
    chain.append(replace(chain[-1], act_id="an act", phase=OPENED))
    world.witness.acts["an act"] = world.loop.now


def an_act_never_began(world: World) -> None:
    chain = next(iter(world.database.audit.chains.values()))
    chain.append(replace(chain[-1], act_id="an act", phase=ENDED))


def a_view_saw_too_much(world: World) -> None:
    witness, user = world.witness, world.visitors[0].user.id
    channel = world.channels()[0]
    view = Showing(ViewId("a view"), user, channel, UtcMicros(0), admitted=20.0)
    view.last_at = 50.0 + CUT_WITHIN_S + 0.1
    witness.showings.append(view)
    witness.barred.append((50.0, user))
    witness.begin("account", 49.0, about=user).end = 90.0


def a_recording_ends_with_its_node(world: World) -> None:
    taping = next(each for each in world.witness.tapings if len(each.received) > 3)
    seen = taping.received[2].at
    world.witness.deaths.append(Death(seen + 1.0, "node#1", power=False))
    taping.end = seen + 2.0


def a_timeline_has_a_hole(world: World) -> None:
    honest = Channels.timeline

    async def timeline(self, *asked):
        made = await honest(self, *asked)
        return replace(made, spans=made.spans[1:])

    Channels.timeline = timeline  # in this life's process only


def a_worker_holds_something(world: World) -> None:
    async def held_keys(self):
        return ["v1/held"]

    MediaWorker.held_keys = held_keys


@pytest.mark.parametrize("seed", [BUCKET, FOLDER])
def test_an_honest_life_has_no_findings(monkeypatch: pytest.MonkeyPatch, seed: int):
    def end(world: World) -> None:
        assert (world.bucket is not None) == (seed == BUCKET)

    assert found(monkeypatch, end=end, seed=seed) == []


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (a_row_loses_its_object, r"the object of v1/\S+ is gone"),
        (an_object_changes, r"the object of v1/\S+ is another"),
        (a_row_goes, r"the row of v1/\S+ was committed and is gone"),
        (a_row_goes, r"object v1/\S+ has no row"),
        (a_segment_was_never_kept, r"picture \d+ of \S+ at \S+ is lost: worker-0#1 recorded"),
        (a_row_counts_wrong, r"v1/\S+ has \d+ frames, and pictures \["),
        (rows_overlap, r"v1/\S+ of \S+ begins before v1/\S+ ends"),
        (an_act_does_not_end, r"act an act \(.*\) has no end"),
        (an_act_never_began, r"act an act ends and never began"),
        (a_view_saw_too_much, r"user-1 saw \S+ until 55.1"),
        (a_recording_ends_with_its_node, r"ended 1.000 s after a node had died at"),
        (a_timeline_has_a_hole, r"timeline of \S+: .* follows \d+"),
        (a_timeline_has_a_hole, r"timeline of \S+: \d+ us recorded, rows say \d+"),
        (a_worker_holds_something, r"worker-0 still holds v1/held"),
    ],
)
def test_a_lie_at_the_end_is_found(monkeypatch: pytest.MonkeyPatch, lie: Lie, words: str):
    findings = found(monkeypatch, end=lie)

    assert_found(words, findings)


@pytest.mark.parametrize("lie", [a_row_loses_its_object, a_segment_was_never_kept])
def test_what_is_missing_in_a_folder_is_found_too(monkeypatch: pytest.MonkeyPatch, lie: Lie):
    findings = found(monkeypatch, end=lie, seed=FOLDER)

    assert_found(r"is gone|is lost", findings)


# ---- in the calm ----------------------------------------------------------------------------


def a_camera_is_off(world: World) -> None:
    world.cameras[0].cut_power()


def a_row_says_off_line(world: World) -> None:
    row = next(iter(world.database.devices.by_gb_id.values()))
    row.device = replace(row.device, presence=Presence.OFFLINE)


def nobody_records(world: World) -> None:
    for taping in world.witness.tapings:
        taping.end = world.loop.now


def platform_of(world: World) -> Platform:
    now = world.platform()
    assert now is not None
    return now[1]


def a_camera_forgot_its_call(world: World) -> None:
    ua = world.cameras[0].ua
    assert ua is not None
    ua._calls._calls.clear()


def a_call_loses_its_row(world: World) -> None:
    world.database.dialogs.clear()


def a_row_is_of_no_call(world: World) -> None:
    rows = world.database.dialogs
    row = next(iter(rows.values()))
    rows["x"] = replace(row, dialog=replace(row.dialog, call_id="a call"))


def a_call_was_forgotten(world: World) -> None:
    ledger = platform_of(world).signal._sessions.ledger
    call = next(ledger.known())
    ledger.settle(call)


def the_platform_lost_a_device(world: World) -> None:
    roster = platform_of(world).signal._roster
    entry = roster.by_gb_id(GbId(world.cameras[0].spec.gb_id))
    assert entry is not None
    entry.presence = Presence.OFFLINE


def a_request_is_forgotten(world: World) -> None:
    agent = platform_of(world).signal._agent
    agent._clients_by_call["a call", 1, "BYE"] = next(iter(agent._clients.values()), None)


def a_task_dies(world: World) -> None:
    async def work() -> None:
        raise KeyError("nobody reckoned with this")

    life = world.media[0].life
    assert life is not None
    life.process.start(work(), "recovery")


def a_camera_was_flooded(world: World) -> None:
    world.cameras[0].tables_max = CAMERA_TABLE_MAX + 1


def queries_pile_up(world: World) -> None:
    answers, device = platform_of(world).signal._answers, DeviceId("a device")
    for _ in range(100):
        answers.open(device, "Catalog", print)


def the_node_is_down(world: World) -> None:
    world.node.resting = True
    world.node.kill()


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (a_camera_is_off, r"\d{20} does not think that it is registered"),
        (a_camera_is_off, r"\d{20} sends nothing"),
        (a_row_says_off_line, r"\d{20} is on line, its row says offline"),
        (nobody_records, r"channel \S+ is planned and nobody records it"),
        (a_camera_forgot_its_call, r"call \S+ is up at the platform only"),
        (a_call_loses_its_row, r"call \S+ \(up\) is not written down"),
        (a_row_is_of_no_call, r"the row of call a call is of no call"),
        (a_call_was_forgotten, r"call \S+ was not hung up"),
        (the_platform_lost_a_device, r"\d{20} is on line, the platform has it as offline"),
        (a_request_is_forgotten, r"1 calls lead to 0 requests"),
        (a_camera_was_flooded, r"\d{20} has 0 now, 41 at most live transactions"),
        (a_task_dies, r"recovery of worker-0#1 died of KeyError\('nobody"),
        (queries_pile_up, r"10\d queries in the calm"),
        (the_node_is_down, r"the node is down in the calm"),
    ],
)
def test_a_lie_in_the_calm_is_found(monkeypatch: pytest.MonkeyPatch, lie: Lie, words: str):
    findings = found(monkeypatch, calm=lie)

    assert_found(words, findings)


# ---- all along ------------------------------------------------------------------------------


def a_row_comes_before_its_object(world: World) -> None:
    world.checker.row_committed(replace(a_segment(world), key="v1/of/nothing"))


def a_row_comes_twice(world: World) -> None:
    world.checker.row_committed(replace(a_segment(world), sha256="0" * 64))


def a_row_is_of_another_object(world: World) -> None:
    one = a_segment(world)
    del world.witness.committed[one.key]
    world.checker.row_committed(replace(one, size_bytes=one.size_bytes + 1))


def something_unheard_of_is_logged(world: World) -> None:
    try:
        raise KeyError("nobody reckoned with this")
    except KeyError:
        structlog.get_logger().exception("it broke")


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        (a_row_comes_before_its_object, "the row of v1/of/nothing is there before its object"),
        (a_row_comes_twice, r"v1/\S+ is committed a second time, of another object"),
        (a_row_is_of_another_object, r"the object of v1/\S+ is not what its row says"),
        (something_unheard_of_is_logged, r"logged: [\s\S]*nobody reckoned with this"),
    ],
)
def test_a_lie_at_a_commit_is_found(monkeypatch: pytest.MonkeyPatch, lie: Lie, words: str):
    findings = found(monkeypatch, end=lie)

    assert_found(words, findings)


def test_failures_that_have_a_name_are_no_findings(monkeypatch: pytest.MonkeyPatch):
    def lie(world: World) -> None:
        try:
            raise Unavailable("the store does not answer")
        except Unavailable:
            structlog.get_logger().exception("it did not work")

    assert found(monkeypatch, end=lie) == []
