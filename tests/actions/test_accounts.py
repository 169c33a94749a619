"""Accounts: who may make them, what a change ends, and that nobody is locked out by accident."""

import pytest

from tests.actions.rig import CHANNEL_GB_ID, PASSWORD, Rig
from vsp.access.authn import SignInNeeded
from vsp.errors import Conflict, Denied, Invalid, NotFound
from vsp.model.ids import UserId
from vsp.model.people import Role

NEW = "nine amber lanterns"


async def test_a_sign_in_is_audited_by_name_whether_it_succeeds_or_not(rig: Rig):
    await rig.user(Role.OPERATOR)
    with pytest.raises(SignInNeeded):
        await rig.sign_in("mallory\r\nroot", "x" * 20)

    rows = await rig.audited()

    assert rows[1] == ("ended", "operator", "own_session", "session", "ok")
    assert rows[3][4] == "denied"
    assert "\n" not in rows[3][1]


async def test_an_administrator_adds_users_whose_password_must_be_changed(rig: Rig):
    admin = await rig.user(Role.ADMIN)

    user = await rig.actions.accounts.add_user(
        admin, name="li.na", password=NEW, role=Role.OPERATOR, display_name=" 李娜 "
    )

    assert (user.name, user.display_name, user.must_change_password) == ("li.na", "李娜", True)
    actor = await rig.sign_in("li.na", NEW)
    with pytest.raises(Denied) as refused:
        await rig.actions.overview.counts(actor)
    assert "password" in refused.value.next_step


async def test_after_the_change_the_new_user_may_work(rig: Rig):
    actor = await rig.user(Role.OPERATOR, must_change_password=True)

    await rig.actions.accounts.change_password(actor, PASSWORD, NEW)

    assert await rig.actions.overview.counts(await rig.sign_in("operator", NEW))


@pytest.mark.parametrize(
    ("name", "password", "error"),
    [
        ("x", NEW, Invalid),
        ("has blank", NEW, Invalid),
        ("a" * 33, NEW, Invalid),
        ("<script>", NEW, Invalid),
        ("li.na", "short", Invalid),
        ("li.na", "li.na", Invalid),
        ("ADMIN", NEW, Conflict),
    ],
)
async def test_a_bad_name_a_weak_password_and_a_taken_name_are_refused(
    rig: Rig, name: str, password: str, error: type[Exception]
):
    admin = await rig.user(Role.ADMIN)

    with pytest.raises(error):
        await rig.actions.accounts.add_user(admin, name=name, password=password, role=Role.OPERATOR)

    assert len(await rig.actions.accounts.users(admin)) == 1


@pytest.mark.parametrize("role", [Role.OPERATOR, Role.AUDITOR])
async def test_others_neither_see_nor_make_nor_change_users(rig: Rig, role: Role):
    actor = await rig.user(role)
    accounts = rig.actions.accounts

    with pytest.raises(Denied):
        await accounts.users(actor)
    with pytest.raises(Denied):
        await accounts.add_user(actor, name="eve", password=NEW, role=Role.ADMIN)
    with pytest.raises(Denied):
        await accounts.set_user(actor, actor.user.id, role=Role.ADMIN)


async def test_disabling_a_user_ends_sessions_and_cuts_views_at_once(rig: Rig):
    await rig.channel()
    admin, operator = await rig.user(Role.ADMIN), await rig.user(Role.OPERATOR)
    opened = await rig.actions.views.open_live(operator, CHANNEL_GB_ID)

    await rig.actions.accounts.set_user(admin, operator.user.id, enabled=False)

    assert [view for view, _ in rig.streams.detached] == [opened.view.id]
    with pytest.raises(SignInNeeded):
        await rig.actions.authenticator.session(operator.session_id)
    with pytest.raises(SignInNeeded):
        await rig.sign_in("operator")


async def test_another_role_takes_effect_at_once(rig: Rig):
    admin, operator = await rig.user(Role.ADMIN), await rig.user(Role.OPERATOR)

    changed = await rig.actions.accounts.set_user(admin, operator.user.id, role=Role.AUDITOR)

    assert changed.role is Role.AUDITOR
    with pytest.raises(SignInNeeded):
        await rig.actions.authenticator.session(operator.session_id)


async def test_a_password_set_by_an_administrator_must_be_changed(rig: Rig):
    admin, operator = await rig.user(Role.ADMIN), await rig.user(Role.OPERATOR)

    await rig.actions.accounts.set_user(admin, operator.user.id, password=NEW)

    assert (await rig.sign_in("operator", NEW)).user.must_change_password
    reasons = [row.reason for row in (await _audit(rig))]
    assert "set password" in reasons
    assert not [reason for reason in reasons if NEW in reason]


@pytest.mark.parametrize("change", [{"enabled": False}, {"role": Role.OPERATOR}])
async def test_the_last_administrator_cannot_be_lost(rig: Rig, change: dict):
    admin = await rig.user(Role.ADMIN)

    with pytest.raises(Conflict, match="last administrator"):
        await rig.actions.accounts.set_user(admin, admin.user.id, **change)

    await rig.user(Role.ADMIN, "second")
    assert await rig.actions.accounts.set_user(admin, admin.user.id, **change)


async def test_an_unknown_user_is_not_found(rig: Rig):
    admin = await rig.user(Role.ADMIN)

    with pytest.raises(NotFound):
        await rig.actions.accounts.set_user(admin, UserId("nobody"), enabled=True)


async def test_signing_out_closes_the_views_of_this_session_only(rig: Rig):
    await rig.channel()
    desk = await rig.user(Role.OPERATOR)
    wall = await rig.sign_in("operator")
    mine = await rig.actions.views.open_live(desk, CHANNEL_GB_ID)
    await rig.actions.views.open_live(wall, CHANNEL_GB_ID)

    await rig.actions.accounts.sign_out(desk)

    assert [view for view, _ in rig.streams.detached] == [mine.view.id]
    with pytest.raises(SignInNeeded):
        await rig.actions.authenticator.session(desk.session_id)
    assert await rig.actions.authenticator.session(wall.session_id)


async def _audit(rig: Rig):
    from vsp.ports import PageRequest

    return (await rig.store.audit.rows(PageRequest(500))).items
