"""The recorder keeps planned channels recorded and says why not; the archivist never acks early."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.actions.scripted import (
    Changes,
    Counting,
    Ledger,
    Register,
    Signalling,
    Worker,
    channel,
)
from tests.e2e.platform import until
from vsp.access.destination import Surroundings
from vsp.actions.attempts import LegFailed
from vsp.actions.outbox import Outbox
from vsp.actions.recording import Archivist, Recorder
from vsp.actions.streams import StreamManager
from vsp.actions.workers import WorkerPool
from vsp.clock import SystemClock, SystemIds
from vsp.config import MediaConfig
from vsp.errors import Exhausted, Invalid, Unavailable
from vsp.model.device import RecordPlan
from vsp.model.ids import ChannelId, UtcMicros, ViewId, WorkerId
from vsp.model.recording import Container, EndReason, RecordingSpec, Segment, SegmentClosed
from vsp.model.stream import Leg, SegmentsWanted, StreamState, VideoCodec

PLANNED = channel(1, RecordPlan.ALWAYS)


class SteadyClock(SystemClock):
    """Monotonic time as the test says."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Room:
    """A recorder over a stream manager with scripted neighbours."""

    def __init__(self) -> None:
        self.clock = SteadyClock()
        self.register = Register(PLANNED, channel(2))
        self.signal, self.worker, self.changes = Signalling(), Worker(), Changes()
        pool = WorkerPool([self.worker])
        pool._sessions[self.worker.worker_id] = 0
        self.streams = StreamManager(
            devices=self.register,
            signal=self.signal,
            pool=pool,
            book=Ledger(),
            changes=self.changes,
            clock=self.clock,
            ids=SystemIds(),
            metrics=Counting(),
            media=MediaConfig(grace_s=0.0, first_packet_timeout_s=0.05),
            platform_id="34020000002000000001",
            around=Surroundings(),
        )
        self.worker.on_session = self.streams.session_changed
        self.recorder = Recorder(
            devices=self.register,
            signal=self.signal,
            streams=self.streams,
            changes=self.changes,
            clock=self.clock,
            metrics=Counting(),
            spec=RecordingSpec(),
        )

    def states(self) -> list[tuple[str, str]]:
        return [
            (point.state, point.cause)
            for point in self.changes.points
            if point.axis.value == "recording"
        ]

    async def reconcile_until(self, state: str) -> None:
        async def probe() -> bool:
            await self.recorder.reconcile()
            return bool(self.states()) and self.states()[-1][0] == state

        await until(f"recording is {state}", probe, 5)


async def test_only_planned_channels_are_recorded():
    room = Room()

    await room.reconcile_until("recording")

    assert len(room.worker.recordings) == 1
    assert room.recorder.is_recording(PLANNED.id)
    assert not room.recorder.is_recording(channel(2).id)
    await room.streams.close()


async def test_an_offline_device_is_a_gap_with_its_cause_and_no_invite():
    room = Room()
    room.signal.online = False

    await room.recorder.reconcile()

    assert room.states() == [("gap", "device_offline")]
    assert not room.signal.invites
    await room.streams.close()


async def test_a_worker_that_is_back_is_asked_at_once_whatever_the_one_before_said():
    room = Room()
    place = room.streams._pool.place

    def nobody_answers() -> Worker:
        raise Exhausted("no media worker answers")

    room.streams._pool.place = nobody_answers  # type: ignore[assignment,method-assign]
    await room.recorder.reconcile()
    assert room.states() == [("gap", "worker_lost")]
    room.streams._pool.place = place  # type: ignore[method-assign]
    await room.recorder.reconcile()
    assert not room.signal.invites, "not before the pause is over"

    room.recorder.worker_adopted()
    await room.reconcile_until("recording")

    await room.streams.close()


async def test_a_stream_that_falls_silent_is_a_gap_until_it_flows_again():
    room = Room()
    await room.reconcile_until("recording")
    stream = room.streams.stream_of(PLANNED.id)
    assert stream is not None
    room.worker.media = lambda: False

    await room.worker.becomes(stream.session_id, StreamState.STALLED, "no media packet for 10 s")
    await room.reconcile_until("gap")
    room.worker.media = lambda: True
    await room.reconcile_until("recording")

    assert room.states() == [("recording", ""), ("gap", "no_media"), ("recording", "")]
    await room.streams.close()


