"""The table of routes, walked: as nobody, as each role, with every id unknown."""

import re

import pytest

from tests.web.conftest import Site
from vsp.access.policy import RIGHTS
from vsp.model.people import Action, Role
from vsp.web.routes import PREFIX, ROUTES, Public, Route

PUBLIC = {("GET", f"{PREFIX}/health"), ("POST", f"{PREFIX}/session")}


WITHOUT_ROUTE = {Action.STORE_MEND}
"""Only audited: the platform mends by itself, and `vsp check --mend` beside it."""


def concrete(route: Route) -> str:
    return re.sub(r"\{\w+\}", "34020000001320000001", route.path)


def test_only_sign_in_and_health_are_public():
    public = {(route.method, route.path) for route in ROUTES if isinstance(route.access, Public)}

    assert public == PUBLIC
    assert all(route.access.reason for route in ROUTES if isinstance(route.access, Public))


def test_every_action_guards_some_route():
    guarding = {route.access for route in ROUTES if isinstance(route.access, Action)}

    assert guarding == set(Action) - WITHOUT_ROUTE


@pytest.mark.parametrize("access", [None, "", "list", True])
def test_a_route_without_an_action_cannot_be_made(access: object):
    with pytest.raises(TypeError, match="names neither an Action"):
        Route("GET", "/api/v1/x", access, ROUTES[0].handler, "")


@pytest.mark.parametrize("path", ["api", "/api/{id:.*}/x y", "/API", "/a?b"])
def test_a_path_outside_the_grammar_cannot_be_made(path: str):
    with pytest.raises(ValueError, match="not a path"):
        Route("GET", path, Action.LIST, ROUTES[0].handler, "")


def test_names_and_paths_are_unique():
    assert len({route.name for route in ROUTES}) == len(ROUTES)
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)


def test_the_application_serves_the_table_and_the_console_and_nothing_else(site: Site):
    served = {
        (route.method, route.resource.canonical)
        for route in site.listener.runner.app.router.routes()
        if route.resource is not None
    }

    table = {(route.method, route.path) for route in ROUTES}
    assert served - table == {("GET", "/{path}"), ("HEAD", "/{path}")}
    assert table <= served


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"},
                                     {"Authorization": "Basic YWRtaW46YWRtaW4="},
                                     {"Cookie": "__Host-vsp=nonsense"}])  # fmt: skip
async def test_nobody_reaches_anything_but_sign_in_and_health(site: Site, headers: dict[str, str]):
    for route in ROUTES:
        sent = {**headers, "X-Requested-With": "vsp", "Origin": site.listener.url.rstrip("/")}
        answer = await site.ask(route.method, concrete(route), headers=sent, json={})

        if (route.method, route.path) not in PUBLIC:
            assert answer.status == 401, (route, answer)
            assert answer.json["kind"] == "denied"


@pytest.mark.parametrize("role", Role)
async def test_each_role_is_refused_exactly_where_its_actions_end(site: Site, role: Role):
    for route in ROUTES:
        if isinstance(route.access, Public) or route.upgrade or route.path.endswith("/session"):
            continue
        answer = await site.ask(route.method, concrete(route), who=role.value, json={"unknown": 1})

        if route.access in RIGHTS[role]:
            assert answer.status not in (401, 403), (route, answer)
        else:
            assert answer.status == 403, (route, answer)
            assert answer.json["cause"]


async def test_who_must_change_the_password_may_do_nothing_else(site: Site):
    await site.rig.user(Role.ADMIN, "fresh", must_change_password=True)
    signed_in = await site.ask(
        "POST", "/api/v1/session", json={"user": "fresh", "password": "seven green bicycles"}
    )
    site.tokens["fresh"] = signed_in.json["token"]

    assert signed_in.json["user"]["must_change_password"]
    for route in ROUTES:
        if isinstance(route.access, Public) or route.access is Action.OWN_SESSION:
            continue
        answer = await site.ask(route.method, concrete(route), who="fresh", json={})
        assert answer.status == 403, (route, answer)
        assert "password" in answer.json["next_step"]


async def test_a_refused_request_is_audited_with_its_route(site: Site):
    await site.api("GET", "/users", who="operator")

    assert (await site.rig.audited())[-1] == (
        "ended",
        "operator",
        "user_manage",
        "GET /api/v1/users",
        "denied",
    )


@pytest.mark.parametrize("route", [r for r in ROUTES if "{id}" in r.path], ids=lambda r: r.name)
async def test_an_unknown_id_is_not_found_and_says_nothing_more(site: Site, route: Route):
    body = {"start": "2026-11-22T08:00:00Z"} if route.path.endswith("playback") else {}
    query = "?from=2026-11-22T08:00:00Z&to=2026-11-22T09:00:00Z" if route.query else ""
    if route.query and "from_" not in route.query.model_fields:
        query = ""
    words = set()

    for unknown in ("34020000001329999999", "0" * 28, "..%2f..%2fetc%2fpasswd", "%00", "频道"):
        path = route.path.replace("{id}", unknown)
        answer = await site.ask(route.method, path + query, who="admin", json=body)
        assert answer.status == 404, answer
        words.add(answer.text)

    assert len(words) == 1
