"""What is to be recorded is recorded, and what was recorded becomes a row.

Two reconcilers and one committer. The desired state is `Channel.record_plan`; the actual state is
the streams. Every RECONCILE_S they are compared and the difference is mended, so that a lost nudge
costs seconds and never a recording. Rows follow invariant I1: a worker reports SegmentClosed after
its object is complete; the row is committed here, and only then does the worker forget its journal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from vsp.actions.attempts import LegFailed
from vsp.actions.outbox import Outbox
from vsp.actions.streams import Stream, StreamManager
from vsp.actions.workers import WorkerPool
from vsp.errors import REFUSALS, Exhausted, VspError
from vsp.faults import Point, reach
from vsp.model.changes import Axis, ChangePoint
from vsp.model.device import Channel, Presence
from vsp.model.ids import ChannelId, UtcMicros, WorkerId
from vsp.model.recording import EndReason, GapCause, RecordingSpec, Segment, SegmentClosed
from vsp.model.stream import Leg, SegmentsWanted, StreamState
from vsp.ports import ChangeLog, Clock, DeviceBook, Metrics, SegmentIndex, SignalControl

log = structlog.get_logger(__name__)

RECONCILE_S = 5.0
"""Period of the comparison (rule B6: a difference is mended within 5 s plus one INVITE)."""

NUDGES_APART_S = 0.2
"""Two comparisons are at least this far apart, however many streams end at once."""

BACKOFF_FIRST_S = 5.0
BACKOFF_MAX_S = 60.0
"""Pause before a refused channel is tried again, doubling; a device coming on line clears it."""

FEED_ROWS_MAX = 240
"""Rows fed to a playback at once: four hours of 60 s segments in one message."""

WITHHELD_MAX = 10_000
"""Segments that wait in a worker's journal behind one whose row cannot be written: 50 MB, which 200
cameras reach after 50 minutes."""

GAP_OF_LEG: dict[Leg, GapCause] = {
    Leg.DEVICE_OFFLINE: GapCause.DEVICE_OFFLINE,
    Leg.NO_SIP_ANSWER: GapCause.DEVICE_REFUSES,
    Leg.REFUSED: GapCause.DEVICE_REFUSES,
    Leg.BAD_ANSWER: GapCause.DEVICE_REFUSES,
    Leg.NO_MEDIA: GapCause.NO_MEDIA,
    Leg.FOREIGN_MEDIA: GapCause.NO_MEDIA,
    Leg.NOT_DECODABLE: GapCause.NO_MEDIA,
    Leg.WORKER: GapCause.WORKER_LOST,
}

GAP_OF_END: dict[EndReason, tuple[GapCause, str]] = {
    EndReason.WORKER_LOST: (GapCause.WORKER_LOST, "finished from the spool"),
    EndReason.STORAGE_FAILURE: (GapCause.STORAGE_FAILURE, "the spool took no more"),
}
"""What a worker's own word on the end of a segment says of the seconds after it."""

RECORDING = "recording"
GAP = "gap"
NOT_PLANNED = "not_planned"
"""States on `Axis.RECORDING`; the cause of a GAP point is a `GapCause` value."""


