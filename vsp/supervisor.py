"""Keeps the processes of one machine alive: one node, N media workers, and what a demo adds.

It is small on purpose and holds no state worth losing. A child that dies is started again, at once
the first time and with growing pauses while it keeps dying; its last words on stderr are not
swallowed. Workers are children of the supervisor and not of the node, so that they go on receiving
while a node restarts and are re-adopted by the next one. In deployments systemd may take this
place.

Should the supervisor itself be killed, children that `outlive` it go on as well, and the next
supervisor adopts them (vsp/rundir.py says by what it knows them) if it would start them with the
same program and settings; those it would not are stopped in order first. The other children get
SIGTERM from the kernel and stop in order.

A child that exits with EXIT_USAGE has said what is wrong with the settings (a taken port, a missing
folder): restarting it would only say it again, so everything stops with that code.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from pathlib import Path

import structlog

from vsp import rundir
from vsp.config import ENVIRONMENT_PREFIX
from vsp.processes import Held, Identity, myself
from vsp.rundir import Leftover, Record, kind_of

log = structlog.get_logger(__name__)

EXIT_USAGE = 2
"""Exit code for "the settings or this machine are at fault"; the message is on stderr."""

RESTART_FIRST_S = 0.1
RESTART_MAX_S = 5.0
STEADY_S = 10.0
"""A child that lived this long has recovered: its next restart is immediate again."""

SUPERVISED_AS = "VSP_SUPERVISED_AS"
"""Tells a child its name in the run directory. A process without it has never had a supervisor."""

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(slots=True)
class Process:
    """A child that runs: started by us, or adopted."""

    held: Held
    popen: subprocess.Popen[bytes] | None = None

    async def ended(self) -> int | None:
        """Its exit code; None for an adopted one, whose code only its parent is told."""
        await self.held.ended()
        return None if self.popen is None else self.popen.wait()


@dataclass(slots=True)
class Child:
    """One process to keep alive.

    after      a file that must exist before it is started
    withheld   settings it may not know, by the beginning of their environment names
    outlives   whether it goes on without us until another supervisor comes
    """

    name: str
    argv: Sequence[str]
    after: Path | None = None
    withheld: tuple[str, ...] = ()
    outlives: bool = False
    process: Process | None = field(default=None, repr=False)


class Supervisor:
    """Adopts or starts children, restarts the dead, stops all within `stop_timeout_s`."""

    def __init__(
        self, run_dir: Path, environment: Mapping[str, str], stop_timeout_s: float
    ) -> None:
        self._run_dir = run_dir
        self._environment = dict(environment)
        self._stop_timeout_s = stop_timeout_s
        self._me = myself()
        self._stopping = asyncio.Event()
        self._exit_code = 0

    async def run(self, children: Sequence[Child]) -> int:
        """Until a signal says stop or a child says EXIT_USAGE. Returns the exit code."""
        self._run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._listen_to_signals()
        with suppress(OSError):  # a full disk keeps nobody from running
            (self._run_dir / "supervisor.pid").write_text(f"{os.getpid()}\n")
        try:
            await self._take_over(children)
            await self._keep_all(children)
        finally:
            await self._stop(children)
        return self._exit_code

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # A terminal that is closed ends us in order, unless nohup(1) has asked otherwise.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, self._stopping.set)

    # ---- what an earlier supervisor left ------------------------------------------------------

    async def _take_over(self, children: Sequence[Child]) -> None:
        """Adopt who is as we would start it; the others of our kinds end first."""
        wanted = {child.name: child for child in children}
        kinds = {kind_of(name) for name in wanted}
        unfit = []
        for leftover in rundir.leftovers(self._run_dir):
            child = wanted.get(leftover.name)
            if child is not None and self._fits(child, leftover.record):
                self._adopt(child, leftover)
            elif kind_of(leftover.name) in kinds:
                why = "not needed" if child is None else "other program or settings"
                log.info("process not adopted", child=leftover.name, pid=leftover.held.pid, why=why)
                unfit.append(leftover)
            else:
                leftover.held.close()
        await end(self._run_dir, unfit, self._stop_timeout_s)

    def _fits(self, child: Child, record: Record) -> bool:
        return child.outlives and record.fingerprint == self._fingerprint(child)

    def _adopt(self, child: Child, leftover: Leftover) -> None:
        now = asyncio.get_running_loop().time()
        log.info(
            "process adopted",
            child=child.name,
            pid=leftover.held.pid,
            alone_s=round(rundir.alone_s(self._run_dir, child.name, now), 1),
        )
        child.process = Process(leftover.held)
        (self._run_dir / f"{child.name}.alone").unlink(missing_ok=True)
        self._write_down(child, leftover.record.process)

    def _write_down(self, child: Child, process: Identity) -> None:
        record = Record(process, self._me, self._fingerprint(child), child.outlives)
        with suppress(OSError):
            rundir.write_record(self._run_dir, child.name, record)

    def _fingerprint(self, child: Child) -> str:
        """Of all that decides what a child does: the program, its words, settings, where it runs
        (settings may name relative paths). The rest of the environment may differ."""
        told = sorted(
            (name, value)
            for name, value in self._environment_of(child).items()
            if name.startswith(ENVIRONMENT_PREFIX)
        )
        every = [_program(), [*child.argv], os.getcwd(), told]
        return sha256(json.dumps(every).encode()).hexdigest()

    # ---- keeping them alive -------------------------------------------------------------------

    async def _keep_all(self, children: Sequence[Child]) -> None:
        """Until it is time to stop; from then on nothing is started any more."""
        async with asyncio.TaskGroup() as keepers:
            tasks = [keepers.create_task(self._keep(child), name=child.name) for child in children]
            await self._stopping.wait()
            for task in tasks:
                task.cancel()

    async def _keep(self, child: Child) -> None:
        pause_s = 0.0
        loop = asyncio.get_running_loop()
        # The file is made by another process, so there is no event of ours to wait for.
        while child.after is not None and not child.after.exists():  # noqa: ASYNC110
            await asyncio.sleep(RESTART_FIRST_S)
        while True:
            began = loop.time()
            code = await self._run_once(child)
            if code == EXIT_USAGE:
                self._exit_code = code
                self._stopping.set()
                return
            lived_s = loop.time() - began
            log.warning("process ended, restarting", child=child.name, code=code, lived_s=lived_s)
            steady = lived_s >= STEADY_S
            pause_s = 0.0 if steady else min(max(pause_s * 2, RESTART_FIRST_S), RESTART_MAX_S)
            await asyncio.sleep(pause_s)

    async def _run_once(self, child: Child) -> int | None:
        """From its start, or adoption, to its end. None: its code cannot be known."""
        try:
            process = child.process = child.process or self._start(child)
        except (OSError, subprocess.SubprocessError) as error:
            log.error("process cannot be started", child=child.name, error=str(error))
            return None
        code = await process.ended()
        self._put_away(child)
        return code

    def _start(self, child: Child) -> Process:
        popen = subprocess.Popen(
            child.argv,
            env=self._environment_of(child),
            stdin=subprocess.DEVNULL,
            # Who reads our stdout until its end must not wait for those who go on without us.
            stdout=subprocess.DEVNULL if child.outlives else None,
            start_new_session=True,
            preexec_fn=self._before_exec(child),
        )
        return Process(Held(popen.pid), popen)

    def _before_exec(self, child: Child) -> Callable[[], None]:
        """For a child between fork and exec, so that no moment is left in which we can be killed
        and the child be unknown, or not know of it."""

        def prepare() -> None:
            if not child.outlives:
                _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
                if os.getppid() != self._me.pid:
                    os._exit(1)
            self._write_down(child, myself())

        return prepare

    def _environment_of(self, child: Child) -> dict[str, str]:
        told = {
            name: value
            for name, value in self._environment.items()
            if not name.startswith(child.withheld)
        }
        return {**told, SUPERVISED_AS: child.name}

    def _put_away(self, child: Child) -> None:
        """What is left of a child that has ended."""
        assert child.process is not None
        child.process.held.close()
        child.process = None
        rundir.forget(self._run_dir, child.name)

    # ---- the end ------------------------------------------------------------------------------

    async def _stop(self, children: Sequence[Child]) -> None:
        running = [child for child in children if child.process is not None]
        processes = [child.process for child in running if child.process is not None]
        await _end_all([process.held for process in processes], self._stop_timeout_s)
        for child, process in zip(running, processes, strict=True):
            await process.ended()
            self._put_away(child)


async def end(run_dir: Path, leftovers: Sequence[Leftover], timeout_s: float) -> None:
    """End what an earlier supervisor left, in order if it can be, and forget it."""
    await _end_all([leftover.held for leftover in leftovers], timeout_s)
    for leftover in leftovers:
        leftover.held.close()
        rundir.forget(run_dir, leftover.name)


async def _end_all(processes: Sequence[Held], timeout_s: float) -> None:
    """SIGTERM to all at once; what is left after the time is killed."""
    for process in processes:
        process.send(signal.SIGTERM)
    every = asyncio.gather(*(process.ended() for process in processes))
    try:
        async with asyncio.timeout(timeout_s):
            await every
    except TimeoutError:
        for process in processes:
            if process.runs:
                log.error("process did not stop in time, killed", pid=process.pid)
                process.send(signal.SIGKILL)
        await asyncio.gather(*(process.ended() for process in processes))


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command line that runs one of our modules with this very interpreter."""
    return (sys.executable, "-m", module, *arguments)


@cache
def _program() -> str:
    """Of every source file of this package: a version alone does not change with each change."""
    digest = sha256()
    for file in _sources(Path(__file__).parent):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _sources(package: Path) -> Iterator[Path]:
    yield from sorted(package.glob("*.py"))
    for folder in sorted(package.iterdir()):
        if (folder / "__init__.py").exists():
            yield from _sources(folder)


__all__ = ["EXIT_USAGE", "SUPERVISED_AS", "Child", "Process", "Supervisor", "end", "python"]
