"""HTTP digest for SIP: the registrar's check, and the answer of a client (RFC 3261 22, RFC 8760).

GB/T 28181-2016 9.1 asks for "digest authentication" after RFC 3261, in practice MD5 without qop;
both forms are verified here. SHA-256 and SM3 are offered to devices set to them.

Against replay (a captured header must never be accepted, from any address, at any time):

* a nonce is made for one device and one address and lives `life_s`; it holds its own time and two
  keyed hashes, so nothing is stored when it is issued;
* each accepted nonce is remembered until it has expired: without qop it is used up, with qop `nc`
  must rise strictly;
* the table of used nonces is bounded. When it is full every nonce issued so far is declared
  expired, which costs each device one more round trip and never an acceptance.

What each refusal becomes: no credentials of ours, an expired or a used nonce -> Challenge (401).
A nonce, realm or username that is not ours, or a wrong password -> Refused (403).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass

from vsp.errors import Invalid, Unsupported
from vsp.model.device import DigestAlgorithm

USED_MAX = 200_000
"""Nonces remembered in one life: four times a storm of 50,000 devices within a minute."""

HEADER_LENGTH_MAX = 8_192
"""Characters of an Authorization header; the same as a header line may have."""

PARAMS_MAX = 64
"""Parameters of one header; digest defines thirteen."""

FUTURE_S = 5.0
"""A nonce from this far ahead was made before the timer was reset (restart); it has expired."""

_PARAM = re.compile(r'([\w-]{1,64})\s*=\s*(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^\s,"]+))', re.DOTALL)
_SCHEME = re.compile(r"\s*([\w-]+)(?:\s+|$)")
_NC = re.compile(r"[0-9A-Fa-f]{8}")
_NONCE = re.compile(r"([0-9a-f]{12})([0-9a-f]{4})([0-9a-f]{16})([0-9a-f]{16})")
_USED_UP = 1 << 32


@dataclass(frozen=True, slots=True)
class Accepted:
    """The device proved that it knows the password."""

    username: str


@dataclass(frozen=True, slots=True)
class Challenge:
    """Answer 401 with `header` as WWW-Authenticate. `reason` is for the device's trace."""

    header: str
    stale: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Answer 403. `reason` is for the device's trace; the answer itself does not say it."""

    reason: str


class Secret:
    """A device's password, with HA1 computed once per algorithm, user name and realm."""

    __slots__ = ("_ha1", "_password")

    def __init__(self, password: str) -> None:
        """Raises Invalid for an empty password: such a device could be anybody."""
        if not password:
            raise Invalid("a device password must not be empty")
        self._password = password
        self._ha1: tuple[DigestAlgorithm, str, str, str] | None = None

    def __repr__(self) -> str:
        return "Secret(...)"

    def ha1(self, algorithm: DigestAlgorithm, username: str, realm: str) -> str:
        kept = self._ha1
        if kept is not None and kept[:3] == (algorithm, username, realm):
            return kept[3]
        value = digest(algorithm, f"{username}:{realm}:{self._password}")
        self._ha1 = (algorithm, username, realm, value)
        return value


class NonceIssuer:
    """Makes and judges nonces: milliseconds, a counter, hash of both, hash over device and address.

    The first hash tells our nonces from foreign ones, the second ties it to device and address.
    """

    def __init__(self, key: bytes, life_s: float) -> None:
        """key: 16 to 64 secret bytes; with the same key nonces outlive a restart of the process."""
        if not 16 <= len(key) <= 64:
            raise Invalid(f"nonce key of {len(key)} bytes; 16 to 64 are wanted")
        self.life_s = life_s
        self._key = key
        self._count = 0

    def issue(self, device_id: str, host: str, now: float) -> str:
        self._count = (self._count + 1) & 0xFFFF
        stem = f"{int(now * 1000) & 0xFFFFFFFFFFFF:012x}{self._count:04x}"
        return stem + self._mac(stem) + self._mac(f"{stem}|{device_id}|{host}")

    def issued_s(self, nonce: str) -> float | None:
        """When a nonce of ours was issued, None for a foreign one."""
        found = _NONCE.fullmatch(nonce)
        if found is None or not _same(self._mac(found[1] + found[2]), found[3]):
            return None
        return int(found[1], 16) / 1000

    def belongs(self, nonce: str, device_id: str, host: str) -> bool:
        """Whether a nonce of ours was issued for this device at this address."""
        return _same(self._mac(f"{nonce[:16]}|{device_id}|{host}"), nonce[32:])

    def _mac(self, text: str) -> str:
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=8).hexdigest()


