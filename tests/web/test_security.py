"""Cookie, CSRF, headers, addresses, limits."""

import pytest

from tests.actions.rig import PASSWORD, HandClock
from tests.web.conftest import Site
from vsp.config import Config
from vsp.errors import Exhausted
from vsp.model.people import Role
from vsp.web import security
from vsp.web.security import FAILURES_MAX, AddressLimiter, media_origins

CSRF = {"X-Requested-With": "vsp"}


async def cookie(site: Site) -> dict[str, str]:
    await site.rig.user(Role.ADMIN)
    answer = await site.ask("POST", "/api/v1/session", json={"user": "admin", "password": PASSWORD})
    name, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
    return {"Cookie": f"{name}={value}"}


async def test_the_cookie_is_for_this_host_over_tls_and_out_of_reach_of_scripts(site: Site):
    await site.rig.user(Role.ADMIN)
    answer = await site.ask("POST", "/api/v1/session", json={"user": "admin", "password": PASSWORD})

    attributes = {part.strip().lower() for part in answer.headers["Set-Cookie"].split(";")[1:]}
    assert answer.headers["Set-Cookie"].startswith(f"__Host-vsp={answer.json['token']};")
    assert {"secure", "httponly", "samesite=strict", "path=/", "max-age=43200"} <= attributes
    assert not any(part.startswith("domain") for part in attributes)


async def test_a_cookie_reads_without_and_writes_only_with_the_header(site: Site):
    sent = await cookie(site)
    body = {"json": {"gb_id": "34020000001320000001", "password": "x7Kd92mP"}}

    assert (await site.ask("GET", "/api/v1/devices", headers=sent)).status == 200
    refused = await site.ask("POST", "/api/v1/devices", headers=sent, **body)
    taken = await site.ask("POST", "/api/v1/devices", headers={**sent, **CSRF}, **body)

    assert (refused.status, refused.json["kind"]) == (403, "denied")
    assert taken.status == 201


async def test_every_changing_route_refuses_a_cookie_without_the_header(site: Site):
    from vsp.web.routes import ROUTES, Public

    sent = await cookie(site)
    for route in ROUTES:
        if route.method != "GET" and not isinstance(route.access, Public):
            path = route.path.replace("{id}", "34020000001320000001")
            answer = await site.ask(route.method, path, headers=sent, json={})
            assert answer.status == 403, route


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_a_request_from_another_site_is_refused_even_with_the_header(site: Site, origin: str):
    sent = {**await cookie(site), **CSRF, "Origin": origin}

    for method, path in (("GET", "/devices"), ("DELETE", "/session")):
        assert (await site.ask(method, f"/api/v1{path}", headers=sent)).status == 403


async def test_a_bearer_token_needs_no_header(site: Site):
    answer = await site.api(
        "POST", "/devices", json={"gb_id": "34020000001320000001", "password": "x7Kd92mP"}
    )

    assert answer.status == 201


async def test_signing_out_drops_the_cookie_and_the_session(site: Site):
    sent = await cookie(site)

    answer = await site.ask("DELETE", "/api/v1/session", headers={**sent, **CSRF})

    assert answer.status == 204
    assert "max-age=0" in answer.headers["Set-Cookie"].lower()
    assert (await site.ask("GET", "/api/v1/session", headers=sent)).status == 401


@pytest.mark.parametrize("path", ["/api/v1/health", "/api/v1/devices", "/nothing.js", "/"])
async def test_every_answer_carries_the_security_headers(site: Site, path: str):
    headers = (await site.ask("GET", path)).headers

    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Server"] == "vsp"
    assert "Strict-Transport-Security" not in headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "connect-src 'self' ws://127.0.0.1:18100" in policy
    assert "media-src 'self' blob:" in policy
    assert "unsafe-eval" not in policy
    assert "script-src" not in policy
    assert len(headers["X-Request-Id"]) == 16


