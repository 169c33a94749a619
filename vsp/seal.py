"""Sealing device passwords at rest: AES-256-GCM under the installation's master key.

A digest password must be known in clear to check a REGISTER (RFC 3261 22), so it cannot be hashed.
It is sealed instead, with the device's id as associated data: a sealed password moved to another
row does not open. The key is a file of the data folder, 0600, made on first start and never again;
whoever takes the database alone has no password. Only the node reads it, media workers never.

Sealed form: version byte 1, nonce of 12 bytes, ciphertext, tag of 16 bytes.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vsp.errors import DataLoss, Denied, NotFound, Unavailable

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
VERSION = b"\x01"


class Sealer:
    """Seals and opens short secrets under one key."""

    def __init__(self, key: bytes) -> None:
        assert len(key) == KEY_BYTES
        self._aead = AESGCM(key)

    def seal(self, secret: str, owner: str) -> bytes:
        """`secret` sealed for `owner` (the id of the row it belongs to)."""
        nonce = os.urandom(NONCE_BYTES)
        return VERSION + nonce + self._aead.encrypt(nonce, secret.encode(), owner.encode())

    def open(self, sealed: bytes, owner: str) -> str:
        """The secret. Raises DataLoss when it was sealed by another key, for another owner."""
        if len(sealed) < 1 + NONCE_BYTES + TAG_BYTES or sealed[:1] != VERSION:
            raise DataLoss(f"sealed password of {owner} has no known form")
        nonce, body = sealed[1 : 1 + NONCE_BYTES], sealed[1 + NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, body, owner.encode()).decode()
        except InvalidTag as error:
            raise DataLoss(
                f"sealed password of {owner} does not open",
                cause="it was sealed under another master.key, or altered",
                next_step="put back the keys/master.key that belongs to this database",
            ) from error


def load_sealer(path: Path, *, make: bool) -> Sealer:
    """The sealer of a key file; raises as `load_key` does."""
    return Sealer(load_key(path, make=make))


def load_key(path: Path, *, make: bool) -> bytes:
    """The 32 bytes of a key file. With `make`, a missing file is made (mode 0600, durable).

    Raises NotFound when there is none, Denied when others may read it, DataLoss when it is damaged.
    """
    try:
        if make and not path.exists():
            _make_key(path)
        return _read_key(path)
    except FileNotFoundError as error:
        raise NotFound(
            f"key {path} is gone",
            cause="what the database holds sealed was sealed under it",
            next_step="put the file back from a backup; without it passwords must be set anew",
        ) from error
    except OSError as error:
        raise Unavailable(f"key {path} cannot be read: {error.strerror}") from error


def _read_key(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            raise Denied(f"key {path} can be read by others", next_step=f"run `chmod 600 {path}`")
        key = file.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise DataLoss(f"key {path} is not {KEY_BYTES} bytes long")
    return key


def _make_key(path: Path) -> None:
    """A new key that is on disk, whole, before it has its name; a second maker loses quietly."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        _fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
