"""The decision: what each role may, and that nothing turns a No into a Yes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.access.policy import PLATFORM, RIGHTS, Resource, ResourceKind, decide
from vsp.model.ids import UserId, UtcMicros
from vsp.model.people import Action, Actor, Role, User

NOW_US = UtcMicros(1_795_000_000_000_000)


def actor(role: Role, *, enabled: bool = True, must_change: bool = False, name: str = "u") -> Actor:
    user = User(UserId(name), name, name, role, None, enabled, must_change, NOW_US)
    return Actor(user, "session", "192.0.2.1")


actors = st.builds(
    lambda role, enabled, must, name: actor(role, enabled=enabled, must_change=must, name=name),
    st.sampled_from(Role),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["u", "v"]),
)
resources = st.builds(
    Resource,
    st.sampled_from(ResourceKind),
    st.text(max_size=8),
    st.sampled_from([None, UserId("u"), UserId("v")]),
)
anything = (actors, st.sampled_from(Action), resources)


def test_nobody_may_do_nothing_at_all():
    decisions = [decide(None, action, PLATFORM, NOW_US) for action in Action]

    assert not any(decision.allowed for decision in decisions)


@pytest.mark.parametrize(
    ("role", "held"),
    [
        (Role.ADMIN, set(Action)),
        (
            Role.OPERATOR,
            {Action.LIST, Action.VIEW_LIVE, Action.PLAYBACK, Action.TRACE, Action.OWN_SESSION},
        ),
        (Role.AUDITOR, {Action.AUDIT_READ, Action.LIST, Action.SYSTEM_READ, Action.OWN_SESSION}),
    ],
)
def test_each_role_holds_exactly_its_actions(role: Role, held: set[Action]):
    allowed = {a for a in Action if decide(actor(role), a, PLATFORM, NOW_US).allowed}

    assert allowed == held


def test_every_role_has_a_row_and_can_end_its_own_session():
    assert set(RIGHTS) == set(Role)
    assert all(Action.OWN_SESSION in actions for actions in RIGHTS.values())


@given(*anything)
def test_a_disabled_account_may_do_nothing(who: Actor, action: Action, resource: Resource):
    disabled = actor(who.user.role, enabled=False, name=who.user.name)

    assert not decide(disabled, action, resource, NOW_US).allowed


@given(*anything)
def test_before_its_password_is_changed_an_account_may_only_change_it(
    who: Actor, action: Action, resource: Resource
):
    fresh = actor(who.user.role, must_change=True, name=who.user.name)

    decision = decide(fresh, action, resource, NOW_US)

    assert not decision.allowed or action is Action.OWN_SESSION


@given(*anything)
def test_an_owner_only_ever_narrows(who: Actor, action: Action, resource: Resource):
    nobodys = Resource(resource.kind, resource.id)

    if decide(who, action, resource, NOW_US).allowed:
        assert decide(who, action, nobodys, NOW_US).allowed


@given(*anything)
def test_only_an_administrator_reaches_what_belongs_to_another(
    who: Actor, action: Action, resource: Resource
):
    foreign = Resource(resource.kind, resource.id, UserId("somebody else"))

    decision = decide(who, action, foreign, NOW_US)

    assert not decision.allowed or who.user.role is Role.ADMIN


@given(*anything)
def test_every_decision_says_why(who: Actor, action: Action, resource: Resource):
    assert decide(who, action, resource, NOW_US).reason


def test_a_resource_names_itself_for_the_audit_log():
    assert Resource(ResourceKind.CHANNEL, "c1").subject == "channel:c1"
    assert PLATFORM.subject == "platform"
