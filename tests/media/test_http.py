"""Who gets in: only the ticket of this very view opens it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.media.rig import running, settings, until, viewer
from vsp.errors import Conflict
from vsp.media import http as module
from vsp.model.ids import ChannelId, UserId, UtcMicros, ViewId


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"view_id": ViewId("v2")}, 403),
        ({"kind": "playback"}, 403),
        ({"channel_id": ChannelId("another")}, 403),
        ({"expires_at_us": UtcMicros(1)}, 403),
        ({}, 101),
    ],
    ids=["another view", "another kind", "another channel", "expired", "good"],
)
async def test_only_the_ticket_of_this_very_view_opens_it(
    tmp_path: Path, changed: dict[str, object], status: int
):
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        url = await rig.open_view("v1")
        await rig.open_view("v2")
        async with aiohttp.ClientSession() as http:
            upgrade = {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                "Authorization": f"Bearer {rig.ticket('v1', **changed)}",
            }
            async with http.get(url.replace("ws:", "http:"), headers=upgrade) as answer:
                assert answer.status == status


async def test_the_ticket_may_come_as_subprotocol_or_as_the_first_frame(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        named, framed = await rig.open_view("v1"), await rig.open_view("v2")
        protocols = ("vsp.ticket." + rig.ticket("v1"),)
        async with viewer(named, protocols=protocols) as watching:
            await until(watching.states)
        async with viewer(framed.replace("/live/", "/m/0/live/")) as watching:
            await watching.say(ticket=rig.ticket("v2"))
            await until(watching.states)

        assert watching.states() == ["signalling"]


async def test_a_wrong_first_frame_gets_an_error_and_nothing_else(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        url = await rig.open_view("v1")
        async with viewer(url) as watching:
            await watching.socket.send_str("hello")
            await until(lambda: watching.closed)

        assert [item["type"] for item in watching.items] == ["error"]  # type: ignore[index]


async def test_a_view_has_one_viewer(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        url = await rig.open_view("v1")
        async with viewer(url, rig.ticket("v1")) as watching:
            await until(watching.states)
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with viewer(url, rig.ticket("v1", user_id=UserId("u2"))):
                    pass
        assert refused.value.status == 409


@pytest.mark.parametrize(
    "frame",
    ['{"ticket":null}', '{"ticket":5}', "[]", '{"ticket":"x"}', "[" * 4000, '{"ticket":' * 300],
)
async def test_no_first_frame_can_do_more_than_be_refused(tmp_path: Path, frame: str):
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        url = await rig.open_view("v1")
        async with viewer(url) as watching:
            await watching.socket.send_str(frame)
            await until(lambda: watching.closed)
        async with viewer(url, rig.ticket("v1")) as good:
            await until(good.states)

        assert watching.texts("error")[0]["kind"] == "denied"


async def test_a_viewer_that_says_nothing_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "TICKET_WAIT_S", 0.05)
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        url = await rig.open_view("v1")
        async with viewer(url) as watching:
            await until(lambda: watching.closed)

        assert "no ticket came" in str(watching.texts("error")[0]["message"])


async def test_only_so_many_may_wait_without_a_ticket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "TICKETLESS_MAX", 1)
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        url = await rig.open_view("v1")
        async with viewer(url) as waiting:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with viewer(url):
                    pass
            await waiting.say(ticket=rig.ticket("v1"))
            await until(waiting.states)

        assert refused.value.status == 403


async def test_answers_say_nothing_of_what_runs_here_and_are_never_cached(tmp_path: Path):
    async with running(settings(tmp_path)) as rig, aiohttp.ClientSession() as http:
        base = f"http://127.0.0.1:{rig.worker.http_port}"
        for path in ("/health", "/", "/live/v1", "/live/../health", "/m/1/live/v1"):
            async with http.get(base + path) as answer:
                assert answer.headers["Server"] == "vsp"
                assert answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_a_taken_port_names_its_setting(tmp_path: Path):
    async with running(settings(tmp_path / "one")) as rig:
        media = {"http_port_first": rig.worker.http_port}
        with pytest.raises(Conflict, match=r"media\.http_port_first"):
            async with running(settings(tmp_path / "two", media=media)):
                pass


async def test_a_viewer_that_vanishes_without_a_word_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.1)
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        url = await rig.open_view("v1")
        host, port = url.removeprefix("ws://").split("/")[0].split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"GET /live/v1?ticket={rig.ticket('v1')} HTTP/1.1\r\nHost: x\r\n"
            "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        await until(lambda: rig.worker._places["v1"].view.attached)  # type: ignore[index]
        await until(lambda: not rig.worker._places)
        writer.close()
