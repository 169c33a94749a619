"""A long random story told to SQLite and to memory at once: every answer must be the same.

Ids, instants and codes come from small ranges, so that calls collide, repeat and come too late. The
seed of a failure is the test's parameter, and the call that was answered otherwise is shown.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.contract.manual import CountingIds, ManualClock
from tests.contract.samples import (
    START_US,
    camera_id,
    candidate,
    item,
    new_device,
    nvr_id,
    segment,
    user,
)
from tests.contract.test_devices import BINDING, state
from tests.contract.test_people import session
from tests.contract.test_register import region
from tests.contract.test_streams import attempt, dialog
from vsp.config import Config
from vsp.errors import NotFound, VspError
from vsp.model.changes import Axis, ChangePoint
from vsp.model.device import CatalogItem, Channel, Device, Presence, RecordPlan
from vsp.model.ids import (
    ChannelId,
    DepartmentId,
    DeviceId,
    GbId,
    RegionId,
    UserId,
    UtcMicros,
)
from vsp.model.people import Action, Department, Role
from vsp.ports import PAGE_SIZE_MAX, DeviceFacts, Page, PageRequest
from vsp.store import Store, open_store
from vsp.store.memory import MemoryDatabase, open_memory

CALLS = 500
"""Calls of one story: each kind comes twenty times or so."""

Call = Callable[[Store], Awaitable[object]]
Teller = Callable[["Story"], Call]


class Story:
    """Chance, and the ids that the stores have made so far."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)
        self.device_ids = [DeviceId("nobody")]
        self.channel_ids = [ChannelId("nobody")]
        self.cursors: list[str | None] = [None]

    def device(self) -> DeviceId:
        return self.chance.choice(self.device_ids)

    def channel(self) -> ChannelId:
        return self.chance.choice(self.channel_ids)

    def number(self, most: int) -> int:
        return self.chance.randint(1, most)

    def at(self, minutes: int = 50) -> UtcMicros:
        return UtcMicros(START_US + self.chance.randint(0, minutes) * 60_000_000)

    def presence(self) -> Presence:
        return self.chance.choice(list(Presence))

    def word(self) -> str:
        return self.chance.choice(["", "gate", "North Gate", "门", "a\x00\ud800", "x" * 600])

    def page(self) -> PageRequest:
        return PageRequest(self.chance.choice([0, 1, 2, 3, 100]), self.chance.choice(self.cursors))

    def items(self) -> list[CatalogItem]:
        """Cameras, encoders that may have children, folders; codes repeat."""
        codes = [camera_id(n) for n in range(1, 8)]
        codes += [GbId(f"3402000000111000000{n}") for n in (1, 2)] + [GbId("340200"), GbId(" ")]
        parents = [("340200",), (codes[7],), (codes[8], "340200"), ()]
        return [
            item(
                gb_id=self.chance.choice(codes),
                name=self.word(),
                status=self.presence(),
                parental=self.chance.random() < 0.2,
                parent_ids=self.chance.choice(parents),
                longitude=self.chance.choice([None, 118.5, 1e300]),
            )
            for _ in range(self.chance.randint(0, 9))
        ]

    def learn(self, told: object) -> None:
        """Ids and cursors out of what was answered, for later calls."""
        page = told if isinstance(told, Page) else Page([told], None)
        for each in page.items:
            if isinstance(each, Device) and each.id not in self.device_ids:
                self.device_ids.append(each.id)
            if isinstance(each, Channel) and each.id not in self.channel_ids:
                self.channel_ids.append(each.id)
        if page.next is not None:
            self.cursors = [None, page.next]


async def audited(store: Store, error: VspError | None) -> None:
    async with store.audit.act(None, Action.LIST, "x", who="w\x00") as entry:
        entry.note("seen")
        if error is not None:
            raise error


def add_device(story: Story) -> Call:
    new = new_device(gb_id=nvr_id(story.number(6)), name=story.word())
    plan, at_us = story.chance.choice(list(RecordPlan)), story.at()
    return lambda store: store.devices.add_device(new, at_us, plan)


def update_device(story: Story) -> Call:
    device_id, name, password = (
        story.device(),
        story.chance.choice([None, story.word()]),
        story.chance.choice([None, "other"]),
    )
    return lambda store: store.devices.update_device(device_id, name=name, password=password)


def remove_device(story: Story) -> Call:
    device_id = story.device() if story.chance.random() < 0.3 else DeviceId("nobody")
    return lambda store: store.devices.remove_device(device_id)


def save_states(story: Story) -> Call:
    states = [
        state(
            story.device(),
            binding=story.chance.choice([None, replace(BINDING, user_agent=story.word())]),
            last_seen_us=story.chance.choice([None, story.at()]),
            presence=story.presence(),
            presence_since_us=story.at(),
        )
        for _ in range(story.number(3))
    ]
    return lambda store: store.devices.save_states(states)


