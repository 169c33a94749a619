"""A CSV of devices, as people really keep it, read line by line. Pure.

The first line names the columns: `gb_id,password[,name,auth_username,transport,media_transport,
charset,version,digest,record]`; the Chinese headings of common sheets are understood too. Sheets
saved by Chinese office programs are GB18030, and `;` or tab for a comma is common, so both are
recognised. A bad line never stops the others: it is returned with its number and what is wrong.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import TypeVar

from vsp.actions.devices import ImportLine
from vsp.errors import Invalid
from vsp.model.device import (
    Charset,
    DeviceSettings,
    DigestAlgorithm,
    MediaTransport,
    NewDevice,
    RecordPlan,
    Transport,
)
from vsp.model.ids import GbId

E = TypeVar("E", bound=Enum)

LINES_MAX = 10_000
"""Devices of one import: about ten seconds of writing; larger sheets come in pieces."""

FIELD_CHARS_MAX = 256
"""Characters of one cell."""

_GB_ID = re.compile(r"[0-9]{20}")

_COLUMNS: Mapping[str, str] = {
    "gb_id": "gb_id",
    "gbid": "gb_id",
    "id": "gb_id",
    "国标编号": "gb_id",
    "设备编号": "gb_id",
    "国标编码": "gb_id",
    "设备国标编号": "gb_id",
    "password": "password",
    "密码": "password",
    "注册密码": "password",
    "name": "name",
    "名称": "name",
    "设备名称": "name",
    "auth_username": "auth_username",
    "username": "auth_username",
    "认证用户名": "auth_username",
    "transport": "transport",
    "信令传输": "transport",
    "media_transport": "media_transport",
    "流传输模式": "media_transport",
    "charset": "charset",
    "字符集": "charset",
    "version": "version",
    "协议版本": "version",
    "digest": "digest",
    "record": "record",
    "录像": "record",
}


def decode_csv(data: bytes) -> str:
    """UTF-8 (with or without a mark) or else GB18030. Raises Invalid when it is neither."""
    for charset in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(charset)
        except UnicodeDecodeError:
            continue
    raise Invalid("the file is neither UTF-8 nor GB18030 text")


def parse_devices(text: str) -> Sequence[ImportLine]:
    """Every line of the sheet but its heading and empty ones. Raises Invalid without a heading."""
    heading, _, _ = text.lstrip("\r\n").partition("\n")
    delimiter = max(",;\t", key=heading.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    columns: list[str] | None = None
    lines: list[ImportLine] = []
    first_line: dict[str, int] = {}
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns = _columns(row)
                continue
            if len(lines) >= LINES_MAX:
                raise Invalid(f"more than {LINES_MAX} devices in one import")
            lines.append(_line(reader.line_num, columns, row, first_line))
    except csv.Error as error:
        raise Invalid(f"line {reader.line_num} is not CSV: {error}") from error
    if columns is None:
        raise Invalid("the file is empty", next_step="begin with the line gb_id,password")
    return lines


def _columns(row: Sequence[str]) -> list[str]:
    names = [_COLUMNS.get(cell.strip().lower(), "") for cell in row]
    for wanted in ("gb_id", "password"):
        if names.count(wanted) != 1:
            raise Invalid(
                f"the first line does not name one column {wanted}",
                next_step="begin with gb_id,password,name",
            )
    unknown = [cell.strip()[:40] for cell, name in zip(row, names, strict=True) if not name]
    if any(unknown):
        raise Invalid(f"unknown column {next(cell for cell in unknown if cell)!r}")
    return names


def _line(
    number: int, columns: Sequence[str], row: Sequence[str], first_line: dict[str, int]
) -> ImportLine:
    gb_id = ""
    try:
        cells = _cells(columns, row)
        gb_id = cells.get("gb_id", "")
        new = _new_device(cells)
        if new.gb_id in first_line:
            raise Invalid(f"the same code as line {first_line[new.gb_id]}")
        first_line[new.gb_id] = number
    except Invalid as error:
        return ImportLine(number, gb_id[:40], None, error.message)
    return ImportLine(number, gb_id, new)


def _cells(columns: Sequence[str], row: Sequence[str]) -> dict[str, str]:
    if len(row) > len(columns) and any(cell.strip() for cell in row[len(columns) :]):
        raise Invalid(f"{len(row)} cells under {len(columns)} headings")
    cells = {name: cell.strip() for name, cell in zip(columns, row, strict=False) if name}
    if any(len(cell) > FIELD_CHARS_MAX for cell in cells.values()):
        raise Invalid(f"a cell is longer than {FIELD_CHARS_MAX} characters")
    return {name: cell for name, cell in cells.items() if cell}


def _new_device(cells: Mapping[str, str]) -> NewDevice:
    # Spreadsheets keep long numbers as text by a leading apostrophe, or lose digits to 3.4E+19.
    gb_id = cells.get("gb_id", "").lstrip("'")
    if not _GB_ID.fullmatch(gb_id):
        hint = " (a spreadsheet turned it into a number?)" if "E+" in gb_id.upper() else ""
        raise Invalid(f"gb_id is not 20 digits{hint}")
    settings = DeviceSettings(
        auth_username=cells.get("auth_username"),
        transport=_choice(cells, "transport", Transport),
        media_transport=_choice(cells, "media_transport", MediaTransport),
        charset=_choice(cells, "charset", Charset) or Charset.GB2312,
        version=cells.get("version"),
        digest=_choice(cells, "digest", DigestAlgorithm) or DigestAlgorithm.MD5,
    )
    return NewDevice(
        gb_id=GbId(gb_id),
        password=cells.get("password", ""),
        name=cells.get("name", ""),
        settings=settings,
        record_plan=_plan(cells),
    )


_YES = frozenset({"always", "true", "yes", "1", "是"})
_NO = frozenset({"none", "false", "no", "0", "否"})


def _plan(cells: Mapping[str, str]) -> RecordPlan | None:
    text = cells.get("record", "").lower()
    if text in _YES or text in _NO:
        return RecordPlan.ALWAYS if text in _YES else RecordPlan.NONE
    if text:
        raise Invalid(f"record {text[:20]!r} is not one of always, none")
    return None


def _choice(cells: Mapping[str, str], column: str, kind: type[E]) -> E | None:
    text = cells.get(column)
    if text is None:
        return None
    plain = text.lower().replace("-", "").replace("_", "")
    for member in kind:
        if str(member.value).lower().replace("-", "").replace("_", "") == plain:
            return member
    values = ", ".join(str(member.value) for member in kind)
    raise Invalid(f"{column} {text[:20]!r} is not one of {values}")
