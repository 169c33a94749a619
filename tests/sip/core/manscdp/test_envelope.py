from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sip.core import examples
from vsp.model.device import Charset
from vsp.model.ids import UtcMicros
from vsp.sip.core.manscdp.envelope import (
    BODY_BYTES_MAX,
    DEPTH_MAX,
    NODES_MAX,
    attribute,
    child,
    children,
    document,
    element,
    encode,
    fields,
    format_time,
    integer,
    leaves,
    parse_body,
    parse_time,
    query,
    text_of,
)
from vsp.sip.core.message import parse_message
from vsp.sip.core.uri import Malformed

KEEPALIVE = parse_message(examples.KEEPALIVE).body
BODIES = [
    KEEPALIVE,
    parse_message(examples.CATALOG_PAGE_1).body,
    examples.CATALOG_PAGE_2_BODY,
    examples.RECORD_RESPONSE_BODY,
    parse_message(examples.NOTIFY).body,
]


def notify(inner: str, label: str = "GB2312", charset: str = "gb18030") -> bytes:
    return (
        f'<?xml version="1.0" encoding="{label}"?>\r\n<Notify><CmdType>X</CmdType><SN>1</SN>'
        f"<DeviceID>1</DeviceID>{inner}</Notify>\r\n"
    ).encode(charset)


def name_of(data: bytes, charset: Charset | None = None) -> str:
    return parse_body(data, charset).text("Name")


# ---- the envelope ---------------------------------------------------------------------------


def test_the_envelope_of_a_worked_example_is_read():
    body = parse_body(KEEPALIVE)

    assert (body.root, body.cmd_type, body.sn) == ("Notify", "Keepalive", 43)
    assert body.device_id == "34020000001180000001"
    assert body.text("Status") == "OK"
    assert body.oddities == ()


def test_names_are_compared_without_case():
    body = parse_body(
        b"<RESPONSE><cmdtype>Catalog</cmdtype><Sn>7</Sn><DEVICEID>9</DEVICEID></RESPONSE>"
    )

    assert (body.root, body.cmd_type, body.sn, body.device_id) == ("Response", "Catalog", 7, "9")


def test_missing_fields_are_empty():
    body = parse_body(b"<Notify/>")

    assert (body.cmd_type, body.sn, body.device_id, body.text("X")) == ("", 0, "", "")


@pytest.mark.parametrize("sn", ["", "x", "-1", "1.5", "０１"])
def test_a_serial_number_that_is_none_is_zero(sn):
    data = f"<Notify><SN>{sn}</SN></Notify>".encode()

    assert parse_body(data).sn == 0


def test_blanks_around_values_are_cut():
    body = parse_body(b"<Notify><SN> 12\r\n</SN><DeviceID>\t1 </DeviceID></Notify>")

    assert (body.sn, body.device_id) == (12, "1")


def test_attributes_stand_in_for_children():
    body = parse_body(
        b'<Notify CmdType="Keepalive" SN="5" DeviceID="9"><Status>OK</Status></Notify>'
    )

    assert (body.cmd_type, body.sn, body.device_id) == ("Keepalive", 5, "9")


def test_a_namespace_is_ignored():
    body = parse_body(b'<Notify xmlns="urn:x"><CmdType>K</CmdType><SN>5</SN></Notify>')

    assert (body.root, body.cmd_type, body.sn) == ("Notify", "K", 5)


# ---- character sets -------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["GB2312", "gb2312", "GBK", "GB18030", "gb18030"])
@pytest.mark.parametrize("name", ["东门球机", "朱镕基", "赵堃", "𠀀"])
def test_characters_beyond_gb2312_survive_every_gb_label(label, name):
    body = parse_body(notify(f"<Name>{name}</Name>", label))

    assert body.text("Name") == name
    assert body.oddities == ()


def test_declared_utf8_is_utf8():
    assert name_of(notify("<Name>西门·路</Name>", "UTF-8", "utf-8")) == "西门·路"


def test_utf8_under_a_gb_label_is_found_out():
    body = parse_body(notify("<Name>东门球机</Name>", "GB2312", "utf-8"))

    assert body.text("Name") == "东门球机"
    assert body.oddities == ("charset",)


@pytest.mark.parametrize("name", ["路", "联通", "一号路", "中山路口", "A路B"])
def test_short_gbk_names_that_are_valid_utf8_by_chance_stay_gbk(name):
    assert name_of(notify(f"<Name>{name}</Name>")) == name


def test_gbk_under_a_utf8_label_is_found_out():
    body = parse_body(notify("<Name>东门球机</Name>", "UTF-8", "gb18030"))

    assert body.text("Name") == "东门球机"
    assert body.oddities == ("charset",)


