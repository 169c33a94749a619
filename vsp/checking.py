"""`vsp check`: the check of `vsp.retention` as a person runs it, with progress and resumable.

Its state lies in `{data_dir}/check/{level}.json` and is written every few seconds, so that a check
that was interrupted, by whatever, goes on there. It may run beside the platform: workers that run
say what they work on; for those that do not, their spools say it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vsp import __version__
from vsp.administer import CLI
from vsp.clock import SystemClock, SystemIds
from vsp.config import Config
from vsp.disk import SystemDisk, exists, lock_file, make_folders, read_whole, write_durably
from vsp.errors import Conflict, NotFound, VspError
from vsp.link import WorkerLink, from_wire, socket_path, to_wire
from vsp.media.claims import SpoolClaims
from vsp.media.salvage import read_segment
from vsp.model.ids import UtcMicros, WorkerId
from vsp.model.people import Action
from vsp.ports import Clock
from vsp.retention.check import Check, Finding, Kind, Level, Sources, Stage, State
from vsp.retention.claims import Claimed
from vsp.store import open_objects, open_store

SAVE_S = 2.0
"""The most that is done again after a kill."""

SHOW_S = 1.0
SHOW_SELDOM_S = 30.0
"""Between two lines of progress, on a terminal and where lines stay."""

PRINTED_MAX = 100
"""Findings printed, the rest is counted; `--json` has all that are kept."""

CONNECT_S = 1.0
"""A Unix socket is connected at once, or its owner is stopped and its queue full."""

EXIT_CLEAN, EXIT_FINDINGS, EXIT_INTERRUPTED = 0, 1, 130

KINDS: Mapping[Kind, str] = {
    Kind.LOST: "对象丢失 lost",
    Kind.SIZE: "大小不符 size",
    Kind.HASH: "内容不符 hash",
    Kind.OVERLAP: "时间重叠 overlap",
    Kind.ORPHAN: "对象无行 orphan",
    Kind.ABANDONED: "上传遗留 abandoned",
    Kind.AUDIT: "审计链断 audit",
}

STAGES: Mapping[Stage, str] = {
    Stage.SEGMENTS: "行与对象 rows and objects",
    Stage.UPLOADS: "上传 uploads",
    Stage.AUDIT: "审计链 audit chain",
    Stage.DONE: "完毕 done",
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line."""

    level: Level
    mend: bool = False
    fresh: bool = False
    as_json: bool = False


async def check(config: Config, wish: Wish) -> int:
    """`vsp check`. Returns its exit code; raises VspError when it cannot begin or go on."""
    _refuse_wrong_folder(config)
    clock = SystemClock()
    with _alone(config.data_dir / "check"), _signals() as stopping:
        saved = Saved(config.data_dir / "check" / f"{wish.level}.json", clock)
        async with _sources(config, clock) as sources:
            begun = saved.begin(wish)
            showing = Showing(wish, clock, await sources.segments.count(), begun)
            state = await _work(Check(sources, begun), saved, showing, stopping)
    showing.result(state)
    if state.stage is not Stage.DONE:
        return EXIT_INTERRUPTED
    return EXIT_CLEAN if state.is_clean else EXIT_FINDINGS


async def _work(check: Check, saved: Saved, showing: Showing, stopping: asyncio.Event) -> State:
    """As far as it goes; whatever ends it before its end, the state is on disk."""
    try:
        async with aclosing(check.run()) as steps:
            async for _ in steps:
                if stopping.is_set():
                    break
                if saved.is_due():
                    saved.write(check.state)
                if showing.is_due():
                    showing.progress(saved.timed(check.state))
    finally:
        saved.write(check.state)
        showing.findings(check.state)
    if check.state.stage is Stage.DONE:
        saved.forget()
    return saved.timed(check.state)


