from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.errors import Invalid
from vsp.sip.core.uri import URI_LENGTH_MAX, Malformed, Uri


def test_a_gb_uri_has_a_digit_user_and_an_all_digit_domain():
    uri = Uri.parse("sip:34020000001320000001@3402000000")

    assert uri == Uri("sip", "34020000001320000001", "3402000000")
    assert str(uri) == "sip:34020000001320000001@3402000000"


@pytest.mark.parametrize(
    ("text", "user", "host", "port"),
    [
        ("sip:1@192.0.2.1:5060", "1", "192.0.2.1", 5060),
        ("<sip:1@192.0.2.1>", "1", "192.0.2.1", None),
        ("SIPS:1@example.cn", "1", "example.cn", None),
        ("sip:192.0.2.1", "", "192.0.2.1", None),
        ("sip:@3402000000", "", "3402000000", None),
        ("sip:1@[2001:db8::1]:5060", "1", "[2001:db8::1]", 5060),
        ("sip:340200@3402000000.spvmn.cn", "340200", "3402000000.spvmn.cn", None),
        ("sip:%E9%95%95@x", "%E9%95%95", "x", None),
    ],
)
def test_user_host_and_port_are_taken_apart(text, user, host, port):
    uri = Uri.parse(text)

    assert (uri.user, uri.host, uri.port) == (user, host, port)


def test_parameters_headers_and_password_are_kept_apart_from_the_host():
    uri = Uri.parse("sip:a:secret@h:1;Transport=tcp;lr?x=y")

    assert uri.params == (("transport", "tcp"), ("lr", ""))
    assert (uri.headers, uri.password) == ("x=y", "secret")
    assert uri.param("transport") == "tcp"
    assert uri.param("lr") == ""
    assert uri.param("maddr") is None
    assert str(uri) == "sip:a:secret@h:1;transport=tcp;lr?x=y"


def test_another_scheme_is_told_apart_but_not_taken_apart():
    assert Uri.parse("tel:+861012345") == Uri("tel", "", "+861012345")


@pytest.mark.parametrize(
    "text",
    ["", "sip:", "sip:a@", "sip:a b@c", "sip:a@h:99999", "sip:a@h:x", "34020000001320000001", "<>"],
)
def test_what_is_no_uri_is_malformed(text):
    with pytest.raises(Malformed):
        Uri.parse(text)


def test_the_length_limit_holds_at_its_edge():
    longest = "sip:" + "1" * (URI_LENGTH_MAX - 6) + "@h"

    assert len(Uri.parse(longest).user) == URI_LENGTH_MAX - 6
    with pytest.raises(Malformed):
        Uri.parse(longest + "h")


def test_malformed_is_an_invalid_of_the_nine_kinds():
    assert Malformed("x").kind == Invalid("x").kind


@given(
    user=st.text(string.ascii_letters + string.digits + "-_.!~*'()%", max_size=40),
    host=st.text(string.ascii_letters + string.digits + ".-", min_size=1, max_size=40),
    port=st.none() | st.integers(0, 65535),
    params=st.lists(st.tuples(st.text("abcdef", min_size=1), st.text("abc123")), max_size=4).map(
        tuple
    ),
)
def test_what_is_written_is_read_back(user, host, port, params):
    uri = Uri("sip", user, host, port, params)

    assert Uri.parse(str(uri)) == uri


@given(st.text(max_size=200))
def test_any_text_is_a_uri_or_malformed(text):
    try:
        Uri.parse(text)
    except Malformed:
        return
