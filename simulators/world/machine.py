"""A computer of the world: `vsp.media.machine.Machine` on a virtual network and a forgetful disk.

One `Host` is one computer with its disk and its clock. Each life of a worker gets a `Seat` on it:
the sockets, locks and threads of that process, gone when it is killed. The node reaches a worker by
a `Link`, as it would over a Unix socket: calls run in the worker's process, answers may be lost
with either side.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from simulators.world.disk import ForgetfulDisk
from simulators.world.loop import Process, VirtualClock, VirtualLoop, current, require_alive
from simulators.world.network import Address, Network
from vsp.blocking import Blocking
from vsp.disk import Disk, make_folders
from vsp.errors import Conflict, Exhausted, Unavailable, VspError
from vsp.media.admission import Admission
from vsp.media.chunks import RETRY_S, ChunkWriter, Job, OnWritten, Write, Writer
from vsp.media.control import Worker
from vsp.media.core import rtp
from vsp.media.datagrams import Source
from vsp.media.ingest import PortStats, Sink
from vsp.media.live import Socket
from vsp.media.machine import Door, Lock, Ports, ViewerDoor
from vsp.media.stream import MediaSession, Port
from vsp.model.device import MediaTransport
from vsp.model.ids import ViewId, WorkerId
from vsp.model.stream import RemoteMedia, SessionSpec
from vsp.ports import WorkerEvent

P = ParamSpec("P")
T = TypeVar("T")

CALL_S = 0.0005
"""One way of a control call."""

CALL_TIMEOUT_S = 10.0
"""As `vsp.link`: longer, and the worker counts as hung."""

DISK_S = 0.002
"""Mean time of a blocking call; each takes between nothing and twice that."""

HELD_MAX = 64
"""Packets kept by a port until it knows whom to trust."""

PORTS_PER_WORKER = 4_000

OnMedia = Callable[[SessionSpec, bytes, float], None]
"""Told of each packet that a session was given, and when it had reached its port."""

OnTold = Callable[[str, tuple[object, ...]], None]
"""Told of each call that a worker has done, with its arguments."""


class Host:
    """A computer: one address, one disk, one clock, and who runs on it."""

    def __init__(self, address: str, loop: VirtualLoop, network: Network, seed: int | str) -> None:
        self.address = address
        self.loop = loop
        self.network = network
        self.clock = VirtualClock(loop)
        self.disk = ForgetfulDisk(self.clock, seed)
        self.workers: dict[int, tuple[Worker, Process]] = {}
        self.doors: dict[int, ViewersDoor] = {}
        self.locks: dict[Path, Process] = {}
        self.unreachable: set[int] = set()
        """Workers whose control socket does not answer now."""
        self.on_media: OnMedia = lambda spec, packet, now: None
        self.on_told: OnTold = lambda name, arguments: None
        self.random = random.Random(f"host/{seed}")


class VirtualBlocking:
    """Blocking calls, done on the loop after the time they take; also when nobody waits any more.

    A killed process takes its pending calls with it, as it takes its threads.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    async def run(self, call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        loop = self._host.loop
        done: asyncio.Future[T] = loop.create_future()
        wait_s = self._host.random.random() * 2 * DISK_S
        loop.call_later(wait_s, self._do, done, partial(call, *args, **kwargs))
        return await done

    def _do(self, done: asyncio.Future[T], call: Callable[[], T]) -> None:
        try:
            result = call()
        except (VspError, OSError) as error:
            if not done.done():
                done.set_exception(error)
        else:
            if not done.done():
                done.set_result(result)

    async def close(self, *, wait: bool = True) -> None:
        """Nothing is held."""


class Seat:
    """One life of one worker on a host: implements `vsp.media.machine.Machine`."""

    def __init__(self, host: Host, index: int) -> None:
        self.disk: Disk = host.disk
        self.blocking: Blocking = VirtualBlocking(host)
        self.loop_lag_ms = 0.0
        self._host = host
        self._index = index

    async def run(self) -> None:
        """The loop of a world is never late."""
        await asyncio.get_running_loop().create_future()

    def lock(self, folder: Path) -> Lock:
        holder, process = self._host.locks.get(folder), current()
        assert process is not None
        if holder is not None and holder.alive:
            raise Conflict(f"another worker holds {folder}")
        with suppress(OSError):  # as the real one: a lock need not be durable
            make_folders(self.disk, folder)
        self._host.locks[folder] = process
        return _Lock(self._host, folder)

    def writer(self, core: ChunkWriter, on_written: OnWritten) -> Writer:
        return LoopWriter(self._host, core, on_written)

    def ports(self) -> Ports:
        return VirtualPorts(self._host, self._index)

    def viewers(self, admission: Admission) -> ViewerDoor:
        return ViewersDoor(self._host, self._index, admission)

    def control(self, worker: Worker) -> Door:
        return ControlDoor(self._host, self._index, worker)


class _Lock:
    def __init__(self, host: Host, folder: Path) -> None:
        self._host = host
        self._folder = folder

    def release(self) -> None:
        if self._host.locks.get(self._folder) is current():
            del self._host.locks[self._folder]


class LoopWriter:
    """Drives a `ChunkWriter` from the loop, as a thread does beside it."""

    def __init__(self, host: Host, core: ChunkWriter, on_written: OnWritten) -> None:
        self.failure: BaseException | None = None
        self._host = host
        self._core = core
        self._on_written = on_written
        self._jobs: deque[Job] = deque()
        self._awake = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """It wakes when there is something to do."""

    def put(self, job: Job) -> None:
        self._jobs.append(job)
        self._wake_after(self._host.random.random() * 2 * DISK_S)

    async def close(self, timeout_s: float) -> None:
        now = self._host.loop.now
        while self._jobs and self._core.do(self._jobs[0], now):
            self._written()
        self._core.close()
        self._jobs.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _wake_after(self, wait_s: float) -> None:
        if not self._awake:
            self._awake = True
            self._host.loop.call_later(wait_s, self._work)

    def _work(self) -> None:
        self._awake = False
        while self._jobs:
            if not self._core.do(self._jobs[0], self._host.loop.now):
                self._wake_after(RETRY_S)
                return
            self._written()
        self._see_to_sync()

    def _written(self) -> None:
        job = self._jobs.popleft()
        if isinstance(job, Write):
            self._on_written(job)

    def _see_to_sync(self) -> None:
        due = self._core.sync_due
        if due is not None and (self._timer is None or self._timer.cancelled()):
            self._timer = self._host.loop.call_at(due, self._sync)

    def _sync(self) -> None:
        self._timer = None
        due = self._core.sync_due
        if due is not None and due <= self._host.loop.now:
            self._core.sync(self._host.loop.now)
        self._see_to_sync()


# ---- media in -------------------------------------------------------------------------------


class VirtualPorts:
    """Media ports of one worker."""

    def __init__(self, host: Host, index: int) -> None:
        self._host = host
        self._first = 20_000 + index * PORTS_PER_WORKER
        self._open: dict[int, VirtualPort] = {}

    def open(self, sink: Sink) -> Port:
        pairs = PORTS_PER_WORKER // 2
        begin = self._host.random.randrange(pairs)
        for step in range(pairs):
            number = self._first + (begin + step) % pairs * 2
            if number not in self._open:
                port = self._open[number] = VirtualPort(self._host, sink, number, self._open)
                return port
        raise Exhausted("no media port is free")

    async def run(self) -> None:
        """Packets are handed on as they come."""
        await asyncio.get_running_loop().create_future()


class VirtualPort:
    """One session's socket. As `ingest.MediaPort`: the first allowed sender is pinned."""

    def __init__(self, host: Host, sink: Sink, number: int, among: dict[int, VirtualPort]) -> None:
        self.port = number
        self.stats = PortStats()
        self.ssrc: int | None = None
        self.source: Source | None = None
        self._host = host
        self._sink = sink
        self._among = among
        self._allowed: frozenset[str] | None = None
        self._held: deque[tuple[bytes, Address, float]] = deque(maxlen=HELD_MAX)
        self._pinned: Address | None = None
        host.network.bind((host.address, number), self._received)

    def bind(self, remote: RemoteMedia, transport: MediaTransport) -> None:
        self._allowed = frozenset(remote.hosts)
        held, self._held = self._held, deque(maxlen=HELD_MAX)
        for packet in held:
            self._take(*packet)

    def unpin(self) -> None:
        self.source = self.ssrc = self._pinned = self._allowed = None

    def watch(self, watched: bool) -> None:
        """It makes no difference here."""

    def drain(self) -> None:
        """Nothing waits."""

    def send_rtcp(self, data: bytes) -> None:
        """Cameras of the world do not read it."""

    def close(self) -> None:
        self._host.network.unbind((self._host.address, self.port))
        self._among.pop(self.port, None)

    def _received(self, data: bytes, source: Address) -> None:
        self._take(data, source, self._host.loop.now)

    def _take(self, data: bytes, source: Address, came: float) -> None:
        if self._allowed is None:
            self._held.append((data, source, came))
        elif source[0] not in self._allowed or self._pinned not in (None, source):
            self.stats.foreign += 1
            self.stats.foreign_source = f"{source[0]}:{source[1]}"
        else:
            self._deliver(data, source, came)

    def _deliver(self, data: bytes, source: Address, came: float) -> None:
        now_us = self._host.clock.now_us()
        bursts, _, rejected = rtp.collect([memoryview(data)], lambda _: now_us)
        self.stats.rejected += rejected
        if not bursts:
            return
        if self._pinned is None:
            self._pinned, self.source, self.ssrc = source, Source.of(*source), bursts[0].ssrc
        if bursts[0].ssrc != self.ssrc:
            self.stats.foreign += 1
            return
        self.stats.packets += 1
        self.stats.bytes += len(data)
        if isinstance(self._sink, MediaSession):
            self._host.on_media(self._sink.spec, data, came)
        self._sink.media(bursts, self._host.loop.now)


# ---- doors ----------------------------------------------------------------------------------


class ViewersDoor:
    """Where viewers come in to one worker."""

    def __init__(self, host: Host, index: int, admission: Admission) -> None:
        self.port = 18_100 + index
        self._host = host
        self._index = index
        self._admission = admission
        self._process = current()

    async def start(self) -> None:
        self._host.doors[self._index] = self

    async def close(self) -> None:
        if self._host.doors.get(self._index) is self:
            del self._host.doors[self._index]

    def connect(
        self, kind: str, view_id: ViewId, ticket: str, socket: Socket
    ) -> asyncio.Task[None]:
        """A viewer knocks; the task ends when it is served no more, or raises what refused it."""
        if self._process is None or not self._process.alive:
            raise Unavailable("nobody listens there")
        return self._process.start(self._serve(kind, view_id, ticket, socket), f"viewer {view_id}")

    async def _serve(self, kind: str, view_id: ViewId, ticket: str, socket: Socket) -> None:
        view = self._admission.admit(ticket, kind, view_id)
        await self._admission.serve(view, socket)


class ControlDoor:
    """Where the node's calls come in."""

    def __init__(self, host: Host, index: int, worker: Worker) -> None:
        self._host = host
        self._index = index
        self._worker = worker

    async def start(self) -> None:
        process = current()
        assert process is not None
        self._host.workers[self._index] = self._worker, process

    async def close(self) -> None:
        self._host.workers.pop(self._index, None)


class Link:
    """A worker as the node has it: implements `ports.MediaControl` by passing each call on.

    Calls of a worker that is dead, or that dies meanwhile, are Unavailable; one that was under way
    may have been done.
    """

    def __init__(self, host: Host, index: int) -> None:
        self._host = host
        self._index = index

    @property
    def worker_id(self) -> WorkerId:
        return WorkerId(self._index)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any method of MediaControl
        if name.startswith("_"):
            raise AttributeError(name)
        return partial(self._call, name)

    async def events(self) -> AsyncGenerator[WorkerEvent, None]:
        worker, process = self._seat()
        node, loop = current(), self._host.loop
        queue: asyncio.Queue[WorkerEvent | None] = asyncio.Queue()

        def tell(event: WorkerEvent | None) -> None:
            loop.post_at(loop.now + CALL_S, partial(queue.put_nowait, event))

        async def pump() -> None:
            async for event in worker.events():
                tell(event)
            tell(None)

        pumping = process.start(pump(), "events")
        worker_dies, node_dies = partial(tell, None), partial(process.post, pumping.cancel)
        process.on_kill.append(worker_dies)
        if node is not None:
            node.on_kill.append(node_dies)
        try:
            while (event := await queue.get()) is not None:
                yield event
            raise Unavailable(f"media worker {self._index} closed its event stream")
        finally:
            node_dies()
            for dying, action in ((process, worker_dies), (node, node_dies)):
                if dying is not None and action in dying.on_kill:
                    dying.on_kill.remove(action)

    def _seat(self) -> tuple[Worker, Process]:
        require_alive()
        seat = self._host.workers.get(self._index)
        if seat is None or not seat[1].alive or self._index in self._host.unreachable:
            raise Unavailable(f"media worker {self._index} does not answer")
        return seat

    async def _call(self, name: str, *arguments: object, **named: object) -> object:
        loop = self._host.loop
        await asyncio.sleep(CALL_S)
        worker, process = self._seat()
        answer: asyncio.Future[object] = loop.create_future()

        def lost() -> None:
            loop.post_at(loop.now, partial(_settle, answer, None, Unavailable("worker died")))

        async def serve() -> None:
            try:
                result, error = await getattr(worker, name)(*arguments, **named), None
                self._host.on_told(name, arguments)
            except VspError as refused:
                result, error = None, refused
            loop.post_at(loop.now + CALL_S, partial(_settle, answer, result, error))

        process.on_kill.append(lost)
        process.start(serve(), name)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                return await answer
        except TimeoutError as error:
            raise Unavailable(f"media worker {self._index} did not answer {name}") from error
        finally:
            if lost in process.on_kill:
                process.on_kill.remove(lost)


def _settle(answer: asyncio.Future[object], result: object, error: VspError | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)


__all__ = ["Host", "Link", "Seat", "VirtualBlocking"]
