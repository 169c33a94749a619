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
from vsp.actions.assemble import Books
from vsp.clock import SystemClock, SystemIds
from vsp.composition import Platform, compose, connect
from vsp.config import Config
from vsp.errors import VspError
from vsp.health.metrics import PrometheusMetrics
from vsp.jobs import COUNT_S, MEASURE_S, Observer, every
from vsp.link import WorkerLink, socket_path
from vsp.model.ids import WorkerId
from vsp.run import ready_file
from vsp.seal import load_key
from vsp.store import Objects, Store, open_objects, open_store
from vsp.supervisor import EXIT_USAGE
from vsp.web.app import Listener, serve

log = structlog.get_logger(__name__)

WORKERS_WAIT_S = 15.0
"""How long the ready line waits for media workers; without one it is printed all the same."""


@dataclass(slots=True)
class Node:
    """A running node. `start` makes it, `close` ends it."""

    config: Config
    store: Store
    objects: Objects
    platform: Platform
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
        await self.platform.close("the platform is stopping")
        for link in self.links:
            await link.close()
        self.hasher.close()
        await self.objects.close()
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
                "port": self.platform.signal.port,
                "transports": list(config.sip.transports),
                "id": config.sip.id,
                "domain": config.sip.domain,
            },
            "media": media,
            "data": str(config.data_dir.resolve()),
        }
        return "ready " + json.dumps(ready, ensure_ascii=False, separators=(",", ":"))


async def start(config: Config) -> Node:
    """Open and start everything of this process. Raises VspError naming what is wrong."""
    clock, ids, metrics = SystemClock(), SystemIds(), PrometheusMetrics()
    store = await open_store(config, clock, ids)
    objects = open_objects(config)
    links = [
        WorkerLink(socket_path(config.data_dir, index), WorkerId(index))
        for index in range(config.worker_count)
    ]
    hasher = PasswordHasher()
    platform = compose(
        config=config,
        books=Books.of(store),
        objects=objects,
        workers=links,
        clock=clock,
        ids=ids,
        metrics=metrics,
        metrics_text=metrics.text,
        nonce_key=load_key(config.data_dir / "keys" / "nonce.key", make=True),
        signer=load_signer(config.data_dir / "keys"),
        hasher=hasher,
    )
    store.tell_refusals(platform.outbox.refused)
    listener = await serve(config, platform.actions)
    connect(platform, listener)
    await platform.start()
    observer = Observer(
        clock=clock,
        metrics=metrics,
        devices=store.devices,
        streams=platform.streams,
        pool=platform.pool,
        objects_dir=config.objects_dir,
    )
    jobs = (
        *platform.jobs(),
        observer.watch_loop(),
        every(MEASURE_S, "measure streams", observer.measure_streams),
        every(COUNT_S, "count", observer.count),
    )
    return Node(
        config=config,
        store=store,
        objects=objects,
        platform=platform,
        listener=listener,
        hasher=hasher,
        links=links,
        tasks=[asyncio.create_task(job) for job in jobs],
    )


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
        node.first_admin = await node.platform.actions.authenticator.ensure_first_admin()
        gc.collect()
        gc.freeze()  # what lives for ever is not walked by every later collection
        _announce(node)
        await stopping.wait()
    finally:
        await node.close()


async def _workers_up(node: Node, stopping: asyncio.Event) -> None:
    """Until all workers answer, time is up, or a worker that cannot open its port stops us all."""
    pool = node.platform.pool
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WORKERS_WAIT_S):
            wanted = node.config.worker_count
            while not stopping.is_set() and len(pool.alive) < wanted:  # noqa: ASYNC110
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
