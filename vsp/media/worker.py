"""A media worker: every session, view and recording of one process, as `ports.MediaControl`.

The object can be used directly (tests, a node in one process) or through `control.py` and
`vsp.link`. It receives its ObjectStore, its ticket check and its computer (`machine.py`);
`vsp/worker.py` puts a process together. It outlives the node: sessions go on, recordings go on, and
what was closed meanwhile waits in the journal until a node asks.

Spools of workers that this node no longer has (fewer processes than yesterday) are finished by
worker 0: what was recorded is not lost because a number was lowered.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import structlog

from vsp.config import Config
from vsp.disk import remove_tree
from vsp.errors import Conflict, Exhausted, Invalid, NotFound, Unavailable
from vsp.link import WorkerInfo
from vsp.media.admission import Admission
from vsp.media.archive import Finder
from vsp.media.control import EventBus
from vsp.media.journal import Journal, read_entries
from vsp.media.live import LiveView, View
from vsp.media.machine import Lock, Machine
from vsp.media.playback import PlaybackView
from vsp.media.recorder import FRAGMENT_S, Recorder, object_key
from vsp.media.shipper import Shipper
from vsp.media.spool import Spool, SpooledSegment
from vsp.media.stream import MediaSession, Timeouts
from vsp.model.ids import ChannelId, SessionId, UtcMicros, ViewId, WorkerId
from vsp.model.people import Ticket
from vsp.model.recording import EndReason, OpenSegment, RecordingSpec, Segment
from vsp.model.stream import (
    RemoteMedia,
    SessionPort,
    SessionSpec,
    SessionStatus,
    Troubles,
    ViewEnded,
    ViewEndpoint,
    ViewKind,
    ViewSpec,
)
from vsp.ports import Clock, Ids, ObjectStore, WorkerEvent

log = structlog.get_logger(__name__)

TICK_S = 1.0
"""Period of rates, timeouts and viewers' statistics."""

VIEWS_MAX = 2_000
"""Views of one worker: beyond it the fan-out alone takes more than a core."""

WRITE_LAG_S = 0.1
"""How late a fragment of a slow stream may be written, so that several are written at once."""

PART_BYTES_MIN_S3 = 5 << 20
"""Smallest part but the last that S3 takes."""


@dataclass(slots=True)
class _Place:
    """A view and until when its viewer may come (monotonic)."""

    view: View
    attach_by: float


@dataclass(frozen=True, slots=True)
class _Estate:
    """The spool of a worker that is no more, being finished."""

    folder: Path
    lock: Lock
    spool: Spool
    shipper: Shipper


