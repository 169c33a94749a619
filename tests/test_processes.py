"""Who a process is, and a hold on it, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from vsp.processes import Held, Identity, hold, identify, myself

SLEEPER = (sys.executable, "-c", "import time; time.sleep(60)")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEPER)
    yield process
    process.kill()
    process.wait()


def who(process: subprocess.Popen[bytes]) -> Identity:
    found = identify(process.pid)
    assert found is not None
    return found


def test_a_process_is_held_by_who_it_is(sleeper: subprocess.Popen[bytes]):
    held = hold(who(sleeper))

    assert held is not None
    assert (held.pid, held.runs) == (sleeper.pid, True)
    held.close()


def test_the_same_number_at_another_time_or_in_another_boot_is_another_process(
    sleeper: subprocess.Popen[bytes],
):
    who_it_is = who(sleeper)

    assert hold(replace(who_it_is, started_ticks=who_it_is.started_ticks - 1)) is None
    assert hold(replace(who_it_is, boot_id="another")) is None


def test_a_zombie_runs_no_more(sleeper: subprocess.Popen[bytes]):
    who_it_was = who(sleeper)

    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)

    assert identify(sleeper.pid) is None
    assert hold(who_it_was) is None


def test_a_number_that_nobody_has_is_nobody(sleeper: subprocess.Popen[bytes]):
    who_it_was = who(sleeper)

    sleeper.kill()
    sleeper.wait()

    assert identify(sleeper.pid) is None
    assert hold(who_it_was) is None


def test_a_program_keeps_its_identity_whatever_it_calls_itself():
    naming = "import ctypes, sys; ctypes.CDLL(None).prctl(15, b'a) Z 0 (b', 0, 0, 0); print(1)"
    program = (sys.executable, "-c", f"{naming}; sys.stdout.flush(); sys.stdin.read()")
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    who_it_is = who(process)
    assert process.stdout is not None
    process.stdout.readline()

    assert identify(process.pid) == who_it_is

    process.communicate()


def test_we_are_ourselves():
    assert myself().pid == os.getpid()


async def test_several_may_wait_for_one_end(sleeper: subprocess.Popen[bytes]):
    held = Held(sleeper.pid)
    waiting = [asyncio.create_task(held.ended()) for _ in range(3)]
    await asyncio.sleep(0)

    held.send(signal.SIGTERM)
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)

    assert not held.runs
    assert sleeper.wait() == -signal.SIGTERM
    held.send(signal.SIGTERM)
    held.close()


async def test_who_no_longer_waits_lets_go(sleeper: subprocess.Popen[bytes]):
    held = Held(sleeper.pid)
    waiting = asyncio.create_task(held.ended())
    await asyncio.sleep(0)

    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    held.close()

    assert sleeper.poll() is None
