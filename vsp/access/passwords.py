"""Passwords: which are refused, and how they are hashed without stopping the loop.

argon2id with 3 passes over 64 MiB (RFC 9106 4, second recommended option, but with one lane):
about 0.15 s of one core. The work runs in a small thread pool of our own (the binding releases the
interpreter lock), because the signalling loop may not stand still for 20 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher as Argon2
from argon2 import Type
from argon2.exceptions import Argon2Error, InvalidHashError
from argon2.low_level import ARGON2_VERSION

from vsp.errors import Exhausted, Invalid
from vsp.ports import Ids

T = TypeVar("T")

LENGTH_MIN = 12
"""A person's password. Length is what resists guessing; no composition rules besides."""

LENGTH_MAX = 128
"""Hashing reads all of it; nobody types more."""

DISTINCT_MIN = 5
"""Different characters in a password; fewer is a pattern."""

TIME_COST = 3
MEMORY_KIB = 64 * 1024

_THREADS = 2
"""Hashes at once: 128 MiB and two cores at the most, whatever arrives."""

_WAITING_MAX = 32
"""Hashes in the queue: about 3 s of work. Beyond that a sign-in is refused, not delayed."""

_COMMON_TEXT = """
abc abcd access account admin administrator apple asdf asdfgh asdfghjkl baseball batman camera
changeme charlie china computer correcthorsebatterystaple dahua daniel default demo device
donald dragon flower football freedom george google guest hello hikvision huawei hunter
iloveyou jordan killer letmein login love lovely maggie manager master matrix michael michelle
monkey mustang nicole ninja nothing operator pass passcode passwd password princess qazwsx
qazwsxedc qwer qwert qwerty qwertyuiop root samsung secret security server shadow soccer solo
starwars summer sunshine super superman superuser supervisor support sysadmin system test
tester thomas tigger trustno uniview user video vsp wangyi welcome whatever winter woaini
xiaoming zaq zaqwsx zxcv zxcvbn zxcvbnm
"""
_COMMON_WORDS = frozenset(_COMMON_TEXT.split())
"""Words that, alone or repeated or with digits and signs around, are on every guessing list."""

_WALKS = (
    "01234567890123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik9ol0p",
    "1q2w3e4r5t6y7u8i9o0p",
    "qazwsxedcrfvtgbyhnujmikolp",
    "147258369",
    "abc123abc123abc123",
)
"""Sequences on the keyboard or in the alphabet; a password made of one, either way, is refused."""

_LEET = str.maketrans("@4301!|$5780", "aaeoiiisstbo")


def check_password(password: str, name: str) -> None:
    """Refuse a person's password that would be guessed. Raises Invalid, saying why."""
    if len(password) < LENGTH_MIN:
        raise _weak(f"shorter than {LENGTH_MIN} characters")
    _check_common(password, name)


def check_device_password(password: str, gb_id: str) -> None:
    """Refuse what cannot be a device's password. Raises Invalid, saying why.

    Weak ones are taken: whole districts of cameras carry one that nobody can change in a day, and a
    camera that stays outside is no safer. Only the empty one and the code itself, which every
    message carries in clear, would let anybody register.
    """
    if not password:
        raise _weak("empty")
    if len(password) > LENGTH_MAX:
        raise Invalid(f"this password cannot be used: longer than {LENGTH_MAX} characters")
    if password == gb_id:
        raise _weak("the device's own code")
    if any(ord(character) < 0x20 for character in password):
        raise Invalid("this password cannot be used: it holds control characters")


def _check_common(password: str, name: str) -> None:
    if len(password) > LENGTH_MAX:
        raise _weak(f"longer than {LENGTH_MAX} characters")
    plain = password.casefold()
    if len(set(plain)) < DISTINCT_MIN:
        raise _weak(f"fewer than {DISTINCT_MIN} different characters")
    if plain == name.casefold() or plain == name.casefold()[::-1]:
        raise _weak("the same as the name")
    if _is_walk(plain):
        raise _weak("a sequence of the keyboard or the alphabet")
    core = _period(plain.strip("0123456789!@#$%^&*()_+-=.,?~ "))
    cores = {core, _period(plain), core.translate(_LEET), _period(plain.translate(_LEET))}
    if cores & (_COMMON_WORDS | {name.casefold()}):
        raise _weak("a common password, or the name with a few characters around it")


def _is_walk(text: str) -> bool:
    return any(text in walk or text in walk[::-1] for walk in _WALKS)


def _period(text: str) -> str:
    """The shortest piece that `text` repeats: "abcabc" -> "abc"."""
    return text[: (text + text).find(text, 1)] if text else ""


def _weak(why: str) -> Invalid:
    return Invalid(
        f"this password is too weak: {why}",
        cause=why,
        next_step="choose a longer one that is on no list, for instance four random words",
    )


_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Without i, l, o, 0 and 1, which people confuse on a console."""


def generate_password(ids: Ids) -> str:
    """A password for a first sign-in: 20 characters, about 99 bits, in groups of five."""
    characters = [_ALPHABET[ids.number(len(_ALPHABET))] for _ in range(20)]
    return "-".join("".join(characters[i : i + 5]) for i in range(0, 20, 5))


class PasswordHasher:
    """argon2id in a bounded pool of threads.

    The dummy lets a sign-in with an unknown name cost what a known one costs: it has the form and
    the costs of a hash, and no password gives its digest of zeros.
    """

    def __init__(self, time_cost: int = TIME_COST, memory_kib: int = MEMORY_KIB) -> None:
        self._argon2 = Argon2(
            time_cost=time_cost, memory_cost=memory_kib, parallelism=1, type=Type.ID
        )
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")
        self._waiting = 0
        self._dummy = (
            f"$argon2id$v={ARGON2_VERSION}$m={memory_kib},t={time_cost},p=1${'A' * 22}${'A' * 43}"
        )

    async def hash(self, password: str) -> str:
        return await self._run(lambda: self._argon2.hash(password))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether they belong together. None verifies against a dummy and is False, as slowly."""
        if password_hash is None:
            await self._run(lambda: self._matches(self._dummy, password))
            return False
        return await self._run(lambda: self._matches(password_hash, password))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _matches(self, password_hash: str, password: str) -> bool:
        try:
            return self._argon2.verify(password_hash, password)
        except (Argon2Error, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= _THREADS + _WAITING_MAX:
            raise Exhausted("too many sign-ins at once", next_step="try again in a few seconds")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1