class UsedNonces:
    """What has been accepted: nonce -> highest nc, in two generations of one nonce life each."""

    def __init__(self, life_s: float) -> None:
        self._life_s = life_s + FUTURE_S
        self._recent: dict[str, int] = {}
        self._older: dict[str, int] = {}
        self._rotated_s = 0.0
        self.not_before_s = float("-inf")
        """Nonces issued up to this moment are expired: they may have been forgotten."""

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def use(self, nonce: str, count: int, now: float) -> bool:
        """Take (nonce, count); False when it is not above what was taken before."""
        last = self._recent.get(nonce) or self._older.get(nonce) or 0
        if count <= last:
            return False
        if now - self._rotated_s >= self._life_s:
            self._older = self._recent if now - self._rotated_s < 2 * self._life_s else {}
            self._recent, self._rotated_s = {}, now
        elif len(self._recent) >= USED_MAX:
            self._recent, self._older, self.not_before_s = {}, {}, now
            self._rotated_s = now
        self._recent[nonce] = count
        return True


class DigestServer:
    """The check of REGISTER (and of whatever else carries Authorization)."""

    def __init__(self, realm: str, issuer: NonceIssuer, *, qop: bool = False) -> None:
        """qop: write qop="auth" into challenges; without it compatibility is widest."""
        self.realm = realm
        self._issuer = issuer
        self._qop = qop
        self._used = UsedNonces(issuer.life_s)

    def challenge(
        self,
        device_id: str,
        host: str,
        now: float,
        algorithm: DigestAlgorithm = DigestAlgorithm.MD5,
        *,
        stale: bool = False,
        reason: str = "no credentials",
    ) -> Challenge:
        """One challenge with a fresh nonce, in the form of GB/T 28181-2016 annex J."""
        nonce = self._issuer.issue(device_id, host, now)
        header = f'Digest realm="{self.realm}", nonce="{nonce}", algorithm={algorithm.value}'
        header += ', qop="auth"' if self._qop else ""
        header += ", stale=true" if stale else ""
        return Challenge(header, stale, reason)

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
    ) -> Accepted | Challenge | Refused:
        """Judge an Authorization header.

        device_id            user of From; the nonce is tied to it
        expected_username    what the device must sign with: its id unless set otherwise
        host                 source address without port: NAT may give the next packet another one
        """
        if header is None:
            return self.challenge(device_id, host, now, algorithm)
        scheme, params = parse_auth(header)
        if scheme != "digest":
            # `Capability` of GB/T 28181-2011 and GB 35114 must get a Digest challenge
            return self.challenge(device_id, host, now, algorithm, reason=f"scheme {scheme!r}")
        issued_s = self._issuer.issued_s(params.get("nonce", ""))
        if issued_s is None:
            return Refused("nonce is not ours")
        fault = self._fault(params, method, expected_username, secret, algorithm)
        if fault:
            return Refused(fault)
        stale = self._staleness(params, issued_s, device_id, host, now)
        if stale:
            return self.challenge(device_id, host, now, algorithm, stale=True, reason=stale)
        return Accepted(expected_username)

    def _fault(
        self,
        params: dict[str, str],
        method: str,
        username: str,
        secret: Secret,
        algorithm: DigestAlgorithm,
    ) -> str:
        """What makes the credentials unacceptable for ever, "" when nothing does."""
        if not params.get("uri") or not params.get("response"):
            return "no uri or no response in Authorization"
        if params.get("username") != username:
            return "username is not the one of this device"
        if params.get("realm") != self.realm:
            return "realm is not ours"
        if params.get("algorithm", algorithm.value).upper() != algorithm.value:
            return f"algorithm is not {algorithm.value}, which was offered"
        qop = params.get("qop", "")
        if qop and (qop != "auth" or not _NC.fullmatch(params.get("nc", ""))):
            return "qop without a usable nc"
        expected = response(algorithm, secret.ha1(algorithm, username, self.realm), method, params)
        return "" if _same(expected, params["response"].lower()) else "wrong password"

    def _staleness(
        self, params: dict[str, str], issued_s: float, device_id: str, host: str, now: float
    ) -> str:
        """The credentials are right; why the nonce is not good for them, "" when it is."""
        nonce = params["nonce"]
        fresh = -FUTURE_S <= now - issued_s <= self._issuer.life_s
        if not fresh or issued_s <= self._used.not_before_s:
            return "nonce expired"
        if not self._issuer.belongs(nonce, device_id, host):
            return "nonce of another address or device"
        # without qop there is no nc, so the nonce is good once, whatever nc says
        count = int(params["nc"], 16) if params.get("qop") else _USED_UP
        return "" if self._used.use(nonce, count, now) else "nonce used before"


