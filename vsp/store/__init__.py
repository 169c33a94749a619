"""Rows and objects: every storage port of `vsp.ports`, over SQLite or PostgreSQL, folder or S3.

    store = await open_store(config, clock, ids)     # node: database, migrated when embedded
    objects = open_objects(config)                   # workers and node: no database
    await migrate(config)                            # `vsp migrate`

Start reading at `tables` (the schema, with units), then `engine` (every difference between the two
databases is a named method there), then one file per port. `memory` has the same rows without a
database, for worlds on virtual time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from vsp.store.objects import Objects, open_objects

if TYPE_CHECKING:
    from vsp.store.migrating import migrate
    from vsp.store.opening import Store, open_store

__all__ = ["Objects", "Store", "migrate", "open_objects", "open_store"]

_OF_THE_DATABASE = {
    "Store": "vsp.store.opening",
    "migrate": "vsp.store.migrating",
    "open_store": "vsp.store.opening",
}
"""Imported when first asked for: media workers open no database, and its library is half of what
they would load."""


def __getattr__(name: str) -> object:
    if name not in _OF_THE_DATABASE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_OF_THE_DATABASE[name]), name)
