"""DeviceStatus: how a device says it is (GB/T 28181-2016 annex A)."""

from __future__ import annotations

from collections.abc import Mapping

from vsp.model.device import Charset
from vsp.sip.core.manscdp.envelope import Body, child, children, leaves, query, text_of

ALARMS_MAX = 1_024
"""Alarm inputs of one device passed on."""


def encode_query(sn: int, device_id: str, charset: Charset = Charset.GB2312) -> bytes:
    return query("DeviceStatus", sn, device_id, charset)


def parse_response(body: Body) -> Mapping[str, str]:
    """Values by element name as written: Result, Online, Status, Encode, Record, DeviceTime, ...

    CmdType, SN and DeviceID are left out; each alarm input is one more, `Alarm <id>` -> DutyStatus.
    """
    envelope = {"cmdtype", "sn", "deviceid"}
    status = {name: text for name, text in leaves(body.tree) if name.lower() not in envelope}
    alarms = child(body.tree, "Alarmstatus")
    if alarms is not None:
        for item in list(children(alarms, "Item"))[:ALARMS_MAX]:
            status[f"Alarm {text_of(item, 'DeviceID')}"] = text_of(item, "DutyStatus")
    return status


__all__ = ["encode_query", "parse_response"]