def test_two_sets_in_one_document_are_told_apart():
    data = notify("<Name>@</Name><Owner>西门</Owner>", "UTF-8", "utf-8")
    data = data.replace(b"@", "东门".encode("gb18030"))

    body = parse_body(data)

    assert (body.text("Name"), body.text("Owner")) == ("东门", "西门")


def test_without_a_declaration_the_setting_and_the_bytes_decide():
    inner = "<Notify><Name>东门路</Name></Notify>"

    assert name_of(inner.encode("gb18030")) == "东门路"
    assert name_of(inner.encode(), Charset.UTF8) == "东门路"
    assert name_of(inner.encode(), Charset.GB2312) == "东门路"
    assert name_of(b"\xef\xbb\xbf" + inner.encode()) == "东门路"


def test_bytes_of_no_set_become_replacement_characters():
    assert name_of(notify("<Name>a@b</Name>").replace(b"@", b"\xff\xff")).startswith("a\ufffd")


# ---- forgiven -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inner", "name", "oddity"),
    [
        ("<Name>A & B</Name>", "A & B", "ampersand"),
        ("<Name>A &amp; B &#20013;</Name>", "A & B 中", None),
        ("<Name>A\x01B\x00</Name>", "AB", "controls"),
        ("<Name>a < b</Name>", "a < b", "brackets"),
        ("<Name>A<x>B</Name>", "A<x>B", "brackets"),
        ("<Name>a > b & <东门></Name>", "a > b & <东门>", ("ampersand", "brackets")),
        ("<Name>x</Name></Item>", "x", "broken"),
    ],
)
def test_broken_text_is_read(inner, name, oddity):
    body = parse_body(notify(inner))

    assert body.text("Name") == name
    expected = oddity if isinstance(oddity, tuple) else (oddity,) if oddity else ()
    assert body.oddities == expected


@pytest.mark.parametrize("tail", [b"\x00\x00\x00", b"\r\n\r\n \x00", b"\n"])
def test_blanks_and_nuls_at_the_end_are_nothing(tail):
    assert parse_body(KEEPALIVE + tail).oddities == ()


@pytest.mark.parametrize("tail", [b"junk", b"</Notify>", b"<x>", b"</Item></Notify>\x00"])
def test_junk_after_the_root_is_cut_off(tail):
    body = parse_body(KEEPALIVE.rstrip() + tail)

    assert body.sn == 43
    assert "tail" in body.oddities


def test_a_truncated_document_gives_what_came():
    cut = examples.RECORD_RESPONSE_BODY[:600]

    body = parse_body(cut)

    listed = child(body.tree, "RecordList")
    assert listed is not None
    first = next(children(listed, "Item"))
    assert text_of(first, "FilePath") == "/rec/1"
    assert body.oddities == ("broken",)


# ---- refused --------------------------------------------------------------------------------

BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "aaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><Notify><Name>&b;</Name></Notify>"""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"   ",
        b"hello",
        b"\x00\x01\x02",
        b"<html><body/></html>",
        BOMB,
        BOMB.replace(b"<!DOCTYPE", b"<! doctype"),
        BOMB.replace(b"<!DOCTYPE", b"<!DOC\x00TYPE"),
        b'<!DOCTYPE Notify SYSTEM "file:///etc/passwd"><Notify/>',
        b"<Notify><!ENTITY x 'y'></Notify>",
        b"<Notify>" + b"<a>" * (DEPTH_MAX + 1) + b"</a>" * (DEPTH_MAX + 1) + b"</Notify>",
        b"<Notify>" + b"<a>" * 5000,
        b"<Notify>" + b"<a/>" * (2 * NODES_MAX) + b"</Notify>",
        b"<Notify>" + b" " * BODY_BYTES_MAX,
    ],
    ids=range(14),
)
def test_what_is_no_manscdp_is_malformed_at_once(data):
    began = time.perf_counter()

    with pytest.raises(Malformed):
        parse_body(data)

    assert time.perf_counter() - began < 1.0


def test_limits_hold_at_their_edge():
    deep = b"<Notify>" + b"<a>" * (DEPTH_MAX - 1) + b"</a>" * (DEPTH_MAX - 1) + b"</Notify>"
    many = b"<Notify>" + b"<a/>" * (NODES_MAX - 1) + b"</Notify>"
    large = b"<Notify>" + b" " * (BODY_BYTES_MAX - 17) + b"</Notify>"

    assert [parse_body(data).root for data in (deep, many, large)] == ["Notify"] * 3
    with pytest.raises(Malformed):
        parse_body(large, size_max=len(large) - 1)