class Recorder:
    """Keeps planned channels recorded, and says why when one is not."""

    def __init__(
        self,
        *,
        devices: DeviceBook,
        signal: SignalControl,
        streams: StreamManager,
        changes: ChangeLog,
        clock: Clock,
        metrics: Metrics,
        spec: RecordingSpec,
    ) -> None:
        self._devices = devices
        self._signal = signal
        self._streams = streams
        self._changes = changes
        self._clock = clock
        self._metrics = metrics
        self._spec = spec
        self._planned: dict[ChannelId, Channel] = {}
        self._states: dict[ChannelId, tuple[str, str]] = {}
        self._retry_at: dict[ChannelId, float] = {}
        self._pause_s: dict[ChannelId, float] = {}
        self._recording: dict[ChannelId, Stream] = {}
        self._nudged = asyncio.Event()
        self.on_recording: Callable[[Channel, bool, str], None] | None = None

    def nudge(self, channel_id: ChannelId | None = None) -> None:
        """Look now. Naming a channel also forgives its past refusals."""
        if channel_id is not None:
            self._forgive(channel_id)
        self._nudged.set()

    def device_online(self, device_id: str) -> None:
        for channel in self._planned.values():
            if channel.device_id == device_id:
                self.nudge(channel.id)
        self._nudged.set()

    def worker_adopted(self) -> None:
        """Who waits may have been refused by a worker, or have lost one before a picture came: what
        ended with it is asked for at once."""
        self._retry_at.clear()
        self._pause_s.clear()
        self._nudged.set()

    def is_recording(self, channel_id: ChannelId) -> bool:
        return self._states.get(channel_id, ("", ""))[0] == RECORDING

    async def run(self) -> None:
        """Reconcile for ever; one pass failing is logged and the next begins on time."""
        while True:
            try:
                await self.reconcile()
            except VspError as error:
                log.warning("recording not reconciled", error=error.message)
            except Exception:
                log.exception("recording not reconciled")
            await asyncio.sleep(NUDGES_APART_S)
            try:
                async with asyncio.timeout(RECONCILE_S):
                    await self._nudged.wait()
            except TimeoutError:
                pass
            self._nudged.clear()

    async def reconcile(self) -> None:
        """One comparison of plan and streams."""
        planned = {channel.id: channel for channel in await self._devices.planned_channels()}
        for channel_id in self._planned.keys() - planned.keys():
            await self._stop(self._planned[channel_id])
        self._planned = planned
        async with asyncio.TaskGroup() as group:
            for channel in planned.values():
                if self._due(channel):
                    group.create_task(self._start(channel))
        for channel in planned.values():
            await self._judge(channel)
        self._metrics.gauge("vsp_recordings_planned", len(planned))
        active = sum(1 for state, _ in self._states.values() if state == RECORDING)
        self._metrics.gauge("vsp_recordings_active", active)

    def _due(self, channel: Channel) -> bool:
        stream = self._streams.stream_of(channel.id)
        if stream is not None and self._recording.get(channel.id) is stream:
            return False
        if self._signal.presence(channel.device_id)[0] is not Presence.ONLINE:
            return False
        return self._clock.monotonic() >= self._retry_at.get(channel.id, 0.0)

    async def _start(self, channel: Channel) -> None:
        try:
            stream = await self._streams.record(channel)
            await stream.worker.start_recording(stream.session_id, self._spec)
        except VspError as error:
            self._back_off(channel.id)
            await self._set(channel, GAP, _gap_cause(error), error.message)
            return
        self._recording[channel.id] = stream
        self._back_off(channel.id)

    def _back_off(self, channel_id: ChannelId) -> None:
        """The next try, if this one comes to nothing; a flowing stream clears it."""
        pause_s = self._pause_s.get(channel_id, BACKOFF_FIRST_S)
        self._retry_at[channel_id] = self._clock.monotonic() + pause_s
        self._pause_s[channel_id] = min(pause_s * 2, BACKOFF_MAX_S)

    def _forgive(self, channel_id: ChannelId) -> None:
        self._retry_at.pop(channel_id, None)
        self._pause_s.pop(channel_id, None)

    async def _stop(self, channel: Channel) -> None:
        stream = self._recording.pop(channel.id, None)
        if stream is not None:
            try:
                await stream.worker.stop_recording(stream.session_id)
            except VspError as error:
                log.info("recording not stopped", channel=channel.gb_id, error=error.message)
        self._streams.stop_record(channel.id)
        await self._set(channel, NOT_PLANNED, GapCause.NOT_PLANNED.value, "the plan was changed")
        self._states.pop(channel.id, None)

    async def _judge(self, channel: Channel) -> None:
        """Write down whether the channel is being recorded, and why not."""
        stream = self._streams.stream_of(channel.id)
        presence, _ = self._signal.presence(channel.device_id)
        if stream is not None and stream.state is StreamState.FLOWING:
            self._forgive(channel.id)
            await self._set(channel, RECORDING, "", "")
        elif presence is not Presence.ONLINE:
            cause = GapCause.DEVICE_OFFLINE.value
            await self._set(channel, GAP, cause, f"the device is {presence.value}")
        elif self.is_recording(channel.id):
            evidence = (
                "the stream ended" if stream is None else f"the stream is {stream.state.value}"
            )
            await self._set(channel, GAP, GapCause.NO_MEDIA.value, evidence)
        elif channel.id not in self._states:
            await self._set(channel, GAP, GapCause.PLATFORM_RESTART.value, "bringing up")

    async def _set(self, channel: Channel, state: str, cause: str, evidence: str) -> None:
        if self._states.get(channel.id) == (state, cause):
            return
        self._states[channel.id] = (state, cause)
        subject = f"channel:{channel.id}"
        point = ChangePoint(subject, Axis.RECORDING, self._clock.now_us(), state, cause, evidence)
        await self._changes.append([point])
        if self.on_recording is not None:
            self.on_recording(channel, state == RECORDING, cause)


def _gap_cause(error: VspError) -> str:
    leg = error.leg if isinstance(error, LegFailed) else Leg.WORKER
    return GAP_OF_LEG.get(leg, GapCause.UNEXPLAINED).value


