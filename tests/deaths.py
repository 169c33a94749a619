"""Deaths and failures at the named points of vsp/faults.py, for tests that run in one process."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vsp.faults import Plan, Point, lay


class Died(BaseException):
    """The process ended here. Not an Exception: nothing that handles failures may handle it."""


@contextmanager
def laid(plan: Plan) -> Iterator[None]:
    lay(plan)
    try:
        yield
    finally:
        lay(None)


@contextmanager
def dying_at(point: Point, nth: int = 1) -> Iterator[None]:
    """Whoever is the `nth` to reach the point dies there."""
    left = nth

    def plan(reached: Point) -> None:
        nonlocal left
        left -= reached is point
        if reached is point and left == 0:
            raise Died

    with laid(plan):
        yield


@contextmanager
def failing_at(point: Point, times: int = 1) -> Iterator[None]:
    """The disk fails the first `times` that the point is reached."""
    left = times

    def plan(reached: Point) -> None:
        nonlocal left
        if reached is point and left > 0:
            left -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with laid(plan):
        yield
