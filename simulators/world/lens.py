"""One camera of a long world, and its recorder: all that a round of `Recorder` asks of the platform
is answered by what is true of this camera now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol, cast

from simulators.world.ledger import Ledger
from simulators.world.processes import NoMetrics
from vsp.actions.attempts import LegFailed
from vsp.actions.recording import Recorder
from vsp.actions.streams import Stream, StreamManager
from vsp.media.recorder import object_key, run_id
from vsp.model.device import Channel, Presence, RecordPlan
from vsp.model.ids import ChannelId, DeviceId, SessionId, UtcMicros, WorkerId
from vsp.model.recording import (
    Container,
    EndReason,
    GapCause,
    OpenSegment,
    RecordingSpec,
    Segment,
    SegmentClosed,
)
from vsp.model.stream import Leg, StreamState, VideoCodec
from vsp.ports import ChangeLog, Clock, DeviceBook, MediaControl, SignalControl

REPLAYED = 3
"""Of the last segments of a worker, these are told again to a node that comes back: their
acknowledgement was on its way."""

BYTES_PER_S = 250_000


class Trouble(StrEnum):
    """What is wrong with a camera, and what an INVITE to it comes to."""

    OFF = "off"
    SILENT = "silent"
    REFUSES = "refuses"


_LEG = {
    Trouble.OFF: Leg.NO_SIP_ANSWER,
    Trouble.SILENT: Leg.NO_MEDIA,
    Trouble.REFUSES: Leg.REFUSED,
}


class World(Protocol):
    """What a camera asks of the world around it."""

    @property
    def clock(self) -> Clock: ...
    def place(self) -> Worker: ...
    def invited(self, lens: Lens, stream: Stream) -> None: ...
    def stopped(self, lens: Lens) -> None: ...


class Worker:
    """A media worker by what it is told and tells: `vsp.ports.MediaControl`, as far as a recorder
    and an archivist use it.

    full      its disk takes nothing
    waiting   what it has not told yet, bounded by what a node that is away for minutes misses
    told      what it told last
    """

    def __init__(self, number: int) -> None:
        self.worker_id = WorkerId(number)
        self.number = number
        self.full = False
        self.told: deque[SegmentClosed] = deque(maxlen=REPLAYED)
        self.waiting: deque[SegmentClosed] = deque()
        self._seq = 0
        self.on_stop: dict[SessionId, Callable[[], None]] = {}

    async def start_recording(self, session_id: SessionId, spec: RecordingSpec) -> None:
        """It records whatever flows."""

    async def stop_recording(self, session_id: SessionId) -> None:
        stop = self.on_stop.pop(session_id, None)
        if stop is not None:
            stop()

    async def acknowledge(self, seq: int) -> None:
        """Its journal forgets: here it had only what was waiting."""

    def tell(self, segment: Segment) -> None:
        """Its journal has one more."""
        self._seq += 1
        self.waiting.append(SegmentClosed(self._seq, segment))

    def next_event(self) -> SegmentClosed:
        """The oldest of what waits: a journal keeps the order."""
        event = self.waiting.popleft()
        self.told.append(event)
        return event


class Lens:
    """A camera with one channel.

    trouble_no   counts troubles, so that what was to follow from an earlier one does not
    until        when the last one is over
    planned      whether its recorder was last told to record it
    start_us     of the segment that is being written
    worker       who writes it, or did last
    seen_us      when its recorder last looked, if pictures flowed
    forgotten    the node has restarted since pictures ceased
    lost_by      what the recorder will call their absence when it looks
    rounds       tries since pictures ceased, and next_round when the next one is
    """

    def __init__(
        self, number: int, device_id: DeviceId, channel_id: ChannelId, world: World
    ) -> None:
        self.number = number
        self.device_id = device_id
        self.channel_id = channel_id
        self.ledger = Ledger()
        self.presence_now = Presence.UNKNOWN
        self.trouble: Trouble | None = None
        self.trouble_no = 0
        self.until = 0.0
        self.planned = True
        self.stream: Stream | None = None
        self.worker: Worker | None = None
        self.start_us: UtcMicros | None = None
        self.run = UtcMicros(0)
        self.recorder: Recorder
        self.seen_us: UtcMicros | None = None
        self.forgotten = False
        self.lost_by: GapCause | None = None
        self.next_round = 0.0
        self.rounds = 0
        self._n = 0
        self._sessions = 0
        self._world = world
        self._book: DeviceBook

    def meet(self, book: DeviceBook, changes: ChangeLog) -> None:
        """A new life of the node: a recorder that remembers nothing."""
        self._book = book
        self.recorder = Recorder(
            devices=cast(DeviceBook, self),
            signal=cast(SignalControl, self),
            streams=cast(StreamManager, self),
            changes=changes,
            clock=self._world.clock,
            metrics=NoMetrics(),
            spec=RecordingSpec(),
        )

    @property
    def flowing(self) -> bool:
        return self.stream is not None and self.stream.state is StreamState.FLOWING

    @property
    def waits(self) -> bool:
        """For a try that comes to something."""
        return self.planned and self.stream is None and self.presence_now is Presence.ONLINE

    def troubled_by(self, trouble_no: int) -> bool:
        """Whether that one is not over yet."""
        return self.trouble is not None and self.trouble_no == trouble_no

    # ---- what its recorder asks -------------------------------------------------------------

    async def planned_channels(self) -> Sequence[Channel]:
        channel = await self._book.channel(self.channel_id)
        return [] if channel.record_plan is RecordPlan.NONE else [channel]

    def presence(self, device_id: DeviceId) -> tuple[Presence, UtcMicros]:
        return self.presence_now, UtcMicros(0)

    def stream_of(self, channel_id: ChannelId) -> Stream | None:
        return self.stream

    async def record(self, channel: Channel) -> Stream:
        if self.stream is None:
            if self.trouble is not None:
                raise LegFailed(_LEG[self.trouble], f"the camera is {self.trouble}")
            self.stream = self._invite(channel)
        return self.stream

    def _invite(self, channel: Channel) -> Stream:
        self.worker = worker = self._world.place()
        self._sessions += 1
        session_id = SessionId(f"{self.number}-{self._sessions}")
        worker.on_stop[session_id] = lambda: self._world.stopped(self)
        stream = Stream(
            channel,
            session_id,
            cast(MediaControl, worker),
            port=0,
            host="",
            ssrc=0,
            started_us=self._world.clock.now_us(),
        )
        self._world.invited(self, stream)
        return stream

    def stop_record(self, channel_id: ChannelId) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """The stream is no more."""
        if self.stream is not None and self.worker is not None:
            self.worker.on_stop.pop(self.stream.session_id, None)
        self.stream = None

    # ---- what `Channels` asks of streams ----------------------------------------------------

    def open_segment(self, now_us: UtcMicros) -> OpenSegment | None:
        if self.start_us is None:
            return None
        return OpenSegment(self.channel_id, self.run, self._n, self.start_us, now_us)

    # ---- its segments -----------------------------------------------------------------------

    def begin_run(self, start_us: UtcMicros) -> None:
        assert self.worker is not None, "who writes must be there"
        self.start_us, self._n = start_us, 0
        self.run = run_id(start_us, self.worker.number)

    def cut(self, end_us: UtcMicros, reason: EndReason) -> Segment:
        """The segment that ends here."""
        start_us, self.start_us = self.start_us, None
        assert start_us is not None, "what ends has begun"
        if reason is EndReason.ROLLED:
            self.start_us = end_us
        self.ledger.kept(start_us, end_us)
        n, self._n = self._n, self._n + 1
        length_us = end_us - start_us
        return Segment(
            channel_id=self.channel_id,
            key=object_key(self.channel_id, start_us, self.run, n),
            container=Container.MP4,
            run=self.run,
            n=n,
            start_us=start_us,
            end_us=end_us,
            start_90k=0,
            duration_90k=length_us * 9 // 100,
            size_bytes=length_us * BYTES_PER_S // 1_000_000,
            sha256="",
            init_bytes=0,
            fragments=(),
            video=VideoCodec.H264,
            audio=None,
            codecs="",
            width=1920,
            height=1080,
            frames=length_us * 25 // 1_000_000,
            damaged_frames=0,
            end_reason=reason,
        )


__all__ = ["Lens", "Trouble", "Worker"]
