"""Months of many cameras in a minute: the world's second speed, by interval events.

    report = Weeks(7, WEEKS).run()

Datagram by datagram a camera-day costs thousands of steps, nearly all of which say that all is
well. Here a stretch in which nothing happens is one event: a segment of most of a day, and no
change point. What lives in it is the code that decides over long times what people read about
recordings, through its own ports on the database in memory: `Recorder` (a round of it whenever
something of a camera changed), `Archivist` and `Outbox`, `ChannelPresence`, the change log, the
segment index, and `Channels.timeline`. What is drawn from the seed are the stretches: cameras that
go off line, fall silent or refuse, plans taken away, workers that die or whose disk is full, nodes
that restart, power cuts, a wall clock that is set.

Not here: signalling and media, which the other speed has. A recorder sees one camera (`Lens`),
since a round over 2,000 for each of a million events would be all that the machine does; and a
segment lasts up to a day instead of a minute, as far as the index looks back.

Of each camera a `Ledger` tells what really happened. Timelines are held against it now and then,
and at the end for every camera as a whole and for windows cut anywhere.
"""

from __future__ import annotations

import gc
import heapq
import random
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import TypeVar, cast

from simulators.chance import SeededIds
from simulators.world.lens import Lens, Trouble, Worker
from simulators.world.loop import START_US, VirtualLoop
from simulators.world.processes import NoMetrics
from simulators.world.trace import Trace
from simulators.world.visitors import actor_of, user_of
from simulators.world.world import Report
from vsp.access.scope import Access
from vsp.actions.channels import TIMELINE_DAYS_MAX, Channels
from vsp.actions.outbox import Outbox, PatientChangeLog
from vsp.actions.presence import ChannelPresence
from vsp.actions.recording import Archivist
from vsp.actions.streams import Stream
from vsp.actions.views import Streams
from vsp.actions.workers import WorkerPool
from vsp.clock import MICROS
from vsp.model.changes import Axis
from vsp.model.device import CatalogItem, NewDevice, Presence, RecordPlan
from vsp.model.ids import ChannelId, DeviceId, GbId, UtcMicros
from vsp.model.people import Role
from vsp.model.recording import EndReason, GapCause, OpenSegment
from vsp.model.stream import StreamState
from vsp.ports import DeviceState, MediaControl, SignalControl
from vsp.sip.presence import Edge
from vsp.store.memory import MemoryDatabase, open_memory

T = TypeVar("T")

ADMIN = actor_of(user_of(0, Role.ADMIN))

DAY_S = 86_400.0

Span_s = tuple[float, float]
"""At least, at most."""

ROUND_S: Span_s = (0.1, 5.0)
"""Until the next round of a recorder (`vsp.actions.recording.RECONCILE_S`)."""

ROUNDS_CLOSE = 6
"""Rounds after something broke that are played one by one, further and further apart as tries are;
the next is the one that finds it mended. Those between say nothing new: that makes an interval."""

PAUSE_S = 60.0
"""Longest pause between two tries (`vsp.actions.recording.BACKOFF_MAX_S`)."""

STALL_S: Span_s = (10.0, 12.0)
"""Until a worker sees that no picture comes."""

RECOVERY_S: Span_s = (20.0, 40.0)
"""Until a silent stream is given up, so that the recorder asks for another."""

MISSED_S: Span_s = (120.0, 181.0)
"""Until a device that went without a word is called away: its third heartbeat is missed."""

BRING_UP_S: Span_s = (0.3, 3.0)
"""From INVITE to the first key picture."""

STORING_S: Span_s = (1.0, 10.0)
"""From the end of a segment to its row."""

SEGMENT_S: Span_s = (0.6 * DAY_S, 0.99 * DAY_S)
"""A segment of a stretch in which nothing happens: the index looks back one day."""

SEGMENT_AFTER_FAILURE_S: Span_s = (60.0, 120.0)
"""The first one after a full disk is an ordinary one: its row ends the failure on the record."""

TAIL_S: Span_s = (0.0, 2.0)
"""What of the last fragment is lost when a worker is killed."""

AGAIN_S: Span_s = (2.0, 8.0)
"""Until a worker that was killed is there again, has read its spool and is adopted."""

NODE_S: Span_s = (2.0, 30.0)
POWER_S: Span_s = (30.0, 300.0)
"""How long a node takes to restart, and how long the power is away."""

