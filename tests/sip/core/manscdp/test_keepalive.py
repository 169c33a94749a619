from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sip.core import examples
from vsp.sip.core.manscdp.envelope import parse_body
from vsp.sip.core.manscdp.keepalive import FAULTY_MAX, Keepalive, from_body, parse_keepalive
from vsp.sip.core.message import parse_message
from vsp.sip.core.uri import Malformed

BODY = parse_message(examples.KEEPALIVE).body
EXPECTED = Keepalive(43, "34020000001180000001", True)


def test_the_worked_keepalive_is_read_the_fast_way():
    assert parse_keepalive(BODY) == EXPECTED


@pytest.mark.parametrize(
    "body",
    [
        BODY.replace(b"><", b">\r\n<"),
        BODY.replace(b"\r\n", b"\n"),
        BODY + b"\x00",
        BODY.replace(b"</Notify>", b"<Info></Info></Notify>"),
        BODY.replace(b"</Notify>", b"<Info/>\n</Notify>"),
        BODY.replace(b"43", b" 43 "),
        BODY[BODY.index(b"<Notify") :],
    ],
)
def test_spacing_and_an_empty_info_change_nothing(body):
    assert parse_keepalive(body) == EXPECTED


@pytest.mark.parametrize("status", [b"OK", b"ok", b"ON", b"ONLINE"])
def test_a_sound_device_is_ok(status):
    found = parse_keepalive(BODY.replace(b"<Status>OK", b"<Status>" + status))

    assert found is not None
    assert found.ok


def test_a_device_may_report_its_own_fault():
    found = parse_keepalive(BODY.replace(b"<Status>OK", b"<Status>ERROR"))

    assert found == Keepalive(43, "34020000001180000001", False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        parse_message(examples.MEDIA_STATUS).body,
        BODY.replace(b"</Notify>", b"<Info><DeviceID>1</DeviceID></Info></Notify>"),
        BODY.replace(b"<SN>43</SN>", b""),
        BODY.replace(b"Keepalive", b"keepalive"),
        BODY + b"junk",
        BODY.replace(b"<DeviceID>", b"<DeviceID><![CDATA["),
    ],
)
def test_everything_else_is_left_to_the_whole_parser(body):
    assert parse_keepalive(body) is None


def test_faulty_sub_devices_are_named_and_bounded():
    named = b"".join(b"<DeviceID>%d</DeviceID>" % i for i in range(FAULTY_MAX + 5))
    body = BODY.replace(b"</Notify>", b"<Info><DeviceID/>" + named + b"</Info></Notify>")

    found = from_body(parse_body(body))

    assert found.faulty[:2] == ("0", "1")
    assert len(found.faulty) == FAULTY_MAX


def test_both_ways_read_the_same():
    assert from_body(parse_body(BODY)) == parse_keepalive(BODY)


@given(st.integers(0, 200), st.integers(0, 5), st.binary(max_size=5))
@settings(max_examples=300, deadline=None)
def test_what_the_fast_way_reads_the_whole_parser_reads_too(at, cut, put):
    body = BODY[:at] + put + BODY[at + cut :]

    fast = parse_keepalive(body)

    if fast is not None:
        try:
            assert from_body(parse_body(body)) == fast
        except Malformed:  # a declaration that no parser accepts
            assert body[: body.index(b"<Notify")] != BODY[: BODY.index(b"<Notify")]
