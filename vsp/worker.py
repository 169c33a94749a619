"""The composition root of a media worker process: `python -m vsp.worker --index K [--config F]`.

Gives `vsp.media` what it may not import: the object store, the ticket's public key, the
certificate. Started by the supervisor of `vsp run`; outlives the node, and its supervisor too,
until the next one adopts it or `node.orphan_timeout_s` has passed. That, SIGTERM and SIGINT stop it
in order within `node.stop_timeout_s`: segments are closed, made objects and journaled, exit code 0.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from vsp import logs
from vsp.access import tls
from vsp.access.ticket import TicketVerifier, load_verifier
from vsp.clock import SystemClock, SystemIds
from vsp.config import Config, load
from vsp.errors import Conflict, Denied, Invalid, Unavailable, VspError
from vsp.media.machine import ThisMachine
from vsp.media.worker import MediaWorker
from vsp.model.ids import UtcMicros
from vsp.model.people import Ticket
from vsp.run import run_dir
from vsp.rundir import Guard
from vsp.store import open_objects
from vsp.supervisor import EXIT_USAGE, SUPERVISED_AS

log = structlog.get_logger(__name__)

CERTIFICATE_WAIT_S = 15.0
"""How long a worker that came up before its node waits for the self-signed certificate."""

WATCH_S = 1.0
"""Period at which the worker is looked at for a task that has died, and for its supervisor."""


class LateVerifier:
    """The ticket check, from the public key as soon as the node has made it."""

    def __init__(self, keys_dir: Path) -> None:
        self._keys_dir = keys_dir
        self._verifier: TicketVerifier | None = None

    def __call__(self, text: str, now_us: UtcMicros) -> Ticket:
        if self._verifier is None:
            try:
                self._verifier = load_verifier(self._keys_dir)
            except Unavailable as error:
                raise Denied("no ticket can be checked yet", cause=error.message) from error
        return self._verifier.verify(text, now_us)


async def server_tls(config: Config) -> ssl.SSLContext | None:
    """The node's certificate, waited for on a first start. Raises Unavailable, Invalid."""
    if not config.tls_on:
        return None
    if config.web.tls_cert is not None and config.web.tls_key is not None:
        return tls.server_context(tls.given_certificate(config.web.tls_cert, config.web.tls_key))
    keys_dir = config.data_dir / "keys"
    certificate, key = keys_dir / tls.CERTIFICATE_NAME, keys_dir / tls.KEY_NAME
    clock = SystemClock()
    give_up = clock.monotonic() + CERTIFICATE_WAIT_S
    while not certificate.is_file():
        if clock.monotonic() > give_up:
            raise Unavailable(
                f"{certificate} is not there", next_step="start the node, which makes it"
            )
        await asyncio.sleep(0.2)
    return tls.server_context(tls.TlsFiles(certificate, key, "", True))


def calm_the_collector() -> None:
    """Collect rarely: media makes many short-lived objects and no cycles, and a full collection
    over everything that was imported would stop the loop for tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def guard_of(config: Config) -> Guard | None:
    """None for a worker that no supervisor of ours has started: it is never an orphan."""
    name = os.environ.get(SUPERVISED_AS)
    return Guard(run_dir(config), name) if name else None


def is_abandoned(guard: Guard | None, timeout_s: float, now: float) -> bool:
    """Whether there has been no supervisor for longer than that; 0 means for ever."""
    alone_s = guard.alone_s(now) if guard is not None else 0.0
    if not 0 < timeout_s < alone_s:
        return False
    log.warning("no supervisor has come, stopping", alone_s=round(alone_s, 1))
    return True


async def serve(config: Config, index: int) -> None:
    """Run worker `index` until a signal, or until nobody has wanted it for long enough. Raises
    VspError when it cannot start or go on."""
    guard = guard_of(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    objects = open_objects(config)
    clock, ids = SystemClock(), SystemIds()
    try:
        machine = ThisMachine(config, index, clock, ids, await server_tls(config))
        verify = LateVerifier(config.data_dir / "keys")
        async with MediaWorker(config, index, clock, ids, objects, verify, machine) as worker:
            log.info("media worker ready", worker=index, http_port=worker.http_port)
            while not stop.is_set():
                failure = worker.failed()
                if failure is not None:
                    raise Unavailable(f"media worker {index} cannot go on: {failure!r}")
                if is_abandoned(guard, config.node.orphan_timeout_s, clock.monotonic()):
                    break
                await _wait(stop, WATCH_S)
        log.info("media worker stopped", worker=index)
    finally:
        await objects.close()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m vsp.worker", description="A media worker.")
    parser.add_argument("--index", type=int, required=True, help="number of this worker, from 0")
    parser.add_argument("--config", type=Path, help="vsp.toml; the environment wins over it")
    said = parser.parse_args(arguments)
    try:
        config = load(said.config)
        logs.set_up(config.log, f"worker-{said.index}")
        calm_the_collector()
        asyncio.run(serve(config, said.index))
    except VspError as error:
        for line in (error.message, error.cause, error.next_step):
            if line:
                print(f"vsp: {line}", file=sys.stderr)  # noqa: T201 - for whoever starts it
        return EXIT_USAGE if isinstance(error, Conflict | Invalid) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
