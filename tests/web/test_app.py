"""The edge: errors, bodies, static files, listening."""

import asyncio
import gzip
import json
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.actions.rig import Rig
from tests.web.conftest import Site
from vsp.access.scope import Access
from vsp.actions.attempts import LegFailed
from vsp.errors import KINDS, Conflict, Invalid
from vsp.model.stream import Leg
from vsp.web import app as app_module
from vsp.web import body as body_module
from vsp.web.app import STATUS_OF_KIND, serve, tls_files

GB_ID = "34020000001320000001"


def test_every_kind_of_error_has_a_status():
    assert STATUS_OF_KIND.keys() == {kind.kind for kind in KINDS}


# ---- errors ---------------------------------------------------------------------------------


async def test_health_tells_anybody_version_and_time(site: Site):
    answer = await site.ask("GET", "/api/v1/health")

    assert answer.status == 200
    assert answer.json == {"status": "ok", "version": "0.1.0", "now": "2026-11-18T11:06:40.000Z"}


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/api/v1/nothing", 404, "not_found"),
        ("POST", "/api/v1/nothing", 404, "not_found"),
        ("GET", "/api", 404, "not_found"),
        ("GET", "/api/v2/devices", 404, "not_found"),
        ("PUT", "/api/v1/health", 405, "invalid"),
        ("POST", "/", 405, "invalid"),
    ],
)
async def test_a_wrong_path_or_method_is_told_like_any_error(
    site: Site, method: str, path: str, status: int, kind: str
):
    answer = await site.ask(method, path)

    assert (answer.status, answer.json["kind"]) == (status, kind)
    assert answer.json.keys() == {"kind", "message", "cause", "next_step"}


async def test_an_error_of_a_leg_reaches_the_client_with_cause_and_next_step(site: Site):
    channel = await site.rig.channel()
    site.rig.streams.failure = LegFailed(Leg.DEVICE_OFFLINE, "offline for 90 s")

    answer = await site.api("POST", f"/channels/{channel.id}/live")

    assert answer.status == 503
    assert answer.json["kind"] == "unavailable"
    assert answer.json["cause"] == "device_offline: offline for 90 s"
    assert answer.json["next_step"]


