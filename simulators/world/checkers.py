"""What must hold in every world, judged by what the witness saw and not by what the platform says.

I1  a row is committed only when its object is durable and whole; no committed row or object changes
    or disappears.
I2  timelines cover every moment exactly once, and say of rows what the rows say.
    Every picture that a worker was told to record and was given is kept, but for what may be lost:
    `Checker.excuse` is the whole list.
I4  nobody sees a picture without a good ticket, or later than 5 s after the right has ended.
I5  every view has an opening row in the audit chain, and an ending one unless the node died.
    In the calm every planned channel is recorded, both ends of every call believe the same, no
    table has grown; at the end nothing is left over.
"""

from __future__ import annotations

import hashlib
import sys
import traceback
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulators.world.loop import START_US
from simulators.world.pictures import numbers_in
from simulators.world.processes import TICK_S, WorkerLife
from simulators.world.visitors import actor_of, ask, faults_of
from simulators.world.witness import Received, Taping
from vsp.errors import VspError
from vsp.model.device import Presence
from vsp.model.ids import ChannelId, GbId, UtcMicros
from vsp.model.recording import Segment
from vsp.retention.check import Kind
from vsp.retention.keys import start_of
from vsp.sip.service import SignalService
from vsp.store.audit import ENDED, OPENED

if TYPE_CHECKING:
    from simulators.world.world import World

LOSS_MAX_S = 4.0
"""What a process that dies may take with it (requirements: received but not recoverable)."""

UNPROVEN = 3
"""First pictures of a stream, and after a loss: the wire's hints that a picture is complete are not
believed yet, and each is complete only when the next one comes (vsp/media/core/assembler.py)."""

CUT_WITHIN_S = 5.0
"""I4."""

SETTLE_S = 60.0
"""For how long a store or disk that failed is felt: what waited has its turn again."""

BEGUN_S = 10.0
"""From the moment at which another worker is asked to record to its first picture."""

STEADY_S = 40.0
"""Before and after the death of a node. When nothing else was wrong in it, the next node is up and
has adopted what goes on, and no recording has ended."""

BESIDE_A_NODE = (
    *("weather", "uplink", "reach", "rows", "clock", "dark"),
    *("node stopped", "worker stopped"),
)
"""What may keep a node that has just come from adopting what goes on, or end it."""

COMPLAINTS_MAX = 20
"""Log lines kept as findings."""

CAMERA_TABLE_MAX = 40
"""Live transactions of a camera, ever: its REGISTER, its Keepalive, answers, INVITEs of 32 s."""

TIMELINES_MAX = 40
"""Channels whose timeline is compared with their rows."""


