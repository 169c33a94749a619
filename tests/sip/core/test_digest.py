from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sip.core import examples
from vsp.errors import Invalid, Unsupported
from vsp.model.device import DigestAlgorithm
from vsp.sip.core import digest as module
from vsp.sip.core.digest import (
    Accepted,
    Challenge,
    DigestServer,
    NonceIssuer,
    Refused,
    Secret,
    UsedNonces,
    answer,
    parse_auth,
    response,
)
from vsp.sip.core.message import parse_message

DEVICE = "34020000001180000001"
REALM = "3402000000"
HOST = "198.51.100.20"
URI = "sip:34020000002000000001@3402000000"
LIFE_S = 60.0
MD5, SHA256, SM3 = DigestAlgorithm.MD5, DigestAlgorithm.SHA256, DigestAlgorithm.SM3


def server(*, qop: bool = False, key: bytes = b"k" * 32) -> DigestServer:
    return DigestServer(REALM, NonceIssuer(key, LIFE_S), qop=qop)


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def nonce_of(challenge: Challenge) -> str:
    return parse_auth(challenge.header)[1]["nonce"]


def signed(nonce: str, *, password: str = examples.PASSWORD, **changes: str) -> str:
    """An Authorization header as a device writes it, by hashlib and not by the code under test."""
    params = {"username": DEVICE, "realm": REALM, "nonce": nonce, "uri": URI} | changes
    ha1 = md5(f"{params['username']}:{params['realm']}:{password}")
    ha2 = md5(f"REGISTER:{params['uri']}")
    middle = ""
    if "qop" in params:
        middle = f"{params.get('nc', '')}:{params.get('cnonce', '')}:{params['qop']}:"
    params.setdefault("response", md5(f"{ha1}:{params['nonce']}:{middle}{ha2}"))
    return "Digest " + ", ".join(f'{key}="{value}"' for key, value in params.items())


def check(
    judge: DigestServer, header: str | None, now: float = 0.0, host: str = HOST, **changes: object
) -> Accepted | Challenge | Refused:
    username = str(changes.get("username", DEVICE))
    algorithm = changes.get("algorithm", MD5)
    assert isinstance(algorithm, DigestAlgorithm)
    device_id = str(changes.get("device_id", DEVICE))
    secret = Secret(examples.PASSWORD)
    return judge.check(header, "REGISTER", device_id, username, secret, host, now, algorithm)


def challenged(judge: DigestServer, now: float = 0.0, **changes: object) -> str:
    """A fresh nonce."""
    verdict = check(judge, None, now, **changes)
    assert isinstance(verdict, Challenge)
    return nonce_of(verdict)


# ---- the worked numbers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "plain", "with_qop"),
    [
        (MD5, "a4e83956ccf27684b336d15281af1d3e", "fa0a619eaa745ac7df741b36df6e8722"),
        (
            SHA256,
            "fa40e550b8069271fe58e8f571228e1e531886221bedcb8712ece612abb555e3",
            "d9fb714dc37d9b852a44fa147f5a0042de5eea6d6abc2c28e4fe4a39c644e1c5",
        ),
    ],
)
def test_the_worked_responses_come_out(algorithm, plain, with_qop):
    ha1 = Secret(examples.PASSWORD).ha1(algorithm, DEVICE, REALM)
    params = {"nonce": examples.NONCE, "uri": URI}
    qop = {"qop": "auth", "nc": "00000001", "cnonce": "0a4f113b"}

    assert response(algorithm, ha1, "REGISTER", params) == plain
    assert response(algorithm, ha1, "REGISTER", params | qop) == with_qop


def test_the_worked_ha1_comes_out():
    ha1 = Secret(examples.PASSWORD).ha1(MD5, DEVICE, REALM)

    assert ha1 == "267d3310dd883612bd0c4e9fb9be4f0d"


