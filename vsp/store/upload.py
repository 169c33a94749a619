"""One upload under way in a folder: parts that arrive are laid down so that completing is a rename.

    head.json   key, metadata, and the boot of the machine that began it
    body        parts 1, 2, 3, ... as they arrived in order, one after the other
    part-NNNNN  a part that came out of order, or again with other bytes
    journal     one line a part: number, length, SHA-256, offset in body or -; the last line counts
    ready       the whole object, on disk, waiting for its name

Parts normally come in order, so the bytes are written once. A line enters the journal after its
bytes, so that a killed writer leaves at most bytes nobody refers to. A power cut is another matter:
lines may survive without their bytes. Every part is therefore hashed again before completing, but
only when the machine has been booted since the upload began.

Blocking; called from threads. One upload is used by one thread at a time (folder.py locks).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsp.errors import Conflict, DataLoss, Invalid, NotFound

COPY_BYTES = 1 << 20
"""Piece of a copy or of hashing."""

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

_BODY = "body"
_HEAD = "head.json"
_JOURNAL = "journal"
_READY = "ready"


@dataclass(frozen=True, slots=True)
class Part:
    """A part as journalled. `offset` is its place in the body, None for a file of its own."""

    number: int
    length: int
    tag: str
    offset: int | None

    def line(self) -> bytes:
        """The journal's line."""
        place = "-" if self.offset is None else str(self.offset)
        return f"{self.number} {self.length} {self.tag} {place}\n".encode()


