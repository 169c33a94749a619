"""One upload under way in a folder: parts that arrive are laid down so that completing is a rename.

    head.json   key, metadata, and the boot of the machine that began it
    body        parts 1, 2, 3, ... as they arrived in order, one after the other
    part-NNNNN  a part that came out of order, or again with other bytes
    journal     one line a part: number, length, SHA-256, offset in body or -; the last line counts
    ready       the whole object, on disk, waiting for its name

Parts normally come in order, so the bytes are written once. A line enters the journal after its
bytes, so that a killed writer leaves at most bytes nobody refers to. A power cut is another matter:
lines may survive without their bytes, and bytes without their lines. Every part is therefore hashed
again before completing, but only when the machine has been booted since the upload began.

Blocking; called from threads. One upload is used by one thread at a time (folder.py locks).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsp.disk import COPY_BYTES, Disk, exists, read_whole, remove_tree, write_durably
from vsp.errors import Conflict, DataLoss, Invalid, NotFound
from vsp.faults import Point, reach
from vsp.ports import PartInfo

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

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._folder = folder
        self.id = folder.name
        try:
            head = json.loads(read_whole(disk, folder / _HEAD))
            self.key: str = head["key"]
            self.metadata: dict[str, str] = head["metadata"]
            self._boot: str = head["boot"]
        except FileNotFoundError as error:
            raise NotFound(f"there is no upload {folder.name}") from error
        except (ValueError, KeyError) as error:
            raise DataLoss(f"upload {folder.name} has a damaged head") from error

    @classmethod
    def begin(cls, disk: Disk, folder: Path, key: str, metadata: Mapping[str, str]) -> Upload:
        """A new upload in a folder that does not exist yet."""
        disk.make_folder(folder)
        reach(Point.FOLDER_UPLOAD_MADE)
        head = {"key": key, "metadata": dict(metadata), "boot": disk.boot}
        write_durably(disk, folder / _HEAD, json.dumps(head).encode())
        return cls(disk, folder)

    @property
    def begun_us(self) -> int:
        """Wall time at which its head was written."""
        return self._disk.look(self._folder / _HEAD).modified_us

    def put(self, number: int, data: bytes) -> str:
        """Lay down one part; the same again is nothing, other bytes replace it."""
        if self.is_ready:
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
            self._write(_BODY, part.offset, data)
        reach(Point.FOLDER_PART_LAID)
        self._append_journal(part)
        reach(Point.FOLDER_PART_NOTED)
        return tag

    def put_whole(self, data: bytes) -> None:
        """Make `data` the ready object, without parts."""
        write_durably(self._disk, self.ready, data)

    def parts(self) -> Sequence[PartInfo]:
        """What has arrived and is still there, by number, up to the first that is missing."""
        known, _ = self._read_journal()
        found: list[PartInfo] = []
        while (part := known.get(len(found) + 1)) is not None and self._is_whole(part):
            found.append(PartInfo(part.number, part.length, part.tag))
        return found

    @property
    def ready(self) -> Path:
        """The whole object; exists once `assemble` has returned."""
        return self._folder / _READY

    @property
    def is_ready(self) -> bool:
        return exists(self._disk, self.ready)

    def assemble(self, tags: Sequence[str]) -> Path:
        """The whole object of exactly these parts, on disk. Repeatable.

        Raises Invalid when a part is missing or has another tag, DataLoss when its bytes are gone.
        """
        if self.is_ready:
            return self.ready
        parts = self._wanted(tags)
        if self._boot != self._disk.boot:
            for part in parts:
                self._verify(part)
        if _lies_in_order(parts):
            whole = self._folder / _BODY
            self._cut_body(whole, sum(part.length for part in parts))
        else:
            whole = self._folder / "whole"
            self._copy_together(parts, whole)
        reach(Point.FOLDER_ASSEMBLED)
        self._disk.rename(whole, self.ready)
        return self.ready

    def new_file(self, name: str, data: bytes) -> Path:
        """A durable file beside the parts, to be renamed away."""
        path = self._folder / name
        write_durably(self._disk, path, data)
        return path

    def discard(self) -> None:
        """Remove the upload; what was published has left the folder already."""
        remove_tree(self._disk, self._folder)

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
        text = read_whole(self._disk, path) if exists(self._disk, path) else b""
        for line in text.splitlines(keepends=True):
            part = _part_of(line)
            if part is None:
                break
            parts[part.number] = part
            if part.offset is not None:
                body_end = max(body_end, part.offset + part.length)
        return parts, body_end

    def _append_journal(self, part: Part) -> None:
        file = self._disk.open(self._folder / _JOURNAL, make=True)
        try:
            # A killed writer may have left half a line.
            whole = file.read(0, file.size).rfind(b"\n") + 1
            file.truncate(whole)
            file.write(whole, part.line())
        finally:
            file.close()

    def _write(self, name: str, offset: int, data: bytes) -> None:
        file = self._disk.open(self._folder / name, make=True)
        try:
            file.write(offset, data)
        finally:
            file.close()

    def _write_stray(self, number: int, data: bytes) -> None:
        self._write("incoming", 0, data)
        self._disk.rename(self._folder / "incoming", self._stray(number))

    def _stray(self, number: int) -> Path:
        return self._folder / f"part-{number:05d}"

    def _place(self, part: Part) -> tuple[Path, int]:
        if part.offset is None:
            return self._stray(part.number), 0
        return self._folder / _BODY, part.offset

    def _is_whole(self, part: Part) -> bool:
        digest = hashlib.sha256()
        for piece in self._pieces(part):
            digest.update(piece)
        return digest.hexdigest() == part.tag

    def _verify(self, part: Part) -> None:
        if not self._is_whole(part):
            raise DataLoss(
                f"part {part.number} of upload {self.id} does not have the bytes it had",
                cause="the machine lost power before they were on disk",
                next_step="send the part again from the spool",
            )

    def _cut_body(self, body: Path, size: int) -> None:
        """The body to exactly `size`, on disk."""
        file = self._disk.open(body)
        try:
            if file.size < size:
                raise DataLoss(f"upload {self.id} holds fewer bytes than its journal says")
            file.truncate(size)
            file.sync()
        except OSError:
            # What was not synced may be given up, and a second sync that succeeds would not say so.
            self.discard()
            raise
        finally:
            file.close()

    def _copy_together(self, parts: Sequence[Part], target: Path) -> None:
        file = self._disk.open(target, make=True)
        try:
            file.truncate(0)
            copied = 0
            for part in parts:
                begun = copied
                for piece in self._pieces(part):
                    file.write(copied, piece)
                    copied += len(piece)
                if copied - begun != part.length:
                    raise DataLoss(f"part {part.number} of upload {self.id} is not whole")
            file.sync()
        finally:
            file.close()

    def _pieces(self, part: Part) -> Iterator[bytes]:
        """Its bytes in pieces; fewer when the file ends or is not there."""
        path, offset = self._place(part)
        try:
            file = self._disk.open(path)
        except FileNotFoundError:
            return
        try:
            left = part.length
            while left and (piece := file.read(offset, min(COPY_BYTES, left))):
                offset, left = offset + len(piece), left - len(piece)
                yield piece
        finally:
            file.close()


def _part_of(line: bytes) -> Part | None:
    """A line of the journal; None for one that is torn, or that a power cut left as noise."""
    fields = line.split()
    if not line.endswith(b"\n") or len(fields) != 4:
        return None
    number, length, tag, place = fields
    if not (number.isdigit() and length.isdigit() and (place == b"-" or place.isdigit())):
        return None
    offset = None if place == b"-" else int(place)
    return Part(int(number), int(length), tag.decode("ascii", "replace"), offset)


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
