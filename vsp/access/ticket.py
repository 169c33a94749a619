"""Media tickets: a signed right, a minute long, to open one view of one channel.

The platform signs with a private Ed25519 key that only it reads; media workers hold the public half
and can verify but never mint. A ticket is bound to view, channel, kind and user, so that it opens
nothing else, and it says nothing secret: it is signed, not sealed.

Text form: base64url without padding of `payload || signature(64)`, where payload is a JSON list
`[view, channel, kind, user, expires_us]` and the signature covers a fixed prefix and the payload
(the prefix keeps a signature made for something else from ever being a ticket). Only the canonical
spelling is taken: a text that decodes to the same bytes but is written differently is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from vsp.access.keyfile import write_whole
from vsp.errors import Denied, Invalid, Unavailable
from vsp.model.ids import ChannelId, UserId, UtcMicros, ViewId
from vsp.model.people import Ticket

PRIVATE_NAME = "ticket.key"
PUBLIC_NAME = "ticket.pub"

TEXT_LENGTH_MAX = 800
"""Characters of a ticket. Ours have about 260; a longer one is refused before it is decoded."""

_PREFIX = b"vsp.ticket.v1\x00"
_SIGNATURE_BYTES = 64


class TicketSigner:
    """Mints tickets. Lives in the node only."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def sign(self, ticket: Ticket) -> str:
        payload = json.dumps(
            [
                ticket.view_id,
                ticket.channel_id,
                ticket.kind,
                ticket.user_id,
                ticket.expires_at_us,
            ],
            separators=(",", ":"),
            ensure_ascii=True,
        ).encode("ascii")
        return _encode(payload + self._key.sign(_PREFIX + payload))

    def verifier(self) -> TicketVerifier:
        return TicketVerifier(self._key.public_key())


class TicketVerifier:
    """Judges tickets. Lives in every media worker; holds no secret."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key

    def verify(self, text: str, now_us: UtcMicros) -> Ticket:
        """The ticket, if it is ours, unaltered and not expired. Raises Denied otherwise.

        The caller still compares view, channel and kind with what is being opened.
        """
        signed = _decode(text)
        payload, signature = signed[:-_SIGNATURE_BYTES], signed[-_SIGNATURE_BYTES:]
        try:
            self._key.verify(signature, _PREFIX + payload)
        except InvalidSignature as error:
            raise Denied("the media ticket is not one of ours, or was altered") from error
        ticket = _parse(payload)
        if now_us >= ticket.expires_at_us:
            raise Denied(
                "the media ticket has expired",
                cause=f"it ended {(now_us - ticket.expires_at_us) // 1_000_000} s ago",
                next_step="open the view again",
            )
        return ticket


def load_signer(keys_dir: Path) -> TicketSigner:
    """The private half; on the first start both halves are made. Idempotent.

    The private half is written with mode 0600 and only ever moved into place whole; the public half
    is written beside it whenever it is missing or differs.
    """
    keys_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    private = keys_dir / PRIVATE_NAME
    if not private.exists():
        write_whole(private, _private_pem(Ed25519PrivateKey.generate()), 0o600)
    key = _load_private(private)
    public, pem = keys_dir / PUBLIC_NAME, _public_pem(key.public_key())
    if not public.exists() or public.read_bytes() != pem:
        write_whole(public, pem, 0o644)
    return TicketSigner(key)


def load_verifier(keys_dir: Path) -> TicketVerifier:
    """The public half, for a worker. Raises Unavailable while the node has not made it yet."""
    path = keys_dir / PUBLIC_NAME
    try:
        key = serialization.load_pem_public_key(path.read_bytes())
    except FileNotFoundError as error:
        raise Unavailable(f"{path} is not there yet", next_step="start the node first") from error
    except ValueError as error:
        raise Invalid(f"{path} is not a public key: {error}") from error
    if not isinstance(key, Ed25519PublicKey):
        raise Invalid(f"{path} is not an Ed25519 public key")
    return TicketVerifier(key)


def _load_private(path: Path) -> Ed25519PrivateKey:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise Invalid(
            f"{path} can be read by others",
            cause="whoever reads it can mint rights to every stream",
            next_step=f"chmod 600 {path}, or remove both ticket keys and start again",
        )
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise Invalid(f"{path} is not a private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Invalid(f"{path} is not an Ed25519 private key")
    return key


def _private_pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _public_pem(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    if not _SIGNATURE_BYTES < len(text) <= TEXT_LENGTH_MAX or not text.isascii():
        raise Denied("the media ticket is malformed")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise Denied("the media ticket is malformed") from error
    if _encode(data) != text or len(data) <= _SIGNATURE_BYTES:
        raise Denied("the media ticket is malformed")
    return data


def _parse(payload: bytes) -> Ticket:
    """The signed payload; it is ours, so anything unexpected is a ticket of another version."""
    try:
        view, channel, kind, user, expires_us = json.loads(payload)
    except (ValueError, TypeError) as error:
        raise Denied("the media ticket is of another version") from error
    texts = (view, channel, kind, user)
    if not all(isinstance(text, str) for text in texts) or not isinstance(expires_us, int):
        raise Denied("the media ticket is of another version")
    return Ticket(ViewId(view), ChannelId(channel), kind, UserId(user), UtcMicros(expires_us))
