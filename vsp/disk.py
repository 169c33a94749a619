"""The file system where durability counts: spool, journal and object folder use it only through
here, so that a virtual world can put a disk below them that forgets, tears and fills up.

What a crash leaves follows from these calls alone: bytes are safe after `File.sync`, names after
`sync_folder` of the folder they stand in. A killed process loses neither; a power cut loses both.
Everything blocks and is meant for threads; errors are OSError, as the system has them.
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

COPY_BYTES = 1 << 20
"""Piece of a copy, so that a whole object need not stand in memory."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a folder: a folder, a plain file, or neither (a link, a pipe).

    modified_us  wall time of the last change of its bytes
    """

    name: str
    folder: bool
    plain: bool
    size_bytes: int
    modified_us: int


class File(Protocol):
    """An open file. Every call says where: no position is shared between callers."""

    @property
    def size(self) -> int: ...
    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes, fewer where the file ends."""
        ...

    def write(self, offset: int, *pieces: bytes) -> None:
        """All of them, one behind the other; OSError when the disk took only some."""
        ...

    def truncate(self, size: int) -> None: ...
    def sync(self) -> None:
        """On disk when it returns. After an OSError nothing is known of what was not synced."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """Files and folders by path."""

    @property
    def boot(self) -> str:
        """Which run of the machine this is: under another one, what was not synced may be gone."""
        ...

    def open(self, path: Path, *, make: bool = False) -> File:
        """For reading and writing; `make`: it need not exist. Mode 0600."""
        ...

    def look(self, path: Path) -> Entry:
        """FileNotFoundError when there is none."""
        ...

    def entries(self, folder: Path) -> Sequence[Entry]:
        """In the order of names; FileNotFoundError, NotADirectoryError."""
        ...

    def make_folder(self, path: Path) -> None:
        """One level, mode 0700; FileExistsError when it is there."""
        ...

    def rename(self, path: Path, target: Path) -> None:
        """Replaces what has that name."""
        ...

    def remove(self, path: Path) -> None: ...
    def remove_folder(self, path: Path) -> None:
        """Empty ones only."""
        ...

    def sync_folder(self, path: Path) -> None:
        """Names that were made, renamed or removed in it are on disk when it returns."""
        ...


# ---- what can be said with those calls ------------------------------------------------------


def exists(disk: Disk, path: Path) -> bool:
    try:
        disk.look(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def read_whole(disk: Disk, path: Path) -> bytes:
    """FileNotFoundError when there is none."""
    if disk.look(path).folder:
        raise IsADirectoryError(f"{path} is a folder")
    file = disk.open(path)
    try:
        return file.read(0, file.size)
    finally:
        file.close()


def write_durably(disk: Disk, path: Path, data: bytes) -> None:
    """The whole file, on disk; its name is durable only once its folder is synced."""
    file = disk.open(path, make=True)
    try:
        file.truncate(0)
        file.write(0, data)
        file.sync()
    finally:
        file.close()


def make_folders(disk: Disk, path: Path) -> None:
    """`path` and what is above it, each name on disk.

    Names are made from above and each synced before the next, so only the last one that is there
    may still be in memory alone: made by a process that was killed, or by a try whose sync failed.
    """
    if exists(disk, path):
        with suppress(PermissionError):  # a folder above that is not ours: nor did we name this one
            disk.sync_folder(path.parent)
        return
    make_folders(disk, path.parent)
    with suppress(FileExistsError):
        disk.make_folder(path)
    disk.sync_folder(path.parent)


def lock_file(path: Path) -> int:
    """A descriptor of `path`, made if need be, that nobody else can hold until it is closed.

    Raises BlockingIOError while somebody does. Nothing of it need be durable.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def remove_tree(disk: Disk, path: Path) -> None:
    """A folder and all that is in it, as far as it goes."""
    with suppress(OSError):
        for entry in disk.entries(path):
            if entry.folder:
                remove_tree(disk, path / entry.name)
            else:
                disk.remove(path / entry.name)
        disk.remove_folder(path)


# ---- the machine's own ----------------------------------------------------------------------


class _SystemFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        pieces: list[bytes] = []
        while length and (piece := os.pread(self._descriptor, length, offset)):
            pieces.append(piece)
            offset, length = offset + len(piece), length - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def write(self, offset: int, *pieces: bytes) -> None:
        left = sum(map(len, pieces))
        written = os.pwritev(self._descriptor, pieces, offset)
        while written < left:  # interrupted, or nearly full: what is left says which
            rest = memoryview(b"".join(pieces))[-left:][written:]
            offset, left = offset + written, left - written
            written = os.pwritev(self._descriptor, [rest], offset)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)


class SystemDisk:
    """The machine's file systems."""

    @property
    def boot(self) -> str:
        """A word that never matches where the system does not say."""
        try:
            return BOOT_ID.read_text("ascii").strip()
        except OSError:
            return f"unknown-{os.urandom(8).hex()}"

    def open(self, path: Path, *, make: bool = False) -> File:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if make else 0)
        return _SystemFile(os.open(path, flags, 0o600))

    def look(self, path: Path) -> Entry:
        return _entry(path.name, os.stat(path))

    def entries(self, folder: Path) -> Sequence[Entry]:
        found = []
        with os.scandir(folder) as scan:
            for entry in scan:
                with suppress(FileNotFoundError):  # removed while we look
                    found.append(_entry(entry.name, entry.stat(follow_symlinks=False)))
        return sorted(found, key=lambda entry: entry.name)

    def make_folder(self, path: Path) -> None:
        os.mkdir(path, 0o700)

    def rename(self, path: Path, target: Path) -> None:
        os.replace(path, target)

    def remove(self, path: Path) -> None:
        os.unlink(path)

    def remove_folder(self, path: Path) -> None:
        os.rmdir(path)

    def sync_folder(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _entry(name: str, found: os.stat_result) -> Entry:
    return Entry(
        name,
        stat.S_ISDIR(found.st_mode),
        stat.S_ISREG(found.st_mode),
        found.st_size,
        found.st_mtime_ns // 1000,
    )


__all__ = [
    "COPY_BYTES",
    "Disk",
    "Entry",
    "File",
    "SystemDisk",
    "exists",
    "lock_file",
    "make_folders",
    "read_whole",
    "remove_tree",
    "write_durably",
]
