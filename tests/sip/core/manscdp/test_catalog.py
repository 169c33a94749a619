from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sip.core import examples
from vsp.model.device import CatalogItem, Charset, Presence
from vsp.sip.core.manscdp.catalog import (
    CatalogChange,
    CatalogPage,
    encode_query,
    parse_notify,
    parse_response,
)
from vsp.sip.core.manscdp.envelope import parse_body
from vsp.sip.core.message import parse_message
from vsp.sip.core.uri import Malformed

LOWER = "34020100002000000001"
PAGE_1 = parse_message(examples.CATALOG_PAGE_1).body


def page(inner: str, sum_num: str = "<SumNum>1</SumNum>") -> CatalogPage:
    text = (
        "<Response><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>9</DeviceID>"
        f'{sum_num}<DeviceList Num="1">{inner}</DeviceList></Response>'
    )
    return parse_response(parse_body(text.encode("gb18030")))


def item(inner: str) -> CatalogItem:
    (found,) = page(f"<Item><DeviceID>1</DeviceID>{inner}</Item>").items
    return found


def test_the_query_is_byte_for_byte_the_examples():
    assert encode_query(17430, LOWER) == parse_message(examples.CATALOG_QUERY).body


def test_the_query_is_labelled_with_the_devices_set():
    assert b'encoding="GB18030"' in encode_query(1, "1", Charset.GB18030)


def test_the_first_worked_page_is_read():
    found = parse_response(parse_body(PAGE_1))

    assert (found.sn, found.device_id, found.sum_num, found.num) == (17430, LOWER, 6, 4)
    assert [entry.gb_id for entry in found.items] == [
        "340201",
        LOWER,
        "34020100002150000001",
        "34020100002160000001",
    ]
    assert [entry.name for entry in found.items] == ["市辖区", "下级平台", "道路监控", "一号路口"]
    assert found.items[2].parent_ids == (LOWER,)
    assert found.items[3].business_group_id == "34020100002150000001"


def test_the_second_worked_page_is_read():
    found = parse_response(parse_body(examples.CATALOG_PAGE_2_BODY))

    assert found.items[0] == CatalogItem(
        gb_id="34020100001320000001",
        name="东门球机",
        manufacturer="Sim",
        model="S-1",
        owner="O",
        civil_code="340201",
        address="A",
        parent_ids=(LOWER, "34020100002160000001"),
        status=Presence.ONLINE,
        longitude=118.376451,
        latitude=31.326319,
        ptz_type=1,
        extra=(("safetyway", "0"), ("registerway", "1"), ("info/resolution", "6/5")),
    )
    assert found.items[1].status is Presence.OFFLINE


def test_an_empty_answer_has_no_list():
    body = b"<Response><CmdType>Catalog</CmdType><SN>1</SN><SumNum>0</SumNum></Response>"

    assert parse_response(parse_body(body)) == CatalogPage(1, "", 0, None, ())


@pytest.mark.parametrize(
    ("text", "number"),
    [("<SumNum> 3 </SumNum>", 3), ("", None), ("<SumNum>x</SumNum>", None),
     ("<SumNum>-1</SumNum>", None), ("<SumNum>99999999999</SumNum>", None)],
)  # fmt: skip
def test_the_total_is_a_number_or_unknown(text, number):
    assert page("", text).sum_num == number


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("ON", Presence.ONLINE),
        ("On", Presence.ONLINE),
        ("ONLINE", Presence.ONLINE),
        ("OK", Presence.ONLINE),
        ("OFF", Presence.OFFLINE),
        ("OFFLINE", Presence.OFFLINE),
        ("", Presence.UNKNOWN),
        ("VLOST", Presence.UNKNOWN),
    ],
)
def test_a_status_is_read_without_case_and_unknown_is_not_off(text, status):
    assert item(f"<Status>{text}</Status>").status is status


@pytest.mark.parametrize(
    ("longitude", "latitude", "placed"),
    [("118.3", "31.2", True), ("0", "0", False), ("0.0", "31", True), ("181", "31", False),
     ("x", "31", False), ("", "", False), ("nan", "31", False), ("inf", "31", False)],
)  # fmt: skip
def test_a_position_is_whole_and_real_or_absent(longitude, latitude, placed):
    found = item(f"<Longitude>{longitude}</Longitude><Latitude>{latitude}</Latitude>")

    assert (found.longitude is not None, found.latitude is not None) == (placed, placed)


