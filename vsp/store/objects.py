"""Opening the object half of the store."""

from __future__ import annotations

import re
from typing import Protocol

from vsp.blocking import IoPool
from vsp.config import Config
from vsp.errors import Invalid
from vsp.ports import ObjectStore
from vsp.store.blobs import FOLDER_THREADS, FolderObjects
from vsp.store.folder import Folder

_ENDPOINT = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:\d{1,5})?")


class Objects(ObjectStore, Protocol):
    """An object store that is held open: it owns threads."""

    async def close(self) -> None:
        """Let running calls end."""
        ...


def open_objects(config: Config) -> Objects:
    """The folder or the S3 bucket of the configuration. Reaches for nothing until first used.

    Raises Invalid and Denied for settings and credentials that cannot work.
    """
    store = config.store
    if store.kind == "folder":
        return FolderObjects(Folder(config.objects_dir), IoPool("objects", FOLDER_THREADS))
    if store.s3_credentials is None:
        raise Invalid("store.kind=s3 needs store.s3_credentials")
    if not _ENDPOINT.fullmatch(store.s3_endpoint):
        raise Invalid(f"store.s3_endpoint {store.s3_endpoint!r} is not host:port")
    # Imported here: the client of S3 is large, and a folder does without.
    from vsp.store.s3 import S3Objects, read_credentials

    access_key, secret_key = read_credentials(store.s3_credentials)
    try:
        return S3Objects(
            store.s3_endpoint,
            store.s3_bucket,
            access_key,
            secret_key,
            secure=store.s3_secure,
            region=store.s3_region,
        )
    except ValueError as error:
        raise Invalid(f"store.s3_endpoint {store.s3_endpoint!r}: {error}") from error
