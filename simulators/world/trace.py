"""What a world has been through, as one hash: the same seed gives the same, or something in it
depends on more than its inputs (Python's hash seed is such a thing: run with PYTHONHASHSEED=0).
"""

from __future__ import annotations

import hashlib
import zlib


class Trace:
    """Everything that arrived, was stored, failed or died, in order."""

    def __init__(self) -> None:
        self.events = 0
        self._hash = hashlib.blake2b(digest_size=16)

    @property
    def hash(self) -> str:
        return self._hash.hexdigest()

    def note(self, now: float, data: bytes, *about: object) -> None:
        """Bytes that went somewhere."""
        self.say(now, zlib.crc32(data), len(data), *about)

    def say(self, now: float, *about: object) -> None:
        """Something that happened."""
        self.events += 1
        self._hash.update(f"{now!r} {about}\n".encode())


__all__ = ["Trace"]
