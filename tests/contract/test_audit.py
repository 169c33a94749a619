import asyncio
from dataclasses import replace

import pytest
import sqlalchemy as sa

from tests.contract.conftest import Reopen, of_sql
from tests.contract.manual import ManualClock
from tests.contract.samples import user
from vsp.config import Config
from vsp.errors import Conflict, DataLoss, Denied, Internal, Unavailable
from vsp.model.changes import AuditRow
from vsp.model.people import Action, Actor
from vsp.ports import PageRequest, Write
from vsp.store import Store
from vsp.store.audit import FIRST_HASH, row_hash
from vsp.store.engine import open_database

ACTOR = Actor(user(), "session-1", "192.0.2.50")


async def all_rows(store: Store) -> list[AuditRow]:
    """Oldest first."""
    return list((await store.audit.rows(PageRequest(size=500))).items)[::-1]


async def rewrite(config: Config, *statements: str) -> None:
    """What somebody with the database in hand could do, triggers removed."""
    database = open_database(config.database_url, ManualClock())
    try:
        async with database.write() as connection:
            for statement in statements:
                await connection.execute(sa.text(statement))
    finally:
        await database.close()


def disarm(config: Config) -> list[str]:
    if config.database.url:
        return ["DROP TRIGGER audit_refuses_change ON audit"]
    return ["DROP TRIGGER audit_refuses_update", "DROP TRIGGER audit_refuses_delete"]


async def test_an_act_leaves_an_opening_and_an_ending_row(store: Store, clock: ManualClock):
    async with store.audit.act(ACTOR, Action.VIEW_LIVE, "channel:c1", reason="patrol") as entry:
        clock.advance(3)
        entry.note("view v1")
        entry.note("worker 0")

    opened, ended = await all_rows(store)
    assert (opened.seq, opened.phase, opened.result, opened.detail) == (1, "opened", "", "")
    assert (opened.actor, opened.address) == ("Operator1", "192.0.2.50")
    assert (opened.action, opened.subject, opened.reason) == ("view_live", "channel:c1", "patrol")
    assert opened.previous_hash == FIRST_HASH
    assert (ended.seq, ended.phase, ended.result) == (2, "ended", "ok")
    assert ended.detail == "view v1; worker 0"
    assert ended.act_id == opened.act_id
    assert ended.at_us == opened.at_us + 3_000_000
    assert ended.previous_hash == opened.hash
    assert await store.audit.verify() == 2


async def test_the_opening_row_is_there_before_the_act(store: Store):
    async with store.audit.act(None, Action.OWN_SESSION, "session", who="nobody", address="::1"):
        [row] = await all_rows(store)

    assert (row.phase, row.actor, row.address) == ("opened", "nobody", "::1")


@pytest.mark.parametrize(
    ("error", "result"),
    [(Denied("no"), "denied"), (Unavailable("down"), "unavailable"), (KeyError("bug"), "internal")],
)
async def test_a_failed_act_ends_with_its_kind_and_the_error_goes_on(
    store: Store, error: Exception, result: str
):
    with pytest.raises(type(error)) as caught:
        async with store.audit.act(ACTOR, Action.LIST, "devices"):
            raise error

    assert caught.value is error
    assert [row.result for row in await all_rows(store)] == ["", result]


async def test_a_cancelled_act_ends_as_cancelled(store: Store):
    begun = asyncio.Event()

    async def act() -> None:
        async with store.audit.act(ACTOR, Action.PLAYBACK, "channel:c1"):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(act())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [row.result for row in await all_rows(store)] == ["", "cancelled"]


async def test_cancelling_at_any_moment_leaves_a_whole_chain(store: Store):
    async def act() -> None:
        async with store.audit.act(ACTOR, Action.LIST, "x"):
            await asyncio.sleep(0)

    for turns in range(12):
        task = asyncio.create_task(act())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    rows = await all_rows(store)
    assert await store.audit.verify() == len(rows)
    opened = {row.act_id for row in rows if row.phase == "opened"}
    assert {row.act_id for row in rows if row.phase == "ended"} == opened


@of_sql
@pytest.mark.usefixtures("own_database")
async def test_what_cannot_be_opened_is_refused(config: Config, store: Store):
    await rewrite(config, "ALTER TABLE audit RENAME TO elsewhere")
    happened = False

    with pytest.raises(Exception, match=r"audit"):
        async with store.audit.act(ACTOR, Action.USER_MANAGE, "user:u2"):
            happened = True

    assert not happened


@of_sql
@pytest.mark.usefixtures("own_database")
async def test_what_cannot_be_closed_keeps_its_own_outcome(config: Config, store: Store):
    async with store.audit.act(ACTOR, Action.LIST, "devices"):
        await rewrite(config, "ALTER TABLE audit RENAME TO elsewhere")

    await rewrite(config, "ALTER TABLE elsewhere RENAME TO audit")
    [row] = await all_rows(store)
    assert row.phase == "opened"


