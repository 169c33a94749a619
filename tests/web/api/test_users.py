"""Accounts by HTTP."""

import pytest

from tests.web.conftest import Site

NEW = "nine amber lanterns"


async def test_an_account_is_added_listed_and_disabled(site: Site):
    added = await site.api(
        "POST",
        "/users",
        json={"name": "li.na", "password": NEW, "role": "operator", "must_change_password": False},
    )
    assert added.status == 201
    assert added.json["name"] == "li.na"

    listed = await site.api("GET", "/users")
    assert {user["name"] for user in listed.json["items"]} == {"admin", "li.na"}
    assert listed.json["total"] == 2

    disabled = await site.api("PATCH", f"/users/{added.json['id']}", json={"enabled": False})
    assert disabled.json["enabled"] is False
    body = {"user": "li.na", "password": NEW}
    assert (await site.ask("POST", "/api/v1/session", json=body)).status == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"name": "admin", "password": NEW, "role": "operator"}, 409),
        ({"name": "li.na", "password": "short", "role": "operator"}, 400),
        ({"name": "li.na", "password": NEW, "role": "emperor"}, 400),
        ({"name": "li\nna", "password": NEW, "role": "admin", "id": "x"}, 400),
    ],
)
async def test_what_cannot_be_an_account_is_refused(site: Site, body: dict, status: int):
    assert (await site.api("POST", "/users", json=body)).status == status


async def test_the_last_administrator_stays(site: Site):
    me = (await site.api("GET", "/session")).json["user"]["id"]

    assert (await site.api("PATCH", f"/users/{me}", json={"role": "auditor"})).status == 409


async def test_no_answer_shows_a_password_or_its_hash(site: Site):
    await site.api("POST", "/users", json={"name": "li.na", "password": NEW, "role": "auditor"})

    for path in ("/users", "/audit?size=500", "/session"):
        text = (await site.api("GET", path)).text
        assert NEW not in text
        assert "argon2" not in text
