"""Digest values against the standard's worked example, computed for it by md5sum and sha256sum."""

import pytest

from simulators.digest import authorization, choose, parameters, response

USER = "34020000001180000001"
PASSWORD = "12345678"
URI = "sip:34020000002000000001@3402000000"
NONCE = "6f1c9b7e4d2a4f0c8e5b3a1d9c7f2e60"
BASE = f'Digest realm="3402000000", nonce="{NONCE}"'


@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        (BASE, "a4e83956ccf27684b336d15281af1d3e"),
        (f"{BASE}, algorithm=MD5", "a4e83956ccf27684b336d15281af1d3e"),
        (f'{BASE}, algorithm=MD5, qop="auth"', "fa0a619eaa745ac7df741b36df6e8722"),
        (
            f"{BASE}, algorithm=SHA-256",
            "fa40e550b8069271fe58e8f571228e1e531886221bedcb8712ece612abb555e3",
        ),
        (
            f'{BASE}, algorithm=SHA-256, qop="auth,auth-int"',
            "d9fb714dc37d9b852a44fa147f5a0042de5eea6d6abc2c28e4fe4a39c644e1c5",
        ),
    ],
)
def test_the_response_is_that_of_the_worked_example(challenge: str, expected: str):
    chosen = choose([challenge])

    assert chosen is not None
    value = response(chosen, "REGISTER", URI, USER, PASSWORD, "0a4f113b", "00000001")
    assert value == expected


def test_sm3_is_openssl_s():
    chosen = choose([f"{BASE}, algorithm=SM3"])

    assert chosen is not None
    value = response(chosen, "REGISTER", URI, USER, PASSWORD, "", "00000001")
    assert len(value) == 64
    assert value != response(
        choose([f"{BASE}, algorithm=SHA-256"]), "REGISTER", URI, USER, PASSWORD, "", "00000001"
    )


def test_the_header_is_that_of_the_worked_example():
    chosen = choose([f"{BASE}, algorithm=MD5"])

    assert chosen is not None
    assert authorization(chosen, "REGISTER", URI, USER, PASSWORD, "0a4f113b") == (
        f'Digest username="{USER}", realm="3402000000", nonce="{NONCE}", uri="{URI}", '
        'response="a4e83956ccf27684b336d15281af1d3e", algorithm=MD5'
    )


def test_an_algorithm_is_named_only_when_the_challenge_names_it():
    unnamed = authorization(choose([BASE]), "REGISTER", URI, USER, PASSWORD, "")

    assert "algorithm" not in unnamed
    assert "qop" not in unnamed


def test_qop_and_opaque_are_given_back():
    chosen = choose([f'{BASE}, qop="auth", opaque="x1"'])

    fields = parameters(authorization(chosen, "REGISTER", URI, USER, PASSWORD, "0a4f113b"))

    assert fields["opaque"] == "x1"
    assert (fields["qop"], fields["nc"], fields["cnonce"]) == ("auth", "00000001", "0a4f113b")


def test_the_first_language_we_speak_is_taken():
    chosen = choose([f"{BASE}, algorithm=SHA-512-256", f"{BASE}, algorithm=SHA-256", BASE])

    assert chosen is not None
    assert chosen.algorithm == "SHA-256"


@pytest.mark.parametrize(
    "header", ["Basic realm=x", f"{BASE}, algorithm=MD5-sess", f'{BASE}, qop="auth-int"', ""]
)
def test_what_we_cannot_answer_is_not_chosen(header: str):
    assert choose([header]) is None


def test_stale_is_read_in_any_case():
    assert choose([f"{BASE}, stale=TRUE"]).stale
    assert not choose([f"{BASE}, stale=false"]).stale


def test_quoted_values_may_hold_commas_and_quotes():
    assert parameters(r'Digest realm="a, \"b\"", nonce=n1')["realm"] == 'a, "b"'
