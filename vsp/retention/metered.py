"""The object store as checks and mends use it: in the order of keys, and counted.

The order of keys is made here, folder by folder, since a store promises no more. The facts of a
segment are read out of its object by whoever knows its format (`Facts`).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from vsp.errors import Exhausted, Unsupported
from vsp.model.recording import Segment
from vsp.ports import ObjectInfo, ObjectStore, PartInfo, UploadInfo
from vsp.retention.keys import ROOT

FOLDER_OBJECTS_MAX = 200_000
"""Objects of one folder that are sorted in memory (50 MB): a day of 2 s segments has 43,200."""

UPLOADS_MAX = 100_000
"""Uploads under way that are sorted in memory: each stream has one."""

READ_BYTES = 4 << 20
"""Bytes read and hashed at a time: some milliseconds of the loop."""

LIST_PAGE = 1_000
"""Objects of one request, as S3 lists them."""

Facts = Callable[[ObjectInfo], Awaitable[Segment]]
"""The row of an object, read out of it. Raises Invalid, DataLoss, NotFound."""


@dataclass(slots=True)
class Cost:
    """What was looked at so far. requests: calls of the object store, lists page by page.

    seconds  by whoever has a clock
    """

    rows: int = 0
    objects: int = 0
    uploads: int = 0
    audit_rows: int = 0
    requests: int = 0
    bytes_read: int = 0
    seconds: float = 0.0


class Metered:
    """Counts into `cost`."""

    def __init__(self, objects: ObjectStore, facts: Facts, cost: Cost) -> None:
        self._objects = objects
        self._facts = facts
        self._cost = cost

    async def listed(self, after: str) -> AsyncGenerator[ObjectInfo, None]:
        """Every object behind `after`, in the order of keys. Raises Exhausted, Unsupported."""
        folder, found, last = "", list[ObjectInfo](), after
        async for info in self._pages(after):
            if info.key.rpartition("/")[0] != folder:
                for each in _in_order(found, last):
                    yield each
                folder, found, last = info.key.rpartition("/")[0], [], _last_of(found, last)
            if len(found) >= FOLDER_OBJECTS_MAX:
                raise Exhausted(f"more than {FOLDER_OBJECTS_MAX} objects are in {folder}/")
            found.append(info)
        for each in _in_order(found, last):
            yield each

    async def _pages(self, after: str) -> AsyncGenerator[ObjectInfo, None]:
        listing = self._objects.list(ROOT, after)
        try:
            in_page = 0
            async for info in listing:
                if in_page % LIST_PAGE == 0:
                    self._cost.requests += 1
                in_page += 1
                self._cost.objects += 1
                yield info
        finally:
            if isinstance(listing, AsyncGenerator):
                await listing.aclose()

    async def uploads(self) -> Sequence[UploadInfo]:
        """Those under way, in the order of keys."""
        found: list[UploadInfo] = []
        self._cost.requests += 1
        async for upload in self._objects.uploads(ROOT):
            if len(found) >= UPLOADS_MAX:
                raise Exhausted(f"more than {UPLOADS_MAX} uploads are under way")
            found.append(upload)
        return sorted(found, key=lambda upload: (upload.key, upload.upload_id))

    async def stat(self, key: str) -> ObjectInfo:
        self._cost.requests += 1
        return await self._objects.stat(key)

    async def parts(self, upload: UploadInfo) -> Sequence[PartInfo]:
        self._cost.requests += 1
        return await self._objects.parts(upload.key, upload.upload_id)

    async def complete(self, upload: UploadInfo, parts: Sequence[PartInfo]) -> ObjectInfo:
        self._cost.requests += 1
        tags = [part.tag for part in parts]
        return await self._objects.complete(upload.key, upload.upload_id, tags)

    async def abort(self, upload: UploadInfo) -> None:
        self._cost.requests += 1
        await self._objects.abort(upload.key, upload.upload_id)

    async def sha256(self, info: ObjectInfo) -> str:
        """Of all its bytes. Raises NotFound, DataLoss."""
        digest = hashlib.sha256()
        for offset in range(0, info.size_bytes, READ_BYTES):
            length = min(READ_BYTES, info.size_bytes - offset)
            self._cost.requests += 1
            digest.update(await self._objects.read(info.key, offset, length))
            self._cost.bytes_read += length
        return digest.hexdigest()

    async def facts(self, info: ObjectInfo) -> Segment:
        """The row that is in the object. Raises Invalid, DataLoss, NotFound."""
        self._cost.requests += -(-info.size_bytes // READ_BYTES)
        self._cost.bytes_read += info.size_bytes
        return await self._facts(info)


def _in_order(found: list[ObjectInfo], last: str) -> list[ObjectInfo]:
    """One folder's objects. Raises Unsupported when they belong before what was listed already."""
    found.sort(key=lambda info: info.key)
    if found and found[0].key <= last:
        raise Unsupported(
            f"the object store lists {found[0].key} behind {last}",
            cause="a folder there has the name of another one with more behind it; ours never do",
            next_step="find out who made it; recordings have ids of one length",
        )
    return found


def _last_of(found: list[ObjectInfo], last: str) -> str:
    return found[-1].key if found else last


__all__ = ["Cost", "Facts", "Metered"]
