"""The console and the HTTP API as one aiohttp application.

A request passes, in this order: an id and the error edge (`_edge`), then for API routes the
session, the CSRF rule, the route's Action, the body and query models (`_endpoint`), and only then
its handler. What a handler raises becomes `{kind, message, cause, next_step}` in one place.
Everything else that is asked with GET is a file of the built console, or its index page.
"""

from __future__ import annotations

import asyncio
import errno
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from pydantic import BaseModel

from vsp import __version__
from vsp.access.authn import SignInNeeded
from vsp.access.tls import TlsFiles, ensure_certificate, given_certificate, server_context
from vsp.actions.assemble import Actions
from vsp.config import Config, WebConfig
from vsp.errors import Conflict, Denied, Invalid, NotFound, VspError
from vsp.model.ids import UtcMicros
from vsp.model.people import Actor
from vsp.ports import WebSession
from vsp.web import wire
from vsp.web.body import read_model, read_query
from vsp.web.call import OPENAPI_TEXT, STATIC_DIR, Call, Services
from vsp.web.openapi import document
from vsp.web.routes import PREFIX, ROUTES, Public, Route
from vsp.web.security import (
    AddressLimiter,
    check_cookie_request,
    client_address,
    media_origins,
    security_headers,
    token_of,
)
from vsp.web.ws import EventHub

log = structlog.get_logger(__name__)

STATUS_OF_KIND: Mapping[str, int] = {
    "invalid": 400,
    "denied": 403,
    "not_found": 404,
    "conflict": 409,
    "unsupported": 422,
    "exhausted": 429,
    "unavailable": 503,
    "data_loss": 500,
    "internal": 500,
}
"""The one mapping of kinds to HTTP. Nobody being signed in is the exception: 401."""

_KIND_OF_STATUS: Mapping[int, str] = {404: "not_found", 405: "invalid", 413: "exhausted"}

KEEPALIVE_S = 75.0
SHUTDOWN_S = 2.0
"""How long open requests may finish at a stop; event feeds are closed at once."""

SERVICES: web.AppKey[Services] = web.AppKey("services", Services)
_HEADERS: web.AppKey[Mapping[str, str]] = web.AppKey("headers")

_REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)

Downstream = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(services: Services, routes: Sequence[Route] = ROUTES) -> web.Application:
    """The application, from the table of routes. Checks that no two rows collide."""
    app = web.Application(middlewares=[_edge], handler_args={"keepalive_timeout": KEEPALIVE_S})
    app[SERVICES] = services
    app[_HEADERS] = security_headers(services.media_origins, tls=services.tls)
    app[OPENAPI_TEXT] = json.dumps(document(routes, services.version), ensure_ascii=False)
    seen: set[tuple[str, str]] = set()
    for route in routes:
        assert (route.method, route.path) not in seen, f"{route.method} {route.path} twice"
        seen.add((route.method, route.path))
        app.router.add_route(route.method, route.path, _endpoint(route), name=route.name)
    # Everything else but the API is the console; nobody needs a session to load a page.
    app.router.add_get("/{path:(?!api(?:/|$)).*}", _static, name="console")
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(_close_feeds)
    return app


# ---- the edge -------------------------------------------------------------------------------


@web.middleware
async def _edge(request: web.Request, handler: Downstream) -> web.StreamResponse:
    """Name the request, and turn whatever goes wrong into one kind of answer."""
    services = request.app[SERVICES]
    request[_REQUEST_ID] = services.actions.ids.token(8)
    try:
        response = await handler(request)
    except web.HTTPException as error:
        response = _http_error(error)
    except VspError as error:
        response = _vsp_error(error)
    except Exception:
        # The top of a request's task: whatever it is, it is our fault and must be found.
        log.exception("request failed", request_id=request[_REQUEST_ID], path=request.path)
        response = _answer_error(
            500, "internal", "an internal error", "it is logged", request[_REQUEST_ID]
        )
    services.actions.metrics.count("vsp_http_requests", status=f"{response.status // 100}xx")
    return response


def _vsp_error(error: VspError) -> web.Response:
    status = 401 if isinstance(error, SignInNeeded) else STATUS_OF_KIND[error.kind]
    response = _answer_error(status, error.kind, error.message, error.cause, error.next_step)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _http_error(error: web.HTTPException) -> web.Response:
    """What aiohttp itself refuses: unknown path, wrong method, too large, malformed."""
    kind = _KIND_OF_STATUS.get(error.status, "invalid" if error.status < 500 else "internal")
    response = _answer_error(error.status, kind, error.reason.lower(), "", "")
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def _answer_error(status: int, kind: str, message: str, cause: str, next_step: str) -> web.Response:
    body = wire.ErrorOut(kind=kind, message=message, cause=cause, next_step=next_step)
    return web.json_response(text=body.model_dump_json(), status=status)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(request.app[_HEADERS])
    if _REQUEST_ID in request:
        response.headers["X-Request-Id"] = request[_REQUEST_ID]
    if request.path.startswith(f"{PREFIX}/"):
        response.headers["Cache-Control"] = "no-store"


async def _close_feeds(app: web.Application) -> None:
    app[SERVICES].events.close()


# ---- API routes -----------------------------------------------------------------------------


def _endpoint(route: Route) -> Downstream:
    """A route of the table as aiohttp calls it: every judgement before the handler."""

    async def endpoint(request: web.Request) -> web.StreamResponse:
        services = request.app[SERVICES]
        address = client_address(request, services.web.behind_proxy)
        signed_in = await _authorise(route, request, services, address)
        call = Call(
            request,
            services,
            address,
            signed_in,
            None if route.body is None else await read_model(request, route.body),
            None if route.query is None else read_query(request, route.query),
        )
        return _response(route, await route.handler(call))

    return endpoint


