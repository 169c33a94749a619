"""The composition root: Config -> a running Node; the only module that knows every class.

Run as `python -m vsp.node` by the supervisor. Order of start: database, rights, signalling table,
workers, web; the ready line is printed when cameras and browsers are both served. Order of stop is
the reverse; workers are not stopped from here, they go on receiving until their supervisor tells
them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from vsp import config as settings
from vsp import logs
from vsp.access.passwords import PasswordHasher
from vsp.access.ticket import load_signer
from vsp.actions.assemble import Actions, Books, assemble
from vsp.actions.presence import ChannelPresence
from vsp.actions.recording import Archivist, Recorder
from vsp.actions.streams import StreamManager
from vsp.actions.workers import WorkerPool
from vsp.clock import SystemClock, SystemIds
from vsp.config import Config
from vsp.errors import VspError
from vsp.health.metrics import PrometheusMetrics
from vsp.jobs import COUNT_S, MEASURE_S, Observer, every
from vsp.link import WorkerLink, socket_path
from vsp.model.device import Candidate, CatalogDiff, Channel, Presence
from vsp.model.ids import DeviceId, WorkerId
from vsp.model.recording import RecordingSpec
from vsp.model.stream import StreamState, ViewEnded
from vsp.ports import DeviceBook
from vsp.run import ready_file
from vsp.seal import load_key
from vsp.sip.service import SignalService
from vsp.store import Store, open_store
from vsp.supervisor import EXIT_USAGE
from vsp.web.app import Listener, serve

log = structlog.get_logger(__name__)

WORKERS_WAIT_S = 15.0
"""How long the ready line waits for media workers; without one it is printed all the same."""

ENFORCE_S = 2.0
"""Period at which the rights of open views are asked again (I4: cut within 5 s)."""


@dataclass(slots=True)
class Node:
    """A running node. `Node.start` makes it, `close` ends it."""

    config: Config
    store: Store
    signal: SignalService
    pool: WorkerPool
    streams: StreamManager
    recorder: Recorder
    actions: Actions
    listener: Listener
    hasher: PasswordHasher
    links: Sequence[WorkerLink]
    tasks: Sequence[asyncio.Task[None]]
    first_admin: tuple[str, str] | None = None

    async def close(self) -> None:
        """Stop serving, complete the audit rows, leave the workers alone."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.listener.close()
        await self.actions.views.close_all("the platform is stopping")
        await self.pool.close()
        await self.streams.close()
        await self.signal.close()
        for link in self.links:
            await link.close()
        self.hasher.close()
        await self.store.close()

    def ready_line(self) -> str:
        """One line for programs (contract): where everything is."""
        config = self.config
        media = [
            {
                "ports": list(config.media_ports(index)),
                "http": f"{config.media.http_advertised_host or config.media.http_host}:"
                f"{config.media.http_port_first + index}",
            }
            for index in range(config.worker_count)
        ]
        ready: dict[str, Any] = {
            "url": self.listener.url,
            "user": "admin",
            **({"password": self.first_admin[1]} if self.first_admin else {}),
            "sip": {
                "host": config.sip_advertised,
                "port": self.signal.port,
                "transports": list(config.sip.transports),
                "id": config.sip.id,
                "domain": config.sip.domain,
            },
            "media": media,
            "data": str(config.data_dir.resolve()),
        }
        return "ready " + json.dumps(ready, ensure_ascii=False, separators=(",", ":"))


async def start(config: Config) -> Node:
    """Compose and start everything of this process. Raises VspError naming what is wrong."""
    clock, ids, metrics = SystemClock(), SystemIds(), PrometheusMetrics()
    store = await open_store(config, clock, ids)
    books = Books(
        store.devices, store.segments, store.changes, store.audit, store.people, store.streams
    )
    links = [
        WorkerLink(socket_path(config.data_dir, index), WorkerId(index))
        for index in range(config.worker_count)
    ]
    pool = WorkerPool(links)
    signalling = SignalService(
        config.sip,
        config.sip_advertised,
        store.devices,
        store.changes,
        clock,
        ids,
        metrics,
        nonce_key=load_key(config.data_dir / "keys" / "nonce.key", make=True),
    )
    streams = StreamManager(
        devices=store.devices,
        signal=signalling,
        pool=pool,
        book=store.streams,
        changes=store.changes,
        clock=clock,
        ids=ids,
        metrics=metrics,
        media=config.media,
        platform_id=config.sip.id,
    )
    recorder = Recorder(
        devices=store.devices,
        signal=signalling,
        streams=streams,
        changes=store.changes,
        clock=clock,
        metrics=metrics,
        spec=RecordingSpec(config.recording.segment_s, config.recording.part_s),
    )
    archivist = Archivist(
        segments=store.segments, changes=store.changes, pool=pool, metrics=metrics
    )
    hasher = PasswordHasher()
    actions = assemble(
        config=config,
        books=books,
        signal=signalling,
        streams=streams,
        signer=load_signer(config.data_dir / "keys"),
        hasher=hasher,
        clock=clock,
        ids=ids,
        metrics=metrics,
        metrics_text=metrics.text,
    )
    listener = await serve(config, actions)
    channels = ChannelPresence(
        store.devices, store.changes, clock, lambda device_id: signalling.presence(device_id)[0]
    )
    _connect(
        signalling, pool, streams, recorder, archivist, actions, listener, store.devices, channels
    )
    signalling.restore(await streams.restore())
    await signalling.start()
    pool.start()
    observer = Observer(
        clock=clock,
        metrics=metrics,
        devices=store.devices,
        streams=streams,
        pool=pool,
        objects_dir=config.objects_dir,
    )
    jobs = (
        recorder.run(),
        observer.watch_loop(),
        every(MEASURE_S, "measure streams", observer.measure_streams),
        every(COUNT_S, "count", observer.count),
        every(ENFORCE_S, "enforce rights", actions.views.enforce),
    )
    return Node(
        config=config,
        store=store,
        signal=signalling,
        pool=pool,
        streams=streams,
        recorder=recorder,
        actions=actions,
        listener=listener,
        hasher=hasher,
        links=links,
        tasks=[asyncio.create_task(job) for job in jobs],
    )


