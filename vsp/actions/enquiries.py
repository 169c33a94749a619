"""Asking a device now: its trace, its facts, its status, its catalogue. Needs live signalling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vsp.access.scope import Access, device_resource
from vsp.model.device import CatalogDiff
from vsp.model.people import Action, Actor
from vsp.ports import DeviceFacts, SignalControl, TraceLine


class Enquiries:
    """Use cases that put a question to a device."""

    def __init__(self, *, signal: SignalControl, access: Access) -> None:
        self._signal = signal
        self._access = access

    async def trace(self, actor: Actor, reference: str, limit: int) -> Sequence[TraceLine]:
        """The device's last SIP messages, secrets removed. Reading them is audited."""
        device = await self._access.device(actor, reference, Action.TRACE)
        async with self._access.act(actor, Action.TRACE, device_resource(device.id), "trace"):
            return self._signal.trace(device.id, limit)

    async def info(self, actor: Actor, reference: str) -> DeviceFacts:
        """Who made it (GB/T 28181-2016 9.5.3)."""
        device = await self._access.device(actor, reference, Action.TRACE)
        return await self._signal.device_info(device.id)

    async def status(self, actor: Actor, reference: str) -> Mapping[str, str]:
        """How it is, by its own words (GB/T 28181-2016 9.5.4)."""
        device = await self._access.device(actor, reference, Action.TRACE)
        return await self._signal.device_status(device.id)

    async def refresh_catalog(self, actor: Actor, reference: str) -> CatalogDiff:
        """Ask for the catalogue and wait for it (GB/T 28181-2016 9.5.2)."""
        device = await self._access.device(actor, reference, Action.DEVICE_MANAGE)
        async with self._access.act(
            actor, Action.DEVICE_MANAGE, device_resource(device.id), "refresh catalogue"
        ):
            return await self._signal.refresh_catalog(device.id)