DISK_S: Span_s = (60.0, 2 * 3600.0)
"""How long a disk is full."""

QUIET_S = 600.0
"""Around a step of the wall clock nothing else happens: what belongs to which of two equal minutes
is a question without a right answer. No step back may be longer."""

BACK_S: Span_s = (1.0, 120.0)
FORTH_S: Span_s = (1.0, 3600.0)
"""How far the clock is set back, or forth."""

TROUBLES: Sequence[tuple[float, Trouble | None]] = (
    (0.5, Trouble.OFF),
    (0.75, Trouble.SILENT),
    (0.9, Trouble.REFUSES),
    (1.0, None),
)
"""What befalls a camera, up to this share of all. None: it is well, and its plan is taken away."""

LENGTHS_S: Sequence[tuple[float, Span_s]] = (
    (0.5, (45.0, 900.0)),
    (0.9, (900.0, 4 * 3600.0)),
    (1.0, (4 * 3600.0, 4 * DAY_S)),
)
"""How long it lasts, up to this share of all. What is over before anybody looked is left out: a
timeline cannot tell why, and says so (`UNEXPLAINED`)."""

BLOWS = ((0.5, "worker"), (0.7, "disk"), (0.9, "node"), (1.0, "power"))
"""What befalls many cameras at once, up to this share of all."""

DAY_US, HOUR_US = 86_400_000_000, 3_600_000_000
WINDOW_US_MAX = TIMELINE_DAYS_MAX * DAY_US
BEIJING_MORNING_US = 10 * HOUR_US
"""From midnight in Beijing to `START_US`."""

LOOK_DAYS = 10.0
LOOKED_AT = 20
"""Every so many days the timelines of so many cameras are judged, while all goes on."""

CUTS = 3
"""Windows of each camera, at the end, that begin and end anywhere."""

FINDINGS_MAX = 1000


@dataclass(frozen=True, slots=True)
class WeeksScale:
    """How big a long world is, and the least that must happen in it.

    calm_days         between two troubles of a camera, at the mean
    apart_days        between two blows that meet many cameras, at the mean
    events and below  as of `simulators.world.world.Scale`
    """

    name: str
    cameras: int
    days: float
    workers: int
    calm_days: float
    apart_days: float
    events: int = 0
    blows: int = 0
    points: int = 0


WEEKS = WeeksScale(
    name="weeks",
    cameras=2000,
    days=100.0,
    workers=8,
    calm_days=6.0,
    apart_days=1.0,
    events=500_000,
    blows=20_000,
)


class WallClock:
    """Both clocks of `vsp.ports.Clock`, moved on by whoever plays the events."""

    def __init__(self) -> None:
        self.now = 0.0
        self.offset_us = 0

    def now_us(self) -> UtcMicros:
        return UtcMicros(START_US + round(self.now * MICROS) + self.offset_us)

    def monotonic(self) -> float:
        return self.now


