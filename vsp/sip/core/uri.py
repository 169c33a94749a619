"""SIP URIs as GB/T 28181 gear writes them: `sip:<20 digits>@<domain or ip:port>`.

Syntax of RFC 3261 19.1 as far as signalling needs it. Nothing is judged beyond syntax: the host
part of a GB URI is often an all-digit domain (`3402000000`), which stricter parsers refuse; a peer
is identified by user part and source address, never by the host.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vsp.errors import Invalid

URI_LENGTH_MAX = 2048
"""Characters of one URI; a GB URI has about 60, and 2,048 is what proxies commonly accept."""

_SIP_URI = re.compile(
    r"(?P<scheme>sips?):"
    r"(?:(?P<user>[^@:\s<>\"]*)(?::(?P<password>[^@\s<>\"]*))?@)?"
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s@:;?<>\"\[\]/,]+)"
    r"(?::(?P<port>\d{1,5}))?"
    r"(?P<params>(?:;[^?\s<>\"]*)?)"
    r"(?:\?(?P<headers>[^\s<>\"]*))?",
    re.IGNORECASE,
)
_OTHER_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>[^\s<>\"]+)")


class Malformed(Invalid):
    """Bytes from the network that are not what they claim to be.

    status   the SIP status that says so to the sender (400, or 505 for another SIP version)
    partial  the request as far as it could be read, when it can be answered; else None
    """

    def __init__(self, text: str, *, status: int = 400, partial: object | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.partial = partial


@dataclass(frozen=True, slots=True)
class Uri:
    """One URI. `user` is as on the wire (no unescaping); `port` None where none is written.

    params are lower-cased names with their values ("" for flags). For schemes other than sip and
    sips everything after the colon is in `host`.
    """

    scheme: str
    user: str
    host: str
    port: int | None = None
    params: tuple[tuple[str, str], ...] = ()
    headers: str = ""
    password: str = ""

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Raises Malformed. Surrounding blanks and one pair of angle brackets are forgiven."""
        text = text.strip()
        if text.startswith("<") and text.endswith(">"):
            text = text[1:-1].strip()
        if len(text) > URI_LENGTH_MAX:
            raise Malformed(f"URI of {len(text)} characters")
        found = _SIP_URI.fullmatch(text)
        if found is None:
            return cls._parse_other(text)
        port = found["port"]
        if port is not None and int(port) > 65535:
            raise Malformed(f"port out of range in URI {text[:80]!r}")
        return cls(
            scheme=found["scheme"].lower(),
            user=found["user"] or "",
            host=found["host"],
            port=int(port) if port is not None else None,
            params=_params(found["params"]) if found["params"] else (),
            headers=found["headers"] or "",
            password=found["password"] or "",
        )

    @classmethod
    def _parse_other(cls, text: str) -> Uri:
        found = _OTHER_URI.fullmatch(text)
        if found is None or found["scheme"].lower() in {"sip", "sips"}:
            raise Malformed(f"not a URI: {text[:80]!r}")
        return cls(scheme=found["scheme"].lower(), user="", host=found["rest"])

    @classmethod
    def of(cls, user: str, host: str, port: int | None = None) -> Uri:
        """`sip:user@host[:port]`."""
        return cls(scheme="sip", user=user, host=host, port=port)

    def param(self, name: str) -> str | None:
        """Value of a parameter, "" for a flag, None when absent."""
        for key, value in self.params:
            if key == name:
                return value
        return None

    def __str__(self) -> str:
        password = f":{self.password}" if self.password else ""
        user = f"{self.user}{password}@" if self.user or password else ""
        port = f":{self.port}" if self.port is not None else ""
        params = "".join(f";{key}={value}" if value else f";{key}" for key, value in self.params)
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{self.host}{port}{params}{headers}"


def _params(text: str) -> tuple[tuple[str, str], ...]:
    """`;a=b;flag` as pairs; empty ones (`;;`) are dropped."""
    pairs = (part.partition("=") for part in text.split(";") if part)
    return tuple((key.strip().lower(), value.strip()) for key, _, value in pairs if key.strip())


__all__ = ["URI_LENGTH_MAX", "Malformed", "Uri"]
