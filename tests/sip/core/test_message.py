from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sip.core import examples
from tests.sip.core.helpers import CAMERA
from vsp.sip.core.message import (
    DATAGRAM_BYTES_MAX,
    HEADERS_MAX,
    LINE_BYTES_MAX,
    VIAS_MAX,
    Malformed,
    Message,
    NameAddr,
    build_request,
    parse_message,
    reply_bytes,
)
from vsp.sip.core.uri import Uri


def request(*lines: str, body: bytes = b"", drop: tuple[str, ...] = ()) -> bytes:
    """A MESSAGE with extra header lines, or lines that replace those of the same name."""
    given = {line.partition(":")[0].strip().lower() for line in lines}
    base = [
        "Via: SIP/2.0/UDP 198.51.100.20:5060;rport;branch=z9hG4bK1",
        "From: <sip:34020000001180000001@3402000000>;tag=f",
        "To: <sip:34020000002000000001@3402000000>",
        "Call-ID: c@h",
        "CSeq: 1 MESSAGE",
    ]
    kept = [line for line in base if line.partition(":")[0].lower() not in {*given, *drop}]
    head = "\r\n".join(["MESSAGE sip:1@h SIP/2.0", *kept, *lines])
    return head.encode() + b"\r\n\r\n" + body


# ---- the worked examples --------------------------------------------------------------------


@pytest.mark.parametrize("name", examples.MESSAGES)
def test_each_worked_example_parses_without_an_oddity(name):
    message = parse_message(examples.MESSAGES[name])

    assert message.oddities == ()
    assert len(message.body) == int(message.header("content-length") or 0)


def test_the_fields_of_a_register_are_read():
    message = parse_message(examples.REGISTER)

    assert message.method == "REGISTER"
    assert message.uri == b"sip:34020000002000000001@3402000000"
    assert message.vias == [b"SIP/2.0/UDP 198.51.100.20:5060;rport;branch=z9hG4bKr1"]
    assert message.branch == b"z9hG4bKr1"
    assert message.from_ == NameAddr(
        Uri("sip", "34020000001180000001", "3402000000"), (("tag", "r100"),)
    )
    assert message.from_.tag == "r100"
    assert message.from_user == message.from_.user == "34020000001180000001"
    assert message.to.tag == ""
    assert message.call_id == "reg-0001@198.51.100.20"
    assert message.cseq == (1, "REGISTER")
    assert str(message.contact and message.contact.uri) == (
        "sip:34020000001180000001@198.51.100.20:5060"
    )
    assert message.expires == 3600
    assert message.user_agent == "sim-nvr/1.0"
    assert message.header("x-gb-ver") == "2.0"
    assert message.header("authorization") is None


def test_the_fields_of_a_response_are_read():
    message = parse_message(examples.CHALLENGE)

    assert (message.method, message.status, message.reason) == (None, 401, "Unauthorized")
    assert message.start_line == "SIP/2.0 401 Unauthorized"
    assert (message.header("www-authenticate") or "").startswith('Digest realm="3402000000"')


def test_content_types_are_compared_in_lower_case_without_parameters():
    assert parse_message(examples.KEEPALIVE).content_type == "application/manscdp+xml"
    assert parse_message(request("Content-Type: A/B;charset=x")).content_type == "a/b"
    assert parse_message(request()).content_type == ""


# ---- tolerated deviations -------------------------------------------------------------------


def test_compact_names_any_case_and_folded_lines_are_read():
    data = request("v: SIP/2.0/UDP h;branch=b", "i:\r\n\tc2@h", "SUBJECT:a,\r\n b", drop=("via",))
    data = data.replace(b"Call-ID: c@h\r\n", b"")

    message = parse_message(data)

    assert message.branch == b"b"
    assert message.call_id == "c2@h"
    assert message.header("subject") == "a, b"


def test_a_via_without_blank_branch_or_rport_is_accepted():
    message = parse_message(request("Via:SIP/2.0/UDP 198.51.100.20"))

    assert message.vias == [b"SIP/2.0/UDP 198.51.100.20"]
    assert message.branch == b""


def test_several_vias_on_one_line_are_told_apart():
    message = parse_message(request("Via: SIP/2.0/UDP a;branch=1, SIP/2.0/TCP b;branch=2"))

    assert message.headers("via") == ["SIP/2.0/UDP a;branch=1", "SIP/2.0/TCP b;branch=2"]


def test_bare_line_feeds_are_noted_and_read():
    message = parse_message(examples.REGISTER.replace(b"\r\n", b"\n"))

    assert message.oddities == ["bare-lf"]
    assert message.call_id == "reg-0001@198.51.100.20"


