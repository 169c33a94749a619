"""The platform's processes in a world: a node and its media workers, each with its lives.

They are put together as `vsp/node.py` and `vsp/worker.py` put them together, from the same parts;
only sockets, disk, clock and chance are the world's. `Keeper` is the supervisor: what dies is
started again a moment later.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from simulators.chance import SeededIds
from simulators.world.loop import Process
from simulators.world.machine import Host, Link, Seat, VirtualBlocking
from simulators.world.network import Address, Network
from simulators.world.stores import Temper, Unreliable
from vsp.access.passwords import PasswordHasher
from vsp.access.ticket import TicketSigner, TicketVerifier
from vsp.actions.assemble import Books
from vsp.composition import Platform, compose, connect
from vsp.config import Config
from vsp.errors import Unavailable, VspError
from vsp.jobs import every
from vsp.media.worker import MediaWorker
from vsp.model.changes import AuditRow
from vsp.model.device import Transport
from vsp.ports import MediaControl, ObjectStore
from vsp.sip.core.agent import Peer
from vsp.sip.endpoint import Closable, OnDatagram, UdpDriver
from vsp.sip.exchange import EndpointStats
from vsp.store.blobs import FolderObjects
from vsp.store.folder import Folder
from vsp.store.memory import MemoryBucket, MemoryDatabase, MemoryObjects, open_memory
from vsp.store.memory.audit import MemoryAuditLog

log = structlog.get_logger(__name__)

NODE = "node-1"

RESTART_S = (0.3, 3.0)
"""Between the death of a process and the first line of its next life."""

MEASURE_S = 30.0
"""Period at which the node compares its streams with what the workers count; really 1 s."""

TICK_S = 10.0
"""Period of a worker's own look at its streams; really 1 s, and pictures here are 20 s apart."""


@dataclass(slots=True)
class Estate:
    """What outlives every process: databases, objects, keys; and who watches what is done to it."""

    config: Config
    database: MemoryDatabase
    bucket: MemoryBucket | None
    signer: TicketSigner
    rows: Temper
    objects: Temper
    observe: Mapping[str, Mapping[str, Callable[..., None]]]
    """Port -> method -> who is told that it was done."""

    @property
    def verifier(self) -> TicketVerifier:
        return self.signer.verifier()


def signer_of(seed: int | str) -> TicketSigner:
    key = random.Random(f"keys/{seed}").randbytes(32)
    return TicketSigner(Ed25519PrivateKey.from_private_bytes(key))


class Keeper:
    """Keeps one process alive. `stop` and `kill` end a life; the next one begins by itself."""

    def __init__(self, host: Host, name: str, live: Callable[[int], Life]) -> None:
        self.name = name
        self.lives = 0
        self.life: Life | None = None
        self.resting = False
        """Not started again while this is set: the machine is down."""
        self._host = host
        self._live = live
        self._random = random.Random(f"keeper/{name}")

    @property
    def up(self) -> bool:
        return self.life is not None and self.life.process.alive

    def start(self) -> None:
        if self.resting or self.up:
            return
        self.lives += 1
        life = self.life = self._live(self.lives)
        process = life.process = Process(self._host.loop, f"{self.name}#{self.lives}")
        process.on_kill.append(self._again)
        process.start(self._run(life), self.name)

    async def _run(self, life: Life) -> None:
        """The process's main: what it cannot go on from ends it."""
        try:
            await life.main()
        except VspError as error:
            log.info("process gave up", process=life.process.name, why=error.message)
        except Exception:
            log.exception("process crashed", process=life.process.name)
        life.process.kill()

    def _again(self) -> None:
        loop = self._host.loop
        loop.post_at(loop.now + self._random.uniform(*RESTART_S), self.start)

    def kill(self) -> None:
        """SIGKILL."""
        if self.life is not None:
            self.life.process.kill()

    def stop(self) -> None:
        """SIGTERM: it leaves in order, and comes again."""
        if self.life is not None and self.up:
            self.life.stopping.set()


class Life:
    """One life of a process."""

    process: Process

    def __init__(self) -> None:
        self.stopping = asyncio.Event()

    async def main(self) -> None:
        raise NotImplementedError


class NodeLife(Life):
    """Signalling, streams, use cases: `vsp.composition` over unreliable stores."""

    def __init__(self, host: Host, estate: Estate, workers: int, number: int, seed: str) -> None:
        super().__init__()
        self.platform: Platform | None = None
        self._host = host
        self._estate = estate
        self._workers = workers
        self._ids = SeededIds(f"{seed}/node/{number}")
        self._hasher = PasswordHasher()

    async def main(self) -> None:
        platform = self._compose()
        connect(platform, _News())
        await platform.start()
        self.platform = platform
        tasks = [asyncio.create_task(job) for job in platform.jobs()]
        measuring = every(MEASURE_S, "measure streams", self._measure)
        tasks.append(asyncio.create_task(measuring))
        await self.stopping.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.platform = None
        await platform.close("the platform is stopping")

    async def _measure(self) -> None:
        assert self.platform is not None
        await self.platform.streams.measure()

    def _compose(self) -> Platform:
        host, estate = self._host, self._estate
        store = open_memory(estate.database, host.clock, self._ids, NODE)
        ports = ("devices", "segments", "changes", "people", "streams")
        behind: dict[str, Any] = {
            name: Unreliable(getattr(store, name), name, estate.rows, estate.observe.get(name))
            for name in ports
        }
        return compose(
            config=estate.config,
            books=Books(audit=_Audit(host, estate, self._ids), **behind),
            objects=objects_of(host, estate, self._ids),
            workers=[cast(MediaControl, Link(host, k)) for k in range(self._workers)],
            clock=host.clock,
            ids=self._ids,
            metrics=NoMetrics(),
            metrics_text=lambda: "",
            nonce_key=b"k" * 32,
            signer=estate.signer,
            hasher=self._hasher,
            sockets=Sockets(host.network, host.address),
        )


