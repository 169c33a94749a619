"""Blocking calls beside the event loop: in threads of their own, with a bound on how many may wait.

What awaits them sees `Blocking`; a virtual world, which has no threads, runs the same calls on its
loop after the time that they would have taken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

from vsp.errors import Exhausted

P = ParamSpec("P")
T = TypeVar("T")

WAITING_MAX = 1_024
"""Calls that may wait for a thread: a thousand recordings with one part each. More means that the
disk or the server has stopped, and an error now is better than memory without end."""


class Blocking(Protocol):
    """Where blocking calls run."""

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `call`. A cancelled caller leaves it to end by itself."""
        ...

    async def close(self, *, wait: bool = True) -> None:
        """Cancel waiting calls and let running ones end; `wait` where they end soon."""
        ...


class IoPool:
    """A few threads for one kind of blocking I/O, apart from asyncio's shared ones."""

    def __init__(self, name: str, threads: int, waiting_max: int = WAITING_MAX) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"vsp-{name}")
        self._limit = threads + waiting_max
        self._running = 0

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        if self._running >= self._limit:
            raise Exhausted(
                f"{self._running} {self._name} calls are waiting",
                cause="the disk or the object server does not keep up",
                next_step="look at its load; recording goes on into the spool",
            )
        self._running += 1
        future = self._executor.submit(call, *args, **kwargs)
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: _post(loop, self._ended))
        return await asyncio.wrap_future(future)

    def _ended(self) -> None:
        self._running -= 1

    async def close(self, *, wait: bool = True) -> None:
        if wait:
            await asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)
        else:
            self._executor.shutdown(wait=False, cancel_futures=True)


def _post(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Run on the loop, unless it has gone before the thread ended."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)


__all__ = ["Blocking", "IoPool"]
