"""`make screens`: screenshots of the console, made by the product itself, in both languages."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.e2e.browser import console, fill_wall, playing, screenshot
from tests.e2e.platform import Platform

LANGUAGES = ("zh", "en")
RECORD_S = 45
"""Recorded before the playback page is photographed, so that its timeline shows something."""


async def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as data:
        platform = Platform(Path(data), command=("demo", "--cameras", "12"), port_first=37000)
        async with platform:
            channels = await platform.channels_playing(16, 120)
            await asyncio.sleep(RECORD_S)
            for short in LANGUAGES:
                async with console(platform, short) as page:
                    for layout in (9, 16):
                        await fill_wall(page, platform, layout)
                        await playing(page, layout)
                        await asyncio.sleep(3)
                        await screenshot(page, folder / f"wall-{layout}-{short}.png")
                    await page.goto(f"{platform.url}/#/playback?channel={channels[0]['id']}")
                    await asyncio.sleep(6)
                    await screenshot(page, folder / f"playback-{short}.png")
                    await page.goto(f"{platform.url}/#/devices")
                    await asyncio.sleep(2)
                    await screenshot(page, folder / f"devices-{short}.png")
                    await page.goto(f"{platform.url}/#/devices/{channels[0]['device_id']}")
                    await asyncio.sleep(3)
                    await screenshot(page, folder / f"device-{short}.png")
                    await page.goto(f"{platform.url}/#/candidates")
                    await asyncio.sleep(2)
                    await screenshot(page, folder / f"candidates-{short}.png")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
