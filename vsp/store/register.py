"""The registers with validity: regions, departments, and where each channel belongs.

Versions are only added. A version speaks for all time from its `valid_from` on, until a version
recorded later speaks for that time; its `valid_to` is the end of the thing itself. So:

- a change from a date on: put the new version with that `valid_from`;
- an end: put a version with `valid_to`;
- a correction of the past: put the corrected version, then again those that follow it.

`as of t` is then, for each id, the latest recorded version with `valid_from <= t`, unless it has
ended by t. Nothing that was once known is lost: `recorded_at` says when we came to know it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vsp.errors import NotFound
from vsp.model.device import ChannelClass, ChannelLabel
from vsp.model.ids import ChannelId, DepartmentId, RegionId, UtcMicros
from vsp.model.people import Department, Region, RegionLevel
from vsp.ports import Clock
from vsp.store.engine import Database
from vsp.store.tables import channel_placements, channels, departments, regions

UNPLACED_CLASS = ChannelClass.ORDINARY
UNPLACED_LABEL = ChannelLabel.DEDICATED
"""What holds for a channel that nobody has placed: the shortest promise, the narrowest sharing."""


def placements_in_force(channel_ids: Sequence[str], as_of_us: UtcMicros) -> sa.Select[Any]:
    """The placements that speak for these channels at an instant; ended ones are left out."""
    table = channel_placements
    latest = (
        sa.select(sa.func.max(table.c.version))
        .where(table.c.channel_id.in_(channel_ids), table.c.valid_from_us <= as_of_us)
        .group_by(table.c.channel_id)
    )
    return sa.select(table).where(
        table.c.version.in_(latest),
        sa.or_(table.c.valid_to_us.is_(None), table.c.valid_to_us > as_of_us),
    )


class SqlRegister:
    """Regions, departments and placements as versioned rows."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def regions(self, as_of_us: UtcMicros) -> Sequence[Region]:
        """The tree as it was at that instant, as we know it now; by code."""
        return [_region(row) for row in await self._as_of(regions, regions.c.code, as_of_us)]

    async def departments(self, as_of_us: UtcMicros) -> Sequence[Department]:
        """Likewise, by name."""
        rows = await self._as_of(departments, departments.c.name, as_of_us)
        return [_department(row) for row in rows]

    async def put_region(self, region: Region, recorded_at_us: UtcMicros) -> None:
        """Add a version."""
        values = {
            "id": region.id,
            "code": region.code,
            "name": region.name,
            "level": region.level.value,
            "parent_id": region.parent_id,
            "valid_from_us": region.valid_from_us,
            "valid_to_us": region.valid_to_us,
            "recorded_at_us": recorded_at_us,
        }
        async with self._database.write() as connection:
            await connection.execute(sa.insert(regions).values(values))

    async def put_department(self, department: Department, recorded_at_us: UtcMicros) -> None:
        """Add a version."""
        values = {
            "id": department.id,
            "name": department.name,
            "kind": department.kind,
            "region_id": department.region_id,
            "valid_from_us": department.valid_from_us,
            "valid_to_us": department.valid_to_us,
            "recorded_at_us": recorded_at_us,
        }
        async with self._database.write() as connection:
            await connection.execute(sa.insert(departments).values(values))

    async def place_channel(
        self,
        channel_id: ChannelId,
        region_id: RegionId | None,
        department_id: DepartmentId | None,
        valid_from_us: UtcMicros,
    ) -> None:
        """From then on it belongs there; class and label stay. Raises NotFound for no channel."""
        table = channel_placements
        before = placements_in_force([channel_id], valid_from_us)
        known = sa.select(channels.c.id).where(channels.c.id == channel_id)
        async with self._database.write() as connection:
            if (await connection.execute(known)).first() is None:
                raise NotFound("no such channel")
            last = (await connection.execute(before)).first()
            values = {
                "channel_id": channel_id,
                "region_id": region_id,
                "department_id": department_id,
                "klass": last.klass if last else UNPLACED_CLASS.value,
                "label": last.label if last else UNPLACED_LABEL.value,
                "valid_from_us": valid_from_us,
                "recorded_at_us": self._clock.now_us(),
            }
            await connection.execute(sa.insert(table).values(values))

    async def _as_of(
        self, table: sa.Table, order: sa.ColumnElement[Any], as_of_us: UtcMicros
    ) -> Sequence[sa.Row[Any]]:
        latest = (
            sa.select(sa.func.max(table.c.version))
            .where(table.c.valid_from_us <= as_of_us)
            .group_by(table.c.id)
        )
        query = (
            sa.select(table)
            .where(
                table.c.version.in_(latest),
                sa.or_(table.c.valid_to_us.is_(None), table.c.valid_to_us > as_of_us),
            )
            .order_by(order, table.c.id)
        )
        async with self._database.read() as connection:
            return (await connection.execute(query)).all()


def _region(row: sa.Row[Any]) -> Region:
    return Region(
        id=RegionId(row.id),
        code=row.code,
        name=row.name,
        level=RegionLevel(row.level),
        parent_id=None if row.parent_id is None else RegionId(row.parent_id),
        valid_from_us=UtcMicros(row.valid_from_us),
        valid_to_us=None if row.valid_to_us is None else UtcMicros(row.valid_to_us),
    )


def _department(row: sa.Row[Any]) -> Department:
    return Department(
        id=DepartmentId(row.id),
        name=row.name,
        kind=row.kind,
        region_id=None if row.region_id is None else RegionId(row.region_id),
        valid_from_us=UtcMicros(row.valid_from_us),
        valid_to_us=None if row.valid_to_us is None else UtcMicros(row.valid_to_us),
    )
