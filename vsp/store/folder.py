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
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vsp.disk import Disk, SystemDisk, exists, make_folders, read_whole, remove_tree
from vsp.errors import DataLoss, Exhausted, Invalid, NotFound, Unavailable
from vsp.faults import Point, reach
from vsp.model.ids import UtcMicros
from vsp.ports import ObjectInfo, PartInfo, UploadInfo
from vsp.store.upload import Upload

UPLOADS = ".uploads"

Listed = tuple[str, int | None]
"""An object's key with its size, or a folder's path, ending in "/", with None."""

LOCKS = 64
"""Locks shared by all uploads; two that share one wait for each other, which costs nothing."""

PUBLISH_TRIES = 3
"""A folder may be pruned by `delete` while an object enters it; it is then made again."""

NAMED_MAX = 10_000
"""Folders remembered as durable: two days of 5,000 channels; then all are forgotten."""

STILLBORN_US = 3_600_000_000
"""An upload that has no head this long after it was made lost its maker in between."""


class Folder:
    """One folder of objects. make_id: the names of uploads."""

    def __init__(
        self,
        root: Path,
        disk: Disk | None = None,
        make_id: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self._root = root
        self._disk = disk or SystemDisk()
        self._make_id = make_id
        self._uploads = root / UPLOADS
        self._locks = [threading.Lock() for _ in range(LOCKS)]
        self._named: set[Path] = set()
        self._settled: set[Path] = set()

    # ---- uploads ----------------------------------------------------------------------------

    def begin(self, key: str, metadata: Mapping[str, str]) -> str:
        """The id of a new upload."""
        with _file_errors(key):
            upload_id = self._make_id()
            self._make_folders(self._uploads)
            try:
                Upload.begin(self._disk, self._uploads / upload_id, key, metadata)
            except FileNotFoundError:  # somebody took the folder away that we made
                self._named.clear()
                raise
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
            if upload.is_ready or self._published_upload(key) != upload_id:
                upload.assemble(tags)
                self._publish(upload)
            upload.discard()
            return self.stat(key)

    def abort(self, key: str, upload_id: str) -> None:
        """Forget it; aborting twice is nothing."""
        with _file_errors(key), self._lock(upload_id), suppress(NotFound):
            self._upload(key, upload_id).discard()

    def uploads(self) -> Sequence[UploadInfo]:
        """Those under way. One that lost its maker before it had a head is removed here."""
        found: list[UploadInfo] = []
        stillborn: list[tuple[str, int]] = []
        with _file_errors(UPLOADS):
            if not exists(self._disk, self._uploads):
                return []
            for entry in self._disk.entries(self._uploads):
                try:
                    upload = Upload(self._disk, self._uploads / entry.name)
                    begun_us = UtcMicros(upload.begun_us)
                except FileNotFoundError:
                    continue  # it ended while we looked
                except (NotFound, DataLoss):
                    stillborn.append((entry.name, entry.modified_us))
                else:
                    found.append(UploadInfo(upload.key, upload.id, begun_us))
        newest_us = max((upload.begun_us for upload in found), default=0)
        for name, made_us in stillborn:
            if newest_us - made_us > STILLBORN_US:
                remove_tree(self._disk, self._uploads / name)
        return found

    def parts(self, key: str, upload_id: str) -> Sequence[PartInfo]:
        """What has arrived of an upload, by number. Raises NotFound."""
        with _file_errors(key), self._lock(upload_id):
            return self._upload(key, upload_id).parts()

    def put(self, key: str, data: bytes, metadata: Mapping[str, str]) -> ObjectInfo:
        """A whole object at once; replaces one of that key."""
        upload_id = self.begin(key, metadata)
        upload = Upload(self._disk, self._uploads / upload_id)
        try:
            with _file_errors(key):
                upload.put_whole(data)
                self._publish(upload)
        finally:
            upload.discard()
        return self.stat(key)

    # ---- objects ----------------------------------------------------------------------------

    def stat(self, key: str) -> ObjectInfo:
        """Durable when it returns. Raises NotFound."""
        with _file_errors(key):
            path = self._root / key
            found = self._disk.look(path)
            if not found.plain:
                raise NotFound(f"there is no object {key}")
            self._settle(path.parent)
            return ObjectInfo(key, found.size_bytes, self._sidecar(key).get("metadata", {}))

    def read(self, key: str, offset: int, length: int) -> bytes:
        """Exactly those bytes. Raises NotFound, DataLoss."""
        with _file_errors(key):
            file = self._disk.open(self._root / key)
            try:
                data = file.read(offset, length)
            finally:
                file.close()
        if len(data) != length:
            raise DataLoss(f"{key} ends before byte {offset + length}")
        return data

    def entries(self, folder: str) -> Sequence[Listed]:
        """What lies in a folder ("" or "a/b/"), in the order of keys, "/" sorted as a character."""
        found: list[Listed] = []
        try:
            with _file_errors(folder):
                for entry in self._disk.entries(self._root / folder):
                    if entry.name.startswith("."):
                        continue
                    if entry.folder:
                        found.append((f"{folder}{entry.name}/", None))
                    elif entry.plain:
                        found.append((folder + entry.name, entry.size_bytes))
        except NotFound:
            return []
        return sorted(found)

    def delete(self, key: str) -> None:
        """Object first, then its metadata, then folders that are empty; twice is nothing."""
        with _file_errors(key):
            path = self._root / key
            with suppress(FileNotFoundError):
                if self._disk.look(path).folder:
                    return
                self._disk.remove(path)
            with suppress(FileNotFoundError):
                self._disk.remove(self._sidecar_path(key))
            with suppress(FileNotFoundError):
                self._disk.sync_folder(path.parent)
            self._prune(path.parent)

    # ---- inside -----------------------------------------------------------------------------

    def _lock(self, upload_id: str) -> threading.Lock:
        return self._locks[hash(upload_id) % LOCKS]

    def _upload(self, key: str, upload_id: str) -> Upload:
        upload = Upload(self._disk, self._uploads / upload_id)
        if upload.key != key:
            raise Invalid(f"upload {upload_id} belongs to another key")
        return upload

    def _sidecar_path(self, key: str) -> Path:
        path = self._root / key
        return path.with_name(f".{path.name}.meta")

    def _sidecar(self, key: str) -> dict[str, dict[str, str]]:
        try:
            return dict(json.loads(read_whole(self._disk, self._sidecar_path(key))))
        except FileNotFoundError:
            return {}  # put there by hand
        except ValueError as error:
            raise DataLoss(f"metadata of {key} does not read as JSON") from error

    def _published_upload(self, key: str) -> object:
        """The upload that an object came from; None without object."""
        if not exists(self._disk, self._root / key):
            return None
        return self._sidecar(key).get("upload")

    def _publish(self, upload: Upload) -> None:
        target = self._root / upload.key
        sidecar = {"upload": upload.id, "metadata": upload.metadata}
        for last in (False,) * (PUBLISH_TRIES - 1) + (True,):
            self._make_folders(target.parent)
            meta = upload.new_file("meta", json.dumps(sidecar).encode())
            try:
                self._disk.rename(meta, self._sidecar_path(upload.key))
                reach(Point.FOLDER_SIDECAR)
                self._disk.rename(upload.ready, target)
            except FileNotFoundError:
                self._named.clear()
                if last or not upload.is_ready:
                    raise
            else:
                break
        reach(Point.FOLDER_NAMED)
        self._settled.discard(target.parent)
        self._settle(target.parent)
        reach(Point.FOLDER_PUBLISHED)

    def _settle(self, folder: Path) -> None:
        """The names in `folder` are on disk. One of them may still be only in memory, given by a
        process that was killed, or by a try whose sync failed: nobody may rely on it before."""
        if folder not in self._settled:
            self._disk.sync_folder(folder)
            _remember(self._settled, folder)

    def _make_folders(self, folder: Path) -> None:
        """`folder` and what is above it, each name on disk.

        One that is there may still be only in memory, made by a process that was killed: the first
        time in our life its name is synced whoever made it.
        """
        if folder in self._named:
            return
        if folder == self._root:
            make_folders(self._disk, folder)
        else:
            self._make_folders(folder.parent)
            with suppress(FileExistsError):
                self._disk.make_folder(folder)
            self._disk.sync_folder(folder.parent)
        _remember(self._named, folder)

    def _prune(self, folder: Path) -> None:
        while folder != self._root and self._root in folder.parents:
            self._named.discard(folder)
            try:
                self._disk.remove_folder(folder)
            except OSError:
                return  # not empty, or another has been quicker
            folder = folder.parent


def _remember(folders: set[Path], folder: Path) -> None:
    if len(folders) >= NAMED_MAX:
        folders.clear()
    folders.add(folder)


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
