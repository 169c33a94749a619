"""Who is there: sign-in, sessions, the first account.

A session token is 32 random bytes, opaque, stored only as its SHA-256; ending a session is deleting
a row, so it ends at once and everywhere. It dies of idleness, of age, or because the account
changed. Sign-in tells a stranger nothing: an unknown name, a wrong password, a disabled account and
a locked name take the same time and answer the same sentence.
"""

from __future__ import annotations

import contextlib
import hashlib
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import structlog

from vsp.access.passwords import PasswordHasher, check_password, generate_password
from vsp.errors import Denied, Invalid, Unavailable
from vsp.model.ids import UserId, UtcMicros
from vsp.model.people import Actor, Role, User
from vsp.ports import Clock, Ids, People, WebSession

log = structlog.get_logger(__name__)

MICROS = 1_000_000

TOKEN_BYTES = 32

TOUCH_EVERY_S = 15
"""How stale `seen_at` may be: bounds the writes of a busy console to four a minute."""

NAME_LENGTH_MAX = 64
"""Characters of a name that are looked up, counted and written to the audit log."""

ADMIN_NAME = "admin"


class SignInNeeded(Denied):
    """Nobody is signed in, or the sign-in failed; the web's edge answers 401 instead of 403."""


@dataclass(frozen=True, slots=True)
class SessionRules:
    """Lives and locks, in seconds; from the `web` section of the configuration."""

    idle_s: int = 1800
    life_s: int = 43_200
    tries: int = 5
    lock_s: int = 900


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A session as its owner gets it. `token` is told once; `session` holds only its hash."""

    token: str
    session: WebSession
    user: User


def hash_token(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def clean_name(name: str) -> str:
    """The name as it is looked up and stored: composed, printable, trimmed, bounded."""
    shown = "".join(character for character in name if character.isprintable())
    return unicodedata.normalize("NFKC", shown[: 4 * NAME_LENGTH_MAX]).strip()[:NAME_LENGTH_MAX]


class Authenticator:
    """Sign-in and sessions over the `People` port. It writes sessions, not the audit log: the
    action that calls it does."""

    def __init__(
        self, people: People, hasher: PasswordHasher, clock: Clock, ids: Ids, rules: SessionRules
    ) -> None:
        self._people = people
        self._hasher = hasher
        self._clock = clock
        self._ids = ids
        self._rules = rules
        self._trying: Counter[str] = Counter()
        self._unwritten: dict[str, UtcMicros] = {}

    async def sign_in(self, name: str, password: str, address: str) -> SignedIn:
        """Open a session. Raises SignInNeeded, always with the same words."""
        name = clean_name(name)
        with self._trying_as(name):
            user = await self._verify(name, password, address)
        if user is None:
            raise self._refusal()
        return await self._open_session(user, address)

    @contextlib.contextmanager
    def _trying_as(self, name: str) -> Iterator[None]:
        """Count a try while it is under way, or a burst of them would outrun the lock."""
        key = name.casefold()
        self._trying[key] += 1
        try:
            yield
        finally:
            self._trying[key] -= 1
            if not self._trying[key]:
                del self._trying[key]

    async def _verify(self, name: str, password: str, address: str) -> User | None:
        locked = await self._locked(name)
        found = await self._people.user_by_name(name)
        # Locked or unknown: the same work against the dummy hash, so that time tells nothing.
        known_hash = found[1] if found is not None and not locked else None
        ok = await self._hasher.verify(known_hash, password)
        if locked:
            return None
        accepted = found[0] if found is not None and ok and found[0].enabled else None
        await self._people.note_sign_in(name, address, accepted is not None, self._clock.now_us())
        return accepted

    async def _locked(self, name: str) -> bool:
        since = UtcMicros(self._clock.now_us() - self._rules.lock_s * MICROS)
        failed = await self._people.failed_sign_ins(name, since)
        return failed + self._trying[name.casefold()] > self._rules.tries

    def _refusal(self) -> SignInNeeded:
        return SignInNeeded(
            "sign-in refused",
            cause="the name or the password is wrong, or there were too many failed tries",
            next_step=f"check both; a locked name opens again after {self._rules.lock_s // 60} min",
        )

    async def _open_session(self, user: User, address: str) -> SignedIn:
        token = self._ids.token(TOKEN_BYTES)
        now_us = self._clock.now_us()
        session = WebSession(
            token_hash=hash_token(token),
            user_id=user.id,
            created_at_us=now_us,
            seen_at_us=now_us,
            expires_at_us=UtcMicros(now_us + self._rules.life_s * MICROS),
            address=address,
        )
        await self._people.save_session(session)
        return SignedIn(token, session, user)

    async def actor_of(self, token: str, address: str) -> tuple[Actor, WebSession]:
        """Who holds this token now; counts as use. Raises SignInNeeded."""
        session, user = await self.session(hash_token(token))
        now_us = self._clock.now_us()
        if now_us - session.seen_at_us >= TOUCH_EVERY_S * MICROS:
            session = replace(session, seen_at_us=now_us)
            await self._touch(session)
        return Actor(user, session.token_hash, address), session

    async def _touch(self, session: WebSession) -> None:
        """Write down its use. Who is signed in must be able to look, most of all when a disk is
        full, so a use that cannot be written counts in this process all the same."""
        try:
            await self._people.touch_session(session.token_hash, session.seen_at_us)
            self._unwritten.pop(session.token_hash, None)
        except Unavailable as error:
            log.warning("use of a session not written", error=error.message)
            self._unwritten[session.token_hash] = session.seen_at_us

    async def session(self, session_id: str) -> tuple[WebSession, User]:
        """A session that has not ended, without counting as use. An outlived one is removed."""
        found = await self._people.session(session_id)
        if found is None:
            raise SignInNeeded("the session is unknown or has ended", next_step="sign in again")
        session, user = found
        used_us = self._unwritten.get(session_id, session.seen_at_us)
        session = replace(session, seen_at_us=max(session.seen_at_us, used_us))
        if self._clock.now_us() >= self.ends_at_us(session):
            self._unwritten.pop(session_id, None)
            await self._people.end_sessions(token_hash=session.token_hash)
            raise SignInNeeded("the session has ended", next_step="sign in again")
        if not user.enabled:
            raise SignInNeeded("the session has ended", next_step="ask an administrator")
        return session, user

    def ends_at_us(self, session: WebSession) -> UtcMicros:
        """When the session ends unless it is used: the earlier of its age and its idleness."""
        idle_end = session.seen_at_us + self._rules.idle_s * MICROS
        return UtcMicros(min(session.expires_at_us, idle_end))

    async def sign_out(self, session_id: str) -> None:
        await self._people.end_sessions(token_hash=session_id)

    async def change_password(self, actor: Actor, old: str, new: str) -> None:
        """Replace one's own password and end every other session of the account.

        Wrong old passwords count towards the lock like failed sign-ins: a stolen session must not
        become a place to guess.
        """
        name = actor.user.name
        with self._trying_as(name):
            if await self._verify(name, old, actor.address) is None:
                raise Denied(
                    "the old password is wrong, or there were too many tries",
                    next_step="type it again",
                )
        check_password(new, name)
        if new == old:
            raise Invalid("the new password is the old one", next_step="choose another")
        session, _ = await self.session(actor.session_id)
        await self.set_password(actor.user.id, new, must_change=False)
        await self._people.save_session(session)

    async def set_password(self, user_id: UserId, password: str, *, must_change: bool) -> None:
        """Store the hash and end the account's sessions. The caller has checked the password."""
        await self._people.set_password(user_id, await self._hasher.hash(password), must_change)
        await self._people.end_sessions(user_id=user_id)

    async def ensure_first_admin(self) -> tuple[str, str] | None:
        """On an empty database: make `admin` with a generated password; (name, password), once.

        The account may be used with it directly (`must_change_password` is off): a program that
        only knows POST /session has to be able to begin. There is no other default account.
        """
        if await self._people.users():
            return None
        password = generate_password(self._ids)
        user = User(
            id=UserId(self._ids.row_id()),
            name=ADMIN_NAME,
            display_name=ADMIN_NAME,
            role=Role.ADMIN,
            department_id=None,
            enabled=True,
            must_change_password=False,
            created_at_us=self._clock.now_us(),
        )
        await self._people.add_user(user, await self._hasher.hash(password))
        return user.name, password
