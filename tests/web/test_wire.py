"""Instants and the merging of settings, at the edge."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vsp.model.device import Charset, DeviceSettings, RecordPlan, Transport
from vsp.model.ids import UtcMicros
from vsp.web.wire import (
    DevicePatchIn,
    NewDeviceIn,
    PageQuery,
    PlaybackIn,
    WindowQuery,
    instant,
    parse_instant,
)


def test_an_instant_is_rfc_3339_in_utc_with_milliseconds():
    assert instant(UtcMicros(1_795_000_000_123_456)) == "2026-11-18T11:06:40.123Z"
    assert instant(UtcMicros(0)) == "1970-01-01T00:00:00.000Z"


@given(st.integers(0, 4_102_444_800_000))
def test_milliseconds_survive_the_round_trip(ms: int):
    assert parse_instant(instant(UtcMicros(ms * 1000))) == ms * 1000


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-18T12:26:40Z",
        "2026-11-18T20:26:40+08:00",
        "2026-11-18T20:26:40 08:00",
        "2026-11-18T12:26:40.000000Z",
        "2026-11-18 12:26:40Z",
    ],
)
def test_any_zone_means_the_same_moment(text: str):
    assert parse_instant(text) == 1_795_004_800_000_000


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-11-18", "2026-11-18T12:26:40", "1795000000", 1795000000, None,
     "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-13-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_not_an_instant_with_a_zone_is_refused(text: object):
    with pytest.raises(ValueError, match="instant"):
        parse_instant(text)


@given(st.text(max_size=40))
def test_no_text_makes_it_fail_otherwise(text: str):
    with contextlib.suppress(ValueError):
        assert isinstance(parse_instant(text), int)


def test_a_window_is_named_from_and_to():
    window = WindowQuery.model_validate(
        {"from": "1970-01-01T00:00:01Z", "to": "1970-01-01T00:00:02Z"}
    )

    assert (window.from_, window.to) == (1_000_000, 2_000_000)
    with pytest.raises(ValidationError):
        WindowQuery.model_validate({"from": "1970-01-01T00:00:01Z"})


def test_a_page_is_of_one_to_five_hundred_rows():
    assert PageQuery.model_validate({"size": "500"}).page().size == 500
    for size in ("0", "501", "many"):
        with pytest.raises(ValidationError):
            PageQuery.model_validate({"size": size})


def test_a_patch_changes_what_it_names_and_null_puts_a_default_back():
    settings = DeviceSettings(auth_username="cam", transport=Transport.TCP, charset=Charset.UTF8)
    patch = DevicePatchIn.model_validate({"transport": None, "charset": None, "version": "2022"})

    changed = patch.applied_to(settings)

    assert changed == DeviceSettings(auth_username="cam", version="2022")
    assert patch.names_settings()
    assert not DevicePatchIn.model_validate({"name": "x"}).names_settings()


@pytest.mark.parametrize(
    ("record", "plan"),
    [
        (True, RecordPlan.ALWAYS),
        (False, RecordPlan.NONE),
        ("always", RecordPlan.ALWAYS),
        (None, None),
    ],
)
def test_recording_is_asked_as_yes_no_or_a_plan(record: object, plan: RecordPlan | None):
    body = {"gb_id": "1", "password": "2", "record": record}

    assert NewDeviceIn.model_validate(body).new_device().record_plan is plan


def test_playback_has_an_open_end_by_default():
    assert PlaybackIn.model_validate({"start": "1970-01-01T00:00:01Z"}).end is None