async def test_a_fault_of_ours_is_logged_and_tells_only_its_number(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    await site.token("admin")

    def broken(self: Access, *args: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(Access, "decision", broken)
    answer = await site.api("GET", "/devices")

    assert answer.status == 500
    assert answer.json["kind"] == "internal"
    assert "secret detail" not in answer.text
    assert answer.json["next_step"] == answer.headers["X-Request-Id"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        (b'"text"', "body"),
        (b"\xff\xfe", "body"),
        (b"{}", "gb_id"),
        (b'{"gb_id":"1","password":"2","surplus":3}', "surplus"),
        (b'{"gb_id":1,"password":"2"}', "gb_id"),
        (b'{"gb_id":"1","password":"2","transport":"pigeon"}', "transport"),
        (b'{"gb_id":"%s","password":"2"}' % (b"1" * 100), "gb_id"),
        (b"[" * 50_000, "body"),
    ],
)
async def test_a_bad_body_is_refused_naming_the_field_and_never_echoed(
    site: Site, body: bytes, field: str
):
    answer = await site.api("POST", "/devices", data=body)

    assert (answer.status, answer.json["kind"]) == (400, "invalid")
    assert field in answer.json["message"]
    assert len(answer.text) < 500


@pytest.mark.parametrize(
    "query", ["size=0", "size=501", "size=x", "after=%00", "after=AAAA", "presence=gone", "nope=1"]
)
async def test_a_bad_query_is_refused(site: Site, query: str):
    answer = await site.api("GET", f"/devices?{query}")

    assert (answer.status, answer.json["kind"]) == (400, "invalid")


async def test_an_empty_query_value_counts_as_absent(site: Site):
    assert (await site.api("GET", "/devices?q=&presence=&after=")).status == 200


async def test_a_body_is_cut_off_at_its_limit(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(body_module, "BODY_BYTES_MAX", 1000)
    limit = body_module.read_model.__defaults__[0]
    fits = b'{"gb_id":"%s","password":""}' % GB_ID.encode()

    at_limit = await site.api("POST", "/devices", data=fits.ljust(limit))
    beyond = await site.api("POST", "/devices", data=fits.ljust(limit + 1))

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(limit // 1000 + 2):
            yield b" " * 1000

    chunked = await site.api("POST", "/devices", data=pieces())

    assert at_limit.status == 400
    assert (beyond.status, beyond.json["kind"]) == (413, "exhausted")
    assert chunked.status == 413


async def test_a_slow_body_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(body_module, "READ_TIMEOUT_S", 0.05)
    go_on = asyncio.Event()

    async def pieces() -> AsyncIterator[bytes]:
        yield b"{"
        await go_on.wait()

    asking = asyncio.create_task(site.api("POST", "/devices", data=pieces()))
    answer = await asking
    go_on.set()

    assert (answer.status, answer.json["kind"]) == (503, "unavailable")


async def test_a_compressed_bomb_does_not_pass_the_limit(site: Site):
    bomb = gzip.compress(b" " * (20 << 20))

    answer = await site.api("POST", "/devices", data=bomb, headers={"Content-Encoding": "gzip"})

    assert answer.status == 413


@pytest.mark.parametrize("text", ["'", "' OR 1=1 --", "%", "_", "\\", "\x00", "😀", "a" * 100])
async def test_a_search_is_only_ever_text(site: Site, text: str):
    await site.rig.channel()

    for path in ("/devices", "/channels"):
        answer = await site.api("GET", path, params={"q": text})
        assert answer.status in (200, 400), answer
        assert answer.status == 400 or answer.json["items"] == []


# ---- the console's files --------------------------------------------------------------------


@pytest.fixture
async def console(rig: Rig, tmp_path: Path) -> AsyncIterator[Site]:
    """A site whose console is three files, beside one that is nobody's business."""
    root = tmp_path / "static"
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_text("<title>vsp</title>")
    (root / "assets" / "main-1a2b.js").write_text("1")
    (root / ".gitkeep").write_text("")
    (tmp_path / "secret.txt").write_text("the secret")
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    listener = await serve(rig.config, rig.actions, root)
    async with aiohttp.ClientSession() as http:
        yield Site(rig, listener, http)
    await listener.close()


async def test_the_console_is_there_for_anybody(console: Site):
    index = await console.ask("GET", "/")
    page = await console.ask("GET", "/devices/34020000001320000001")
    script = await console.ask("GET", "/assets/main-1a2b.js")

    assert index.text == page.text == "<title>vsp</title>"
    assert index.headers["Cache-Control"] == "no-cache"
    assert "immutable" in script.headers["Cache-Control"]
    assert "javascript" in script.headers["Content-Type"]


@pytest.mark.parametrize(
    "path",
    ["/assets/gone.js", "/favicon.ico", "/.gitkeep", "/link.txt", "/%2e%2e/secret.txt",
     "/..%2fsecret.txt", "/assets/%2e%2e/%2e%2e/secret.txt", "/..%5csecret.txt", "/%00.txt",
     "//etc/passwd.txt", "/%c0%ae%c0%ae/secret.txt"],
)  # fmt: skip
async def test_nothing_outside_the_console_is_served(console: Site, path: str):
    url = URL(f"{console.listener.url.rstrip('/')}{path}", encoded=True)

    async with console.http.get(url) as answer:
        assert answer.status in (400, 404)
        assert "the secret" not in await answer.text()


async def test_a_console_that_is_not_built_says_so(rig: Rig, tmp_path: Path):
    listener = await serve(rig.config, rig.actions, tmp_path / "nothing")
    async with aiohttp.ClientSession() as http:
        answer = await Site(rig, listener, http).ask("GET", "/")
    await listener.close()

    assert (answer.status, answer.json["message"]) == (404, "the console is not built")


# ---- the news feed of the listener, and its port --------------------------------------------


async def test_a_taken_port_names_its_setting(rig: Rig):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        web = rig.config.web.model_copy(update={"port": other.getsockname()[1]})

        with pytest.raises(Conflict, match=r"web\.port"):
            await serve(rig.config.model_copy(update={"web": web}), rig.actions)


async def test_an_address_that_is_not_ours_names_its_setting(rig: Rig):
    web = rig.config.web.model_copy(update={"host": "192.0.2.1", "tls": "off"})

    with pytest.raises(Invalid, match=r"web\.host"):
        await serve(rig.config.model_copy(update={"web": web}), rig.actions)


async def test_with_tls_the_console_is_https_with_hsts(rig: Rig):
    import time

    rig.clock.us = time.time_ns() // 1000
    web = rig.config.web.model_copy(update={"tls": "on"})
    listener = await serve(rig.config.model_copy(update={"web": web}), rig.actions)
    trust = ssl.create_default_context(cafile=str(rig.config.data_dir / "keys" / "web.crt"))
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"{listener.url}api/v1/health", ssl=trust) as answer,
        ):
            assert answer.status == 200
            assert "max-age" in answer.headers["Strict-Transport-Security"]
            assert "wss://127.0.0.1:18100" in answer.headers["Content-Security-Policy"]
    finally:
        await listener.close()
    assert listener.url.startswith("https://127.0.0.1:")
    assert len(listener.fingerprint) == 95


def test_without_tls_there_is_no_certificate(rig: Rig):
    assert tls_files(rig.config, rig.clock.now_us()) is None


async def test_background_work_is_ended_with_the_listener_and_its_faults_are_logged(rig: Rig):
    listener = await serve(rig.config, rig.actions)
    ended = asyncio.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def faulty() -> None:
        raise ZeroDivisionError

    listener.spawn(endless())
    listener.spawn(faulty())
    await asyncio.sleep(0)
    await listener.close()

    assert ended.is_set()
    assert listener._tasks == set()


def test_the_document_is_json(rig: Rig):
    assert json.loads(json.dumps(app_module.document(app_module.ROUTES, "1")))
