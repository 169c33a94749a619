"""A worker's way from spool to object to journal, on virtual time and a disk that forgets.

    stage = Stage(seed)
    stage.live(script)                              one life that leaves in order
    stage.live(script, dies_at=Point.PART_PUT)      it is killed there; True when it got there
    stage.disk.cut_power()                          and what was not synced is up to chance

A life is a spool, a journal and a shipper, as `MediaWorker` puts them together; `stage.objects` is
an object store with moods, and a node writes down rows and acknowledges them. Nothing sleeps: a
minute of waiting for a store costs no time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from simulators.world.loop import Killed, Process, VirtualLoop, current
from simulators.world.machine import Host, Seat, VirtualBlocking
from simulators.world.network import Network
from simulators.world.trace import Trace
from tests.contract.manual import CountingIds
from tests.deaths import laid
from tests.media.rig import GOP, STEP_90K, access_units
from vsp.errors import NotFound, Unavailable, VspError
from vsp.faults import Point
from vsp.media.core.fmp4 import Fragmenter, init_segment, video_track
from vsp.media.core.nal import ParameterSets
from vsp.media.journal import Journal
from vsp.media.shipper import Shipper
from vsp.media.spool import FragmentHead, Spool, SpooledSegment
from vsp.model.ids import UtcMicros
from vsp.model.recording import Segment, SegmentClosed
from vsp.ports import ObjectStore
from vsp.store.blobs import FolderObjects
from vsp.store.folder import Folder
from vsp.store.memory import MemoryBucket, MemoryObjects

LOG = Path("/data/log")
JOURNAL = Path("/data/journal")
OBJECTS = Path("/objects")

FSYNC_S = 0.2
LIFE_S = 600.0
"""Longest life on virtual time; what has not come about by then never will."""

GOPS = 5


@cache
def film() -> tuple[bytes, list[tuple[FragmentHead, bytes]]]:
    """A short segment as a recorder writes it: its init segment, and a fragment for each GOP."""
    units = access_units(GOPS * GOP, start_us=0)
    sets = ParameterSets()
    sets.update(units[0])
    tracks = [video_track(sets, in_band=True)]
    fragmenter = Fragmenter(tracks, 0)
    made = []
    for first in range(0, len(units), GOP):
        for au in units[first : first + GOP]:
            fragmenter.add(au)
        end = first + GOP
        fragment = fragmenter.fragment(end * STEP_90K)
        assert fragment is not None
        start_us, end_us = UtcMicros(first * 40_000), UtcMicros(end * 40_000)
        dts_90k, duration_90k = fragment.base_dts_90k, fragment.duration_90k
        shown = FragmentHead(start_us, end_us, dts_90k, duration_90k, GOP, 0, True)
        made.append((shown, fragment.data))
    return init_segment(tracks), made


class Life:
    """What one process holds."""

    def __init__(self, stage: Stage) -> None:
        seat = Seat(stage.host, 0)
        self.stage = stage
        self.seat = seat
        self.journal = Journal(JOURNAL, seat.disk)
        self.spool = Spool(LOG, seat.disk, seat.blocking, seat.writer, stage.bytes_max, FSYNC_S)
        self.objects = stage.objects
        self.shipper = Shipper(
            self.spool, self.objects, self.journal, seat.blocking, stage.host.clock, self.closed
        )
        self.spool.start()

    def closed(self, entry: SegmentClosed) -> None:
        """The node is told."""
        if self.stage.node_listens:
            asyncio.get_running_loop().create_task(self._commit(entry))

    async def _commit(self, entry: SegmentClosed) -> None:
        self.stage.commit(entry)
        await self.seat.blocking.run(self.journal.acknowledge, entry.seq)

    async def recover(self) -> list[SpooledSegment]:
        """As a worker that starts; and the node hears of what waits."""
        for entry in self.journal.unacknowledged():
            self.closed(entry)
        found = await self.spool.recover()
        for segment in found:
            self.shipper.ship(segment, part_s=2.0)
        return found

    async def shipped(self) -> None:
        """Until nothing is on its way."""
        while self.shipper.segments or len(self.journal):  # noqa: ASYNC110 - on virtual time
            await asyncio.sleep(0.1)

    async def close(self) -> None:
        await self.shipper.close(0.1)
        await self.spool.close()
        self.journal.close()


Script = Callable[[Life], Awaitable[None]]


class Stage:
    """The computer, what outlives a process on it, and the rows of a node.

    memory  objects in memory, instead of a folder on the same disk
    """

    def __init__(self, seed: int = 0, *, memory: bool = False) -> None:
        self.loop = VirtualLoop()
        self.host = Host("192.0.2.1", self.loop, Network(self.loop, seed, Trace()), seed)
        self.disk = self.host.disk
        self.ids = CountingIds()
        self.bucket = MemoryBucket() if memory else None
        self.objects = Fickle(self._store(), self.loop)
        self.bytes_max = 1 << 30
        self.node_listens = True
        self.rows: dict[str, Segment] = {}
        self.told: list[Segment] = []
        self.hasty: list[str] = []
        """Keys whose row was told while a power cut could still have taken the object (I1)."""
        self._processes: list[Process] = []

    def live(self, script: Script, dies_at: Point | None = None, nth: int = 1) -> bool:
        """One life, up to the end of the script or its death; whether it died."""
        self.objects.within = self._store()
        process = Process(self.loop, f"life {len(self._processes)}")
        self._processes.append(process)
        ended = self.loop.create_future()
        process.on_kill.append(lambda: self.loop.post_at(self.loop.now, _ender(ended, None)))
        left = nth

        def plan(point: Point) -> None:
            nonlocal left
            if current() is not process:
                return
            if not process.alive:
                raise Killed
            left -= point is dies_at
            if point is dies_at and left == 0:
                process.kill()
                raise Killed

        with laid(plan):
            process.start(self._run(script, ended))
            self.loop.run_until_complete(ended)
        died = not process.alive
        process.kill()
        return died

    async def _run(self, script: Script, ended: asyncio.Future[None]) -> None:
        try:
            async with asyncio.timeout(LIFE_S):
                life = Life(self)
                await script(life)
                await life.close()
        except Exception as error:  # noqa: BLE001 - it is raised where the life is watched
            self.loop.post_at(self.loop.now, _ender(ended, error))
        else:
            self.loop.post_at(self.loop.now, _ender(ended, None))

    def _store(self) -> ObjectStore:
        """As a process opens it: what one remembers of a folder ends with it."""
        if self.bucket is not None:
            return MemoryObjects(self.bucket, self.host.clock)
        folder = Folder(OBJECTS, self.disk, self.ids.token)
        return FolderObjects(folder, VirtualBlocking(self.host))

    def commit(self, entry: SegmentClosed) -> None:
        """A row; one that is known is left alone, as the database leaves it."""
        key = entry.segment.key
        if self.bucket is None and self.disk.durable(OBJECTS / key) is None:
            self.hasty.append(key)
        self.told.append(entry.segment)
        self.rows.setdefault(entry.segment.key, entry.segment)

    def bytes_of(self, key: str) -> bytes | None:
        """Those of an object; None when there is none."""
        return self.loop.run_until_complete(self.objects.bytes_of(key))

    def close(self) -> None:
        """The dead are buried: what they waited for will never come."""
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            if isinstance(work := task.get_coro(), Coroutine):
                work.close()
        self.loop.close()


def _ender(ended: asyncio.Future[None], error: Exception | None) -> Callable[[], None]:
    def end() -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    return end


@contextmanager
def staged(seed: int = 0, *, memory: bool = False) -> Iterator[Stage]:
    made = Stage(seed, memory=memory)
    try:
        yield made
    finally:
        made.close()


# ---- a store in a mood ----------------------------------------------------------------------


class Fickle:
    """A store whose next calls have fates, by name.

    refused  nothing is done                     lost    it is done, and the answer never comes
    late     it is done LATE_S later, unasked    twice   it is done, and once more LATE_S later
    gone     the store does not know it

    calls     (virtual second, name) of each call that came
    replaced  keys of objects that were there and then had other bytes
    """

    LATE_S = 2.5

    def __init__(self, within: ObjectStore, loop: VirtualLoop) -> None:
        self.fates: dict[str, list[str | Exception]] = {}
        self.always: Exception | None = None
        self.calls: list[tuple[float, str]] = []
        self.replaced: list[str] = []
        self.within = within
        self._loop = loop

    def named(self, name: str) -> list[float]:
        """When that was called."""
        return [when for when, called in self.calls if called == name]

    async def begin(self, key, metadata):
        return await self._meet("begin", lambda: self.within.begin(key, metadata))

    async def put_part(self, key, upload_id, number, data):
        return await self._meet(
            f"part {number}", lambda: self.within.put_part(key, upload_id, number, data)
        )

    async def complete(self, key, upload_id, tags):
        return await self._meet("complete", lambda: self._complete(key, upload_id, tags))

    async def abort(self, key, upload_id):
        return await self._meet("abort", lambda: self.within.abort(key, upload_id))

    async def stat(self, key):
        return await self._meet("stat", lambda: self.within.stat(key))

    async def read(self, key, offset, length):
        return await self._meet("read", lambda: self.within.read(key, offset, length))

    def uploads(self, prefix):
        return self.within.uploads(prefix)

    async def bytes_of(self, key: str) -> bytes | None:
        try:
            info = await self.within.stat(key)
        except NotFound:
            return None
        return await self.within.read(key, 0, info.size_bytes)

    async def _complete(self, key, upload_id, tags):
        before = await self.bytes_of(key)
        done = await self.within.complete(key, upload_id, tags)
        if before is not None and before != await self.bytes_of(key):
            self.replaced.append(key)
        return done

    async def _meet(self, name, call):
        self.calls.append((self._loop.now, name))
        if self.always is not None:
            raise self.always
        fates = self.fates.get(name)
        fate = fates.pop(0) if fates else ""
        if isinstance(fate, Exception):
            raise fate
        if fate in ("late", "twice"):
            self._loop.post_at(self._loop.now + self.LATE_S, lambda: self._unasked(call))
        if fate in ("refused", "late"):
            raise Unavailable(f"{name}: the store does not answer")
        if fate == "gone":
            raise NotFound(f"{name}: no such upload")
        done = await call()
        if fate == "lost":
            raise Unavailable(f"{name}: no answer")
        return done

    def _unasked(self, call) -> None:
        self._loop.create_task(self._quietly(call))

    async def _quietly(self, call) -> None:
        try:
            await call()
        except VspError:
            return
