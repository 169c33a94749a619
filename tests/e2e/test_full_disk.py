"""A disk without room for one more byte, for longer than anybody should need to look: what is told,
what goes on, what is lost (nothing that was acknowledged), and how soon all is well again.

The disk is a tmpfs below the objects, below the spool, below the database, or below all that the
platform writes. A ballast file takes every byte, and every one that is given back, until it is
removed. What cannot be written meanwhile is kept in the spool and in memory; only where that is
full too is anything missing, and then of no other time.
"""

from __future__ import annotations

import asyncio
import errno
import json
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from benchmarks.crash.recorded import Hole, holes, order, read_recorded, read_rows, read_sent
from tests.e2e.browser import console
from tests.e2e.platform import CLIPS, ROOT, Platform, until
from tests.e2e.test_relay import free_ports
from vsp.access.authn import TOUCH_EVERY_S

pytestmark = [pytest.mark.timeout(240), pytest.mark.slow]

PORTS = 40

ALARM_MAX_S = 5.0
"""From the first write that is refused to the alarms."""

HEAL_MAX_S = 30.0
"""From the first byte of room: no alarm, every channel recorded, what is recorded now committed."""

FULL_S = TOUCH_EVERY_S + 3.0
"""How long the disk is full: longer than the use of a session goes without being written down."""

OVERFLOW_MAX_S = 150.0
"""Until the smallest spool there may be, 64 MB, is full of what HEAVY sends: about 30 s."""

RETRY_MAX_S = 15.0
"""From room to the first picture that is recorded again: the store knocks, the spool empties, and
then the recorder, which tries every 5 s, waits for a key picture."""

PICTURES_APART_S = 2.0
"""Longest silence of a live view of 25 pictures a second, on a machine with other work to do."""


@dataclass(frozen=True)
class Place:
    """What lies on the disk that fills up.

    soon   alarms that must be raised, since something is always being written there
    later  those that are raised when somebody next writes: a session that is used
    """

    mounted: str
    soon: frozenset[str]
    later: frozenset[str] = frozenset()
    objects: str = "data/segments"
    database: str = "data/vsp.sqlite"

    @property
    def kinds(self) -> frozenset[str]:
        return self.soon | self.later


@dataclass(frozen=True)
class Load:
    """What is recorded, by how many workers, and onto how large a disk."""

    cameras: int
    size: str
    workers: int
    disk: str


LIGHT = Load(3, "320x180", 2, "64m")
HEAVY = Load(9, "1280x720", 1, "256m")
"""A whole spool of 64 MB finds room on its disk afterwards."""

