"""Sheets of devices as people keep them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.actions.imports import FIELD_CHARS_MAX, LINES_MAX, decode_csv, parse_devices
from vsp.errors import Invalid
from vsp.model.device import (
    Charset,
    DigestAlgorithm,
    MediaTransport,
    RecordPlan,
    Transport,
)

A, B = "34020000001320000001", "34020000001320000002"


def test_the_shortest_sheet_is_a_heading_and_a_line():
    (line,) = parse_devices(f"gb_id,password\n{A},x7Kd92mP\n")

    assert (line.line, line.gb_id, line.error) == (2, A, "")
    assert line.new.password == "x7Kd92mP"
    assert line.new.record_plan is None


def test_every_column_is_understood():
    (line,) = parse_devices(
        "gb_id,password,name,auth_username,transport,media_transport,charset,version,digest,record\n"
        f"{A},x7Kd92mP,东门,cam1,TCP,tcp-passive,UTF-8,2022,sha256,none\n"
    )

    settings = line.new.settings
    assert line.new.name == "东门"
    assert settings.auth_username == "cam1"
    assert settings.transport is Transport.TCP
    assert settings.media_transport is MediaTransport.TCP_PASSIVE
    assert settings.charset is Charset.UTF8
    assert settings.version == "2022"
    assert settings.digest is DigestAlgorithm.SHA256
    assert line.new.record_plan is RecordPlan.NONE


def test_chinese_headings_semicolons_marks_and_blank_lines_are_no_obstacle():
    text = f"\ufeff设备名称;国标编号;密码\r\n\r\n东门;{A};x7Kd92mP\r\n;;\r\n".encode()

    (line,) = parse_devices(decode_csv(text))

    assert (line.line, line.new.gb_id, line.new.name) == (3, A, "东门")


def test_a_sheet_saved_as_gb18030_reads_the_same():
    text = f"国标编号,密码,名称\n{A},x7Kd92mP,镕基路口\n"

    assert parse_devices(decode_csv(text.encode("gb18030"))) == parse_devices(text)


def test_a_quoted_cell_may_hold_commas_and_line_ends():
    lines = parse_devices(f'gb_id,password,name\n{A},"a,b""c7Kd9","two\nlines"\n{B},x7Kd92mP,\n')

    assert lines[0].new.password == 'a,b"c7Kd9'
    assert lines[1].new.gb_id == B


def test_every_bad_line_is_named_and_the_good_ones_are_kept():
    sheet = "\n".join(
        [
            "gb_id,password,transport,record",
            f"{A},x7Kd92mP,udp,1",
            "1234,x7Kd92mP,,",
            "3.402E+19,x7Kd92mP,,",
            f"{B},x7Kd92mP,carrier pigeon,",
            f"{A},x7Kd92mP,,",
            f"{B},x7Kd92mP,,perhaps",
            f"{B},x7Kd92mP,,,surplus",
            f"{B},{'x' * (FIELD_CHARS_MAX + 1)},,",
            f"'{B},x7Kd92mP,,",
        ]
    )

    lines = parse_devices(sheet)

    assert [line.line for line in lines if line.new is not None] == [2, 10]
    errors = {line.line: line.error for line in lines if line.new is None}
    assert sorted(errors) == [3, 4, 5, 6, 7, 8, 9]
    assert "not 20 digits" in errors[3]
    assert "spreadsheet" in errors[4]
    assert "udp, tcp" in errors[5]
    assert "line 2" in errors[6]
    assert "always, none" in errors[7]
    assert "5 cells under 4" in errors[8]
    assert "longer" in errors[9]


@pytest.mark.parametrize(
    ("sheet", "words"),
    [
        ("", "empty"),
        ("\n\n", "empty"),
        (f"{A},x7Kd92mP\n", "gb_id"),
        ("gb_id,name\n", "password"),
        ("gb_id,gb_id,password\n", "gb_id"),
        ("gb_id,password,colour\n", "colour"),
    ],
)
def test_a_sheet_without_a_usable_heading_is_refused_as_a_whole(sheet: str, words: str):
    with pytest.raises(Invalid, match=words):
        parse_devices(sheet)


def test_the_number_of_lines_is_limited():
    rows = [f"{34020000001320000000 + n},x7Kd92mP" for n in range(LINES_MAX + 1)]

    assert len(parse_devices("\n".join(["gb_id,password", *rows[:LINES_MAX]]))) == LINES_MAX
    with pytest.raises(Invalid, match="more than"):
        parse_devices("\n".join(["gb_id,password", *rows]))


def test_what_is_not_text_is_refused():
    with pytest.raises(Invalid, match="neither"):
        decode_csv(b"\x89PNG\r\n\x1a\n\xff\xff\xff")


@given(st.text(max_size=300))
def test_no_text_ends_in_anything_but_lines_or_a_refusal(text: str):
    try:
        lines = parse_devices("gb_id,password\n" + text)
    except Invalid:
        return
    assert all((line.new is None) == bool(line.error) for line in lines)
