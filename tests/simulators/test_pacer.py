import asyncio

from simulators.pacer import Pacer
from vsp.clock import SystemClock


class Ticker:
    """Due every `period_us` on a grid; remembers when it was asked."""

    def __init__(self, clock: SystemClock, period_us: int) -> None:
        self.period_us = period_us
        self.next_us = (clock.now_us() // period_us + 1) * period_us
        self.emitted: list[tuple[int, int]] = []
        self.on_emit = lambda: None

    def due_us(self) -> int:
        return self.next_us

    def emit(self, now_us: int) -> None:
        self.emitted.append((self.next_us, now_us))
        self.next_us += self.period_us
        self.on_emit()


async def test_each_source_is_asked_when_it_is_due_and_never_before():
    clock = SystemClock()
    pacer = Pacer(clock)
    tickers = [Ticker(clock, period_us) for period_us in (10_000, 25_000, 10_000)]
    for ticker in tickers:
        pacer.add(ticker)

    await asyncio.sleep(0.3)
    pacer.close()

    assert [len(ticker.emitted) for ticker in tickers] > [25, 10, 25]
    for ticker in tickers:
        dues = [due for due, _ in ticker.emitted]
        assert all(now >= due for due, now in ticker.emitted)
        assert dues == list(range(dues[0], dues[-1] + 1, ticker.period_us))


async def test_a_removed_source_is_not_asked_again():
    clock = SystemClock()
    pacer = Pacer(clock)
    kept, removed = Ticker(clock, 5_000), Ticker(clock, 5_000)
    pacer.add(kept)
    pacer.add(removed)
    await asyncio.sleep(0.03)

    pacer.remove(removed)
    seen = len(removed.emitted)
    await asyncio.sleep(0.05)
    pacer.close()

    assert len(removed.emitted) == seen
    assert len(kept.emitted) > seen


async def test_a_source_may_remove_itself_or_another_while_it_is_asked():
    clock = SystemClock()
    pacer = Pacer(clock)
    first, second = Ticker(clock, 5_000), Ticker(clock, 5_000)
    first.next_us = second.next_us
    first.on_emit = lambda: (pacer.remove(first), pacer.remove(second))
    pacer.add(first)
    pacer.add(second)

    await asyncio.sleep(0.05)

    assert (len(first.emitted), len(second.emitted)) == (1, 0)
    pacer.close()


async def test_closing_stops_everything_and_may_be_done_twice():
    clock = SystemClock()
    pacer = Pacer(clock)
    ticker = Ticker(clock, 5_000)
    pacer.add(ticker)

    pacer.close()
    pacer.close()
    await asyncio.sleep(0.03)

    assert ticker.emitted == []


async def test_a_source_that_fails_does_not_stop_the_others():
    clock = SystemClock()
    pacer = Pacer(clock)
    failing, other = Ticker(clock, 5_000), Ticker(clock, 5_000)
    complaints: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: complaints.append(what))
    failing.on_emit = lambda: 1 / 0
    pacer.add(failing)
    pacer.add(other)

    await asyncio.sleep(0.05)
    pacer.close()

    assert len(failing.emitted) == len(complaints) == 1
    assert len(other.emitted) > 3
