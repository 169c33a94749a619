"""The media socket's texts, both ways."""

from __future__ import annotations

import pytest

from vsp.errors import Denied, Invalid
from vsp.media import messages
from vsp.media.messages import Pause, Rate, Seek, parse_command, parse_rfc3339, rfc3339
from vsp.model.ids import UtcMicros
from vsp.model.stream import StreamState

AT_US = UtcMicros(1_795_327_504_003_999)


def test_instants_are_utc_with_milliseconds():
    assert rfc3339(AT_US) == "2026-11-22T06:05:04.003Z"
    assert rfc3339(UtcMicros(0)) == "1970-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("2026-11-22T06:05:04.003999Z", AT_US),
        ("2026-11-22T14:05:04.003999+08:00", AT_US),
        ("2026-11-22t01:35:04.003999-04:30", AT_US),
        ("2026-11-22 06:05:04Z", AT_US - 3999),
        ("1970-01-01T00:00:00.123456789Z", 123_456),
    ],
)
def test_every_rfc_3339_spelling_is_read(text: str, micros: int):
    assert parse_rfc3339(text) == micros


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-11-22T06:05:04", "2026-13-22T06:05:04Z", "2026-11-22T06:05:04.Z", "٢٠٢٦"],
)
def test_what_is_no_instant_is_refused(text: str):
    with pytest.raises(Invalid):
        parse_rfc3339(text)


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ('{"seek":{"seq":3,"time":"1970-01-01T00:00:01Z"}}', Seek(3, UtcMicros(1_000_000))),
        ('{"rate":2}', Rate(2.0)),
        ('{"rate":0.25}', Rate(0.25)),
        ('{"pause":true}', Pause(True)),
    ],
)
def test_commands_are_read(text: str, command: object):
    assert parse_command(text) == command


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "seek",
        '{"rate":0}',
        '{"rate":17}',
        '{"rate":NaN}',
        '{"rate":"2"}',
        '{"pause":1}',
        '{"seek":{"seq":-1,"time":"1970-01-01T00:00:01Z"}}',
        '{"seek":{"seq":1.5,"time":"1970-01-01T00:00:01Z"}}',
        '{"seek":{"seq":1,"time":"yesterday"}}',
        '{"seek":{"seq":9007199254740992,"time":"1970-01-01T00:00:01Z"}}',
        '{"pause":true}' + " " * messages.COMMAND_LENGTH_MAX,
        "[" * 1000,
    ],
)
def test_anything_else_is_refused(text: str):
    with pytest.raises(Invalid):
        parse_command(text)


def test_every_state_has_a_word():
    assert set(messages.STATE_WORDS) == set(StreamState)


def test_a_failure_says_kind_cause_and_next_step():
    said = messages.failure(Denied("no", cause="the grant ended", next_step="ask for a new one"))

    assert said == {
        "type": "error",
        "kind": "denied",
        "message": "no",
        "cause": "the grant ended",
        "next_step": "ask for a new one",
    }


def test_a_seek_places_its_target_on_the_media_timeline():
    said = messages.seek(4, 90_000, UtcMicros(10_000_000), UtcMicros(11_500_000))

    assert (said["media_s"], said["target_media_s"]) == (1.0, 2.5)
    assert (said["time"], said["target"]) == (
        "1970-01-01T00:00:10.000Z",
        "1970-01-01T00:00:11.500Z",
    )