PLACES = {
    "objects": Place("disk", frozenset({"store"}), objects="disk"),
    "spool": Place("data/spool", frozenset({"spool"})),
    "database": Place("disk", frozenset({"database"}), database="disk/vsp.sqlite"),
    "all": Place("data", frozenset({"store", "spool"}), frozenset({"database"})),
}


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(parents=True)
    words = ("mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "vsp-test", str(folder))
    mounted = subprocess.run(words, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(("umount", "--lazy", str(folder)), check=True)


@dataclass
class Ballast:
    """A file that takes what room there is."""

    path: Path
    bytes: int = 0

    def press(self) -> None:
        with self.path.open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                with suppress_full():
                    while True:
                        self.bytes += file.write(bytes(size))

    @asynccontextmanager
    async def pressing(self) -> AsyncIterator[None]:
        """Full, and kept full."""
        self.press()

        async def keep() -> None:
            while True:
                await asyncio.sleep(0.05)
                self.press()

        keeping = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            self.path.unlink()


@contextmanager
def suppress_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise


@dataclass
class Watching:
    """A live view: when its pictures came."""

    arrivals: list[float] = field(default_factory=list)

    async def watch(self, opened: dict[str, Any]) -> None:
        query = {"ticket": opened["ticket"]}
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(opened["url"], params=query) as socket,
        ):
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    self.arrivals.append(time.monotonic())

    def longest_silence_s(self, since: float) -> float:
        seen = [since, *(at for at in self.arrivals if at >= since), time.monotonic()]
        return max(later - at for at, later in pairwise(seen))


@dataclass
class Stage:
    """A platform that records, the disk below it, and what its cameras sent."""

    platform: Platform
    disk: Path
    objects: Path
    database: Path
    sent: Path
    cameras: int

    @property
    def ballast(self) -> Ballast:
        return Ballast(self.disk / "ballast")

    def rows(self) -> list[Any]:
        return read_rows(self.database)

    async def alarms(self) -> list[dict[str, Any]]:
        answer = await self.platform.get("/alarms")
        assert answer.status == 200, answer
        return answer.body["items"]

    async def raised(self, kinds: frozenset[str]) -> float:
        """Wait for alarms of all these kinds; seconds since the first write was refused."""

        async def probe() -> bool:
            return kinds <= {alarm["kind"] for alarm in await self.alarms()}

        await until(f"alarms {sorted(kinds)}", probe, TOUCH_EVERY_S + ALARM_MAX_S)
        return time.time() - self.first_refusal()

    def first_refusal(self) -> float:
        """When it was, by the log of the process that was refused (seconds since 1970)."""
        lines = [line for line in self.platform.log().splitlines() if "refuses" in line]
        return min(
            datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp() for line in lines
        )

    async def healed(self, timeout_s: float) -> float:
        """Seconds until no alarm stands, and each channel has a row that began after now."""
        began, began_us = time.monotonic(), time.time_ns() // 1000

        async def probe() -> bool:
            if await self.alarms():
                return False
            fresh = {row.channel for row in self.rows() if row.start_us > began_us}
            recording = [c for c in await self.platform.items("/channels") if c["recording"]]
            return len(fresh) == len(recording) == self.cameras

        await until("everything healed", probe, timeout_s)
        return time.monotonic() - began

    def everything_acknowledged_is_intact(self) -> None:
        rows = self.rows()
        recorded = read_recorded(rows, self.objects)
        assert [row.key for row in rows if row.key not in recorded.digests] == []
        assert (recorded.altered, recorded.miscounted) == ([], [])

    def missing(self) -> list[Hole]:
        """What a camera sent between its first and its last recorded picture and is nowhere."""
        recorded = read_recorded(self.rows(), self.objects)
        sent = read_sent(self.sent)
        assert len(recorded.channels) == self.cameras
        found = []
        for code, stamps in recorded.channels.items():
            seen = order(sent[code], stamps)
            assert (seen.doubled, seen.disordered, seen.unknown) == (0, 0, 0), code
            found += holes(code, sent[code], stamps)
        return found


@asynccontextmanager
async def stage(
    folder: Path, place: Place, load: Load = LIGHT, **more: str
) -> AsyncIterator[Stage]:
    settings = {
        "VSP_RECORDING__SEGMENT_S": "4",
        "VSP_RECORDING__PART_S": "1",
        "VSP_MEDIA__PORTS_PER_WORKER": str(PORTS),
        "VSP_STORE__ROOT": str(folder / place.objects),
        "VSP_DATABASE__URL": f"sqlite+aiosqlite:///{folder / place.database}",
        **more,
    }
    disk, port_first = folder / place.mounted, free_ports(load.workers * PORTS)
    platform = Platform(folder, settings=settings, port_first=port_first, workers=load.workers)
    with tmpfs(disk, load.disk):
        async with platform, cameras(platform, folder, load) as sent:
            objects, database = folder / place.objects, folder / place.database
            set_up = Stage(platform, disk, objects, database, sent, load.cameras)
            await platform.channels_playing(load.cameras)

            async def committed() -> bool:
                return len({row.channel for row in set_up.rows()}) == load.cameras

            await until("a row of each channel", committed, 30)
            yield set_up


@asynccontextmanager
async def cameras(platform: Platform, folder: Path, load: Load) -> AsyncIterator[Path]:
    """Simulated cameras that the platform knows; gives the log of what they send."""
    sent = folder / "sent.jsonl"
    fleet = (sys.executable, "-m", "simulators", "fleet", "--count", str(load.cameras))
    fleet += ("--secret", secrets.token_hex(16), "--size", load.size)
    sheet = subprocess.run((*fleet, "--csv"), cwd=ROOT, capture_output=True, text=True, check=True)
    answer = await platform.post("/devices:import", {"csv": sheet.stdout})
    assert answer.body["added"] == load.cameras, answer
    where = ("--platform", f"127.0.0.1:{platform.ready['sip']['port']}")
    where += ("--sent-log", str(sent), "--cache", str(CLIPS / "vsp-clips"))
    with (folder / "cameras.txt").open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            *fleet, *where, cwd=ROOT, stdout=said, stderr=said
        )
    try:
        yield sent
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("where", PLACES)
async def test_full(tmp_path: Path, where: str):
    """The alarm stands within 5 s and is over within 30 s of room; nothing acknowledged is lost."""
    place = PLACES[where]
    async with stage(tmp_path, place) as at:
        channel = (await at.platform.items("/channels"))[0]
        watching = Watching()
        opened = await at.platform.post(f"/channels/{channel['id']}/live")
        viewer = asyncio.create_task(watching.watch(opened.body))
        await until("a live picture", lambda: seen(watching), 10)

        async with at.ballast.pressing():
            full = time.monotonic()
            alarm_s = await at.raised(place.soon)
            await at.raised(place.kinds)
            metrics = await metrics_of(at.platform)
            while time.monotonic() < full + FULL_S:
                at.everything_acknowledged_is_intact()
                assert await at.alarms(), "an alarm is over while the disk is full"
                await asyncio.sleep(1)
            silence_s = watching.longest_silence_s(full)
            acknowledged = {row.key: row.sha256 for row in at.rows()}
            sign_in = await at.platform.post(
                "/session", {"user": at.platform.ready["user"], "password": at.platform.password}
            )
        heal_s = await at.healed(2 * HEAL_MAX_S)
        viewer.cancel()
        await asyncio.gather(viewer, return_exceptions=True)

        print(json.dumps({"disk": where, "alarm_s": alarm_s, "heal_s": heal_s}))
        assert alarm_s <= ALARM_MAX_S
        assert all(f'vsp_alarms{{kind="{kind}"}}' in metrics for kind in place.kinds)
        assert silence_s <= PICTURES_APART_S
        if "database" in place.kinds:
            assert sign_in.status == 503
            assert "space" in sign_in.body["cause"], sign_in
        assert heal_s <= HEAL_MAX_S
        at.everything_acknowledged_is_intact()
        assert acknowledged.items() <= {row.key: row.sha256 for row in at.rows()}.items()
        assert at.missing() == []
        history = await at.platform.items("/alarms", **{"from": "2026-01-01T00:00:00Z"})
        assert place.kinds <= {alarm["kind"] for alarm in history if alarm["until"]}