def test_parents_are_split_in_order_without_repeats():
    assert item("<ParentID>2/3//2/ 4</ParentID>").parent_ids == ("2", "3", "4")
    assert item("").parent_ids == ()


def test_fields_are_found_in_info_too():
    found = item("<Info><PTZType>3/4</PTZType><BusinessGroupID>7</BusinessGroupID></Info>")

    assert (found.ptz_type, found.business_group_id) == (3, "7")


def test_passwords_in_items_are_not_kept():
    assert "secret" not in repr(item("<Password>secret</Password>"))


def test_items_without_an_id_are_left_out_and_counted():
    found = page("<Item><Name>x</Name></Item><Item/><Item><DeviceID>1</DeviceID></Item>")

    assert len(found.items) == 1
    assert found.skipped == 2


def test_other_spellings_are_read():
    text = (
        "<Response><CmdType>Catalog</CmdType><SN>1</SN><sumnum>1</sumnum>"
        '<Devicelist num="1"><item><deviceid>1</deviceid><name>镕</name></item></Devicelist>'
        "</Response>"
    )

    found = parse_response(parse_body(text.encode("gb18030")))

    assert (found.sum_num, found.num, found.items[0].name) == (1, 1, "镕")


def test_a_page_of_300_items_in_any_order_is_read():
    inner = "".join(f"<Item><DeviceID>{i}</DeviceID></Item>" for i in range(300))

    assert [entry.gb_id for entry in page(inner).items] == [str(i) for i in range(300)]


def test_the_worked_notification_is_read():
    changes = parse_notify(parse_body(parse_message(examples.NOTIFY).body))

    assert [change.event for change in changes] == ["OFF", "ADD"]
    assert changes[1].item.name == "Cam3"
    assert isinstance(changes[0], CatalogChange)


def test_stray_blanks_around_an_event_are_cut():
    item = b"<Item><DeviceID>1</DeviceID><Event>OFF </Event></Item>"
    text = b"<Notify><DeviceList>" + item + b"</DeviceList></Notify>"

    assert parse_notify(parse_body(text))[0].event == "OFF"


@given(st.integers(0, 1200), st.integers(0, 60), st.binary(max_size=8))
@settings(max_examples=200, deadline=None)
def test_mutated_pages_never_fail(at, cut, put):
    body = examples.CATALOG_PAGE_2_BODY
    try:
        found = parse_body(body[:at] + put + body[at + cut :])
    except Malformed:
        return
    parse_response(found)
    parse_notify(found)


def named(*names: str) -> bytes:
    items = "".join(
        f"<Item><DeviceID>3402000000132000000{number}</DeviceID><Name>{name}</Name>"
        f"<Address>{name}</Address><Status>ON</Status></Item>"
        for number, name in enumerate(names, start=1)
    )
    head = "<Response><CmdType>Catalog</CmdType><SN>1</SN><DeviceID>34020000001180000001</DeviceID>"
    return (
        f'<?xml version="1.0" encoding="GB18030"?>\n{head}<SumNum>{len(names)}</SumNum>'
        f'<DeviceList Num="{len(names)}">{items}</DeviceList></Response>'
    ).encode("gb18030")


def test_tags_typed_into_a_name_are_text_and_cost_no_item():
    found = parse_response(parse_body(named("东门", "<北门>", "A</b>C", "西门")))

    assert [item.name for item in found.items] == ["东门", "<北门>", "A</b>C", "西门"]
    assert [item.address for item in found.items] == ["东门", "<北门>", "A</b>C", "西门"]
    assert not found.damaged


def test_a_page_that_was_cut_keeps_whole_items_only_and_says_so():
    whole = named("东门", "北门", "西门")
    cut = whole[: whole.rindex(b"<Address>")]

    found = parse_response(parse_body(cut))

    assert [item.name for item in found.items] == ["东门", "北门"]
    assert found.skipped == 1
    assert found.damaged
