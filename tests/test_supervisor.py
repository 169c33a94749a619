"""The supervisor with real child processes: restart, stop in time, give up on bad settings, and
what becomes of them when it is killed itself."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from tests.e2e.platform import runs, until
from vsp import rundir
from vsp.processes import hold
from vsp.rundir import read_record
from vsp.supervisor import EXIT_USAGE, Child, Supervisor

SLEEPER = "import time; time.sleep(60)"
STUBBORN = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").close()
time.sleep(60)
"""


def child(name: str, code: str, *words: str, **options: object) -> Child:
    return Child(name, (sys.executable, "-c", code, *words), **options)  # type: ignore[arg-type]


def supervisor(folder: Path, stop_timeout_s: float = 2.0) -> Supervisor:
    return Supervisor(folder / "run", os.environ, stop_timeout_s)


async def pid_of(folder: Path, name: str, other_than: int | None = None) -> int:
    async def probe() -> int | None:
        text = (folder / "run" / f"{name}.pid").read_text().strip()
        return int(text) if text and int(text) != other_than else None

    return await until(f"{name} runs", probe, 10)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def is_there(file: Path):
    async def probe() -> bool:
        return file.exists()

    return probe


async def test_a_killed_child_is_started_again(tmp_path):
    task = asyncio.create_task(supervisor(tmp_path).run([child("a", SLEEPER)]))
    first = await pid_of(tmp_path, "a")

    os.kill(first, signal.SIGKILL)
    second = await pid_of(tmp_path, "a", other_than=first)

    assert second != first
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0
    assert not alive(second)


async def test_a_child_that_ignores_sigterm_is_killed_after_the_time(tmp_path):
    deaf = tmp_path / "deaf"
    task = asyncio.create_task(supervisor(tmp_path, 0.3).run([child("a", STUBBORN, str(deaf))]))
    pid = await pid_of(tmp_path, "a")
    await until("it is deaf", is_there(deaf), 10)

    os.kill(os.getpid(), signal.SIGINT)
    async with asyncio.timeout(5):
        await task

    assert not alive(pid)


async def test_a_child_that_names_a_bad_setting_ends_everything(tmp_path):
    bad = child("bad", f"import sys; sys.exit({EXIT_USAGE})")

    code = await supervisor(tmp_path).run([child("good", SLEEPER), bad])

    assert code == EXIT_USAGE


async def test_a_child_waits_for_its_file(tmp_path):
    ready = tmp_path / "ready"
    task = asyncio.create_task(
        supervisor(tmp_path).run([child("late", SLEEPER, after=ready), child("a", SLEEPER)])
    )
    await pid_of(tmp_path, "a")
    assert not (tmp_path / "run" / "late.pid").exists()

    ready.touch()
    await pid_of(tmp_path, "late")

    os.kill(os.getpid(), signal.SIGTERM)
    await task


async def test_a_child_is_not_told_what_is_withheld(tmp_path, monkeypatch):
    monkeypatch.setenv("VSP_DATABASE__URL", "postgresql://user:secret@host/db")
    monkeypatch.setenv("VSP_WEB__PORT", "1")
    code = f"import os; open({str(tmp_path / 'seen')!r}, 'w').write(repr(dict(os.environ)))"
    told = child("told", f"{code}; import sys; sys.exit({EXIT_USAGE})")
    told.withheld = ("VSP_DATABASE__",)

    await supervisor(tmp_path).run([told])

    seen = (tmp_path / "seen").read_text()
    assert "VSP_WEB__PORT" in seen
    assert "secret" not in seen


async def test_a_child_that_cannot_be_started_does_not_trouble_the_others(tmp_path):
    missing = Child("missing", (str(tmp_path / "nothing"),))
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(supervisor(tmp_path).run([child("a", SLEEPER), missing]))
        pid = await pid_of(tmp_path, "a")

        async def twice() -> bool:
            return sum(line["event"] == "process cannot be started" for line in logs) >= 2

        await until("it was tried again", twice, 10)

    assert runs(pid)
    os.kill(os.getpid(), signal.SIGTERM)
    assert await task == 0