class Archivist:
    """Turns a worker's journal into rows, and rows into what a playback needs."""

    def __init__(
        self,
        *,
        segments: SegmentIndex,
        changes: ChangeLog,
        outbox: Outbox,
        pool: WorkerPool,
        metrics: Metrics,
    ) -> None:
        self._segments = segments
        self._changes = changes
        self._outbox = outbox
        self._pool = pool
        self._metrics = metrics
        self._given_up: set[ChannelId] = set()
        self._behind: set[WorkerId] = set()
        self._unwritable: dict[WorkerId, int] = {}

    async def segment_closed(self, worker_id: WorkerId, event: SegmentClosed) -> None:
        """Commit it, now or once the database takes it; the worker's other news goes on.

        When too much is owed, this and every later one of the worker is left to its journal, for an
        acknowledgement covers all before it. They are told again when the database takes rows.
        """
        if worker_id in self._behind:
            if self._outbox.owed == 0:
                self._behind.discard(worker_id)
                self._pool.ask_again(worker_id)
            return
        name = f"segment {event.seq} of worker {worker_id}"
        try:
            await self._outbox.write(name, partial(self._commit, worker_id, event))
        except Exhausted as error:
            log.error("segments wait in the journal", worker=worker_id, why=error.message)
            self._behind.add(worker_id)

    async def _commit(self, worker_id: WorkerId, event: SegmentClosed) -> None:
        """Row, then acknowledgement: never the other order (I1). Replays are idempotent."""
        segment = event.segment
        reach(Point.ROW_COMMIT_ABOUT)
        try:
            await self._segments.commit([segment])
        except REFUSALS:
            raise
        except Exception:
            # The row is at fault and not the database: it must not hold up those behind it.
            log.exception(
                "segment row cannot be written, it stays in the journal",
                worker=worker_id,
                seq=event.seq,
                key=segment.key,
            )
            self._unwritable.setdefault(worker_id, event.seq)
            return
        reach(Point.ROW_COMMITTED)
        await self._changes.append(self._points(segment))
        self._metrics.count("vsp_segments_committed")
        self._metrics.count("vsp_segment_bytes", segment.size_bytes)
        if self._may_acknowledge(worker_id, event.seq):
            await self._acknowledge(worker_id, event.seq)

    def _may_acknowledge(self, worker_id: WorkerId, seq: int) -> bool:
        """Not behind a row that could not be written, which an acknowledgement would cover. It is
        told again with the journal, and given up when too much waits behind it."""
        unwritable = self._unwritable.get(worker_id)
        if unwritable is None or seq < unwritable:
            return True
        if unwritable < seq < unwritable + WITHHELD_MAX:
            return False
        del self._unwritable[worker_id]
        if seq > unwritable:
            # Its object stays: what has no row and is in no journal is the reconciler's.
            log.error("segment row given up", worker=worker_id, seq=unwritable)
        return True

    async def _acknowledge(self, worker_id: WorkerId, seq: int) -> None:
        try:
            await self._pool.get(worker_id).acknowledge(seq)
        except VspError as error:
            # Told again when the worker is back, or covered by the next acknowledgement.
            log.info("segment not acknowledged", worker=worker_id, error=error.message)
        else:
            reach(Point.ROW_ACKNOWLEDGED)

    def _points(self, segment: Segment) -> list[ChangePoint]:
        """What its ends say of the seconds around it. A stream that flows on while its recording
        is given up is seen by nobody else."""
        points = []
        if segment.channel_id in self._given_up:
            self._given_up.discard(segment.channel_id)
            points.append(_point(segment, segment.start_us, RECORDING))
        if segment.end_reason in GAP_OF_END:
            cause, evidence = GAP_OF_END[segment.end_reason]
            points.append(_point(segment, segment.end_us, GAP, cause.value, evidence))
            if segment.end_reason is EndReason.STORAGE_FAILURE:
                self._given_up.add(segment.channel_id)
        return points

    async def segments_wanted(self, worker_id: WorkerId, event: SegmentsWanted) -> None:
        rows = await self._segments.find(
            event.channel_id, event.from_us, event.until_us, limit=FEED_ROWS_MAX
        )
        until_us = rows[-1].end_us if len(rows) == FEED_ROWS_MAX else event.until_us
        if not rows:
            following = await self._segments.next_after(event.channel_id, event.from_us)
            if following is not None:
                rows, until_us = [following], following.end_us
        worker = self._pool.get(worker_id)
        await worker.feed_segments(event.view_id, rows, until_us)


def _point(
    segment: Segment, at_us: UtcMicros, state: str, cause: str = "", evidence: str = ""
) -> ChangePoint:
    subject = f"channel:{segment.channel_id}"
    return ChangePoint(subject, Axis.RECORDING, at_us, state, cause, evidence)
