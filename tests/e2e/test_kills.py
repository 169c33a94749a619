"""kill -9 of a worker and of the node, while everything is recorded, again and again.

Nothing is started by hand; no row is without its object; what was acknowledged plays back.
"""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
import pytest

from tests.e2e.platform import Platform, runs, until

pytestmark = pytest.mark.timeout(600)

KILLS = int(os.environ.get("KILLS", "10"))
"""Kills of each kind."""


async def test_ten_kills_of_a_worker_and_ten_of_the_node_lose_nothing_acknowledged(tmp_path: Path):
    platform = Platform(
        tmp_path,
        command=("demo", "--cameras", "4"),
        settings={
            "VSP_RECORDING__SEGMENT_S": "4",
            "VSP_RECORDING__PART_S": "1",
        },
        port_first=33000,
    )
    async with platform:
        await platform.channels_playing(8, 120)

        for index in range(KILLS):
            await platform.kill(f"worker-{index % 2}")
            await platform.channels_playing(8, 60)
            await asyncio.sleep(1)
        for _ in range(KILLS):
            await platform.kill("node")
            await until("the API is back", lambda: api_answers(platform), 30)
            await asyncio.sleep(1)
        await platform.channels_playing(8, 60)
        await asyncio.sleep(6)

        for channel in await platform.items("/channels"):
            await every_acknowledged_second_is_there(platform, channel["id"])


async def api_answers(platform: Platform) -> bool:
    return (await platform.get("/channels")).status == 200


async def every_acknowledged_second_is_there(platform: Platform, channel_id: str) -> None:
    """Each row's object exists and decodes; the timeline's spans are not empty."""
    now = datetime.now(UTC)
    answer = await platform.get(
        f"/channels/{channel_id}/timeline",
        **{"from": (now - timedelta(minutes=30)).isoformat(), "to": now.isoformat()},
    )
    assert answer.body["spans"]
    for key in await acknowledged_keys(platform, channel_id):
        path = platform.data / "segments" / key
        assert path.exists(), f"row without object: {key}"
        with av.open(str(path)) as container:
            assert sum(1 for _ in container.decode(video=0)) > 0, key


async def acknowledged_keys(platform: Platform, channel_id: str) -> list[str]:
    """Read from the database by another hand than ours."""
    import sqlite3

    database = sqlite3.connect(f"file:{platform.data / 'vsp.sqlite'}?mode=ro", uri=True)
    try:
        rows = database.execute("select key from segments where channel_id = ?", (channel_id,))
        return [row[0] for row in rows]
    finally:
        database.close()


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


async def test_nothing_is_left_behind_when_the_supervisor_itself_is_killed(tmp_path: Path):
    platform = Platform(tmp_path, command=("demo", "--cameras", "1"), port_first=36500)
    await platform.start()
    pids = [platform.pid(name) for name in ("node", "worker-0", "worker-1", "simulators")]

    assert platform.process is not None
    platform.process.kill()

    async def gone() -> bool:
        return not any(runs(pid) for pid in pids if pid is not None)

    await until("every process is gone", gone, 10)
    await platform.stop()
