"""Commands that change the register while no console is at hand: users, devices, the audit chain.

They open the database themselves and write through the same actions as the console, as the actor
`cli` with the rights of an administrator, so that they are checked and audited alike. A running
node learns of a device added here when that device next knocks.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from vsp.access.authn import Authenticator, SessionRules
from vsp.access.passwords import PasswordHasher, generate_password
from vsp.access.scope import Access
from vsp.actions.accounts import Accounts
from vsp.actions.devices import Devices
from vsp.actions.imports import decode_csv, parse_devices
from vsp.clock import SystemClock, SystemIds
from vsp.config import Config
from vsp.errors import Invalid
from vsp.model.device import Device, DeviceSecret, NewDevice, RecordPlan
from vsp.model.ids import DeviceId, GbId, UserId, UtcMicros
from vsp.model.people import Actor, Role, User
from vsp.ports import PageRequest
from vsp.store import Store, open_store

CLI = Actor(
    User(
        id=UserId("cli"),
        name="cli",
        display_name="cli",
        role=Role.ADMIN,
        department_id=None,
        enabled=True,
        must_change_password=False,
        created_at_us=UtcMicros(0),
    ),
    session_id="cli",
    address=f"uid {os.getuid()}",
)


class NobodySignals:
    """Signalling as these commands have it: the node that runs is another process."""

    def device_added(self, device: Device, secret: DeviceSecret) -> None:
        """Nothing to tell: the node looks an unknown device up when it knocks."""

    def device_removed(self, device_id: DeviceId) -> None:
        """Nothing to tell."""


@dataclass(frozen=True, slots=True)
class Desk:
    """What a command needs."""

    store: Store
    devices: Devices
    accounts: Accounts


@asynccontextmanager
async def desk(config: Config) -> AsyncIterator[Desk]:
    """Open the store and put the actions on it."""
    clock, ids = SystemClock(), SystemIds()
    store = await open_store(config, clock, ids)
    hasher = PasswordHasher()
    try:
        access = Access(store.devices, store.audit, clock)
        devices = Devices(
            book=store.devices,
            signal=NobodySignals(),
            changes=store.changes,
            access=access,
            clock=clock,
            default_plan=RecordPlan(config.recording.default_plan),
        )
        web = config.web
        rules = SessionRules(
            web.session_idle_s, web.session_life_s, web.sign_in_tries, web.sign_in_lock_s
        )
        accounts = Accounts(
            people=store.people,
            authenticator=Authenticator(store.people, hasher, clock, ids, rules),
            hasher=hasher,
            access=access,
            audit=store.audit,
            clock=clock,
            ids=ids,
            cut_views=_nothing_to_cut,
        )
        yield Desk(store, devices, accounts)
    finally:
        hasher.close()
        await store.close()


async def _nothing_to_cut(user_id: UserId, cause: str, session_id: str | None = None) -> None:
    """Views live in the node; it asks for the right again every few seconds."""


async def add_devices(config: Config, devices: Sequence[NewDevice]) -> int:
    """Add those that are not there yet; returns how many were new."""
    added = 0
    async with desk(config) as at:
        for device in devices:
            if await at.store.devices.device_by_gb_id(device.gb_id) is None:
                await at.devices.add(CLI, device)
                added += 1
    return added


async def user(config: Config, act: str, name: str | None, role: str) -> int:
    """`vsp user add|password|list`. Passwords are made here and printed once."""
    async with desk(config) as at:
        if act == "list":
            for known in await at.accounts.users(CLI):
                state = "enabled" if known.enabled else "disabled"
                print(f"{known.name}\t{known.role.value}\t{state}")
            return 0
        if not name:
            raise Invalid(f"vsp user {act} needs a name")
        password = generate_password(SystemIds())
        if act == "add":
            await at.accounts.add_user(
                CLI, name=name, password=password, role=_role(role), must_change_password=True
            )
        else:
            found = await at.store.people.user_by_name(name)
            if found is None:
                raise Invalid(f"there is no user named {name}")
            await at.accounts.set_user(CLI, found[0].id, password=password)
        print(f"{name}\t{password}")
        print("to be changed at the next sign-in", file=sys.stderr)
    return 0


def _role(text: str) -> Role:
    try:
        return Role(text)
    except ValueError:
        raise Invalid(f"unknown role {text}; roles: {', '.join(Role)}") from None


async def device(config: Config, act: str, what: str | None, name: str) -> int:
    """`vsp device add|import|list`."""
    if act == "list":
        return await _list_devices(config)
    if not what:
        raise Invalid(f"vsp device {act} needs {'a code' if act == 'add' else 'a CSV file'}")
    async with desk(config) as at:
        if act == "add":
            password = generate_password(SystemIds())
            await at.devices.add(CLI, NewDevice(GbId(what), password, name))
            print(f"{what}\t{password}")
            return 0
        try:
            text = await asyncio.to_thread(Path(what).read_bytes)
        except OSError as error:
            raise Invalid(f"{what} cannot be read: {error.strerror}") from error
        result = await at.devices.import_lines(CLI, parse_devices(decode_csv(text)), update=False)
    print(f"{result.added} of {result.total} added")
    for line in result.failed:
        print(f"line {line.line} ({line.gb_id}): {line.error}", file=sys.stderr)
    return 1 if result.failed else 0


async def _list_devices(config: Config) -> int:
    async with desk(config) as at:
        after: str | None = None
        while True:
            page = await at.store.devices.devices(PageRequest(500, after))
            for item in page.items:
                print(f"{item.gb_id}\t{item.presence.value}\t{item.name}")
            if page.next is None:
                return 0
            after = page.next


async def verify_audit(config: Config) -> int:
    """`vsp audit verify`: walk the chain."""
    async with desk(config) as at:
        rows = await at.store.audit.verify()
    print(f"{rows} audit rows follow one another")
    return 0
