"""Keyset paging: a cursor is the sort key of the last row shown, opaque to whoever holds it.

Unlike an offset it costs the same on every page, and rows that come or go never shift the others.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from vsp.errors import Invalid
from vsp.ports import PAGE_SIZE_MAX, Page, PageRequest
from vsp.store.columns import WORDS_MAX, clean

T = TypeVar("T")

CURSOR_MAX = 1_000
"""Characters of a cursor: three short keys in base64 are far below."""

Key = Sequence[tuple[sa.ColumnElement[Any], type]]
"""Sort columns, each with the type of its values; together they name one row."""


def encode_cursor(values: Sequence[str | int]) -> str:
    """The cursor after a row with these key values."""
    text = json.dumps(list(values), separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_cursor(cursor: str, types: Sequence[type]) -> list[str | int]:
    """The key values of a cursor. Raises Invalid for anything that `encode_cursor` did not make."""
    try:
        if len(cursor) > CURSOR_MAX:
            raise ValueError("too long")
        padded = cursor + "=" * (-len(cursor) % 4)
        values = json.loads(base64.b64decode(padded.encode("ascii"), b"-_", validate=True))
    except (ValueError, binascii.Error, RecursionError) as error:
        raise Invalid("the cursor is not one of ours", next_step="start from page one") from error
    if not isinstance(values, list) or [type(value) for value in values] != list(types):
        raise Invalid("the cursor belongs to another list", next_step="start from page one")
    if any(isinstance(value, int) and abs(value) >= 1 << 63 for value in values):
        raise Invalid("the cursor is not one of ours", next_step="start from page one")
    return values


async def fetch_page(
    connection: AsyncConnection,
    query: sa.Select[Any],
    key: Key,
    page: PageRequest,
    build: Callable[[sa.Row[Any]], T],
    *,
    newest_first: bool = False,
    total: sa.Select[Any] | None = None,
) -> Page[T]:
    """One page of `query`, sorted by `key`; the key's columns must be among those selected.

    total   counts the whole list; asked on the first page only, since it costs a scan
    """
    if page.size < 1:
        raise Invalid(f"a page of {page.size} rows makes no sense")
    size = min(page.size, PAGE_SIZE_MAX)
    columns = [column for column, _ in key]
    if page.after is not None:
        values = decode_cursor(page.after, [kind for _, kind in key])
        here = sa.tuple_(*columns)
        there = sa.tuple_(*(sa.literal(v, c.type) for v, c in zip(values, columns, strict=True)))
        query = query.where(here < there if newest_first else here > there)
    order = [column.desc() if newest_first else column.asc() for column in columns]
    rows = (await connection.execute(query.order_by(*order).limit(size + 1))).all()
    counted = None
    if total is not None and page.after is None:
        counted = (await connection.execute(total)).scalar_one()
    cursor = None
    if len(rows) > size:
        last = rows[size - 1]
        cursor = encode_cursor([getattr(last, column.key or "") for column in columns])
    return Page([build(row) for row in rows[:size]], cursor, counted)


def contains(columns: Sequence[sa.ColumnElement[Any]], search: str) -> sa.ColumnElement[bool]:
    """Whether a column contains `search`, letters' case aside, wildcards taken as text."""
    wanted = clean(search, WORDS_MAX)  # as the columns were on their way in
    return sa.or_(*(column.icontains(wanted, autoescape=True) for column in columns))
