"""DeviceInfo: what a device says of its make (GB/T 28181-2016 annex A)."""

from __future__ import annotations

from vsp.model.device import Charset
from vsp.ports import DeviceFacts
from vsp.sip.core.manscdp.envelope import Body, fields, query


def encode_query(sn: int, device_id: str, charset: Charset = Charset.GB2312) -> bytes:
    return query("DeviceInfo", sn, device_id, charset)


def parse_response(body: Body) -> DeviceFacts:
    """What is missing is "". `Result` is not judged: devices say ERROR and answer all the same."""
    found = fields(body.tree)
    return DeviceFacts(
        manufacturer=found.get("manufacturer", ""),
        model=found.get("model", ""),
        firmware=found.get("firmware", ""),
        name=found.get("devicename", "") or found.get("name", ""),
    )


__all__ = ["encode_query", "parse_response"]
