"""Keepalive: `Notify/Keepalive`, nine of ten messages (GB/T 28181-2016 9.6, annex A).

`parse_keepalive` reads the ordinary form straight from the bytes, some ten times cheaper than a
tree. It answers None for everything else, also for a keepalive that names faulty sub-devices or is
written unusually: then `parse_body` and `from_body` decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from vsp.sip.core.manscdp.envelope import Body, child, children

FAULTY_MAX = 1_024
"""Faulty sub-devices of one keepalive passed on; the channels of a large recorder."""

_PLAIN = re.compile(
    rb"\s*(?:<\?xml[^>]{0,200}\?>)?\s*"
    rb"<Notify>\s*<CmdType>\s*Keepalive\s*</CmdType>\s*<SN>\s*(\d{1,18})\s*</SN>\s*"
    rb"<DeviceID>\s*([0-9A-Za-z]{1,32})\s*</DeviceID>\s*<Status>\s*(\w{1,16})\s*</Status>\s*"
    rb"(?:<Info>\s*</Info>\s*|<Info\s*/>\s*)?</Notify>[\s\x00]*"
)
_OK = {"ok", "on", "online"}


@dataclass(frozen=True, slots=True)
class Keepalive:
    """One heartbeat. `ok` False is a device that reports its own fault; it is alive all the same.

    faulty   sub-devices named as failed
    """

    sn: int
    device_id: str
    ok: bool
    faulty: tuple[str, ...] = ()


def parse_keepalive(body: bytes) -> Keepalive | None:
    """The ordinary form; None when this is something else or needs the whole parser."""
    found = _PLAIN.fullmatch(body)
    if found is None:
        return None
    sn, device_id, status = found.groups()
    ok = status == b"OK" or status.decode("latin-1").lower() in _OK
    return Keepalive(int(sn), device_id.decode("ascii"), ok)


def from_body(body: Body) -> Keepalive:
    """Any form, from its tree."""
    info = child(body.tree, "Info")
    named = () if info is None else children(info, "DeviceID")
    faulty = [(item.text or "").strip() for item in named]
    return Keepalive(
        sn=body.sn,
        device_id=body.device_id,
        ok=body.text("Status").lower() in _OK,
        faulty=tuple(item for item in faulty if item)[:FAULTY_MAX],
    )


__all__ = ["Keepalive", "from_body", "parse_keepalive"]
