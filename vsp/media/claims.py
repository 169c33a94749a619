"""What a worker that cannot be asked has claimed: read from its spool and its journal, unchanged.

The worker may even run, and free chunks or acknowledge entries while we read. A segment goes from
the spool into the journal and from there into a row, so they are read in that order: whoever looks
at the rows last has missed nothing.
"""

from __future__ import annotations

from pathlib import Path

from vsp.disk import Disk, Entry, exists
from vsp.errors import Unavailable
from vsp.media.chunks import chunks_in
from vsp.media.journal import read_entries
from vsp.media.spool import scan

TRIES = 5
"""Chunks may go while they are read; each try begins with those that are there."""


class SpoolClaims:
    """The claims of one spool's folder; blocks. What has not changed is not read again."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        self._disk = disk
        self._folder = folder
        self._seen: list[Entry] = []
        self._keys: frozenset[str] = frozenset()

    def read(self) -> frozenset[str]:
        """Keys of all segments in it. Raises Unavailable when it cannot be read."""
        try:
            seen = self._look()
            if seen != self._seen:
                self._keys = self._read()
                self._seen = seen
        except OSError as error:
            raise Unavailable(f"the spool {self._folder} cannot be read: {error}") from error
        return self._keys

    def _look(self) -> list[Entry]:
        logs = self._folder / "log"
        chunks = self._disk.entries(logs) if exists(self._disk, logs) else ()
        return [*chunks, *(each for each in self._disk.entries(self._folder) if each.plain)]

    def _read(self) -> frozenset[str]:
        spooled = self._spooled()
        entries, _ = read_entries(self._disk, self._folder / "journal")
        return frozenset((*spooled, *(segment.key for segment in entries.values())))

    def _spooled(self) -> list[str]:
        logs = self._folder / "log"
        if not exists(self._disk, logs):
            return []
        for left in reversed(range(TRIES)):
            try:
                found = scan(self._disk, logs, chunks_in(self._disk, logs))
            except FileNotFoundError:
                if not left:
                    raise
            else:
                return [segment.head.key for segment in found]
        raise AssertionError("the last try returns or raises")


__all__ = ["SpoolClaims"]
