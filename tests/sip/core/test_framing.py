from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sip.core import examples
from vsp.sip.core.framing import JUNK_BYTES_MAX, PING, StreamFramer
from vsp.sip.core.message import HEAD_BYTES_MAX, STREAM_BYTES_MAX, Malformed, parse_message

ALL = list(examples.MESSAGES.values())


def framed(*pieces: bytes) -> list[bytes]:
    framer = StreamFramer()
    return [message for piece in pieces for message in framer.feed(piece)]


def with_length(data: bytes, length: int | None) -> bytes:
    """A worked example with another Content-Length, or none."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    if length is not None:
        lines.append(b"Content-Length: %d" % length)
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_one_message_is_one_message():
    assert framed(examples.KEEPALIVE) == [examples.KEEPALIVE]


def test_pipelined_messages_come_apart():
    assert framed(b"".join(ALL)) == ALL


@pytest.mark.parametrize("name", ["KEEPALIVE", "REGISTER", "INVITE_OK"])
def test_a_message_split_at_every_byte_comes_together(name):
    message = examples.MESSAGES[name]
    for at in range(1, len(message)):
        assert framed(message[:at], message[at:]) == [message]


def test_single_bytes_come_together():
    stream = b"".join(ALL)

    assert framed(*(stream[i : i + 1] for i in range(len(stream)))) == ALL


@given(st.lists(st.integers(1, 400), max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_split_of_a_stream_gives_the_same_messages(sizes):
    stream, pieces = b"".join(ALL), []
    for size in sizes:
        pieces.append(stream[:size])
        stream = stream[size:]

    assert framed(*pieces, stream) == ALL


def test_compact_and_lower_case_content_length_count():
    for name in (b"l", b"L ", b"content-length", b"CONTENT-LENGTH"):
        data = examples.KEEPALIVE.replace(b"Content-Length", name)
        assert framed(data + examples.REGISTER) == [data, examples.REGISTER]


def test_bare_line_feeds_are_framed():
    data = examples.KEEPALIVE.replace(b"\r\n", b"\n")
    data = data.replace(b"Content-Length: 159", b"Content-Length: 157")

    assert framed(data + examples.REGISTER) == [data, examples.REGISTER]


# ---- pings ----------------------------------------------------------------------------------


def test_double_line_ends_are_pings():
    assert framed(PING, examples.REGISTER, PING + PING) == [PING, examples.REGISTER, PING, PING]


def test_a_ping_split_at_every_byte_is_one_ping():
    for at in range(1, 4):
        assert framed(PING[:at], PING[at:]) == [PING]


def test_a_pong_before_a_message_is_swallowed():
    assert framed(b"\r\n" + examples.REGISTER) == [examples.REGISTER]
    assert framed(b"\r\n", examples.REGISTER) == [examples.REGISTER]


# ---- wrong lengths --------------------------------------------------------------------------


def test_a_length_of_zero_with_a_body_gives_the_body_with_its_message():
    wrong = with_length(examples.KEEPALIVE, 0)

    messages = framed(wrong + examples.REGISTER)

    assert messages == [wrong, examples.REGISTER]
    assert parse_message(messages[0]).body == parse_message(examples.KEEPALIVE).body


def test_a_length_too_small_loses_no_other_message():
    wrong = with_length(examples.KEEPALIVE, 100)

    messages = framed(wrong, examples.REGISTER)

    assert messages[-1] == examples.REGISTER
    assert len(messages) == 2


@pytest.mark.parametrize("excess", [1, 7, 60, 2000])
def test_a_length_too_large_ends_at_the_next_start_line(excess):
    wrong = with_length(examples.KEEPALIVE, 159 + excess)
    framer = StreamFramer()

    assert framer.feed(wrong) == []
    assert framer.feed(examples.REGISTER + examples.BYE) == [
        wrong,
        examples.REGISTER,
        examples.BYE,
    ]
    assert framer.resyncs == 1


def test_a_message_without_length_has_the_body_that_follows():
    wrong = with_length(examples.KEEPALIVE, None)

    assert framed(wrong + examples.REGISTER) == [wrong, examples.REGISTER]


def test_junk_before_a_start_line_is_skipped_and_counted():
    framer = StreamFramer()

    assert framer.feed(b"junk that is no SIP\r\n" + examples.REGISTER) == [examples.REGISTER]
    assert framer.resyncs == 1


def test_a_body_that_holds_a_message_is_not_cut_when_its_length_is_right():
    inner = examples.REGISTER
    body = b"<Notify>\r\n" + inner + b"</Notify>"
    whole = with_length(examples.KEEPALIVE, len(body)).partition(b"\r\n\r\n")[0]
    message = whole + b"\r\n\r\n" + body

    assert framed(message + examples.BYE) == [message, examples.BYE]


# ---- limits ---------------------------------------------------------------------------------


def test_endless_headers_are_refused():
    lines = [b"X: " + b"x" * 995 + b"\r\n"] * (HEAD_BYTES_MAX // 1000 + 1)

    with pytest.raises(Malformed):
        framed(b"REGISTER sip:1@h SIP/2.0\r\n", *lines)


def test_endless_junk_is_refused():
    lines = [b"x" * 998 + b"\r\n"] * (JUNK_BYTES_MAX // 1000 + 5)

    assert framed(*lines[: JUNK_BYTES_MAX // 1000]) == []
    with pytest.raises(Malformed):
        framed(*lines)


def test_a_length_beyond_the_limit_is_refused_and_the_limit_itself_is_not():
    assert framed(with_length(examples.KEEPALIVE, STREAM_BYTES_MAX)) == []
    with pytest.raises(Malformed):
        framed(with_length(examples.KEEPALIVE, STREAM_BYTES_MAX + 1))


def test_a_large_body_in_small_pieces_costs_no_more_than_its_length():
    size = 1 << 20
    head = with_length(examples.KEEPALIVE, size).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    framer = StreamFramer()
    framer.feed(head)
    began = time.perf_counter()

    messages: list[bytes] = []
    for _ in range(size // 1024):
        messages += framer.feed(b"<a>0123</a>\r\n" * 78 + b"1234567890")

    assert len(messages) == 1
    assert time.perf_counter() - began < 2.0  # some 0.1 s; searching again each time takes minutes


@given(st.lists(st.binary(max_size=300) | st.sampled_from(ALL), max_size=8))
@settings(max_examples=150, deadline=None)
def test_any_stream_gives_messages_or_is_malformed(pieces):
    framer = StreamFramer()
    try:
        for piece in pieces:
            for message in framer.feed(piece):
                assert message
    except Malformed:
        return
    assert framer.buffered <= sum(map(len, pieces))
