"""One node's platform put together from its ports: signalling, streams, recording, use cases, and
who hears of what. No socket of the web, no process, no file: those are `node.py`'s, and a virtual
world has its own (simulators/world).
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol
from urllib.parse import urlsplit

from vsp.access.destination import Surroundings
from vsp.access.passwords import PasswordHasher
from vsp.access.ticket import TicketSigner
from vsp.actions.alarms import Alarm, Alarms
from vsp.actions.assemble import Actions, Books, assemble
from vsp.actions.outbox import SETTLE_S, Outbox, PatientChangeLog, PatientStreamBook
from vsp.actions.presence import ChannelPresence
from vsp.actions.recording import Archivist, Recorder
from vsp.actions.streams import StreamManager
from vsp.actions.workers import WorkerPool
from vsp.config import Config
from vsp.jobs import every
from vsp.media.salvage import read_segment
from vsp.model.device import Candidate, CatalogDiff, Channel, Presence
from vsp.model.ids import DeviceId, WorkerId
from vsp.model.people import Action
from vsp.model.recording import RecordingSpec
from vsp.model.stream import SessionStatus, StreamState, ViewEnded
from vsp.ports import Clock, Ids, MediaControl, Metrics, ObjectStore
from vsp.retention.check import Sources
from vsp.retention.claims import WorkerClaims
from vsp.retention.reconcile import Reconciler
from vsp.sip.endpoint import Sockets
from vsp.sip.service import SignalService

ENFORCE_S = 2.0
"""Period at which the rights of open views are asked again (I4: cut within 5 s)."""

LOOPBACKS = ("127.0.0.1", "::1")


class News(Protocol):
    """Where events for consoles go, and who runs what they set off."""

    def publish(self, event: Mapping[str, object]) -> None:
        """Tell every open console. Never waits, never fails."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside us; its failure is logged."""
        ...


@dataclass(frozen=True, slots=True)
class Platform:
    """Everything that decides. `connect`, then `start`, then run the `jobs`."""

    books: Books
    outbox: Outbox
    signal: SignalService
    pool: WorkerPool
    streams: StreamManager
    recorder: Recorder
    archivist: Archivist
    reconciler: Reconciler
    alarms: Alarms
    channels: ChannelPresence
    actions: Actions

    async def start(self) -> None:
        """Take over what an earlier process left, then open signalling and follow the workers."""
        await self.alarms.database(self.outbox.trouble)
        dialogs = await self.books.streams.all()
        self.signal.restore(dialogs)
        await self.streams.restore(dialogs)
        await self.signal.start()
        self.streams.end_what_nobody_receives()
        self.pool.start()

    def jobs(self) -> Sequence[Coroutine[Any, Any, None]]:
        """What runs for ever."""
        return (
            self.recorder.run(),
            self.reconciler.run(),
            every(SETTLE_S, "write what is owed", self.outbox.settle),
            every(ENFORCE_S, "enforce rights", self.actions.views.enforce),
        )

    async def close(self, cause: str) -> None:
        """In order: views are ended and audited; workers and dialogs are left alone."""
        await self.actions.views.close_all(cause)
        await self.pool.close()
        await self.streams.close()
        await self.signal.close()
        await self.outbox.close()


def compose(
    *,
    config: Config,
    books: Books,
    objects: ObjectStore,
    workers: Sequence[MediaControl],
    clock: Clock,
    ids: Ids,
    metrics: Metrics,
    metrics_text: Callable[[], str],
    nonce_key: bytes,
    signer: TicketSigner,
    hasher: PasswordHasher,
    sockets: Sockets | None = None,
) -> Platform:
    """Wire them. Nothing runs yet."""
    outbox = Outbox()
    books = replace(
        books,
        changes=PatientChangeLog(books.changes, outbox),
        streams=PatientStreamBook(books.streams, outbox),
    )
    books.audit.keep_endings(outbox.write)
    pool = WorkerPool(workers)
    signal = SignalService(
        config.sip,
        config.sip_advertised,
        books.devices,
        books.changes,
        clock,
        ids,
        metrics,
        books.streams,
        nonce_key=nonce_key,
        sockets=sockets,
    )
    streams = StreamManager(
        devices=books.devices,
        signal=signal,
        pool=pool,
        book=books.streams,
        changes=books.changes,
        clock=clock,
        ids=ids,
        metrics=metrics,
        media=config.media,
        platform_id=config.sip.id,
        around=_surroundings(config),
    )
    recorder = Recorder(
        devices=books.devices,
        signal=signal,
        streams=streams,
        changes=books.changes,
        clock=clock,
        metrics=metrics,
        spec=RecordingSpec(config.recording.segment_s, config.recording.part_s),
    )
    actions = assemble(
        config=config,
        books=books,
        signal=signal,
        streams=streams,
        signer=signer,
        hasher=hasher,
        clock=clock,
        ids=ids,
        metrics=metrics,
        metrics_text=metrics_text,
    )
    return Platform(
        books=books,
        outbox=outbox,
        signal=signal,
        pool=pool,
        streams=streams,
        recorder=recorder,
        archivist=Archivist(
            segments=books.segments,
            changes=books.changes,
            outbox=outbox,
            pool=pool,
            metrics=metrics,
        ),
        reconciler=_reconciler(config, books, objects, workers, clock, metrics),
        alarms=actions.alarms,
        channels=ChannelPresence(
            books.devices, books.changes, clock, lambda device_id: signal.presence(device_id)[0]
        ),
        actions=actions,
    )