class Checker:
    """`row_committed` all along, then `in_the_calm`, then `at_the_end`; the findings are the
    witness's."""

    def __init__(self, world: World) -> None:
        self.pictures = 0
        self.excused: Counter[str] = Counter()
        self.lost_s = 0.0
        self._world = world
        self._complaints = 0

    def find(self, finding: str) -> None:
        self._world.witness.find(f"{self._world.loop.now:.3f} {finding}")

    def at_least(self, what: str, count: int, minimum: int) -> None:
        """A life in which little happens proves little."""
        if count < minimum:
            self.find(f"only {count} {what}, at least {minimum} must be")

    def complaint(self, event: Mapping[str, Any]) -> None:
        """Something was logged with its traceback: what nobody had reckoned with."""
        error = sys.exc_info()[1]
        if error is None or isinstance(error, VspError):
            return
        self._complaints += 1
        if self._complaints <= COMPLAINTS_MAX:
            self.find(f"logged: {event}\n{traceback.format_exc()}")

    # ---- all along --------------------------------------------------------------------------

    def mended(self, kind: Kind, key: str) -> None:
        """The reconciler found something wrong. What it mends nobody misses afterwards, so it is
        judged here: an object comes to be without a row only when its spool was lost, or when the
        store did late what it was asked for before."""
        if kind is not Kind.ORPHAN:
            self.excused[f"{kind} mended"] += 1
        elif self._may_have_lost_its_spool(key):
            self.excused["orphans of a lost spool"] += 1
        else:
            self.find(f"object {key} was left without a row")

    def _may_have_lost_its_spool(self, key: str) -> bool:
        witness, now = self._world.witness, self._world.loop.now
        begin = 0.0
        if not witness.disturbed(0.0, now, "clock"):
            begin = self._at(start_of(key))
        end = min(now, begin + self._world.scale.segment_s + SETTLE_S) if begin else now
        return witness.disturbed(begin, end, "disk", "objects") or any(
            death.power and begin <= death.at <= end for death in witness.deaths
        )

    def completed(self, key: str) -> None:
        """An object was published. It is never replaced: whoever reads it would read two."""
        witness, now = self._world.witness, self._world.loop.now
        if key in witness.published and not witness.disturbed(
            witness.published[key] - SETTLE_S, now, "objects"
        ):
            self.find(f"object {key} is published a second time")
        witness.published[key] = now

    def row_committed(self, segment: Segment) -> None:
        """I1, at the very moment of a commit."""
        committed = self._world.witness.committed
        before = committed.setdefault(segment.key, segment)
        if before.sha256 != segment.sha256:
            self.find(f"{segment.key} is committed a second time, of another object")
        elif before != segment:
            # Read back from the object after a crash; the first row stays.
            self.excused["rows read back from objects"] += 1
        elif (data := self._durable(segment.key)) is None:
            self.find(f"the row of {segment.key} is there before its object is durable")
        elif not _is_of(data, segment):
            self.find(f"the object of {segment.key} is not what its row says")

    def _durable(self, key: str) -> bytes | None:
        """What would be read of an object after a power cut now."""
        bucket = self._world.bucket
        if bucket is not None:
            found = bucket.objects.get(key)
            return found.data if found is not None else None
        return self._world.host.disk.durable(self._path_of(key))

    def _path_of(self, key: str) -> Path:
        return self._world.estate.config.objects_dir / key

    # ---- in the calm ------------------------------------------------------------------------

    async def in_the_calm(self) -> None:
        """Everything is well again, by itself."""
        now = self._world.platform()
        if now is None:
            self.find("the node is down in the calm")
            return
        self._everybody_is_registered()
        self._everything_is_recorded()
        self._calls_agree()
        self._tables_are_small()
        self._no_task_died_unseen()

    def _everybody_is_registered(self) -> None:
        rows, roster = self._world.database.devices.by_gb_id, self._signal()._roster
        for camera in self._world.cameras:
            gb_id = GbId(camera.spec.gb_id)
            row, entry = rows.get(gb_id), roster.by_gb_id(gb_id)
            if not camera.online:
                self.find(f"{gb_id} does not think that it is registered")
            if row is None or row.device.presence is not Presence.ONLINE:
                said = row and row.device.presence.value
                self.find(f"{gb_id} is on line, its row says {said}")
            if entry is None or entry.presence is not Presence.ONLINE:
                self.find(f"{gb_id} is on line, the platform has it as {entry and entry.presence}")

    def _everything_is_recorded(self) -> None:
        world = self._world
        taping = {one.channel_id for one in world.witness.tapings if _goes_on(one)}
        for channel in world.channels():
            if channel not in taping:
                self.find(f"channel {channel} is planned and nobody records it")
        for camera in world.cameras:
            if not camera.sending:
                self.find(f"{camera.spec.gb_id} sends nothing")

    def _calls_agree(self) -> None:
        """A call that a camera holds is one that the platform holds, and the other way round; and
        each is a row, so that it can be ended by whoever comes next."""
        ledger, rows = self._signal()._sessions.ledger, self._world.database.dialogs.values()
        ours = {call.key[0] for call in ledger.known() if call.row.ending_us is None}
        theirs = set().union(*(camera.calls() for camera in self._world.cameras))
        for call_id in sorted(ours - theirs):
            self.find(f"call {call_id} is up at the platform only")
        if self._calls_may_be_forgotten():
            self.excused["calls of a node that died with its words unwritten"] += len(theirs - ours)
        else:
            for call_id in sorted(theirs - ours):
                self.find(f"call {call_id} was not hung up")
        written = {(row.dialog.key, row.ending_us is None) for row in rows}
        known = {(call.key, call.row.ending_us is None) for call in ledger.known()}
        for key, up in sorted(written - known):
            if up:
                self.find(f"the row of call {key[0]} is of no call")
            else:
                # A save that was done twice, the second time after the row had gone: who comes
                # next says BYE once more, and forgets it.
                self.excused["rows of calls that are over"] += 1
        for key, up in sorted(known - written):
            self.find(f"call {key[0]} ({'up' if up else 'ending'}) is not written down")

    def _calls_may_be_forgotten(self) -> bool:
        """What the database did not take is known to the node, and to the worker that receives the
        call: it is forgotten when both end, or when the worker ends before the next node asks."""
        witness = self._world.witness
        ends = [death.at for death in witness.deaths if death.name.startswith("node")]
        ends += [window.begin for window in witness.windows if window.kind == "node stopped"]
        return any(
            witness.disturbed(at - 1.0, at, "rows")
            and (
                witness.died_within(at - SETTLE_S, at + SETTLE_S, "worker")
                or witness.disturbed(at - SETTLE_S, at + SETTLE_S, "worker stopped")
            )
            for at in ends
        )

    def _tables_are_small(self) -> None:
        world, signal = self._world, self._signal()
        many, agent = 4 * len(world.cameras), signal._agent
        for name, size in (
            ("transactions", agent.live),
            ("timers", len(agent._heap)),
            ("queries", len(signal._answers)),
            ("BYEs owed", signal._sessions.ledger.owed),
        ):
            if size > many:
                self.find(f"{size} {name} in the calm")
        if len(agent._clients) != len(agent._clients_by_call):
            self.find(f"{len(agent._clients_by_call)} calls lead to {len(agent._clients)} requests")
        for camera in world.cameras:
            if camera.live_transactions > 4 or camera.tables_max > CAMERA_TABLE_MAX:
                live = f"{camera.live_transactions} now, {camera.tables_max} at most"
                self.find(f"{camera.spec.gb_id} has {live} live transactions")

    def _no_task_died_unseen(self) -> None:
        """Work that ended with an error which nobody has looked at is not done by anybody."""
        for process in self._world.loop.processes:
            for task in process.tasks if process.alive else ():
                if task._log_traceback:
                    self.find(f"{task.get_name()} of {process.name} died of {task.exception()!r}")

    def _signal(self) -> SignalService:
        now = self._world.platform()
        assert now is not None
        return now[1].signal

    # ---- at the end -------------------------------------------------------------------------

    async def at_the_end(self) -> None:
        """Nothing is recorded any more, and everything has been brought home."""
        kept = self._rows_and_objects()
        self._pictures_are_kept(kept)
        self._recordings_outlive_nodes()
        await self._nothing_is_left()
        self._rows_do_not_overlap()
        await self._timelines()
        self._views()
        self._audit()

    def _rows_and_objects(self) -> dict[ChannelId, set[int]]:
        """I1 once more; and the numbers of all pictures that are kept of each channel."""
        world = self._world
        rows = world.database.segments.by_key
        kept: dict[ChannelId, set[int]] = {}
        for key in world.witness.committed.keys() - rows.keys():
            self.find(f"the row of {key} was committed and is gone")
        for key, segment in rows.items():
            data = self._object(key)
            if data is None or not _is_of(data, segment):
                self.find(f"the object of {key} is {'gone' if data is None else 'another'}")
                continue
            numbers = numbers_in(data)
            if len(numbers) != segment.frames or len(set(numbers)) != len(numbers):
                self.find(f"{key} has {segment.frames} frames, and pictures {numbers}")
            kept.setdefault(segment.channel_id, set()).update(numbers)
        return kept

    def _object(self, key: str) -> bytes | None:
        bucket = self._world.bucket
        if bucket is not None:
            found = bucket.objects.get(key)
            return found.data if found is not None else None
        try:
            file = self._world.host.disk.open(self._path_of(key))
        except OSError:
            return None
        return file.read(0, file.size)

    # ---- what was received ------------------------------------------------------------------

    def _pictures_are_kept(self, kept: dict[ChannelId, set[int]]) -> None:
        for taping in self._world.witness.tapings:
            self._taping_is_kept(taping, kept.get(taping.channel_id, set()))

    def _taping_is_kept(self, taping: Taping, kept: set[int]) -> None:
        key_seen, before, missing, proven = False, -1, 0, 0
        following = [*(each.at for each in taping.received[1:]), float("inf")]
        for place, picture in enumerate(taping.received):
            if picture.key:
                key_seen = True
            elif before >= 0 and picture.number > before + 1:
                key_seen = False  # it leans on pictures that never came
            gap, before = picture.number != before + 1, max(before, picture.number)
            proven = 0 if gap else proven + 1
            self.pictures += 1
            if picture.number in kept or picture.at > taping.end:
                continue
            ended = following[place] if proven < UNPROVEN else picture.at
            if gap:  # what is missing is waited for until the worker looks again
                ended = max(ended, picture.at + TICK_S)
            why = self.excuse(taping, picture, ended)
            if not key_seen:
                why = "leans on what never came"
            elif ended > taping.end:
                why = "not known to be whole when its recording ended"
            if why:
                self.excused[why] += 1
                continue
            missing += 1
            if missing == 1:
                self.find(
                    f"picture {picture.number} of {taping.channel_id} at {picture.at:.3f} is lost: "
                    f"{taping.process.name} recorded from {taping.begin:.3f} to {taping.end:.3f}"
                )
        if missing > 1:
            self.find(f"... and {missing - 1} more of that session")

    def excuse(self, taping: Taping, picture: Received, ended: float) -> str:
        """Why a picture may be missing; "" when it may not.

        ended  when it was known that the picture is complete
        """
        witness, at = self._world.witness, picture.at
        worker = taping.process.name
        for death in witness.deaths:
            if death.name == worker and at <= death.at <= ended + LOSS_MAX_S:
                self.lost_s = max(self.lost_s, min(death.at - at, death.at - ended))
                return "power cut" if death.power else "worker died"
        if witness.disturbed(at - SETTLE_S, ended + LOSS_MAX_S, "disk"):
            return "disk"
        if witness.disturbed(at - 1, at + 1, "clock"):
            return "clock step"
        if witness.disturbed(picture.came - 3, at, "weather"):
            return "weather"
        if witness.disturbed(at - 1, at + 1, "worker stopped", about=worker.partition("#")[0]):
            return "worker stopped"
        return ""

    def _recordings_outlive_nodes(self) -> None:
        """A node that dies takes no stream with it: media does not pass through it, and the next
        one adopts what it finds."""
        witness = self._world.witness
        for death in witness.deaths:
            begin, end = death.at - STEADY_S, death.at + STEADY_S
            quiet = not death.power and not witness.disturbed(begin, end, *BESIDE_A_NODE)
            if quiet and death.name.startswith("node"):
                for taping in witness.tapings:
                    if self._flowed(taping, death.at):
                        self._goes_on_without(taping, death.at, end)

    def _flowed(self, taping: Taping, at: float) -> bool:
        """Whether pictures came until then, as often as they should."""
        seen = [picture.at for picture in taping.received if picture.at < at]
        return taping.end > at and bool(seen) and seen[-1] > at - 1.5 * self._world.scale.picture_s

    def _goes_on_without(self, taping: Taping, died: float, end: float) -> None:
        witness, channel = self._world.witness, taping.channel_id
        device = self._world.database.channels.by_id[channel].channel.gb_id
        worker_died = any(death.name == taping.process.name for death in witness.deaths)
        if taping.end <= end and not (
            worker_died
            or witness.disturbed(died - STEADY_S, end, "plan", about=channel)
            or witness.disturbed(died - STEADY_S, end, "camera", about=device)
        ):
            self.find(
                f"the recording of {channel} ended {taping.end - died:.3f} s after a node had died "
                f"at {died:.3f}, and nothing else was wrong"
            )

    # ---- what is left -----------------------------------------------------------------------

    async def _nothing_is_left(self) -> None:
        world = self._world
        rows = world.database.segments.by_key
        for key in self._object_keys():
            if key not in rows:
                self.find(f"object {key} has no row")
        self.excused["uploads left to the reconciler"] += len(self._uploads())
        for keeper in world.media:
            worker = keeper.life.worker if isinstance(keeper.life, WorkerLife) else None
            for key in await worker.held_keys() if worker is not None else ("no worker",):
                self.find(f"{keeper.name} still holds {key}")

    def _object_keys(self) -> list[str]:
        world = self._world
        if world.bucket is not None:
            return list(world.bucket.order)
        folder = world.estate.config.objects_dir
        names = (path.relative_to(folder) for path in world.host.disk.files(folder))
        return [str(name) for name in names if not any(part[0] == "." for part in name.parts)]

    def _uploads(self) -> list[str]:
        world = self._world
        if world.bucket is not None:
            return [f"{upload.key} ({name})" for name, upload in world.bucket.uploads.items()]
        folder = world.estate.config.objects_dir / ".uploads"
        return [str(path) for path in world.host.disk.files(folder) if path.name == "head.json"]

    def _rows_do_not_overlap(self) -> None:
        """Segments of a run follow one another. Runs overlap only where the clock went back, and
        where a worker that is out of reach recorded on while another one began."""
        witness = self._world.witness
        stepped = any(window.kind == "clock" for window in witness.windows)
        for channel, segments in self._world.database.segments.of_channel.items():
            for one, other in pairwise(segments.rows):
                if other.start_us >= one.end_us or stepped:
                    continue
                begin, end = (self._at(us) for us in (other.start_us, one.end_us))
                if one.run == other.run or not witness.disturbed(
                    begin - BEGUN_S, end, "reach", "worker stopped", "node stopped"
                ):
                    self.find(f"{other.key} of {channel} begins before {one.key} ends")

    @staticmethod
    def _at(us: int) -> float:
        """A time of day as one of the world, if the clock was never set."""
        return (us - START_US) / 1e6

    async def _timelines(self) -> None:
        """Spans and gaps cover everything once; the spans are what the rows say."""
        world = self._world
        now = world.platform()
        if now is None:
            self.find("the node is down at the end")
            return
        process, platform = now
        for channel in world.channels()[:TIMELINES_MAX]:
            # The clock may have been set back further than the world is old.
            until_us = max(world.host.clock.now_us(), UtcMicros(START_US + 1))
            asked = platform.actions.channels.timeline(
                actor_of(world.admin), channel, UtcMicros(START_US), until_us
            )
            try:
                timeline = await ask(world.loop, process, asked)
            except VspError as error:
                self.find(f"no timeline of {channel}: {error.message}")
                continue
            for fault in faults_of(timeline, until_us):
                self.find(f"timeline of {channel}: {fault}")
            recorded = sum(span.end_us - span.start_us for span in timeline.spans)
            counted = self._counted_us(channel, until_us)
            if recorded != counted:
                self.find(f"timeline of {channel}: {recorded} us recorded, rows say {counted}")

    def _counted_us(self, channel: ChannelId, until_us: int) -> int:
        """Wall time that rows cover, each moment once."""
        edge, total = START_US, 0
        mine = self._world.database.segments.of_channel.get(channel)
        for row in mine.rows if mine is not None else ():
            begin, end = max(row.start_us, edge), min(row.end_us, until_us)
            if end > begin:
                total, edge = total + end - begin, end
        return total

    # ---- people -----------------------------------------------------------------------------

    def _views(self) -> None:
        """I4: a right that ended has ended every view within 5 s."""
        witness = self._world.witness
        for at, user in witness.barred:
            for showing in witness.showings:
                if showing.user_id != user or showing.admitted is None or showing.admitted > at:
                    continue
                late = showing.last_at > at + CUT_WITHIN_S
                ours = witness.disturbed(at, showing.last_at, "account", about=user)
                if late and ours and not self._may_see_late(at, showing.last_at):
                    self.find(f"{user} saw {showing.channel_id} until {showing.last_at:.3f}")

    def _may_see_late(self, barred: float, seen: float) -> bool:
        """A node that was down, or could not ask the database or the worker, cuts when it can."""
        witness = self._world.witness
        begin, end = barred - CUT_WITHIN_S, barred + CUT_WITHIN_S
        return witness.died_within(begin, end, "node") or witness.disturbed(
            begin, seen, "rows", "reach", "node stopped", "dark"
        )

    def _audit(self) -> None:
        """I5: the chain holds; what was opened was ended; what was seen was written down before."""
        witness, database = self._world.witness, self._world.database
        opened: dict[str, Any] = {}
        for chain in database.audit.chains.values():
            for row in chain:
                if row.phase == OPENED:
                    opened[row.act_id] = row
                elif row.phase == ENDED and opened.pop(row.act_id, None) is None:
                    self.find(f"act {row.act_id} ends and never began")
        for row in opened.values():
            if not witness.died_within(witness.acts[row.act_id], float("inf"), "node"):
                self.find(f"act {row.act_id} ({row.action} {row.subject}) has no end")


def _is_of(data: bytes, segment: Segment) -> bool:
    return len(data) == segment.size_bytes and hashlib.sha256(data).hexdigest() == segment.sha256


def _goes_on(taping: Taping) -> bool:
    return taping.process.alive and taping.end == float("inf")


__all__ = ["Checker"]
