"""The node's door into a worker: `MediaControl` over HTTP on a Unix socket.

The other end is `vsp.link.WorkerLink`, and the table of calls is there. Whoever can open the socket
may command the worker, so it lies in a 0700 folder with mode 0600. A worker serves several nodes'
event streams at once (an old node that is being replaced, a test); each gets the unacknowledged
journal first and then everything.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Protocol

import structlog
from aiohttp import ClientError, web
from pydantic_core import from_json

from vsp.errors import Internal, Invalid, NotFound, VspError
from vsp.link import (
    BODY_BYTES_MAX,
    CALLS,
    WorkerInfo,
    error_to_wire,
    event_to_wire,
    from_wire,
    to_wire,
)
from vsp.ports import MediaControl, WorkerEvent

log = structlog.get_logger(__name__)

EVENTS_MAX = 10_000
"""Events waiting for one listener; beyond it the stream is cut and begins anew from the journal."""

SIGN_OF_LIFE_S = 5.0
"""A blank line this often, so that the node can tell a quiet worker from a hung one."""

PATH_LENGTH_MAX = 107
"""Longest path of a Unix socket on Linux (sockaddr_un)."""

STATUS = {
    "invalid": 400,
    "denied": 403,
    "not_found": 404,
    "conflict": 409,
    "unsupported": 422,
    "exhausted": 503,
    "unavailable": 503,
}


class EventBus:
    """Events to every listener, each with its own bounded queue."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Queue[WorkerEvent | None], None] = {}

    def publish(self, event: WorkerEvent) -> None:
        """Overflow rule: a listener that is too far behind is cut off and starts over."""
        for queue in tuple(self._listeners):
            if queue.qsize() >= EVENTS_MAX:
                del self._listeners[queue]
                queue.put_nowait(None)
            else:
                queue.put_nowait(event)

    async def listen(
        self, backlog: Callable[[], Sequence[WorkerEvent]]
    ) -> AsyncIterator[WorkerEvent]:
        """The backlog, then what is published from now on. An entry may come in both."""
        queue: asyncio.Queue[WorkerEvent | None] = asyncio.Queue()
        self._listeners[queue] = None
        try:
            for entry in backlog():
                yield entry
            while (event := await queue.get()) is not None:
                yield event
        finally:
            self._listeners.pop(queue, None)


class Worker(MediaControl, Protocol):
    """What the server serves: MediaControl and the worker's account of itself."""

    async def info(self) -> WorkerInfo: ...


class ControlServer:
    """Serves one worker on one socket path."""

    def __init__(self, worker: Worker, path: Path) -> None:
        self._worker = worker
        self._path = path
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        if len(os.fsencode(self._path)) > PATH_LENGTH_MAX:
            raise Invalid(
                f"node.data_dir is too long for a control socket: {self._path}",
                next_step="use a shorter path, or a relative one",
            )
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The worker holds its spool's lock, so a socket that is still there has no owner.
        self._path.unlink(missing_ok=True)
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_get("/v1/events", self._events)
        app.router.add_post("/v1/{name}", self._call)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=0.5
        )
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self._path)).start()
        self._path.chmod(0o600)

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self._path.unlink(missing_ok=True)

    async def _call(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        try:
            result = await self._invoke(name, await request.read())
        except VspError as error:
            return web.json_response(error_to_wire(error), status=STATUS.get(error.kind, 500))
        except Exception as error:
            log.exception("control call failed", call=name)
            return web.json_response(error_to_wire(Internal(f"{name}: {error}")), status=500)
        return web.json_response({"result": result})

    async def _invoke(self, name: str, body: bytes) -> object:
        call = CALLS.get(name)
        if call is None:
            raise NotFound(f"no such call: {name}")
        try:
            said = from_json(body or b"{}")
        except ValueError as error:
            raise Invalid(f"{name}: the body is not JSON") from error
        if not isinstance(said, dict) or set(said) != set(call.arguments):
            raise Invalid(f"{name} takes {sorted(call.arguments)}")
        arguments: dict[str, object] = {}
        for key, kind in call.arguments.items():
            try:
                arguments[key] = from_wire(kind, said[key])
            except Invalid as error:
                raise Invalid(f"{name}: {key}: {error.message}") from error
        return to_wire(await getattr(self._worker, name)(**arguments))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        events = aiter(self._worker.events())
        pending: asyncio.Task[WorkerEvent] | None = None
        try:
            while True:
                pending = pending or asyncio.ensure_future(anext(events))
                done, _ = await asyncio.wait({pending}, timeout=SIGN_OF_LIFE_S)
                line = b"\n"
                if done:
                    event, pending = pending.result(), None
                    line = json.dumps(event_to_wire(event)).encode() + b"\n"
                await response.write(line)
        except StopAsyncIteration:
            log.warning("event listener cut off, too far behind")
        except (ConnectionError, ClientError):
            log.info("event listener gone")
        finally:
            if pending is not None:
                pending.cancel()
        return response
