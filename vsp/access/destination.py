"""Where media may go: to the peer that asked for it or offered it, and nowhere else. Pure.

An SDP says what its writer likes. Whoever connects wherever an answer points lets every device look
for open ports in our network, with our address (SSRF). So what we send to, or connect to, is the
peer's own signalling address or a network that was listed for media, by number and never by name.

What we *receive* is another question: packets are taken from the negotiated address only
(media/ingest.py), and cost nobody anything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORT_MIN = 1024
"""Below it live the services of an operating system, and no device's media."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What this platform is and trusts.

    networks  of media servers that stand apart from their devices
    own       (address, port) of our listeners, of the database, of the object store
    """

    networks: Collection[Network] = ()
    own: Collection[tuple[str, int]] = ()


def refusal(host: str, port: int, peer: str, around: Surroundings) -> str:
    """Why media may not go to `host`:`port` on the word of `peer`; "" when it may.

    peer  the address that signalling really comes from
    """
    target, asker = _address(host), _address(peer)
    if target is None or asker is None:
        return f"{host} is no address"
    if not PORT_MIN <= port <= 65_535:
        return f"port {port} is none for media"
    if (
        target.is_unspecified
        or target.is_multicast
        or target.is_link_local
        or _is_broadcast(target)
    ):
        return f"{target} is not one host"
    if target.is_loopback and not asker.is_loopback:
        return f"{target} is this computer, and the device is at {asker}"
    if (str(target), port) in around.own:
        return f"{target}:{port} is a service of this platform"
    if target != asker and not any(target in network for network in around.networks):
        return f"{target} is neither the device's own address ({asker}) nor in a media network"
    return ""


def _address(text: str) -> Address | None:
    """A number, an IPv4 address in IPv6 clothes as what it is; None for a name."""
    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _is_broadcast(address: Address) -> bool:
    return address.version == 4 and int(address) == 0xFFFFFFFF


__all__ = ["PORT_MIN", "Surroundings", "refusal"]
