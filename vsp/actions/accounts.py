"""Accounts: signing in and out, passwords, users. The only writer of users.

A change that takes a right away ends the user's sessions and cuts the views that the user may no
longer have, at once; the periodic check of open views (`Views.enforce`) is the second net.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from vsp.access.authn import Authenticator, SignedIn, clean_name
from vsp.access.passwords import PasswordHasher, check_password
from vsp.access.policy import Resource, ResourceKind
from vsp.access.scope import Access
from vsp.errors import Conflict, Invalid
from vsp.model.ids import UserId, UtcMicros
from vsp.model.people import Action, Actor, Role, User
from vsp.ports import AuditLog, Clock, Ids, People, WebSession

_NAME = re.compile(r"[\w.@-]{2,32}")
"""Names of users: letters of any script, digits, `_ . @ -`; nothing that could forge a log line."""

DISPLAY_NAME_LENGTH_MAX = 64


CutViews = Callable[[UserId, str, str | None], Awaitable[None]]
"""(user, cause, session or None for all): close the user's open views."""


class Accounts:
    """Use cases about people."""

    def __init__(
        self,
        *,
        people: People,
        authenticator: Authenticator,
        hasher: PasswordHasher,
        access: Access,
        audit: AuditLog,
        clock: Clock,
        ids: Ids,
        cut_views: CutViews,
    ) -> None:
        self._people = people
        self._authenticator = authenticator
        self._hasher = hasher
        self._access = access
        self._audit = audit
        self._clock = clock
        self._ids = ids
        self._cut_views = cut_views

    async def sign_in(self, name: str, password: str, address: str) -> SignedIn:
        """Open a session. Raises SignInNeeded; the try is audited either way."""
        async with self._audit.act(
            None, Action.OWN_SESSION, "session", "sign in", address, clean_name(name)
        ):
            return await self._authenticator.sign_in(name, password, address)

    async def actor_of(self, token: str, address: str) -> tuple[Actor, WebSession]:
        return await self._authenticator.actor_of(token, address)

    def session_end_us(self, session: WebSession) -> UtcMicros:
        return self._authenticator.ends_at_us(session)

    async def require_session(self, actor: Actor, action: Action) -> None:
        """For long-lived sockets: session and right, asked again without counting as use."""
        _, user = await self._authenticator.session(actor.session_id)
        self._access.require(replace(actor, user=user), action)

    async def sign_out(self, actor: Actor) -> None:
        """End this session and the views opened in it."""
        async with self._access.act(
            actor, Action.OWN_SESSION, user_resource(actor.user.id), "sign out"
        ):
            await self._authenticator.sign_out(actor.session_id)
            await self._cut_views(actor.user.id, "the viewer signed out", actor.session_id)

    async def change_password(self, actor: Actor, old: str, new: str) -> None:
        """Replace one's own password; every other session of the account ends."""
        async with self._access.act(
            actor, Action.OWN_SESSION, user_resource(actor.user.id), "change password"
        ):
            await self._authenticator.change_password(actor, old, new)
            await self._cut_views(actor.user.id, "the password was changed", None)

    async def users(self, actor: Actor) -> Sequence[User]:
        self._access.require(actor, Action.USER_MANAGE)
        return await self._people.users()

    async def add_user(
        self,
        actor: Actor,
        *,
        name: str,
        password: str,
        role: Role,
        display_name: str = "",
        must_change_password: bool = True,
    ) -> User:
        """Raises Conflict when the name is taken, Invalid for a name or password that will not do.

        Whoever made the account knows its password, so by default it must be changed before
        anything else; accounts of programs turn that off.
        """
        name = clean_name(name)
        async with self._access.act(
            actor, Action.USER_MANAGE, Resource(ResourceKind.USER, name), f"add as {role}"
        ):
            if not _NAME.fullmatch(name):
                raise Invalid("a user's name has 2 to 32 letters, digits or any of _ . @ -")
            check_password(password, name)
            if await self._people.user_by_name(name) is not None:
                raise Conflict(f"a user named {name} exists")
            user = User(
                id=UserId(self._ids.row_id()),
                name=name,
                display_name=display_name.strip()[:DISPLAY_NAME_LENGTH_MAX] or name,
                role=role,
                department_id=None,
                enabled=True,
                must_change_password=must_change_password,
                created_at_us=self._clock.now_us(),
            )
            await self._people.add_user(user, await self._hasher.hash(password))
            return user

    async def set_user(
        self,
        actor: Actor,
        user_id: UserId,
        *,
        enabled: bool | None = None,
        role: Role | None = None,
        password: str | None = None,
    ) -> User:
        """Enable or disable, give another role, or set a password that must then be changed."""
        changes = _describe(enabled, role, password)
        async with self._access.act(actor, Action.USER_MANAGE, user_resource(user_id), changes):
            user = await self._people.user(user_id)
            if enabled is False or role not in (None, Role.ADMIN):
                await self._keep_one_admin(user)
            if password is not None:
                check_password(password, user.name)
                await self._authenticator.set_password(user_id, password, must_change=True)
            if enabled is not None or role is not None:
                await self._people.set_user(user_id, enabled=enabled, role=role)
            if (enabled, role, password) != (None, None, None):
                await self._people.end_sessions(user_id=user_id)
                await self._cut_views(user_id, "the account was changed", None)
            return await self._people.user(user_id)

    async def _keep_one_admin(self, user: User) -> None:
        """Nobody may lock everybody out."""
        others = [
            other
            for other in await self._people.users()
            if other.id != user.id and other.enabled and other.role is Role.ADMIN
        ]
        if user.enabled and user.role is Role.ADMIN and not others:
            raise Conflict(
                "this is the last administrator",
                next_step="make another administrator first",
            )


def user_resource(user_id: UserId) -> Resource:
    return Resource(ResourceKind.USER, user_id)


def _describe(enabled: bool | None, role: Role | None, password: str | None) -> str:
    """What the audit row says of a change; never the password."""
    words = []
    if enabled is not None:
        words.append("enable" if enabled else "disable")
    if role is not None:
        words.append(f"role {role}")
    if password is not None:
        words.append("set password")
    return ", ".join(words) or "nothing"
