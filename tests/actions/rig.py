"""The use cases over a real database, with a clock in hand and signalling and streams by script.

Only the two ports that need a network are scripted; accounts, audit, devices and segments are the
real store on SQLite.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vsp.access.passwords import PasswordHasher
from vsp.access.ticket import TicketSigner, load_signer
from vsp.actions.assemble import Actions, Books, assemble
from vsp.config import Config
from vsp.errors import VspError
from vsp.health.metrics import PrometheusMetrics
from vsp.model.device import (
    CatalogDiff,
    CatalogItem,
    Channel,
    Device,
    DeviceSecret,
    MediaTransport,
    NewDevice,
    Presence,
    RecordPlan,
)
from vsp.model.dialog import DialogState
from vsp.model.ids import ChannelId, DeviceId, GbId, SessionId, UserId, UtcMicros, ViewId, WorkerId
from vsp.model.people import Actor, Role, User
from vsp.model.recording import OpenSegment
from vsp.model.stream import SessionStatus, StreamState, StreamStats, ViewEndpoint
from vsp.ports import DeviceFacts, InviteAnswer, InviteSpec, RecordItem, TraceLine
from vsp.store import Store, open_store

NOON_US = UtcMicros(1_795_000_000_000_000)
SECOND = 1_000_000

GB_ID = GbId("34020000001180000001")
CHANNEL_GB_ID = GbId("34020000001310000001")
DEVICE_PASSWORD = "tall-river-41-gate"
PASSWORD = "seven green bicycles"


class HandClock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.us = NOON_US
        self.s = 1000.0

    def now_us(self) -> UtcMicros:
        return UtcMicros(self.us)

    def monotonic(self) -> float:
        return self.s

    def pass_s(self, seconds: float) -> None:
        self.us = UtcMicros(self.us + round(seconds * SECOND))
        self.s += seconds


class CountingIds:
    """Ids that repeat from run to run."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def token(self, n_bytes: int = 16) -> str:
        return f"{next(self._numbers):0{n_bytes * 2}x}"

    def number(self, below: int) -> int:
        return next(self._numbers) * 7919 % below

    def row_id(self) -> str:
        return f"{next(self._numbers):028x}"


