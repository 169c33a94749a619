"""Large batches in pieces, so that neither the loop nor the writer is held for long."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa

from vsp.store.engine import CHUNK_ROWS

T = TypeVar("T")

ROWS_AT_ONCE = 64
"""Rows turned into nouns before others have their turn: at 60 us a row about 4 ms."""


def chunks(items: Sequence[T], size: int = CHUNK_ROWS) -> Iterator[Sequence[T]]:
    """`items` in slices of at most `size`, in order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


async def collect(result: sa.Result[Any], build: Callable[[sa.Row[Any]], T]) -> list[T]:
    """Every row of a result as a noun, giving way to others in between."""
    found: list[T] = []
    for rows in result.partitions(ROWS_AT_ONCE):
        found += map(build, rows)
        await asyncio.sleep(0)
    return found
