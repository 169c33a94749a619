"""`vsp check` beside a platform that records, and over what is left of one; and its reconciler.

What is damaged here is what happens to recordings: an object that is removed, cut, or altered in
one byte; a row that a restored database does not have; an upload whose worker's disk is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks.crash.recorded import Row, read_rows
from tests.e2e.platform import ROOT, Platform, until
from tests.e2e.test_relay import free_ports
from vsp.config import Config
from vsp.store import open_objects

CHANNELS = 5
PORTS = 40

RECONCILED_S = 60.0
"""Until the reconciler's first turn has ended: 20 s after the start, on a machine that is busy."""


@dataclass
class Report:
    """What `vsp check --json` said."""

    code: int
    said: dict[str, Any]
    errors: str

    @property
    def found(self) -> set[tuple[str, str]]:
        return {(finding["kind"], finding["key"]) for finding in self.said["findings"]}


async def check(platform: Platform, *words: str) -> Report:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vsp", "check", "--json", *words),
        cwd=ROOT,
        env={**os.environ, **platform.settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, errors = await process.communicate()
    assert process.returncode is not None
    return Report(process.returncode, json.loads(out), errors.decode())


@asynccontextmanager
async def recording(folder: Path, **recording: str) -> AsyncIterator[Platform]:
    settings = {f"VSP_RECORDING__{name}": value for name, value in recording.items()}
    platform = Platform(
        folder,
        command=("demo", "--cameras", "1"),
        settings={
            "VSP_RECORDING__SEGMENT_S": "4",
            "VSP_RECORDING__PART_S": "1",
            "VSP_MEDIA__PORTS_PER_WORKER": str(PORTS),
            **settings,
        },
        port_first=free_ports(2 * PORTS),
    )
    async with platform:
        await platform.channels_playing(CHANNELS, 120)
        yield platform


async def answers(platform: Platform) -> bool:
    try:
        await platform.sign_in()
    except aiohttp.ClientConnectionError:
        return False
    return True


async def rows_of_each_channel(platform: Platform, count: int) -> list[Row]:
    async def probe() -> list[Row] | None:
        rows = rows_of(platform)
        of = Counter(row.channel for row in rows)
        return rows if len(of) == CHANNELS and min(of.values()) >= count else None

    return await until(f"{count} rows of each channel", probe, 60)


def rows_of(platform: Platform) -> list[Row]:
    return read_rows(platform.data / "vsp.sqlite")


def file_of(platform: Platform, row: Row) -> Path:
    return platform.data / "segments" / row.key


def forget(platform: Platform, *rows: Row) -> None:
    """As if the database came from a backup."""
    with closing(sqlite3.connect(platform.data / "vsp.sqlite")) as connection, connection:
        connection.executemany("DELETE FROM segments WHERE key = ?", [(row.key,) for row in rows])


async def take_back(platform: Platform, row: Row) -> None:
    """To what it was before it was complete: an upload with all its parts, and no row."""
    file = file_of(platform, row)
    data = file.read_bytes()
    objects = open_objects(Config.model_validate({"node": {"data_dir": platform.data}}))
    try:
        metadata = (await objects.stat(row.key)).metadata
        upload_id = await objects.begin(row.key, metadata)
        half = len(data) // 2
        for number, part in enumerate((data[:half], data[half:]), 1):
            await objects.put_part(row.key, upload_id, number, part)
        await objects.delete(row.key)
    finally:
        await objects.close()
    forget(platform, row)


@pytest.mark.timeout(240)
async def test_beside_a_platform_that_records_and_dies_nothing_is_wrong(tmp_path: Path):
    async with recording(tmp_path, RECONCILE_GRACE_S="1", RECONCILE_S="2") as platform:
        levels = ("presence", "size", "hash")
        reports = [await check(platform, "--level", level, "--mend") for level in levels]
        await platform.kill("worker-0")
        reports.append(await check(platform, "--level", "hash"))
        await platform.kill("node")
        reports.append(await check(platform, "--level", "hash"))
        await until("the node answers again", partial(answers, platform), 30)
        await platform.channels_playing(CHANNELS, 60)
        await rows_of_each_channel(platform, 3)
        reports.append(await check(platform, "--level", "hash", "--mend"))
    reports.append(await check(platform, "--level", "hash"))

    assert [(report.code, report.found) for report in reports] == [(0, set())] * 7
    assert reports[-1].said["cost"]["rows"] == len(rows_of(platform)) >= 3 * CHANNELS


@pytest.mark.timeout(240)
async def test_each_kind_of_damage_is_found_at_its_level_and_mended_where_it_may_be(
    tmp_path: Path,
):
    async with recording(tmp_path) as platform:
        await rows_of_each_channel(platform, 3)
    removed, cut, altered, forgotten, unfinished, *_ = one_of_each_channel(rows_of(platform))
    kept = {row.key: row for row in rows_of(platform)}
    file_of(platform, removed).unlink()
    os.truncate(file_of(platform, cut), cut.size_bytes - 1_000)
    flip(file_of(platform, altered))
    forget(platform, forgotten)
    await take_back(platform, unfinished)

    by_name = {("lost", removed.key), ("orphan", forgotten.key), ("abandoned", unfinished.key)}
    by_size = by_name | {("size", cut.key)}
    by_hash = by_size | {("hash", altered.key)}
    for level, expected in (("presence", by_name), ("size", by_size), ("hash", by_hash)):
        report = await check(platform, "--level", level)
        assert (report.code, report.found) == (1, expected), level

    mended = await check(platform, "--level", "hash", "--mend")
    assert mended.found == by_hash
    assert mended.said["mended"] == {"orphan": 1, "abandoned": 1}
    after = await check(platform, "--level", "hash")
    assert after.found == {("lost", removed.key), ("size", cut.key), ("hash", altered.key)}
    again = {row.key: row for row in rows_of(platform)}
    assert again.keys() == kept.keys()
    for row in (forgotten, unfinished):
        made, was = again[row.key], kept[row.key]
        assert (made.sha256, made.size_bytes, made.frames) == (
            (was.sha256, was.size_bytes, was.frames)
        )  # fmt: skip

    # What is lost is told by the platform, and what is without a row gets it back, by itself.
    forget(platform, forgotten)
    platform.settings["VSP_RECORDING__RECONCILE_GRACE_S"] = "1"
    await platform.start()
    try:
        await until("the row is back", lambda: has_row(platform, forgotten), RECONCILED_S)
        alarm = await until("an alarm", lambda: objects_alarm(platform), RECONCILED_S)
    finally:
        await platform.stop()
    assert removed.key in alarm["cause"]


def one_of_each_channel(rows: Sequence[Row]) -> list[Row]:
    """In the middle of its channel."""
    channels: dict[str, list[Row]] = {}
    for row in rows:
        channels.setdefault(row.channel, []).append(row)
    return [some[len(some) // 2] for some in channels.values()]


def flip(file: Path) -> None:
    with file.open("r+b") as open_file:
        open_file.seek(-1, os.SEEK_END)
        [last] = open_file.read(1)
        open_file.seek(-1, os.SEEK_END)
        open_file.write(bytes([last ^ 1]))


async def has_row(platform: Platform, row: Row) -> bool:
    return row.key in {each.key for each in rows_of(platform)}


async def objects_alarm(platform: Platform) -> dict[str, Any] | None:
    alarms = await platform.items("/alarms")
    return next((alarm for alarm in alarms if alarm["kind"] == "objects"), None)
