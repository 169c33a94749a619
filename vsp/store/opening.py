"""Opening the database half of the store: one `Store` holds every port that is rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import sqlalchemy as sa

from vsp.config import Config
from vsp.errors import VspError
from vsp.ports import (
    AuditLog,
    ChangeLog,
    Clock,
    DeviceBook,
    Ids,
    Lease,
    People,
    SegmentIndex,
    StreamBook,
)
from vsp.seal import Sealer, load_sealer
from vsp.store.audit import SqlAuditLog
from vsp.store.changelog import SqlChangeLog
from vsp.store.devices import SqlDeviceBook
from vsp.store.engine import Database, open_database
from vsp.store.leases import SqlLease
from vsp.store.migrating import check_revision, migrate_database
from vsp.store.people import SqlPeople
from vsp.store.streams import SqlStreamBook
from vsp.store.tables import devices
from vsp.store.timeline import SqlSegmentIndex

MASTER_KEY = "keys/master.key"
"""Below the data folder; seals device passwords."""


@dataclass(frozen=True, slots=True)
class Store:
    """Every port that is rows, over whichever database it was opened."""

    devices: DeviceBook
    segments: SegmentIndex
    changes: ChangeLog
    audit: AuditLog
    people: People
    streams: StreamBook
    leases: Lease
    closing: Callable[[], Awaitable[None]] = field(repr=False)
    database: Database | None = field(default=None, repr=False)

    def tell_refusals(self, listener: Callable[[VspError], None]) -> None:
        """`listener` hears of each write that the database does not take; memory takes all."""
        if self.database is not None:
            self.database.on_refused = listener

    async def close(self) -> None:
        """Wait for what is being written, then let go of the database."""
        await self.closing()


async def open_store(config: Config, clock: Clock, ids: Ids) -> Store:
    """Open the database. SQLite is migrated here; PostgreSQL must have been (`vsp migrate`).

    Raises Conflict when the schema is of another version, Unavailable when the database is out of
    reach, NotFound when the master key of a database with devices is gone.
    """
    database = open_database(config.database_url, clock)
    try:
        if database.migrates_itself:
            await migrate_database(database)
        await check_revision(database)
        sealer = await _sealer(config, database)
    except BaseException:
        await database.close()
        raise
    audit = SqlAuditLog(database, clock, ids, config.node.name)

    async def close() -> None:
        await audit.close()  # rows of cancelled acts
        await database.close()

    return Store(
        devices=SqlDeviceBook(database, clock, ids, sealer),
        segments=SqlSegmentIndex(database),
        changes=SqlChangeLog(database),
        audit=audit,
        people=SqlPeople(database, clock),
        streams=SqlStreamBook(database),
        leases=SqlLease(database),
        closing=close,
        database=database,
    )


async def _sealer(config: Config, database: Database) -> Sealer:
    """The key is made only while it has sealed nothing yet; later its absence is a loss."""
    async with database.read() as connection:
        sealed = (await connection.execute(sa.select(devices.c.id).limit(1))).first()
    return load_sealer(config.data_dir / MASTER_KEY, make=sealed is None)
