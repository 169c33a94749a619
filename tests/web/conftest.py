"""The real application on a real socket, over a rig."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDictProxy

from tests.actions.rig import PASSWORD, Rig
from tests.actions.rig import rig as open_rig
from vsp.model.people import Role
from vsp.web.app import Listener, serve


@dataclass
class Answer:
    status: int
    headers: CIMultiDictProxy[str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass
class Site:
    """A listening console and one client of it."""

    rig: Rig
    listener: Listener
    http: aiohttp.ClientSession
    tokens: dict[str, str] = field(default_factory=dict)

    async def ask(
        self, method: str, path: str, *, who: str = "", headers: dict[str, str] | None = None,
        **options: Any,
    ) -> Answer:  # fmt: skip
        """One request; `who` is a role (its account is made on first use) or nobody."""
        sent = dict(headers or {})
        if who:
            sent["Authorization"] = f"Bearer {await self.token(who)}"
        url = f"{self.listener.url.rstrip('/')}{path}"
        async with self.http.request(method, url, headers=sent, **options) as answer:
            return Answer(answer.status, answer.headers, await answer.text())

    async def api(self, method: str, path: str, who: str = "admin", **options: Any) -> Answer:
        return await self.ask(method, f"/api/v1{path}", who=who, **options)

    async def token(self, role: str) -> str:
        if role not in self.tokens:
            await self.rig.user(Role(role))
            answer = await self.ask(
                "POST", "/api/v1/session", json={"user": role, "password": PASSWORD}
            )
            assert answer.status == 200, answer
            self.tokens[role] = answer.json["token"]
        return self.tokens[role]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path, web={"port": 0}, media={"http_port_first": 18100}) as opened:
        yield opened


@pytest.fixture
async def site(rig: Rig) -> AsyncIterator[Site]:
    listener = await serve(rig.config, rig.actions)
    async with aiohttp.ClientSession() as http:
        yield Site(rig, listener, http)
    await listener.close()
