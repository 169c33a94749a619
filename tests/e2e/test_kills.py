"""kill -9 of workers, node and supervisor while everything is recorded; Ctrl-C; a lost supervisor.

The campaign is that of `make judge PART=crash` at a small size: twenty deaths, ten of them at named
points. Days take the points in turn, so that four days go round all of them; SEED picks a day.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from benchmarks.crash.batch import Scene
from benchmarks.crash.campaign import Wish, campaign
from tests.e2e.platform import Platform, runs, until

KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("SEED", str(int(time.time()) // 86_400)))

SMALL = Scene(streams=20, size="320x180", fps=10, audio=False)
"""Twenty streams that leave two slow cores free for starting processes again."""


@pytest.mark.timeout(240 + 15 * KILLS)
def test_twenty_deaths_lose_nothing_acknowledged_and_little_else(tmp_path: Path):
    report = campaign(Wish(KILLS, SEED, scene=SMALL), tmp_path)

    print(f"seed {SEED}", report.table(), sep="\n")
    assert report.holds, report.table()


@pytest.mark.timeout(180)
async def test_ctrl_c_ends_everything_within_five_seconds(tmp_path: Path):
    platform = Platform(tmp_path, command=("demo", "--cameras", "2"), port_first=35000)
    await platform.start()
    await platform.channels_playing(6, 120)
    pids = [platform.pid(name) for name in ("node", "worker-0", "worker-1", "simulators")]

    took_s = await platform.stop()

    assert took_s <= 5.0
    for pid in pids:
        assert pid is not None
        assert not runs(pid)


@pytest.mark.timeout(180)
async def test_nothing_is_left_behind_when_no_supervisor_comes_back(tmp_path: Path):
    platform = Platform(
        tmp_path,
        command=("demo", "--cameras", "1"),
        settings={"VSP_NODE__ORPHAN_TIMEOUT_S": "3"},
        port_first=36500,
    )
    await platform.start()
    pids = [platform.pid(name) for name in ("node", "worker-0", "worker-1", "simulators")]

    assert platform.process is not None
    platform.process.kill()

    async def gone() -> bool:
        return not any(runs(pid) for pid in pids if pid is not None)

    await until("every process is gone", gone, 20)
    await platform.stop()
