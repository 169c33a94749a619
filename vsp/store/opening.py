"""Opening the database half of the store: one `Store` holds every port that is rows."""

from __future__ import annotations

from dataclasses import dataclass

from vsp.config import Config
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


@dataclass(frozen=True, slots=True)
class Store:
    """Every port that is rows. `close` waits for what is being written."""

    devices: DeviceBook
    segments: SegmentIndex
    changes: ChangeLog
    audit: AuditLog
    people: People
    streams: StreamBook
    leases: Lease

    async def close(self) -> None: ...


async def open_store(config: Config, clock: Clock, ids: Ids) -> Store:
    """Open the database. SQLite is migrated here; PostgreSQL must have been (`vsp migrate`)."""
    ...
