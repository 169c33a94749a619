"""What may be the key of an object, its metadata, an upload and a part: the same in every store.

Keys are made from our own ids only. These rules are the fence behind that: nothing that passes them
leaves the folder, collides with the store's own files (their names begin with a dot) or needs
quoting in a URL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vsp.errors import Invalid

KEY_CHARACTERS_MAX = 512
"""Ours have about 90; S3 allows 1,024."""

NAME_CHARACTERS_MAX = 200
"""One name between slashes; file systems allow 255, and the folder adds a few of its own."""

METADATA_MAX = 16
METADATA_CHARACTERS_MAX = 256
"""S3 allows 2 KiB in all."""

PART_NUMBER_MAX = 10_000
"""S3's limit; the folder keeps it, so that what works on one works on the other."""

PART_BYTES_MAX = 256 << 20
"""One part in memory; 10 s of a 50 Mbit/s stream are a quarter of it."""

READ_BYTES_MAX = 256 << 20
"""One read in memory: a fragment is far below, a whole segment of a camera still fits."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_META_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_UPLOAD = re.compile(r"[A-Za-z0-9._-]+")


def check_key(key: str) -> str:
    """`key` itself. Raises Invalid for anything but dotless-led names joined by single slashes."""
    names = key.split("/")
    if len(key) > KEY_CHARACTERS_MAX or not all(
        _NAME.fullmatch(name) and len(name) <= NAME_CHARACTERS_MAX for name in names
    ):
        raise Invalid(f"{key[:KEY_CHARACTERS_MAX]!r} is no key of an object")
    return key


def check_prefix(prefix: str) -> str:
    """`prefix` itself: the beginning of keys, possibly within a name, or empty."""
    *folders, beginning = prefix.split("/")
    names = [*folders, beginning] if beginning else folders
    if len(prefix) > KEY_CHARACTERS_MAX or not all(_NAME.fullmatch(name) for name in names):
        raise Invalid(f"{prefix[:KEY_CHARACTERS_MAX]!r} is no prefix of keys")
    return prefix


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """A copy. Names are lower case, as S3 folds them; values plain ASCII without outer blanks."""
    if len(metadata) > METADATA_MAX:
        raise Invalid(f"{len(metadata)} entries of metadata exceed {METADATA_MAX}")
    for name, value in metadata.items():
        plain = value.isascii() and value.isprintable() and value == value.strip()
        if not _META_NAME.fullmatch(name) or not plain:
            raise Invalid(f"metadata {name!r} is not plain ASCII")
        if len(name) + len(value) > METADATA_CHARACTERS_MAX:
            raise Invalid(f"metadata {name[:32]!r} is longer than {METADATA_CHARACTERS_MAX}")
    return dict(metadata)


def check_upload_id(upload_id: str) -> str:
    """`upload_id` itself, as some store gave it out."""
    if len(upload_id) > NAME_CHARACTERS_MAX or not _UPLOAD.fullmatch(upload_id):
        raise Invalid("that is no id of an upload")
    return upload_id


def check_part(number: int, size_bytes: int) -> None:
    """Raises Invalid for a part that no store would take."""
    if not 1 <= number <= PART_NUMBER_MAX:
        raise Invalid(f"part {number} is not within 1 to {PART_NUMBER_MAX}")
    if not 1 <= size_bytes <= PART_BYTES_MAX:
        raise Invalid(f"a part of {size_bytes} bytes is not within 1 to {PART_BYTES_MAX}")


def check_range(key: str, offset: int, length: int) -> None:
    """Raises Invalid for a read that makes no sense or does not fit into memory."""
    if offset < 0 or not 0 <= length <= READ_BYTES_MAX:
        raise Invalid(f"bytes {offset}+{length} of {key} are no range to read at once")