async def test_a_refused_channel_is_tried_again_with_growing_pauses():
    room = Room()
    room.signal.answers = [LegFailed(Leg.REFUSED, "486 Busy Here") for _ in range(10)]

    async def refused(times: int) -> None:
        async def probe() -> bool:
            await room.recorder.reconcile()
            gone = room.streams.stream_of(PLANNED.id) is None
            return gone and len(room.signal.invites) == times

        await until(f"refused {times} times", probe, 5)

    await refused(1)
    room.clock.now += 5.1
    await refused(2)
    room.clock.now += 5.1
    await room.recorder.reconcile()
    assert len(room.signal.invites) == 2, "the second pause is longer"
    room.clock.now += 5.1
    await refused(3)
    await room.streams.close()


async def test_a_stream_that_flowed_and_was_lost_with_its_worker_is_brought_up_at_once():
    room = Room()
    await room.reconcile_until("recording")

    await room.streams.worker_adopted(room.worker.worker_id, [])
    assert room.streams.stream_of(PLANNED.id) is None
    await room.reconcile_until("recording")

    assert len(room.signal.invites) == 2, "although no time has passed"
    await room.streams.close()


async def test_a_device_coming_on_line_is_tried_at_once():
    room = Room()
    room.signal.answers = [LegFailed(Leg.NO_SIP_ANSWER, "no answer")]
    await room.recorder.reconcile()

    async def gone() -> bool:
        return room.streams.stream_of(PLANNED.id) is None

    await until("the stream is gone", gone, 5)

    room.recorder.device_online(PLANNED.device_id)

    await room.reconcile_until("recording")
    await room.streams.close()


async def test_a_plan_taken_away_stops_the_recording_and_the_stream():
    room = Room()
    await room.reconcile_until("recording")
    room.register.channels[PLANNED.id] = channel(1, RecordPlan.NONE)

    await room.recorder.reconcile()

    async def hung_up() -> bool:
        return bool(room.signal.byes)

    await until("BYE is sent", hung_up, 5)
    assert not room.worker.recordings
    assert room.states()[-1][0] == "not_planned"
    await room.streams.close()


# ---- rows before acknowledgements -----------------------------------------------------------


def segment(start_us: int) -> Segment:
    return Segment(
        channel_id=ChannelId("c1"),
        key=f"v1/c1/2026/11/22/{start_us}-{start_us}-0.mp4",
        container=Container.MP4,
        run=UtcMicros(start_us),
        n=0,
        start_us=UtcMicros(start_us),
        end_us=UtcMicros(start_us + 60_000_000),
        start_90k=0,
        duration_90k=60 * 90_000,
        size_bytes=1000,
        sha256="0" * 64,
        init_bytes=100,
        fragments=((0, 100, 900),),
        video=VideoCodec.H264,
        audio=None,
        codecs="avc1.42C01E",
        width=640,
        height=360,
        frames=1500,
        damaged_frames=0,
        end_reason=EndReason.ROLLED,
    )


class Index:
    """A segment index that can refuse, and remembers the order of things."""

    def __init__(self, order: list[str], *, refuses: bool = False) -> None:
        self.order = order
        self.refuses = refuses
        self.unwritable: set[str] = set()
        self.rows: list[Segment] = []

    async def commit(self, segments: Sequence[Segment]) -> None:
        if self.refuses:
            raise Unavailable("database is locked")
        if self.unwritable & {segment.key for segment in segments}:
            raise Invalid("a value does not fit its column")
        self.order.append("row")
        self.rows += segments

    async def find(
        self, channel_id: ChannelId, from_us: UtcMicros, until_us: UtcMicros, limit: int = 1000
    ) -> Sequence[Segment]:
        return [row for row in self.rows if row.end_us > from_us and row.start_us < until_us][
            :limit
        ]

    async def next_after(self, channel_id: ChannelId, at_us: UtcMicros) -> Segment | None:
        return next((row for row in self.rows if row.start_us >= at_us), None)


class AckingWorker(Worker):
    def __init__(self, order: list[str]) -> None:
        super().__init__()
        self.order = order
        self.fed: list[tuple[Sequence[Segment], int]] = []

    async def acknowledge(self, seq: int) -> None:
        self.order.append(f"ack {seq}")

    async def feed_segments(
        self, view_id: ViewId, segments: Sequence[Segment], until_us: UtcMicros
    ) -> None:
        self.fed.append((segments, until_us))


def archive(
    index: Index, worker: AckingWorker, changes: Changes, outbox: Outbox | None = None
) -> Archivist:
    pool = WorkerPool([worker])
    return Archivist(
        segments=index, changes=changes, outbox=outbox or Outbox(), pool=pool, metrics=Counting()
    )