def _surroundings(config: Config) -> Surroundings:
    """What of this computer and its neighbours no device may send us to."""
    us = {config.sip.host, config.sip_advertised, config.media.host, config.media_advertised}
    ports = {config.sip.port, config.web.port}
    ports |= {config.media.http_port_first + index for index in range(config.worker_count)}
    own = {(host, port) for host in (*us, *LOOPBACKS) for port in ports}
    for service in (config.database.url, f"s3://{config.store.s3_endpoint}"):
        parts = urlsplit(service)
        if parts.hostname and parts.port:
            hosts = LOOPBACKS if parts.hostname == "localhost" else (parts.hostname,)
            own |= {(host, parts.port) for host in hosts}
    return Surroundings(config.media.networks, frozenset(own))


def _reconciler(
    config: Config,
    books: Books,
    objects: ObjectStore,
    workers: Sequence[MediaControl],
    clock: Clock,
    metrics: Metrics,
) -> Reconciler:
    sources = Sources(
        segments=books.segments,
        objects=objects,
        audit=books.audit,
        claims=WorkerClaims(workers, clock, config.recording.reconcile_grace_s),
        facts=partial(read_segment, objects),
        acting=partial(books.audit.act, None, Action.STORE_MEND, who="reconciler"),
    )
    return Reconciler(
        sources=sources, clock=clock, metrics=metrics, period_s=config.recording.reconcile_s
    )


def connect(platform: Platform, news: News) -> None:
    """Who hears of what."""
    _connect_signalling(platform, news)
    streams, recorder, pool = platform.streams, platform.recorder, platform.pool

    def stream_state(channel: Channel, state: StreamState, cause: str) -> None:
        news.publish({"type": "stream", "channel": channel.id, "state": state, "cause": cause})
        if state in {StreamState.FLOWING, StreamState.ENDED}:
            recorder.nudge()

    def recording(channel: Channel, active: bool, cause: str) -> None:
        news.publish(
            {"type": "recording", "channel": channel.id, "recording": active, "cause": cause}
        )

    def alarm(alarm: Alarm, raised: bool) -> None:
        news.publish(
            {
                "type": "alarm",
                "kind": alarm.kind,
                "subject": alarm.subject,
                "raised": raised,
                "cause": alarm.cause,
            }
        )

    async def worker_adopted(worker_id: WorkerId, sessions: Sequence[SessionStatus]) -> None:
        await streams.worker_adopted(worker_id, sessions)
        recorder.worker_adopted()

    async def view_ended(event: ViewEnded) -> None:
        await streams.view_ended(event.view_id, event.cause)

    streams.on_state = stream_state
    recorder.on_recording = recording
    platform.alarms.on_alarm = alarm
    platform.outbox.on_trouble = platform.alarms.database
    platform.reconciler.on_lost = platform.alarms.objects
    platform.actions.channels.on_plan_changed = recorder.nudge
    pool.on_adopted = worker_adopted
    pool.on_lost = streams.worker_lost
    pool.on_session = streams.session_changed
    pool.on_view_ended = view_ended
    pool.on_segment_closed = platform.archivist.segment_closed
    pool.on_segments_wanted = platform.archivist.segments_wanted
    pool.on_troubles = platform.alarms.worker_troubles


def _connect_signalling(platform: Platform, news: News) -> None:
    signal, streams, recorder = platform.signal, platform.streams, platform.recorder

    def channels_follow(device_id: DeviceId, evidence: str) -> None:
        follow = partial(platform.channels.follow, device_id, evidence)
        news.spawn(platform.outbox.write(f"channels of {device_id}", follow))

    def presence(device_id: DeviceId, state: Presence, evidence: str) -> None:
        news.publish(
            {"type": "presence", "device": device_id, "presence": state, "evidence": evidence}
        )
        channels_follow(device_id, evidence)
        if state is Presence.ONLINE:
            recorder.device_online(device_id)
        else:
            news.spawn(streams.device_offline(device_id))

    def catalog(device_id: DeviceId, diff: CatalogDiff) -> None:
        news.publish(
            {
                "type": "catalog",
                "device": device_id,
                "received": diff.received,
                "expected": diff.expected,
                "complete": diff.complete,
            }
        )
        channels_follow(device_id, "catalogue")
        recorder.nudge()

    def candidates(seen: Sequence[Candidate]) -> None:
        for candidate in seen:
            news.publish({"type": "candidate", "gb_id": candidate.gb_id})
        news.spawn(added_elsewhere(seen))

    async def added_elsewhere(seen: Sequence[Candidate]) -> None:
        """A device that `vsp device add` wrote beside us is known from its second knock on."""
        devices = platform.books.devices
        for candidate in seen:
            device = await devices.device_by_gb_id(candidate.gb_id)
            if device is not None:
                signal.device_added(device, await devices.secret(device.id))
                await devices.drop_candidates([candidate.gb_id])

    signal.on_presence = presence
    signal.on_catalog = catalog
    signal.on_candidates = candidates
    signal.on_dialog_ended = streams.dialog_ended


__all__ = ["ENFORCE_S", "News", "Platform", "compose", "connect"]
