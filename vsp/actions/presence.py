"""Channels follow their device: nobody can play a camera behind a recorder that is gone.

A channel's presence is a judgement of its own. While the device is away it is offline, whatever the
catalogue last said; when the device is back it is again what the device reports of it. Each
judgement that differs from the last one is a change point with its cause, a new channel's first one
and a word of the catalogue included.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from vsp.model.changes import Axis, ChangePoint
from vsp.model.device import Channel, Presence
from vsp.model.ids import DeviceId
from vsp.ports import PAGE_SIZE_MAX, ChangeLog, Clock, DeviceBook, PageRequest


def presence_of(channel: Channel, device: Presence) -> Presence:
    """What a channel is while its device is `device`. Pure."""
    if device is not Presence.ONLINE:
        return device
    return channel.reported if channel.reported is not Presence.UNKNOWN else Presence.ONLINE


def cause_of(channel: Channel, device: Presence) -> str:
    """Why it is that. Pure."""
    if device is not Presence.ONLINE or channel.reported is Presence.UNKNOWN:
        return f"the device is {device.value}"
    return f"the device reports {channel.reported.value}"


class ChannelPresence:
    """Writes the judgement when a device comes or goes."""

    def __init__(
        self,
        devices: DeviceBook,
        changes: ChangeLog,
        clock: Clock,
        device_presence: Callable[[DeviceId], Presence],
    ) -> None:
        self._devices = devices
        self._changes = changes
        self._clock = clock
        self._device_presence = device_presence
        self._one_at_a_time = asyncio.Lock()

    async def follow(self, device_id: DeviceId, evidence: str) -> None:
        """Page by page, by what the device is now; channels that already agree are left alone."""
        page = PageRequest(PAGE_SIZE_MAX)
        async with self._one_at_a_time:
            while True:
                found = await self._devices.channels(page, device_id=device_id)
                device = self._device_presence(device_id)
                await self._judge([*found.items], device, evidence)
                if found.next is None:
                    return
                page = PageRequest(PAGE_SIZE_MAX, found.next)

    async def _judge(self, channels: list[Channel], device: Presence, evidence: str) -> None:
        now_us = self._clock.now_us()
        changed = [
            (channel, presence_of(channel, device))
            for channel in channels
            if presence_of(channel, device) is not channel.presence
        ]
        if not changed:
            return
        await self._devices.save_presence(
            [(channel.id, state, now_us) for channel, state in changed]
        )
        await self._changes.append(
            [
                ChangePoint(
                    f"channel:{channel.id}",
                    Axis.PRESENCE,
                    now_us,
                    state.value,
                    cause_of(channel, device),
                    evidence,
                )
                for channel, state in changed
            ]
        )
