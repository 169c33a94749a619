"""Lease over rows: a right to act alone for a while, taken by one conditional statement.

The epoch grows whenever the right changes hands or had lapsed; whatever a holder writes elsewhere
carries it, so that one who slept through the end of its lease is told apart from its successor.
"""

from __future__ import annotations

import sqlalchemy as sa

from vsp.clock import MICROS
from vsp.store.engine import Database
from vsp.store.tables import leases


class SqlLease:
    """Leases as rows of `leases`, timed by the database's own clock."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, name: str, holder: str, ttl_s: float) -> int | None:
        """The epoch when held (new or renewed), None while another holds it."""
        now_us = self._database.now_us()
        renewed = sa.and_(leases.c.holder == holder, leases.c.until_us > now_us)
        insert = self._database.insert(leases).values(
            name=name, holder=holder, epoch=1, until_us=now_us + int(ttl_s * MICROS)
        )
        claim = insert.on_conflict_do_update(
            index_elements=["name"],
            set_={
                "holder": insert.excluded.holder,
                "until_us": insert.excluded.until_us,
                "epoch": sa.case((renewed, leases.c.epoch), else_=leases.c.epoch + 1),
            },
            where=sa.or_(leases.c.holder == holder, leases.c.until_us <= now_us),
        ).returning(leases.c.epoch)
        async with self._database.write() as connection:
            epoch: int | None = (await connection.execute(claim)).scalar_one_or_none()
        return epoch

    async def give_up(self, name: str, holder: str) -> None:
        """End it now if it is still held; the next holder gets a higher epoch."""
        release = (
            sa.update(leases)
            .where(leases.c.name == name, leases.c.holder == holder)
            .values(until_us=0)
        )
        async with self._database.write() as connection:
            await connection.execute(release)