def _connect(
    signalling: SignalService,
    pool: WorkerPool,
    streams: StreamManager,
    recorder: Recorder,
    archivist: Archivist,
    actions: Actions,
    listener: Listener,
    devices: DeviceBook,
    channels: ChannelPresence,
) -> None:
    """Who hears of what. News for the console goes through `listener.publish`."""

    def presence(device_id: DeviceId, state: Presence, evidence: str) -> None:
        listener.publish(
            {"type": "presence", "device": device_id, "presence": state, "evidence": evidence}
        )
        listener.spawn(channels.follow(device_id, evidence))
        if state is Presence.ONLINE:
            recorder.device_online(device_id)
        else:
            listener.spawn(streams.device_offline(device_id))

    def catalog(device_id: DeviceId, diff: CatalogDiff) -> None:
        listener.publish(
            {
                "type": "catalog",
                "device": device_id,
                "received": diff.received,
                "expected": diff.expected,
                "complete": diff.complete,
            }
        )
        listener.spawn(channels.follow(device_id, "catalogue"))
        recorder.nudge()

    def stream_state(channel: Channel, state: StreamState, cause: str) -> None:
        listener.publish({"type": "stream", "channel": channel.id, "state": state, "cause": cause})
        if state is StreamState.FLOWING:
            recorder.nudge()

    def recording(channel: Channel, active: bool, cause: str) -> None:
        listener.publish(
            {"type": "recording", "channel": channel.id, "recording": active, "cause": cause}
        )

    def candidates(seen: Sequence[Candidate]) -> None:
        for candidate in seen:
            listener.publish({"type": "candidate", "gb_id": candidate.gb_id})
        listener.spawn(added_elsewhere(seen))

    async def added_elsewhere(seen: Sequence[Candidate]) -> None:
        """A device that `vsp device add` wrote beside us is known from its second knock on."""
        for candidate in seen:
            device = await devices.device_by_gb_id(candidate.gb_id)
            if device is not None:
                signalling.device_added(device, await devices.secret(device.id))
                await devices.drop_candidates([candidate.gb_id])

    async def view_ended(event: ViewEnded) -> None:
        await streams.view_ended(event.view_id, event.cause)

    signalling.on_presence = presence
    signalling.on_catalog = catalog
    signalling.on_candidates = candidates
    signalling.on_dialog_ended = streams.dialog_ended
    streams.on_state = stream_state
    recorder.on_recording = recording
    actions.channels.on_plan_changed = recorder.nudge
    pool.on_adopted = streams.worker_adopted
    pool.on_lost = streams.worker_lost
    pool.on_session = streams.session_changed
    pool.on_view_ended = view_ended
    pool.on_segment_closed = archivist.segment_closed
    pool.on_segments_wanted = archivist.segments_wanted


async def run(config: Config) -> None:
    """Until SIGTERM."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    node = await start(config)
    try:
        await _workers_up(node, stopping)
        if stopping.is_set():
            return
        # Last, when every port is ours: a start that fails must not swallow the one showing of it.
        node.first_admin = await node.actions.authenticator.ensure_first_admin()
        gc.collect()
        gc.freeze()  # what lives for ever is not walked by every later collection
        _announce(node)
        await stopping.wait()
    finally:
        await node.close()


async def _workers_up(node: Node, stopping: asyncio.Event) -> None:
    """Until all workers answer, time is up, or a worker that cannot open its port stops us all."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WORKERS_WAIT_S):
            while not stopping.is_set() and len(node.pool.alive) < node.config.worker_count:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


def _announce(node: Node) -> None:
    """The contract's one line on stdout; a node that is started again says nothing new."""
    file = ready_file(node.config)
    again = file.exists()
    file.write_text(node.ready_line() + "\n", "utf-8")
    if not again:
        print(node.ready_line(), flush=True)  # noqa: T201
        _greet(node)


def _greet(node: Node) -> None:
    """For people: where to look and how to get in."""
    lines = ["", f"  控制台 Console   {node.listener.url}", "  用户   User      admin"]
    if node.first_admin is not None:
        lines.append(f"  口令   Password  {node.first_admin[1]}   (只显示一次 shown once)")
    else:
        lines.append("  口令   Password  as set; a new one: vsp user password admin")
    if node.listener.fingerprint:
        lines.append(f"  证书指纹 Certificate SHA-256  {node.listener.fingerprint}")
    print("\n".join([*lines, ""]), file=sys.stderr)  # noqa: T201


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        config = settings.load()
        logs.set_up(config.log, "node")
        asyncio.run(run(config))
    except VspError as error:
        for line in (error.message, error.cause, error.next_step):
            if line:
                print(f"vsp: {line}", file=sys.stderr)  # noqa: T201
        return EXIT_USAGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
