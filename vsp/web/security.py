"""The rules of the edge: cookie, CSRF, headers, where a request comes from, how often it may try.

Each is a small function over a request; `app` applies them. None of them decides what a user may
do: that is `access.policy`.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from aiohttp import web

from vsp.config import Config
from vsp.errors import Denied, Exhausted
from vsp.ports import Clock

COOKIE = "__Host-vsp"
"""The prefix makes browsers insist on Secure, Path=/ and no Domain (RFC 6265bis 4.1.3.2)."""

CSRF_HEADER = "X-Requested-With"
CSRF_VALUE = "vsp"
"""A header that a form or a foreign page cannot send without a CORS preflight, which we refuse."""

SAFE_METHODS = frozenset({"GET", "HEAD"})

TOKEN_LENGTH_MAX = 256

FAILURES_MAX = 10
FAILURE_WINDOW_S = 60.0
"""Failed sign-ins of one address in a minute before it has to wait."""

ADDRESSES_MAX = 10_000
"""Addresses remembered; the oldest is forgotten first, which can only help an attacker who owns
ten thousand others."""


# ---- session --------------------------------------------------------------------------------


def token_of(request: web.Request) -> tuple[str, bool] | None:
    """(token, came by cookie). A bearer token wins over a cookie."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()[:TOKEN_LENGTH_MAX], False
    cookie = request.cookies.get(COOKIE)
    return (cookie[:TOKEN_LENGTH_MAX], True) if cookie else None


def set_session_cookie(response: web.StreamResponse, token: str, life_s: int) -> None:
    response.set_cookie(
        COOKIE, token, max_age=life_s, path="/", secure=True, httponly=True, samesite="Strict"
    )


def drop_session_cookie(response: web.StreamResponse) -> None:
    response.set_cookie(
        COOKIE, "", max_age=0, path="/", secure=True, httponly=True, samesite="Strict"
    )


def check_cookie_request(request: web.Request, *, upgrade: bool, behind_proxy: bool) -> None:
    """CSRF: a cookie alone must not change anything, nor open a socket for a foreign page.

    Changes need the header; whatever carries an Origin must carry ours. A WebSocket handshake can
    carry no header of ours, so there the Origin alone decides (and SameSite=Strict before it).
    """
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc not in _own_hosts(request, behind_proxy):
        raise Denied("this request comes from another site", cause=f"Origin {origin[:100]}")
    changes = request.method not in SAFE_METHODS
    if changes and request.headers.get(CSRF_HEADER) != CSRF_VALUE:
        raise Denied(
            "a cookie request that changes something lacks its header",
            next_step=f"send {CSRF_HEADER}: {CSRF_VALUE}, or use the bearer token",
        )
    if upgrade and origin is None:
        raise Denied("a socket opened with a cookie must name its Origin")


def _own_hosts(request: web.Request, behind_proxy: bool) -> set[str]:
    hosts = {request.host}
    if behind_proxy and "X-Forwarded-Host" in request.headers:
        hosts.add(request.headers["X-Forwarded-Host"].split(",")[-1].strip())
    return hosts


def client_address(request: web.Request, behind_proxy: bool) -> str:
    """Where the request comes from. Only a declared proxy is believed, and only its own entry."""
    if behind_proxy:
        forwarded = request.headers.get("X-Forwarded-For", "").split(",")[-1].strip()
        try:
            return str(ipaddress.ip_address(forwarded))
        except ValueError:
            pass  # the proxy added none: its own address is all that is known
    return request.remote or ""


class AddressLimiter:
    """Failed sign-ins per address: FAILURES_MAX, refilled evenly over FAILURE_WINDOW_S.

    An IPv6 network of 64 bits counts as one address, because one host owns all of it. Successes
    cost nothing, so a program that signs in for every call is not punished.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> None:
        """Spend one try. Raises Exhausted when there is none left."""
        key = _network(address)
        tokens = self._tokens(key)
        if tokens < 1.0:
            raise Exhausted(
                "too many failed sign-ins from this address",
                next_step=f"wait {FAILURE_WINDOW_S / FAILURES_MAX:.0f} s",
            )
        self._put(key, tokens - 1.0)

    def give_back(self, address: str) -> None:
        """The try succeeded."""
        key = _network(address)
        self._put(key, min(float(FAILURES_MAX), self._tokens(key) + 1.0))

    def _tokens(self, key: str) -> float:
        tokens, at = self._buckets.get(key, (float(FAILURES_MAX), self._clock.monotonic()))
        refill = (self._clock.monotonic() - at) * FAILURES_MAX / FAILURE_WINDOW_S
        return min(float(FAILURES_MAX), tokens + refill)

    def _put(self, key: str, tokens: float) -> None:
        self._buckets[key] = (tokens, self._clock.monotonic())
        self._buckets.move_to_end(key)
        while len(self._buckets) > ADDRESSES_MAX:
            self._buckets.popitem(last=False)


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


# ---- headers --------------------------------------------------------------------------------

_FIXED_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), geolocation=(), payment=(), usb=(), microphone=(self)",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "vsp",
}

HSTS = "max-age=31536000"


def security_headers(media_origins: Sequence[str], *, tls: bool) -> dict[str, str]:
    """Headers of every answer. `media_origins` are the workers' `ws://` or `wss://` origins."""
    headers = dict(_FIXED_HEADERS)
    headers["Content-Security-Policy"] = content_security_policy(media_origins)
    if tls:
        headers["Strict-Transport-Security"] = HSTS
    return headers


def media_origins(config: Config) -> list[str]:
    """Where the workers' viewer ports are, as CSP sources.

    Behind a proxy they are ours. A wildcard or IPv6 host (CSP has no syntax for those) is any host
    on that port; ports that the system picks are any port on that host.
    """
    if config.web.behind_proxy:
        return []
    media = config.media
    host = media.http_advertised_host or media.http_host
    host = "*" if host in {"0.0.0.0", "::", ""} or ":" in host else host
    scheme = "wss" if config.tls_on else "ws"
    if media.http_port_first == 0:
        return [f"{scheme}://{host}:*"]
    ports = range(media.http_port_first, media.http_port_first + config.worker_count)
    return [f"{scheme}://{host}:{port}" for port in ports]


def content_security_policy(media_origins: Sequence[str]) -> str:
    """What the console may load. Scripts only from here; media only as blobs made by its player.

    style-src allows inline styles: Element Plus sets positions of its popups that way.
    """
    return "; ".join(
        (
            "default-src 'self'",
            " ".join(("connect-src 'self'", *media_origins)),
            "media-src 'self' blob:",
            "img-src 'self' blob:",
            "worker-src 'self' blob:",
            "style-src 'self' 'unsafe-inline'",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )
