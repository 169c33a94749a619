"""People in memory: accounts, signed-in sessions, tries to sign in; register.py has the rest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from vsp.errors import Conflict, NotFound
from vsp.model.ids import UserId, UtcMicros
from vsp.model.people import Role, User
from vsp.ports import WebSession
from vsp.store.columns import WORDS_MAX
from vsp.store.memory.register import MemoryRegister
from vsp.store.memory.rows import cleaned
from vsp.store.memory.tables import MemoryDatabase, SignIn, UserRow
from vsp.store.people import SIGN_INS_KEPT_US, name_key, name_taken


class MemoryPeople(MemoryRegister):
    """Users, sessions and sign-ins."""

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self._people = database.people

    # ---- accounts ---------------------------------------------------------------------------

    async def add_user(self, user: User, password_hash: str) -> None:
        """Raises Conflict when the name is taken, letters' case aside."""
        key = name_key(user.name)
        if key in self._people.by_name or user.id in self._people.by_id:
            raise name_taken(user.name)
        row = UserRow(cleaned(user, WORDS_MAX, "name", "display_name"), password_hash)
        self._people.by_id[user.id] = row
        self._people.by_name[key] = row

    async def user(self, user_id: UserId) -> User:
        """Raises NotFound."""
        return self._user(user_id).user

    async def user_by_name(self, name: str) -> tuple[User, str] | None:
        """The user and the password hash; letters' case does not matter."""
        row = self._people.by_name.get(name_key(name))
        return None if row is None else (row.user, row.password_hash)

    async def users(self) -> Sequence[User]:
        """All of them, by name."""
        return [row.user for _, row in sorted(self._people.by_name.items())]

    async def set_password(self, user_id: UserId, password_hash: str, must_change: bool) -> None:
        """Raises NotFound. Sessions are not ended here: who changed it decides which survive."""
        row = self._user(user_id)
        row.password_hash = password_hash
        row.user = replace(row.user, must_change_password=must_change)

    async def set_user(
        self, user_id: UserId, *, enabled: bool | None = None, role: Role | None = None
    ) -> User:
        """Raises NotFound. Disabling ends every session of the user."""
        row = self._user(user_id)
        if enabled is not None:
            row.user = replace(row.user, enabled=enabled)
        if role is not None:
            row.user = replace(row.user, role=role)
        if enabled is False:
            self._end(session for session in self._sessions() if session.user_id == user_id)
        return row.user

    def _user(self, user_id: UserId) -> UserRow:
        row = self._people.by_id.get(user_id)
        if row is None:
            raise NotFound("no such user")
        return row

    # ---- sessions ---------------------------------------------------------------------------

    async def save_session(self, session: WebSession) -> None:
        """Insert or replace; sessions that have run out by then go. Conflict without its user."""
        if session.user_id not in self._people.by_id:
            raise Conflict("a session needs its user")
        now_us = session.seen_at_us
        self._end(each for each in self._sessions() if each.expires_at_us < now_us)
        self._people.sessions[session.token_hash] = cleaned(session, WORDS_MAX, "address")

    async def session(self, token_hash: str) -> tuple[WebSession, User] | None:
        """The session and its user; judging whether it still holds is authn's."""
        session = self._people.sessions.get(token_hash)
        return None if session is None else (session, self._people.by_id[session.user_id].user)

    async def touch_session(self, token_hash: str, seen_at_us: UtcMicros) -> None:
        """Move `seen_at_us` forward, never back."""
        session = self._people.sessions.get(token_hash)
        if session is not None and session.seen_at_us < seen_at_us:
            self._people.sessions[token_hash] = replace(session, seen_at_us=seen_at_us)

    async def end_sessions(
        self, *, token_hash: str | None = None, user_id: UserId | None = None
    ) -> None:
        """Those that match every argument given; with none given, nothing."""
        if token_hash is None and user_id is None:
            return
        self._end(
            session
            for session in self._sessions()
            if token_hash in (None, session.token_hash) and user_id in (None, session.user_id)
        )

    def _sessions(self) -> list[WebSession]:
        return list(self._people.sessions.values())

    def _end(self, sessions: Iterable[WebSession]) -> None:
        for session in sessions:
            del self._people.sessions[session.token_hash]

    # ---- sign-ins ---------------------------------------------------------------------------

    async def failed_sign_ins(self, name: str, since_us: UtcMicros) -> int:
        """Failures in a row: since `since_us`, and since the last success of that name."""
        key = name_key(name)
        failures = 0
        for tried in reversed(self._people.sign_ins):
            if tried.name_key == key:
                if tried.ok:
                    break
                failures += tried.at_us >= since_us
        return failures

    async def note_sign_in(self, name: str, address: str, ok: bool, at_us: UtcMicros) -> None:
        """Keep the try, without the address, which nobody asks for; old ones go."""
        kept_from_us = at_us - SIGN_INS_KEPT_US
        tries = self._people.sign_ins
        tries[:] = [tried for tried in tries if tried.at_us >= kept_from_us]
        tries.append(SignIn(name_key(name), ok, at_us))