async def test_what_finds_no_room_anywhere_is_missing_and_nothing_else(tmp_path: Path):
    """The store is full until the spool is too: a gap with its cause, of the time it was full."""
    spool = {"VSP_RECORDING__SPOOL_BYTES_MAX": str(64 << 20)}
    async with stage(tmp_path, PLACES["objects"], HEAVY, **spool) as at:

        async def refused() -> bool:
            return "recording refused" in at.platform.log()

        full_us = time.time_ns() // 1000
        async with at.ballast.pressing():
            await until("the spool is full", refused, OVERFLOW_MAX_S)
            at.everything_acknowledged_is_intact()
            acknowledged = {row.key: row.sha256 for row in at.rows()}
        room_us = time.time_ns() // 1000
        heal_s = await at.healed(2 * HEAL_MAX_S)

        missing = at.missing()
        lost_s = sum(hole.until_us - hole.before_us for hole in missing) / 1e6
        print(json.dumps({"disk": "objects and spool", "heal_s": heal_s, "lost_s": lost_s}))
        assert heal_s <= HEAL_MAX_S
        at.everything_acknowledged_is_intact()
        assert acknowledged.items() <= {row.key: row.sha256 for row in at.rows()}.items()
        assert missing, "nothing was lost, so the spool was not full"
        assert min(hole.before_us for hole in missing) >= full_us
        assert max(hole.until_us for hole in missing) <= room_us + RETRY_MAX_S * 1e6
        for code in {hole.channel for hole in missing}:
            causes = {gap["cause"] for gap in await gaps(at.platform, code)}
            assert causes == {"storage_failure"}, code


async def gaps(platform: Platform, code: str) -> list[dict[str, Any]]:
    """Of the channel with this code, lately, between what is recorded."""
    channels = await platform.items("/channels")
    [channel] = [each["id"] for each in channels if each["gb_id"] == code]
    now = datetime.now(UTC)
    window = {"from": (now - timedelta(minutes=5)).isoformat(), "to": now.isoformat()}
    answer = await platform.get(f"/channels/{channel}/timeline", **window)
    rows = answer.body["spans"]
    between = rows[0]["start"], rows[-1]["start"]
    return [gap for gap in answer.body["gaps"] if between[0] < gap["start"] < between[1]]


async def test_the_console_shows_alarms_while_they_stand(tmp_path: Path):
    bar = "[role=status] [data-alarm]"
    soon_ms = ALARM_MAX_S * 1000
    async with stage(tmp_path, PLACES["all"]) as at, console(at.platform) as page:
        assert await page.locator(bar).count() == 0

        async with at.ballast.pressing():
            await page.wait_for_selector(f"{bar} >> text=自", timeout=soon_ms)
            await page.reload()
            await page.wait_for_selector(bar, timeout=soon_ms)
            await page.wait_for_selector("[data-act=fold]", timeout=soon_ms)
            assert await page.locator(bar).count() == 1, "several alarms are folded"

            await page.focus("[data-act=fold]")
            await page.keyboard.press("Enter")
            standing = len(await at.alarms())
            assert await page.locator(bar).count() == standing >= 2
            assert "No space left" in await page.locator(bar).last.inner_text()

        await page.wait_for_selector(bar, state="detached", timeout=HEAL_MAX_S * 1000)


async def seen(watching: Watching) -> bool:
    return len(watching.arrivals) > 1


async def metrics_of(platform: Platform) -> str:
    headers = {"Authorization": f"Bearer {platform.token}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"{platform.url}/api/v1/metrics") as answer,
    ):
        return await answer.text()
