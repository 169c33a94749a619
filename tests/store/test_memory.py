"""What memory promises beyond the contract of every store (tests/contract)."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.contract.manual import CountingIds, ManualClock
from tests.contract.samples import segment
from tests.contract.test_lives import fill, told
from tests.store.test_memory_twin import CALLS, TELLERS, Story, answer
from vsp.errors import DataLoss, Invalid
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.people import Action
from vsp.store import Store
from vsp.store.memory import MemoryDatabase, open_memory

ROOT = Path(__file__).resolve().parents[2]


def opened(database: MemoryDatabase) -> Store:
    return open_memory(database, ManualClock(), CountingIds(), "node-t")


def at_once(work: Coroutine[Any, Any, object]) -> object:
    """The result of a coroutine that never gives way, run without a loop."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    work.close()
    raise AssertionError("it waited")


def test_no_call_ever_waits():
    store = opened(MemoryDatabase())

    at_once(fill(store))
    rows = at_once(told(store))
    at_once(store.close())

    assert rows == at_once(told(store))


async def test_a_life_that_is_cut_off_leaves_its_act_open_and_the_next_one_goes_on():
    database = MemoryDatabase()

    async def live() -> None:
        async with opened(database).audit.act(None, Action.LIST, "x"):
            await asyncio.Event().wait()

    work = live()
    work.send(None)  # it is inside the act now, and nobody ever wakes it
    store = opened(database)
    await fill(store)

    assert [row.phase for row in database.audit.chains["node-t"]] == ["opened", "opened", "ended"]
    assert await store.audit.verify() == 3
    work.close()


async def test_a_row_of_the_chain_that_was_changed_is_found_and_named():
    database = MemoryDatabase()
    store = opened(database)
    for _ in range(3):
        async with store.audit.act(None, Action.LIST, "x"):
            pass

    chain = database.audit.chains["node-t"]
    chain[3] = replace(chain[3], result="denied")

    with pytest.raises(DataLoss, match=r"node-t breaks at row 4$"):
        await store.audit.verify()


async def test_a_refused_batch_leaves_nothing_in_any_order():
    database = MemoryDatabase()
    store = opened(database)

    with pytest.raises(Invalid):
        await store.segments.commit([segment(0), segment(1, fragments=((0, 0, -1),))])

    assert await store.segments.walk("", 10) == []
    assert await store.segments.next_after(ChannelId("c1"), UtcMicros(0)) is None


async def story_of(seed: int) -> list[object]:
    """Every answer to a random story."""
    story, clock = Story(seed), ManualClock()
    store = open_memory(MemoryDatabase(), clock, CountingIds(), "node-t")
    answers = []
    for _ in range(CALLS):
        call = story.chance.choice(TELLERS)(story)
        answers.append(await answer(call, store))
        story.learn(answers[-1])
        clock.advance(1)
    return answers


def test_answers_do_not_depend_on_how_a_process_hashes():
    tell = "import asyncio, tests.store.test_memory as t; print(asyncio.run(t.story_of(1)))"

    answers = {
        subprocess.run(
            [sys.executable, "-c", tell],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(answers) == 1
    assert b"Channel(" in answers.pop()