def parse_auth(header: str) -> tuple[str, dict[str, str]]:
    """Scheme in lower case and the parameters, names in lower case, quotes taken off.

    Tolerant: missing commas, blanks around `=`, quoted nc or qop. The first of two equal names
    counts. What cannot be read is left out; nothing is raised.
    """
    if len(header) > HEADER_LENGTH_MAX:
        return "", {}
    found = _SCHEME.match(header)
    if found is None:
        return "", {}
    params: dict[str, str] = {}
    for item in _PARAM.finditer(header, found.end()):
        if len(params) >= PARAMS_MAX:
            break
        name, quoted, plain = item.groups()
        value = plain if quoted is None else quoted
        if "\\" in value:
            value = re.sub(r"\\(.)", r"\1", value)
        params.setdefault(name.lower(), value.strip())
    return found[1].lower(), params


def response(algorithm: DigestAlgorithm, ha1: str, method: str, params: dict[str, str]) -> str:
    """The value of `response` for these parameters (RFC 7616 3.4.1).

    `uri` is taken as it stands in the header: devices sign `sip:id@domain` or `sip:host:port`,
    not always the Request-URI. `nc` is hashed as sent.
    """
    ha2 = digest(algorithm, f"{method}:{params['uri']}")
    nonce = params["nonce"]
    if params.get("qop"):
        nc, cnonce = params.get("nc", ""), params.get("cnonce", "")
        return digest(algorithm, f"{ha1}:{nonce}:{nc}:{cnonce}:{params['qop']}:{ha2}")
    return digest(algorithm, f"{ha1}:{nonce}:{ha2}")


def digest(algorithm: DigestAlgorithm, text: str) -> str:
    """Lower-case hex. Raises Unsupported when this build of OpenSSL has no SM3."""
    data = text.encode("utf-8", "surrogateescape")
    if algorithm is DigestAlgorithm.MD5:
        return hashlib.md5(data, usedforsecurity=False).hexdigest()
    if algorithm is DigestAlgorithm.SHA256:
        return hashlib.sha256(data).hexdigest()
    try:
        return hashlib.new("sm3", data).hexdigest()
    except ValueError as error:
        raise Unsupported("this Python has no SM3 (OpenSSL built without it)") from error


def answer(
    challenge: str,
    method: str,
    uri: str,
    username: str,
    password: str,
    *,
    cnonce: str = "",
    nc: int = 1,
) -> str:
    """The Authorization header for a WWW-Authenticate one: this platform as a client.

    cnonce   random, needed where the challenge has qop
    raises   Unsupported for another scheme or algorithm, Invalid for a challenge without nonce
    """
    scheme, offered = parse_auth(challenge)
    if scheme != "digest":
        raise Unsupported(f"challenge of scheme {scheme!r}; only Digest is known")
    if not offered.get("nonce") or "realm" not in offered:
        raise Invalid("challenge without nonce or realm")
    name = offered.get("algorithm", "MD5").upper()
    if name not in {item.value for item in DigestAlgorithm}:
        raise Unsupported(f"challenge of algorithm {name}")
    algorithm = DigestAlgorithm(name)
    params = {"username": username, "realm": offered["realm"], "nonce": offered["nonce"]}
    params["uri"] = uri
    if "auth" in [item.strip() for item in offered.get("qop", "").split(",")]:
        params |= {"qop": "auth", "nc": f"{nc:08x}", "cnonce": cnonce}
    ha1 = Secret(password).ha1(algorithm, username, offered["realm"])
    params["response"] = response(algorithm, ha1, method, params)
    bare = {"qop", "nc"}
    fields = [
        f"{key}={value}" if key in bare else f'{key}="{value}"' for key, value in params.items()
    ]
    fields.append(f"algorithm={algorithm.value}")
    if "opaque" in offered:
        fields.append(f'opaque="{offered["opaque"]}"')
    return "Digest " + ", ".join(fields)


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode("utf-8", "surrogateescape"))


__all__ = [
    "Accepted",
    "Challenge",
    "DigestServer",
    "NonceIssuer",
    "Refused",
    "Secret",
    "answer",
    "digest",
    "parse_auth",
    "response",
]
