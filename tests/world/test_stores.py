"""A store behind a bad line: each thing that can go wrong is seen to happen, and to be done or not
as it says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest

from simulators.world.loop import Process, VirtualLoop
from simulators.world.stores import (
    GOOD,
    LATE_S,
    TIMEOUT_S,
    Mood,
    Temper,
    Unreliable,
    run_through,
)
from simulators.world.trace import Trace
from vsp.errors import Conflict, Unavailable

CALLS = 200


class Box:
    """A store: it counts what was put into it."""

    def __init__(self) -> None:
        self.put_in: Counter[int] = Counter()

    async def put(self, number: int, *, taken: bool = False) -> str:
        if taken:
            raise Conflict("it is taken")
        self.put_in[number] += 1
        return f"put {number}"

    def size(self) -> int:
        return self.put_in.total()


class Line:
    """A box behind a line, and who watches it."""

    def __init__(self, loop: VirtualLoop, mood: Mood, seed: int = 1) -> None:
        self.loop = loop
        self.box = Box()
        self.temper = Temper(loop, Trace(), seed)
        self.temper.mood = mood
        self.observed: Counter[int] = Counter()
        self.store = Unreliable(self.box, "box", self.temper, {"put": self._saw})

    def _saw(self, arguments: tuple[int], named: object, result: object) -> None:
        assert result == f"put {arguments[0]}"
        self.observed[arguments[0]] += 1

    async def put(self, number: int) -> tuple[str, float, int]:
        """What comes of it, how long that takes, and how often it is done by then."""
        began = self.loop.now
        try:
            answer = await self.store.put(number)
        except Unavailable as error:
            answer = error.message
        return answer, self.loop.now - began, self.box.put_in[number]

    def put_many(self) -> list[tuple[str, float, int]]:
        """So many calls, at once, and all that may come of them later."""

        async def live() -> list[tuple[str, float, int]]:
            made = await asyncio.gather(*map(self.put, range(CALLS)))
            await asyncio.sleep(LATE_S)
            return made

        made = self.loop.run_until_complete(live())
        assert self.observed == self.box.put_in  # whoever watches sees what is done, and no more
        return made


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


def test_in_a_good_mood_each_call_is_done_once_and_soon(loop: VirtualLoop):
    line = Line(loop, GOOD)

    made = line.put_many()

    assert [answer for answer, _, _ in made] == [f"put {n}" for n in range(CALLS)]
    assert max(took for _, took, _ in made) < 2 * GOOD.delay_s + 1e-3
    assert set(line.box.put_in.values()) == {1}
    assert line.temper.mishaps == {}


def test_late_calls_are_done_once_and_answered(loop: VirtualLoop):
    line = Line(loop, Mood(delay_s=3.0))

    made = line.put_many()

    assert all(answer.startswith("put") for answer, _, _ in made)
    assert max(took for _, took, _ in made) > 3
    assert set(line.box.put_in.values()) == {1}


def test_what_is_refused_is_never_done(loop: VirtualLoop):
    line = Line(loop, Mood(refused=0.3))

    made = line.put_many()

    refused = [number for number, (answer, _, _) in enumerate(made) if "does not answer" in answer]
    assert line.temper.mishaps == {"refused": len(refused)}
    assert 30 < len(refused) < 90
    assert line.box.put_in.keys() == {*range(CALLS)} - {*refused}


def test_a_store_that_is_down_does_nothing(loop: VirtualLoop):
    line = Line(loop, Mood(down=True))

    made = line.put_many()

    assert {answer for answer, _, _ in made} == {"box.put: the store does not answer"}
    assert line.box.size() == 0


def test_a_call_whose_answer_is_lost_was_done_and_its_caller_waits_in_vain(loop: VirtualLoop):
    line = Line(loop, Mood(answer_lost=0.2))

    made = line.put_many()

    lost = [(took, done) for answer, took, done in made if "no answer" in answer]
    assert line.temper.mishaps == {"answer lost": len(lost)}
    assert 15 < len(lost) < 70
    assert {done for _, done in lost} == {1}
    assert min(took for took, _ in lost) >= TIMEOUT_S
    assert set(line.box.put_in.values()) == {1}


def test_a_call_that_never_comes_is_done_later_or_not_at_all(loop: VirtualLoop):
    line = Line(loop, Mood(never=0.3))

    made = line.put_many()

    never = [number for number, (answer, _, _) in enumerate(made) if "no answer" in answer]
    done_then = {made[number][2] for number in never}
    done_at_last = Counter(line.box.put_in[number] for number in never)
    assert line.temper.mishaps == {"never": len(never)}
    assert done_then == {0, 1}  # also while the caller waits
    assert done_at_last.keys() == {0, 1}
    assert done_at_last[1] > sum(made[number][2] for number in never)  # and after it gave up


def test_a_call_that_is_done_twice_is_answered_once(loop: VirtualLoop):
    line = Line(loop, Mood(twice=0.5))

    made = line.put_many()

    assert all(answer.startswith("put") for answer, _, _ in made)
    assert {done for _, _, done in made} <= {1, 2}
    assert Counter(line.box.put_in.values())[2] == line.temper.mishaps["twice"] > 60


def test_what_the_store_itself_says_comes_through(loop: VirtualLoop):
    line = Line(loop, Mood(twice=1.0))

    with pytest.raises(Conflict, match="it is taken"):
        loop.run_until_complete(line.store.put(1, taken=True))

    assert line.store.size() == 0


def test_who_dies_while_the_call_travels_does_nothing(loop: VirtualLoop):
    line, process = Line(loop, Mood(delay_s=10.0)), Process(loop, "caller")
    process.start(line.store.put(1))
    loop.post_at(0.1, process.kill)

    loop.run_until_complete(asyncio.sleep(30))

    assert line.box.size() == 0


def test_the_same_seed_has_the_same_mishaps_and_another_one_others():
    def mishaps(seed: int) -> tuple[str, int]:
        loop = VirtualLoop()
        line = Line(loop, Mood(0.5, 0.1, 0.1, 0.1, 0.2), seed)
        line.put_many()
        loop.close()
        return line.temper.trace.hash, line.box.size()

    assert mishaps(1) == mishaps(1) != mishaps(2)


def test_a_store_in_memory_may_not_wait():
    with pytest.raises(AssertionError, match="waited for something"):
        run_through(asyncio.sleep(0))
