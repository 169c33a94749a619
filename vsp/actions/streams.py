"""One inbound stream per channel, shared by everybody who wants it.

A stream comes about in a fixed order, and each step has its leg in the attempt's story:

    worker opens a port -> INVITE with that port -> 200 OK -> worker is told whom to trust
    -> first packet -> first key frame

Viewers attach to the worker's session as soon as the port exists, and see these states in their
tile. The recorder is one more user. The last user leaving ends the stream after a grace time. There
is one bring-up per channel at a time; a lost stream is brought up again over the same port, so its
viewers stay attached. Dialogs are rows, which signalling keeps (sip/ledger.py): after a restart of
this process the streams are adopted from the workers that never stopped receiving.

Not here: what is recorded (actions/recording.py), who may look (actions/views.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from vsp.access.destination import Surroundings, refusal
from vsp.actions.attempts import AttemptLog, LegFailed, leg_of, worker_failed
from vsp.actions.workers import WorkerPool
from vsp.config import MediaConfig
from vsp.errors import NotFound, Unavailable, VspError
from vsp.faults import Point, reach
from vsp.model.changes import Axis, ChangePoint
from vsp.model.device import Channel, Device, MediaTransport, Presence
from vsp.model.dialog import DialogState
from vsp.model.ids import ChannelId, DeviceId, SessionId, UtcMicros, ViewId, WorkerId
from vsp.model.recording import OpenSegment
from vsp.model.stream import (
    Leg,
    SessionChanged,
    SessionSpec,
    SessionStatus,
    StreamState,
    StreamStats,
    ViewEndpoint,
    ViewKind,
    ViewSpec,
)
from vsp.ports import (
    ChangeLog,
    Clock,
    DeviceBook,
    DialogRow,
    DialogUse,
    Ids,
    InviteAnswer,
    InviteSpec,
    MediaControl,
    Metrics,
    SignalControl,
    StreamBook,
)

log = structlog.get_logger(__name__)

BRING_UPS_MAX = 32
"""INVITEs in flight at once: fills two 16-tile walls, does not flood a recorder."""

ADOPTION_WAIT_S = 5.0
"""How long a channel whose stream outlived the last node waits for its worker to be adopted. One
that does not answer within seconds has died with the node, and the stream with it."""

RETRY_FIRST_S = 1.0
RETRY_MAX_S = 60.0
"""Pause between bring-ups of a lost stream, doubling: a dead camera costs one INVITE a minute."""

STEADY_S = RETRY_MAX_S
"""A stream that stayed up this long has recovered, and is brought up at once when it is lost again:
that costs no more INVITEs than a dead camera does."""

RESTARTED = "the media worker was restarted"
NOT_ASKED_FOR = "worker: not asked for any more"

ARRIVED = {StreamState.WAITING_KEYFRAME, StreamState.FLOWING}
SILENT = {StreamState.STALLED, StreamState.ENDED}
BEFORE_MEDIA = {StreamState.SIGNALLING, StreamState.WAITING_MEDIA}


@dataclass(slots=True)
class Stream:
    """One channel's inbound stream and everyone who uses it.

    up_since  when it last came up (monotonic)
    pause_s   before it is brought up the next time, unless it is steady until it is lost
    """

    channel: Channel
    session_id: SessionId
    worker: MediaControl
    port: int
    host: str
    ssrc: int
    started_us: UtcMicros
    state: StreamState = StreamState.SIGNALLING
    dialog: DialogState | None = None
    viewers: set[ViewId] = field(default_factory=set)
    recorded: bool = False
    status: SessionStatus | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    bring_up: asyncio.Task[None] | None = None
    release: asyncio.TimerHandle | None = None
    up_since: float = 0.0
    pause_s: float = 0.0

    @property
    def wanted(self) -> bool:
        return self.recorded or bool(self.viewers)

    def take_pause_s(self) -> float:
        """The pause that is due now; the next one is longer."""
        pause_s = self.pause_s
        self.pause_s = min(max(pause_s * 2, RETRY_FIRST_S), RETRY_MAX_S)
        return pause_s


@dataclass(slots=True)
class _Left:
    """A stream of the process before that no worker was asked about yet.

    dialog   None once its device has ended it
    channel  None when it is gone
    """

    dialog: DialogState | None
    use: DialogUse
    began_us: UtcMicros
    channel: Channel | None = None


class SsrcSpace:
    """SSRCs of live streams: 0, then digits 4-8 of our code, then four digits unique in the domain.

    GB/T 28181-2016 annex F, `y` line.
    """

    def __init__(self, platform_id: str) -> None:
        self._base = int("0" + platform_id[3:8] + "0000")
        self._next = 0

    def take(self, used: set[int]) -> int:
        """The next free one; after 9,999 simultaneous streams they begin to repeat."""
        for _ in range(9999):
            self._next = self._next % 9999 + 1
            if self._base + self._next not in used:
                break
        return self._base + self._next


class StreamManager:
    """Opens, shares, recovers and ends inbound streams."""

    def __init__(
        self,
        *,
        devices: DeviceBook,
        signal: SignalControl,
        pool: WorkerPool,
        book: StreamBook,
        changes: ChangeLog,
        clock: Clock,
        ids: Ids,
        metrics: Metrics,
        media: MediaConfig,
        platform_id: str,
        around: Surroundings,
    ) -> None:
        self._devices = devices
        self._signal = signal
        self._pool = pool
        self._book = book
        self._changes = changes
        self._clock = clock
        self._ids = ids
        self._metrics = metrics
        self._media = media
        self._around = around
        self._ssrcs = SsrcSpace(platform_id)
        self._streams: dict[ChannelId, Stream] = {}
        self._sessions: dict[SessionId, Stream] = {}
        self._in_hand: set[SessionId] = set()
        self._unowned: set[SessionId] = set()
        self._views: dict[ViewId, MediaControl] = {}
        self._left: dict[SessionId, _Left] = {}
        self._unadopted: dict[ChannelId, WorkerId] = {}
        self._adopted = asyncio.Event()
        self._locks: dict[ChannelId, asyncio.Lock] = {}
        self._slots = asyncio.Semaphore(BRING_UPS_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_view_ended: Callable[[ViewId, str], Awaitable[None]] | None = None
        self.on_state: Callable[[Channel, StreamState, str], None] | None = None

    # ---- life ---------------------------------------------------------------------------------

    async def restore(self, rows: Iterable[DialogRow]) -> None:
        """The streams that were up, as they may be found at the workers.

        Their channels, too: a worker is adopted without asking the database, which may refuse then.
        """
        for row in rows:
            use = row.use
            if use is None or row.ending_us is not None:
                continue
            left = self._left[use.session_id] = _Left(row.dialog, use, row.began_us)
            self._unadopted[use.channel_id] = use.worker_id
            with contextlib.suppress(NotFound):
                left.channel = await self._devices.channel(use.channel_id)

    def end_what_nobody_receives(self) -> None:
        """Calls of workers that this node has no more; once signalling is up."""
        for left in [each for each in self._left.values() if each.use.worker_id not in self._pool]:
            del self._left[left.use.session_id]
            self._unadopted.pop(left.use.channel_id, None)
            self._end_call(left.dialog)

    async def close(self) -> None:
        """Stop working here. Workers go on receiving; the next process adopts their streams."""
        for stream in self._streams.values():
            self._cancel_release(stream)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- users --------------------------------------------------------------------------------

    async def attach_live(self, channel: Channel, view_id: ViewId, actor_name: str) -> ViewEndpoint:
        """Let a viewer attach; the INVITE goes on behind and the media socket tells of it."""
        del actor_name  # kept in the signature: the watermark of a view will carry it
        stream = await self._ensure(channel, "live")
        spec = ViewSpec(view_id, ViewKind.LIVE, channel.id, session_id=stream.session_id)
        stream.viewers.add(view_id)
        try:
            endpoint = await self._open_view(stream.worker, spec)
        except BaseException:
            stream.viewers.discard(view_id)
            self._release_later(stream)
            raise
        self._cancel_release(stream)
        return endpoint

    async def attach_playback(
        self,
        channel: Channel,
        view_id: ViewId,
        start_us: UtcMicros,
        end_us: UtcMicros | None,
    ) -> ViewEndpoint:
        """Open a playback, on the worker that records the channel: it also has the last minute."""
        stream = self._streams.get(channel.id)
        worker = stream.worker if stream is not None else self._pool.place()
        if stream is None:
            self._pool.released(worker.worker_id)
        spec = ViewSpec(view_id, ViewKind.PLAYBACK, channel.id, start_us=start_us, end_us=end_us)
        return await self._open_view(worker, spec)

    async def _open_view(self, worker: MediaControl, spec: ViewSpec) -> ViewEndpoint:
        # Ours from now on: a worker that is adopted meanwhile is told which views to keep.
        self._views[spec.view_id] = worker
        try:
            return await worker.open_view(spec)
        except BaseException:
            self._views.pop(spec.view_id, None)
            raise

    async def detach(self, view_id: ViewId, cause: str) -> None:
        """End a view; unknown ones are already gone."""
        worker = self._views.pop(view_id, None)
        if worker is not None:
            with contextlib.suppress(NotFound):
                await worker.close_view(view_id, cause)
        self._forget_viewer(view_id)

    async def record(self, channel: Channel) -> Stream:
        """The stream of a channel that is to be recorded; brings it up when there is none."""
        stream = await self._ensure(channel, "recording")
        stream.recorded = True
        self._cancel_release(stream)
        return stream

    def stop_record(self, channel_id: ChannelId) -> None:
        stream = self._streams.get(channel_id)
        if stream is not None and stream.recorded:
            stream.recorded = False
            self._release_later(stream)

    # ---- questions ----------------------------------------------------------------------------

    def stream_of(self, channel_id: ChannelId) -> Stream | None:
        return self._streams.get(channel_id)

    def status_of(self, channel_id: ChannelId) -> SessionStatus | None:
        stream = self._streams.get(channel_id)
        return None if stream is None else self._status(stream)

    def statuses(self) -> Sequence[SessionStatus]:
        return [self._status(stream) for stream in self._streams.values()]

    async def measure(self) -> Sequence[SessionStatus]:
        """Fresh counters from every worker that answers; also refreshes what `statuses` answers.

        A session that nobody owns is ended: its opening had timed out here before the worker came
        to it. It must be seen twice, for an answer may have been on its way while it was ended.
        """
        unowned: set[SessionId] = set()
        for worker in self._pool.all_alive():
            try:
                statuses = await worker.sessions()
            except Unavailable as error:
                log.info("worker not measured", worker=worker.worker_id, why=error.message)
                continue
            for status in statuses:
                stream = self._sessions.get(status.session_id)
                if stream is not None:
                    stream.status = status
                    self._recover_if_silent(stream)
                elif status.session_id in self._unowned:
                    log.warning("session of nobody ended", session=status.session_id)
                    await self._close_session(worker, status.session_id, NOT_ASKED_FOR)
                    self._end_call(status.dialog)
                elif status.session_id not in self._in_hand:
                    unowned.add(status.session_id)
        self._unowned = unowned
        return self.statuses()

    def _recover_if_silent(self, stream: Stream) -> None:
        """What an event should have begun, should the event have been lost with a process."""
        if stream.status is not None and stream.status.state in SILENT:
            stream.state = stream.status.state
            self._bring_up(stream, "recovery", "no media arrives")

    async def open_segments(self, channel_id: ChannelId) -> Sequence[OpenSegment]:
        """Segments being written now, for timelines."""
        stream = self._streams.get(channel_id)
        if stream is None:
            return []
        try:
            segments = await stream.worker.open_segments()
        except VspError:
            return []
        return [segment for segment in segments if segment.channel_id == channel_id]

    # ---- news from signalling and workers -----------------------------------------------------

    async def worker_adopted(self, worker_id: WorkerId, sessions: Sequence[SessionStatus]) -> None:
        """Match what a worker really receives with what we believe it does."""
        worker = self._pool.get(worker_id)
        # Before the first wait: what is opened on it from now on, its answer cannot know.
        streams = [each for each in self._streams.values() if each.worker is worker]
        left = [each for each in self._left.values() if each.use.worker_id == worker_id]
        ours = [view_id for view_id, at in self._views.items() if at is worker]
        kept = await worker.keep_views(ours)
        for view_id in [view_id for view_id in ours if view_id not in kept]:
            await self.view_ended(view_id, f"{Leg.WORKER.value}: {RESTARTED}")
        known = {status.session_id for status in sessions}
        for status in sessions:
            stream = self._sessions.get(status.session_id)
            if stream is not None:
                stream.status = status
            elif status.session_id in self._in_hand:
                continue
            elif not self._adopt(status):
                await worker.close_session(status.session_id, NOT_ASKED_FOR)
                known.discard(status.session_id)
                if status.session_id not in self._left:
                    # Its row may never have been written: the database refused, the node died.
                    self._end_call(status.dialog)
        for stream in streams:
            if stream.session_id not in known:
                await self._end(stream, Leg.WORKER, RESTARTED)
        for each in left:
            if self._left.pop(each.use.session_id, None) is not None:
                self._end_call(each.dialog)
        self._unadopted = {
            channel: worker for channel, worker in self._unadopted.items() if worker != worker_id
        }
        self._adopted.set()

    def _end_call(self, dialog: DialogState | None) -> None:
        """It has no receiver any more: tell the device to stop sending."""
        if dialog is not None:
            self._spawn(self._signal.bye(dialog), "end call of nobody")

    async def worker_lost(self, worker_id: WorkerId) -> None:
        """Nothing is torn down yet: the worker may only be out of reach, and still record."""
        for stream in self._streams.values():
            if stream.worker.worker_id == worker_id:
                self._tell(stream, "worker: the media worker does not answer")

    async def session_changed(self, event: SessionChanged) -> None:
        stream = self._sessions.get(event.status.session_id)
        if stream is None:
            return
        stream.status = event.status
        if event.status.state is stream.state:
            if event.cause:
                await self._note_trouble(stream, event.cause)
            return
        stream.state = event.status.state
        stream.changed.set()
        await self._note_state(stream, event.cause)
        if stream.state in SILENT:
            self._bring_up(stream, "recovery", event.cause or "media stopped")

    async def _note_trouble(self, stream: Stream, cause: str) -> None:
        """It is as it was, and should not be any more. Media without a picture has a story of its
        own: the attempt that brought the media has succeeded."""
        self._tell(stream, cause)
        if stream.state is StreamState.WAITING_KEYFRAME:
            story = AttemptLog(self._clock, self._ids, stream.channel.id, "picture")
            failure = LegFailed(Leg.NOT_DECODABLE, cause)
            await self._book.save_attempt(story.fail(failure))

    async def view_ended(self, view_id: ViewId, cause: str) -> None:
        self._views.pop(view_id, None)
        self._forget_viewer(view_id)
        if self.on_view_ended is not None:
            await self.on_view_ended(view_id, cause)

    def dialog_ended(self, call_id: str, cause: str) -> None:
        """The device sent BYE, or its dialog broke: bring the stream up again if it is wanted."""
        for stream in self._streams.values():
            if stream.dialog is not None and stream.dialog.call_id == call_id:
                stream.dialog = None
                self._bring_up(stream, "recovery", cause)
                return
        for left in self._left.values():
            if left.dialog is not None and left.dialog.call_id == call_id:
                left.dialog = None
                return

    async def device_offline(self, device_id: DeviceId) -> None:
        """Streams that still flow are left alone: heartbeats are evidence, packets are better."""
        for stream in [*self._streams.values()]:
            silent = stream.state not in ARRIVED
            if stream.channel.device_id == device_id and silent and stream.bring_up is None:
                await self._end(stream, Leg.DEVICE_OFFLINE, "the device went off line")

    # ---- bringing up --------------------------------------------------------------------------

    async def _ensure(self, channel: Channel, purpose: str) -> Stream:
        """The channel's stream, new or shared. Raises LegFailed when it cannot even begin."""
        async with self._locks.setdefault(channel.id, asyncio.Lock()):
            await self._adoption_of(channel.id)
            stream = self._streams.get(channel.id)
            if stream is None:
                stream = await self._open(channel, purpose)
            return stream

    async def _adoption_of(self, channel_id: ChannelId) -> None:
        """After a restart: a stream that a worker still receives must not be asked for twice."""
        try:
            async with asyncio.timeout(ADOPTION_WAIT_S):
                while channel_id in self._unadopted:
                    self._adopted.clear()
                    await self._adopted.wait()
        except TimeoutError:
            self._unadopted.pop(channel_id, None)

    async def _open(self, channel: Channel, purpose: str) -> Stream:
        device = await self._devices.device(channel.device_id)
        attempt = AttemptLog(self._clock, self._ids, channel.id, purpose)
        try:
            self._require_online(device)
            stream = await self._place(channel, device, attempt)
        except VspError as error:
            await self._book.save_attempt(attempt.fail(error))
            raise
        self._streams[channel.id] = stream
        self._sessions[stream.session_id] = stream
        self._bring_up(stream, purpose, "", attempt)
        return stream

    def _require_online(self, device: Device) -> None:
        presence, since_us = self._signal.presence(device.id)
        if presence is not Presence.ONLINE:
            seconds = max(0, (self._clock.now_us() - since_us) // 1_000_000)
            raise LegFailed(
                Leg.DEVICE_OFFLINE, f"device {device.gb_id} is {presence.value} for {seconds} s"
            )

    async def _place(self, channel: Channel, device: Device, attempt: AttemptLog) -> Stream:
        worker = self._pool.place()
        session_id = SessionId(self._ids.row_id())
        transport = device.settings.media_transport or MediaTransport.UDP
        ssrc = self._ssrcs.take({stream.ssrc for stream in self._streams.values()})
        spec = SessionSpec(session_id, channel.id, transport, ssrc)
        try:
            with self._handling(session_id):
                port = await worker.open_session(spec)
        except VspError as error:
            self._pool.released(worker.worker_id)
            raise worker_failed(error) from error
        attempt.step("port opened", f"worker {worker.worker_id}, {port.host}:{port.port}")
        return Stream(channel, session_id, worker, port.port, port.host, ssrc, self._clock.now_us())

    @contextlib.contextmanager
    def _handling(self, session_id: SessionId) -> Iterator[None]:
        """While a session is being opened or ended, it is no stream's and yet somebody's."""
        self._in_hand.add(session_id)
        try:
            yield
        finally:
            self._in_hand.discard(session_id)

    def _bring_up(
        self, stream: Stream, purpose: str, why: str, attempt: AttemptLog | None = None
    ) -> None:
        """Start the one bring-up of this stream, unless it is under way."""
        if stream.bring_up is None or stream.bring_up.done():
            stream.bring_up = self._spawn(
                self._bring_up_until_it_flows(stream, purpose, why, attempt),
                f"bring up {stream.channel.gb_id}",
            )

    async def _bring_up_until_it_flows(
        self, stream: Stream, purpose: str, why: str, attempt: AttemptLog | None
    ) -> None:
        """Try now and, for a stream that once flowed, again with growing pauses; they go on growing
        when it is lost again soon after it came up."""
        first = purpose != "recovery"
        try:
            if not first:
                await self._pause_before_recovery(stream)
                if stream.dialog is not None and stream.state in ARRIVED:
                    return  # its packets came again meanwhile
            while self._streams.get(stream.channel.id) is stream:
                story = attempt or AttemptLog(self._clock, self._ids, stream.channel.id, purpose)
                attempt = None
                if why:
                    story.step("why", why)
                failure = await self._try_once(stream, story)
                if failure is None:
                    stream.up_since = self._clock.monotonic()
                    return
                hopeless = getattr(failure, "leg", None) in {Leg.DEVICE_OFFLINE, Leg.WORKER}
                if first or hopeless:
                    await self._end_failed(stream, failure)
                    return
                self._tell(stream, failure.cause or failure.message)
                await asyncio.sleep(stream.take_pause_s())
        except Exception:
            log.exception("bring-up failed", channel=stream.channel.gb_id)
            await self._end(stream, Leg.WORKER, "internal error, see the log")

    async def _pause_before_recovery(self, stream: Stream) -> None:
        """None after a steady stream, nor at its first loss."""
        if self._clock.monotonic() - stream.up_since >= STEADY_S:
            stream.pause_s = 0.0
        pause_s = stream.take_pause_s()
        if pause_s:
            log.info("stream lost again", channel=stream.channel.gb_id, pause_s=pause_s)
        await asyncio.sleep(pause_s)

    async def _try_once(self, stream: Stream, attempt: AttemptLog) -> VspError | None:
        """One attempt over the wished transport, then over the other. None: packets arrive."""
        try:
            device = await self._devices.device(stream.channel.device_id)
        except VspError as error:
            return await self._failed(attempt, error)
        wished = device.settings.media_transport
        failure: VspError | None = None
        for transport in _transports(wished):
            try:
                async with self._slots:
                    self._require_online(device)
                    await self._call(stream, transport, attempt)
                await self._book.save_attempt(attempt.succeed())
                self._metrics.count("vsp_stream_attempts", result="ok")
                return None
            except VspError as error:
                failure = error
                attempt.step(f"{transport.value} failed", error.message)
                await self._hang_up(stream)
                if not _other_transport_may_help(error):
                    break
        assert failure is not None
        return await self._failed(attempt, failure)

    async def _failed(self, attempt: AttemptLog, failure: VspError) -> VspError:
        await self._book.save_attempt(attempt.fail(failure))
        self._metrics.count("vsp_stream_attempts", result=leg_of(failure).value)
        return failure

    async def _call(self, stream: Stream, transport: MediaTransport, attempt: AttemptLog) -> None:
        """INVITE, trust the answer's address, wait for the first packet."""
        await self._hang_up(stream)
        attempt.over(transport)
        # A new SSRC for each dialog tells its packets from those of the one before.
        stream.ssrc = self._ssrcs.take({other.ssrc for other in self._streams.values()})
        spec = InviteSpec(
            device_id=stream.channel.device_id,
            channel_gb_id=stream.channel.gb_id,
            host=stream.host,
            port=stream.port,
            transport=transport.value,
            ssrc=stream.ssrc,
            use=DialogUse(stream.channel.id, stream.session_id, stream.worker.worker_id),
        )
        attempt.step("INVITE", f"{transport.value} to {spec.host}:{spec.port}, y={spec.ssrc:010d}")
        answer = await self._signal.invite(spec)
        attempt.called(answer.dialog.call_id)
        attempt.step("200 OK", f"media from {'/'.join(answer.remote.hosts)}:{answer.remote.port}")
        stream.dialog = answer.dialog
        stream.changed.clear()
        stream.state = StreamState.WAITING_MEDIA
        remote = replace(answer.remote, dialog=answer.dialog)
        if transport is MediaTransport.TCP_ACTIVE:
            remote = replace(remote, dial=self._may_be_dialled(answer))
        try:
            await stream.worker.bind_remote(stream.session_id, remote)
        except VspError as error:
            raise worker_failed(error) from error
        await self._wait_for_media(stream)
        attempt.step("first packet")

    def _may_be_dialled(self, answer: InviteAnswer) -> tuple[str, ...]:
        """Where we may connect to on the word of that answer. Raises LegFailed: nowhere."""
        peer, remote = answer.dialog.host, answer.remote
        reasons = {host: refusal(host, remote.port, peer, self._around) for host in remote.hosts}
        allowed = tuple(host for host, reason in reasons.items() if not reason)
        if not allowed:
            raise LegFailed(Leg.DESTINATION_REFUSED, next(iter(reasons.values())))
        return allowed

    async def _wait_for_media(self, stream: Stream) -> None:
        timeout_s = self._media.first_packet_timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                while stream.state not in ARRIVED:
                    await stream.changed.wait()
                    stream.changed.clear()
        except TimeoutError:
            stats = await self._stats_now(stream)
            if stats.foreign:
                raise LegFailed(
                    Leg.FOREIGN_MEDIA, f"{stats.foreign} packets came from another address"
                ) from None
            raise LegFailed(
                Leg.NO_MEDIA, f"no packet within {timeout_s:g} s on {stream.host}:{stream.port}"
            ) from None

    async def _stats_now(self, stream: Stream) -> StreamStats:
        try:
            for status in await stream.worker.sessions():
                if status.session_id == stream.session_id:
                    return status.stats
        except VspError:
            pass
        return StreamStats()

    # ---- ending -------------------------------------------------------------------------------

    async def _hang_up(self, stream: Stream) -> None:
        """BYE the dialog, if there is one, and wait for the answer: the device may be able to send
        to one only."""
        dialog, stream.dialog = stream.dialog, None
        if dialog is not None:
            await self._signal.bye(dialog)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _end_failed(self, stream: Stream, failure: VspError) -> None:
        await self._end(stream, leg_of(failure), failure.message, failure.next_step)

    async def _end(self, stream: Stream, leg: Leg, detail: str, next_step: str = "") -> None:
        """Take the stream down everywhere; viewers are told why."""
        if self._streams.get(stream.channel.id) is not stream:
            return
        del self._streams[stream.channel.id]
        self._sessions.pop(stream.session_id, None)
        self._cancel_release(stream)
        self._pool.released(stream.worker.worker_id)
        for view_id in stream.viewers:
            self._views.pop(view_id, None)
        stream.state = StreamState.ENDED
        cause = f"{leg.value}: {detail}"
        with self._handling(stream.session_id):
            await self._note_state(stream, cause)
            await self._close_session(stream.worker, stream.session_id, cause, next_step)
        if self.on_view_ended is not None:
            for view_id in stream.viewers:
                await self.on_view_ended(view_id, cause)
        self._spawn(self._hang_up(stream), "hang up")
        if stream.bring_up is not None and stream.bring_up is not asyncio.current_task():
            stream.bring_up.cancel()

    def _forget_viewer(self, view_id: ViewId) -> None:
        for stream in self._streams.values():
            if view_id in stream.viewers:
                stream.viewers.discard(view_id)
                self._release_later(stream)
                return

    def _release_later(self, stream: Stream) -> None:
        """Begin the grace time when nobody uses the stream any more."""
        if stream.wanted or stream.release is not None:
            return
        loop = asyncio.get_running_loop()
        stream.release = loop.call_later(self._media.grace_s, self._release_now, stream)

    def _release_now(self, stream: Stream) -> None:
        stream.release = None
        if not stream.wanted:
            self._spawn(self._release(stream), "release stream")

    async def _release(self, stream: Stream) -> None:
        async with self._locks.setdefault(stream.channel.id, asyncio.Lock()):
            if not stream.wanted and self._streams.get(stream.channel.id) is stream:
                await self._end_quietly(stream)

    async def _end_quietly(self, stream: Stream) -> None:
        """Nobody watches and nothing is recorded: BYE, close the port."""
        del self._streams[stream.channel.id]
        self._sessions.pop(stream.session_id, None)
        self._pool.released(stream.worker.worker_id)
        if stream.bring_up is not None:
            stream.bring_up.cancel()
        with self._handling(stream.session_id):
            await self._hang_up(stream)
            cause = "nobody watches any more"
            await self._close_session(stream.worker, stream.session_id, cause)

    @staticmethod
    async def _close_session(
        worker: MediaControl, session_id: SessionId, cause: str, next_step: str = ""
    ) -> None:
        try:
            await worker.close_session(session_id, cause, next_step)
        except VspError as error:
            log.info("session not closed", session=session_id, error=error.message)

    @staticmethod
    def _cancel_release(stream: Stream) -> None:
        if stream.release is not None:
            stream.release.cancel()
            stream.release = None

    # ---- words --------------------------------------------------------------------------------

    def _adopt(self, status: SessionStatus) -> bool:
        """Take over a stream that outlived the previous process. Its viewers were there too.

        False when nobody knows it, when the channel is gone, or was asked for again while its
        worker was out of reach, when we took it over before and are ending it now, or when that
        process died before the first packet came: it alone waited for it.
        """
        left = self._left.get(status.session_id)
        if left is None or left.channel is None or left.channel.id in self._streams:
            return False
        if status.state in BEFORE_MEDIA:
            return False
        del self._left[status.session_id]
        stream = Stream(
            left.channel,
            status.session_id,
            self._pool.get(left.use.worker_id),
            status.port,
            self._media.advertised_host or self._media.host,
            status.stats.ssrc or 0,
            left.began_us,
            state=status.state,
            dialog=left.dialog,
            recorded=status.recording,
            status=status,
        )
        self._streams[left.channel.id] = stream
        self._sessions[stream.session_id] = stream
        reach(Point.STREAM_ADOPTED)
        self._release_later(stream)
        self._recover_if_silent(stream)
        return True

    def _status(self, stream: Stream) -> SessionStatus:
        if stream.status is not None:
            return replace(stream.status, viewers=len(stream.viewers), recording=stream.recorded)
        return SessionStatus(
            session_id=stream.session_id,
            channel_id=stream.channel.id,
            worker_id=stream.worker.worker_id,
            state=stream.state,
            transport=MediaTransport.UDP,
            port=stream.port,
            recording=stream.recorded,
            viewers=len(stream.viewers),
            stats=StreamStats(),
        )

    async def _note_state(self, stream: Stream, cause: str) -> None:
        subject = f"channel:{stream.channel.id}"
        point = ChangePoint(subject, Axis.STREAM, self._clock.now_us(), stream.state.value, cause)
        await self._changes.append([point])
        self._tell(stream, cause)

    def _tell(self, stream: Stream, cause: str) -> None:
        if self.on_state is not None:
            self.on_state(stream.channel, stream.state, cause)


def _other_transport_may_help(error: VspError) -> bool:
    """No packet came, or the device said that it cannot send so (415, 488: RFC 3261 21.4)."""
    status = getattr(error, "status", 0)
    return getattr(error, "leg", None) is Leg.NO_MEDIA or status in {415, 488}


def _transports(wished: MediaTransport | None) -> tuple[MediaTransport, ...]:
    """The order in which transports are tried. A wish of the administrator is not overruled."""
    if wished is not None:
        return (wished,)
    return (MediaTransport.UDP, MediaTransport.TCP_PASSIVE)


__all__ = ["SsrcSpace", "Stream", "StreamManager"]