async def test_the_row_is_committed_before_the_worker_may_forget():
    order: list[str] = []
    archivist = archive(Index(order), AckingWorker(order), Changes())

    await archivist.segment_closed(WorkerId(0), SegmentClosed(7, segment(1_000)))

    assert order == ["row", "ack 7"]


async def test_a_row_that_cannot_be_committed_is_acknowledged_when_it_is():
    order: list[str] = []
    index, outbox = Index(order, refuses=True), Outbox()
    archivist = archive(index, AckingWorker(order), Changes(), outbox)

    for seq in (7, 8):
        await archivist.segment_closed(WorkerId(0), SegmentClosed(seq, segment(seq * 1_000)))
    await outbox.settle()
    assert order == []

    index.refuses = False
    await outbox.settle()
    assert order == ["row", "ack 7", "row", "ack 8"]


async def test_a_segment_that_is_told_again_while_its_row_is_owed_is_owed_once():
    order: list[str] = []
    index, outbox = Index(order, refuses=True), Outbox()
    archivist = archive(index, AckingWorker(order), Changes(), outbox)
    for _ in range(2):
        await archivist.segment_closed(WorkerId(0), SegmentClosed(7, segment(1_000)))

    index.refuses = False
    await outbox.settle()

    assert order == ["row", "ack 7"]


async def test_a_segment_beyond_what_can_be_owed_is_never_acknowledged_by_a_later_one(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("vsp.actions.outbox.OWED_MAX", 1)
    order: list[str] = []
    index, outbox = Index(order, refuses=True), Outbox()
    archivist = archive(index, AckingWorker(order), Changes(), outbox)
    asked: list[WorkerId] = []
    monkeypatch.setattr(archivist._pool, "ask_again", asked.append)

    async def close(seq: int) -> None:
        await archivist.segment_closed(WorkerId(0), SegmentClosed(seq, segment(seq * 1_000)))

    for seq in (1, 2):
        await close(seq)
    index.refuses = False
    await close(3)
    assert (order, asked) == ([], [])

    await outbox.settle()
    await close(4)
    assert (order, asked) == (["row", "ack 1"], [WorkerId(0)])

    for seq in (2, 3, 4):
        await close(seq)
    assert order[2:] == ["row", "ack 2", "row", "ack 3", "row", "ack 4"]


@pytest.mark.parametrize("owed", [False, True])
async def test_a_row_that_cannot_be_written_holds_up_no_other_and_stays_in_the_journal(
    owed: bool, capfd: pytest.CaptureFixture[str]
):
    order: list[str] = []
    index, outbox = Index(order, refuses=owed), Outbox()
    archivist = archive(index, AckingWorker(order), Changes(), outbox)
    index.unwritable = {segment(2_000).key}

    async def told(*numbers: int) -> None:
        for seq in numbers:
            await archivist.segment_closed(WorkerId(0), SegmentClosed(seq, segment(seq * 1_000)))
        index.refuses = False
        await outbox.settle()

    await told(1, 2, 3)
    assert order == ["row", "ack 1", "row"]
    said = "".join(capfd.readouterr())  # wherever an earlier test has sent log lines
    assert segment(2_000).key in said
    assert "does not fit its column" in said

    index.unwritable.clear()
    await told(2, 3)
    assert order[3:] == ["row", "ack 2", "row", "ack 3"]


async def test_a_row_that_cannot_be_written_is_given_up_when_too_much_waits_behind_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("vsp.actions.recording.WITHHELD_MAX", 3)
    order: list[str] = []
    index = Index(order)
    archivist = archive(index, AckingWorker(order), Changes())
    index.unwritable = {segment(1_000).key}

    for seq in range(1, 6):
        await archivist.segment_closed(WorkerId(0), SegmentClosed(seq, segment(seq * 1_000)))

    assert order == ["row", "row", "row", "ack 4", "row", "ack 5"]


async def test_a_playback_in_a_gap_is_fed_the_next_segment_there_is():
    index, order = Index([]), []
    index.rows = [segment(500_000_000)]
    worker = AckingWorker(order)
    archivist = archive(index, worker, Changes())

    wanted = SegmentsWanted(ViewId("v1"), ChannelId("c1"), UtcMicros(0), UtcMicros(60_000_000))
    await archivist.segments_wanted(WorkerId(0), wanted)

    assert worker.fed == [([segment(500_000_000)], 560_000_000)]
