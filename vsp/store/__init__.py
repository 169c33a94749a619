"""Rows and objects: every storage port of `vsp.ports`, over SQLite or PostgreSQL, folder or S3.

    store = await open_store(config, clock, ids)     # node: database, migrated when embedded
    objects = open_objects(config)                   # workers and node: no database
    await migrate(config)                            # `vsp migrate`

Start reading at `tables` (the schema, with units), then `engine` (every difference between the two
databases is a named method there), then one file per port.
"""

from __future__ import annotations

from vsp.store.migrating import migrate
from vsp.store.objects import Objects, open_objects
from vsp.store.opening import Store, open_store

__all__ = ["Objects", "Store", "migrate", "open_objects", "open_store"]
