"""DeviceBook in memory, first part: devices. Channels and candidates have files of their own.

Passwords are kept as they are: what seals them in a database protects a disk, and here is none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vsp.model.device import (
    Binding,
    Device,
    DeviceKind,
    DeviceSecret,
    DeviceSettings,
    NewDevice,
    Presence,
    RecordPlan,
)
from vsp.model.ids import DeviceId, GbId, UtcMicros
from vsp.ports import Clock, DeviceFacts, DeviceState, Ids, Page, PageRequest
from vsp.store.columns import WORDS_MAX, clean
from vsp.store.devices import device_exists
from vsp.store.memory.candidates import MemoryCandidates
from vsp.store.memory.channels import MemoryChannels
from vsp.store.memory.rows import cleaned, contains, page_of
from vsp.store.memory.tables import DeviceRow, MemoryDatabase


class MemoryDeviceBook(MemoryChannels, MemoryCandidates):
    """Devices, channels and candidates."""

    def __init__(self, database: MemoryDatabase, clock: Clock, ids: Ids) -> None:
        MemoryChannels.__init__(self, database, clock, ids)
        MemoryCandidates.__init__(self, database)

    async def add_device(
        self, new: NewDevice, at_us: UtcMicros, default_plan: RecordPlan
    ) -> Device:
        """Raises Conflict when the gb_id is taken. A candidate of that code is no longer one."""
        device_id = DeviceId(self._ids.row_id())
        if new.gb_id in self._devices.by_gb_id:
            raise device_exists(new.gb_id)
        given_name = clean(new.name, WORDS_MAX)
        device = Device(
            id=device_id,
            gb_id=new.gb_id,
            name=given_name,
            kind=DeviceKind.of(new.gb_id),
            settings=_settings(new.settings),
            presence=Presence.UNKNOWN,
            presence_since_us=at_us,
            created_at_us=at_us,
        )
        plan = new.record_plan or default_plan
        self._devices.add(DeviceRow(device, given_name, new.password, plan))
        self._candidates.drop(new.gb_id)
        return device

    async def device(self, device_id: DeviceId) -> Device:
        """Raises NotFound, also for one that was removed."""
        return self._device(device_id).device

    async def device_by_gb_id(self, gb_id: GbId) -> Device | None:
        """The device of that code, if it is there."""
        row = self._devices.by_gb_id.get(gb_id)
        return None if row is None else row.device

    async def devices(
        self, page: PageRequest, search: str = "", presence: Presence | None = None
    ) -> Page[Device]:
        """By code. `search` looks into names, code, address, maker and model."""

        def wanted(row: DeviceRow) -> bool:
            if presence is not None and row.device.presence is not presence:
                return False
            return not search or contains(_searched(row), search)

        found = page_of(
            self._devices.order,
            page,
            (str, str),
            lambda key: self._devices.by_id[key[1]],
            wanted=wanted if search or presence is not None else None,
        )
        return Page([row.device for row in found.items], found.next, found.total)

    async def secret(self, device_id: DeviceId) -> DeviceSecret:
        """The password of one device. Raises NotFound."""
        return _secret(self._device(device_id))

    async def all_devices(self) -> Sequence[tuple[Device, DeviceSecret]]:
        """Every device with its secret, by id."""
        rows = [row for _, row in sorted(self._devices.by_id.items())]
        return [(row.device, _secret(row)) for row in rows]

    async def update_device(
        self,
        device_id: DeviceId,
        *,
        name: str | None = None,
        settings: DeviceSettings | None = None,
        password: str | None = None,
    ) -> Device:
        """Change what is given. Raises NotFound."""
        row = self._device(device_id)
        if name is not None:
            row.given_name = clean(name, WORDS_MAX)
            row.device = replace(row.device, name=row.given_name or row.reported_name)
        if settings is not None:
            row.device = replace(row.device, settings=_settings(settings))
        if password is not None:
            row.password = password
        return row.device

    async def remove_device(self, device_id: DeviceId) -> None:
        """Hide it with its channels; the code is free again. Raises NotFound."""
        self._devices.remove(self._device(device_id))
        self._channels.hide(device_id)

    async def save_states(self, states: Sequence[DeviceState]) -> None:
        """All of them; those of removed devices are dropped."""
        for state in states:
            row = self._devices.by_id.get(state.device_id)
            if row is None:
                continue
            # What is not known now was perhaps known before: a restart must not forget it.
            known = state.last_seen_us is not None
            row.device = replace(
                row.device,
                presence=state.presence,
                presence_since_us=state.presence_since_us,
                last_seen_us=state.last_seen_us if known else row.device.last_seen_us,
                binding=state.binding and _binding(state.binding),
            )

    async def save_facts(self, device_id: DeviceId, facts: DeviceFacts) -> None:
        """What DeviceInfo said; an administrator's name for it stays. Raises NotFound."""
        row = self._device(device_id)
        row.reported_name = clean(facts.name, WORDS_MAX)
        row.device = replace(
            row.device,
            name=row.given_name or row.reported_name,
            manufacturer=clean(facts.manufacturer, WORDS_MAX),
            model=clean(facts.model, WORDS_MAX),
            firmware=clean(facts.firmware, WORDS_MAX),
        )

    async def counts(self) -> Mapping[str, int]:
        """devices, devices_online, channels (playable), channels_online, candidates."""
        devices = [row.device for row in self._devices.by_id.values()]
        shown = [self._channels.by_id[key].channel for _, key in self._channels.order]
        playable = [channel for channel in shown if channel.playable]
        return {
            "devices": len(devices),
            "devices_online": sum(device.presence is Presence.ONLINE for device in devices),
            "channels": len(playable),
            "channels_online": sum(channel.presence is Presence.ONLINE for channel in playable),
            "candidates": len(self._candidates.by_gb_id),
        }


def _secret(row: DeviceRow) -> DeviceSecret:
    return DeviceSecret(row.device.id, row.password)


def _settings(settings: DeviceSettings) -> DeviceSettings:
    return cleaned(settings, WORDS_MAX, "auth_username", "version")


def _binding(binding: Binding) -> Binding:
    return cleaned(binding, WORDS_MAX, "host", "contact", "user_agent", "gb_version")


def _searched(row: DeviceRow) -> tuple[str, ...]:
    device = row.device
    host = device.binding.host if device.binding else ""
    names = (row.given_name, row.reported_name, device.gb_id)
    return (*names, host, device.manufacturer, device.model)