def test_the_worked_authorization_is_read():
    header = parse_message(examples.REGISTER_SIGNED).header("authorization")

    scheme, params = parse_auth(header or "")

    assert scheme == "digest"
    assert params == {
        "username": DEVICE,
        "realm": REALM,
        "nonce": examples.NONCE,
        "uri": URI,
        "response": "a4e83956ccf27684b336d15281af1d3e",
        "algorithm": "MD5",
    }


def test_sm3_is_the_hash_of_gb_t_32905():
    # the standard's own example: SM3("abc")
    expected = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"

    assert module.digest(SM3, "abc") == expected


# ---- the ordinary ways ----------------------------------------------------------------------


def test_a_request_without_credentials_is_challenged_in_the_standards_form():
    verdict = check(server(), None)

    assert isinstance(verdict, Challenge)
    assert not verdict.stale
    nonce = nonce_of(verdict)
    assert verdict.header == f'Digest realm="3402000000", nonce="{nonce}", algorithm=MD5'


def test_a_signed_answer_is_accepted():
    judge = server()

    verdict = check(judge, signed(challenged(judge)), now=0.1)

    assert verdict == Accepted(DEVICE)


def test_both_forms_are_accepted_whatever_was_offered():
    for offered in (False, True):
        judge = server(qop=offered)
        assert check(judge, signed(challenged(judge))) == Accepted(DEVICE)
        nonce = challenged(judge)
        header = signed(nonce, qop="auth", nc="00000001", cnonce="0a4f113b")
        assert check(judge, header) == Accepted(DEVICE)


def test_qop_is_offered_when_set():
    verdict = check(server(qop=True), None)

    assert isinstance(verdict, Challenge)
    assert verdict.header.endswith(', qop="auth"')


@pytest.mark.parametrize("uri", ["sip:192.0.2.10:5060", "sip:1@192.0.2.10:5060", "sip:3402000000"])
def test_the_uri_is_taken_as_the_device_wrote_it(uri):
    judge = server()

    assert check(judge, signed(challenged(judge), uri=uri)) == Accepted(DEVICE)


def test_a_device_may_have_a_user_name_of_its_own():
    judge = server()

    verdict = check(judge, signed(challenged(judge), username="admin"), username="admin")

    assert verdict == Accepted("admin")


@pytest.mark.parametrize("algorithm", [SHA256, SM3])
def test_other_algorithms_are_offered_by_device_setting(algorithm):
    judge = server(qop=True)
    offer = check(judge, None, algorithm=algorithm)
    assert isinstance(offer, Challenge)
    assert f"algorithm={algorithm.value}" in offer.header

    header = answer(offer.header, "REGISTER", URI, DEVICE, examples.PASSWORD, cnonce="c")

    assert check(judge, header, algorithm=algorithm) == Accepted(DEVICE)


def test_sloppy_headers_are_read():
    judge = server()
    tidy = signed(challenged(judge))
    sloppy = tidy.replace("Digest ", "DIGEST   ").replace(", ", " ,").replace("realm=", "Realm = ")

    assert check(judge, sloppy) == Accepted(DEVICE)


def test_an_upper_case_response_is_read():
    judge = server()
    header = signed(challenged(judge))
    value = parse_auth(header)[1]["response"]

    assert check(judge, header.replace(value, value.upper())) == Accepted(DEVICE)


# ---- replay ---------------------------------------------------------------------------------


def test_a_captured_answer_without_qop_is_never_accepted_again():
    judge = server()
    header = signed(challenged(judge))
    assert check(judge, header) == Accepted(DEVICE)

    for at in (0.0, 1.0, 30.0, 59.9, 61.0, 200.0, 10_000.0):
        for host in (HOST, "203.0.113.9"):
            assert isinstance(check(judge, header, at, host), Challenge)


def test_a_replay_gets_a_new_challenge_that_can_be_answered():
    judge = server()
    header = signed(challenged(judge))
    check(judge, header)

    again = check(judge, header)

    assert isinstance(again, Challenge)
    assert again.stale
    assert check(judge, signed(nonce_of(again))) == Accepted(DEVICE)


