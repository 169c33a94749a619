from dataclasses import replace

import pytest

from tests.contract.samples import START_US, user
from vsp.errors import Conflict, NotFound
from vsp.model.ids import DepartmentId, UserId, UtcMicros
from vsp.model.people import Role
from vsp.ports import WebSession
from vsp.store import Store

HASH = "$argon2id$v=19$m=65536,t=3,p=4$c2FsdA$aGFzaA"


def session(number: int = 1, **changes) -> WebSession:
    made = WebSession(
        token_hash=f"{number:064x}",
        user_id=UserId("u1"),
        created_at_us=UtcMicros(START_US),
        seen_at_us=UtcMicros(START_US),
        expires_at_us=UtcMicros(START_US + 1_000),
        address="192.0.2.50",
    )
    return replace(made, **changes)


async def test_a_user_is_found_by_id_and_by_name_in_any_case(store: Store):
    made = user(department_id=DepartmentId("d1"))
    await store.people.add_user(made, HASH)

    assert await store.people.user(made.id) == made
    assert await store.people.user_by_name(" oPERATOR1 ") == (made, HASH)
    assert await store.people.user_by_name("operator") is None
    assert await store.people.user_by_name("\x00" * 5_000) is None
    assert await store.people.users() == [made]
    with pytest.raises(NotFound):
        await store.people.user(UserId("nobody"))


async def test_a_name_that_differs_in_case_only_is_taken(store: Store):
    await store.people.add_user(user(), HASH)

    with pytest.raises(Conflict, match="OPERATOR1"):
        await store.people.add_user(user(2, name="OPERATOR1"), HASH)

    assert len(await store.people.users()) == 1


async def test_users_are_listed_by_name(store: Store):
    for number in (3, 1, 2):
        await store.people.add_user(user(number), HASH)

    assert [each.name for each in await store.people.users()] == [
        "Operator1",
        "Operator2",
        "Operator3",
    ]


async def test_password_role_and_state_change(store: Store):
    await store.people.add_user(user(), HASH)

    await store.people.set_password(UserId("u1"), "other", False)
    changed = await store.people.set_user(UserId("u1"), enabled=False, role=Role.AUDITOR)

    found = await store.people.user_by_name("operator1")
    assert found == (changed, "other")
    assert (changed.enabled, changed.role) == (False, Role.AUDITOR)
    assert not changed.must_change_password
    assert await store.people.set_user(UserId("u1")) == changed
    with pytest.raises(NotFound):
        await store.people.set_user(UserId("nobody"), enabled=True)
    with pytest.raises(NotFound):
        await store.people.set_password(UserId("nobody"), "x", True)


async def test_a_session_comes_with_its_user(store: Store):
    await store.people.add_user(user(), HASH)
    await store.people.save_session(session())

    assert await store.people.session(session().token_hash) == (session(), user())
    assert await store.people.session("0" * 64) is None


async def test_a_session_needs_a_user(store: Store):
    with pytest.raises(Conflict):
        await store.people.save_session(session())


async def test_touching_moves_forward_only(store: Store):
    await store.people.add_user(user(), HASH)
    await store.people.save_session(session())

    for at in (START_US + 50, START_US + 20):
        await store.people.touch_session(session().token_hash, UtcMicros(at))

    found = await store.people.session(session().token_hash)
    assert found is not None
    assert found[0].seen_at_us == START_US + 50


async def test_sessions_end_by_token_by_user_and_by_disabling(store: Store):
    for number in (1, 2):
        await store.people.add_user(user(number), HASH)
    owners = {1: "u1", 2: "u1", 3: "u2", 4: "u2"}
    for number, owner in owners.items():
        await store.people.save_session(session(number, user_id=UserId(owner)))

    async def alive() -> list[int]:
        return [
            number
            for number in owners
            if await store.people.session(session(number).token_hash) is not None
        ]

    await store.people.end_sessions()
    assert await alive() == [1, 2, 3, 4]
    await store.people.end_sessions(token_hash=session(1).token_hash, user_id=UserId("u2"))
    assert await alive() == [1, 2, 3, 4], "both must match"
    await store.people.end_sessions(token_hash=session(1).token_hash)
    assert await alive() == [2, 3, 4]
    await store.people.end_sessions(user_id=UserId("u1"))
    assert await alive() == [3, 4]
    await store.people.set_user(UserId("u2"), enabled=False)
    assert await alive() == []


async def test_sessions_that_ran_out_go_when_a_new_one_comes(store: Store):
    await store.people.add_user(user(), HASH)
    await store.people.save_session(session(1))

    late = UtcMicros(START_US + 5_000)
    await store.people.save_session(session(2, seen_at_us=late, expires_at_us=late))

    assert await store.people.session(session(1).token_hash) is None
    assert await store.people.session(session(2).token_hash) is not None


async def test_failures_count_since_the_last_success(store: Store):
    async def tried(name: str, ok: bool, at: int) -> None:
        await store.people.note_sign_in(name, "::1", ok, UtcMicros(START_US + at))

    async def failed(name: str, since: int = 0) -> int:
        return await store.people.failed_sign_ins(name, UtcMicros(START_US + since))

    for at in (1, 2, 3):
        await tried("Op", False, at)
    await tried("other", False, 3)
    assert await failed("oP ") == 3
    assert await failed("op", since=2) == 2
    assert await failed("op", since=4) == 0

    await tried("op", True, 5)
    assert await failed("op") == 0
    await tried("op", False, 5)
    assert await failed("op") == 1
    assert await failed("other") == 1
    assert await failed("nobody") == 0


async def test_old_tries_are_forgotten(store: Store):
    await store.people.note_sign_in("op", "::1", False, UtcMicros(START_US))

    month = 31 * 24 * 3600 * 1_000_000
    await store.people.note_sign_in("x", "::1", False, UtcMicros(START_US + month))

    assert await store.people.failed_sign_ins("op", UtcMicros(0)) == 0
