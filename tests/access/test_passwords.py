"""Which passwords are refused, and what hashing costs."""

import asyncio
from types import SimpleNamespace

import pytest
from argon2 import PasswordHasher as Argon2
from argon2 import extract_parameters
from argon2.exceptions import VerifyMismatchError
from hypothesis import given
from hypothesis import strategies as st

from tests.actions.rig import CountingIds
from vsp.access.passwords import (
    LENGTH_MAX,
    LENGTH_MIN,
    PasswordHasher,
    check_device_password,
    check_password,
    generate_password,
)
from vsp.clock import SystemIds
from vsp.errors import Exhausted, Invalid


@pytest.mark.parametrize(
    "password",
    [
        "seven green bicycles",
        "Tr4ffic!jam-at-dusk",
        "正门外的石榴树开花了今年",
        "x7Kd92mPqLw0",
    ],
)
def test_a_long_uncommon_password_is_taken(password: str):
    check_password(password, "wang")


@pytest.mark.parametrize(
    "password",
    [
        "",
        "short",
        "aaaaaaaaaaaaaaaa",
        "abababababababab",
        "123456789012",
        "abcdefghijklm",
        "zyxwvutsrqpon",
        "qwertyuiopas",
        "1qaz2wsx3edc",
        "password1234",
        "Password2026!",
        "P@ssw0rd2026",
        "adminadminadmin",
        "admin123456789",
        "!!!changeme!!!",
        "wangxiaoming",
        "WANGXIAOMING",
        "gnimoaixgnaw",
        "wangxiaoming123",
        "letmeinletmein",
    ],
)
def test_a_password_that_would_be_guessed_is_refused(password: str):
    with pytest.raises(Invalid, match="too weak"):
        check_password(password, "wangxiaoming")


def test_the_length_limits_hold_to_the_character():
    long = "kL7#pQ2!vX9@mN4$" * 10

    check_password(long[:LENGTH_MIN], "u")
    check_password(long[:LENGTH_MAX], "u")
    with pytest.raises(Invalid):
        check_password(long[: LENGTH_MIN - 1], "u")
    with pytest.raises(Invalid):
        check_password(long[: LENGTH_MAX + 1], "u")


@pytest.mark.parametrize("password", ["", "34020000001320000001", "tab\there12", "x" * 129])
def test_what_cannot_be_a_devices_password_is_refused(password: str):
    with pytest.raises(Invalid):
        check_device_password(password, "34020000001320000001")


@pytest.mark.parametrize("password", ["12345678", "admin123", "a", "x" * 128])
def test_a_weak_password_of_a_device_is_taken(password: str):
    check_device_password(password, "34020000001320000001")


@given(st.text(max_size=200), st.text(max_size=40))
def test_no_text_makes_the_check_fail_otherwise_and_none_is_echoed(password: str, name: str):
    said = ""
    try:
        check_password(password, name)
    except Invalid as error:
        said = error.message

    assert len(password) < LENGTH_MIN or password not in said


def test_generated_passwords_pass_the_rules_and_differ():
    made = {generate_password(SystemIds()) for _ in range(200)}

    assert len(made) == 200
    for password in made:
        check_password(password, "admin")
        assert len(password) == 23
    assert generate_password(CountingIds()) == generate_password(CountingIds())


async def test_a_hash_verifies_its_own_password_only():
    hasher = PasswordHasher(time_cost=1, memory_kib=64)
    try:
        hashed = await hasher.hash("seven green bicycles")

        assert hashed.startswith("$argon2id$")
        assert await hasher.verify(hashed, "seven green bicycles")
        assert not await hasher.verify(hashed, "seven green bicycle")
        assert not await hasher.verify("not a hash", "seven green bicycles")
        assert not await hasher.verify(None, "seven green bicycles")
    finally:
        hasher.close()


async def test_an_unknown_name_costs_what_a_known_one_costs_from_the_first_time_on():
    hasher = PasswordHasher(time_cost=2, memory_kib=128)
    try:
        asked: list[str] = []
        real = hasher._argon2.verify
        hasher._argon2 = SimpleNamespace(
            verify=lambda *known: (asked.append(known[0]), real(*known))
        )

        assert not await hasher.verify(None, "seven green bicycles")

        with pytest.raises(VerifyMismatchError):
            real(asked[0], "seven green bicycles")
        costs = extract_parameters(asked[0])
        assert costs == extract_parameters(Argon2(2, 128, 1).hash("x"))
    finally:
        hasher.close()


async def test_the_default_costs_are_three_passes_over_64_mib():
    hasher = PasswordHasher()
    try:
        assert "$m=65536,t=3,p=1$" in await hasher.hash("seven green bicycles")
    finally:
        hasher.close()


async def test_hashing_does_not_hold_up_the_loop():
    hasher = PasswordHasher()
    loop = asyncio.get_running_loop()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    ticking = loop.create_task(tick())
    try:
        await hasher.hash("seven green bicycles")
        assert ticks > 100
    finally:
        ticking.cancel()
        hasher.close()


async def test_a_flood_of_sign_ins_is_refused_instead_of_queued_without_end():
    hasher = PasswordHasher(time_cost=1, memory_kib=64)
    try:
        results = await asyncio.gather(
            *(hasher.verify(None, "x") for _ in range(60)), return_exceptions=True
        )

        refused = [result for result in results if isinstance(result, Exhausted)]
        assert len(refused) == 60 - 34
    finally:
        hasher.close()