class Weeks:
    """See the module. `run` once."""

    def __init__(self, seed: int, scale: WeeksScale = WEEKS) -> None:
        name = f"{scale.name}/{seed}"
        self.seed = seed
        self.scale = scale
        self.clock = WallClock()
        self.findings: list[str] = []
        self.blows: Counter[str] = Counter()
        self._random = random.Random(f"world/{name}")
        self._trace = Trace()
        self._loop = VirtualLoop(name)
        self._database = MemoryDatabase()
        self._store = open_memory(self._database, self.clock, SeededIds(name), "weeks")
        self._workers = [Worker(number) for number in range(scale.workers)]
        self._lenses: list[Lens] = []
        self._by_channel: dict[ChannelId, Lens] = {}
        self._by_device: dict[DeviceId, Lens] = {}
        self._due: list[tuple[float, int, Callable[..., object], tuple[object, ...]]] = []
        self._numbers = count()
        self._steps = self._draw_steps()
        self._node_up_at = 0.0
        self._deaths = 0
        self._judged = 0
        self._channels = self._use_cases()
        self._begin_node()

    def run(self) -> Report:
        """All of it, then the judgement."""
        began = time.process_time()
        collecting = gc.isenabled()
        gc.disable()  # rows stay, and there are more of them than a collector cares to walk over
        try:
            self._loop.run_until_complete(self._live())
        finally:
            self._loop.close()
            if collecting:
                gc.enable()
        return self._report(time.process_time() - began)

    # ---- putting it up ----------------------------------------------------------------------

    def _use_cases(self) -> Channels:
        store = self._store
        return Channels(
            book=store.devices,
            signal=cast(SignalControl, self),
            segments=store.segments,
            changes=store.changes,
            attempts=store.streams,
            streams=cast(Streams, self),
            access=Access(store.devices, store.audit, self.clock),
            clock=self.clock,
        )

    def _begin_node(self) -> None:
        """A life of the node: what the last one knew is gone, its rows are there."""
        store, outbox = self._store, Outbox()
        self._changes = PatientChangeLog(store.changes, outbox)
        self._archivist = Archivist(
            segments=store.segments,
            changes=self._changes,
            outbox=outbox,
            pool=WorkerPool([cast(MediaControl, worker) for worker in self._workers]),
            metrics=NoMetrics(),
        )
        self._presence = ChannelPresence(
            store.devices,
            self._changes,
            self.clock,
            lambda device_id: self._by_device[device_id].presence_now,
        )
        for lens in self._lenses:
            lens.meet(store.devices, self._changes)

    async def _furnish(self) -> None:
        devices, now_us = self._store.devices, self.clock.now_us()
        for number in range(self.scale.cameras):
            code = GbId(f"3402000000132{number:07d}")
            device = await devices.add_device(NewDevice(code, "word"), now_us, RecordPlan.ALWAYS)
            item = CatalogItem(code, f"CAM {number}", status=Presence.ONLINE)
            await devices.apply_catalog(device.id, [item], 1, complete=True, at_us=now_us)
            (channel,) = await devices.channels_by_gb_id(code)
            lens = Lens(number, device.id, channel.id, self)
            self._lenses.append(lens)
            self._by_channel[channel.id] = self._by_device[device.id] = lens
            lens.meet(devices, self._changes)
            lens.ledger.ends(0, {GapCause.NOT_PLANNED}, told=True)
            lens.ledger.turns(now_us, {GapCause.DEVICE_OFFLINE})
            await lens.recorder.reconcile()
            self._soon((1.0, QUIET_S), self._comes, lens)
            self._next_trouble(lens)

    # ---- time -------------------------------------------------------------------------------

    async def _live(self) -> None:
        await self._furnish()
        for at, back in self._steps:
            self._push(at, self._step, back)
        self._soon(self._apart(), self._blow)
        self._push(LOOK_DAYS * DAY_S, self._look_around)
        end = self.scale.days * DAY_S
        while self._due[0][0] < end:
            self.clock.now, _, action, arguments = heapq.heappop(self._due)
            done = action(*arguments)
            if isinstance(done, Awaitable):
                await done
        self.clock.now = end
        await self._judge_all()

    def _push(self, at: float, action: Callable[..., object], *arguments: object) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), action, arguments))

    def _soon(self, span_s: Span_s, action: Callable[..., object], *arguments: object) -> None:
        """Within that time, but not around a step of the clock."""
        at = self.clock.now + self._random.uniform(*span_s)
        place = bisect_right(self._steps, (at - QUIET_S, True))
        if place < len(self._steps) and self._steps[place][0] < at + QUIET_S:
            at = self._steps[place][0] + QUIET_S + self._random.uniform(*ROUND_S)
        self._push(at, action, *arguments)

    def _waits_for_node(self, action: Callable[..., object], *arguments: object) -> bool:
        """While it is away, nobody takes down what happens: it is done when it is back."""
        wait_s = self._node_up_at - self.clock.now
        if wait_s > 0:
            self._soon((wait_s + 0.1, wait_s + 5.0), action, *arguments)
        return wait_s > 0

    def _draw_steps(self) -> list[tuple[float, bool]]:
        """Steps of the clock: when, and whether back. Their quiet times do not touch."""
        days = self.scale.days
        pieces = max(2, round(days / 12))
        return [
            ((piece + self._random.uniform(0.2, 0.8)) * days * DAY_S / pieces, piece % 2 == 0)
            for piece in range(pieces)
        ]

    def _apart(self) -> Span_s:
        return 0.2 * self.scale.apart_days * DAY_S, 1.8 * self.scale.apart_days * DAY_S

    def _note(self, what: str, *about: object) -> None:
        self._trace.say(self.clock.now, what, *about)

    # ---- a camera comes and goes --------------------------------------------------------------

    async def _comes(self, lens: Lens) -> None:
        """It registers."""
        if self._waits_for_node(self._comes, lens):
            return
        await self._turn(lens, Presence.ONLINE, "registered")
        lens.recorder.device_online(lens.device_id)
        await self._round(lens)

    async def _called_away(self, lens: Lens, trouble_no: int) -> None:
        if not lens.troubled_by(trouble_no):
            return
        if self._waits_for_node(self._called_away, lens, trouble_no):
            return
        lens.hang_up()
        await self._turn(lens, Presence.OFFLINE, "heartbeat_lost")
        await self._round(lens)

    async def _turn(self, lens: Lens, presence: Presence, cause: str) -> None:
        now_us = self.clock.now_us()
        lens.presence_now = presence
        lens.ledger.online.append((now_us, presence is Presence.ONLINE))
        edge = Edge(lens.device_id, presence, cause, "", now_us)
        await self._changes.append([edge.point()])
        state = DeviceState(lens.device_id, None, now_us, presence, now_us)
        await self._store.devices.save_states([state])
        await self._presence.follow(lens.device_id, "")
        self._note(presence, lens.number, now_us)

    # ---- a recorder's rounds ------------------------------------------------------------------

    async def _round(self, lens: Lens) -> None:
        """What a recorder does about this camera, and when it will look again."""
        if self._waits_for_node(self._round, lens):
            return
        await lens.recorder.reconcile()
        lens.seen_us = self.clock.now_us() if lens.flowing else None
        if lens.ledger.absent and (causes := self._known_causes(lens)):
            lens.ledger.turns(self.clock.now_us(), causes)
        self._note("round", lens.number, lens.flowing)
        if lens.waits and lens.next_round <= self.clock.now:
            self._next_round(lens)

    def _known_causes(self, lens: Lens) -> set[GapCause]:
        """What whoever looks now must find. Empty: nothing but what was known before."""
        causes: set[GapCause] = set()
        lost_by, lens.lost_by = lens.lost_by, None
        if not lens.planned:
            return {GapCause.NOT_PLANNED}
        if lens.presence_now is not Presence.ONLINE:
            return {GapCause.DEVICE_OFFLINE}
        if lens.trouble is Trouble.REFUSES and lens.stream is None:
            causes = {GapCause.DEVICE_REFUSES}
        elif lens.trouble is not None:
            causes = {GapCause.NO_MEDIA}
        elif lost_by is not None:
            causes = {lost_by}
        if lens.trouble is Trouble.OFF and lens.stream is None:
            causes.add(GapCause.DEVICE_REFUSES)  # it has not been called away, and does not answer
        if lens.forgotten and lens.flowing and lens.trouble is None:
            # A disk is full. A recorder that has just begun sees a stream that flows, takes it for
            # recorded, and says so: the word of the disk ends there, and no other takes its place.
            causes.add(GapCause.UNEXPLAINED)
        if lens.forgotten:
            causes |= {GapCause.PLATFORM_RESTART, *lens.ledger.absences[-1].causes}
        return causes

    def _next_round(self, lens: Lens) -> None:
        lens.rounds += 1
        pause_s = min(PAUSE_S, 5.0 * 2 ** min(lens.rounds, 5))
        if lens.rounds > ROUNDS_CLOSE:
            pause_s = max(PAUSE_S, lens.until - self.clock.now)
        lens.next_round = self.clock.now + pause_s
        self._soon((pause_s + 0.1, pause_s + 5.0), self._round, lens)

    # ---- pictures -----------------------------------------------------------------------------

    def place(self) -> Worker:
        """For a new stream: a worker that can write."""
        return self._random.choice([worker for worker in self._workers if not worker.full])

    def invited(self, lens: Lens, stream: Stream) -> None:
        self._soon(BRING_UP_S, self._flows, lens, stream)

    def _flows(self, lens: Lens, stream: Stream) -> None:
        """The first key picture is here."""
        if lens.stream is not stream or lens.trouble is not None:
            return
        stream.state = StreamState.FLOWING
        lens.rounds, lens.next_round = 0, 0.0
        lens.seen_us, lens.forgotten, lens.lost_by = None, False, None
        self._begin(lens, SEGMENT_S)
        self._soon(ROUND_S, self._round, lens)

    def _begin(self, lens: Lens, segment_s: Span_s) -> None:
        now_us = self.clock.now_us()
        lens.begin_run(now_us)
        if lens.ledger.absent:
            lens.ledger.begins(now_us)
        self._note("run", lens.number, now_us)
        self._soon(segment_s, self._rolls, lens, lens.run)

    def _rolls(self, lens: Lens, run: UtcMicros) -> None:
        if lens.start_us is not None and lens.run == run:
            self._cut(lens, EndReason.ROLLED)
            self._soon(SEGMENT_S, self._rolls, lens, run)

    def _cut(self, lens: Lens, reason: EndReason, lost_s: float = 0.0) -> UtcMicros:
        """A segment ends; its row comes later. Returns when the last picture was."""
        now_us = self.clock.now_us()
        if lens.start_us is None:
            return now_us
        end_us = UtcMicros(max(lens.start_us + 1, now_us - round(lost_s * MICROS)))
        segment = lens.cut(end_us, reason)
        assert lens.worker is not None, "who wrote it must be known"
        self._note(reason, lens.number, segment.key)
        lens.worker.tell(segment)
        self._soon(STORING_S, self._stored, lens.worker)
        return end_us

    async def _stored(self, worker: Worker) -> None:
        if not self._waits_for_node(self._stored, worker):
            await self._archivist.segment_closed(worker.worker_id, worker.next_event())

    def stopped(self, lens: Lens) -> None:
        """Its recorder told the worker to stop."""
        lens.planned = False
        if lens.start_us is not None:
            lens.ledger.ends(self._cut(lens, EndReason.STOPPED), {GapCause.NOT_PLANNED}, told=True)

    async def open_segments(self, channel_id: ChannelId) -> Sequence[OpenSegment]:
        """What is being written, for timelines."""
        piece = self._by_channel[channel_id].open_segment(self.clock.now_us())
        return [] if piece is None else [piece]

    # ---- what befalls one camera --------------------------------------------------------------

    def _next_trouble(self, lens: Lens) -> None:
        wait_s = self._random.expovariate(1 / self.scale.calm_days) * DAY_S
        self._soon((wait_s, wait_s + QUIET_S), self._befall, lens)

    async def _befall(self, lens: Lens) -> None:
        """Something, if all is well with it and its recorder knows."""
        if lens.start_us is None or lens.seen_us is None:
            self._next_trouble(lens)
            return
        trouble = self._up_to(TROUBLES)
        length_s = self._random.uniform(*self._up_to(LENGTHS_S))
        lens.trouble_no += 1
        lens.until = self.clock.now + length_s
        self.blows[trouble or "plan"] += 1
        if trouble is None:
            await self._plan(lens, RecordPlan.NONE)
        else:
            self._falls_silent(lens, trouble)
        self._soon((length_s, length_s + 1), self._relieve, lens)

    def _up_to(self, shares: Sequence[tuple[float, T]]) -> T:
        drawn = self._random.random()
        return next(what for share, what in shares if drawn < share)

    def _falls_silent(self, lens: Lens, trouble: Trouble) -> None:
        lens.trouble = trouble
        lens.ledger.ends(self._cut(lens, EndReason.MEDIA_STOPPED), {GapCause.NO_MEDIA})
        self._soon(STALL_S, self._stalls, lens, lens.trouble_no)
        if trouble is Trouble.OFF:
            self._soon(MISSED_S, self._called_away, lens, lens.trouble_no)
        else:
            self._soon(RECOVERY_S, self._given_up, lens, lens.trouble_no)

    def _stalls(self, lens: Lens, trouble_no: int) -> None:
        if lens.troubled_by(trouble_no) and lens.stream is not None:
            lens.stream.state = StreamState.STALLED
            self._soon(ROUND_S, self._round, lens)

    def _given_up(self, lens: Lens, trouble_no: int) -> None:
        if lens.troubled_by(trouble_no):
            lens.hang_up()
            self._soon(ROUND_S, self._round, lens)

    async def _relieve(self, lens: Lens) -> None:
        """It is over, and the next one will come."""
        over = lens.trouble
        lens.trouble = None
        self._next_trouble(lens)
        if over is None:
            await self._plan(lens, RecordPlan.ALWAYS)
        elif lens.presence_now is not Presence.ONLINE:
            await self._comes(lens)
        elif lens.stream is not None:
            # Back before it was given up: what was between is known as what it looked like.
            lens.hang_up()
            lens.lost_by = lens.lost_by or GapCause.NO_MEDIA
            await self._round(lens)

    async def _plan(self, lens: Lens, plan: RecordPlan) -> None:
        if self._waits_for_node(self._plan, lens, plan):
            return
        await self._store.devices.update_channel(lens.channel_id, record_plan=plan)
        if plan is RecordPlan.ALWAYS and not lens.planned:
            lens.planned, lens.lost_by = True, GapCause.PLATFORM_RESTART
        lens.recorder.nudge(lens.channel_id)
        await self._round(lens)

    # ---- what befalls many --------------------------------------------------------------------

    def _blow(self) -> None:
        self._soon(self._apart(), self._blow)
        blow = self._up_to(BLOWS)
        self.blows[blow] += 1
        self._note(blow)
        if blow == "node":
            self._node_dies(NODE_S)
        elif blow == "power":
            self._node_dies(POWER_S)
            for worker in self._workers:
                self._worker_dies(worker, GapCause.PLATFORM_RESTART)
        elif blow == "worker":
            self._worker_dies(self._random.choice(self._workers), GapCause.NO_MEDIA)
        else:
            self._disk_is_full(self._random.choice(self._workers))

    def _node_dies(self, away_s: Span_s) -> None:
        self._deaths += 1
        self._node_up_at = self.clock.now + self._random.uniform(*away_s)
        self._push(self._node_up_at, self._node_is_back)

    async def _node_is_back(self) -> None:
        """A life that remembers nothing; workers repeat what may not have been acknowledged."""
        self._begin_node()
        for worker in self._workers:
            for event in worker.told:
                await self._archivist.segment_closed(worker.worker_id, event)
        for lens in self._lenses:
            lost = lens.lost_by is not None and lens.trouble is None
            lens.forgotten = lens.ledger.absent and not lost
            self._soon(ROUND_S, self._round, lens)

    def _worker_dies(self, worker: Worker, then: GapCause) -> None:
        """then: how the recorder calls the time from its next round on."""
        self._deaths += 1
        for lens in self._fed_by(worker):
            if lens.start_us is not None:
                end_us = self._cut(lens, EndReason.WORKER_LOST, self._random.uniform(*TAIL_S))
                causes = {GapCause.WORKER_LOST}
                if lens.seen_us is not None and lens.seen_us > end_us:
                    causes.add(then)  # what was seen to be recorded then was in the lost tail
                lens.ledger.ends(end_us, causes, told=True)
            assert lens.stream is not None, "fed"
            lens.stream.state = StreamState.ENDED
            if lens.seen_us is not None or then is GapCause.PLATFORM_RESTART:
                lens.lost_by = then  # who has not seen it come does not see it go
            self._soon(AGAIN_S, self._worker_is_back, lens, lens.stream)

    async def _worker_is_back(self, lens: Lens, stream: Stream) -> None:
        if self._waits_for_node(self._worker_is_back, lens, stream) or lens.stream is not stream:
            return
        lens.hang_up()
        lens.recorder.worker_adopted()
        await self._round(lens)

    def _disk_is_full(self, worker: Worker) -> None:
        """What is received is given up until there is room; the stream flows on."""
        others = [each for each in self._workers if each is not worker]
        if worker.full or all(each.full for each in others):
            return
        worker.full = True
        fed = self._fed_by(worker)
        failing = [lens for lens in fed if lens.start_us is not None and lens.seen_us is not None]
        for lens in failing:
            end_us = self._cut(lens, EndReason.STORAGE_FAILURE)
            lens.ledger.ends(end_us, {GapCause.STORAGE_FAILURE}, told=True)
        streams = [(lens, lens.stream) for lens in failing]
        self._soon(DISK_S, self._room_again, worker, streams)

    def _room_again(self, worker: Worker, streams: Sequence[tuple[Lens, Stream]]) -> None:
        worker.full = False
        for lens, stream in streams:
            if lens.stream is stream and lens.flowing:
                self._begin(lens, SEGMENT_AFTER_FAILURE_S)

    def _fed_by(self, worker: Worker) -> list[Lens]:
        return [lens for lens in self._lenses if lens.flowing and lens.worker is worker]

    def _step(self, back: bool) -> None:
        """The wall clock is set: every run ends and another begins at once."""
        span_s = self._random.uniform(*(BACK_S if back else FORTH_S))
        self.blows["back" if back else "forth"] += 1
        written = [lens for lens in self._lenses if lens.start_us is not None]
        for lens in written:
            self._cut(lens, EndReason.CLOCK_STEP)
        self.clock.offset_us += round((-span_s if back else span_s) * MICROS)
        for lens in written:
            self._begin(lens, SEGMENT_S)

    # ---- judging ------------------------------------------------------------------------------

    async def _look_around(self) -> None:
        """Some cameras, up to an end that has not come yet; none whose row is on its way."""
        self._push(self.clock.now + LOOK_DAYS * DAY_S, self._look_around)
        now_us = self.clock.now_us()
        under_way = {event.segment.channel_id for each in self._workers for event in each.waiting}
        settled = [lens for lens in self._lenses if lens.channel_id not in under_way]
        for lens in self._random.sample(settled, min(LOOKED_AT, len(settled))):
            from_us = max(START_US, now_us - self._random.randrange(WINDOW_US_MAX))
            await self._judge(lens, from_us, min(now_us + HOUR_US, from_us + WINDOW_US_MAX))

    async def _judge_all(self) -> None:
        for worker in self._workers:
            while worker.waiting:
                await self._archivist.segment_closed(worker.worker_id, worker.next_event())
        now_us = self.clock.now_us()
        whole = [*range(START_US, now_us, WINDOW_US_MAX), now_us]
        for lens in self._lenses:
            for from_us, until_us in [*pairwise(whole), *self._windows(lens, now_us)]:
                await self._judge(lens, from_us, until_us)
            await self._judge_presence(lens, now_us)
        stored = await self._store.segments.count()
        cut = sum(lens.ledger.segments for lens in self._lenses)
        if stored != cut:
            self._find(f"{cut} segments ended, {stored} are rows")

    def _windows(self, lens: Lens, now_us: int) -> Iterator[tuple[int, int]]:
        """A day of Beijing, a window from the middle of an absence, and some from anywhere."""
        draw = self._random.randrange
        day_us = START_US + draw(round(self.scale.days)) * DAY_US - BEIJING_MORNING_US
        yield day_us, day_us + DAY_US
        absence = self._random.choice(lens.ledger.absences)
        inside_us = draw(absence.start_us, min(absence.end_us, now_us) + 1)
        yield inside_us, inside_us + HOUR_US
        for _ in range(CUTS):
            from_us = draw(START_US, now_us)
            yield from_us, from_us + draw(1, WINDOW_US_MAX)

    async def _judge(self, lens: Lens, from_us: int, until_us: int) -> None:
        line = await self._channels.timeline(
            ADMIN, lens.channel_id, UtcMicros(from_us), UtcMicros(until_us)
        )
        self._judged += 1
        for found in lens.ledger.differences(line, self.clock.now_us(), lens.start_us):
            self._find(f"camera {lens.number} from {from_us} to {until_us}: {found}")

    async def _judge_presence(self, lens: Lens, now_us: int) -> None:
        """Device and channel, as of some moments since the camera first came.

        A channel is there when its catalogue brings it: before it changes there is no point.
        """
        for _ in range(CUTS):
            at_us = UtcMicros(self._random.randrange(lens.ledger.online[0][0], now_us))
            was = lens.ledger.was_online(at_us)
            for subject in (f"device:{lens.device_id}", f"channel:{lens.channel_id}"):
                points = await self._store.changes.between(subject, Axis.PRESENCE, at_us, at_us)
                said = Presence(points[0].state) if points else Presence.ONLINE
                if (said is Presence.ONLINE) != was:
                    self._find(f"camera {lens.number}: {subject} at {at_us} is {said}")

    def _find(self, finding: str) -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(finding)

    def _report(self, cpu_s: float) -> Report:
        scale, blows = self.scale, self.blows.total()
        for what, number, least in (
            ("events", self._trace.events, scale.events),
            ("blows of fate", blows, scale.blows),
        ):
            if number < least:
                self._find(f"only {number} {what}, at least {least} must be")
        return Report(
            seed=self.seed,
            scale=scale,
            hash=self._trace.hash,
            events=self._trace.events,
            blows=dict(sorted(self.blows.items())),
            deaths=self._deaths,
            segments=len(self._database.segments.by_key),
            cpu_s=cpu_s,
            findings=self.findings,
        )


__all__ = ["WEEKS", "Weeks", "WeeksScale"]