@dataclass
class ScriptedSignal:
    """Signalling that remembers what it was told and answers what it is given."""

    added: list[tuple[Device, DeviceSecret]] = field(default_factory=list)
    removed: list[DeviceId] = field(default_factory=list)
    failure: VspError | None = None

    def device_added(self, device: Device, secret: DeviceSecret) -> None:
        self.added.append((device, secret))

    def device_removed(self, device_id: DeviceId) -> None:
        self.removed.append(device_id)

    def presence(self, device_id: DeviceId) -> tuple[Presence, UtcMicros]:
        return Presence.ONLINE, NOON_US

    async def invite(self, spec: InviteSpec) -> InviteAnswer:
        raise AssertionError("streams are scripted")

    async def bye(self, dialog: DialogState) -> None:
        raise AssertionError("streams are scripted")

    async def refresh_catalog(self, device_id: DeviceId) -> CatalogDiff:
        self._fail()
        return CatalogDiff((CHANNEL_GB_ID,), (), (), 1, 1, True)

    async def device_info(self, device_id: DeviceId) -> DeviceFacts:
        self._fail()
        return DeviceFacts("Maker", "M-1", "V5.7", "front")

    async def device_status(self, device_id: DeviceId) -> Mapping[str, str]:
        self._fail()
        return {"Online": "ONLINE", "Record": "OFF"}

    async def records(
        self, device_id: DeviceId, channel_gb_id: GbId, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[RecordItem]:
        self._fail()
        return [RecordItem(channel_gb_id, "file", from_us, until_us, "time", 1024)]

    def trace(self, device_id: DeviceId, limit: int = 500) -> Sequence[TraceLine]:
        return [TraceLine(NOON_US, False, "192.0.2.7:5060", "REGISTER", "REGISTER sip:...")][:limit]

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure


@dataclass
class ScriptedStreams:
    """A stream manager without streams: views open unless `failure` is set."""

    failure: VspError | None = None
    attached: dict[ViewId, ChannelId] = field(default_factory=dict)
    detached: list[tuple[ViewId, str]] = field(default_factory=list)
    recording: set[ChannelId] = field(default_factory=set)
    writing: list[OpenSegment] = field(default_factory=list)
    on_view_ended = None

    async def attach_live(self, channel: Channel, view_id: ViewId, actor_name: str) -> ViewEndpoint:
        return self._attach(channel, view_id, "live")

    async def attach_playback(
        self, channel: Channel, view_id: ViewId, start_us: UtcMicros, end_us: UtcMicros | None
    ) -> ViewEndpoint:
        return self._attach(channel, view_id, "playback")

    def _attach(self, channel: Channel, view_id: ViewId, kind: str) -> ViewEndpoint:
        if self.failure is not None:
            raise self.failure
        self.attached[view_id] = channel.id
        return ViewEndpoint(view_id, WorkerId(0), f"ws://127.0.0.1:18100/{kind}/{view_id}")

    async def detach(self, view_id: ViewId, cause: str) -> None:
        self.attached.pop(view_id, None)
        self.detached.append((view_id, cause))

    def status_of(self, channel_id: ChannelId) -> SessionStatus | None:
        if channel_id not in {*self.attached.values(), *self.recording}:
            return None
        return SessionStatus(
            SessionId("s1"),
            channel_id,
            WorkerId(0),
            StreamState.FLOWING,
            MediaTransport.UDP,
            30000,
            channel_id in self.recording,
            len(self.attached),
            StreamStats(packets=10, width=1920, height=1080),
        )

    def statuses(self) -> Sequence[SessionStatus]:
        ids = {*self.attached.values(), *self.recording}
        return [status for each in sorted(ids) if (status := self.status_of(each))]

    async def open_segments(self, channel_id: ChannelId) -> Sequence[OpenSegment]:
        return [segment for segment in self.writing if segment.channel_id == channel_id]


@dataclass
class Rig:
    """Everything a test of a use case holds in its hands."""

    config: Config
    clock: HandClock
    ids: CountingIds
    store: Store
    signal: ScriptedSignal
    streams: ScriptedStreams
    signer: TicketSigner
    actions: Actions

    async def user(self, role: Role, name: str = "", **more: bool) -> Actor:
        """A stored user with PASSWORD, signed in."""
        name = name or role.value
        user = User(
            id=UserId(self.ids.row_id()),
            name=name,
            display_name=name,
            role=role,
            department_id=None,
            enabled=True,
            must_change_password=more.get("must_change_password", False),
            created_at_us=self.clock.now_us(),
        )
        hasher = PasswordHasher(time_cost=1, memory_kib=64)
        await self.store.people.add_user(user, await hasher.hash(PASSWORD))
        hasher.close()
        return await self.sign_in(name)

    async def sign_in(self, name: str, password: str = PASSWORD) -> Actor:
        signed_in = await self.actions.accounts.sign_in(name, password, "192.0.2.50")
        return Actor(signed_in.user, signed_in.session.token_hash, "192.0.2.50")

    async def channel(
        self, gb_id: GbId = GB_ID, channel_gb_id: GbId = CHANNEL_GB_ID, playable: bool = True
    ) -> Channel:
        """A device with one channel, as after its catalogue."""
        device = await self.store.devices.add_device(
            NewDevice(gb_id, DEVICE_PASSWORD, "gate"), self.clock.now_us(), RecordPlan.ALWAYS
        )
        code = channel_gb_id if playable else GbId("34020000002150000001")
        item = CatalogItem(code, "东门", status=Presence.ONLINE)
        await self.store.devices.apply_catalog(device.id, [item], 1, True, self.clock.now_us())
        found = await self.store.devices.channels_by_gb_id(code)
        return next(channel for channel in found if channel.device_id == device.id)

    async def audited(self) -> list[tuple[str, str, str, str, str]]:
        """Rows as (phase, actor, action, subject, result), oldest first."""
        from vsp.ports import PageRequest

        rows = (await self.store.audit.rows(PageRequest(500))).items
        return [
            (row.phase, row.actor, row.action, row.subject, row.result) for row in reversed(rows)
        ]


@asynccontextmanager
async def rig(folder: Path, **sections: object) -> AsyncIterator[Rig]:
    config = Config.model_validate({"node": {"data_dir": folder}, **sections})
    clock, ids = HandClock(), CountingIds()
    store = await open_store(config, clock, ids)
    hasher = PasswordHasher(time_cost=1, memory_kib=64)
    signal, streams = ScriptedSignal(), ScriptedStreams()
    signer = load_signer(folder / "keys")
    metrics = PrometheusMetrics()
    actions = assemble(
        config=config,
        books=Books(
            store.devices, store.segments, store.changes, store.audit, store.people, store.streams
        ),
        signal=signal,
        streams=streams,
        signer=signer,
        hasher=hasher,
        clock=clock,
        ids=ids,
        metrics=metrics,
        metrics_text=metrics.text,
    )
    try:
        yield Rig(config, clock, ids, store, signal, streams, signer, actions)
    finally:
        hasher.close()
        await store.close()
