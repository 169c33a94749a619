"""Viewers of media sockets, as a process of their own: nothing of the platform runs in it.

`python -m benchmarks.viewer` reads `{"views": [{"url", "ticket"}], "frames": n}` and writes JSON:
for each view a list of `[frame, received_us]`, frame as the SEI of the picture says.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time

import aiohttp

from simulators.nal import SEI_UUID, unescape

_STAMP = struct.Struct(">QI")
_STAMP_ESCAPED_BYTES = _STAMP.size + 6
"""With as many emulation prevention bytes as could be in it."""

Received = list[tuple[int, int]]


def frame_of(fragment: bytes) -> int | None:
    """The frame number that the camera stamped into the picture."""
    at = fragment.find(SEI_UUID)
    if at < 0:
        return None
    stamp = unescape(fragment[at + len(SEI_UUID) :][:_STAMP_ESCAPED_BYTES])
    return int(_STAMP.unpack_from(stamp)[1])


async def watch(http: aiohttp.ClientSession, url: str, ticket: str, frames: int) -> Received:
    """Look until so many fragments have come; stamp first, read later."""
    seen: list[tuple[bytes, int]] = []
    async with http.ws_connect(url, params={"ticket": ticket}, max_msg_size=0) as socket:
        async for message in socket:
            now_us = time.time_ns() // 1000
            if message.type is aiohttp.WSMsgType.BINARY and message.data[4:8] == b"moof":
                seen.append((message.data, now_us))
                if len(seen) >= frames:
                    break
    numbered = ((frame_of(data), at_us) for data, at_us in seen)
    return [(frame, at_us) for frame, at_us in numbered if frame is not None]


async def run() -> None:
    said = json.load(sys.stdin)
    async with aiohttp.ClientSession() as http:
        watching = [
            watch(http, view["url"], view["ticket"], said["frames"]) for view in said["views"]
        ]
        json.dump(await asyncio.gather(*watching), sys.stdout)


if __name__ == "__main__":
    asyncio.run(run())
