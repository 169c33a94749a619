"""Every port that is rows, in memory: for worlds that run in one process on virtual time.

    database = MemoryDatabase()                       # outlives the stores opened over it
    store = open_memory(database, clock, ids, node)   # one life of one process
    await store.close()

It keeps the contract of the two SQL databases (tests/contract), with their bounds, their cleaning
of texts and their errors, and is no third database of the product: nothing here reaches a disk. A
call does all its work before anything else runs and never waits, so whoever is killed at an await
leaves no half of a row, and what happens depends on nothing but the order of calls.

Start reading at `tables`, then one file per port, named as its SQL twin in `vsp.store`, which also
holds what the two share.
"""

from __future__ import annotations

from vsp.store.memory.objects import MemoryBucket, MemoryObjects
from vsp.store.memory.opening import open_memory
from vsp.store.memory.tables import MemoryDatabase

__all__ = ["MemoryBucket", "MemoryDatabase", "MemoryObjects", "open_memory"]