class _Audit(MemoryAuditLog):
    """Refuses when the other rows do. An answer is never lost: whether an act has begun would then
    be known to nobody."""

    def __init__(self, host: Host, estate: Estate, ids: SeededIds) -> None:
        super().__init__(estate.database, host.clock, ids, NODE)
        self._estate = estate

    async def _append(self, draft: AuditRow, again: bool = False) -> None:
        temper = self._estate.rows
        await asyncio.sleep(temper.mood.delay_s * temper.random.random())
        if temper.refuses("audit"):
            raise Unavailable("audit: the store does not answer")
        await super()._append(draft, again)
        self._estate.observe["audit"]["append"](draft)


class WorkerLife(Life):
    """A media worker on its seat."""

    def __init__(self, host: Host, estate: Estate, index: int, number: int, seed: str) -> None:
        super().__init__()
        self.worker: MediaWorker | None = None
        self._host = host
        self._estate = estate
        self._index = index
        self._ids = SeededIds(f"{seed}/worker/{index}/{number}")

    async def main(self) -> None:
        host, estate = self._host, self._estate
        worker = MediaWorker(
            estate.config,
            self._index,
            host.clock,
            self._ids,
            objects_of(host, estate, self._ids),
            estate.verifier.verify,
            Seat(host, self._index),
            tick_s=TICK_S,
        )
        async with worker:
            self.worker = worker
            await self.stopping.wait()
        self.worker = None


def objects_of(host: Host, estate: Estate, ids: SeededIds) -> ObjectStore:
    """The object store as one process sees it."""
    if estate.bucket is not None:
        objects = MemoryObjects(estate.bucket, host.clock)
        behind = Unreliable(objects, "objects", estate.objects, estate.observe.get("objects"))
        return cast(ObjectStore, behind)
    folder = Folder(estate.config.objects_dir, host.disk, ids.token)
    return FolderObjects(folder, VirtualBlocking(host))


class _News:
    """Consoles of a world hear nothing; what is set off by news runs all the same."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[None], None] = {}

    def publish(self, event: Mapping[str, object]) -> None:
        """Nobody listens."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_logged(work))
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except VspError as error:
        log.info("background work failed", why=error.message)
    except Exception:
        log.exception("background work failed")


class NoMetrics:
    """Counts nothing."""

    def count(self, name: str, by: float = 1.0, **labels: str) -> None: ...
    def gauge(self, name: str, value: float, **labels: str) -> None: ...
    def observe(self, name: str, value: float, **labels: str) -> None: ...


class Sockets:
    """SIP sockets on the world's network (`vsp.sip.endpoint.Sockets`)."""

    def __init__(self, network: Network, host: str) -> None:
        self._network = network
        self._host = host

    async def udp(
        self, host: str, port: int, on_datagram: OnDatagram, stats: EndpointStats
    ) -> tuple[UdpDriver, int]:
        return Datagrams(self._network, (self._host, port), on_datagram), port

    async def tcp(
        self, host: str, port: int, factory: Callable[[], asyncio.Protocol]
    ) -> tuple[Closable, int]:
        self._network.listen((self._host, port), factory)
        return _Listening(), port


class Datagrams:
    """One UDP socket."""

    def __init__(self, network: Network, place: Address, on_datagram: OnDatagram) -> None:
        self._network = network
        self._place = place
        self._on_datagram = on_datagram
        self._peers: dict[Address, Peer] = {}

    def start(self) -> None:
        self._network.bind(self._place, self._received)

    def _received(self, data: bytes, source: Address) -> None:
        peer = self._peers.get(source)
        if peer is None:
            peer = self._peers[source] = Peer(Transport.UDP, *source)
        self._on_datagram(data, peer)

    def send(self, data: bytes, peer: Peer) -> None:
        self._network.send(data, self._place, (peer.host, peer.port))

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self._network.unbind(self._place)


class _Listening:
    """A listener, closed with its UDP twin: both have the same address."""

    def close(self) -> None:
        """The network forgets both by their address."""

    async def wait_closed(self) -> None:
        """It is."""


def keepers(host: Host, estate: Estate, workers: int, seed: str) -> tuple[Keeper, list[Keeper]]:
    """The supervisor's children: the node and its workers."""
    node = Keeper(host, "node", lambda number: NodeLife(host, estate, workers, number, seed))
    media = [
        Keeper(
            host,
            f"worker-{index}",
            partial(_worker_life, host, estate, index, seed),
        )
        for index in range(workers)
    ]
    return node, media


def _worker_life(host: Host, estate: Estate, index: int, seed: str, number: int) -> Life:
    return WorkerLife(host, estate, index, number, seed)


DATA = Path("/data")
"""Where the platform's files are on a host of the world."""


__all__ = [
    "DATA",
    "Estate",
    "Keeper",
    "NoMetrics",
    "NodeLife",
    "WorkerLife",
    "keepers",
    "signer_of",
]
