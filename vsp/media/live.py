"""Views: one viewer's place at this worker, from `open_view` until its socket is gone.

`View` is what the listener (`http.py`) and the worker know; `LiveView` sends what the hub offers.
A view that fails before its viewer has come keeps the reason, so that a tile which connects a
moment later shows why and not "not found".
"""

from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from typing import Protocol

from vsp.errors import Exhausted, VspError
from vsp.media import messages
from vsp.media.hub import Consumer, InitPiece, Item, Piece
from vsp.media.messages import Message
from vsp.media.stream import MediaSession
from vsp.model.stream import ViewSpec

LAST_WORDS_S = 2.0
"""Time for a viewer to take the last words of an ended view; then the connection is cut, so that a
revoked right ends the picture within 5 s whatever the viewer does."""

SEND_TIMEOUT_S = 15.0
"""Longest wait for a viewer to take one frame; a laptop that was closed takes none."""


class Socket(Protocol):
    """A viewer's WebSocket, already admitted."""

    async def send_text(self, text: str) -> None: ...
    async def send_bytes(self, data: bytes) -> None: ...
    async def receive_text(self) -> str | None:
        """The next text frame; None when the viewer has gone. Binary frames are skipped."""
        ...

    def abort(self) -> None:
        """Cut the connection now; what is under way fails."""
        ...


class View(ABC):
    """One viewer's place. `run` is called once, when the viewer has come.

    attached  a viewer with a good ticket holds it; set by the listener, never taken back
    """

    def __init__(self, spec: ViewSpec) -> None:
        self.spec = spec
        self.attached = False
        self.failure: VspError | None = None
        self._socket: Socket | None = None
        self._cut: asyncio.TimerHandle | None = None

    async def run(self, socket: Socket) -> str:
        """Serve the viewer until it goes or the view ends; returns why, in words."""
        self._socket = socket
        if self.failure is not None:
            await send_all(socket, *last_words(self.failure))
        else:
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(self._listen(socket))
                try:
                    await self._serve(socket)
                finally:
                    listening.cancel()
        if self._cut is not None:
            self._cut.cancel()
        return self.failure.message if self.failure is not None else "the viewer has gone"

    def end(self, error: VspError) -> None:
        """Cut the viewer off now, telling it why. The first reason stands."""
        if self.failure is not None:
            return
        self.failure = error
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            self._cut = loop.call_later(LAST_WORDS_S, self._socket.abort)
        self._stop()

    @abstractmethod
    async def _serve(self, socket: Socket) -> None:
        """Send until `_stop` or `_leave` was called; then the last words, if the view failed."""

    @abstractmethod
    def _stop(self) -> None:
        """`failure` is set: send nothing but the last words any more. May come before `_serve`."""

    @abstractmethod
    def _leave(self) -> None:
        """The viewer has gone: return from `_serve`."""

    def _command(self, text: str) -> None:  # noqa: B027 - live takes no commands
        """The viewer asks for something."""

    async def _listen(self, socket: Socket) -> None:
        try:
            while (text := await socket.receive_text()) is not None:
                self._command(text)
        finally:
            self._leave()


class LiveView(View):
    """A viewer of a session's hub."""

    def __init__(self, spec: ViewSpec, session: MediaSession, queue_bytes_max: int) -> None:
        super().__init__(spec)
        self._session = session
        self._consumer = Consumer(queue_bytes_max)

    async def _serve(self, socket: Socket) -> None:
        self._session.attach(self._consumer)
        try:
            while (item := await self._consumer.take()) is not None:
                await send_item(socket, item)
        except (OSError, TimeoutError):
            self.failure = self.failure or Exhausted("the viewer takes no more data")
        finally:
            self._session.detach(self._consumer)

    def _stop(self) -> None:
        assert self.failure is not None
        self._consumer.close(*last_words(self.failure))

    def _leave(self) -> None:
        self._consumer.close()


def last_words(error: VspError) -> tuple[Message, Message]:
    """What a tile shows when its view is over."""
    return messages.failure(error), messages.state("ended", error.cause, error.next_step)


async def send_all(socket: Socket, *said: Message) -> None:
    for message in said:
        await send_item(socket, message)


async def send_item(socket: Socket, item: Item) -> None:
    """One frame, or announcement and init segment. Raises TimeoutError when it is not taken."""
    async with asyncio.timeout(SEND_TIMEOUT_S):
        if isinstance(item, Piece):
            await socket.send_bytes(item.data)
        elif isinstance(item, InitPiece):
            await socket.send_text(json.dumps(item.message))
            await socket.send_bytes(item.data)
        else:
            await socket.send_text(json.dumps(item))
