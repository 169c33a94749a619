from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sip.core import examples
from vsp.model.ids import UtcMicros
from vsp.ports import RecordItem
from vsp.sip.core.manscdp.envelope import parse_body
from vsp.sip.core.manscdp.recordinfo import RecordPage, encode_query, parse_response
from vsp.sip.core.uri import Malformed

CHANNEL = "34020000001320000001"
TEN = UtcMicros(1_772_330_400_000_000)  # 2026-03-01 10:00:00 in Beijing
HOUR_US = 3_600_000_000


def test_the_query_is_byte_for_byte_the_examples():
    data = encode_query(17440, CHANNEL, TEN, UtcMicros(TEN + HOUR_US))

    assert data == examples.RECORD_QUERY_BODY


def test_the_worked_answer_is_read():
    found = parse_response(parse_body(examples.RECORD_RESPONSE_BODY))

    half = UtcMicros(TEN + HOUR_US // 2)
    assert found == RecordPage(
        17440,
        CHANNEL,
        2,
        (
            RecordItem(CHANNEL, "Camera1", TEN, half, "time", 471859200),
            RecordItem(CHANNEL, "Camera1", half, UtcMicros(TEN + HOUR_US), "alarm", 471859200),
        ),
        2,
    )


def items(inner: str) -> RecordPage:
    text = f"<Response><SN>1</SN><DeviceID>9</DeviceID><RecordList>{inner}</RecordList></Response>"
    return parse_response(parse_body(text.encode()))


def test_an_empty_answer_has_no_list():
    body = b"<Response><SN>1</SN><SumNum>0</SumNum></Response>"

    assert parse_response(parse_body(body)) == RecordPage(1, "", 0, ())


@pytest.mark.parametrize(
    "times",
    [
        "",
        "<StartTime></StartTime><EndTime></EndTime>",
        "<StartTime>2026-03-01T10:00:00</StartTime>",
        "<StartTime>2026-03-01T10:00:00</StartTime><EndTime>2026-03-01T09:00:00</EndTime>",
    ],
)
def test_items_without_usable_times_are_left_out_and_counted(times):
    found = items(f"<Item><DeviceID>1</DeviceID>{times}</Item>")

    assert found.items == ()
    assert found.skipped == 1


def test_an_item_without_an_id_is_of_the_device_asked():
    found = items(
        "<Item><StartTime>2026-03-01T10:00:00.000+08:00</StartTime>"
        "<EndTime>2026-03-01T03:00:00Z</EndTime><FileSize>many</FileSize></Item>"
    )

    (record,) = found.items
    assert record.channel_gb_id == "9"
    assert (record.start_us, record.end_us) == (TEN, TEN + HOUR_US)
    assert record.size_bytes is None


def test_a_broken_answer_gives_its_whole_items():
    found = parse_response(parse_body(examples.RECORD_RESPONSE_BODY[:600]))

    assert [record.start_us for record in found.items] == [TEN]
    assert found.sum_num == 2


@given(st.integers(0, 800), st.integers(0, 60), st.binary(max_size=8))
@settings(max_examples=150, deadline=None)
def test_mutated_answers_never_fail(at, cut, put):
    body = examples.RECORD_RESPONSE_BODY
    try:
        found = parse_body(body[:at] + put + body[at + cut :])
    except Malformed:
        return
    parse_response(found)
