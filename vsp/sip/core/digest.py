"""HTTP digest for SIP (RFC 3261 22, RFC 7616, RFC 8760). Signatures; being written."""

from __future__ import annotations

from dataclasses import dataclass

from vsp.model.device import DigestAlgorithm


class Secret:
    """A device's password with its HA1 values cached. Never shows itself."""

    def __init__(self, password: str) -> None: ...


class NonceIssuer:
    def __init__(self, key: bytes, life_s: float) -> None: ...
    def issue(self, device_id: str, host: str, now: float) -> str: ...


@dataclass(frozen=True, slots=True)
class Accepted:
    username: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """Answer 401 with `header` as WWW-Authenticate."""

    header: str
    stale: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer 403. reason is for logs and the device's trace."""

    reason: str


class DigestServer:
    def __init__(self, realm: str, issuer: NonceIssuer, *, qop: bool = False) -> None: ...
    def check(
        self,
        header: str | None,
        method: str,
        device_id: str,
        expected_username: str,
        secret: Secret,
        host: str,
        now: float,
        algorithm: DigestAlgorithm = DigestAlgorithm.MD5,
    ) -> Accepted | Challenge | Refused: ...
