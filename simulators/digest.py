"""The device's half of digest authentication (RFC 3261 22, RFC 7616), from hashlib alone.

  HA1 = H(user:realm:password)   HA2 = H(method:uri)
  response = H(HA1:nonce:HA2), or with qop H(HA1:nonce:nc:cnonce:qop:HA2)

H is MD5 when the challenge names none (GB/T 28181-2016 9.1 asks for RFC 3261 only), else MD5,
SHA-256, or SM3, which hashlib has from OpenSSL.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_PARAMETER = re.compile(r'([a-zA-Z]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
_HASHES = {"MD5": "md5", "SHA-256": "sha256", "SM3": "sm3"}


@dataclass(frozen=True, slots=True)
class Challenge:
    """A WWW-Authenticate header that we can answer. `qop` is "auth" or ""."""

    realm: str
    nonce: str
    algorithm: str
    named: bool
    qop: str
    opaque: str
    stale: bool


def parameters(header: str) -> Mapping[str, str]:
    """name -> value of a Digest header, names in lower case, quotes removed."""
    return {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else bare
        for name, quoted, bare in _PARAMETER.findall(header.partition(" ")[2])
    }


def choose(headers: Sequence[str]) -> Challenge | None:
    """The first challenge in a language that we speak (RFC 8760 2.4: the server's order counts)."""
    for header in headers:
        if not header.lower().startswith("digest "):
            continue
        fields = parameters(header)
        algorithm = fields.get("algorithm", "MD5").upper()
        offered = [q.strip() for q in fields.get("qop", "").split(",") if q.strip()]
        if algorithm not in _HASHES or (offered and "auth" not in offered):
            continue
        return Challenge(
            realm=fields.get("realm", ""),
            nonce=fields.get("nonce", ""),
            algorithm=algorithm,
            named="algorithm" in fields,
            qop="auth" if offered else "",
            opaque=fields.get("opaque", ""),
            stale=fields.get("stale", "").lower() == "true",
        )
    return None


def _hash(algorithm: str, *parts: str) -> str:
    return hashlib.new(_HASHES[algorithm], ":".join(parts).encode()).hexdigest()


def response(
    challenge: Challenge, method: str, uri: str, username: str, password: str, cnonce: str, nc: str
) -> str:
    """The `response` value."""
    ha1 = _hash(challenge.algorithm, username, challenge.realm, password)
    ha2 = _hash(challenge.algorithm, method, uri)
    if challenge.qop:
        return _hash(challenge.algorithm, ha1, challenge.nonce, nc, cnonce, challenge.qop, ha2)
    return _hash(challenge.algorithm, ha1, challenge.nonce, ha2)


def authorization(
    challenge: Challenge, method: str, uri: str, username: str, password: str, cnonce: str
) -> str:
    """The Authorization header for a first use of the nonce (nc=00000001)."""
    nc = "00000001"
    value = response(challenge, method, uri, username, password, cnonce, nc)
    text = (
        f'Digest username="{username}", realm="{challenge.realm}", nonce="{challenge.nonce}", '
        f'uri="{uri}", response="{value}"'
    )
    if challenge.named:
        text += f", algorithm={challenge.algorithm}"
    if challenge.opaque:
        text += f', opaque="{challenge.opaque}"'
    if challenge.qop:
        text += f', qop={challenge.qop}, nc={nc}, cnonce="{cnonce}"'
    return text


__all__ = ["Challenge", "authorization", "choose", "parameters", "response"]
