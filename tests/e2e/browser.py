"""A real Chromium on the console: sign in, read the clock in the pictures, take screenshots."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Page, async_playwright

from simulators.picture import (
    BARCODE_COLUMNS,
    BARCODE_GRID_COLUMNS,
    BARCODE_GRID_ROWS,
    MINUTE_MS,
    crc8,
)
from tests.e2e.platform import Platform, until

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)

READ_TILES = """
([columns, gridColumns, gridRows]) => {
  const canvas = window.__barcodeCanvas ??= document.createElement('canvas')
  canvas.width = 640; canvas.height = 360
  const context = canvas.getContext('2d', { willReadFrequently: true })
  return [...document.querySelectorAll('video')].map((video) => {
    if (video.readyState < 2) return { time: video.currentTime, cells: null, now: Date.now() }
    context.drawImage(video, 0, 0, 640, 360)
    const w = 640 / gridColumns, h = 360 / gridRows, cells = []
    for (let row = 0; row < 2; row++)
      for (let column = 0; column < columns; column++) {
        const d = context.getImageData(
          Math.round(column * w + w / 4), Math.round(row * h + h / 4),
          Math.round(w / 2), Math.round(h / 2)).data
        let sum = 0
        for (let i = 0; i < d.length; i += 4) sum += d[i] + d[i + 1] + d[i + 2]
        cells.push(sum / (d.length / 4 * 3))
      }
    return { time: video.currentTime, cells, now: Date.now() }
  })
}
"""


def barcode_of(cells: list[float] | None) -> int | None:
    """Milliseconds within the minute from 28 cell means, or None where there is no sound code."""
    if not cells:
        return None
    light, dark = cells[0], cells[1]
    if light - dark < 40:
        return None
    bits = [cell > (light + dark) / 2 for cell in cells]
    payload = bits[2:14] + bits[16:28]
    number = int("".join("1" if bit else "0" for bit in payload), 2)
    value, check = number >> 8, number & 0xFF
    return value if value < MINUTE_MS and crc8(value) == check else None


def behind_ms(shown_ms: int, now_ms: int) -> int:
    """How far the picture's clock is behind, -30 s .. 30 s around the minute's wrap."""
    return (now_ms - shown_ms + MINUTE_MS // 2) % MINUTE_MS - MINUTE_MS // 2


async def tiles(page: Page) -> list[dict[str, Any]]:
    """Every video of the page: currentTime, the clock in its picture, and the page's own clock."""
    read = await page.evaluate(
        READ_TILES, [BARCODE_COLUMNS, BARCODE_GRID_COLUMNS, BARCODE_GRID_ROWS]
    )
    return [
        {"time": tile["time"], "shown_ms": barcode_of(tile["cells"]), "now_ms": tile["now"]}
        for tile in read
    ]


@asynccontextmanager
async def console(
    platform: Platform, language: str = "zh", width: int = 1600, height: int = 900
) -> AsyncIterator[Page]:
    """A signed-in page of the console in a fresh browser, in Chinese or (`en`) in English."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            page = await browser.new_page(
                viewport={"width": width, "height": height},
                ignore_https_errors=True,
            )
            await sign_in(page, platform)
            if language == "en":
                await page.click("header button:text-is('EN')")
            yield page
        finally:
            await browser.close()


async def sign_in(page: Page, platform: Platform) -> None:
    await page.goto(platform.url)
    await page.fill("input[name=username]", platform.ready["user"])
    await page.fill("input[name=password]", platform.password)
    await page.press("input[name=password]", "Enter")
    await page.wait_for_selector(".toolbar", timeout=15_000)


async def fill_wall(page: Page, platform: Platform, layout: int) -> None:
    """The live page with `layout` tiles, each filled with a channel."""
    await page.goto(f"{platform.url}/#/live")
    await page.wait_for_selector("[role=tree] [data-channel]")
    await page.click(f".segmented button:text-is('{layout}')")
    await page.click("[data-act='fill']")


async def playing(page: Page, count: int, timeout_s: float = 60) -> list[dict[str, Any]]:
    """Wait until `count` videos show a readable clock; returns the tiles."""

    async def probe() -> list[dict[str, Any]] | None:
        found = await tiles(page)
        readable = [tile for tile in found if tile["shown_ms"] is not None]
        return found if len(readable) >= count else None

    return await until(f"{count} videos playing", probe, timeout_s)


async def screenshot(page: Page, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    await page.screenshot(path=str(path))


def now_ms() -> int:
    return time.time_ns() // 1_000_000