class MediaWorker:
    """Made, then `async with`: listens, recovers what a crash left, serves; leaves in order."""

    def __init__(
        self,
        config: Config,
        index: int,
        clock: Clock,
        ids: Ids,
        objects: ObjectStore,
        verify: Callable[[str, UtcMicros], Ticket],
        machine: Machine,
        tick_s: float = TICK_S,
    ) -> None:
        self._config = config
        self._tick_s = tick_s
        self._index = index
        self._clock = clock
        self._ids = ids
        self._objects = objects
        self._machine = machine
        self._sessions: dict[SessionId, MediaSession] = {}
        self._places: dict[ViewId, _Place] = {}
        self._bus = EventBus()
        self._folder = config.data_dir / "spool" / str(index)
        self._ports = machine.ports()
        self._viewers = machine.viewers(Admission(clock, self._find_view, verify, self._view_over))
        self._control = machine.control(self)
        self._lock: Lock
        self._spool: Spool
        self._journal: Journal
        self._shipper: Shipper
        self._estates: list[_Estate] = []
        self._knows_its_spools = asyncio.Event()
        self._left_alone: list[str] = []
        self._troubles: Mapping[str, str] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def worker_id(self) -> WorkerId:
        return WorkerId(self._index)

    @property
    def http_port(self) -> int:
        return self._viewers.port

    async def __aenter__(self) -> MediaWorker:
        machine = self._machine
        async with AsyncExitStack() as undo:
            self._lock = machine.lock(self._folder)
            undo.callback(self._lock.release)
            self._journal = await machine.blocking.run(
                Journal, self._folder / "journal", machine.disk
            )
            undo.callback(self._journal.close)
            await self._viewers.start()
            undo.push_async_callback(self._viewers.close)
            self._spool = self._open_spool(self._folder)
            self._shipper = self._shipper_of(self._spool)
            undo.push_async_callback(self._spool.close)
            # Last: who can command the worker finds all of it.
            await self._control.start()
            undo.pop_all()
        for work in (
            self._recover,
            self._ports.run,
            self._write_what_waits,
            self._tick_for_ever,
            machine.run,
        ):
            self._tasks.append(asyncio.create_task(work(), name=f"worker {work.__name__}"))
        return self

    def _open_spool(self, folder: Path) -> Spool:
        recording = self._config.recording
        spool = Spool(
            folder / "log",
            self._machine.disk,
            self._machine.blocking,
            self._machine.writer,
            recording.spool_bytes_max,
            recording.fsync_interval_s,
        )
        spool.start()
        return spool

    def _shipper_of(self, spool: Spool) -> Shipper:
        return Shipper(
            spool,
            self._objects,
            self._journal,
            self._machine.blocking,
            self._clock,
            self._bus.publish,
            PART_BYTES_MIN_S3 if self._config.store.kind == "s3" else 1,
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Orderly stop: segments are closed and, as far as the time allows, made objects."""
        stop_by = self._clock.monotonic() + self._config.node.stop_timeout_s * 0.8
        for session_id in list(self._sessions):
            self._close_session(
                session_id, "the media worker is stopping", "try again", EndReason.STOPPED
            )
        for place in list(self._places.values()):
            place.view.end(Unavailable("the media worker is stopping"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._shipper.close(max(0.1, stop_by - self._clock.monotonic()))
        await self._control.close()
        await self._viewers.close()
        for estate in self._estates:
            await self._leave_estate(estate)
        await self._spool.close()
        await self._machine.blocking.run(self._journal.close)
        await self._machine.blocking.close()
        self._lock.release()

    def failed(self) -> BaseException | None:
        """The error of something that should never end, if it has."""
        for task in self._tasks:
            if task.done() and not task.cancelled() and task.exception() is not None:
                return task.exception()
        return self._spool.failure

    # ---- sessions ---------------------------------------------------------------------------

    async def open_session(self, spec: SessionSpec) -> SessionPort:
        session = self._sessions.get(spec.session_id)
        if session is None:
            session = self._make_session(spec)
        elif session.spec.channel_id != spec.channel_id:
            raise Conflict(f"session {spec.session_id} is of another channel")
        else:
            # A second try over another transport keeps its port.
            session.spec = spec
        return SessionPort(
            spec.session_id, self.worker_id, self._config.media_advertised, session.port
        )

    def _make_session(self, spec: SessionSpec) -> MediaSession:
        object_key(spec.channel_id, UtcMicros(0), UtcMicros(0), 0)
        media = self._config.media
        session = MediaSession(
            spec,
            self.worker_id,
            self._clock,
            Timeouts(media.first_packet_timeout_s, media.stall_timeout_s),
            media.view_queue_bytes_max,
            self._ids.number(1 << 32),
            self._bus.publish,
        )
        session.attach_port(self._ports.open(session))
        self._sessions[spec.session_id] = session
        return session

    async def bind_remote(self, session_id: SessionId, remote: RemoteMedia) -> None:
        self._session(session_id).bind(remote)

    async def close_session(self, session_id: SessionId, cause: str, next_step: str = "") -> None:
        self._close_session(session_id, cause, next_step, None)

    def _close_session(
        self, session_id: SessionId, cause: str, next_step: str, reason: EndReason | None
    ) -> None:
        session = self._sessions.pop(session_id, None)
        if session is None:
            return
        session.close(cause, next_step, reason)
        message = cause or "the stream has ended"
        for place in list(self._places.values()):
            if place.view.spec.session_id == session_id:
                place.view.end(Unavailable(message, cause=cause, next_step=next_step))

    async def start_recording(self, session_id: SessionId, spec: RecordingSpec) -> None:
        session = self._session(session_id)
        if session.recorder is not None and session.recorder.spec == spec:
            return
        session.record(
            Recorder(
                session.spec.channel_id, spec, self._spool, self._clock, self._ship, self._index
            )
        )

    async def stop_recording(self, session_id: SessionId) -> None:
        self._session(session_id).stop_recording()

    async def sessions(self) -> Sequence[SessionStatus]:
        return [session.status() for session in self._sessions.values()]

    async def open_segments(self) -> Sequence[OpenSegment]:
        """Segments being written, and closed ones on their way to the object store."""
        return [
            OpenSegment(head.channel_id, head.run, head.n, head.start_us, segment.end_us)
            for segment in self._under_way()
            if segment.fragments
            for head in (segment.head,)
        ]

    def _under_way(self) -> list[SpooledSegment]:
        shippers = [self._shipper, *(estate.shipper for estate in self._estates)]
        return [segment for shipper in shippers for segment in shipper.segments]

    async def held_keys(self) -> Sequence[str]:
        await self._knows_its_spools.wait()
        if self._left_alone:
            raise Unavailable(
                f"worker {self._index} cannot know what the spool of worker {self._left_alone[0]} "
                "holds",
                cause="that folder was left alone: see the log of this worker's start",
            )
        spools = [self._spool, *(estate.spool for estate in self._estates)]
        held = [segment.head.key for spool in spools for segment in spool.segments]
        return [*held, *(entry.segment.key for entry in self._journal.unacknowledged())]

    async def acknowledge(self, seq: int) -> None:
        await self._machine.blocking.run(self._journal.acknowledge, seq)

    async def info(self) -> WorkerInfo:
        return WorkerInfo(
            worker_id=self.worker_id,
            pid=os.getpid(),
            http_port=self.http_port,
            sessions=len(self._sessions),
            views=len(self._places),
            spool_bytes=self._spool.size_bytes,
            unacknowledged=len(self._journal),
            loop_lag_ms=round(self._machine.loop_lag_ms, 1),
        )

    async def events(self) -> AsyncGenerator[WorkerEvent, None]:
        async for event in self._bus.listen(self._backlog):
            yield event

    def _backlog(self) -> Sequence[WorkerEvent]:
        return [*self._journal.unacknowledged(), Troubles(self._troubles)]

    def _session(self, session_id: SessionId) -> MediaSession:
        session = self._sessions.get(session_id)
        if session is None:
            raise NotFound(f"worker {self._index} has no session {session_id}")
        return session

    # ---- views ------------------------------------------------------------------------------

    async def open_view(self, spec: ViewSpec) -> ViewEndpoint:
        place = self._places.get(spec.view_id)
        if place is None:
            if len(self._places) >= VIEWS_MAX:
                raise Exhausted(f"worker {self._index} has {VIEWS_MAX} views")
            attach_by = self._clock.monotonic() + self._config.media.view_attach_timeout_s
            self._places[spec.view_id] = _Place(self._make_view(spec), attach_by)
        elif place.view.spec != spec:
            raise Conflict(f"view {spec.view_id} is another one")
        return ViewEndpoint(spec.view_id, self.worker_id, self._url(spec))

    def _make_view(self, spec: ViewSpec) -> View:
        if spec.kind is ViewKind.LIVE:
            if spec.session_id is None:
                raise Invalid("a live view needs a session")
            session = self._session(spec.session_id)
            return LiveView(spec, session, self._config.media.view_queue_bytes_max)
        if spec.start_us is None:
            raise Invalid("a playback view needs a start")
        finder = Finder(spec, self._objects, self._spool, self, self._clock, self._bus.publish)
        return PlaybackView(spec, finder, self._clock)

    def _url(self, spec: ViewSpec) -> str:
        media, proxied = self._config.media, self._config.web.behind_proxy
        scheme = "wss" if proxied or self._config.tls_on else "ws"
        host = media.http_advertised_host or media.http_host
        if ":" in host and not host.startswith("[") and host.count(":") > 1:
            host = f"[{host}]"
        base = f"{host}/m/{self._index}" if proxied else f"{host}:{self.http_port}"
        return f"{scheme}://{base}/{spec.kind.value}/{spec.view_id}"

    async def close_view(self, view_id: ViewId, cause: str) -> None:
        place = self._places.get(view_id)
        if place is None:
            return
        place.view.end(Unavailable(cause or "the view was closed", cause=cause))
        if not place.view.attached:
            self._forget_view(view_id, cause)

    async def keep_views(self, view_ids: Sequence[ViewId]) -> Sequence[ViewId]:
        wanted = set(view_ids)
        for view_id in [view_id for view_id in self._places if view_id not in wanted]:
            await self.close_view(view_id, "worker: the platform was restarted")
        return [view_id for view_id in view_ids if view_id in self._places]

    async def feed_segments(
        self, view_id: ViewId, segments: Sequence[Segment], until_us: UtcMicros
    ) -> None:
        place = self._places.get(view_id)
        if place is None:
            return
        if not isinstance(place.view, PlaybackView):
            raise Invalid(f"view {view_id} is no playback")
        place.view.feed(segments, until_us)

    def _find_view(self, view_id: ViewId) -> View | None:
        place = self._places.get(view_id)
        return place.view if place is not None else None

    def _view_over(self, view: View, cause: str) -> None:
        self._forget_view(view.spec.view_id, cause)

    def _forget_view(self, view_id: ViewId, cause: str) -> None:
        if self._places.pop(view_id, None) is not None:
            self._bus.publish(ViewEnded(view_id, cause))

    # ---- what a playback may read (archive.Local) -------------------------------------------

    def spooled(self, channel_id: ChannelId) -> Sequence[SpooledSegment]:
        return [s for s in self._shipper.segments if s.head.channel_id == channel_id]

    def uncommitted(self, channel_id: ChannelId) -> Sequence[Segment]:
        entries = self._journal.unacknowledged()
        return [entry.segment for entry in entries if entry.segment.channel_id == channel_id]

    # ---- work of its own --------------------------------------------------------------------

    def _ship(self, segment: SpooledSegment, spec: RecordingSpec) -> None:
        self._shipper.ship(segment, spec.part_s)

    async def _recover(self) -> None:
        """Finish what an earlier life of this worker left in the spool, and what others left."""
        await self._recover_from(self._spool, self._shipper)
        if self._index == 0:
            await self._inherit()
        self._knows_its_spools.set()

    async def _recover_from(self, spool: Spool, shipper: Shipper) -> None:
        found = await spool.recover()
        if found:
            log.info("segments recovered from the spool", worker=self._index, segments=len(found))
        for segment in found:
            shipper.ship(segment, self._config.recording.part_s)

    async def _inherit(self) -> None:
        """Take over the folders of workers that this node has no more."""
        disk, parent = self._machine.disk, self._folder.parent
        for entry in await self._machine.blocking.run(disk.entries, parent):
            if entry.name.isdigit() and int(entry.name) >= self._config.worker_count:
                try:
                    await self._take_over(parent / entry.name)
                except (Conflict, OSError) as error:
                    log.warning("spool left alone", folder=entry.name, why=str(error))
                    self._left_alone.append(entry.name)

    async def _take_over(self, folder: Path) -> None:
        lock = self._machine.lock(folder)
        log.info("finishing the spool of a worker that is no more", folder=str(folder))
        blocking, disk = self._machine.blocking, self._machine.disk
        # Its journal first: a segment that is in there must not be finished once more.
        entries, _ = await blocking.run(read_entries, disk, folder / "journal")
        for closed in await blocking.run(self._journal.append, [*entries.values()]):
            self._bus.publish(closed)
        spool = self._open_spool(folder)
        shipper = self._shipper_of(spool)
        await self._recover_from(spool, shipper)
        self._estates.append(_Estate(folder, lock, spool, shipper))

    async def _settle_estates(self) -> None:
        """A folder goes once everything in it is an object and in our own journal."""
        for estate in list(self._estates):
            if estate.spool.is_empty and not estate.shipper.segments:
                self._estates.remove(estate)
                await self._leave_estate(estate)
                await self._machine.blocking.run(remove_tree, self._machine.disk, estate.folder)

    async def _leave_estate(self, estate: _Estate) -> None:
        await estate.shipper.close(0.1)
        await estate.spool.close()
        estate.lock.release()

    async def _write_what_waits(self) -> None:
        """Pictures and fragments of slow streams, when their time has come. What begins while we
        sleep is not due before we wake."""
        while True:
            now = self._clock.monotonic()
            due = now + FRAGMENT_S
            for session in [one for one in self._sessions.values() if one.waits]:
                self._care_for(session, session.advance, now)
                recorder = session.recorder
                if recorder is not None:
                    due = min(due, recorder.next_deadline() or due)
            await asyncio.sleep(max(WRITE_LAG_S, due - now))

    async def _tick_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._tick_s)
            now = self._clock.monotonic()
            for session in [*self._sessions.values()]:
                self._care_for(session, session.tick, now)
            self._expire_views(now)
            self._tell_troubles()
            await self._settle_estates()

    @staticmethod
    def _care_for(session: MediaSession, work: Callable[[float], None], now: float) -> None:
        """One session's failure is not that of the others."""
        try:
            work(now)
        except Exception as error:
            log.exception("session failed", session=session.spec.session_id)
            session.broken(f"internal error: {error}")

    def _tell_troubles(self) -> None:
        """What refuses, or takes again, since a second ago."""
        now = dict(self._shipper.troubles)
        if self._spool.trouble:
            now["spool"] = self._spool.trouble
        changed = now.keys() != self._troubles.keys()
        self._troubles = now
        if changed:
            self._bus.publish(Troubles(now))

    def _expire_views(self, now: float) -> None:
        for view_id, place in list(self._places.items()):
            if not place.view.attached and now > place.attach_by:
                seconds = self._config.media.view_attach_timeout_s
                self._forget_view(view_id, f"no viewer came within {seconds:g} s")