async def _authorise(
    route: Route, request: web.Request, services: Services, address: str
) -> tuple[Actor, WebSession] | None:
    """The session, then CSRF, then the route's Action. Refused rights are audited."""
    if isinstance(route.access, Public):
        return None
    token = token_of(request)
    if token is None:
        raise SignInNeeded("nobody is signed in", next_step=f"POST {PREFIX}/session")
    text, by_cookie = token
    if by_cookie:
        check_cookie_request(request, upgrade=route.upgrade, behind_proxy=services.web.behind_proxy)
    actor, session = await services.actions.accounts.actor_of(text, address)
    access = services.actions.access
    decision = access.decision(actor, route.access)
    if not decision.allowed:
        await access.refuse(actor, route.access, f"{route.method} {route.path}", decision)
    return actor, session


def _response(route: Route, answer: BaseModel | web.StreamResponse | None) -> web.StreamResponse:
    if isinstance(answer, web.StreamResponse):
        return answer
    if answer is None:
        return web.Response(status=route.status)
    return web.json_response(text=answer.model_dump_json(by_alias=True), status=route.status)


# ---- the console's files --------------------------------------------------------------------

_HASHED = re.compile(r"assets/.+")
"""Files that the build names by their content; they may be cached for ever."""


async def _static(request: web.Request) -> web.StreamResponse:
    """A file of the built console; for the console's own paths, its index page."""
    services = request.app[SERVICES]
    path = request.match_info["path"]
    file = find_static(services.static_dir, path)
    if file is None:
        raise NotFound(
            "no such page" if find_static(services.static_dir, "") else "the console is not built",
            next_step="GET / for the console, or build it with `make ui`",
        )
    response = web.FileResponse(file)
    for_ever = _HASHED.fullmatch(path) is not None
    response.headers["Cache-Control"] = (
        "public, max-age=31536000, immutable" if for_ever else "no-cache"
    )
    return response


def find_static(root: Path, path: str) -> Path | None:
    """The file to send for `path`: an existing one below `root`, or index.html for a page.

    A name with a dot in its last part is a file and never falls back, so that a missing script is
    a 404 and not a page of HTML.
    """
    index = root / "index.html"
    parts = [part for part in path.split("/") if part]
    if any(part.startswith(".") or "\x00" in part or "\\" in part for part in parts):
        return None
    file = root.joinpath(*parts)
    if parts and "." in parts[-1]:
        inside = file.resolve().is_relative_to(root.resolve())
        return file if inside and file.is_file() else None
    return index if index.is_file() else None


# ---- listening ------------------------------------------------------------------------------


@dataclass(slots=True)
class Listener:
    """The listening console. `port` is the real one, also when 0 was asked for.

    fingerprint   SHA-256 of the certificate, for people to compare; empty without TLS
    """

    runner: web.AppRunner
    events: EventHub
    url: str
    port: int
    fingerprint: str = ""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def publish(self, event: Mapping[str, object]) -> None:
        """Tell every open console. Never waits, never fails."""
        self.events.publish(event)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside us; it is ours until it ends, and `close` ends it."""
        task = asyncio.create_task(_logged(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.runner.cleanup()


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except Exception:
        log.exception("background work failed")


async def serve(config: Config, actions: Actions, static_dir: Path = STATIC_DIR) -> Listener:
    """Listen, with TLS where the settings ask for it.

    Raises Conflict for a taken port and Invalid for an address or certificate that cannot be used;
    each names its setting.
    """
    files = tls_files(config, actions.clock.now_us())
    events = EventHub()
    services = Services(
        actions=actions,
        events=events,
        limiter=AddressLimiter(actions.clock),
        web=config.web,
        version=__version__,
        media_origins=media_origins(config),
        tls=files is not None,
        static_dir=static_dir,
    )
    runner = await _listen(build_app(services), config.web, files)
    port = int(runner.addresses[0][1])
    scheme = "http" if files is None else "https"
    shown = _shown_host(config.web.host)
    return Listener(
        runner=runner,
        events=events,
        url=f"{scheme}://{shown}:{port}/",
        port=port,
        fingerprint="" if files is None else files.fingerprint,
    )


def tls_files(config: Config, now_us: UtcMicros) -> TlsFiles | None:
    """The certificate of console and viewers: the site's own, or self-signed on the first start."""
    if not config.tls_on:
        return None
    if config.web.tls_cert is not None and config.web.tls_key is not None:
        return given_certificate(config.web.tls_cert, config.web.tls_key)
    media = config.media
    hosts = [config.web.host, media.http_host, media.http_advertised_host or media.http_host]
    return ensure_certificate(config.data_dir / "keys", hosts, now_us)


async def _listen(app: web.Application, config: WebConfig, files: TlsFiles | None) -> web.AppRunner:
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    context = None if files is None else server_context(files)
    site = web.TCPSite(runner, config.host, config.port, ssl_context=context)
    try:
        await site.start()
    except OSError as error:
        await runner.cleanup()
        raise _cannot_listen(error, config) from error
    return runner


def _shown_host(host: str) -> str:
    """The host of a URL that a person on this machine can open."""
    if host in {"0.0.0.0", "", "::"}:
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _cannot_listen(error: OSError, config: WebConfig) -> VspError:
    where = f"{config.host}:{config.port}"
    if error.errno == errno.EADDRINUSE:
        return Conflict(
            f"web.port: {where} is taken",
            cause="another process listens there",
            next_step="stop it, or set web.port to another port (0 picks a free one)",
        )
    if error.errno == errno.EACCES:
        return Denied(f"web.port: {where} may not be opened by this user")
    return Invalid(f"web.host: cannot listen on {where}: {error}")
