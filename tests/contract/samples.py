"""Nouns with sensible values, to be varied by keyword."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vsp.model.device import Candidate, CatalogItem, NewDevice, Presence, Transport
from vsp.model.ids import ChannelId, GbId, UserId, UtcMicros
from vsp.model.people import Role, User
from vsp.model.recording import Container, EndReason, Segment
from vsp.model.stream import VideoCodec
from vsp.ports import SegmentIndex

NVR = GbId("34020000001180000001")
CAMERA = GbId("34020000001320000001")
START_US = 1_700_000_000_000_000
MINUTE_US = 60_000_000


def camera_id(number: int) -> GbId:
    return GbId(f"3402000000132{number:07d}")


def nvr_id(number: int) -> GbId:
    return GbId(f"3402000000118{number:07d}")


def new_device(**changes: Any) -> NewDevice:
    return replace(NewDevice(NVR, "correct horse"), **changes)


def item(number: int = 1, **changes: Any) -> CatalogItem:
    made = CatalogItem(
        camera_id(number), f"Gate {number}", status=Presence.ONLINE, parent_ids=(NVR,)
    )
    return replace(made, **changes)


def candidate(number: int = 1, **changes: Any) -> Candidate:
    made = Candidate(
        gb_id=camera_id(number),
        host="192.0.2.7",
        port=5060,
        transport=Transport.UDP,
        user_agent="IPC/1.0",
        first_seen_us=UtcMicros(START_US),
        last_seen_us=UtcMicros(START_US),
        attempts=1,
    )
    return replace(made, **changes)


def segment(minute: int = 0, channel: str = "c1", **changes: Any) -> Segment:
    start_us = START_US + minute * MINUTE_US
    made = Segment(
        channel_id=ChannelId(channel),
        key=f"v1/{channel}/2023/11/14/{start_us}-{START_US}-{minute}.mp4",
        container=Container.MP4,
        run=UtcMicros(START_US),
        n=minute,
        start_us=UtcMicros(start_us),
        end_us=UtcMicros(start_us + MINUTE_US),
        start_90k=minute * 5_400_000,
        duration_90k=5_400_000,
        size_bytes=30_000_000,
        sha256="ab" * 32,
        init_bytes=812,
        fragments=((0, 812, 1_000_000), (2_000, 1_000_812, 998_877)),
        video=VideoCodec.H264,
        audio=None,
        codecs="avc3.640028",
        width=1920,
        height=1080,
        frames=1500,
        damaged_frames=0,
        end_reason=EndReason.ROLLED,
    )
    return replace(made, **changes)


def user(number: int = 1, **changes: Any) -> User:
    made = User(
        id=UserId(f"u{number}"),
        name=f"Operator{number}",
        display_name="值班员",
        role=Role.OPERATOR,
        department_id=None,
        enabled=True,
        must_change_password=True,
        created_at_us=UtcMicros(START_US),
    )
    return replace(made, **changes)


async def row_of(index: SegmentIndex, wanted: Segment) -> Segment | None:
    """The row of this very object, None when there is none."""
    until_us = UtcMicros(wanted.start_us + 1)
    rows = await index.find(wanted.channel_id, wanted.start_us, until_us)
    return next((row for row in rows if row.key == wanted.key), None)
