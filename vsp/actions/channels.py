"""Channels: listing, the record plan, what is recorded of them, why a picture did not come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vsp.access.scope import Access, channel_resource
from vsp.actions.devices import clean_text
from vsp.actions.memo import Memo
from vsp.actions.timeline import NOTICED_WITHIN_US, Evidence, Timeline, timeline
from vsp.actions.views import Streams
from vsp.errors import Invalid, NotFound
from vsp.model.changes import Axis
from vsp.model.device import Channel, RecordPlan
from vsp.model.ids import ChannelId, DeviceId, GbId, UtcMicros
from vsp.model.people import Action, Actor
from vsp.model.recording import Segment
from vsp.model.stream import Attempt
from vsp.ports import (
    ChangeLog,
    Clock,
    DeviceBook,
    Page,
    PageRequest,
    RecordItem,
    SegmentIndex,
    SignalControl,
    StreamBook,
)

_DAY_US = 86_400_000_000

TIMELINE_DAYS_MAX = 31
"""Days of one timeline: the retention of ordinary channels (rule A3), and the console's widest."""

FIND_ROWS = 1000
"""Rows of one look-up while a long timeline is put together."""


NAME_LIFE_S = 60.0
"""How stale a device's name beside its channels may be; a change made here is seen at once."""


@dataclass(frozen=True, slots=True)
class DeviceName:
    gb_id: GbId
    name: str
    created_at_us: UtcMicros


@dataclass(frozen=True, slots=True)
class ChannelEntry:
    """A channel with the name of its device and whether it is being recorded this moment."""

    channel: Channel
    device: DeviceName
    recording: bool


class Channels:
    """Use cases about channels."""

    def __init__(
        self,
        *,
        book: DeviceBook,
        signal: SignalControl,
        segments: SegmentIndex,
        changes: ChangeLog,
        attempts: StreamBook,
        streams: Streams,
        access: Access,
        clock: Clock,
    ) -> None:
        self._book = book
        self._signal = signal
        self._segments = segments
        self._changes = changes
        self._attempts = attempts
        self._streams = streams
        self._access = access
        self._clock = clock
        self._names: Memo[DeviceId, DeviceName] = Memo(clock, NAME_LIFE_S)
        self.on_plan_changed: Callable[[ChannelId], None] | None = None

    # ---- reading ------------------------------------------------------------------------------

    async def list(
        self, actor: Actor, page: PageRequest, search: str, device: str | None
    ) -> Page[ChannelEntry]:
        """`device` narrows to one device, by our id or its code."""
        self._access.require(actor, Action.LIST)
        device_id = (await self._access.device(actor, device)).id if device else None
        found = await self._book.channels(page, search, device_id)
        entries = [await self._entry(channel) for channel in found.items]
        return Page(entries, found.next, found.total)

    async def get(self, actor: Actor, reference: str) -> ChannelEntry:
        return await self._entry(await self._access.channel(actor, reference))

    async def _entry(self, channel: Channel) -> ChannelEntry:
        status = self._streams.status_of(channel.id)
        recording = status is not None and status.records
        return ChannelEntry(channel, await self._device_name(channel.device_id), recording)

    async def _device_name(self, device_id: DeviceId) -> DeviceName:
        """A channel may outlive its device's row in a page that is being read; then no name."""
        name = self._names.get(device_id)
        if name is None:
            try:
                device = await self._book.device(device_id)
            except NotFound:
                return DeviceName(GbId(""), "", UtcMicros(0))
            name = DeviceName(device.gb_id, device.name, device.created_at_us)
            self._names.put(device_id, name)
        return name

    def device_changed(self, device_id: DeviceId) -> None:
        """Look its name up again."""
        self._names.drop(device_id)

    async def attempts(self, actor: Actor, reference: str, limit: int = 50) -> Sequence[Attempt]:
        """The last tries to get a picture, newest first, each with its failing leg."""
        channel = await self._access.channel(actor, reference)
        return await self._attempts.attempts(channel.id, limit)

    async def records(
        self, actor: Actor, reference: str, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[RecordItem]:
        """Files that the device itself holds; asked of it now (GB/T 28181-2016 9.7)."""
        _require_window(from_us, until_us)
        channel = await self._access.channel(actor, reference, Action.PLAYBACK)
        return await self._signal.records(channel.device_id, channel.gb_id, from_us, until_us)

    async def timeline(
        self, actor: Actor, reference: str, from_us: UtcMicros, until_us: UtcMicros
    ) -> Timeline:
        """What we hold of the channel and, for every missing second, why."""
        _require_window(from_us, until_us)
        channel = await self._access.channel(actor, reference, Action.PLAYBACK)
        # Open segments first: one that closes in between is then in both, never in neither.
        writing = await self._streams.open_segments(channel.id)
        segments = await self._find_all(channel.id, from_us, until_us)
        evidence = await self._evidence(channel, from_us, until_us)
        return timeline(segments, writing, evidence, from_us, until_us, self._clock.now_us())

    async def _evidence(
        self, channel: Channel, from_us: UtcMicros, until_us: UtcMicros
    ) -> Evidence:
        """Of the recorder also what it said a little later: why the last seconds are missing may
        be noticed only then."""
        own, above = f"channel:{channel.id}", f"device:{channel.device_id}"
        noticed_us = UtcMicros(until_us + NOTICED_WITHIN_US + 1)
        return Evidence(
            plan=channel.record_plan,
            known_since_us=(await self._device_name(channel.device_id)).created_at_us,
            recording=await self._changes.between(own, Axis.RECORDING, from_us, noticed_us),
            device_presence=await self._changes.between(above, Axis.PRESENCE, from_us, until_us),
            channel_presence=await self._changes.between(own, Axis.PRESENCE, from_us, until_us),
        )

    async def _find_all(
        self, channel_id: ChannelId, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[Segment]:
        """Every row of the window, page by page; the window is bounded, so the loop is."""
        found: dict[str, Segment] = {}
        cursor_us = from_us
        while True:
            rows = await self._segments.find(channel_id, cursor_us, until_us, limit=FIND_ROWS)
            found |= {row.key: row for row in rows}
            if len(rows) < FIND_ROWS or rows[-1].end_us <= cursor_us:
                return list(found.values())
            cursor_us = rows[-1].end_us

    # ---- changing -----------------------------------------------------------------------------

    async def update(
        self,
        actor: Actor,
        reference: str,
        *,
        record_plan: RecordPlan | None = None,
        name: str | None = None,
    ) -> ChannelEntry:
        """Rename, or change what is recorded; the recorder is nudged and would find out anyway."""
        channel = await self._access.channel(actor, reference, Action.CHANNEL_MANAGE)
        words = f"plan {record_plan}" if record_plan is not None else "rename"
        async with self._access.act(
            actor, Action.CHANNEL_MANAGE, channel_resource(channel.id), words
        ):
            cleaned = clean_text(name) if name is not None else None
            if cleaned == "":
                raise Invalid("a channel's name cannot be empty")
            channel = await self._book.update_channel(
                channel.id, record_plan=record_plan, name=cleaned
            )
        if record_plan is not None and self.on_plan_changed is not None:
            self.on_plan_changed(channel.id)
        return await self._entry(channel)


def _require_window(from_us: UtcMicros, until_us: UtcMicros) -> None:
    if not from_us < until_us:
        raise Invalid("`to` is not after `from`")
    if until_us - from_us > TIMELINE_DAYS_MAX * _DAY_US:
        raise Invalid(
            f"a window covers {TIMELINE_DAYS_MAX} days at the most",
            next_step="ask for it in pieces",
        )
