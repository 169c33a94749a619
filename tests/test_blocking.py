import asyncio
import threading

import pytest

from vsp.blocking import IoPool
from vsp.errors import Exhausted, Invalid


async def test_calls_run_in_the_pools_own_threads():
    pool = IoPool("test", threads=2)

    name = await pool.run(lambda: threading.current_thread().name)

    assert name.startswith("vsp-test")
    await pool.close()


async def test_errors_come_back_as_they_are():
    pool = IoPool("test", threads=1)

    def failing() -> None:
        raise Invalid("no")

    with pytest.raises(Invalid):
        await pool.run(failing)
    await pool.close()


async def test_beyond_the_bound_a_call_is_refused_at_once_and_later_taken_again():
    pool = IoPool("test", threads=1, waiting_max=2)
    gate = threading.Event()
    waiting = [asyncio.create_task(pool.run(gate.wait, 10)) for _ in range(3)]
    await asyncio.sleep(0)

    with pytest.raises(Exhausted):
        await pool.run(gate.wait, 10)
    gate.set()
    await asyncio.gather(*waiting)

    assert await pool.run(lambda: 7) == 7
    await pool.close()


async def test_a_cancelled_caller_leaves_the_call_to_end_and_frees_its_place():
    pool = IoPool("test", threads=1, waiting_max=1)
    gate, ended = threading.Event(), threading.Event()

    def work() -> None:
        gate.wait(10)
        ended.set()

    running = asyncio.create_task(pool.run(work))
    queued = asyncio.create_task(pool.run(work))
    await asyncio.sleep(0)
    for task in (running, queued):
        task.cancel()
    await asyncio.gather(running, queued, return_exceptions=True)
    gate.set()
    await pool.close()

    assert ended.is_set()