def save_facts(story: Story) -> Call:
    device_id, facts = (
        story.device(),
        DeviceFacts(story.word(), story.word(), story.word(), story.word()),
    )
    return lambda store: store.devices.save_facts(device_id, facts)


def apply_catalog(story: Story) -> Call:
    device_id, items, at_us = story.device(), story.items(), story.at()
    expected, complete = story.chance.choice([None, 3, 1 << 40]), story.chance.random() < 0.6
    return lambda store: store.devices.apply_catalog(device_id, items, expected, complete, at_us)


def save_presence(story: Story) -> Call:
    ids = sorted({story.channel() for _ in range(3)})
    states = [(channel_id, story.presence(), story.at()) for channel_id in ids]
    return lambda store: store.devices.save_presence(states)


def update_channel(story: Story) -> Call:
    channel_id, name = story.channel(), story.chance.choice([None, story.word()])
    plan = story.chance.choice([None, *RecordPlan])
    return lambda store: store.devices.update_channel(channel_id, name=name, record_plan=plan)


def place_channel(story: Story) -> Call:
    placed = (
        story.channel(),
        story.chance.choice([None, RegionId("r1"), RegionId("r2")]),
        None,
        story.at(),
    )
    return lambda store: store.people.place_channel(*placed)


def read_devices(story: Story) -> Call:
    device_id, code = story.device(), nvr_id(story.number(6))
    page, search = story.page(), story.chance.choice(["", "GATE", "192.0", "\x00"])
    presence = story.chance.choice([None, *Presence])
    return story.chance.choice(
        [
            lambda store: store.devices.device(device_id),
            lambda store: store.devices.device_by_gb_id(code),
            lambda store: store.devices.secret(device_id),
            lambda store: store.devices.all_devices(),
            lambda store: store.devices.counts(),
            lambda store: store.devices.devices(page, search, presence),
        ]
    )


def read_channels(story: Story) -> Call:
    channel_id, code, device_id = story.channel(), camera_id(story.number(7)), story.device()
    page, search = story.page(), story.chance.choice(["", "GATE", "34020", "\x00"])
    return story.chance.choice(
        [
            lambda store: store.devices.channel(channel_id),
            lambda store: store.devices.channels_by_gb_id(code),
            lambda store: store.devices.planned_channels(),
            lambda store: store.devices.channels(page, search),
            lambda store: store.devices.channels(page, search, device_id),
            lambda store: store.devices.channels(PageRequest(PAGE_SIZE_MAX)),
        ]
    )


def candidates(story: Story) -> Call:
    seen = [
        candidate(
            story.number(9),
            first_seen_us=story.at(),
            last_seen_us=story.at(),
            user_agent=story.word(),
        )
        for _ in range(story.number(3))
    ]
    page, dropped = story.page(), [camera_id(story.number(9))]
    return story.chance.choice(
        [
            lambda store: store.devices.saw_candidates(seen),
            lambda store: store.devices.candidates(page),
            lambda store: store.devices.drop_candidates(dropped),
        ]
    )


def segments(story: Story) -> Call:
    channel = story.chance.choice(["c1", "c2"])
    batch = [
        segment(story.number(50), channel=story.chance.choice(["c1", "c2"]), end_us=story.at(70))
        for _ in range(story.number(3))
    ]
    if story.chance.random() < 0.1:
        batch.append(segment(51, fragments=((0, 0, -1),)))
    window, limit, keys = (
        (story.at(), story.at()),
        story.chance.choice([-1, 0, 1, 50]),
        [b.key for b in batch],
    )
    after = story.chance.choice(["", "v1/c1/", keys[0]])
    return story.chance.choice(
        [
            lambda store: store.segments.commit(batch),
            lambda store: store.segments.commit(batch),
            lambda store: store.segments.find(ChannelId(channel), *window, limit),
            lambda store: store.segments.next_after(ChannelId(channel), window[0]),
            lambda store: store.segments.by_key(keys),
            lambda store: store.segments.walk(after, limit),
        ]
    )


def changes(story: Story) -> Call:
    subject, axis = (
        story.chance.choice(["device:d1", "channel:c1"]),
        story.chance.choice(list(Axis)),
    )
    points = [
        ChangePoint(subject, axis, story.at(9), story.word(), story.word())
        for _ in range(story.number(3))
    ]
    window = (story.at(9), story.at(9))
    return story.chance.choice(
        [
            lambda store: store.changes.append(points),
            lambda store: store.changes.between(subject, axis, *window),
        ]
    )


