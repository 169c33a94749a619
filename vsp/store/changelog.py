"""ChangeLog over rows: append only; a state holds until the next point of its subject and axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vsp.model.changes import Axis, ChangePoint
from vsp.model.ids import UtcMicros
from vsp.store.chunks import chunks, collect
from vsp.store.engine import Database
from vsp.store.tables import change_points

POINTS_MAX = 10_000
"""Points of one answer: a year of a camera that flaps every hour. Callers ask in windows."""


class SqlChangeLog:
    """Change points as rows of `change_points`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(self, points: Sequence[ChangePoint]) -> None:
        """All of them in one transaction."""
        if not points:
            return
        async with self._database.write() as connection:
            for chunk in chunks(points):
                await connection.execute(sa.insert(change_points), [_values(p) for p in chunk])

    async def between(
        self, subject: str, axis: Axis, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[ChangePoint]:
        """The point in force at `from_us`, then every later one before `until_us`, in order.

        Of two points at one instant the later arrival is in force.
        """
        table = change_points.c
        mine = sa.and_(table.subject == subject, table.axis == axis.value)
        in_force = (
            sa.select(change_points)
            .where(mine, table.at_us <= from_us)
            .order_by(table.at_us.desc(), table.id.desc())
            .limit(1)
        )
        later = (
            sa.select(change_points)
            .where(mine, table.at_us > from_us, table.at_us < until_us)
            .order_by(table.at_us, table.id)
            .limit(POINTS_MAX)
        )
        async with self._database.read() as connection:
            first = await collect(await connection.execute(in_force), _point)
            rest = await collect(await connection.execute(later), _point)
        return first + rest


def _values(point: ChangePoint) -> dict[str, Any]:
    return {
        "subject": point.subject,
        "axis": point.axis.value,
        "at_us": point.at_us,
        "state": point.state,
        "cause": point.cause,
        "evidence": point.evidence,
    }


def _point(row: sa.Row[Any]) -> ChangePoint:
    return ChangePoint(
        subject=row.subject,
        axis=Axis(row.axis),
        at_us=UtcMicros(row.at_us),
        state=row.state,
        cause=row.cause,
        evidence=row.evidence,
    )