class Upload:
    """The folder of one upload."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.id = folder.name
        try:
            head = json.loads((folder / _HEAD).read_text("utf-8"))
        except FileNotFoundError as error:
            raise NotFound(f"there is no upload {folder.name}") from error
        except ValueError as error:
            raise DataLoss(f"upload {folder.name} has a damaged head") from error
        self.key: str = head["key"]
        self.metadata: dict[str, str] = head["metadata"]
        self._boot: str = head["boot"]

    @classmethod
    def begin(cls, folder: Path, key: str, metadata: Mapping[str, str]) -> Upload:
        """A new upload in a folder that does not exist yet."""
        folder.mkdir(mode=0o700)
        head = {"key": key, "metadata": dict(metadata), "boot": _boot_id()}
        write_durably(folder / _HEAD, json.dumps(head).encode())
        return cls(folder)

    def put(self, number: int, data: bytes) -> str:
        """Lay down one part; the same again is nothing, other bytes replace it."""
        if self.ready.exists():
            raise Conflict(f"upload {self.id} is being completed; no part can join it")
        tag = hashlib.sha256(data).hexdigest()
        parts, body_end = self._read_journal()
        known = parts.get(number)
        if known is not None and (known.tag, known.length) == (tag, len(data)):
            return tag
        in_order = known is None and number == _contiguous(parts) + 1
        part = Part(number, len(data), tag, body_end if in_order else None)
        if part.offset is None:
            self._write_stray(number, data)
        else:
            _write_at(self._folder / _BODY, part.offset, data)
        self._append_journal(part)
        return tag

    def put_whole(self, data: bytes) -> None:
        """Make `data` the ready object, without parts."""
        write_durably(self.ready, data)

    @property
    def ready(self) -> Path:
        """The whole object; exists once `assemble` has returned."""
        return self._folder / _READY

    def assemble(self, tags: Sequence[str]) -> Path:
        """The whole object of exactly these parts, on disk. Repeatable.

        Raises Invalid when a part is missing or has another tag, DataLoss when its bytes are gone.
        """
        if self.ready.exists():
            return self.ready
        parts = self._wanted(tags)
        if self._boot != _boot_id():
            for part in parts:
                self._verify(part)
        if _lies_in_order(parts):
            whole = self._folder / _BODY
            size = sum(part.length for part in parts)
            if whole.stat().st_size < size:
                raise DataLoss(f"upload {self.id} holds fewer bytes than its journal says")
            os.truncate(whole, size)
        else:
            whole = self._folder / "whole"
            self._copy_together(parts, whole)
        fsync_file(whole)
        os.rename(whole, self.ready)
        return self.ready

    def new_file(self, name: str, data: bytes) -> Path:
        """A durable file beside the parts, to be renamed away."""
        path = self._folder / name
        write_durably(path, data)
        return path

    def discard(self) -> None:
        """Remove the upload; what was published has left the folder already."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wanted(self, tags: Sequence[str]) -> list[Part]:
        parts, _ = self._read_journal()
        if not tags:
            raise Invalid(f"upload {self.id} cannot complete without parts")
        wanted: list[Part] = []
        for number, tag in enumerate(tags, 1):
            part = parts.get(number)
            if part is None or part.tag != tag:
                raise Invalid(f"part {number} of upload {self.id} is missing or was replaced")
            wanted.append(part)
        return wanted

    def _read_journal(self) -> tuple[dict[int, Part], int]:
        """Every part by number, and where the body ends. A torn last line does not count."""
        parts: dict[int, Part] = {}
        body_end = 0
        path = self._folder / _JOURNAL
        text = path.read_bytes() if path.exists() else b""
        for line in text.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            number, length, tag, place = line.split()
            offset = None if place == b"-" else int(place)
            parts[int(number)] = Part(int(number), int(length), tag.decode(), offset)
            if offset is not None:
                body_end = max(body_end, offset + int(length))
        return parts, body_end

    def _append_journal(self, part: Part) -> None:
        descriptor = os.open(self._folder / _JOURNAL, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            whole = file.read().rfind(b"\n") + 1  # a killed writer may have left half a line
            file.seek(whole)
            file.truncate()
            file.write(part.line())

    def _write_stray(self, number: int, data: bytes) -> None:
        temporary = self._folder / "incoming"
        temporary.write_bytes(data)
        os.rename(temporary, self._stray(number))

    def _stray(self, number: int) -> Path:
        return self._folder / f"part-{number:05d}"

    def _place(self, part: Part) -> tuple[Path, int]:
        if part.offset is None:
            return self._stray(part.number), 0
        return self._folder / _BODY, part.offset

    def _verify(self, part: Part) -> None:
        digest = hashlib.sha256()
        path, offset = self._place(part)
        for piece in _pieces(path, offset, part.length):
            digest.update(piece)
        if digest.hexdigest() != part.tag:
            raise DataLoss(
                f"part {part.number} of upload {self.id} does not have the bytes it had",
                cause="the machine lost power before they were on disk",
                next_step="send the part again from the spool",
            )

    def _copy_together(self, parts: Sequence[Part], target: Path) -> None:
        with target.open("wb") as file:
            for part in parts:
                path, offset = self._place(part)
                copied = 0
                for piece in _pieces(path, offset, part.length):
                    file.write(piece)
                    copied += len(piece)
                if copied != part.length:
                    raise DataLoss(f"part {part.number} of upload {self.id} is not whole")


def _contiguous(parts: Mapping[int, Part]) -> int:
    """The last part up to which the body holds all of them."""
    number = 0
    while (part := parts.get(number + 1)) is not None and part.offset is not None:
        number += 1
    return number


def _lies_in_order(parts: Sequence[Part]) -> bool:
    """Whether the body's beginning is exactly these parts."""
    end = 0
    for part in parts:
        if part.offset != end:
            return False
        end += part.length
    return True


def _pieces(path: Path, offset: int, length: int) -> Iterator[bytes]:
    """`length` bytes from `offset` in pieces; fewer when the file ends or is not there."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        file.seek(offset)
        while length and (piece := file.read(min(COPY_BYTES, length))):
            length -= len(piece)
            yield piece


def _write_at(path: Path, offset: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            written = os.pwrite(descriptor, view, offset)
            view, offset = view[written:], offset + written
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes) -> None:
    """The whole file, on disk; its name is durable only once its folder is synced."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def fsync_file(path: Path) -> None:
    """Until the file's bytes are on disk; for a folder: its names."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _boot_id() -> str:
    """Which run of the machine this is; where that is unknown, a word that never matches."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return f"unknown-{os.urandom(8).hex()}"
