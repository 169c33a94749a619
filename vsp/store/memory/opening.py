"""Opening a database in memory: the same `Store` as over SQL, for one life of one process."""

from __future__ import annotations

from vsp.ports import Clock, Ids
from vsp.store.memory.audit import MemoryAuditLog
from vsp.store.memory.changelog import MemoryChangeLog
from vsp.store.memory.devices import MemoryDeviceBook
from vsp.store.memory.leases import MemoryLease
from vsp.store.memory.people import MemoryPeople
from vsp.store.memory.streams import MemoryStreamBook
from vsp.store.memory.tables import MemoryDatabase
from vsp.store.memory.timeline import MemorySegmentIndex
from vsp.store.opening import Store


def open_memory(database: MemoryDatabase, clock: Clock, ids: Ids, node: str) -> Store:
    """Every port over `database`. `node` is whose audit chain this life continues."""
    return Store(
        devices=MemoryDeviceBook(database, clock, ids),
        segments=MemorySegmentIndex(database),
        changes=MemoryChangeLog(database),
        audit=MemoryAuditLog(database, clock, ids, node),
        people=MemoryPeople(database),
        streams=MemoryStreamBook(database),
        leases=MemoryLease(database, clock),
        closing=_nothing,
    )


async def _nothing() -> None:
    """To close: no call is under way between two others, and the rows are the database's."""
