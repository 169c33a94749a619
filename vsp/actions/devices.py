"""Devices: adding, changing, removing; and the unknown ones that knock.

The only writer of devices. The row comes first, then signalling is told, so that a device which
registers in between is at worst challenged once more.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from vsp.access.passwords import check_device_password
from vsp.access.policy import Resource, ResourceKind
from vsp.access.scope import Access, device_resource
from vsp.errors import Conflict, Invalid, VspError
from vsp.model.changes import Axis, ChangePoint
from vsp.model.device import (
    Candidate,
    Device,
    DeviceSecret,
    DeviceSettings,
    NewDevice,
    Presence,
    RecordPlan,
)
from vsp.model.ids import DeviceId, GbId, UtcMicros
from vsp.model.people import Action, Actor
from vsp.ports import (
    ChangeLog,
    Clock,
    DeviceBook,
    Page,
    PageRequest,
)

_GB_ID = re.compile(r"[0-9]{20}")

NAME_LENGTH_MAX = 128
"""Characters of a name that a person gives; GB/T 28181 names are shorter."""

_PRESENTABLE_DAYS = 31
HISTORY_US_MAX = _PRESENTABLE_DAYS * 86_400_000_000
"""Longest history answered at once: a month of change points."""

BATCH_MAX = 1000
"""Candidates approved or dismissed in one request."""


@dataclass(frozen=True, slots=True)
class DeviceEntry:
    """A device with the number of its channels."""

    device: Device
    channels: int


@dataclass(frozen=True, slots=True)
class ImportLine:
    """One line of an import: either what it asks for, or why it cannot be read."""

    line: int
    gb_id: str
    new: NewDevice | None
    error: str = ""


@dataclass(frozen=True, slots=True)
class LineFailed:
    line: int
    gb_id: str
    error: str


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What an import did: every line is added, updated or in `failed`."""

    added: int
    updated: int
    failed: tuple[LineFailed, ...]
    total: int


@dataclass(frozen=True, slots=True)
class ApproveResult:
    approved: int
    failed: tuple[LineFailed, ...]


@dataclass(frozen=True, slots=True)
class DeviceChanges:
    """What a PATCH asks for; None leaves a field alone. `settings` is complete when given."""

    name: str | None = None
    settings: DeviceSettings | None = None
    password: str | None = None

    def words(self) -> str:
        """For the audit row; never the password."""
        fields = ("name", "settings", "password")
        return ", ".join(name for name in fields if getattr(self, name) is not None) or "nothing"


class Announcements(Protocol):
    """What signalling must hear of the register. `SignalControl` has it."""

    def device_added(self, device: Device, secret: DeviceSecret) -> None: ...
    def device_removed(self, device_id: DeviceId) -> None: ...