def test_with_qop_the_count_must_rise_strictly():
    judge = server(qop=True)
    nonce = challenged(judge)

    def use(count: int) -> bool:
        header = signed(nonce, qop="auth", nc=f"{count:08x}", cnonce="c")
        return isinstance(check(judge, header), Accepted)

    assert [use(count) for count in (1, 2, 2, 1, 10, 9, 11)] == [
        True, True, False, False, True, False, True,
    ]  # fmt: skip


def test_a_count_beside_no_qop_does_not_make_a_second_use():
    judge = server()
    nonce = challenged(judge)

    assert isinstance(check(judge, signed(nonce, nc="00000001", cnonce="c")), Accepted)
    assert isinstance(check(judge, signed(nonce, nc="00000002", cnonce="c")), Challenge)


def test_a_nonce_used_up_without_qop_is_used_up_with_it():
    judge = server()
    nonce = challenged(judge)
    check(judge, signed(nonce))

    header = signed(nonce, qop="auth", nc="00000001", cnonce="c")

    assert isinstance(check(judge, header), Challenge)


def test_challenges_of_one_moment_differ():
    judge = server()

    assert len({challenged(judge) for _ in range(1000)}) == 1000


def test_an_expired_nonce_is_stale():
    judge = server()
    nonce = challenged(judge, now=100.0)

    assert isinstance(check(judge, signed(nonce), now=100.0 + LIFE_S), Accepted)
    other = challenged(judge, now=100.0)
    verdict = check(judge, signed(other), now=100.1 + LIFE_S)
    assert isinstance(verdict, Challenge)
    assert verdict.stale
    assert verdict.header.endswith(", stale=true")


def test_a_nonce_from_before_a_restart_of_the_timer_is_stale_and_not_foreign():
    nonce = challenged(server(), now=90_000.0)

    verdict = check(server(), signed(nonce), now=3.0)

    assert isinstance(verdict, Challenge)
    assert verdict.stale


def test_a_nonce_works_only_for_the_device_and_address_it_was_made_for():
    judge = server()
    moved = check(judge, signed(challenged(judge)), host="203.0.113.9")
    stolen = check(judge, signed(challenged(judge, device_id="34020000001180000002")))

    assert isinstance(moved, Challenge)
    assert isinstance(stolen, Challenge)


def test_a_full_table_of_used_nonces_expires_every_nonce(monkeypatch):
    monkeypatch.setattr(module, "USED_MAX", 10)
    judge = server()
    headers = [signed(challenged(judge, now=i / 10)) for i in range(12)]
    verdicts = [check(judge, header, now=2.0) for header in headers]

    assert [isinstance(verdict, Accepted) for verdict in verdicts] == [True] * 11 + [False]
    assert all(isinstance(check(judge, header, now=2.0), Challenge) for header in headers)
    assert isinstance(check(judge, signed(challenged(judge, now=2.1)), now=2.2), Accepted)


def test_the_table_forgets_only_what_has_expired():
    used = UsedNonces(LIFE_S)
    for second in range(1000):
        assert used.use(f"n{second}", 1, float(second))
        for recent in range(max(0, second - int(LIFE_S)), second):
            assert not used.use(f"n{recent}", 1, float(second))

    assert len(used) <= 3 * LIFE_S


# ---- refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"username": "34020000001180000002"}, "username"),
        ({"realm": "evil"}, "realm"),
        ({"nonce": examples.NONCE}, "nonce"),
        ({"nonce": ""}, "nonce"),
        ({"uri": ""}, "uri"),
        ({"response": ""}, "response"),
        ({"response": "0" * 32}, "password"),
        ({"algorithm": "SHA-256"}, "algorithm"),
        ({"qop": "auth"}, "qop"),
        ({"qop": "auth", "nc": "1", "cnonce": "c"}, "qop"),
        ({"qop": "auth-int", "nc": "00000001", "cnonce": "c"}, "qop"),
    ],
)
def test_credentials_that_are_not_for_us_are_refused(changes, reason):
    judge = server()
    given = {"nonce": challenged(judge)} | changes

    verdict = check(judge, signed(given.pop("nonce"), **given))

    assert isinstance(verdict, Refused)
    assert reason in verdict.reason