def test_entities_are_not_resolved():
    body = parse_body(b"<Notify><Name>a&xxe;b</Name></Notify>")

    assert body.text("Name") == "a&xxe;b"


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_a_body_or_malformed(data):
    for wrapped in (data, b"<Notify>" + data, b"<Notify><SN>" + data + b"</SN></Notify>"):
        try:
            body = parse_body(wrapped)
        except Malformed:
            continue
        fields(body.tree)
        body.text("Name")


@given(
    body=st.sampled_from(BODIES),
    edits=st.lists(
        st.tuples(st.integers(0, 3000), st.integers(0, 6), st.binary(max_size=4)),
        min_size=1,
        max_size=5,
    ),
)
@settings(max_examples=300, deadline=None)
def test_mutated_bodies_are_bodies_or_malformed(body, edits):
    for at, cut, put in edits:
        at %= len(body)
        body = body[:at] + put + body[at + cut :]
    try:
        parsed = parse_body(body)
    except Malformed:
        return
    list(leaves(parsed.tree))


# ---- writing --------------------------------------------------------------------------------


def test_a_query_is_written_as_the_example():
    data = query("Catalog", 17430, "34020100002000000001", Charset.GB2312)

    assert data == parse_message(examples.CATALOG_QUERY).body


@pytest.mark.parametrize("charset", list(Charset))
def test_every_character_set_is_read_back(charset):
    data = document("Notify", element("Name", "镕堃 <&> 路"), charset)

    assert name_of(data) == "镕堃 <&> 路"


def test_gb_labels_carry_gb18030_bytes_and_utf8_its_own():
    assert encode("堃") == encode("堃", Charset.GBK) == "堃".encode("gb18030")
    assert encode("堃", Charset.UTF8) == "堃".encode()


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60))
@settings(max_examples=150, deadline=None)
def test_any_text_survives_writing_and_reading(text):
    data = document("Notify", element("Name", text), Charset.UTF8)

    read = parse_body(data).text("Name")

    assert read == text.replace("\ufffe", "").replace("\uffff", "").strip()


# ---- helpers --------------------------------------------------------------------------------


def test_children_attributes_and_fields_are_found_without_case():
    body = parse_body(
        b'<Notify><List num="2"><item>1</item><ITEM><X>y</X></ITEM></List><A>1</A><a>2</a></Notify>'
    )
    listed = child(body.tree, "list")
    assert listed is not None

    assert attribute(listed, "Num") == "2"
    assert attribute(listed, "x") == ""
    assert len(list(children(listed, "Item"))) == 2
    assert fields(body.tree) == {"a": "1"}
    assert list(leaves(body.tree)) == [("A", "1"), ("a", "2")]
    assert child(body.tree, "none") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12), (" -3 ", -3), ("+4", 4), ("", None), ("1.5", None), ("9" * 19, None), ("²", None)],
)
def test_numbers_are_read_or_none(text, value):
    assert integer(text) == value


# ---- time -----------------------------------------------------------------------------------

TEN = UtcMicros(1_772_330_400_000_000)  # 2026-03-01 10:00:00 in Beijing


@pytest.mark.parametrize(
    ("text", "at_us"),
    [
        ("2026-03-01T10:00:00", TEN),
        (" 2026-03-01 10:00:00 ", TEN),
        ("2026-3-1T10:00:00", TEN),
        ("2026/03/01 10:00:00", TEN),
        ("2026-03-01T10:00:00.250", TEN + 250_000),
        ("2026-03-01T10:00:00+08:00", TEN),
        ("2026-03-01T10:00:00.5+0800", TEN + 500_000),
        ("2026-03-01T02:00:00Z", TEN),
        ("2026-02-28T21:30:00-04:30", TEN),
        ("", None),
        ("2026-02-30T10:00:00", None),
        ("0000-01-01T00:00:00", None),
        ("now", None),
        ("2026-03-01", None),
        ("2026-03-01T10:00:00+99:99", None),
    ],
)
def test_times_are_beijing_time_unless_they_say_otherwise(text, at_us):
    assert parse_time(text) == at_us


def test_times_are_written_in_beijing_time_without_a_zone():
    assert format_time(TEN) == "2026-03-01T10:00:00"
    assert format_time(UtcMicros(TEN + 999_999)) == "2026-03-01T10:00:00"


@given(st.integers(0, 4_000_000_000))
def test_whole_seconds_survive_writing_and_reading(seconds):
    assert parse_time(format_time(UtcMicros(seconds * 1_000_000))) == seconds * 1_000_000
