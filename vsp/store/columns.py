"""Column types shared by every table.

Text from the wire is bounded and cleaned here a last time: PostgreSQL refuses U+0000, neither
database takes a lone surrogate, and no table may grow by what a stranger sends.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

WORDS_MAX = 512
"""Characters of one free text: longer than any name, address or User-Agent seen in the field."""

NOTE_MAX = 4_000
"""Characters of one explanation (cause, evidence, audit detail): what a person will still read."""


def clean(text: str, length_max: int) -> str:
    """`text` without what a database cannot store, cut to `length_max` characters."""
    cut = text[:length_max]
    if cut.isascii() and "\x00" not in cut:
        return cut
    cut = cut.replace("\x00", "\ufffd")
    return cut.encode("utf-8", "replace").decode("utf-8")


class Words(sa.types.TypeDecorator[str]):
    """Free text, cleaned and cut on its way in."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, length_max: int = WORDS_MAX) -> None:
        super().__init__()
        self.length_max = length_max

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else clean(value, self.length_max)


class Pairs(sa.types.TypeDecorator[tuple[tuple[Any, ...], ...]]):
    """A short list of short tuples (steps, further elements), as JSON text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(
        self, value: Sequence[Sequence[Any]] | None, dialect: sa.Dialect
    ) -> str | None:
        if value is None:
            return None
        return json.dumps(value, ensure_ascii=True, separators=(",", ":"))

    def process_result_value(
        self, value: str | None, dialect: sa.Dialect
    ) -> tuple[tuple[Any, ...], ...]:
        return tuple(tuple(entry) for entry in json.loads(value or "[]"))


def id_text() -> sa.types.TypeEngine[str]:
    """An identifier or a key: compared byte by byte in both databases, whatever the locale."""
    return sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")


def row_number() -> sa.types.TypeEngine[int]:
    """A number given by the database; SQLite counts by itself only in an INTEGER key."""
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")
