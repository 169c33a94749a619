"""ObjectStore in memory: objects that appear whole, uploads that any process can finish."""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right, insort
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from vsp.errors import DataLoss, Invalid, NotFound
from vsp.model.ids import UtcMicros
from vsp.ports import Clock, ObjectInfo, PartInfo, UploadInfo
from vsp.store import keys


@dataclass(frozen=True, slots=True)
class _Object:
    data: bytes
    metadata: Mapping[str, str]
    upload_id: str = ""


@dataclass(slots=True)
class _Upload:
    key: str
    metadata: Mapping[str, str]
    begun_us: UtcMicros
    parts: dict[int, tuple[bytes, str]] = field(default_factory=dict)


class MemoryBucket:
    """What outlives the processes that use it."""

    def __init__(self) -> None:
        self.objects: dict[str, _Object] = {}
        self.order: list[str] = []
        self.uploads: dict[str, _Upload] = {}
        self.begun = 0

    def put(self, key: str, made: _Object) -> None:
        if key not in self.objects:
            insort(self.order, key)
        self.objects[key] = made

    def drop(self, key: str) -> None:
        if self.objects.pop(key, None) is not None:
            del self.order[bisect_left(self.order, key)]


class MemoryObjects:
    """One process's hold on a bucket."""

    def __init__(self, bucket: MemoryBucket, clock: Clock) -> None:
        self._bucket = bucket
        self._clock = clock

    async def begin(self, key: str, metadata: Mapping[str, str]) -> str:
        """The id of a new upload."""
        keys.check_key(key)
        bucket = self._bucket
        bucket.begun += 1
        upload_id = f"u{bucket.begun:08x}"
        bucket.uploads[upload_id] = _Upload(
            key, keys.check_metadata(metadata), self._clock.now_us()
        )
        return upload_id

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        """The part's tag."""
        keys.check_part(number, len(data))
        tag = hashlib.sha256(data).hexdigest()
        self._upload(key, upload_id).parts[number] = (bytes(data), tag)
        return tag

    async def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> ObjectInfo:
        """The object of exactly these parts; once published, the object."""
        keys.check_key(key)
        keys.check_upload_id(upload_id)
        if not tags:
            raise Invalid(f"upload {upload_id} cannot complete without parts")
        found = self._bucket.objects.get(key)
        if upload_id not in self._bucket.uploads and found and found.upload_id == upload_id:
            return _info(key, found)
        upload = self._upload(key, upload_id)
        for number, tag in enumerate(tags, 1):
            if upload.parts.get(number, (b"", ""))[1] != tag:
                raise Invalid(f"part {number} of upload {upload_id} is missing or was replaced")
        data = b"".join(upload.parts[number][0] for number in range(1, len(tags) + 1))
        made = _Object(data, upload.metadata, upload_id)
        self._bucket.put(key, made)
        del self._bucket.uploads[upload_id]
        return _info(key, made)

    async def abort(self, key: str, upload_id: str) -> None:
        """Forget it; aborting twice is nothing."""
        keys.check_key(key)
        keys.check_upload_id(upload_id)
        if upload_id in self._bucket.uploads:
            self._upload(key, upload_id)
            del self._bucket.uploads[upload_id]

    async def uploads(self, prefix: str) -> AsyncIterator[UploadInfo]:
        """Those under way."""
        keys.check_prefix(prefix)
        for upload_id, upload in list(self._bucket.uploads.items()):
            if upload.key.startswith(prefix):
                yield UploadInfo(upload.key, upload_id, upload.begun_us)

    async def parts(self, key: str, upload_id: str) -> Sequence[PartInfo]:
        """What has arrived of an upload, up to the first that is missing. Raises NotFound."""
        parts = self._upload(key, upload_id).parts
        found: list[PartInfo] = []
        while (part := parts.get(len(found) + 1)) is not None:
            found.append(PartInfo(len(found) + 1, len(part[0]), part[1]))
        return found

    async def put(self, key: str, data: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        """A whole object at once; replaces one of that key."""
        made = _Object(bytes(data), keys.check_metadata(metadata))
        self._bucket.put(keys.check_key(key), made)
        return _info(key, made)

    async def stat(self, key: str) -> ObjectInfo:
        """Raises NotFound."""
        return _info(key, self._object(key))

    async def read(self, key: str, offset: int, length: int) -> bytes:
        """Exactly those bytes. Raises NotFound, DataLoss."""
        keys.check_range(key, offset, length)
        data = self._object(key).data[offset : offset + length]
        if len(data) != length:
            raise DataLoss(f"{key} ends before byte {offset + length}")
        return data

    async def list(self, prefix: str, after: str = "") -> AsyncIterator[ObjectInfo]:
        """In the order of keys; metadata is left empty, `stat` has it."""
        keys.check_prefix(prefix)
        order = self._bucket.order
        for key in order[max(bisect_left(order, prefix), bisect_right(order, after)) :]:
            if not key.startswith(prefix):
                return
            found = self._bucket.objects.get(key)
            if found is not None:
                yield ObjectInfo(key, len(found.data), {})

    async def delete(self, key: str) -> None:
        """Deleting what is not there is nothing."""
        self._bucket.drop(keys.check_key(key))

    async def close(self) -> None:
        """Nothing is held open."""

    def _object(self, key: str) -> _Object:
        found = self._bucket.objects.get(keys.check_key(key))
        if found is None:
            raise NotFound(f"there is no object {key}")
        return found

    def _upload(self, key: str, upload_id: str) -> _Upload:
        keys.check_key(key)
        keys.check_upload_id(upload_id)
        upload = self._bucket.uploads.get(upload_id)
        if upload is None:
            raise NotFound(f"there is no upload {upload_id}")
        if upload.key != key:
            raise Invalid(f"upload {upload_id} belongs to another key")
        return upload


def _info(key: str, found: _Object) -> ObjectInfo:
    return ObjectInfo(key, len(found.data), found.metadata)


__all__ = ["MemoryBucket", "MemoryObjects"]
