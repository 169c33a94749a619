"""DeviceBook in memory: channels; `vsp.store.channels` says what a catalogue answer changes.

A channel is made anew when something of it changes and is given away as it is until then. Only its
placement may change by the passing of time, so each row knows between which instants its channel
holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vsp.errors import NotFound
from vsp.model.catalog import parent_of
from vsp.model.device import CatalogDiff, CatalogItem, Channel, Presence, RecordPlan
from vsp.model.ids import ChannelId, DeviceId, GbId, UtcMicros
from vsp.ports import Clock, Ids, Page, PageRequest
from vsp.store.channels import Answer, JudgedItem, KnownItem, check_plan, small_number
from vsp.store.columns import WORDS_MAX, clean
from vsp.store.memory.register import in_force
from vsp.store.memory.rows import cleaned, contains, page_of
from vsp.store.memory.tables import ChannelRow, DeviceRow, MemoryDatabase
from vsp.store.register import UNPLACED_CLASS, UNPLACED_LABEL

EARLIEST_US = -(1 << 63)
LATEST_US = 1 << 63
"""No instant of a database lies outside."""


class MemoryChannels:
    """Channels with their plans and placements."""

    def __init__(self, database: MemoryDatabase, clock: Clock, ids: Ids) -> None:
        self._devices = database.devices
        self._channels = database.channels
        self._clock = clock
        self._ids = ids

    # ---- lists ------------------------------------------------------------------------------

    async def channel(self, channel_id: ChannelId) -> Channel:
        """Raises NotFound, also when its device was removed."""
        return _shown(self._channel(channel_id), self._clock.now_us())

    async def channels_by_gb_id(self, gb_id: GbId) -> Sequence[Channel]:
        """Those of every device: codes are not unique in the field."""
        return self._all_shown(self._channels.by_gb_id.get(gb_id, []))

    async def channels(
        self, page: PageRequest, search: str = "", device_id: DeviceId | None = None
    ) -> Page[Channel]:
        """By code. `search` looks into names, code, civil code and address."""
        order = self._channels.order
        if device_id is not None:
            order = self._channels.of_device.get(device_id, [])
        found = page_of(
            order,
            page,
            (str, str),
            lambda key: self._channels.by_id[key[1]],
            wanted=(lambda row: contains(_searched(row), search)) if search else None,
        )
        now_us = self._clock.now_us()
        return Page([_shown(row, now_us) for row in found.items], found.next, found.total)

    async def planned_channels(self) -> Sequence[Channel]:
        """Playable ones whose plan is not NONE, also while missing: a list may be wrong."""
        return self._all_shown(self._channels.planned)

    async def channel_counts(self, device_ids: Sequence[DeviceId]) -> Mapping[DeviceId, int]:
        """Playable channels of each device named; devices without any are left out."""
        by_id = self._channels.by_id
        counts = {
            device_id: sum(
                by_id[channel_id].channel.playable
                for _, channel_id in self._channels.of_device.get(device_id, [])
            )
            for device_id in device_ids
        }
        return {device_id: count for device_id, count in counts.items() if count}

    # ---- changes ----------------------------------------------------------------------------

    async def save_presence(self, states: Sequence[tuple[ChannelId, Presence, UtcMicros]]) -> None:
        """All of them."""
        for channel_id, presence, since_us in states:
            row = self._channels.by_id.get(channel_id)
            if row is not None:
                row.channel = replace(row.channel, presence=presence, presence_since_us=since_us)

    async def update_channel(
        self,
        channel_id: ChannelId,
        *,
        record_plan: RecordPlan | None = None,
        name: str | None = None,
    ) -> Channel:
        """Change what is given; an empty name restores the reported one. NotFound, Invalid."""
        row = self._channel(channel_id)
        if record_plan is not None:
            check_plan(row.channel, record_plan)
            row.record_plan = record_plan
        if name is not None:
            row.given_name = clean(name, WORDS_MAX)
        if record_plan is not None or name is not None:
            self._name_and_plan(row)
        return _shown(row, self._clock.now_us())

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
        device = self._device(device_id)
        answer = Answer()
        answer.take(items)
        known = self._known_items(device_id)
        answer.heed(known)
        new, altered = answer.judge(list(answer.items.values()), known, self._ids.row_id)
        for judged in new:
            self._add(device, judged, at_us)
        for judged in altered:
            self._alter(judged, at_us)
        missing = answer.newly_missing(known) if complete else []
        for gb_id in missing:
            row = self._channels.by_id[known[gb_id].channel_id]
            row.channel = replace(row.channel, missing_since_us=at_us)
        device.device = replace(
            device.device,
            catalog_received=len(answer.items),
            catalog_expected=small_number(expected),
            catalog_complete=complete,
            catalog_at_us=at_us,
        )
        return CatalogDiff(
            added=tuple(judged.item.gb_id for judged in new),
            changed=tuple(judged.item.gb_id for judged in altered),
            missing=tuple(missing),
            received=len(answer.items),
            expected=expected,
            complete=complete,
        )

    def _known_items(self, device_id: DeviceId) -> dict[GbId, KnownItem]:
        known: dict[GbId, KnownItem] = {}
        for gb_id, channel_id in self._channels.of_device.get(device_id, []):
            row = self._channels.by_id[channel_id]
            missing = row.channel.missing_since_us is not None
            known[gb_id] = KnownItem(channel_id, row.fingerprint, row.channel.parent_gb_id, missing)
        return known

    def _add(self, device: DeviceRow, judged: JudgedItem, at_us: UtcMicros) -> None:
        # Presence is judged elsewhere, with its cause, and saved by `save_presence`.
        row = ChannelRow(_reported(judged, device.device.id, at_us), device)
        self._channels.add(row)
        self._take_over(row, judged)

    def _alter(self, judged: JudgedItem, at_us: UtcMicros) -> None:
        row = self._channels.by_id[judged.channel_id]
        before = row.channel
        now = _reported(judged, before.device_id, at_us)
        row.channel = replace(
            now, presence=before.presence, presence_since_us=before.presence_since_us
        )
        row.placed_until_us = row.placed_from_us  # its placement is gone with what it was
        self._take_over(row, judged)

    def _take_over(self, row: ChannelRow, judged: JudgedItem) -> None:
        """What of an item is beside the channel, and what of the channel follows from that."""
        row.fingerprint = judged.fingerprint
        row.reported_name = row.channel.name
        self._name_and_plan(row)

    # ---- rows -------------------------------------------------------------------------------

    def _name_and_plan(self, row: ChannelRow) -> None:
        plan = row.record_plan or row.device.default_plan
        row.channel = replace(
            row.channel,
            name=row.given_name or row.reported_name,
            record_plan=plan if row.channel.playable else RecordPlan.NONE,
        )
        self._channels.plan(row)

    def _device(self, device_id: DeviceId) -> DeviceRow:
        row = self._devices.by_id.get(device_id)
        if row is None:
            raise NotFound("no such device")
        return row

    def _channel(self, channel_id: ChannelId) -> ChannelRow:
        row = self._channels.by_id.get(channel_id)
        if row is None or row.device.removed:
            raise NotFound("no such channel")
        return row

    def _all_shown(self, channel_ids: Sequence[ChannelId]) -> list[Channel]:
        now_us = self._clock.now_us()
        by_id = self._channels.by_id
        return [_shown(by_id[channel_id], now_us) for channel_id in channel_ids]


def _reported(judged: JudgedItem, device_id: DeviceId, at_us: UtcMicros) -> Channel:
    """A channel as its device reports it, nothing else known."""
    item = judged.item
    channel = Channel(
        id=judged.channel_id,
        device_id=device_id,
        gb_id=item.gb_id,
        name=item.name,
        playable=judged.playable,
        presence=Presence.UNKNOWN,
        presence_since_us=at_us,
        reported=item.status,
        parent_gb_id=parent_of(item),
        civil_code=item.civil_code,
        record_plan=RecordPlan.NONE,
        klass=UNPLACED_CLASS,
        label=UNPLACED_LABEL,
        region_id=None,
        department_id=None,
        manufacturer=item.manufacturer,
        model=item.model,
        address=item.address,
        longitude=item.longitude,
        latitude=item.latitude,
        ptz_type=item.ptz_type,
    )
    texts = ("name", "civil_code", "manufacturer", "model", "address")
    return cleaned(channel, WORDS_MAX, *texts)


def _shown(row: ChannelRow, now_us: UtcMicros) -> Channel:
    """The channel of a row with the placement that is in force."""
    if not row.placed_from_us <= now_us < row.placed_until_us:
        _place(row, now_us)
    return row.channel


def _place(row: ChannelRow, now_us: UtcMicros) -> None:
    placed = in_force(row.placements, now_us)
    row.channel = replace(
        row.channel,
        klass=placed.klass if placed else UNPLACED_CLASS,
        label=placed.label if placed else UNPLACED_LABEL,
        region_id=placed.region_id if placed else None,
        department_id=placed.department_id if placed else None,
    )
    turns = [version.valid_from_us for version in row.placements]
    turns += [v.valid_to_us for v in row.placements if v.valid_to_us is not None]
    row.placed_from_us = max((turn for turn in turns if turn <= now_us), default=EARLIEST_US)
    row.placed_until_us = min((turn for turn in turns if turn > now_us), default=LATEST_US)


def _searched(row: ChannelRow) -> tuple[str, ...]:
    channel = row.channel
    names = (row.given_name, row.reported_name, channel.gb_id)
    return (*names, channel.civil_code, channel.address)
