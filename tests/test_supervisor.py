"""The supervisor with real child processes: restart, stop in time, give up on bad settings."""

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.e2e.platform import until
from vsp.supervisor import EXIT_USAGE, Child, Supervisor

SLEEPER = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"


def child(name: str, code: str, **options: object) -> Child:
    return Child(name, (sys.executable, "-c", code), **options)  # type: ignore[arg-type]


def supervisor(folder: Path, stop_timeout_s: float = 2.0) -> Supervisor:
    return Supervisor(folder / "run", os.environ, stop_timeout_s)


async def pid_of(folder: Path, name: str, other_than: int | None = None) -> int:
    async def probe() -> int | None:
        text = (folder / "run" / f"{name}.pid").read_text().strip()
        return int(text) if text and int(text) != other_than else None

    return await until(f"{name} runs", probe, 10)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


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
    task = asyncio.create_task(supervisor(tmp_path, 0.3).run([child("a", STUBBORN)]))
    pid = await pid_of(tmp_path, "a")

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
