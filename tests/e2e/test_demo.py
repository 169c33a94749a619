"""The main job, seen from outside: the demo's sixteen channels, watched in a real browser."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.browser import behind_ms, console, fill_wall, playing, tiles
from tests.e2e.platform import Platform, until

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(240)]

SECOND_MS = 1000
"""A chosen second shows that second, plus or minus one."""

BEHIND_MAX_MS = 2000
"""The clock in the picture is within 2 s of now."""


@pytest.mark.parametrize("layout", [9, 16])
async def test_every_tile_of_a_wall_plays(demo: Platform, layout: int):
    async with console(demo) as page:
        await fill_wall(page, demo, layout)
        first = await playing(page, layout)
        await asyncio.sleep(2)
        second = await tiles(page)

    advanced = [b["time"] - a["time"] for a, b in zip(first, second, strict=True)]
    assert len(second) == layout
    assert min(advanced) > 0.5, advanced


async def test_the_clock_in_every_picture_of_nine_is_now(demo: Platform):
    async with console(demo) as page:
        await fill_wall(page, demo, 9)
        await playing(page, 9)

        async def all_are_now() -> bool:
            behind = [
                behind_ms(tile["shown_ms"], tile["now_ms"])
                for tile in await tiles(page)
                if tile["shown_ms"] is not None
            ]
            assert len(behind) == 9
            assert max(abs(lag) for lag in behind) <= BEHIND_MAX_MS, behind
            return True

        await until("nine clocks within 2 s of now", all_are_now, 30)


async def test_playback_of_a_chosen_second_shows_that_second(demo: Platform):
    channel = (await demo.items("/channels"))[0]

    async def old_enough() -> datetime | None:
        now = datetime.now(UTC)
        answer = await demo.get(
            f"/channels/{channel['id']}/timeline",
            **{"from": (now - timedelta(minutes=10)).isoformat(), "to": now.isoformat()},
        )
        spans = answer.body["spans"]
        if not spans:
            return None
        start = datetime.fromisoformat(spans[0]["start"])
        end = datetime.fromisoformat(spans[-1]["end"])
        return start + timedelta(seconds=10) if end - start > timedelta(seconds=25) else None

    chosen = await until("25 s of recording", old_enough, 90)
    async with console(demo) as page:
        text = chosen.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        await page.goto(f"{demo.url}/#/playback?channel={channel['id']}&t={text}")
        await page.click("[data-act='pause']")
        await asyncio.sleep(1)
        await page.fill("input.time", chosen.astimezone().strftime("%H:%M:%S"))
        await page.press("input.time", "Enter")
        await asyncio.sleep(3)
        shown = (await playing(page, 1))[0]

    # Typed to the whole second, paused: the picture that stands there is of that second.
    target_ms = int(chosen.timestamp()) * 1000
    assert abs(behind_ms(shown["shown_ms"], target_ms % 60_000)) <= SECOND_MS, shown


async def test_recordings_are_decoded_by_ffprobe(demo: Platform):
    async def objects() -> list | None:
        found = sorted((demo.data / "segments").rglob("*.mp4"))
        return found if len(found) >= 4 else None

    files = await until("recorded objects", objects, 60)
    for path in files[:4]:
        seen = subprocess.run(
            f"ffprobe -v error -count_frames -select_streams v:0 "
            f"-show_entries stream=nb_read_frames -of csv=p=0 {path}".split(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(seen.stdout.strip().strip(",")) > 50, path
        assert seen.stderr == "", path


async def test_nobody_reaches_anything_but_sign_in_health_and_static_files(demo: Platform):
    spec = (await demo.get("/openapi.json")).body
    token, demo.token = demo.token, ""
    try:
        for path, methods in spec["paths"].items():
            for method in methods:
                concrete = path.removeprefix("/api/v1")
                for name in ("id", "view_id"):
                    concrete = concrete.replace("{" + name + "}", "34020000001320000001")
                answer = await demo._request(method.upper(), concrete)
                public = concrete == "/health" or (concrete, method) == ("/session", "post")
                assert public or answer.status == 401, (method, path, answer)
    finally:
        demo.token = token


async def test_a_ticket_opens_its_own_view_and_no_other(demo: Platform):
    first, second = (await demo.items("/channels"))[:2]
    one = (await demo.post(f"/channels/{first['id']}/live")).body
    other = (await demo.post(f"/channels/{second['id']}/live")).body

    assert await socket_opens(one["url"], one["ticket"])
    assert not await socket_opens(other["url"], one["ticket"])
    assert not await socket_opens(other["url"], "")

    for view in (one, other):
        assert (await demo.delete(f"/views/{view['view_id']}")).status == 204


async def socket_opens(url: str, ticket: str) -> bool:
    """Whether a media socket sends media for this ticket."""
    import aiohttp

    query = {"ticket": ticket} if ticket else {}
    async with aiohttp.ClientSession() as http:
        try:
            async with http.ws_connect(url, params=query) as socket:
                async with asyncio.timeout(8):
                    async for message in socket:
                        if message.type is aiohttp.WSMsgType.BINARY:
                            return True
        except (aiohttp.WSServerHandshakeError, TimeoutError):
            return False
    return False


async def test_tshark_finds_nothing_malformed_in_the_signalling(demo: Platform, tmp_path):
    port = demo.ready["sip"]["port"]
    capture = tmp_path / "sip.pcap"
    tshark = shutil.which("tshark")
    assert tshark is not None
    process = await asyncio.create_subprocess_exec(
        tshark, "-q", "-i", "lo", "-f", f"port {port}", "-w", str(capture),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    while b"Capturing" not in await process.stderr.readline():
        pass
    try:
        for device in await demo.items("/devices"):
            assert (await demo.post(f"/devices/{device['id']}/catalog")).status == 200
        await asyncio.sleep(1)
    finally:
        process.terminate()
        await process.communicate()
        process._transport.close()
    seen = subprocess.run(
        f"{tshark} -r {capture} -d udp.port=={port},sip -d tcp.port=={port},sip "
        f"-T fields -e sip.Method -e _ws.malformed -Y sip".split(),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = seen.stdout.splitlines()
    assert len(lines) > 40
    assert not [line for line in lines if "alformed" in line]
