"""DeviceBook over rows, first part: devices. Channels and candidates have files of their own.

A device's password is sealed (vsp/seal.py) before it reaches a statement, so it is in no log, plan
or backup in clear. Removing a device hides it and its channels; the rows stay, because recordings
name them. The same code may then be added again, as another device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from vsp.errors import Conflict, NotFound
from vsp.model.device import (
    Binding,
    Charset,
    Device,
    DeviceKind,
    DeviceSecret,
    DeviceSettings,
    DigestAlgorithm,
    MediaTransport,
    NewDevice,
    Presence,
    RecordPlan,
    Transport,
)
from vsp.model.ids import DeviceId, GbId, UtcMicros
from vsp.ports import Clock, DeviceFacts, DeviceState, Ids, Page, PageRequest
from vsp.seal import Sealer
from vsp.store.candidates import SqlCandidates
from vsp.store.channels import SqlChannels
from vsp.store.chunks import chunks, collect
from vsp.store.engine import Database
from vsp.store.paging import contains, fetch_page
from vsp.store.tables import candidates, channels, devices

_PRESENT = devices.c.removed_at_us.is_(None)

_SAVE_STATE = (
    sa.update(devices)
    .where(devices.c.id == sa.bindparam("of_id"))
    .values(
        presence=sa.bindparam("new_presence"),
        presence_since_us=sa.bindparam("new_presence_since_us"),
        # What is not known now was perhaps known before: a restart must not forget it.
        last_seen_us=sa.func.coalesce(
            sa.bindparam("new_last_seen_us", type_=sa.BigInteger), devices.c.last_seen_us
        ),
        **{
            f"binding_{part}": sa.bindparam(f"new_binding_{part}")
            for part in (
                "transport",
                "host",
                "port",
                "contact",
                "registered_at_us",
                "expires_at_us",
                "user_agent",
                "gb_version",
            )
        },
    )
)


def device_exists(gb_id: GbId) -> Conflict:
    """The error of adding a code that a present device has."""
    return Conflict(f"device {gb_id} exists already", next_step="change that one, or remove it")


class SqlDeviceBook(SqlChannels, SqlCandidates):
    """Devices, channels and candidates as rows."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, sealer: Sealer) -> None:
        SqlChannels.__init__(self, database, clock, ids)
        self._sealer = sealer

    async def add_device(
        self, new: NewDevice, at_us: UtcMicros, default_plan: RecordPlan
    ) -> Device:
        """Raises Conflict when the gb_id is taken. A candidate of that code is no longer one."""
        device_id = DeviceId(self._ids.row_id())
        values = {
            "id": device_id,
            "gb_id": new.gb_id,
            "name": new.name,
            "sealed_password": self._sealer.seal(new.password, device_id),
            "default_plan": (new.record_plan or default_plan).value,
            "presence": Presence.UNKNOWN.value,
            "presence_since_us": at_us,
            "catalog_received": 0,
            "catalog_complete": False,
            "created_at_us": at_us,
            **_settings_values(new.settings),
        }
        try:
            async with self._database.write() as connection:
                insert = sa.insert(devices).values(values).returning(devices)
                row = (await connection.execute(insert)).one()
                await connection.execute(
                    sa.delete(candidates).where(candidates.c.gb_id == new.gb_id)
                )
        except Conflict as error:
            raise device_exists(new.gb_id) from error
        return _device(row)

    async def device(self, device_id: DeviceId) -> Device:
        """Raises NotFound, also for one that was removed."""
        query = sa.select(devices).where(devices.c.id == device_id, _PRESENT)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return _device(_found(row))

    async def device_by_gb_id(self, gb_id: GbId) -> Device | None:
        """The device of that code, if it is there."""
        query = sa.select(devices).where(devices.c.gb_id == gb_id, _PRESENT)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _device(row)

    async def devices(
        self, page: PageRequest, search: str = "", presence: Presence | None = None
    ) -> Page[Device]:
        """By code. `search` looks into names, code, address, maker and model."""
        wanted: list[sa.ColumnElement[bool]] = [_PRESENT]
        if presence is not None:
            wanted.append(devices.c.presence == presence.value)
        if search:
            table = devices.c
            wanted.append(
                contains(
                    (
                        table.name,
                        table.reported_name,
                        table.gb_id,
                        table.binding_host,
                        table.manufacturer,
                        table.model,
                    ),
                    search,
                )
            )
        async with self._database.read() as connection:
            return await fetch_page(
                connection,
                sa.select(devices).where(*wanted),
                [(devices.c.gb_id, str), (devices.c.id, str)],
                page,
                _device,
                total=sa.select(sa.func.count()).select_from(devices).where(*wanted),
            )

    async def secret(self, device_id: DeviceId) -> DeviceSecret:
        """The password of one device. Raises NotFound, DataLoss when it does not open."""
        query = sa.select(devices).where(_PRESENT, devices.c.id == device_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        if row is None:
            raise NotFound(f"no device {device_id}")
        return self._secret(row)

    async def all_devices(self) -> Sequence[tuple[Device, DeviceSecret]]:
        """Every device with its secret. Raises DataLoss naming one whose password does not open."""
        query = sa.select(devices).where(_PRESENT).order_by(devices.c.id)
        async with self._database.read() as connection:
            return await collect(
                await connection.execute(query), lambda row: (_device(row), self._secret(row))
            )

    async def update_device(
        self,
        device_id: DeviceId,
        *,
        name: str | None = None,
        settings: DeviceSettings | None = None,
        password: str | None = None,
    ) -> Device:
        """Change what is given. Raises NotFound."""
        values: dict[str, Any] = {}
        if name is not None:
            values["name"] = name
        if settings is not None:
            values.update(_settings_values(settings))
        if password is not None:
            values["sealed_password"] = self._sealer.seal(password, device_id)
        if not values:
            return await self.device(device_id)
        return await self._change_device(device_id, values)

    async def remove_device(self, device_id: DeviceId) -> None:
        """Hide it with its channels; the code is free again. Raises NotFound."""
        await self._change_device(device_id, {"removed_at_us": self._clock.now_us()})

    async def save_states(self, states: Sequence[DeviceState]) -> None:
        """All of them in one transaction; those of removed devices are dropped."""
        if not states:
            return
        # One order everywhere, so that two nodes never wait for each other's rows.
        ordered = sorted(states, key=lambda state: state.device_id)
        async with self._database.write() as connection:
            for chunk in chunks(ordered):
                await connection.execute(_SAVE_STATE, [_state_values(state) for state in chunk])

    async def save_facts(self, device_id: DeviceId, facts: DeviceFacts) -> None:
        """What DeviceInfo said; an administrator's name for it stays. Raises NotFound."""
        await self._change_device(
            device_id,
            {
                "manufacturer": facts.manufacturer,
                "model": facts.model,
                "firmware": facts.firmware,
                "reported_name": facts.name,
            },
        )

    async def counts(self) -> Mapping[str, int]:
        """devices, devices_online, channels (playable), channels_online, candidates."""
        present = sa.select(*_all_and_online(devices)).where(_PRESENT)
        shown = (
            sa.select(*_all_and_online(channels))
            .select_from(channels.join(devices))
            .where(_PRESENT, channels.c.playable)
        )
        knocking = sa.select(sa.func.count()).select_from(candidates)
        async with self._database.read() as connection:
            below, below_online = (await connection.execute(present)).one()
            sources, sources_online = (await connection.execute(shown)).one()
            unknown = (await connection.execute(knocking)).scalar_one()
        return {
            "devices": below,
            "devices_online": below_online,
            "channels": sources,
            "channels_online": sources_online,
            "candidates": unknown,
        }

    async def _change_device(self, device_id: DeviceId, values: dict[str, Any]) -> Device:
        update = (
            sa.update(devices)
            .where(devices.c.id == device_id, _PRESENT)
            .values(values)
            .returning(devices)
        )
        async with self._database.write() as connection:
            row = (await connection.execute(update)).first()
        return _device(_found(row))

    def _secret(self, row: sa.Row[Any]) -> DeviceSecret:
        return DeviceSecret(DeviceId(row.id), self._sealer.open(row.sealed_password, row.id))


def _all_and_online(table: sa.Table) -> tuple[sa.ColumnElement[int], sa.ColumnElement[int]]:
    online = sa.case((table.c.presence == Presence.ONLINE.value, 1))
    return sa.func.count(), sa.func.count(online)


def _found(row: sa.Row[Any] | None) -> sa.Row[Any]:
    if row is None:
        raise NotFound("no such device")
    return row


def _settings_values(settings: DeviceSettings) -> dict[str, Any]:
    return {
        "auth_username": settings.auth_username,
        "transport": settings.transport and settings.transport.value,
        "media_transport": settings.media_transport and settings.media_transport.value,
        "charset": settings.charset.value,
        "version": settings.version,
        "digest": settings.digest.value,
        "keepalive_interval_s": settings.keepalive_interval_s,
        "keepalive_misses": settings.keepalive_misses,
        "send_date": settings.send_date,
    }


def _state_values(state: DeviceState) -> dict[str, Any]:
    binding = state.binding
    return {
        "of_id": state.device_id,
        "new_presence": state.presence.value,
        "new_presence_since_us": state.presence_since_us,
        "new_last_seen_us": state.last_seen_us,
        "new_binding_transport": binding and binding.transport.value,
        "new_binding_host": binding and binding.host,
        "new_binding_port": binding and binding.port,
        "new_binding_contact": binding and binding.contact,
        "new_binding_registered_at_us": binding and binding.registered_at_us,
        "new_binding_expires_at_us": binding and binding.expires_at_us,
        "new_binding_user_agent": binding and binding.user_agent,
        "new_binding_gb_version": binding and binding.gb_version,
    }


def _device(row: sa.Row[Any]) -> Device:
    return Device(
        id=DeviceId(row.id),
        gb_id=GbId(row.gb_id),
        name=row.name or row.reported_name,
        kind=DeviceKind.of(row.gb_id),
        settings=_settings(row),
        presence=Presence(row.presence),
        presence_since_us=UtcMicros(row.presence_since_us),
        created_at_us=UtcMicros(row.created_at_us),
        binding=_binding(row),
        last_seen_us=None if row.last_seen_us is None else UtcMicros(row.last_seen_us),
        manufacturer=row.manufacturer,
        model=row.model,
        firmware=row.firmware,
        catalog_received=row.catalog_received,
        catalog_expected=row.catalog_expected,
        catalog_complete=row.catalog_complete,
        catalog_at_us=None if row.catalog_at_us is None else UtcMicros(row.catalog_at_us),
    )


def _settings(row: sa.Row[Any]) -> DeviceSettings:
    return DeviceSettings(
        auth_username=row.auth_username,
        transport=Transport(row.transport) if row.transport else None,
        media_transport=MediaTransport(row.media_transport) if row.media_transport else None,
        charset=Charset(row.charset),
        version=row.version,
        digest=DigestAlgorithm(row.digest),
        keepalive_interval_s=row.keepalive_interval_s,
        keepalive_misses=row.keepalive_misses,
        send_date=row.send_date,
    )


def _binding(row: sa.Row[Any]) -> Binding | None:
    if row.binding_transport is None:
        return None
    return Binding(
        transport=Transport(row.binding_transport),
        host=row.binding_host,
        port=row.binding_port,
        contact=row.binding_contact,
        registered_at_us=UtcMicros(row.binding_registered_at_us),
        expires_at_us=UtcMicros(row.binding_expires_at_us),
        user_agent=row.binding_user_agent,
        gb_version=row.binding_gb_version,
    )