def test_empty_lines_before_the_start_line_are_skipped():
    assert parse_message(b"\r\n\r\n".join([b"", examples.REGISTER])[2:]).method == "REGISTER"


@pytest.mark.parametrize("declared", [0, 3, 400])
def test_a_wrong_content_length_gives_the_body_that_came(declared):
    message = parse_message(request(f"Content-Length: {declared}", body=b"<Notify>..</Notify>"))

    assert message.body == b"<Notify>..</Notify>"
    assert message.oddities == ["content-length"]


@pytest.mark.parametrize("rest", [b"\x00\x00", b"\r\n\r\n", examples.KEEPALIVE])
def test_blanks_and_another_message_behind_the_body_are_cut_off(rest):
    message = parse_message(request("Content-Length: 4", body=b"body" + rest))

    assert message.body == b"body"
    assert message.oddities == ()


def test_without_content_length_the_body_is_the_rest_of_the_datagram():
    assert parse_message(request(body=b"all of it")).body == b"all of it"


def test_a_method_in_small_letters_is_noted_and_read_in_capitals():
    message = parse_message(request().replace(b"MESSAGE", b"Message"))

    assert message.method == "MESSAGE"
    assert message.cseq == (1, "MESSAGE")
    assert message.oddities == ["lower-method"]


def test_a_status_line_without_reason_is_noted():
    message = parse_message(examples.KEEPALIVE_OK.replace(b"200 OK", b"200"))

    assert (message.status, message.reason, message.oddities) == (200, "", ["no-reason"])


def test_a_header_line_without_colon_is_left_out():
    message = parse_message(request("nonsense"))

    assert message.oddities == ["no-colon"]


def test_a_from_without_an_id_has_an_empty_user():
    message = parse_message(request("From: <sip:3402000000>;tag=1"))

    assert message.from_user == ""
    assert message.from_.user == ""


def test_header_values_in_another_character_set_do_not_fail():
    data = request("User-Agent: X").replace(b"X", "摄像机".encode("gb18030"))

    assert parse_message(data).user_agent


def test_the_first_of_repeated_headers_counts_and_all_are_kept():
    message = parse_message(request("Warning: 1", "Warning: 2"))

    assert message.header("warning") == "1"
    assert message.headers("warning") == ["1", "2"]
    assert message.headers("subject") == []


@pytest.mark.parametrize(
    ("lines", "expires"),
    [
        (["Expires: 3600"], 3600),
        (["Contact: <sip:1@h>;expires=60", "Expires: 3600"], 60),
        (["Contact: <sip:1@h>;Expires=0"], 0),
        (["Contact: *", "Expires: 0"], 0),
        (["Expires: soon"], None),
        (["Expires: -1"], None),
        (["Expires: 99999999999999999999"], 0xFFFFFFFF),
        ([], None),
    ],
)
def test_expires_is_the_contacts_parameter_before_the_header(lines, expires):
    assert parse_message(request(*lines)).expires == expires


@pytest.mark.parametrize(
    ("value", "text", "uri", "tag"),
    [
        ('"A, B" <sip:1@h;lr>;tag=x', "A, B", "sip:1@h;lr", "x"),
        ("Camera 1 <sip:1@h> ; tag = x", "Camera 1", "sip:1@h", "x"),
        ("sip:1@h;tag=x", "", "sip:1@h", "x"),
        ("<sip:1@h>", "", "sip:1@h", ""),
        ('"q\\"uote" <sip:1@h>;TAG="x"', 'q\\"uote', "sip:1@h", "x"),
        ("<sip:1@h>;tag=x, <sip:2@h>;tag=y", "", "sip:1@h", "x"),
    ],
)
def test_addresses_are_read_with_and_without_brackets(value, text, uri, tag):
    address = NameAddr.parse(value)

    assert (address.text, str(address.uri), address.tag) == (text, uri, tag)


# ---- hostile input --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n\r\n",
        b"MESSAGE sip:1@h SIP/2.0\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        request(drop=("via",)),
        request(drop=("from",)),
        request(drop=("call-id",)),
        request("CSeq: 1 INVITE"),
        request("CSeq: x MESSAGE"),
        request("CSeq: 36893488147419103232 MESSAGE"),
        request("Content-Length: -1"),
        request("Content-Length: many"),
        request().replace(b"sip:1@h", b"sip:1 @h"),
        request().replace(b" SIP/2.0\r\n", b" SIP/2.0 \r\n", 1),
        examples.KEEPALIVE_OK.replace(b"200", b"4294967301"),
        examples.KEEPALIVE_OK.replace(b"200", b"799"),
    ],
)
def test_what_is_no_message_is_malformed(data):
    with pytest.raises(Malformed):
        parse_message(data)


