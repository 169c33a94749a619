"""What every port in memory does with rows: clean their texts, search them, cut them into pages."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from vsp.errors import Invalid
from vsp.ports import PAGE_SIZE_MAX, Page, PageRequest
from vsp.store.columns import WORDS_MAX, clean
from vsp.store.paging import decode_cursor, encode_cursor

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

D = TypeVar("D", bound="DataclassInstance")
K = TypeVar("K", bound="tuple[str | int, ...]")
R = TypeVar("R")


def cleaned(noun: D, length_max: int, *names: str) -> D:
    """`noun` with these texts as the columns of vsp/store/tables.py would have kept them."""
    changed: dict[str, str] = {}
    for name in names:
        text = getattr(noun, name)
        if text is not None and (kept := clean(text, length_max)) != text:
            changed[name] = kept
    return replace(noun, **changed) if changed else noun


def contains(texts: Sequence[str], search: str) -> bool:
    """Whether one of them contains `search`, letters' case aside."""
    wanted = clean(search, WORDS_MAX).lower()  # as the texts were on their way in
    return any(wanted in text.lower() for text in texts)


def page_of(
    order: Sequence[K],
    page: PageRequest,
    types: Sequence[type],
    find: Callable[[K], R],
    *,
    wanted: Callable[[R], bool] | None = None,
    newest_first: bool = False,
    counted: bool = True,
) -> Page[R]:
    """One page of the rows whose keys are in `order`; its cursors are those of the SQL store.

    types    of the values of a key
    find     gives the row of a key
    counted  whether the first page says how many are wanted in all
    """
    if page.size < 1:
        raise Invalid(f"a page of {page.size} rows makes no sense")
    size = min(page.size, PAGE_SIZE_MAX)
    keys = _from(order, page, types, newest_first)
    rows = ((key, find(key)) for key in keys)
    found = list(islice((pair for pair in rows if wanted is None or wanted(pair[1])), size + 1))
    cursor = encode_cursor(found[size - 1][0]) if len(found) > size else None
    total = None
    if counted and page.after is None:
        total = len(order) if wanted is None else sum(wanted(find(key)) for key in order)
    return Page([row for _, row in found[:size]], cursor, total)


def _from(
    order: Sequence[K], page: PageRequest, types: Sequence[type], newest_first: bool
) -> Iterator[K]:
    """The keys of a page and all behind them."""
    if page.after is None:
        return reversed(order) if newest_first else iter(order)
    here = tuple(decode_cursor(page.after, types))
    if newest_first:
        return (order[place] for place in range(bisect_left(order, here) - 1, -1, -1))
    return (order[place] for place in range(bisect_right(order, here), len(order)))
