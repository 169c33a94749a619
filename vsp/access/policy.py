"""The one decision: may this actor do this action on this resource at this moment, and why.

Pure. It knows nothing of HTTP, SQL or SIP; `scope` asks it before handing out an object, the route
table asks it before a handler runs, and the open views ask it again every few seconds.

Deny is the default. The order of the questions: is anybody there, is the account enabled, must the
password be changed first, does the role hold the action, is the thing somebody else's own. First
scope: three fixed roles that separate working (operator), looking over shoulders (auditor) and
running the platform (admin); grants by region, department, window and label join as further
questions, and none of them will turn a No above into a Yes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from vsp.model.ids import UserId, UtcMicros
from vsp.model.people import Action, Actor, Decision, Role


class ResourceKind(StrEnum):
    PLATFORM = "platform"
    DEVICE = "device"
    CHANNEL = "channel"
    VIEW = "view"
    USER = "user"
    CANDIDATE = "candidate"


@dataclass(frozen=True, slots=True)
class Resource:
    """What an action is about. `subject` is its name in audit rows and change points.

    owner   the user whose own thing it is (a view, a session); None: nobody's in particular
    """

    kind: ResourceKind
    id: str = ""
    owner: UserId | None = None

    @property
    def subject(self) -> str:
        return f"{self.kind}:{self.id}" if self.id else self.kind.value


PLATFORM = Resource(ResourceKind.PLATFORM)

RIGHTS: Mapping[Role, frozenset[Action]] = {
    Role.ADMIN: frozenset(Action),
    Role.OPERATOR: frozenset(
        {Action.LIST, Action.VIEW_LIVE, Action.PLAYBACK, Action.TRACE, Action.OWN_SESSION}
    ),
    Role.AUDITOR: frozenset(
        {Action.AUDIT_READ, Action.LIST, Action.SYSTEM_READ, Action.OWN_SESSION}
    ),
}


def decide(actor: Actor | None, action: Action, resource: Resource, now_us: UtcMicros) -> Decision:
    """Whether `actor` may do `action` on `resource` at `now_us`, with the reason in words.

    `now_us` decides nothing yet: fixed roles do not end. It is part of the question because rights
    with an end will, and `Decision.valid_until_us` then says when.
    """
    if actor is None:
        return Decision(False, "nobody is signed in")
    user = actor.user
    if not user.enabled:
        return Decision(False, "the account is disabled")
    if user.must_change_password and action is not Action.OWN_SESSION:
        return Decision(False, "the password has to be changed first")
    if action not in RIGHTS.get(user.role, frozenset()):
        return Decision(False, f"role {user.role} does not include {action}")
    if resource.owner not in (None, user.id) and user.role is not Role.ADMIN:
        return Decision(False, f"this {resource.kind} belongs to another user")
    return Decision(True, f"role {user.role} includes {action}")
