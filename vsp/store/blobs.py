"""ObjectStore over a local folder: the embedded default. The files themselves are in folder.py.

What it lacks against S3, plainly: one machine only, and no lock that a person with root could not
remove. Parts may have any size.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from vsp.blocking import Blocking
from vsp.ports import ObjectInfo, PartInfo, UploadInfo
from vsp.store import keys
from vsp.store.folder import Folder, Listed

FOLDER_THREADS = 4
"""Threads of one process on the disk: enough to let reads pass a write that waits for fsync."""


class FolderObjects:
    """Objects as files; every call in a thread."""

    def __init__(self, folder: Folder, blocking: Blocking) -> None:
        self._folder = folder
        self._blocking = blocking

    async def begin(self, key: str, metadata: Mapping[str, str]) -> str:
        """The id of a new upload."""
        keys.check_key(key)
        return await self._blocking.run(self._folder.begin, key, keys.check_metadata(metadata))

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        """The part's tag. Durable only by `complete`: until then the spool is the truth."""
        keys.check_key(key)
        keys.check_upload_id(upload_id)
        keys.check_part(number, len(data))
        return await self._blocking.run(self._folder.put_part, key, upload_id, number, data)

    async def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> ObjectInfo:
        """The object of parts 1 to len(tags), durable."""
        keys.check_key(key)
        keys.check_upload_id(upload_id)
        return await self._blocking.run(self._folder.complete, key, upload_id, tuple(tags))

    async def abort(self, key: str, upload_id: str) -> None:
        """Forget an upload."""
        keys.check_key(key)
        keys.check_upload_id(upload_id)
        await self._blocking.run(self._folder.abort, key, upload_id)

    async def uploads(self, prefix: str) -> AsyncIterator[UploadInfo]:
        """Those under way."""
        keys.check_prefix(prefix)
        for upload in await self._blocking.run(self._folder.uploads):
            if upload.key.startswith(prefix):
                yield upload

    async def parts(self, key: str, upload_id: str) -> Sequence[PartInfo]:
        """What has arrived of an upload. Raises NotFound."""
        keys.check_key(key)
        keys.check_upload_id(upload_id)
        return await self._blocking.run(self._folder.parts, key, upload_id)

    async def put(self, key: str, data: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        """A whole object, durable."""
        keys.check_key(key)
        return await self._blocking.run(self._folder.put, key, data, keys.check_metadata(metadata))

    async def stat(self, key: str) -> ObjectInfo:
        """Raises NotFound."""
        return await self._blocking.run(self._folder.stat, keys.check_key(key))

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes. Raises NotFound, DataLoss."""
        keys.check_key(key)
        keys.check_range(key, offset, length)
        return await self._blocking.run(self._folder.read, key, offset, length)

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[ObjectInfo]:
        """In the order of keys; metadata is left empty, `stat` has it."""
        keys.check_prefix(prefix)
        start = prefix[: prefix.rfind("/") + 1]
        # One list for each folder on the way down, what comes next at its end.
        levels = [_last_first(await self._entries(start))]
        while levels:
            if not levels[-1]:
                levels.pop()
                continue
            path, size = levels[-1].pop()
            if not path.startswith(prefix) or not _leads_behind((path, size), after):
                continue
            if size is None:
                levels.append(_last_first(await self._entries(path)))
            else:
                yield ObjectInfo(path, size, {})

    async def _entries(self, folder: str) -> Sequence[Listed]:
        return await self._blocking.run(self._folder.entries, folder)

    async def delete(self, key: str) -> None:
        """Deleting what is not there is nothing."""
        await self._blocking.run(self._folder.delete, keys.check_key(key))

    async def close(self) -> None:
        """Let running calls end."""
        await self._blocking.close()


def _leads_behind(entry: Listed, after: str) -> bool:
    """Whether an object, or what may lie in a folder, is behind `after`."""
    path, size = entry
    return path > after or (size is None and after.startswith(path))


def _last_first(entries: Sequence[Listed]) -> list[Listed]:
    return list(reversed(entries))
