"""A disk that forgets: `vsp.disk.Disk` in memory, with what a power cut does to it.

What was not synced may be there after a cut, or not, or in part: bytes at the end of a file are
torn at any place or come back as zeros, overwritten ones are the old or the new, and each name that
was made, renamed or removed since its folder was synced is decided by itself. A rename never loses
the file (POSIX): one of its names is there. A killed process takes nothing of this with it, for the
system still has what it was given.

The disk can be full, and its syncs can fail. After a sync that failed, what was to be synced counts
as clean and is never written by a later sync (Linux): only who writes it again saves it.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simulators.world.loop import VirtualClock, require_alive
from vsp.disk import Entry, File


@dataclass(slots=True, eq=False)
class _Inode:
    """synced  bytes from the start that are on disk, but for `undo` (what was there before)
    lost    bytes that a failed sync gave up: no later sync saves them unless they are written again
    """

    modified_us: int
    data: bytearray = field(default_factory=bytearray)
    synced: int = 0
    undo: list[tuple[int, bytes]] = field(default_factory=list)
    lost: tuple[int, int] | None = None

    def written(self, begin: int, end: int) -> None:
        """Bytes [begin, end) are new."""
        if self.lost is not None and begin <= self.lost[0] < end:
            self.lost = (end, self.lost[1]) if end < self.lost[1] else None

    def sync(self) -> None:
        self.synced = len(self.data) if self.lost is None else self.lost[0]
        self.undo = []

    def fail_to_sync(self) -> None:
        begin = self.synced if self.lost is None else self.lost[0]
        if len(self.data) > begin:
            self.lost = (begin, len(self.data))

    def forget(self, draw: random.Random) -> None:
        """The power went."""
        for offset, before in reversed(self.undo):
            if draw.random() < 0.5:
                self.data[offset : offset + len(before)] = before
        tail = len(self.data) - self.synced
        if tail > 0:
            kept = 0 if self.lost else draw.choice((0, tail, draw.randrange(tail)))
            del self.data[self.synced + kept :]
            if kept < tail and draw.random() < 0.3:
                self.data += bytes(draw.randrange(1, tail - kept + 1))
        self.undo, self.lost = [], None
        self.synced = len(self.data)


@dataclass(slots=True, eq=False)
class _Folder:
    """names as they are, and as they are on disk."""

    modified_us: int
    names: dict[str, _Inode | _Folder] = field(default_factory=dict)
    durable: dict[str, _Inode | _Folder] = field(default_factory=dict)


_Node = _Inode | _Folder


class ForgetfulDisk:
    """Set `capacity_bytes`, `syncs_fail` from outside; call `cut_power` when nobody runs."""

    def __init__(self, clock: VirtualClock, seed: int | str) -> None:
        self.capacity_bytes = 1 << 40
        self.syncs_fail = False
        self.used_bytes = 0
        self.cuts = 0
        self._clock = clock
        self._random = random.Random(f"disk/{seed}")
        self._root = _Folder(0)
        self._folders: dict[str, _Folder] = {"/": self._root}

    @property
    def boot(self) -> str:
        return f"boot {self.cuts}"

    # ---- Disk -------------------------------------------------------------------------------

    def open(self, path: Path, *, make: bool = False) -> File:
        folder, name = self._place(path)
        node = folder.names.get(name)
        if node is None:
            if not make:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            node = folder.names[name] = _Inode(self._clock.now_us())
        if isinstance(node, _Folder):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        return _File(self, node)

    def look(self, path: Path) -> Entry:
        text = str(path)
        if text in self._folders:
            return _entry(path.name, self._folders[text])
        folder, name = self._place(path)
        node = folder.names.get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
        return _entry(name, node)

    def entries(self, folder: Path) -> Sequence[Entry]:
        names = self._folder(str(folder)).names
        return [_entry(name, names[name]) for name in sorted(names)]

    def make_folder(self, path: Path) -> None:
        folder, name = self._place(path)
        if name in folder.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        made = folder.names[name] = _Folder(self._clock.now_us())
        self._folders[str(path)] = made

    def rename(self, path: Path, target: Path) -> None:
        source, name = self._place(path)
        into, new_name = self._place(target)
        node = source.names.get(name)
        if node is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        assert isinstance(node, _Inode), "folders are never renamed here"
        replaced = into.names.get(new_name)
        del source.names[name]
        into.names[new_name] = node
        if isinstance(replaced, _Inode):
            self.used_bytes -= len(replaced.data)

    def remove(self, path: Path) -> None:
        folder, name = self._place(path)
        node = folder.names.get(name)
        if not isinstance(node, _Inode):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        del folder.names[name]
        self.used_bytes -= len(node.data)

    def remove_folder(self, path: Path) -> None:
        text = str(path)
        if self._folder(text).names:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), text)
        folder, name = self._place(path)
        del folder.names[name]
        del self._folders[text]

    def sync_folder(self, path: Path) -> None:
        folder = self._folder(str(path))
        self._meet_sync()
        folder.durable = dict(folder.names)

    # ---- for those who look from outside ----------------------------------------------------

    def files(self, folder: Path) -> list[Path]:
        """Every file below a folder, in order of names; none where there is no such folder."""
        top = self._folders.get(str(folder))
        found = _places(top, durable=False) if top is not None else {}
        paths = {id(known): Path(text) for text, known in self._folders.items()}
        return sorted(paths[id(place)] / name for place, name in found.values())

    def durable(self, path: Path) -> bytes | None:
        """What a file holds for certain after a power cut now; None when it may not be there."""
        node: _Node | None = self._root
        for name in path.parts[1:]:
            if not isinstance(node, _Folder) or node.names.get(name) is not node.durable.get(name):
                return None
            node = node.durable.get(name)
        if not isinstance(node, _Inode) or node.undo or node.synced < len(node.data):
            return None
        return bytes(node.data)

    # ---- fate -------------------------------------------------------------------------------

    def cut_power(self) -> None:
        """Everything that was not synced is up to chance."""
        self.cuts += 1
        had, has = _places(self._root, durable=True), _places(self._root, durable=False)
        self._decide_names(self._root)
        named = _places(self._root, durable=False)
        for inode, (folder, name) in had.items():
            # Renamed since, and chance took both names: a rename keeps one of the two.
            if inode in has and inode not in named:
                folder.names[name] = folder.durable[name] = inode
        self._folders = {"/": self._root}
        self.used_bytes = 0
        self._settle(self._root, "")

    def _decide_names(self, folder: _Folder) -> None:
        for name in sorted({*folder.names, *folder.durable}):
            now, before = folder.names.get(name), folder.durable.get(name)
            chosen = now if now is before or self._random.random() < 0.5 else before
            if chosen is None:
                folder.names.pop(name, None)
            else:
                folder.names[name] = chosen
            if isinstance(chosen, _Folder):
                self._decide_names(chosen)
        folder.durable = dict(folder.names)

    def _settle(self, folder: _Folder, path: str) -> None:
        for name, node in folder.names.items():
            if isinstance(node, _Folder):
                self._folders[f"{path}/{name}"] = node
                self._settle(node, f"{path}/{name}")
            else:
                node.forget(self._random)
                self.used_bytes += len(node.data)

    # ---- inside -----------------------------------------------------------------------------

    def _meet_sync(self) -> None:
        if self.syncs_fail:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def _grow(self, more: int) -> None:
        if more > 0 and self.used_bytes + more > self.capacity_bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.used_bytes += more

    def _folder(self, text: str) -> _Folder:
        require_alive()
        folder = self._folders.get(text)
        if folder is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), text)
        return folder

    def _place(self, path: Path) -> tuple[_Folder, str]:
        parent, name = os.path.split(str(path))
        return self._folder(parent), name


def _places(folder: _Folder, *, durable: bool) -> dict[_Inode, tuple[_Folder, str]]:
    """Where every file below `folder` stands, as things are or as they are on disk."""
    found: dict[_Inode, tuple[_Folder, str]] = {}
    for name, node in (folder.durable if durable else folder.names).items():
        if isinstance(node, _Folder):
            found |= _places(node, durable=durable)
        else:
            found[node] = (folder, name)
    return found


def _entry(name: str, node: _Node) -> Entry:
    folder = isinstance(node, _Folder)
    size = len(node.data) if isinstance(node, _Inode) else 0
    return Entry(name, folder, not folder, size, node.modified_us)


class _File:
    def __init__(self, disk: ForgetfulDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode

    @property
    def size(self) -> int:
        return len(self._inode.data)

    def read(self, offset: int, length: int) -> bytes:
        require_alive()
        return bytes(self._inode.data[offset : offset + length])

    def write(self, offset: int, *pieces: bytes) -> None:
        require_alive()
        inode = self._inode
        data = b"".join(pieces)
        end = offset + len(data)
        self._disk._grow(max(0, end - len(inode.data)))
        if offset < inode.synced:
            inode.undo.append((offset, bytes(inode.data[offset : min(end, inode.synced)])))
        if offset > len(inode.data):
            inode.data += bytes(offset - len(inode.data))
        inode.data[offset:end] = data
        inode.written(offset, end)
        inode.modified_us = self._disk._clock.now_us()

    def truncate(self, size: int) -> None:
        require_alive()
        inode = self._inode
        self._disk._grow(size - len(inode.data))
        if size < inode.synced:
            inode.undo.append((size, bytes(inode.data[size : inode.synced])))
            inode.synced = size
        if size < len(inode.data):
            del inode.data[size:]
        else:
            inode.data += bytes(size - len(inode.data))

    def sync(self) -> None:
        require_alive()
        try:
            self._disk._meet_sync()
        except OSError:
            self._inode.fail_to_sync()
            raise
        self._inode.sync()

    def close(self) -> None:
        """Nothing to let go of."""


__all__ = ["ForgetfulDisk"]
