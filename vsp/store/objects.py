"""Opening the object half of the store."""

from __future__ import annotations

from typing import Protocol

from vsp.config import Config
from vsp.ports import ObjectStore


class Objects(ObjectStore, Protocol):
    """An object store that is held open: it owns threads."""

    async def close(self) -> None: ...


def open_objects(config: Config) -> Objects:
    """The folder or the S3 bucket of the configuration. Opens nothing yet but its threads."""
    ...
