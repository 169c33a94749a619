"""Objects as files of a folder, with the key layout of S3. Blocking; blobs.py runs it in threads.

    {root}/v1/.../x.mp4         an object: its name is its key, and it is there only whole
    {root}/v1/.../.x.mp4.meta   its metadata and the upload it came from
    {root}/.uploads/{id}/       uploads under way (upload.py)

Nothing of ours can be taken for an object: keys hold no name that begins with a dot. An object is
published by: bytes on disk, metadata on disk under its name, rename, folder on disk. A crash
between any two leaves either no object and an upload that can be completed again, or the object.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vsp.errors import DataLoss, Exhausted, Invalid, NotFound, Unavailable
from vsp.ports import ObjectInfo
from vsp.store.upload import Upload, fsync_file

UPLOADS = ".uploads"

Entry = tuple[str, int | None]
"""An object's key with its size, or a folder's path, ending in "/", with None."""

LOCKS = 64
"""Locks shared by all uploads; two that share one wait for each other, which costs nothing."""

PUBLISH_TRIES = 3
"""A folder may be pruned by `delete` while an object enters it; it is then made again."""


class Folder:
    """One folder of objects."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._uploads = root / UPLOADS
        self._locks = [threading.Lock() for _ in range(LOCKS)]

    # ---- uploads ----------------------------------------------------------------------------

    def begin(self, key: str, metadata: Mapping[str, str]) -> str:
        """The id of a new upload."""
        with _file_errors(key):
            self._uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
            upload_id = secrets.token_hex(16)
            Upload.begin(self._uploads / upload_id, key, metadata)
            return upload_id

    def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        """The part's tag."""
        with _file_errors(key), self._lock(upload_id):
            return self._upload(key, upload_id).put(number, data)

    def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> ObjectInfo:
        """Publish; once published, the object."""
        with _file_errors(key), self._lock(upload_id):
            try:
                upload = self._upload(key, upload_id)
            except NotFound:
                if self._published_upload(key) == upload_id:
                    return self.stat(key)
                raise
            if upload.ready.exists() or self._published_upload(key) != upload_id:
                upload.assemble(tags)
                self._publish(upload)
            upload.discard()
            return self.stat(key)

    def abort(self, key: str, upload_id: str) -> None:
        """Forget it; aborting twice is nothing."""
        with _file_errors(key), self._lock(upload_id), suppress(NotFound):
            self._upload(key, upload_id).discard()

    def put(self, key: str, data: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        """A whole object at once; replaces one of that key."""
        upload_id = self.begin(key, metadata)
        upload = Upload(self._uploads / upload_id)
        try:
            with _file_errors(key):
                upload.put_whole(data)
                self._publish(upload)
        finally:
            upload.discard()
        return self.stat(key)

    # ---- objects ----------------------------------------------------------------------------

    def stat(self, key: str) -> ObjectInfo:
        """Raises NotFound."""
        with _file_errors(key):
            found = os.stat(self._root / key)
            if not stat.S_ISREG(found.st_mode):
                raise NotFound(f"there is no object {key}")
            return ObjectInfo(key, found.st_size, self._sidecar(key).get("metadata", {}))

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Exactly those bytes. Raises NotFound, DataLoss."""
        with _file_errors(key), (self._root / key).open("rb", buffering=0) as file:
            data = _read_at(file.fileno(), offset, length)
        if len(data) != length:
            raise DataLoss(f"{key} ends before byte {offset + length}")
        return data

    def entries(self, folder: str) -> Sequence[Entry]:
        """What lies in a folder ("" or "a/b/"), in the order of keys, "/" sorted as a character."""
        found: list[Entry] = []
        try:
            with _file_errors(folder), os.scandir(self._root / folder) as scan:
                for entry in scan:
                    if entry.name.startswith("."):
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        found.append((f"{folder}{entry.name}/", None))
                    elif entry.is_file(follow_symlinks=False):
                        with suppress(FileNotFoundError):  # deleted while we look
                            size = entry.stat(follow_symlinks=False).st_size
                            found.append((folder + entry.name, size))
        except NotFound:
            return []
        return sorted(found)

    def delete(self, key: str) -> None:
        """Object first, then its metadata, then folders that are empty; twice is nothing."""
        with _file_errors(key):
            path = self._root / key
            if path.is_dir():
                return
            with suppress(FileNotFoundError):
                path.unlink()
            with suppress(FileNotFoundError):
                self._sidecar_path(key).unlink()
            with suppress(FileNotFoundError):
                fsync_file(path.parent)
            self._prune(path.parent)

    # ---- inside -----------------------------------------------------------------------------

    def _lock(self, upload_id: str) -> threading.Lock:
        return self._locks[hash(upload_id) % LOCKS]

    def _upload(self, key: str, upload_id: str) -> Upload:
        upload = Upload(self._uploads / upload_id)
        if upload.key != key:
            raise Invalid(f"upload {upload_id} belongs to another key")
        return upload

    def _sidecar_path(self, key: str) -> Path:
        path = self._root / key
        return path.with_name(f".{path.name}.meta")

    def _sidecar(self, key: str) -> dict[str, dict[str, str]]:
        try:
            return dict(json.loads(self._sidecar_path(key).read_text("utf-8")))
        except FileNotFoundError:
            return {}  # put there by hand
        except ValueError as error:
            raise DataLoss(f"metadata of {key} does not read as JSON") from error

    def _published_upload(self, key: str) -> object:
        """The upload that an object came from; None without object."""
        return self._sidecar(key).get("upload") if (self._root / key).is_file() else None

    def _publish(self, upload: Upload) -> None:
        target = self._root / upload.key
        sidecar = {"upload": upload.id, "metadata": upload.metadata}
        for last in (False,) * (PUBLISH_TRIES - 1) + (True,):
            self._make_folders(target.parent)
            meta = upload.new_file("meta", json.dumps(sidecar).encode())
            try:
                os.replace(meta, self._sidecar_path(upload.key))
                os.replace(upload.ready, target)
            except FileNotFoundError:
                if last or not upload.ready.exists():
                    raise
            else:
                break
        fsync_file(target.parent)

    def _make_folders(self, folder: Path) -> None:
        """`folder` and what is above it, each name on disk."""
        if folder.is_dir():
            return
        if folder != self._root:
            self._make_folders(folder.parent)
        else:
            folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        fsync_file(folder.parent)

    def _prune(self, folder: Path) -> None:
        while folder != self._root and self._root in folder.parents:
            try:
                folder.rmdir()
            except OSError:
                return  # not empty, or another has been quicker
            folder = folder.parent


def _read_at(descriptor: int, offset: int, length: int) -> bytes:
    pieces: list[bytes] = []
    while length and (piece := os.pread(descriptor, length, offset)):
        pieces.append(piece)
        offset, length = offset + len(piece), length - len(piece)
    return b"".join(pieces)


_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}


@contextmanager
def _file_errors(key: str) -> Iterator[None]:
    """Turn what the file system says into our kinds."""
    try:
        yield
    except OSError as error:
        if error.errno in _ABSENT:
            raise NotFound(f"there is no object {key}") from error
        if error.errno in _FULL:
            raise Exhausted(
                f"no room for {key}: {error.strerror}",
                cause="the disk of the object folder is full",
                next_step="make room or enlarge it; nothing is deleted early to make room",
            ) from error
        if error.errno == errno.EIO:
            raise DataLoss(
                f"the disk failed at {key}", next_step="look at the disk's own log"
            ) from error
        raise Unavailable(
            f"{key} cannot be reached: {error.strerror}",
            next_step="check store.root and who owns it",
        ) from error