def test_a_wrong_password_is_refused():
    judge = server()

    verdict = check(judge, signed(challenged(judge), password="87654321"))

    assert verdict == Refused("wrong password")


def test_a_wrong_password_is_refused_also_with_an_expired_nonce():
    judge = server()
    nonce = challenged(judge)

    assert check(judge, signed(nonce, password="x"), now=1000.0) == Refused("wrong password")


def test_nonces_of_another_key_are_foreign():
    nonce = challenged(server(key=b"other" * 8))

    assert check(server(), signed(nonce)) == Refused("nonce is not ours")


@pytest.mark.parametrize(
    "header",
    [
        'Capability algorithm="A:SM2;H:SM3;S:SM4/OFB/PKCS5;SI:SM3-SM2", keyversion="2026"',
        'Asymmetric nonce="x", algorithm="1.2.840"',
        "Basic YWRtaW46YWRtaW4=",
        "",
        "   ",
    ],
)
def test_another_scheme_is_challenged_with_digest(header):
    verdict = check(server(), header)

    assert isinstance(verdict, Challenge)
    assert not verdict.stale


def test_an_empty_password_is_impossible():
    with pytest.raises(Invalid):
        Secret("")


def test_a_secret_does_not_show_itself():
    assert examples.PASSWORD not in repr(Secret(examples.PASSWORD))


def test_a_short_key_is_refused():
    with pytest.raises(Invalid):
        NonceIssuer(b"short", LIFE_S)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_header_is_judged(header):
    verdict = check(server(), header)
    digest = check(server(), "Digest " + header)

    assert isinstance(verdict, Challenge | Refused)
    assert isinstance(digest, Challenge | Refused)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_a_changed_header_is_never_accepted_for_another_device(data):
    judge = server()
    header = signed(challenged(judge))
    at = data.draw(st.integers(0, len(header) - 1))
    put = data.draw(st.text('abc0123456789"=, ', max_size=2))
    changed = header[:at] + put + header[at + 1 :]

    verdict = check(judge, changed)

    if isinstance(verdict, Accepted):  # blanks and letter case only
        assert parse_auth(changed)[1]["response"].lower() == parse_auth(header)[1]["response"]
        assert parse_auth(changed)[1]["nonce"] == parse_auth(header)[1]["nonce"]
        assert parse_auth(changed)[1]["uri"] == URI


# ---- as a client ----------------------------------------------------------------------------


def test_our_answer_to_a_challenge_is_the_worked_one():
    challenge = parse_message(examples.CHALLENGE).header("www-authenticate") or ""

    header = answer(challenge, "REGISTER", URI, DEVICE, examples.PASSWORD)

    assert header == parse_message(examples.REGISTER_SIGNED).header("authorization")


def test_our_answer_takes_up_qop_and_opaque():
    challenge = f'Digest realm="{REALM}", nonce="{examples.NONCE}", qop="auth,auth-int", opaque="o"'

    params = parse_auth(
        answer(challenge, "REGISTER", URI, DEVICE, examples.PASSWORD, cnonce="0a4f113b")
    )[1]

    assert params["response"] == "fa0a619eaa745ac7df741b36df6e8722"
    assert (params["qop"], params["nc"], params["opaque"]) == ("auth", "00000001", "o")


@pytest.mark.parametrize(
    ("challenge", "kind"),
    [
        ("Basic realm=x", Unsupported),
        ('Digest realm="x"', Invalid),
        ('Digest realm="x", nonce="y", algorithm=SHA-512', Unsupported),
    ],
)
def test_a_challenge_that_cannot_be_answered_is_an_error(challenge, kind):
    with pytest.raises(kind):
        answer(challenge, "REGISTER", URI, DEVICE, "p")
