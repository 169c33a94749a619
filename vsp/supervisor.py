"""Keeps the processes of one machine alive: one node, N media workers, and what a demo adds.

It is small on purpose and holds no state worth losing. A child that dies is started again, at once
the first time and with growing pauses while it keeps dying; its last words on stderr are not
swallowed. Workers are children of the supervisor and not of the node, so that they go on receiving
while a node restarts and are re-adopted by the next one. Should the supervisor itself be killed,
every child gets SIGTERM from the kernel and stops in order. In deployments systemd takes this
place.

A child that exits with EXIT_USAGE has said what is wrong with the settings (a taken port, a missing
folder): restarting it would only say it again, so everything stops with that code.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

EXIT_USAGE = 2
"""Exit code for "the settings or this machine are at fault"; the message is on stderr."""

RESTART_FIRST_S = 0.1
RESTART_MAX_S = 5.0
STEADY_S = 10.0
"""A child that lived this long has recovered: its next restart is immediate again."""

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def _die_with(parent: int) -> Callable[[], None]:
    """For a child between fork and exec: ask the kernel for SIGTERM when `parent` ends. Linux only.

    Done there and not by the child itself, so that no moment is left in which the parent can die
    unnoticed.
    """

    def ask() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask


@dataclass(slots=True)
class Child:
    """One process to keep alive.

    after      a file that must exist before it is started
    withheld   settings it may not know, by the beginning of their environment names
    """

    name: str
    argv: Sequence[str]
    after: Path | None = None
    withheld: tuple[str, ...] = ()
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)


class Supervisor:
    """Starts children, restarts the dead, stops all within `stop_timeout_s`."""

    def __init__(
        self, run_dir: Path, environment: Mapping[str, str], stop_timeout_s: float
    ) -> None:
        self._run_dir = run_dir
        self._environment = dict(environment)
        self._stop_timeout_s = stop_timeout_s
        self._stopping = asyncio.Event()
        self._exit_code = 0

    async def run(self, children: Sequence[Child]) -> int:
        """Until SIGINT, SIGTERM or a child's EXIT_USAGE. Returns the exit code."""
        self._run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        (self._run_dir / "supervisor.pid").write_text(f"{os.getpid()}\n")
        keepers = [
            asyncio.create_task(self._keep(child), name=f"keep {child.name}") for child in children
        ]
        await self._stopping.wait()
        await self._stop(children)
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        return self._exit_code

    async def _keep(self, child: Child) -> None:
        pause_s = 0.0
        loop = asyncio.get_running_loop()
        # The file is made by another process, so there is no event of ours to wait for.
        while child.after is not None and not child.after.exists():  # noqa: ASYNC110
            await asyncio.sleep(RESTART_FIRST_S)
        while not self._stopping.is_set():
            await asyncio.sleep(pause_s)
            began = loop.time()
            code = await self._run_once(child)
            if self._stopping.is_set():
                return
            if code == EXIT_USAGE:
                self._exit_code = code
                self._stopping.set()
                return
            lived_s = loop.time() - began
            log.warning("process ended, restarting", child=child.name, code=code, lived_s=lived_s)
            steady = lived_s >= STEADY_S
            pause_s = 0.0 if steady else min(max(pause_s * 2, RESTART_FIRST_S), RESTART_MAX_S)

    async def _run_once(self, child: Child) -> int:
        child.process = await asyncio.create_subprocess_exec(
            *child.argv,
            env=self._environment_of(child),
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with(os.getpid()),
        )
        pid_file = self._run_dir / f"{child.name}.pid"
        pid_file.write_text(f"{child.process.pid}\n")
        code = await child.process.wait()
        pid_file.unlink(missing_ok=True)
        return code

    def _environment_of(self, child: Child) -> dict[str, str]:
        return {
            name: value
            for name, value in self._environment.items()
            if not name.startswith(child.withheld)
        }

    async def _stop(self, children: Sequence[Child]) -> None:
        """SIGTERM to all at once; what is left after the time is killed."""
        running = [
            child.process
            for child in children
            if child.process is not None and child.process.returncode is None
        ]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(self._stop_timeout_s):
                await asyncio.gather(*(process.wait() for process in running))
        except TimeoutError:
            for process in running:
                if process.returncode is None:
                    log.error("process did not stop in time, killed", pid=process.pid)
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
            await asyncio.gather(*(process.wait() for process in running))


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line that runs one of our modules with this very interpreter."""
    return (sys.executable, "-m", module, *arguments)
