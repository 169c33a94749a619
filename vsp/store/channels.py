"""DeviceBook over rows: channels, and what a catalogue answer does to them.

Every item of a catalogue has a row, playable or not; `model/catalog.py` says which is which. Ids
are ours and stable: an item that returns after years is the same channel. Nothing is deleted, and a
partial answer marks nothing missing: catalogues come in hundreds of messages, and some get lost.

Large catalogues (100,000 items) are applied in pieces of a few milliseconds, each a transaction of
its own; a crash in between leaves a valid, partly newer catalogue that the next answer completes.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from vsp.errors import Invalid, NotFound
from vsp.model.catalog import parent_of, parents_named, playable_of
from vsp.model.device import (
    CatalogDiff,
    CatalogItem,
    Channel,
    ChannelClass,
    ChannelLabel,
    Presence,
    RecordPlan,
)
from vsp.model.ids import ChannelId, DepartmentId, DeviceId, GbId, RegionId, UtcMicros
from vsp.ports import Clock, Ids, Page, PageRequest
from vsp.store.chunks import ROWS_AT_ONCE, chunks
from vsp.store.columns import clean
from vsp.store.engine import CHUNK_ROWS, Database
from vsp.store.paging import contains, fetch_page
from vsp.store.register import UNPLACED_CLASS, UNPLACED_LABEL, placements_in_force
from vsp.store.tables import catalogue_facts, channels, devices

EXTRA_MAX = 64
"""Further elements kept of one item: the 2022 edition knows about forty."""

EXTRA_CHARACTERS_MAX = 256
"""Characters of one such element."""

PARENTS_MAX = 16
"""Parents kept of one item: its device, its organisation, a few virtual organisations."""

CODE_CHARACTERS_MAX = 64
"""Characters of a code; 20 digits by the standard, a few more in the field."""

NUMBER_MAX = 1_000_000
"""Numbers beyond this (SumNum, PTZType, Secrecy) are no facts about a catalogue."""

_PRESENT = devices.c.removed_at_us.is_(None)
_CHANNELS = sa.select(channels, devices.c.default_plan).select_from(channels.join(devices))


# ---- what a catalogue answer changes --------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KnownItem:
    """What must be known of a stored item to judge a new answer."""

    channel_id: ChannelId
    fingerprint: str
    parent_gb_id: str
    missing: bool


@dataclass(frozen=True, slots=True)
class JudgedItem:
    """An item that is to be written, as a new channel or over an old one."""

    channel_id: ChannelId
    item: CatalogItem
    playable: bool
    fingerprint: str


@dataclass(slots=True)
class Answer:
    """A catalogue answer: the last item of each code, bounded, and every code named as a parent.

    Large ones come in pieces: `take` all of them, `heed` what is stored, then `judge` each.
    """

    items: dict[GbId, CatalogItem] = field(default_factory=dict)
    parents: set[str] = field(default_factory=set)

    def take(self, items: Sequence[CatalogItem]) -> None:
        """Items as they were received; those without a code are none."""
        bounded = [item for item in map(_bounded, items) if item.gb_id]
        self.items.update((item.gb_id, item) for item in bounded)
        self.parents |= parents_named(bounded)

    def heed(self, known: Mapping[GbId, KnownItem]) -> None:
        """What is stored and not in this answer still hangs below its parent."""
        self.parents.update(
            entry.parent_gb_id for gb_id, entry in known.items() if gb_id not in self.items
        )

    def judge(
        self,
        items: Sequence[CatalogItem],
        known: Mapping[GbId, KnownItem],
        new_id: Callable[[], str],
    ) -> tuple[list[JudgedItem], list[JudgedItem]]:
        """Of a piece of `self.items`: what is new, and what has changed or is back."""
        new: list[JudgedItem] = []
        altered: list[JudgedItem] = []
        for item in items:
            playable = playable_of(item, self.parents)
            fingerprint = _fingerprint(item, playable)
            entry = known.get(item.gb_id)
            if entry is None:
                new.append(JudgedItem(ChannelId(new_id()), item, playable, fingerprint))
            elif entry.missing or entry.fingerprint != fingerprint:
                altered.append(JudgedItem(entry.channel_id, item, playable, fingerprint))
        return new, altered

    def newly_missing(self, known: Mapping[GbId, KnownItem]) -> list[GbId]:
        """What is stored, was there until now, and is not in this answer."""
        return [g for g, entry in known.items() if g not in self.items and not entry.missing]


def check_plan(channel: Channel, plan: RecordPlan) -> None:
    """Raises Invalid when there is no picture to be recorded."""
    if plan is not RecordPlan.NONE and not channel.playable:
        raise Invalid(f"{channel.gb_id} has no picture that could be recorded")


def small_number(value: int | None) -> int | None:
    """The number, None when it can be no fact about a catalogue."""
    return value if value is not None and 0 <= value <= NUMBER_MAX else None


def _degrees(value: float | None, limit: float) -> float | None:
    """NaN compares false with everything, so it is dropped with what lies off the globe."""
    return value if value is not None and -limit <= value <= limit else None


def _bounded(item: CatalogItem) -> CatalogItem:
    """The item with what a stranger may make large made small; text columns bound themselves."""
    return CatalogItem(
        gb_id=GbId(clean(item.gb_id.strip(), CODE_CHARACTERS_MAX)),
        name=item.name,
        manufacturer=item.manufacturer,
        model=item.model,
        owner=item.owner,
        civil_code=item.civil_code,
        address=item.address,
        parental=item.parental,
        parent_ids=tuple(clean(p, CODE_CHARACTERS_MAX) for p in item.parent_ids[:PARENTS_MAX]),
        business_group_id=clean(item.business_group_id, CODE_CHARACTERS_MAX),
        secrecy=small_number(item.secrecy) or 0,
        status=item.status,
        longitude=_degrees(item.longitude, 180.0),
        latitude=_degrees(item.latitude, 90.0),
        ptz_type=small_number(item.ptz_type),
        extra=tuple(
            (name[:CODE_CHARACTERS_MAX], text[:EXTRA_CHARACTERS_MAX])
            for name, text in item.extra[:EXTRA_MAX]
        ),
    )


def _fingerprint(item: CatalogItem, playable: bool) -> str:
    """Equal exactly when nothing that is stored has changed."""
    text = f"{playable} {item!r}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


# ---- rows -----------------------------------------------------------------------------------


class SqlChannels:
    """Channels as rows of `channels`, `catalogue_facts` and `channel_placements`."""

    def __init__(self, database: Database, clock: Clock, ids: Ids) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._applying: WeakValueDictionary[DeviceId, asyncio.Lock] = WeakValueDictionary()

    # ---- lists ------------------------------------------------------------------------------

    async def channel(self, channel_id: ChannelId) -> Channel:
        """Raises NotFound, also when its device was removed."""
        found = await self._select(channels.c.id == channel_id)
        if not found:
            raise NotFound("no such channel")
        return found[0]

    async def channels_by_gb_id(self, gb_id: GbId) -> Sequence[Channel]:
        """Those of every device: codes are not unique in the field."""
        return await self._select(channels.c.gb_id == gb_id)

    async def channels(
        self, page: PageRequest, search: str = "", device_id: DeviceId | None = None
    ) -> Page[Channel]:
        """By code. `search` looks into names, code, civil code and address."""
        table = channels.c
        wanted: list[sa.ColumnElement[bool]] = [_PRESENT]
        if device_id is not None:
            wanted.append(table.device_id == device_id)
        if search:
            searched = (
                table.given_name,
                table.reported_name,
                table.gb_id,
                table.civil_code,
                table.address,
            )
            wanted.append(contains(searched, search))
        count = sa.select(sa.func.count()).select_from(channels.join(devices)).where(*wanted)
        async with self._database.read() as connection:
            found = await fetch_page(
                connection,
                _CHANNELS.where(*wanted),
                [(table.gb_id, str), (table.id, str)],
                page,
                lambda row: row,
                total=count,
            )
            items = await self._placed(connection, found.items)
        return Page(items, found.next, found.total)

    async def planned_channels(self) -> Sequence[Channel]:
        """Playable ones whose plan is not NONE, also while missing: a list may be wrong."""
        plan = sa.func.coalesce(channels.c.record_plan, devices.c.default_plan)
        return await self._select(channels.c.playable, plan != RecordPlan.NONE.value)

    async def channel_counts(self, device_ids: Sequence[DeviceId]) -> Mapping[DeviceId, int]:
        """Playable channels of each device named; devices without any are left out."""
        counted: dict[DeviceId, int] = {}
        async with self._database.read() as connection:
            for chunk in chunks(device_ids):
                query = (
                    sa.select(channels.c.device_id, sa.func.count())
                    .where(channels.c.device_id.in_(chunk), channels.c.playable)
                    .group_by(channels.c.device_id)
                )
                for device_id, count in await connection.execute(query):
                    counted[DeviceId(device_id)] = count
        return counted

    async def _select(self, *wanted: sa.ColumnElement[bool]) -> list[Channel]:
        """Every channel of a present device that is wanted, by id."""
        query = _CHANNELS.where(_PRESENT, *wanted).order_by(channels.c.id)
        found: list[Channel] = []
        async with self._database.read() as connection:
            for rows in (await connection.execute(query)).partitions(CHUNK_ROWS):
                found += await self._placed(connection, rows)
        return found

    async def _placed(
        self, connection: AsyncConnection, rows: Sequence[sa.Row[Any]]
    ) -> list[Channel]:
        """Rows as channels, each with its placement now, in one more query for each chunk."""
        now_us = self._clock.now_us()
        found: list[Channel] = []
        for chunk in chunks(rows):
            in_force = await connection.execute(
                placements_in_force([row.id for row in chunk], now_us)
            )
            placements = {placement.channel_id: placement for placement in in_force}
            for part in chunks(chunk, ROWS_AT_ONCE):
                found += [_channel(row, placements.get(row.id)) for row in part]
                await asyncio.sleep(0)
        return found

    # ---- changes ----------------------------------------------------------------------------

    async def save_presence(self, states: Sequence[tuple[ChannelId, Presence, UtcMicros]]) -> None:
        """All of them in one transaction."""
        if not states:
            return
        update = (
            sa.update(channels)
            .where(channels.c.id == sa.bindparam("of_id"))
            .values(
                presence=sa.bindparam("new_presence"), presence_since_us=sa.bindparam("since_us")
            )
        )
        rows = [
            {"of_id": channel_id, "new_presence": presence.value, "since_us": since_us}
            for channel_id, presence, since_us in sorted(states)
        ]
        async with self._database.write() as connection:
            for chunk in chunks(rows):
                await connection.execute(update, chunk)

    async def update_channel(
        self,
        channel_id: ChannelId,
        *,
        record_plan: RecordPlan | None = None,
        name: str | None = None,
    ) -> Channel:
        """Change what is given; an empty name restores the reported one. NotFound, Invalid."""
        current = await self.channel(channel_id)
        values: dict[str, Any] = {}
        if name is not None:
            values["given_name"] = name
        if record_plan is not None:
            check_plan(current, record_plan)
            values["record_plan"] = record_plan.value
        if not values:
            return current
        async with self._database.write() as connection:
            await connection.execute(
                sa.update(channels).where(channels.c.id == channel_id).values(values)
            )
        return await self.channel(channel_id)

    # ---- catalogue --------------------------------------------------------------------------

    async def apply_catalog(
        self,
        device_id: DeviceId,
        items: Sequence[CatalogItem],
        expected: int | None,
        complete: bool,
        at_us: UtcMicros,
    ) -> CatalogDiff:
        """Insert and update; mark missing ones only when `complete`. Raises NotFound."""
        lock = self._applying.setdefault(device_id, asyncio.Lock())
        async with lock:
            answer = await _received(items)
            known = await self._known_items(device_id)
            answer.heed(known)
            added, changed = await self._apply_items(device_id, answer, known, at_us)
            missing = answer.newly_missing(known) if complete else []
            await self._mark_missing([known[gb_id].channel_id for gb_id in missing], at_us)
            received = len(answer.items)
            await self._note_catalog(device_id, received, expected, complete, at_us)
        return CatalogDiff(
            added=tuple(added),
            changed=tuple(changed),
            missing=tuple(missing),
            received=received,
            expected=expected,
            complete=complete,
        )

    async def _known_items(self, device_id: DeviceId) -> dict[GbId, KnownItem]:
        known: dict[GbId, KnownItem] = {}
        last = ""
        query = (
            sa.select(
                channels.c.gb_id,
                channels.c.id,
                channels.c.parent_gb_id,
                channels.c.missing_since_us,
                catalogue_facts.c.fingerprint,
            )
            .join(catalogue_facts)
            .where(channels.c.device_id == device_id)
            .order_by(channels.c.gb_id)
            .limit(CHUNK_ROWS)
        )
        present = sa.select(devices.c.id).where(
            devices.c.id == device_id, devices.c.removed_at_us.is_(None)
        )
        async with self._database.read() as connection:
            if (await connection.execute(present)).first() is None:
                raise NotFound("no such device")
            while True:
                rows = (await connection.execute(query.where(channels.c.gb_id > last))).all()
                for gb_id, channel_id, parent, missing_since_us, fingerprint in rows:
                    known[gb_id] = KnownItem(
                        channel_id, fingerprint, parent, missing_since_us is not None
                    )
                if len(rows) < CHUNK_ROWS:
                    return known
                last = rows[-1].gb_id

    async def _apply_items(
        self,
        device_id: DeviceId,
        answer: Answer,
        known: Mapping[GbId, KnownItem],
        at_us: UtcMicros,
    ) -> tuple[list[GbId], list[GbId]]:
        added: list[GbId] = []
        changed: list[GbId] = []
        for chunk in chunks(list(answer.items.values())):
            new, altered = answer.judge(chunk, known, self._ids.row_id)
            await self._write_items(device_id, new, altered, at_us)
            added += [judged.item.gb_id for judged in new]
            changed += [judged.item.gb_id for judged in altered]
            await asyncio.sleep(0)  # an unchanged catalogue awaits nothing else
        return added, changed

    async def _write_items(
        self,
        device_id: DeviceId,
        new: Sequence[JudgedItem],
        altered: Sequence[JudgedItem],
        at_us: UtcMicros,
    ) -> None:
        if not new and not altered:
            return
        async with self._database.write() as connection:
            if new:
                rows = [_new_values(judged, device_id, at_us) for judged in new]
                await connection.execute(sa.insert(channels), rows)
                facts = [_fact_values(judged, at_us) for judged in new]
                await connection.execute(sa.insert(catalogue_facts), facts)
            if altered:
                rows = [_altered_values(judged) for judged in altered]
                await connection.execute(_UPDATE_CHANNEL, rows)
                facts = [_renamed(_fact_values(judged, at_us)) for judged in altered]
                await connection.execute(_UPDATE_FACTS, facts)

    async def _mark_missing(self, channel_ids: Sequence[ChannelId], at_us: UtcMicros) -> None:
        for chunk in chunks(channel_ids):
            async with self._database.write() as connection:
                await connection.execute(
                    sa.update(channels)
                    .where(channels.c.id.in_(chunk))
                    .values(missing_since_us=at_us)
                )

    async def _note_catalog(
        self,
        device_id: DeviceId,
        received: int,
        expected: int | None,
        complete: bool,
        at_us: UtcMicros,
    ) -> None:
        update = (
            sa.update(devices)
            .where(devices.c.id == device_id)
            .values(
                catalog_received=received,
                catalog_expected=small_number(expected),
                catalog_complete=complete,
                catalog_at_us=at_us,
            )
        )
        async with self._database.write() as connection:
            await connection.execute(update)


# ---- items to rows --------------------------------------------------------------------------


async def _received(items: Sequence[CatalogItem]) -> Answer:
    answer = Answer()
    for chunk in chunks(items):
        answer.take(chunk)
        await asyncio.sleep(0)
    return answer


def _reported_values(judged: JudgedItem) -> dict[str, Any]:
    item = judged.item
    return {
        "reported_name": item.name,
        "playable": judged.playable,
        "reported": item.status.value,
        "parent_gb_id": parent_of(item),
        "civil_code": item.civil_code,
        "manufacturer": item.manufacturer,
        "model": item.model,
        "address": item.address,
        "longitude": item.longitude,
        "latitude": item.latitude,
        "ptz_type": item.ptz_type,
    }


def _new_values(judged: JudgedItem, device_id: DeviceId, at_us: UtcMicros) -> dict[str, Any]:
    # Presence is judged elsewhere, with its cause, and saved by `save_presence`.
    return {
        "id": judged.channel_id,
        "device_id": device_id,
        "gb_id": judged.item.gb_id,
        "presence": Presence.UNKNOWN.value,
        "presence_since_us": at_us,
        "created_at_us": at_us,
        **_reported_values(judged),
    }


def _altered_values(judged: JudgedItem) -> dict[str, Any]:
    return {"of_id": judged.channel_id, **_renamed(_reported_values(judged))}


def _fact_values(judged: JudgedItem, at_us: UtcMicros) -> dict[str, Any]:
    item = judged.item
    return {
        "channel_id": judged.channel_id,
        "owner": item.owner,
        "parental": item.parental,
        "parent_ids": [(parent,) for parent in item.parent_ids],
        "business_group_id": item.business_group_id,
        "secrecy": item.secrecy,
        "extra": item.extra,
        "fingerprint": judged.fingerprint,
        "reported_at_us": at_us,
    }


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"new_{name}": value for name, value in values.items()}


_REPORTED = (
    "reported_name",
    "playable",
    "reported",
    "parent_gb_id",
    "civil_code",
    "manufacturer",
    "model",
    "address",
    "longitude",
    "latitude",
    "ptz_type",
)
_UPDATE_CHANNEL = (
    sa.update(channels)
    .where(channels.c.id == sa.bindparam("of_id"))
    .values(
        missing_since_us=None,
        **{name: sa.bindparam(f"new_{name}", type_=channels.c[name].type) for name in _REPORTED},
    )
)

_UPDATE_FACTS = (
    sa.update(catalogue_facts)
    .where(catalogue_facts.c.channel_id == sa.bindparam("new_channel_id"))
    .values(
        {
            column.key: sa.bindparam(f"new_{column.key}", type_=column.type)
            for column in catalogue_facts.c
            if not column.primary_key
        }
    )
)


# ---- rows to channels -----------------------------------------------------------------------


def _channel(row: sa.Row[Any], placed: sa.Row[Any] | None) -> Channel:
    return Channel(
        id=ChannelId(row.id),
        device_id=DeviceId(row.device_id),
        gb_id=GbId(row.gb_id),
        name=row.given_name or row.reported_name,
        playable=row.playable,
        presence=Presence(row.presence),
        presence_since_us=UtcMicros(row.presence_since_us),
        reported=Presence(row.reported),
        parent_gb_id=row.parent_gb_id,
        civil_code=row.civil_code,
        record_plan=_plan(row),
        klass=ChannelClass(placed.klass) if placed else UNPLACED_CLASS,
        label=ChannelLabel(placed.label) if placed else UNPLACED_LABEL,
        region_id=RegionId(placed.region_id) if placed and placed.region_id else None,
        department_id=(
            DepartmentId(placed.department_id) if placed and placed.department_id else None
        ),
        manufacturer=row.manufacturer,
        model=row.model,
        address=row.address,
        longitude=row.longitude,
        latitude=row.latitude,
        ptz_type=row.ptz_type,
        missing_since_us=_instant(row.missing_since_us),
    )


def _instant(value: int | None) -> UtcMicros | None:
    return None if value is None else UtcMicros(value)


def _plan(row: sa.Row[Any]) -> RecordPlan:
    return RecordPlan(row.record_plan or row.default_plan) if row.playable else RecordPlan.NONE
