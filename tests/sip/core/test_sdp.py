from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sip.core import examples
from vsp.errors import Unsupported
from vsp.model.device import MediaTransport
from vsp.sip.core.message import parse_message
from vsp.sip.core.sdp import (
    LINES_MAX,
    SDP_BYTES_MAX,
    Media,
    Sdp,
    offer_live,
    parse_answer,
    parse_sdp,
)
from vsp.sip.core.uri import Malformed

UDP, PASSIVE, ACTIVE = (
    MediaTransport.UDP,
    MediaTransport.TCP_PASSIVE,
    MediaTransport.TCP_ACTIVE,
)
PLATFORM_ID = "34020000002000000001"
ANSWER = parse_message(examples.INVITE_OK).body


def answer(*changes: tuple[bytes, bytes], base: bytes = ANSWER) -> bytes:
    for old, new in changes:
        assert old in base
        base = base.replace(old, new)
    return base


# ---- offers ---------------------------------------------------------------------------------


def test_the_udp_offer_is_byte_for_byte_the_examples():
    offer = offer_live(
        PLATFORM_ID, "192.0.2.11", 30000, UDP, 200000001, media_format="v/2/6/25/1/4096a///"
    )

    assert offer == parse_message(examples.INVITE).body


def test_the_tcp_offer_is_byte_for_byte_the_examples():
    offer = offer_live(PLATFORM_ID, "192.0.2.11", 30002, PASSIVE, 200000002)

    assert offer == examples.TCP_OFFER_SDP


def test_the_active_offer_says_that_we_connect():
    offer = offer_live(PLATFORM_ID, "192.0.2.11", 30002, ACTIVE, 200000003)

    assert b"a=setup:active\r\n" in offer


def test_y_is_the_last_line_of_an_offer_but_for_f():
    plain = offer_live(PLATFORM_ID, "h", 2, PASSIVE, 1, stream_number=1)
    described = offer_live(PLATFORM_ID, "h", 2, UDP, 1, media_format="")

    assert plain.endswith(b"a=streamnumber:1\r\ny=0000000001\r\n")
    assert described.endswith(b"y=0000000001\r\nf=\r\n")


def test_an_ipv6_address_is_written_as_one():
    offer = offer_live(PLATFORM_ID, "2001:db8::1", 30000, UDP, 1)

    assert b"c=IN IP6 2001:db8::1\r\n" in offer
    assert parse_sdp(offer).host == "2001:db8::1"


# ---- answers --------------------------------------------------------------------------------


def test_the_worked_answers_are_read():
    udp = parse_answer(ANSWER, UDP)
    tcp = parse_answer(examples.TCP_ANSWER_SDP, PASSIVE)

    assert (udp.host, udp.port, udp.ssrc) == ("198.51.100.20", 15060, 200000001)
    assert udp.payloads == ((96, "PS"),)
    assert (tcp.host, tcp.port, tcp.transport) == ("198.51.100.20", 15062, PASSIVE)
    assert tcp.ssrc == 200000002


@pytest.mark.parametrize(
    ("line", "ssrc"),
    [
        (b"y=1200000001", 1200000001),
        (b"y=100000001", 100000001),
        (b"y= 0200000001 ", 200000001),
        (b"y=4294967295", 4294967295),
        (b"y=4294967296", None),
        (b"y=99999999999999999999", None),
        (b"y=abc", None),
        (b"y=", None),
        (b"b=x", None),
    ],
)
def test_the_ssrc_is_a_number_or_none(line, ssrc):
    assert parse_answer(answer((b"y=0200000001", line)), UDP).ssrc == ssrc


@pytest.mark.parametrize(
    "changed",
    [
        answer((b"\r\n", b"\n")),
        answer((b"a=rtpmap:96 PS/90000\r\n", b"")),
        answer((b"s=Play", b"s=Embedded Net DVR")),
        answer((b"a=sendonly", b"f=v/0/0/0/0/0a/0/0/0\r\na=sendonly\r\na=filesize:-1")),
        answer((b"c=IN IP4 198.51.100.20\r\n", b"")),
        answer((b"v=0\r\n", b"")),
        b"y=0200000001\r\n" + answer((b"y=0200000001\r\n", b"")),
        answer((b"a=sendonly", b"nonsense\r\n=\r\n\x00")),
        answer((b"15060 RTP/AVP 96", b"15060/2 RTP/AVP 96 x 200")),
        answer((b"o=34020000001320000001 0 0 IN IP4 198.51.100.20\r\n", b"")),
    ],
)
def test_deviations_of_devices_change_nothing(changed):
    assert parse_answer(changed, UDP) == parse_answer(ANSWER, UDP)


def test_a_media_address_wins_over_the_session_address():
    changed = answer((b"a=sendonly", b"c=IN IP4 203.0.113.7\r\na=sendonly"))

    assert parse_answer(changed, UDP).host == "203.0.113.7"


@pytest.mark.parametrize("setup", [b"passive", b"", b"actpass"])
def test_a_repeated_or_missing_setup_is_the_complement_of_the_offer(setup):
    changed = answer((b"setup:active", b"setup:" + setup), base=examples.TCP_ANSWER_SDP)

    assert parse_answer(changed, PASSIVE).transport is PASSIVE


