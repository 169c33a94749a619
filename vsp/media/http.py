"""The viewers' listener: WebSockets of one worker, on the worker's own port. Nothing else.

    /live/{view_id}   /playback/{view_id}   and both below /m/{worker}/ for a proxy in front
    /health

A ticket is needed for every view: as `?ticket=`, as `Authorization: Bearer`, as the subprotocol
`vsp.ticket.<ticket>`, or as the first text frame within `TICKET_WAIT_S`. It must name this view,
its channel and its kind. Without a good ticket nobody learns whether a view exists. The Origin is
not looked at: the ticket is the right, and a page cannot have it by accident as it could a cookie.
"""

from __future__ import annotations

import asyncio
import socket as sockets
import ssl

import structlog
from aiohttp import ClientError, WSCloseCode, WSMsgType, web
from pydantic_core import from_json

from vsp.errors import Conflict, Denied, VspError
from vsp.link import error_to_wire
from vsp.media import messages
from vsp.media.admission import Admission
from vsp.media.live import View, send_all
from vsp.model.ids import ViewId

log = structlog.get_logger(__name__)

TICKET_WAIT_S = 5.0
"""Wait for the first text frame of a viewer that showed no ticket before."""

TICKETLESS_MAX = 128
"""Sockets that may be in that wait at once; strangers cannot fill memory with them."""

CLIENT_FRAME_BYTES_MAX = 4_096
"""Largest frame of a viewer: a ticket or a command."""

HEARTBEAT_S = 10.0
"""WebSocket ping period: a viewer whose network is gone is noticed within twice this."""

CLOSE_TIMEOUT_S = 2.0
"""Wait for the viewer's half of the closing handshake before the connection is cut."""

SEND_BUFFER_BYTES = 512 << 10
"""Kernel buffer towards one viewer: a second of 4 Mbit/s; more would only hide its lag from us."""

STATUS = {"denied": 403, "not_found": 404, "conflict": 409, "invalid": 400, "exhausted": 503}

SUBPROTOCOL = "vsp"
TICKET_SUBPROTOCOL = "vsp.ticket."


class ViewerSocket:
    """An aiohttp WebSocket as `live.Socket`."""

    def __init__(
        self, response: web.WebSocketResponse, transport: asyncio.Transport | None
    ) -> None:
        self._response = response
        self._transport = transport

    async def send_text(self, text: str) -> None:
        try:
            await self._response.send_str(text)
        except ClientError as error:
            raise ConnectionResetError(str(error)) from error

    async def send_bytes(self, data: bytes) -> None:
        try:
            await self._response.send_bytes(data)
        except ClientError as error:
            raise ConnectionResetError(str(error)) from error

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def receive_text(self) -> str | None:
        while True:
            message = await self._response.receive()
            if message.type is WSMsgType.TEXT:
                return str(message.data)
            if message.type is not WSMsgType.BINARY:
                return None


class ViewerServer:
    """Lets viewers in, as `admission` says."""

    def __init__(
        self,
        worker_id: int,
        admission: Admission,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """`port` 0 takes a free one; it is the real one once we listen."""
        self.port = port
        self._worker_id = worker_id
        self._admission = admission
        self._host = host
        self._tls = tls
        self._ticketless = 0
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen. Raises Conflict naming the setting when the port is taken."""
        app = web.Application(client_max_size=CLIENT_FRAME_BYTES_MAX)
        app.on_response_prepare.append(_plain_headers)
        app.router.add_get("/health", self._health)
        for prefix in ("", f"/m/{self._worker_id}"):
            app.router.add_get(prefix + "/{kind:live|playback}/{view_id}", self._view)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=0.5
        )
        await self._runner.setup()
        where = f"{self._host}:{self.port}"
        site = web.TCPSite(self._runner, self._host, self.port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise Conflict(
                f"media.http_port_first: {where} cannot be opened: {error.strerror}",
                next_step="set media.http_port_first to a free range, or to 0",
            ) from error
        self.port = int(self._runner.addresses[0][1])

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "worker": self._worker_id})

    async def _view(self, request: web.Request) -> web.StreamResponse:
        kind, view_id = request.match_info["kind"], ViewId(request.match_info["view_id"])
        text = _ticket_in(request)
        try:
            if text is None and self._ticketless >= TICKETLESS_MAX:
                raise Denied("too many viewers without a ticket")
            view = None if text is None else self._admission.admit(text, kind, view_id)
        except VspError as error:
            return web.json_response(error_to_wire(error), status=STATUS.get(error.kind, 403))
        response = await self._upgrade(request)
        try:
            viewer = ViewerSocket(response, request.transport)
            view = view or await self._ask_for_ticket(viewer, kind, view_id)
            await self._admission.serve(view, viewer)
        except VspError as error:
            await send_all(viewer, messages.failure(error))
        except (OSError, TimeoutError) as error:
            log.debug("viewer lost", view=view_id, why=str(error))
        finally:
            await response.close(code=WSCloseCode.OK)
        return response

    async def _upgrade(self, request: web.Request) -> web.WebSocketResponse:
        offered = _subprotocols(request)
        response = web.WebSocketResponse(
            timeout=CLOSE_TIMEOUT_S,
            heartbeat=HEARTBEAT_S,
            compress=False,
            max_msg_size=CLIENT_FRAME_BYTES_MAX,
            # A browser insists that one of its offers is taken; its plain one if there is one.
            protocols=[SUBPROTOCOL] if SUBPROTOCOL in offered else offered,
        )
        await response.prepare(request)
        transport = request.transport
        sock = transport.get_extra_info("socket") if transport is not None else None
        if sock is not None:
            sock.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, SEND_BUFFER_BYTES)
        return response

    async def _ask_for_ticket(self, viewer: ViewerSocket, kind: str, view_id: ViewId) -> View:
        self._ticketless += 1
        try:
            async with asyncio.timeout(TICKET_WAIT_S):
                text = await viewer.receive_text()
        except TimeoutError as error:
            raise Denied(f"no ticket came within {TICKET_WAIT_S:g} s") from error
        finally:
            self._ticketless -= 1
        return self._admission.admit(_ticket_of_frame(text), kind, view_id)


def _ticket_in(request: web.Request) -> str | None:
    """The ticket as the request carries it; None when it is to come as the first frame."""
    query = request.query.get("ticket")
    if query is not None:
        return query
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return bearer.strip()
    for name in _subprotocols(request):
        if name.startswith(TICKET_SUBPROTOCOL):
            return name.removeprefix(TICKET_SUBPROTOCOL)
    return None


def _subprotocols(request: web.Request) -> list[str]:
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    return [name.strip() for name in offered.split(",") if name.strip()]


def _ticket_of_frame(text: str | None) -> str:
    try:
        said = from_json(text or "")
    except ValueError as error:
        raise Denied("the first frame carries no ticket") from error
    ticket = said.get("ticket") if isinstance(said, dict) else None
    if not isinstance(ticket, str):
        raise Denied("the first frame carries no ticket")
    return ticket


async def _plain_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Say nothing of what we run on; nothing here is to be cached, framed or sniffed."""
    response.headers["Server"] = "vsp"
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
