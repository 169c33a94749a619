"""Large batches in pieces, so that neither the loop nor the writer is held for long."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from vsp.store.engine import CHUNK_ROWS

T = TypeVar("T")


def chunks(items: Sequence[T], size: int = CHUNK_ROWS) -> Iterator[Sequence[T]]:
    """`items` in slices of at most `size`, in order."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
