"""The only door to devices and channels: the getter that returns the object is the check.

An actor without the action at all is Denied before anything is looked up, so the answer is the same
for every id. An object that does not exist and one that this actor may not know of are both
NotFound, with the same words. First scope: who holds an action holds it everywhere; when grants
have places and times, they are asked here and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from vsp.access.policy import PLATFORM, Resource, ResourceKind, decide
from vsp.errors import Conflict, Denied, NotFound
from vsp.model.device import Channel, Device
from vsp.model.ids import ChannelId, DeviceId, GbId
from vsp.model.people import Action, Actor, Decision
from vsp.ports import AuditEntry, AuditLog, Clock, DeviceBook

_GB_ID = re.compile(r"[0-9]{20}")
_REFERENCE = re.compile(r"[0-9A-Za-z_-]{1,64}")
"""What an id in a path may look like; anything else is NotFound without a look-up."""


class Access:
    """Permission and audit for the actions; one instance per node."""

    def __init__(self, devices: DeviceBook, audit: AuditLog, clock: Clock) -> None:
        self._devices = devices
        self._audit = audit
        self._clock = clock

    def decision(
        self, actor: Actor | None, action: Action, resource: Resource = PLATFORM
    ) -> Decision:
        return decide(actor, action, resource, self._clock.now_us())

    def require(self, actor: Actor | None, action: Action, resource: Resource = PLATFORM) -> None:
        """Raises Denied with the reason."""
        decision = self.decision(actor, action, resource)
        if not decision.allowed:
            raise denied(decision)

    @asynccontextmanager
    async def act(
        self, actor: Actor, action: Action, resource: Resource, reason: str = ""
    ) -> AsyncIterator[AuditEntry]:
        """An audited act. A refusal is audited too: opened, and ended as denied."""
        async with self._audit.act(
            actor, action, resource.subject, reason, actor.address, actor.user.name
        ) as entry:
            self.require(actor, action, resource)
            yield entry

    async def refuse(self, actor: Actor, action: Action, subject: str, decision: Decision) -> None:
        """Audit a request that never reached its action. Raises Denied."""
        async with self._audit.act(actor, action, subject, "", actor.address, actor.user.name):
            raise denied(decision)

    async def device(self, actor: Actor, reference: str, action: Action = Action.LIST) -> Device:
        """By our id or by its 20-digit code. Raises NotFound for unknown and hidden alike."""
        self.require(actor, action)
        unknown = NotFound("no such device")
        if not _REFERENCE.fullmatch(reference):
            raise unknown
        if _GB_ID.fullmatch(reference):
            device = await self._devices.device_by_gb_id(GbId(reference))
        else:
            device = await self._by_id(DeviceId(reference))
        if device is None or not self._allowed(actor, action, device_resource(device.id)):
            raise unknown
        return device

    async def channel(self, actor: Actor, reference: str, action: Action = Action.LIST) -> Channel:
        """By our id, or by its 20-digit code when only one device has it.

        Codes are chosen by others and may be duplicated; then Conflict asks for our id.
        """
        self.require(actor, action)
        unknown = NotFound("no such channel")
        if not _REFERENCE.fullmatch(reference):
            raise unknown
        found = [
            channel
            for channel in await self._channels(reference)
            if self._allowed(actor, action, channel_resource(channel.id))
        ]
        if not found:
            raise unknown
        if len(found) > 1:
            raise Conflict(
                f"{len(found)} channels have the code {reference}",
                next_step="use the channel's own id from GET /api/v1/channels",
            )
        return found[0]

    def _allowed(self, actor: Actor, action: Action, resource: Resource) -> bool:
        return self.decision(actor, action, resource).allowed

    async def _by_id(self, device_id: DeviceId) -> Device | None:
        try:
            return await self._devices.device(device_id)
        except NotFound:
            return None

    async def _channels(self, reference: str) -> list[Channel]:
        if _GB_ID.fullmatch(reference):
            return list(await self._devices.channels_by_gb_id(GbId(reference)))
        try:
            return [await self._devices.channel(ChannelId(reference))]
        except NotFound:
            return []


def device_resource(device_id: DeviceId) -> Resource:
    return Resource(ResourceKind.DEVICE, device_id)


def channel_resource(channel_id: ChannelId) -> Resource:
    return Resource(ResourceKind.CHANNEL, channel_id)


def denied(decision: Decision) -> Denied:
    """The refusal as an error, with what would help."""
    must_change = "password" in decision.reason
    return Denied(
        "this is not permitted",
        cause=decision.reason,
        next_step="POST /api/v1/session/password first" if must_change else "ask an administrator",
    )