async def test_nothing_of_the_api_is_cached_or_shared_across_origins(site: Site):
    answer = await site.ask("GET", "/api/v1/health", headers={"Origin": "https://evil.example"})

    assert answer.headers["Cache-Control"] == "no-store"
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]


def configured(**sections: object) -> Config:
    return Config.model_validate({"node": {"workers": 2}, **sections})


@pytest.mark.parametrize(
    ("sections", "origins"),
    [
        ({}, ["ws://127.0.0.1:18100", "ws://127.0.0.1:18101"]),
        ({"media": {"http_port_first": 0}}, ["ws://127.0.0.1:*"]),
        (
            {"media": {"http_host": "192.0.2.1"}},
            ["wss://192.0.2.1:18100", "wss://192.0.2.1:18101"],
        ),
        ({"media": {"http_host": "0.0.0.0"}}, ["wss://*:18100", "wss://*:18101"]),
        (
            {"media": {"http_host": "0.0.0.0", "http_advertised_host": "video.example"}},
            ["wss://video.example:18100", "wss://video.example:18101"],
        ),
        ({"media": {"http_host": "::1"}}, ["ws://*:18100", "ws://*:18101"]),
        ({"web": {"behind_proxy": True}}, []),
    ],
)
def test_the_page_may_connect_to_the_workers_and_nowhere_else(sections: dict, origins: list[str]):
    assert media_origins(configured(**sections)) == origins


# ---- how often ------------------------------------------------------------------------------


async def test_an_address_that_keeps_failing_has_to_wait(site: Site):
    await site.rig.user(Role.ADMIN)
    wrong = {"json": {"user": "guess", "password": "wrong"}}
    statuses = [
        (await site.ask("POST", "/api/v1/session", **wrong)).status for _ in range(FAILURES_MAX + 2)
    ]

    assert statuses == [401] * FAILURES_MAX + [429] * 2
    right = {"json": {"user": "admin", "password": PASSWORD}}
    assert (await site.ask("POST", "/api/v1/session", **right)).status == 429
    site.rig.clock.pass_s(6.1)
    assert (await site.ask("POST", "/api/v1/session", **right)).status == 200


async def test_successes_are_not_counted(site: Site):
    await site.rig.user(Role.ADMIN)
    for _ in range(FAILURES_MAX * 2):
        answer = await site.ask(
            "POST", "/api/v1/session", json={"user": "admin", "password": PASSWORD}
        )
        assert answer.status == 200


def test_a_whole_ipv6_network_is_one_address():
    limiter = AddressLimiter(HandClock())
    for number in range(FAILURES_MAX):
        limiter.take(f"2001:db8::{number:x}")

    with pytest.raises(Exhausted):
        limiter.take("2001:db8::ffff")
    limiter.take("2001:db8:0:1::1")


def test_the_table_of_addresses_is_bounded(monkeypatch):
    monkeypatch.setattr(security, "ADDRESSES_MAX", 3)
    limiter = AddressLimiter(HandClock())
    for number in range(10):
        limiter.take(f"192.0.2.{number}")

    assert len(limiter._buckets) == 3


async def test_a_forwarded_address_is_believed_only_from_a_declared_proxy(site: Site):
    await site.rig.user(Role.ADMIN)
    await site.ask(
        "POST",
        "/api/v1/session",
        json={"user": "admin", "password": PASSWORD},
        headers={"X-Forwarded-For": "203.0.113.9"},
    )

    from vsp.ports import PageRequest

    rows = (await site.rig.store.audit.rows(PageRequest(1))).items
    assert rows[0].address == "127.0.0.1"


def test_behind_a_proxy_its_own_entry_counts_and_a_forged_one_does_not():
    from aiohttp.test_utils import make_mocked_request

    from vsp.web.security import client_address

    def address(header: str) -> str:
        headers = {"X-Forwarded-For": header} if header else {}
        return client_address(make_mocked_request("GET", "/", headers=headers), True)

    assert address("198.51.100.1, 203.0.113.9") == "203.0.113.9"
    assert address("not an address") == address("")
