"""The event feed: what changed, pushed to every open console over one WebSocket.

Events are hints. Whoever listens reads the truth again from the API, so a lost event costs a moment
and never correctness. Therefore the overflow rule is simple: a client that does not keep up loses
its queue and gets one `{"type": "resync"}` in its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Iterator, Mapping

from aiohttp import web

from vsp.errors import Exhausted, VspError
from vsp.model.people import Action, Actor
from vsp.web.call import Call

QUEUE_EVENTS_MAX = 256
"""Events waiting for one client: some seconds of a busy hour. More is a stalled client."""

CLIENTS_MAX = 512
"""Open feeds of the node: one for each console that a large centre has open."""

HEARTBEAT_S = 30.0
SEND_TIMEOUT_S = 10.0
"""A client that takes longer for one small frame is gone."""

RECHECK_S = 5.0
"""How often an open feed's session is asked again; a revoked account hears nothing after that."""

CLIENT_FRAME_BYTES_MAX = 1024
"""Clients have nothing to say on this socket."""

RIGHTS: Mapping[str, Action] = {"candidate": Action.DEVICE_MANAGE}
"""Event types that need more than LIST."""


class Subscription:
    """One client's bounded queue. `next` waits; overflow becomes one `resync`."""

    def __init__(self) -> None:
        self._events: deque[tuple[str, str]] = deque()
        self._filled = asyncio.Event()
        self.closed = False

    def put(self, kind: str, text: str) -> None:
        if len(self._events) >= QUEUE_EVENTS_MAX:
            self._events.clear()
            kind, text = "resync", '{"type":"resync","cause":"this client does not keep up"}'
        self._events.append((kind, text))
        self._filled.set()

    def close(self) -> None:
        self.closed = True
        self._filled.set()

    async def next(self) -> tuple[str, str] | None:
        """The oldest event (type, JSON text); None once the hub is closed."""
        while not self._events:
            if self.closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        return self._events.popleft()


class EventHub:
    """Spreads events over the open feeds. `publish` never waits and never fails."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._seq = 0
        self._closed = False

    def publish(self, event: Mapping[str, object]) -> None:
        """`event` has a `type`; it is numbered by `seq` and encoded once for all."""
        self._seq += 1
        if not self._subscriptions:
            return
        text = json.dumps({**event, "seq": self._seq}, separators=(",", ":"))
        for subscription in self._subscriptions:
            subscription.put(str(event.get("type", "")), text)

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        if self._closed or len(self._subscriptions) >= CLIENTS_MAX:
            raise Exhausted("no more event feeds can be opened", next_step="close other consoles")
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    @property
    def clients(self) -> int:
        return len(self._subscriptions)

    def close(self) -> None:
        """End every feed; consoles come back when the node does."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()


async def events(call: Call) -> web.StreamResponse:
    """GET /events: the handler that owns one client's feed until either side ends it."""
    with call.services.events.subscribe() as subscription:
        socket = web.WebSocketResponse(
            heartbeat=HEARTBEAT_S, timeout=5.0, max_msg_size=CLIENT_FRAME_BYTES_MAX
        )
        await socket.prepare(call.request)
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(_send(call, socket, subscription)),
                group.create_task(_recheck(call, socket)),
            ]
            async for _ in socket:
                pass  # nothing is expected from a client; its close frame ends the loop
            for task in tasks:
                task.cancel()
        return socket


async def _send(call: Call, socket: web.WebSocketResponse, subscription: Subscription) -> None:
    while (event := await subscription.next()) is not None:
        kind, text = event
        if kind in RIGHTS and not _holds(call, call.actor, RIGHTS[kind]):
            continue
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await socket.send_str(text)
        except (TimeoutError, OSError):
            break
    await socket.close(code=1001, message=b"going away")


def _holds(call: Call, actor: Actor, action: Action) -> bool:
    return call.services.actions.access.decision(actor, action).allowed


async def _recheck(call: Call, socket: web.WebSocketResponse) -> None:
    """Close the feed when the session has ended or the right was taken away."""
    while True:
        await asyncio.sleep(RECHECK_S)
        try:
            await call.services.actions.accounts.require_session(call.actor, Action.LIST)
        except VspError:
            await socket.close(code=4401, message=b"the session has ended")
            return
