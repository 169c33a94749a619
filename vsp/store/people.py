"""People over rows: accounts, signed-in sessions, tries to sign in; register.py has the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vsp.errors import Conflict, NotFound
from vsp.model.ids import DepartmentId, UserId, UtcMicros
from vsp.model.people import Role, User
from vsp.ports import WebSession
from vsp.store.register import SqlRegister
from vsp.store.tables import sign_ins, users, web_sessions

SIGN_INS_KEPT_US = 30 * 24 * 3600 * 1_000_000
"""How long tries to sign in are kept: locks need minutes, the audit log keeps the acts."""

NAME_KEY_MAX = 128
"""Characters of a name that count; a stranger may type a megabyte into the field."""


def name_key(name: str) -> str:
    """The form under which names are compared: case folded, blanks around it dropped."""
    return name.replace("\x00", "").strip().casefold()[:NAME_KEY_MAX]


def name_taken(name: str) -> Conflict:
    """The error of adding a user whose name, letters' case aside, somebody has."""
    return Conflict(f"the user name {name!r} is taken")


class SqlPeople(SqlRegister):
    """Users, sessions and sign-ins as rows."""

    # ---- accounts ---------------------------------------------------------------------------

    async def add_user(self, user: User, password_hash: str) -> None:
        """Raises Conflict when the name is taken, letters' case aside."""
        values = {
            "id": user.id,
            "name": user.name,
            "name_key": name_key(user.name),
            "display_name": user.display_name,
            "role": user.role.value,
            "department_id": user.department_id,
            "enabled": user.enabled,
            "must_change_password": user.must_change_password,
            "password_hash": password_hash,
            "created_at_us": user.created_at_us,
        }
        try:
            async with self._database.write() as connection:
                await connection.execute(sa.insert(users).values(values))
        except Conflict as error:
            raise name_taken(user.name) from error

    async def user(self, user_id: UserId) -> User:
        """Raises NotFound."""
        async with self._database.read() as connection:
            row = (await connection.execute(sa.select(users).where(users.c.id == user_id))).first()
        if row is None:
            raise NotFound("no such user")
        return _user(row)

    async def user_by_name(self, name: str) -> tuple[User, str] | None:
        """The user and the password hash; letters' case does not matter."""
        query = sa.select(users).where(users.c.name_key == name_key(name))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else (_user(row), row.password_hash)

    async def users(self) -> Sequence[User]:
        """All of them, by name."""
        async with self._database.read() as connection:
            rows = await connection.execute(sa.select(users).order_by(users.c.name_key))
            return [_user(row) for row in rows]

    async def set_password(self, user_id: UserId, password_hash: str, must_change: bool) -> None:
        """Raises NotFound. Sessions are not ended here: who changed it decides which survive."""
        await self._change(
            user_id, {"password_hash": password_hash, "must_change_password": must_change}
        )

    async def set_user(
        self, user_id: UserId, *, enabled: bool | None = None, role: Role | None = None
    ) -> User:
        """Raises NotFound. Disabling ends every session of the user in the same transaction."""
        values: dict[str, Any] = {}
        if enabled is not None:
            values["enabled"] = enabled
        if role is not None:
            values["role"] = role.value
        if not values:
            return await self.user(user_id)
        return await self._change(user_id, values, end_sessions=enabled is False)

    async def _change(
        self, user_id: UserId, values: dict[str, Any], *, end_sessions: bool = False
    ) -> User:
        update = sa.update(users).where(users.c.id == user_id).values(values).returning(users)
        async with self._database.write() as connection:
            row = (await connection.execute(update)).first()
            if row is None:
                raise NotFound("no such user")
            if end_sessions:
                ending = sa.delete(web_sessions).where(web_sessions.c.user_id == user_id)
                await connection.execute(ending)
        return _user(row)

    # ---- sessions ---------------------------------------------------------------------------

    async def save_session(self, session: WebSession) -> None:
        """Insert or replace; sessions that have run out by then go."""
        values = {
            "token_hash": session.token_hash,
            "user_id": session.user_id,
            "created_at_us": session.created_at_us,
            "seen_at_us": session.seen_at_us,
            "expires_at_us": session.expires_at_us,
            "address": session.address,
        }
        insert = self._database.insert(web_sessions).values(values)
        upsert = insert.on_conflict_do_update(
            index_elements=["token_hash"],
            set_={name: insert.excluded[name] for name in values if name != "token_hash"},
        )
        over = sa.delete(web_sessions).where(web_sessions.c.expires_at_us < session.seen_at_us)
        async with self._database.write() as connection:
            await connection.execute(over)
            await connection.execute(upsert)

    async def session(self, token_hash: str) -> tuple[WebSession, User] | None:
        """The session and its user, in one query; judging whether it still holds is authn's."""
        query = (
            sa.select(users, *_SESSION_COLUMNS)
            .join(web_sessions, web_sessions.c.user_id == users.c.id)
            .where(web_sessions.c.token_hash == token_hash)
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else (_session(row), _user(row))

    async def touch_session(self, token_hash: str, seen_at_us: UtcMicros) -> None:
        """Move `seen_at_us` forward, never back."""
        update = (
            sa.update(web_sessions)
            .where(web_sessions.c.token_hash == token_hash, web_sessions.c.seen_at_us < seen_at_us)
            .values(seen_at_us=seen_at_us)
        )
        async with self._database.write() as connection:
            await connection.execute(update)

    async def end_sessions(
        self, *, token_hash: str | None = None, user_id: UserId | None = None
    ) -> None:
        """Those that match every argument given; with none given, nothing."""
        wanted = []
        if token_hash is not None:
            wanted.append(web_sessions.c.token_hash == token_hash)
        if user_id is not None:
            wanted.append(web_sessions.c.user_id == user_id)
        if not wanted:
            return
        async with self._database.write() as connection:
            await connection.execute(sa.delete(web_sessions).where(*wanted))

    # ---- sign-ins ---------------------------------------------------------------------------

    async def failed_sign_ins(self, name: str, since_us: UtcMicros) -> int:
        """Failures in a row: since `since_us`, and since the last success of that name."""
        mine = sign_ins.c.name_key == name_key(name)
        last_success = (
            sa.select(sa.func.max(sign_ins.c.id)).where(mine, sign_ins.c.ok).scalar_subquery()
        )
        query = sa.select(sa.func.count()).where(
            mine,
            sign_ins.c.ok.is_(False),
            sign_ins.c.at_us >= since_us,
            sign_ins.c.id > sa.func.coalesce(last_success, 0),
        )
        async with self._database.read() as connection:
            return int((await connection.execute(query)).scalar_one())

    async def note_sign_in(self, name: str, address: str, ok: bool, at_us: UtcMicros) -> None:
        """Keep the try; tries older than SIGN_INS_KEPT_US go."""
        values = {"name_key": name_key(name), "address": address, "ok": ok, "at_us": at_us}
        old = sa.delete(sign_ins).where(sign_ins.c.at_us < at_us - SIGN_INS_KEPT_US)
        async with self._database.write() as connection:
            await connection.execute(old)
            await connection.execute(sa.insert(sign_ins).values(values))


_SESSION_COLUMNS = [column.label(f"session_{column.key}") for column in web_sessions.c]


def _session(row: sa.Row[Any]) -> WebSession:
    return WebSession(
        token_hash=row.session_token_hash,
        user_id=UserId(row.session_user_id),
        created_at_us=UtcMicros(row.session_created_at_us),
        seen_at_us=UtcMicros(row.session_seen_at_us),
        expires_at_us=UtcMicros(row.session_expires_at_us),
        address=row.session_address,
    )


def _user(row: sa.Row[Any]) -> User:
    return User(
        id=UserId(row.id),
        name=row.name,
        display_name=row.display_name,
        role=Role(row.role),
        department_id=None if row.department_id is None else DepartmentId(row.department_id),
        enabled=row.enabled,
        must_change_password=row.must_change_password,
        created_at_us=UtcMicros(row.created_at_us),
    )
