"""One request on its way to its use case: who asks, with what. Shared by all handlers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web
from pydantic import BaseModel

from vsp.actions.assemble import Actions
from vsp.config import WebConfig
from vsp.model.people import Actor
from vsp.ports import WebSession

if TYPE_CHECKING:
    from vsp.web.security import AddressLimiter
    from vsp.web.ws import EventHub

M = TypeVar("M", bound=BaseModel)

OPENAPI_TEXT: web.AppKey[str] = web.AppKey("openapi_text", str)
"""The generated document, made once when the application is built."""

STATIC_DIR = Path(__file__).parent / "static"


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that handlers use.

    media_origins   origins of the workers' viewer ports (`ws://host:port`), for the page's CSP
    tls             whether this listener speaks TLS itself (HSTS is sent then)
    """

    actions: Actions
    events: EventHub
    limiter: AddressLimiter
    web: WebConfig
    version: str
    media_origins: Sequence[str]
    tls: bool = False
    static_dir: Path = STATIC_DIR


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose session, right, body and query have been judged already."""

    request: web.Request
    services: Services
    address: str
    signed_in: tuple[Actor, WebSession] | None
    body_model: BaseModel | None = None
    query_model: BaseModel | None = None

    @property
    def actor(self) -> Actor:
        """Who asks. Routes that are public do not ask for it."""
        assert self.signed_in is not None
        return self.signed_in[0]

    @property
    def session(self) -> WebSession:
        assert self.signed_in is not None
        return self.signed_in[1]

    def path(self, name: str) -> str:
        return self.request.match_info[name]

    def body(self, kind: type[M]) -> M:
        assert isinstance(self.body_model, kind)
        return self.body_model

    def query(self, kind: type[M]) -> M:
        assert isinstance(self.query_model, kind)
        return self.query_model