def _refuse_wrong_folder(config: Config) -> None:
    """A check of an empty database that opening has just made would find everything in order."""
    if not config.database.url and not exists(SystemDisk(), config.data_dir / "vsp.sqlite"):
        raise NotFound(
            f"{config.data_dir} 中没有平台的数据 there is no platform's data in {config.data_dir}",
            next_step="用 --set node.data_dir=… 指明数据目录 name the folder with node.data_dir",
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One check at a time: two would write over each other's state."""
    make_folders(SystemDisk(), folder)
    try:
        file = lock_file(folder / "lock")
    except BlockingIOError:
        raise Conflict(
            "另一个 vsp check 正在运行 another vsp check runs on this data folder",
            next_step="等它结束 wait until it has ended",
        ) from None
    try:
        yield
    finally:
        os.close(file)


@contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Set by the first SIGINT or SIGTERM."""
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, stopping.set)
    try:
        yield stopping
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


@asynccontextmanager
async def _sources(config: Config, clock: Clock) -> AsyncIterator[Sources]:
    objects = open_objects(config)
    try:
        store = await open_store(config, clock, SystemIds())
        claims = MachineClaims(config, clock)
        try:
            yield Sources(
                segments=store.segments,
                objects=objects,
                audit=store.audit,
                claims=claims,
                facts=partial(read_segment, objects),
                acting=partial(store.audit.act, CLI, Action.STORE_MEND),
            )
        finally:
            await claims.close()
            await store.close()
    finally:
        await objects.close()


# ---- who works on what ----------------------------------------------------------------------


class MachineClaims:
    """The claims of all workers whose spools lie in this data folder, whether they run or not."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._data_dir = config.data_dir
        self._grace_s = config.recording.reconcile_grace_s
        self._clock = clock
        self._links: dict[int, WorkerLink] = {}
        self._spools: dict[int, SpoolClaims] = {}
        self._said: set[int] = set()

    async def __call__(self) -> Claimed:
        keys: set[str] = set()
        runs = False
        for index in self._workers():
            listens = await asyncio.to_thread(_listens, socket_path(self._data_dir, index))
            keys |= await (self._asked(index) if listens else self._read(index))
            runs |= listens
        if not runs:
            return Claimed(frozenset(keys))
        before_us = UtcMicros(self._clock.now_us() - round(self._grace_s * 1e6))
        return Claimed(frozenset(keys), before_us)

    def _workers(self) -> list[int]:
        folder = self._data_dir / "spool"
        names = [each.name for each in SystemDisk().entries(folder)] if folder.exists() else []
        return sorted(int(name) for name in names if name.isdecimal())

    async def _asked(self, index: int) -> frozenset[str]:
        if index not in self._links:
            path = socket_path(self._data_dir, index)
            self._links[index] = WorkerLink(path, WorkerId(index))
        try:
            return frozenset(await self._links[index].held_keys())
        except VspError as error:
            self._say_silent(index, error)
            return await self._read(index)

    async def _read(self, index: int) -> frozenset[str]:
        if index not in self._spools:
            folder = self._data_dir / "spool" / str(index)
            self._spools[index] = SpoolClaims(SystemDisk(), folder)
        return await asyncio.to_thread(self._spools[index].read)

    def _say_silent(self, index: int, error: VspError) -> None:
        if index in self._said:
            return
        self._said.add(index)
        _tell(
            f"媒体进程 {index} 在运行但不应答，按其暂存日志判断，{self._grace_s:g} 秒内的一律不动 "
            f"worker {index} runs and does not answer: its spool is read, and whatever is younger "
            f"than {self._grace_s:g} s is left alone ({error.message})"
        )

    async def close(self) -> None:
        for link in self._links.values():
            await link.close()


def _listens(path: Path) -> bool:
    """Whether a process holds this socket open, be it stopped or hung."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(CONNECT_S)
        try:
            probe.connect(str(path))
        except (TimeoutError, BlockingIOError):
            return True
        except OSError:
            return False
    return True


# ---- what is kept between two runs ----------------------------------------------------------


class Saved:
    """The state of the check of one level, on disk."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._disk = SystemDisk()
        self._since = self._due = clock.monotonic()
        self._had_s = 0.0

    def begin(self, wish: Wish) -> State:
        """Where an earlier run was interrupted, or the very beginning."""
        state = None if wish.fresh else self._read(wish)
        if state is None:
            by = f"vsp {__version__}, {CLI.user.name}, {CLI.address}"
            state = State(wish.level, wish.mend, self._clock.now_us(), by)
        self._had_s = state.cost.seconds
        return state

    def _read(self, wish: Wish) -> State | None:
        """None, having said why, when there is nothing that can be gone on from."""
        try:
            said = json.loads(read_whole(self._disk, self._path))
            state = from_wire(State, said["state"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, VspError) as error:
            _tell(f"{self._path} 不可读，重新开始 it cannot be read, begins anew: {error}")
            return None
        if said["version"] != __version__ or state.mend != wish.mend:
            _tell("上次中断的检查与此不同，重新开始 the one before was another one, begins anew")
            return None
        _tell(f"接着上次中断处 goes on from where it was interrupted: {_where(state)}")
        return state

    def is_due(self) -> bool:
        return self._clock.monotonic() >= self._due

    def timed(self, state: State) -> State:
        """With the seconds of all runs."""
        seconds = self._had_s + self._clock.monotonic() - self._since
        return replace(state, cost=replace(state.cost, seconds=round(seconds, 1)))

    def write(self, state: State) -> None:
        said = {"version": __version__, "state": to_wire(self.timed(state))}
        aside = self._path.with_suffix(".new")
        write_durably(self._disk, aside, json.dumps(said, ensure_ascii=False).encode())
        self._disk.rename(aside, self._path)
        self._disk.sync_folder(self._path.parent)
        self._due = self._clock.monotonic() + SAVE_S

    def forget(self) -> None:
        self._disk.remove(self._path)
        self._disk.sync_folder(self._path.parent)


# ---- what people see ------------------------------------------------------------------------


class Showing:
    """Findings and the result on stdout, progress on stderr."""

    def __init__(self, wish: Wish, clock: Clock, total: int, begun: State) -> None:
        self._wish = wish
        self._clock = clock
        self._total = max(total, 1)
        self._begun = begun
        self._terminal = sys.stderr.isatty()
        self._since = clock.monotonic()
        self._due = self._since + SHOW_S
        self._printed = 0

    def is_due(self) -> bool:
        return self._clock.monotonic() >= self._due

    def progress(self, state: State) -> None:
        """One line; findings so far above it."""
        self.findings(state)
        line = f"{STAGES[state.stage]} {self._amounts(state)}"
        print(
            f"\r\x1b[K{line}" if self._terminal else line,
            file=sys.stderr,
            flush=True,
            end="" if self._terminal else "\n",
        )
        self._due = self._clock.monotonic() + (SHOW_S if self._terminal else SHOW_SELDOM_S)

    def _amounts(self, state: State) -> str:
        seconds = max(self._clock.monotonic() - self._since, 0.001)
        rows = state.cost.rows - self._begun.cost.rows
        read = state.cost.bytes_read - self._begun.cost.bytes_read
        said = f"{state.cost.rows:,} / {self._total:,} 行 rows, {rows / seconds:,.0f}/s"
        if read:
            said += f", {state.cost.bytes_read / 1e6:,.0f} MB, {read / seconds / 1e6:,.0f} MB/s"
        left = max(self._total - state.cost.rows, 0)
        if rows and left:
            said += f", 约剩 left {_span(left * seconds / rows)}"
        return said

    def findings(self, state: State) -> None:
        """Those that were not printed yet, up to the bound."""
        if self._wish.as_json:
            return
        for finding in state.findings[self._printed : PRINTED_MAX]:
            self._clear()
            print(_line(finding), flush=True)
        self._printed = min(len(state.findings), PRINTED_MAX)

    def result(self, state: State) -> None:
        """Where it stands, what was found, what it cost."""
        self._clear()
        if self._wish.as_json:
            print(json.dumps(_report(state), ensure_ascii=False))
            return
        found = sum(state.counts.values())
        if found > self._printed:
            print(f"…另有 {found - self._printed} 处未列出 and {found - self._printed} more")
        if state.stage is not Stage.DONE:
            print(f"已中断，再次运行即接着检查 interrupted, run it again to go on: {_where(state)}")
        elif not found:
            print(f"检查完毕，未发现问题 checked ({state.level}): nothing is wrong")
        else:
            print(f"检查完毕，发现 {found} 处问题 checked ({state.level}): {found} findings")
        for kind, count in state.counts.items():
            mended = state.mended.get(kind, 0)
            done = f"，已修复 {mended} mended" if mended else ""
            print(f"  {KINDS[kind]}: {count}{done}")
        print(_cost(state))

    def _clear(self) -> None:
        if self._terminal:
            print("\r\x1b[K", file=sys.stderr, end="", flush=True)


def _tell(text: str) -> None:
    print(f"vsp: {text}", file=sys.stderr, flush=True)


def _line(finding: Finding) -> str:
    done = f"; {finding.mended}" if finding.mended else ""
    return f"{KINDS[finding.kind]}  {finding.key}  {finding.cause}{done}"


def _where(state: State) -> str:
    return f"{STAGES[state.stage]} {state.after}"


def _cost(state: State) -> str:
    cost = state.cost
    return (
        f"行 rows {cost.rows:,}, 对象 objects {cost.objects:,}, 上传 uploads {cost.uploads:,}, "
        f"审计行 audit rows {cost.audit_rows:,}, 请求 requests {cost.requests:,}, "
        f"读取 read {cost.bytes_read / 1e6:,.1f} MB, 用时 took {_span(cost.seconds)}"
    )


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02} min"


def _report(state: State) -> dict[str, object]:
    """For programs (contract): the state, and what it comes to."""
    wire = to_wire(state)
    assert isinstance(wire, dict)
    ended = state.stage is Stage.DONE
    return {**wire, "ended": ended, "clean": state.is_clean}


__all__ = ["Wish", "check"]