def test_another_version_is_malformed_with_its_own_status():
    with pytest.raises(Malformed) as caught:
        parse_message(request().replace(b"SIP/2.0\r\nVia", b"SIP/7.0\r\nVia"))

    assert caught.value.status == 505
    assert isinstance(caught.value.partial, Message)


def test_a_malformed_request_that_can_be_answered_carries_what_the_answer_echoes():
    with pytest.raises(Malformed) as caught:
        parse_message(request("CSeq: 1 INVITE"))

    assert isinstance(caught.value.partial, Message)
    assert reply_bytes(caught.value.partial, 400, "Bad Request").startswith(b"SIP/2.0 400")


def test_limits_hold_at_their_edge():
    fits = [f"X{i}: 1" for i in range(HEADERS_MAX - 5)]
    line = "X: " + "x" * (LINE_BYTES_MAX - 3)
    vias = ["Via: SIP/2.0/UDP h"] * VIAS_MAX

    assert parse_message(request(*fits)).method
    assert parse_message(request(line)).method
    assert len(parse_message(request(*vias)).vias) == VIAS_MAX
    for beyond in ([*fits, "Y: 1"], [line + "x"], [*vias, "Via: SIP/2.0/UDP h"]):
        with pytest.raises(Malformed):
            parse_message(request(*beyond))


def test_a_whole_datagram_of_body_is_read():
    head = request()
    body = b"x" * (DATAGRAM_BYTES_MAX - len(head))

    assert parse_message(head + body).body == body


@pytest.mark.parametrize(
    "evil",
    [
        "From: " + " " * 8000,
        "From: " + '"' * 8000,
        "From: " + "\\" * 8000,
        'From: "' + '\\"' * 4000,
        "From: " + "sip:" * 2000,
        "From: <sip:" + "a" * 8000 + ">",
        "Via: " + "/" * 8000,
        "Via: " + "; " * 4000,
        "Via: a/b/c " + "[" * 8000,
        "Contact: " + "<" * 8000,
        "CSeq: " + " " * 8000,
        "Content-Length: " + "9" * 8000,
    ],
)
def test_no_header_costs_more_than_its_length(evil):
    began = time.perf_counter()

    try:
        message = parse_message(request(evil))
        reply_bytes(message, 200, "OK", to_tag="t", peer=CAMERA)
        _ = (message.from_user, message.branch, message.contact, message.from_, message.to)
    except Malformed:
        pass

    assert time.perf_counter() - began < 0.5  # about 1 ms; quadratic patterns take seconds


ACCESSORS = (
    "from_",
    "to",
    "contact",
    "expires",
    "content_type",
    "user_agent",
    "branch",
    "from_user",
    "call_id",
    "cseq",
    "start_line",
)


def use_all(data: bytes) -> None:
    """Everything a shell may do with bytes from the network."""
    message = parse_message(data)
    for name in ACCESSORS:
        try:
            getattr(message, name)
        except Malformed:
            continue
    for name in ("via", "contact", "from"):
        message.header(name)
        message.headers(name)
    reply_bytes(message, 200, "OK", to_tag="t", peer=CAMERA)


@given(st.binary(max_size=600))
@settings(max_examples=200, deadline=None)
def test_any_bytes_parse_or_are_malformed(data):
    try:
        use_all(data)
    except Malformed:
        return


@given(
    name=st.sampled_from(sorted(examples.MESSAGES)),
    edits=st.lists(
        st.tuples(
            st.integers(0, 2000),
            st.integers(0, 3),
            st.sampled_from([b"", b"\r\n", b"\n", b":", b";", b",", b'"', b"<", b">", b"\x00"])
            | st.binary(max_size=3),
        ),
        min_size=1,
        max_size=6,
    ),
)
@settings(max_examples=400, deadline=None)
def test_mutated_examples_parse_or_are_malformed(name, edits):
    data = examples.MESSAGES[name]
    for at, cut, put in edits:
        at %= len(data)
        data = data[:at] + put + data[at + cut :]

    try:
        use_all(data)
    except Malformed:
        return


# ---- replies and requests -------------------------------------------------------------------


def test_the_keepalive_answer_is_byte_for_byte_the_examples():
    keepalive = parse_message(examples.KEEPALIVE)

    reply = reply_bytes(keepalive, 200, "OK", to_tag="p43", peer=CAMERA)

    assert reply == examples.KEEPALIVE_OK