async def test_whatever_ends_the_supervisor_ends_its_children(tmp_path):
    task = asyncio.create_task(supervisor(tmp_path).run([child("a", SLEEPER, outlives=True)]))
    pid = await pid_of(tmp_path, "a")

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert not alive(pid)


@pytest.fixture
def listens_to_hangups() -> Iterator[None]:
    """Whoever runs the tests may have started them by nohup(1), which we would honour."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


async def test_a_terminal_that_is_closed_ends_everything(tmp_path, listens_to_hangups):
    task = asyncio.create_task(supervisor(tmp_path).run([child("a", SLEEPER, outlives=True)]))
    pid = await pid_of(tmp_path, "a")

    os.kill(os.getpid(), signal.SIGHUP)

    assert await task == 0
    assert not alive(pid)


# ---- a killed supervisor --------------------------------------------------------------------

KILLABLE = """
import asyncio, json, os, sys
from pathlib import Path
from vsp.supervisor import Child, Supervisor
children = [Child(name, tuple(argv), outlives=True) for name, argv in json.loads(sys.argv[2])]
children += [Child("mortal", (sys.executable, "-c", "import time; time.sleep(60)"))]
asyncio.run(Supervisor(Path(sys.argv[1]) / "run", os.environ, 2.0).run(children))
"""

ORDERLY = """
import signal, sys, time
def stop(*_):
    open(sys.argv[2], "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
open(sys.argv[1], "w").close()
time.sleep(60)
"""
"""Leaves a file when it can be asked to stop, and another when it is."""


def orderly(name: str, asked: Path) -> Child:
    return child(name, ORDERLY, f"{asked}.ready", str(asked), outlives=True)


async def kill_one_supervising(folder: Path, *children: Child) -> dict[str, int]:
    """The pids of what a supervisor leaves that ran these children and was killed."""
    words = json.dumps([(child.name, child.argv) for child in children])
    process = subprocess.Popen([sys.executable, "-c", KILLABLE, str(folder), words])
    try:
        names = [child.name for child in children]
        pids = {name: await pid_of(folder, name) for name in [*names, "mortal"]}
        for ready in [Path(child.argv[3]) for child in children if len(child.argv) > 3]:
            await until("it is ready", is_there(ready), 10)
    finally:
        process.kill()
        process.wait()
    return pids


@pytest.fixture
def tidy(tmp_path):
    """Ends what a failed test would leave."""
    yield
    for leftover in rundir.leftovers(tmp_path / "run"):
        leftover.held.send(signal.SIGKILL)
        leftover.held.close()


@asynccontextmanager
async def supervised(folder: Path, *children: Child, timeout_s: float = 2.0) -> AsyncIterator[None]:
    """A supervisor of ours, ended in order."""
    task = asyncio.create_task(supervisor(folder, timeout_s).run(children))
    try:
        yield
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        assert await task == 0


@pytest.mark.usefixtures("tidy")
async def test_a_killed_supervisor_leaves_only_those_who_outlive_it(tmp_path):
    pids = await kill_one_supervising(tmp_path, child("worker-0", SLEEPER))

    async def mortal_is_gone() -> bool:
        return not runs(pids["mortal"])

    await until("the mortal child is gone", mortal_is_gone, 10)
    assert runs(pids["worker-0"])
    assert [left.name for left in rundir.leftovers(tmp_path / "run")] == ["worker-0"]


@pytest.mark.usefixtures("tidy")
async def test_the_next_supervisor_adopts_keeps_and_ends_what_it_finds(tmp_path):
    worker = child("worker-0", SLEEPER, outlives=True)
    before = (await kill_one_supervising(tmp_path, worker))["worker-0"]
    (tmp_path / "run" / "worker-0.alone").write_text(f"{time.monotonic() - 12}")

    with structlog.testing.capture_logs() as logs:
        async with supervised(tmp_path, worker):
            await until("it is adopted", lambda: has_supervisor(tmp_path, "worker-0"), 10)
            assert runs(before)
            assert await pid_of(tmp_path, "worker-0") == before

            os.kill(before, signal.SIGKILL)
            after = await pid_of(tmp_path, "worker-0", other_than=before)

    [adoption] = [line for line in logs if line["event"] == "process adopted"]
    assert (adoption["child"], adoption["pid"]) == ("worker-0", before)
    assert 12 <= adoption["alone_s"] < 30
    assert not runs(after)


async def has_supervisor(folder: Path, name: str) -> bool:
    record = read_record(folder / "run", name)
    held = hold(record.supervisor) if record else None
    if held is not None:
        held.close()
    return held is not None


@pytest.mark.usefixtures("tidy")
async def test_an_adopted_child_is_ended_in_order_with_the_others(tmp_path):
    asked = tmp_path / "asked"
    worker = orderly("worker-0", asked)
    before = (await kill_one_supervising(tmp_path, worker))["worker-0"]

    async with supervised(tmp_path, worker):
        await until("it is adopted", lambda: has_supervisor(tmp_path, "worker-0"), 10)

    assert asked.exists()
    assert not runs(before)
    assert [*(tmp_path / "run").glob("worker-0.*")] == []


@pytest.mark.usefixtures("tidy")
async def test_an_adopted_child_that_ignores_sigterm_is_killed_after_the_time(tmp_path):
    worker = child("worker-0", STUBBORN, str(tmp_path / "deaf"), outlives=True)
    before = (await kill_one_supervising(tmp_path, worker))["worker-0"]

    async with supervised(tmp_path, worker, timeout_s=0.3):
        await until("it is adopted", lambda: has_supervisor(tmp_path, "worker-0"), 10)
        began = time.monotonic()

    assert time.monotonic() - began < 2
    assert not runs(before)


@pytest.mark.usefixtures("tidy")
@pytest.mark.parametrize("changed", ["setting", "argv", "mortal now"])
async def test_who_would_be_started_otherwise_is_ended_in_order_first(
    tmp_path, monkeypatch, changed: str
):
    asked = tmp_path / "asked"
    worker = orderly("worker-0", asked)
    before = (await kill_one_supervising(tmp_path, worker))["worker-0"]
    match changed:
        case "setting":
            monkeypatch.setenv("VSP_RECORDING__SEGMENT_S", "30")
        case "argv":
            worker.argv = (*worker.argv, "more")
        case _:
            worker.outlives = False

    async with supervised(tmp_path, worker):
        after = await pid_of(tmp_path, "worker-0", other_than=before)
        assert asked.exists()
        assert not runs(before)
        assert runs(after)


@pytest.mark.usefixtures("tidy")
async def test_an_environment_that_is_no_setting_may_change(tmp_path, monkeypatch):
    worker = child("worker-0", SLEEPER, outlives=True)
    before = (await kill_one_supervising(tmp_path, worker))["worker-0"]
    monkeypatch.setenv("TERM", "another")

    async with supervised(tmp_path, worker):
        await until("it is adopted", lambda: has_supervisor(tmp_path, "worker-0"), 10)
        assert runs(before)


@pytest.mark.usefixtures("tidy")
async def test_workers_that_are_not_needed_any_more_are_ended_and_other_kinds_left_alone(tmp_path):
    asked = tmp_path / "asked"
    pids = await kill_one_supervising(
        tmp_path,
        child("worker-0", SLEEPER),
        orderly("worker-1", asked),
        child("other-0", SLEEPER),
    )

    async with supervised(tmp_path, child("worker-0", SLEEPER, outlives=True)):
        await until("it is adopted", lambda: has_supervisor(tmp_path, "worker-0"), 10)
        assert asked.exists()
        assert [name for name, pid in pids.items() if runs(pid)] == ["worker-0", "other-0"]

    assert runs(pids["other-0"])


async def test_a_number_that_another_process_has_now_is_left_alone(tmp_path):
    worker = child("worker-0", SLEEPER, outlives=True)
    pids = await kill_one_supervising(tmp_path, worker)
    os.kill(pids["worker-0"], signal.SIGKILL)
    stranger = subprocess.Popen([sys.executable, "-c", SLEEPER])
    file = tmp_path / "run" / "worker-0.child"
    file.write_text(file.read_text().replace(str(pids["worker-0"]), str(stranger.pid)))

    async with supervised(tmp_path, worker):
        assert await pid_of(tmp_path, "worker-0", other_than=pids["worker-0"]) != stranger.pid

    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
