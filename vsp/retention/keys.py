"""What a key says of its object: `v1/{channel}/{yyyy}/{mm}/{dd}/{start_us}-{run}-{n}.mp4`.

A key that is not ours says nothing: it has no channel and is older than everything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vsp.model.ids import ChannelId, UtcMicros

ROOT = "v1/"
"""Where the keys of recordings begin."""

_KEY = re.compile(
    r"v1/([0-9A-Za-z_-]{1,64})/\d{4}/\d\d/\d\d/(\d{1,16})-(\d{1,16})-(\d{1,9})\.mp4", re.A
)


@dataclass(frozen=True, slots=True)
class Named:
    """What a key says: the n-th segment of a run began at `start_us`, with its first picture."""

    channel_id: ChannelId
    start_us: UtcMicros
    run: UtcMicros
    n: int


NOTHING = Named(ChannelId(""), UtcMicros(0), UtcMicros(0), -1)


def parse(key: str) -> Named:
    """NOTHING when the key is not ours."""
    found = _KEY.fullmatch(key)
    if found is None:
        return NOTHING
    channel, start_us, run, n = found.groups()
    return Named(ChannelId(channel), UtcMicros(int(start_us)), UtcMicros(int(run)), int(n))


def channel_of(key: str) -> ChannelId:
    return parse(key).channel_id


def start_of(key: str) -> UtcMicros:
    return parse(key).start_us


__all__ = ["NOTHING", "ROOT", "Named", "channel_of", "parse", "start_of"]
