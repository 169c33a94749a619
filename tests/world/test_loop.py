"""Virtual time, the order that a seed gives, and processes that die."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from simulators.world.loop import (
    CANCELLED_MIN,
    START_US,
    Killed,
    Process,
    VirtualClock,
    VirtualLoop,
    current,
    require_alive,
)


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


def order_of(seed: int | None) -> list[int]:
    """In which order twenty things run that are all ready at once."""
    loop = VirtualLoop(seed)
    ran: list[int] = []
    for number in range(20):
        loop.call_soon(ran.append, number)
    loop.run_until_complete(asyncio.sleep(1))
    loop.close()
    return ran


# ---- time -----------------------------------------------------------------------------------


def test_an_hour_passes_at_once(loop: VirtualLoop):
    clock = VirtualClock(loop)

    loop.run_until_complete(asyncio.sleep(3600))

    assert clock.monotonic() == pytest.approx(3600)
    assert clock.now_us() == pytest.approx(START_US + 3600 * 1_000_000, abs=10)


def test_time_waits_for_all_that_is_ready(loop: VirtualLoop):
    rang_after: list[int] = []
    turns: list[int] = []

    async def busy() -> None:
        for turn in range(1000):
            turns.append(turn)
            await asyncio.sleep(0)
        await asyncio.sleep(2)

    loop.call_later(1.0, lambda: rang_after.append(len(turns)))
    loop.run_until_complete(busy())

    assert rang_after == [1000]


def test_timers_run_in_the_order_of_their_time(loop: VirtualLoop):
    rang: list[tuple[int, float]] = []
    for wait_s in (3, 1, 2):
        loop.call_later(wait_s, lambda wait_s=wait_s: rang.append((wait_s, loop.now)))

    loop.run_until_complete(asyncio.sleep(5))

    assert [wait_s for wait_s, _ in rang] == [1, 2, 3]
    assert [now for _, now in rang] == pytest.approx([1, 2, 3], abs=1e-5)


def test_who_waits_for_nothing_is_told_so_instead_of_hanging(loop: VirtualLoop):
    waiting = loop.create_future()

    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        loop.run_until_complete(waiting)


def test_what_comes_from_outside_is_answered_before_the_next_of_it(loop: VirtualLoop):
    seen: list[str] = []

    def happen(name: str) -> None:
        seen.append(name)
        loop.call_soon(seen.append, f"answer to {name}")

    loop.post_at(1.0, lambda: happen("one"))
    loop.post_at(1.0, lambda: happen("two"))
    loop.run_until_complete(asyncio.sleep(2))

    assert seen == ["one", "answer to one", "two", "answer to two"]


def test_timers_that_are_cancelled_are_not_kept(loop: VirtualLoop):
    async def renew() -> None:
        for _ in range(20 * CANCELLED_MIN):
            loop.call_later(3600, print).cancel()

    loop.run_until_complete(renew())

    assert len(loop._due) <= 2 * CANCELLED_MIN


def test_a_wall_clock_that_is_set_moves_no_timer(loop: VirtualLoop):
    clock = VirtualClock(loop)

    clock.offset_us -= 3600 * 1_000_000

    assert clock.now_us() == START_US - 3600 * 1_000_000
    assert clock.monotonic() == 0.0


def test_there_are_no_threads(loop: VirtualLoop):
    with pytest.raises(AssertionError, match="no threads"):
        loop.call_soon_threadsafe(print)
    with pytest.raises(AssertionError, match="no threads"):
        loop.run_in_executor(None, print)


# ---- order ----------------------------------------------------------------------------------


def test_without_a_seed_all_run_in_the_order_in_which_they_were_asked():
    assert order_of(None) == [*range(20)]


def test_a_seed_gives_an_order_of_its_own_and_always_the_same():
    assert order_of(1) == order_of(1) != order_of(2)
    assert sorted(order_of(1)) == [*range(20)]


def test_a_later_turn_never_overtakes_an_earlier_one():
    loop = VirtualLoop(7)
    ran: list[str] = []

    def earlier() -> None:
        ran.append("earlier")
        loop.call_soon(ran.append, "later")

    for _ in range(5):
        loop.call_soon(earlier)
    loop.run_until_complete(asyncio.sleep(1))
    loop.close()

    assert ran == ["earlier"] * 5 + ["later"] * 5


# ---- processes ------------------------------------------------------------------------------


def test_a_killed_process_runs_no_more_tasks_and_timers_and_no_last_words(loop: VirtualLoop):
    process = Process(loop, "victim")
    said: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(2)
        finally:
            said.append("last words")

    async def main() -> None:
        loop.call_later(2, said.append, "timer")
        await asyncio.create_task(child())

    process.start(main())
    process.post(loop.call_later, 2, said.append, "posted timer")
    loop.post_at(1.0, process.kill)
    loop.run_until_complete(asyncio.sleep(10))

    assert not process.alive
    assert said == []


def test_who_is_killed_does_not_even_do_what_is_ready(loop: VirtualLoop):
    victim, other = Process(loop, "victim"), Process(loop, "other")
    said: list[str] = []

    loop.call_soon(victim.kill)
    victim.post(said.append, "victim")
    other.post(said.append, "other")
    loop.run_until_complete(asyncio.sleep(1))

    assert said == ["other"]


def test_the_dead_get_no_further_and_no_handler_of_failures_holds_them(loop: VirtualLoop):
    process = Process(loop, "victim")
    said: list[str] = []

    async def main() -> None:
        process.kill()
        try:
            require_alive()
        except Exception:  # noqa: BLE001 - as whoever handles failures
            said.append("handled")
        said.append("went on")

    task = process.start(main())
    loop.run_until_complete(asyncio.sleep(1))

    assert said == []
    assert isinstance(task.exception(), Killed)


def test_what_the_system_does_for_the_dead_it_does_once(loop: VirtualLoop):
    process = Process(loop, "victim")
    closed: list[str] = []
    process.on_kill.append(lambda: closed.append("sockets"))

    process.kill()
    process.kill()

    assert closed == ["sockets"]


def test_all_that_a_process_begins_belongs_to_it(loop: VirtualLoop):
    process = Process(loop, "parent")
    seen: list[Process | None] = []

    async def child() -> None:
        seen.append(current())
        loop.call_later(1, lambda: seen.append(current()))

    async def main() -> None:
        await asyncio.create_task(child())

    process.start(main())
    loop.run_until_complete(asyncio.sleep(2))

    assert seen == [process, process]
    assert current() is None