async def test_an_end_that_is_refused_is_written_later_with_its_own_time_and_outcome(
    store: Store, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    owed: list[Write] = []
    full = False
    append = store.audit._append

    async def keep(name: str, write: Write) -> None:
        owed.append(write)

    async def append_with_room(draft: AuditRow, again: bool = False) -> None:
        if full:
            raise Unavailable("no space left")
        await append(draft, again)

    monkeypatch.setattr(store.audit, "_append", append_with_room)

    store.audit.keep_endings(keep)
    async with store.audit.act(ACTOR, Action.VIEW_LIVE, "channel:c1") as entry:
        entry.note("closed by its viewer")
        full = True
    full = False
    ended_us = clock.now_us()
    clock.advance(60)
    async with store.audit.act(ACTOR, Action.LIST, "devices"):
        pass

    [write] = owed
    for _ in range(2):  # the answer of the first try may have been lost
        await write()

    ends = [row for row in await all_rows(store) if row.subject == "channel:c1"][1:]
    assert [(row.phase, row.result, row.detail, row.at_us) for row in ends] == [
        ("ended", "ok", "closed by its viewer", ended_us)
    ]
    assert await store.audit.verify() == 4


async def test_acts_at_once_are_one_chain_without_holes(store: Store):
    async def act(number: int) -> None:
        async with store.audit.act(ACTOR, Action.LIST, f"subject {number}"):
            await asyncio.sleep(0)

    await asyncio.gather(*(act(number) for number in range(25)))

    assert [row.seq for row in await all_rows(store)] == list(range(1, 51))
    assert await store.audit.verify() == 50


async def test_two_processes_with_one_node_name_share_its_chain(store: Store, reopen: Reopen):
    other = await reopen()

    async def act(book: Store) -> None:
        async with book.audit.act(ACTOR, Action.LIST, "x"):
            pass

    await asyncio.gather(*(act(book) for book in (store, other) for _ in range(20)))
    await other.close()

    assert await store.audit.verify() == 80


async def test_every_node_has_a_chain_of_its_own(store: Store, reopen: Reopen, clock: ManualClock):
    other = await reopen("node-2")
    for book in (store, other, store):
        async with book.audit.act(ACTOR, Action.LIST, "x"):
            clock.advance(1)
    await other.close()

    rows = await all_rows(store)
    assert sorted(row.seq for row in rows) == [1, 1, 2, 2, 3, 4]
    assert await store.audit.verify() == 6


async def test_rows_come_newest_first_in_pages(store: Store, clock: ManualClock):
    for _ in range(3):
        async with store.audit.act(ACTOR, Action.LIST, "x"):
            pass
        clock.advance(1)

    first = await store.audit.rows(PageRequest(size=4))
    second = await store.audit.rows(PageRequest(size=4, after=first.next))

    assert [row.seq for row in first.items] == [6, 5, 4, 3]
    assert [row.seq for row in second.items] == [2, 1]
    assert second.next is None


@of_sql
@pytest.mark.parametrize("verb", ["UPDATE audit SET reason = 'x'", "DELETE FROM audit"])
async def test_the_database_itself_refuses_to_rewrite(config: Config, store: Store, verb: str):
    async with store.audit.act(ACTOR, Action.LIST, "x"):
        pass

    with pytest.raises((Conflict, Internal)):
        await rewrite(config, verb)

    assert await store.audit.verify() == 2


@of_sql
@pytest.mark.usefixtures("own_database")
@pytest.mark.parametrize(
    ("change", "row"),
    [
        ("UPDATE audit SET result = 'denied' WHERE seq = 4", 4),
        ("UPDATE audit SET at_us = at_us + 1 WHERE seq = 2", 2),
        ("UPDATE audit SET actor = 'someone' WHERE seq = 1", 1),
        ("UPDATE audit SET hash = previous_hash WHERE seq = 6", 6),
        ("DELETE FROM audit WHERE seq = 3", 3),
        ("DELETE FROM audit WHERE seq = 1", 1),
        ("UPDATE audit SET seq = seq + 10 WHERE seq > 3", 4),
    ],
)
async def test_any_change_behind_our_back_is_found_and_named(
    config: Config, store: Store, change: str, row: int
):
    for _ in range(3):
        async with store.audit.act(ACTOR, Action.LIST, "x"):
            pass

    await rewrite(config, *disarm(config), change)

    with pytest.raises(DataLoss, match=f"node-t breaks at row {row}$"):
        await store.audit.verify()


async def test_hostile_text_is_chained_as_it_is_stored(store: Store):
    async with store.audit.act(
        None,
        Action.OWN_SESSION,
        "a\x00\ud800" + "x" * 9_000,
        reason="\n\u202e'; --",
        who="\x00" * 3,
        address="\udfff",
    ) as entry:
        for _ in range(200):
            entry.note("y" * 1_000)

    opened, ended = await all_rows(store)
    assert opened.subject.startswith("a\ufffd?x")
    assert len(ended.detail) == 4_000
    assert await store.audit.verify() == 2


def test_the_hash_covers_every_field_and_the_node():
    row = AuditRow(1, "a", "opened", 5, "who", "::1", "list", "x", "", "", "", FIRST_HASH, "")
    base = row_hash("n", row)

    changed = [
        row_hash("n", replace(row, **{name: type(getattr(row, name))("7")}))
        for name in row.__dataclass_fields__
        if name != "hash"
    ]

    assert len({base, row_hash("m", row), *changed}) == len(changed) + 2
    assert row_hash("n", replace(row, hash="z")) == base
