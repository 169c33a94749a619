"""An event loop on virtual time, with processes in it that can be killed.

    loop = VirtualLoop(seed)                time jumps to the next timer when nothing is ready
    node = Process(loop, "node 1")          node.start(coroutine); node.kill()

Everything that is ready in one turn runs in an order drawn from the seed: code that leans on the
order in which asyncio happens to wake tasks is found out. A killed process stops there and then:
nothing that was scheduled from its context runs any more, no `finally` of its tasks either; what it
did to others (network, disk, database) stays done. Threads and real sockets have no place here.

Sets of tasks and futures are walked in the order of creation, so that a seed fixes a run also where
asyncio itself keeps sets (task groups, `wait`).
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from asyncio import events
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, NoReturn, TypeVar, TypeVarTuple

from vsp.clock import MICROS
from vsp.model.ids import UtcMicros

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_US = 1_772_330_400 * MICROS
"""Wall time at virtual second 0: 2026-03-01 10:00:00 in Beijing."""

TURN_S = 1e-7
"""What a turn takes. Were it nothing, who waits for a span that is lost in rounding would wait for
ever."""

CANCELLED_MIN = 1_000
"""Cancelled timers that are left in the heap before it is cleaned: most are near their time."""


class Killed(BaseException):
    """Raised into a process that has just been killed, so that it gets no further.

    Not an Exception: nothing that handles failures may handle this.
    """


class Process:
    """Tasks and timers that live and die together."""

    def __init__(self, loop: VirtualLoop, name: str) -> None:
        self.name = name
        self.alive = True
        self.on_kill: list[Callable[[], None]] = []
        """What the system does for a dead process: close its sockets, free its locks."""
        self.tasks: list[asyncio.Task[Any]] = []
        self._loop = loop
        self._context = copy_context()
        loop.processes.append(self)  # a dead one is kept, too: what is collected runs `finally`
        self._context.run(_PROCESS.set, self)

    def start(self, work: Coroutine[Any, Any, T], name: str = "") -> asyncio.Task[T]:
        """Run `work` in this process."""
        task = self._loop.create_task(work, name=name or self.name, context=self._context.copy())
        return task

    def call(self, action: Callable[..., T], *arguments: object) -> T:
        """Do something as this process, now."""
        return self._context.copy().run(action, *arguments)

    def post(self, action: Callable[..., object], *arguments: object) -> None:
        """Do something as this process, soon."""
        self._loop.call_soon(action, *arguments, context=self._context.copy())

    def kill(self) -> None:
        """SIGKILL. Whoever is running as this process must raise Killed now."""
        if self.alive:
            self.alive = False
            for action in self.on_kill:
                action()


_PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


def current() -> Process | None:
    """The process that is running; None outside of any."""
    return _PROCESS.get()


def require_alive() -> None:
    """For everything that reaches outside a process: the dead reach nothing."""
    process = _PROCESS.get()
    if process is not None and not process.alive:
        raise Killed


class _Task(asyncio.Task[T]):
    """Hashed by its number."""

    def __init__(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        loop: asyncio.AbstractEventLoop,
        name: str,
        context: Context | None,
        number: int,
    ) -> None:
        self._number = number
        super().__init__(coro, loop=loop, name=name, context=context)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future[T]):
    """Hashed by its number."""

    def __init__(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """See the module. seed None: everything runs in the order in which it was asked for."""

    _ready: deque[asyncio.Handle]
    _stopping: bool

    def __init__(self, seed: int | str | None = None) -> None:
        super().__init__()
        self.now = 0.0
        self.steps = 0
        self.processes: list[Process] = []
        self._due: list[tuple[float, int, asyncio.TimerHandle | Callable[[], object]]] = []
        self._numbers = itertools.count(1)
        self._cancelled = 0
        self._shuffle = None if seed is None else random.Random(f"order/{seed}").shuffle
        self.set_exception_handler(_ignore_the_dead)

    # ---- what asyncio asks of a loop --------------------------------------------------------

    def time(self) -> float:
        return self.now

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = events.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = events.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._due, (when, next(self._numbers), handle))
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.now + delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return _Future(next(self._numbers), self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: object = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        number = next(self._numbers)
        task = _Task(coro, self, str(name or f"task {number}"), context, number)
        process = context[_PROCESS] if context is not None else _PROCESS.get()
        if process is not None:
            process.tasks.append(task)
            if len(process.tasks) % 1024 == 0:
                process.tasks = [kept for kept in process.tasks if not kept.done()]
        return task

    def call_soon_threadsafe(self, *_: object, **__: object) -> NoReturn:
        raise AssertionError("a virtual world has no threads")

    def run_in_executor(self, *_: object) -> NoReturn:
        raise AssertionError("a virtual world has no threads")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self._cancelled += 1
        if self._cancelled > CANCELLED_MIN and self._cancelled * 2 > len(self._due):
            self._due = [entry for entry in self._due if not _is_cancelled(entry[2])]
            heapq.heapify(self._due)
            self._cancelled = 0

    # ---- what the world asks of it ----------------------------------------------------------

    def post_at(self, when: float, action: Callable[[], object]) -> None:
        """Something that happens to the world from outside of every process, at its very time:
        whoever it makes ready runs before the next one happens."""
        heapq.heappush(self._due, (when, next(self._numbers), action))

    # ---- turns ------------------------------------------------------------------------------

    def _run_once(self) -> None:
        """One turn: what is ready runs; when nothing is, time moves to what comes next."""
        if not self._ready and not self._stopping and not self._move_on():
            return
        self.now += TURN_S
        ready = self._ready
        batch = [ready.popleft() for _ in range(len(ready))]
        if self._shuffle is not None and len(batch) > 1:
            self._shuffle(batch)
        self.steps += len(batch)
        for handle in batch:
            if not handle._cancelled:
                process = handle._context.get(_PROCESS)  # type: ignore[attr-defined]
                if process is None or process.alive:
                    handle._run()

    def _move_on(self) -> bool:
        """Let time go to the next timer, and make ready what is due then; False when something
        happened instead, and who is ready has yet to be seen."""
        due = self._due
        while due:
            when, _, item = due[0]
            if isinstance(item, asyncio.TimerHandle):
                if not item._cancelled:
                    self.now = max(self.now, when)
                    self._make_ready()
                    return True
                heapq.heappop(due)
                self._cancelled -= 1
            else:
                heapq.heappop(due)
                self.now = max(self.now, when)
                self.steps += 1
                item()
                return False
        raise RuntimeError("virtual time stands still: nothing will ever happen")

    def _make_ready(self) -> None:
        """Every timer that is due, up to the next thing that happens from outside."""
        due = self._due
        while due and due[0][0] <= self.now:
            item = due[0][2]
            if not isinstance(item, asyncio.TimerHandle):
                return
            heapq.heappop(due)
            if item._cancelled:
                self._cancelled -= 1
            else:
                self._ready.append(item)

    def _asyncgen_finalizer_hook(self, agen: AsyncGenerator[Any, None]) -> None:
        """Whoever dropped it closes it, unless it is dead by then."""
        self.create_task(agen.aclose())

    def _process_events(self, event_list: object) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""


def _is_cancelled(item: object) -> bool:
    return isinstance(item, asyncio.TimerHandle) and item.cancelled()


def _ignore_the_dead(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    if not isinstance(context.get("exception"), Killed):
        loop.default_exception_handler(context)


class VirtualClock:
    """Both clocks of `vsp.ports.Clock`. The wall clock can be set; timers do not notice."""

    def __init__(self, loop: VirtualLoop, offset_s: float = 0.0) -> None:
        self._loop = loop
        self.offset_us = round(offset_s * MICROS)

    def now_us(self) -> UtcMicros:
        return UtcMicros(START_US + round(self._loop.now * MICROS) + self.offset_us)

    def monotonic(self) -> float:
        return self._loop.now


__all__ = [
    "START_US",
    "Killed",
    "Process",
    "VirtualClock",
    "VirtualLoop",
    "current",
    "require_alive",
]