def streams(story: Story) -> Call:
    row, gone = dialog(f"c{story.number(4)}", story.number(5)), dialog(f"c{story.number(4)}")
    channel = story.chance.choice(["c1", "c2"])
    tried = attempt(
        story.number(9), channel_id=ChannelId(channel), started_us=story.at(), cause=story.word()
    )
    limit = story.chance.choice([-1, 0, 2, 500])
    return story.chance.choice(
        [
            lambda store: store.streams.save(row),
            lambda store: store.streams.forget(gone.dialog.key),
            lambda store: store.streams.all(),
            lambda store: store.streams.save_attempt(tried),
            lambda store: store.streams.attempts(ChannelId(channel), limit),
        ]
    )


def users(story: Story) -> Call:
    number, role = story.number(4), story.chance.choice([None, *Role])
    made = user(number, name=f"name{story.number(4)}", display_name=story.word())
    enabled = story.chance.choice([None, True, False])
    name = f" NAME{story.number(4)}"
    return story.chance.choice(
        [
            lambda store: store.people.add_user(made, "hash"),
            lambda store: store.people.user(made.id),
            lambda store: store.people.user_by_name(name),
            lambda store: store.people.users(),
            lambda store: store.people.set_password(made.id, "new", bool(enabled)),
            lambda store: store.people.set_user(made.id, enabled=enabled, role=role),
        ]
    )


def sessions(story: Story) -> Call:
    owner, at_us = UserId(f"u{story.number(4)}"), story.at()
    made = session(
        story.number(5),
        user_id=owner,
        seen_at_us=at_us,
        expires_at_us=story.at(),
        address=story.word(),
    )
    ended = {
        "token_hash": story.chance.choice([None, made.token_hash]),
        "user_id": story.chance.choice([None, owner]),
    }
    return story.chance.choice(
        [
            lambda store: store.people.save_session(made),
            lambda store: store.people.session(made.token_hash),
            lambda store: store.people.touch_session(made.token_hash, at_us),
            lambda store: store.people.end_sessions(**ended),
        ]
    )


def sign_ins(story: Story) -> Call:
    name, ok, at_us = (
        story.chance.choice(["op", "OP ", "x"]),
        story.chance.random() < 0.3,
        story.at(),
    )
    return story.chance.choice(
        [
            lambda store: store.people.note_sign_in(name, "::1", ok, at_us),
            lambda store: store.people.failed_sign_ins(name, at_us),
        ]
    )


def registers(story: Story) -> Call:
    placed = region(
        f"r{story.number(3)}",
        code=str(story.number(9)),
        name=story.word(),
        valid_from_us=story.at(),
        valid_to_us=story.chance.choice([None, story.at()]),
    )
    body = Department(
        DepartmentId(f"d{story.number(3)}"),
        story.chance.choice("abc"),
        "police",
        None,
        story.at(),
        None,
    )
    at_us = story.at()
    return story.chance.choice(
        [
            lambda store: store.people.put_region(placed, at_us),
            lambda store: store.people.put_department(body, at_us),
            lambda store: store.people.regions(at_us),
            lambda store: store.people.departments(at_us),
        ]
    )


def audit(story: Story) -> Call:
    error, page = story.chance.choice([None, NotFound("gone")]), story.page()
    return story.chance.choice(
        [
            lambda store: audited(store, error),
            lambda store: store.audit.rows(page),
            lambda store: store.audit.verify(),
        ]
    )


def leases(story: Story) -> Call:
    holder, ttl_s = f"node-{story.number(2)}", story.chance.choice([0.0, 30.0, 300.0])
    return story.chance.choice(
        [
            lambda store: store.leases.claim("reaper", holder, ttl_s),
            lambda store: store.leases.give_up("reaper", holder),
        ]
    )


OFTEN = (apply_catalog, read_devices, read_channels, segments, changes)
TELLERS: tuple[Teller, ...] = (
    *OFTEN, *OFTEN, add_device, update_device, remove_device, save_states, save_facts,
    save_presence, update_channel, place_channel, candidates, streams, users, sessions, sign_ins,
    registers, audit, leases,
)  # fmt: skip


async def answer(call: Call, store: Store) -> object:
    """What is answered; of an error its kind."""
    try:
        return await call(store)
    except VspError as error:
        return type(error)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def twins(tmp_path: Path, clock: ManualClock) -> AsyncIterator[tuple[Store, Store]]:
    config = Config.model_validate({"node": {"data_dir": tmp_path, "name": "twin"}})
    sqlite = await open_store(config, clock, CountingIds())
    yield sqlite, open_memory(MemoryDatabase(), clock, CountingIds(), "twin")
    await sqlite.close()


@pytest.mark.parametrize("seed", range(3))
async def test_sqlite_and_memory_answer_alike(
    twins: tuple[Store, Store], clock: ManualClock, seed: int
):
    sqlite, memory = twins
    story = Story(seed)

    for number in range(CALLS):
        teller = story.chance.choice(TELLERS)
        call = teller(story)
        told = await answer(call, sqlite)
        assert await answer(call, memory) == told, f"call {number}, {teller.__name__}"
        story.learn(told)
        clock.advance(story.chance.choice([0, 0, 1, 90, -30]))