def test_a_reply_echoes_every_via_and_adds_headers_and_body():
    message = parse_message(request("Via: SIP/2.0/UDP a;branch=1,SIP/2.0/UDP b", "Call-ID:  c "))

    reply = parse_message(
        reply_bytes(message, 480, "Away", (("Retry-After", "5"),), b"why", "t", CAMERA)
    )

    assert reply.vias == [b"SIP/2.0/UDP a;branch=1;received=198.51.100.20", b"SIP/2.0/UDP b"]
    assert (reply.status, reply.reason, reply.body) == (480, "Away", b"why")
    assert reply.header("retry-after") == "5"
    assert reply.call_id == "c"
    assert reply.to.tag == "t"


@pytest.mark.parametrize(
    ("via", "stamped"),
    [
        (
            "SIP/2.0/UDP 10.0.0.2:5060;branch=b;rport",
            "SIP/2.0/UDP 10.0.0.2:5060;branch=b;rport=5060;received=198.51.100.20",
        ),
        (
            "SIP/2.0/UDP 10.0.0.2;rport=1;received=6.6.6.6;branch=b",
            "SIP/2.0/UDP 10.0.0.2;rport=5060;received=198.51.100.20;branch=b",
        ),
        ("SIP/2.0/UDP 198.51.100.20:5060", "SIP/2.0/UDP 198.51.100.20:5060"),
        ("SIP/2.0/UDP 10.0.0.2", "SIP/2.0/UDP 10.0.0.2;received=198.51.100.20"),
        ("nonsense", "nonsense;received=198.51.100.20"),
    ],
)
def test_rport_and_received_tell_the_source_address(via, stamped):
    message = parse_message(request(f"Via: {via}"))

    reply = parse_message(reply_bytes(message, 200, "OK", peer=CAMERA))

    assert reply.headers("via") == [stamped]


def test_a_100_and_a_request_within_a_dialog_get_no_new_tag():
    outside = parse_message(request())
    inside = parse_message(request("To: <sip:1@h>;Tag=old"))

    assert b";tag=new" not in reply_bytes(outside, 100, "Trying", to_tag="new")
    assert b";tag=new" not in reply_bytes(inside, 200, "OK", to_tag="new")


def test_record_routes_are_echoed_into_answers_that_make_dialogs():
    message = parse_message(request("Record-Route: <sip:a;lr>", "Record-Route: <sip:b;lr>"))

    reply = parse_message(reply_bytes(message, 200, "OK"))

    assert reply.headers("record-route") == ["<sip:a;lr>", "<sip:b;lr>"]
    assert b"Record-Route" not in reply_bytes(message, 404, "Not Found")


def test_a_request_is_built_as_it_is_read():
    headers = [("Via", "SIP/2.0/UDP h"), ("From", "<sip:1@h>;tag=1"), ("To", "<sip:2@h>")]
    headers += [("Call-ID", "c"), ("CSeq", "7 MESSAGE")]

    message = parse_message(build_request("MESSAGE", "sip:2@h", headers, "体".encode()))

    assert message.uri == b"sip:2@h"
    assert message.cseq == (7, "MESSAGE")
    assert message.body == "体".encode()
    assert message.header("content-length") == "3"


@pytest.mark.parametrize("value", ["a\r\nEvil: 1", "a\nb", "a\rb"])
def test_line_breaks_cannot_be_smuggled_into_headers(value):
    with pytest.raises(Malformed):
        build_request("MESSAGE", "sip:2@h", [("Subject", value)])
    with pytest.raises(Malformed):
        reply_bytes(parse_message(request()), 200, "OK", [("Subject", value)])


def test_line_breaks_cannot_be_smuggled_into_the_request_uri():
    with pytest.raises(Malformed):
        build_request("MESSAGE", "sip:2@h SIP/2.0\r\nEvil: 1", [])


@given(
    status=st.integers(101, 699),
    tag=st.text("abcdef0123456789", min_size=1, max_size=12),
    body=st.binary(max_size=200),
    name=st.sampled_from(
        [
            name
            for name in sorted(examples.MESSAGES)
            if parse_message(examples.MESSAGES[name]).method
        ]
    ),
)
@settings(deadline=None)
def test_every_reply_to_an_example_is_read_back(status, tag, body, name):
    asked = parse_message(examples.MESSAGES[name])

    reply = parse_message(reply_bytes(asked, status, "Reason", (), body, tag, CAMERA))

    assert (reply.status, reply.body, reply.oddities) == (status, body, ())
    assert (reply.call_id, reply.cseq, reply.from_) == (asked.call_id, asked.cseq, asked.from_)
    assert reply.branch == asked.branch
    assert reply.to.tag == (asked.to.tag or tag)
