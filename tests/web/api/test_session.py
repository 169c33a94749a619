"""Signing in by HTTP, as browsers and programs do."""

import pytest

from tests.actions.rig import PASSWORD
from tests.web.conftest import Site
from vsp.model.people import Role

NEW = "nine amber lanterns"


async def test_signing_in_gives_a_token_an_end_and_the_user(site: Site):
    await site.rig.user(Role.OPERATOR)

    answer = await site.ask(
        "POST", "/api/v1/session", json={"user": "operator", "password": PASSWORD, "totp": "1"}
    )

    assert answer.status == 200
    assert answer.json["expires_at"] == "2026-11-18T11:36:40.000Z"
    assert answer.json["user"]["role"] == "operator"
    assert answer.json["user"]["must_change_password"] is False
    assert "password" not in answer.json["user"]
    site.tokens["operator"] = answer.json["token"]
    shown = await site.api("GET", "/session", who="operator")
    assert shown.json == {"user": answer.json["user"], "expires_at": answer.json["expires_at"]}


async def test_a_refused_sign_in_is_401_and_tells_how_to_authenticate(site: Site):
    answer = await site.ask("POST", "/api/v1/session", json={"user": "admin", "password": "x"})

    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "Set-Cookie" not in answer.headers
    assert answer.json["kind"] == "denied"


@pytest.mark.parametrize(
    "body", [{}, {"user": "a"}, {"user": "a" * 300, "password": "b"}, {"user": 1, "password": "b"}]
)
async def test_a_sign_in_that_is_none_is_invalid(site: Site, body: dict):
    assert (await site.ask("POST", "/api/v1/session", json=body)).status == 400


async def test_sign_ins_are_counted_by_result(site: Site):
    await site.token("admin")
    await site.ask("POST", "/api/v1/session", json={"user": "admin", "password": "x"})

    text = (await site.api("GET", "/metrics")).text

    assert 'vsp_sign_ins_total{result="ok"} 1.0' in text
    assert 'vsp_sign_ins_total{result="refused"} 1.0' in text


async def test_one_changes_ones_password_and_stays_signed_in(site: Site):
    await site.token("operator")

    changed = await site.api(
        "POST", "/session/password", who="operator", json={"old": PASSWORD, "new": NEW}
    )

    assert (changed.status, changed.text) == (204, "")
    assert (await site.api("GET", "/session", who="operator")).status == 200
    old = {"user": "operator", "password": PASSWORD}
    assert (await site.ask("POST", "/api/v1/session", json=old)).status == 401


async def test_a_token_is_dead_after_signing_out(site: Site):
    await site.token("operator")

    assert (await site.api("DELETE", "/session", who="operator")).status == 204

    assert (await site.api("GET", "/session", who="operator")).status == 401