def test_the_first_video_block_with_a_port_counts():
    changed = b"m=audio 9000 RTP/AVP 8\r\nm=video 0 RTP/AVP 96\r\n" + ANSWER

    assert parse_answer(changed, UDP).port == 15060
    assert parse_answer(b"v=0\r\nc=IN IP4 h\r\nm=audio 9000 RTP/AVP 8\r\n", UDP).payloads == (
        (8, "PCMA"),
    )


def test_payload_names_come_from_rtpmap_before_custom():
    changed = answer((b"AVP 96", b"AVP 96 98 99"), (b"96 PS/90000", b"98 h265/90000"))

    assert parse_answer(changed, UDP).payloads == ((96, "PS"), (98, "H265"))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (answer((b"15060", b"0")), "port 0"),
        (answer((b"PS/90000", b"DAHUA/90000")), "DAHUA"),
        (answer((b"AVP 96", b"AVP 77"), (b"a=rtpmap:96 PS/90000", b"")), "unknown"),
        (examples.TCP_ANSWER_SDP, "not offered"),
    ],
)
def test_media_that_we_cannot_take_is_unsupported(body, reason):
    with pytest.raises(Unsupported, match=reason):
        parse_answer(body, UDP)


@pytest.mark.parametrize("body", [b"", b"<Notify/>", b"\x00" * 100, b"hello world"])
def test_what_is_no_sdp_is_malformed(body):
    with pytest.raises(Malformed):
        parse_answer(body, UDP)


# ---- whole descriptions ---------------------------------------------------------------------


def test_the_playback_offer_is_read_and_written_back():
    body = parse_message(examples.PLAYBACK_INVITE).body

    sdp = parse_sdp(body)

    assert (sdp.session, sdp.source) == ("Playback", "34020000001320000001:0")
    assert (sdp.start_s, sdp.stop_s) == (1772330400, 1772332200)
    assert sdp.encode() == body


@pytest.mark.parametrize("body", [examples.DOWNLOAD_SDP, examples.TCP_OFFER_SDP, ANSWER])
def test_worked_descriptions_are_written_back_byte_for_byte(body):
    assert parse_sdp(body).encode() == body


def test_a_broadcast_offer_is_read():
    sdp = parse_sdp(parse_message(examples.BROADCAST_INVITE).body)

    (media,) = sdp.media
    assert (media.kind, media.payloads, media.name_of(8)) == ("audio", (8,), "PCMA")
    assert sdp.media_format == "v/////a/1/8/1"
    assert sdp.ssrc is None


def test_limits_hold_at_their_edge():
    lines = b"a=x\r\n" * (LINES_MAX - ANSWER.count(b"\n") - 1)
    padding = b"a=" + b"x" * (SDP_BYTES_MAX - len(ANSWER) - 4) + b"\r\n"

    assert parse_sdp(ANSWER + lines).media
    assert parse_sdp(ANSWER + padding).media
    for beyond in (ANSWER + lines + b"a=x\r\n", ANSWER + padding + b"x"):
        with pytest.raises(Malformed):
            parse_sdp(beyond)


hosts = st.sampled_from(["192.0.2.1", "203.0.113.250", "2001:db8::7"])
names = st.text("ABCDEFGH0123456789", min_size=1, max_size=8).filter(lambda t: t != "0")
medias = st.builds(
    Media,
    kind=st.sampled_from(["video", "audio"]),
    port=st.integers(0, 65535),
    protocol=st.sampled_from(["RTP/AVP", "TCP/RTP/AVP"]),
    payloads=st.lists(st.integers(0, 127), min_size=1, max_size=5).map(tuple),
    names=st.dictionaries(st.integers(0, 127), names, max_size=4).map(lambda d: tuple(d.items())),
    direction=st.sampled_from(["", "recvonly", "sendonly", "sendrecv"]),
    setup=st.sampled_from(["", "active", "passive"]),
    connection=st.sampled_from(["", "new"]),
    host=st.just("") | hosts,
    attributes=st.lists(st.tuples(st.just("filesize"), st.just("12")), max_size=2).map(tuple),
)


@given(
    st.builds(
        Sdp,
        origin=st.text("0123456789", min_size=1, max_size=20),
        origin_host=hosts,
        session=st.sampled_from(["Play", "Playback", "Download"]),
        host=hosts,
        start_s=st.integers(0, 1 << 32),
        stop_s=st.integers(0, 1 << 32),
        media=st.lists(medias, max_size=3).map(tuple),
        ssrc=st.none() | st.integers(0, (1 << 32) - 1),
        media_format=st.none() | st.just("v/2/6/25/1/4096a///"),
        source=st.just("") | st.just("34020000001320000001:0"),
    )
)
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_back(sdp):
    assert parse_sdp(sdp.encode()) == sdp


@given(st.binary(max_size=300) | st.text("vosctmayf=:/ 0123456789PSRTAVIN\r\n").map(str.encode))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_an_answer_or_an_error_of_ours(body):
    for offered in MediaTransport:
        try:
            parse_answer(body, offered)
        except (Malformed, Unsupported):
            continue


@given(at=st.integers(0, 400), cut=st.integers(0, 4), put=st.binary(max_size=4))
@settings(max_examples=200, deadline=None)
def test_mutated_answers_are_answers_or_errors_of_ours(at, cut, put):
    body = ANSWER[:at] + put + ANSWER[at + cut :]
    try:
        parse_answer(body, UDP)
    except (Malformed, Unsupported):
        return
