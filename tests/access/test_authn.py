"""Sign-in and sessions over the real store."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.actions.rig import PASSWORD, Rig
from tests.actions.rig import rig as open_rig
from vsp.access.authn import SignInNeeded, clean_name, hash_token
from vsp.errors import Denied, Invalid
from vsp.model.people import Role

WRONG = "eight blue bicycles"
HERE = "192.0.2.50"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path) as opened:
        yield opened


async def test_an_empty_database_gets_one_administrator_whose_password_is_told_once(rig: Rig):
    made = await rig.actions.authenticator.ensure_first_admin()

    assert made is not None
    name, password = made
    assert name == "admin"
    assert (await rig.sign_in(name, password)).user.role is Role.ADMIN
    assert await rig.actions.authenticator.ensure_first_admin() is None


async def test_the_first_administrator_may_work_at_once(rig: Rig):
    name, password = await rig.actions.authenticator.ensure_first_admin()

    actor = await rig.sign_in(name, password)

    assert not actor.user.must_change_password
    assert (await rig.actions.overview.counts(actor)).devices == 0


@pytest.mark.parametrize("password", ["admin", "password", "123456", "", "vsp", "changeme"])
async def test_no_common_password_opens_a_fresh_installation(rig: Rig, password: str):
    await rig.actions.authenticator.ensure_first_admin()

    with pytest.raises(SignInNeeded):
        await rig.sign_in("admin", password)


async def test_a_token_is_stored_only_as_its_hash(rig: Rig):
    await rig.user(Role.OPERATOR)
    signed_in = await rig.actions.authenticator.sign_in("operator", PASSWORD, HERE)

    database = (rig.config.data_dir / "vsp.sqlite").read_bytes()
    wal = rig.config.data_dir / "vsp.sqlite-wal"
    stored = database + (wal.read_bytes() if wal.exists() else b"")

    assert signed_in.session.token_hash == hash_token(signed_in.token)
    assert hash_token(signed_in.token).encode() in stored
    assert signed_in.token.encode() not in stored
    assert PASSWORD.encode() not in stored


async def test_a_token_leads_to_its_user(rig: Rig):
    await rig.user(Role.OPERATOR)
    signed_in = await rig.actions.authenticator.sign_in("operator", PASSWORD, HERE)

    actor, session = await rig.actions.authenticator.actor_of(signed_in.token, "192.0.2.51")

    assert actor.user.name == "operator"
    assert actor.address == "192.0.2.51"
    assert session.address == HERE


@pytest.mark.parametrize("token", ["", "0" * 64, "é\ud800", "' OR 1=1 --"])
async def test_a_foreign_token_leads_nowhere(rig: Rig, token: str):
    with pytest.raises(SignInNeeded):
        await rig.actions.authenticator.actor_of(token, HERE)


async def test_every_refusal_reads_the_same(rig: Rig):
    admin = await rig.user(Role.ADMIN)
    off = await rig.user(Role.OPERATOR, "off")
    await rig.actions.accounts.set_user(admin, off.user.id, enabled=False)
    words = set()

    for name, password in (("admin", WRONG), ("nobody", WRONG), ("off", PASSWORD), ("", "")):
        with pytest.raises(SignInNeeded) as refused:
            await rig.sign_in(name, password)
        words.add((refused.value.message, refused.value.cause, refused.value.next_step))

    assert len(words) == 1


async def test_a_name_locks_after_five_failures_and_opens_after_fifteen_minutes(rig: Rig):
    await rig.user(Role.OPERATOR)
    for _ in range(5):
        with pytest.raises(SignInNeeded):
            await rig.sign_in("operator", WRONG)

    with pytest.raises(SignInNeeded):
        await rig.sign_in("operator")
    rig.clock.pass_s(899)
    with pytest.raises(SignInNeeded):
        await rig.sign_in("operator")
    rig.clock.pass_s(2)

    assert (await rig.sign_in("operator")).user.name == "operator"


async def test_tries_while_locked_do_not_prolong_the_lock(rig: Rig):
    await rig.user(Role.OPERATOR)
    for _ in range(5):
        with pytest.raises(SignInNeeded):
            await rig.sign_in("operator", WRONG)
    for _ in range(10):
        rig.clock.pass_s(80)
        with pytest.raises(SignInNeeded):
            await rig.sign_in("operator", WRONG)

    rig.clock.pass_s(101)

    assert await rig.sign_in("operator")


async def test_a_success_forgives_earlier_failures(rig: Rig):
    await rig.user(Role.OPERATOR)
    for _ in range(3):
        for _ in range(4):
            with pytest.raises(SignInNeeded):
                await rig.sign_in("operator", WRONG)
        await rig.sign_in("operator")


async def test_a_burst_of_tries_does_not_outrun_the_lock(rig: Rig):
    await rig.user(Role.OPERATOR)

    results = await asyncio.gather(
        *(rig.sign_in("operator", WRONG) for _ in range(12)), rig.sign_in("operator"),
        return_exceptions=True,
    )  # fmt: skip

    tried = await rig.store.people.failed_sign_ins("operator", rig.clock.now_us() - 10_000_000)
    assert all(isinstance(result, SignInNeeded) for result in results)
    assert tried <= 5


async def test_names_are_found_however_they_are_typed(rig: Rig):
    await rig.user(Role.OPERATOR, "张伟")
    await rig.user(Role.OPERATOR, "li.na")

    assert (await rig.sign_in("  张伟 ")).user.name == "张伟"
    assert (await rig.sign_in("ＬＩ.na")).user.name == "li.na"
    assert clean_name("x" * 1000) == "x" * 64


async def test_an_idle_session_ends(rig: Rig):
    await rig.user(Role.OPERATOR)
    authenticator = rig.actions.authenticator
    token = (await authenticator.sign_in("operator", PASSWORD, HERE)).token

    for _ in range(3):
        rig.clock.pass_s(1700)
        await authenticator.actor_of(token, HERE)
    rig.clock.pass_s(1800)

    with pytest.raises(SignInNeeded):
        await authenticator.actor_of(token, HERE)


async def test_a_busy_session_ends_at_its_age(rig: Rig):
    await rig.user(Role.OPERATOR)
    authenticator = rig.actions.authenticator
    signed_in = await authenticator.sign_in("operator", PASSWORD, HERE)

    for _ in range(28):
        rig.clock.pass_s(1500)
        _, session = await authenticator.actor_of(signed_in.token, HERE)
    assert authenticator.ends_at_us(session) == signed_in.session.expires_at_us
    rig.clock.pass_s(1300)

    with pytest.raises(SignInNeeded):
        await authenticator.actor_of(signed_in.token, HERE)


async def test_asking_after_a_session_is_not_using_it(rig: Rig):
    actor = await rig.user(Role.OPERATOR)

    rig.clock.pass_s(1000)
    await rig.actions.authenticator.session(actor.session_id)
    rig.clock.pass_s(900)

    with pytest.raises(SignInNeeded):
        await rig.actions.authenticator.session(actor.session_id)


async def test_changing_the_password_ends_every_other_session(rig: Rig):
    other = await rig.user(Role.OPERATOR)
    mine = await rig.sign_in("operator")

    await rig.actions.accounts.change_password(mine, PASSWORD, "nine amber lanterns")

    await rig.actions.authenticator.session(mine.session_id)
    with pytest.raises(SignInNeeded):
        await rig.actions.authenticator.session(other.session_id)
    assert await rig.sign_in("operator", "nine amber lanterns")


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (WRONG, "nine amber lanterns", Denied),
        (PASSWORD, "short", Invalid),
        (PASSWORD, "operator", Invalid),
        (PASSWORD, PASSWORD, Invalid),
    ],
)
async def test_a_password_is_not_changed_without_the_old_or_to_a_weak_or_equal_one(
    rig: Rig, old: str, new: str, error: type[Exception]
):
    actor = await rig.user(Role.OPERATOR)

    with pytest.raises(error):
        await rig.actions.accounts.change_password(actor, old, new)

    assert await rig.sign_in("operator")


async def test_a_stolen_session_cannot_guess_the_old_password_for_ever(rig: Rig):
    actor = await rig.user(Role.OPERATOR)
    for _ in range(5):
        with pytest.raises(Denied):
            await rig.actions.accounts.change_password(actor, WRONG, "nine amber lanterns")

    with pytest.raises(Denied):
        await rig.actions.accounts.change_password(actor, PASSWORD, "nine amber lanterns")