class Devices:
    """Use cases about the register of devices and the candidates."""

    def __init__(
        self,
        *,
        book: DeviceBook,
        signal: Announcements,
        changes: ChangeLog,
        access: Access,
        clock: Clock,
        default_plan: RecordPlan,
    ) -> None:
        self._book = book
        self._signal = signal
        self._changes = changes
        self._access = access
        self._clock = clock
        self._default_plan = default_plan
        self.on_changed: Callable[[DeviceId], None] | None = None
        self.on_removed: Callable[[DeviceId, str], Awaitable[None]] | None = None

    # ---- reading ------------------------------------------------------------------------------

    async def list(
        self, actor: Actor, page: PageRequest, search: str, presence: Presence | None
    ) -> Page[DeviceEntry]:
        self._access.require(actor, Action.LIST)
        found = await self._book.devices(page, search, presence)
        counts = await self._book.channel_counts([device.id for device in found.items])
        entries = [DeviceEntry(device, counts.get(device.id, 0)) for device in found.items]
        return Page(entries, found.next, found.total)

    async def get(self, actor: Actor, reference: str) -> DeviceEntry:
        return await self._entry(await self._access.device(actor, reference))

    async def _entry(self, device: Device) -> DeviceEntry:
        counts = await self._book.channel_counts([device.id])
        return DeviceEntry(device, counts.get(device.id, 0))

    async def history(
        self, actor: Actor, reference: str, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[ChangePoint]:
        """When the device came and went, with what was seen."""
        device = await self._access.device(actor, reference)
        if not from_us < until_us:
            raise Invalid("the history's end is not after its start")
        if until_us - from_us > HISTORY_US_MAX:
            raise Invalid(f"a history covers {_PRESENTABLE_DAYS} days at the most")
        return await self._changes.between(f"device:{device.id}", Axis.PRESENCE, from_us, until_us)

    # ---- changing -----------------------------------------------------------------------------

    async def add(self, actor: Actor, new: NewDevice) -> DeviceEntry:
        """Raises Invalid for a bad code or weak password, Conflict when the code is taken."""
        async with self._access.act(actor, Action.DEVICE_MANAGE, _by_code(new.gb_id), "add"):
            return DeviceEntry(await self._add(new), 0)

    async def _add(self, new: NewDevice) -> Device:
        new = _checked(new)
        plan = new.record_plan or self._default_plan
        device = await self._book.add_device(new, self._clock.now_us(), plan)
        self._signal.device_added(device, DeviceSecret(device.id, new.password))
        return device

    async def import_lines(
        self, actor: Actor, lines: Sequence[ImportLine], *, update: bool
    ) -> ImportResult:
        """Add every good line and name every bad one. `update` overwrites known devices."""
        added = updated = 0
        failed: list[LineFailed] = []
        async with self._access.act(
            actor, Action.DEVICE_MANAGE, Resource(ResourceKind.DEVICE), f"import {len(lines)} lines"
        ) as entry:
            for line in lines:
                try:
                    is_new = await self._import_line(line, update=update)
                    added, updated = added + is_new, updated + (not is_new)
                except VspError as error:
                    failed.append(LineFailed(line.line, line.gb_id, error.message))
            entry.note(f"added {added}, updated {updated}, failed {len(failed)}")
        return ImportResult(added, updated, tuple(failed), len(lines))

    async def _import_line(self, line: ImportLine, *, update: bool) -> bool:
        """Whether the line made a new device. Raises for a line that cannot be done."""
        if line.new is None:
            raise Invalid(line.error)
        known = await self._book.device_by_gb_id(line.new.gb_id) if update else None
        if known is None:
            await self._add(line.new)
            return True
        new = _checked(line.new)
        changes = DeviceChanges(new.name or None, new.settings, new.password)
        await self._update(known.id, changes)
        return False

    async def update(
        self, actor: Actor, reference: str, changes: Callable[[Device], DeviceChanges]
    ) -> DeviceEntry:
        """Change name, settings or password. `changes` sees the device as it is now."""
        device = await self._access.device(actor, reference, Action.DEVICE_MANAGE)
        wanted = changes(device)
        async with self._access.act(
            actor, Action.DEVICE_MANAGE, device_resource(device.id), f"change {wanted.words()}"
        ):
            if wanted.password is not None:
                check_device_password(wanted.password, device.gb_id)
            if wanted.settings is not None:
                _check_settings(wanted.settings)
            if wanted.name is not None:
                wanted = replace(wanted, name=clean_text(wanted.name))
            return await self._entry(await self._update(device.id, wanted))

    async def _update(self, device_id: DeviceId, changes: DeviceChanges) -> Device:
        device = await self._book.update_device(
            device_id,
            name=changes.name,
            settings=changes.settings,
            password=changes.password,
        )
        self._signal.device_added(device, await self._secret(device_id, changes.password))
        if self.on_changed is not None:
            self.on_changed(device_id)
        return device

    async def _secret(self, device_id: DeviceId, password: str | None) -> DeviceSecret:
        """Signalling gets the device anew, with its secret; only the book knows an old one."""
        if password is not None:
            return DeviceSecret(device_id, password)
        return await self._book.secret(device_id)

    async def remove(self, actor: Actor, reference: str) -> None:
        """Forget a device: its registration and its views end; what was recorded stays."""
        device = await self._access.device(actor, reference, Action.DEVICE_MANAGE)
        async with self._access.act(
            actor, Action.DEVICE_MANAGE, device_resource(device.id), f"remove {device.gb_id}"
        ):
            await self._book.remove_device(device.id)
            self._signal.device_removed(device.id)
            if self.on_removed is not None:
                await self.on_removed(device.id, "the device was removed")

    # ---- candidates ---------------------------------------------------------------------------

    async def candidates(self, actor: Actor, page: PageRequest) -> Page[Candidate]:
        """Unknown devices that tried to register."""
        self._access.require(actor, Action.DEVICE_MANAGE)
        return await self._book.candidates(page)

    async def approve(self, actor: Actor, items: Sequence[NewDevice]) -> ApproveResult:
        """Make devices of candidates, each with a password of its own."""
        _require_batch(len(items))
        failed: list[LineFailed] = []
        approved: list[GbId] = []
        for number, new in enumerate(items, start=1):
            try:
                await self.add(actor, new)
                approved.append(new.gb_id)
            except (Invalid, Conflict) as error:
                failed.append(LineFailed(number, new.gb_id, error.message))
        if approved:
            await self._book.drop_candidates(approved)
        return ApproveResult(len(approved), tuple(failed))

    async def dismiss(self, actor: Actor, gb_ids: Sequence[GbId]) -> None:
        """Forget candidates; one that knocks again is there again."""
        _require_batch(len(gb_ids))
        async with self._access.act(
            actor,
            Action.DEVICE_MANAGE,
            Resource(ResourceKind.CANDIDATE),
            f"dismiss {len(gb_ids)}",
        ) as entry:
            entry.note(" ".join(gb_ids[:20]))
            await self._book.drop_candidates(gb_ids)


def _checked(new: NewDevice) -> NewDevice:
    """A device that may be added. Raises Invalid, saying what is wrong with it."""
    if not _GB_ID.fullmatch(new.gb_id):
        raise Invalid(
            f"{new.gb_id[:40]!r} is not a code of 20 digits",
            next_step="GB/T 28181-2016 annex D: 8 digits centre, 2 industry, 3 type, 7 number",
        )
    check_device_password(new.password, new.gb_id)
    _check_settings(new.settings)
    return replace(new, name=clean_text(new.name))


_USERNAME = re.compile(r'[^"\\\x00-\x1f\x7f]{1,64}')
"""What can stand between quotes in a digest header (RFC 3261 25.1) without escapes."""

_VERSION = re.compile(r"[0-9A-Za-z._/-]{1,16}")


def _check_settings(settings: DeviceSettings) -> None:
    """Raises Invalid naming the field."""
    if settings.auth_username is not None and not _USERNAME.fullmatch(settings.auth_username):
        raise Invalid("auth_username has 1 to 64 characters without quotes and control characters")
    if settings.version is not None and not _VERSION.fullmatch(settings.version):
        raise Invalid("version is a word like 2016 or 2022")


def clean_text(text: str) -> str:
    """A name as people may give it: printable, bounded."""
    shown = "".join(character for character in text if character.isprintable()).strip()
    return shown[:NAME_LENGTH_MAX]


def _by_code(gb_id: str) -> Resource:
    """Audit subject of a device that has no id yet; a malformed code is cut, not echoed whole."""
    return Resource(ResourceKind.DEVICE, clean_text(gb_id)[:20])


def _require_batch(size: int) -> None:
    if not 1 <= size <= BATCH_MAX:
        raise Invalid(f"1 to {BATCH_MAX} items in one request")
