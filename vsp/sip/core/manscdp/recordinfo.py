"""RecordInfo: the files that a device holds (GB/T 28181-2016 9.7, annex A)."""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree

from vsp.model.device import Charset
from vsp.model.ids import GbId, UtcMicros
from vsp.ports import RecordItem
from vsp.sip.core.manscdp.envelope import (
    Body,
    attribute,
    child,
    children,
    element,
    fields,
    format_time,
    integer,
    parse_time,
    query,
)

ITEMS_MAX = 10_000
"""Items of one message, as for a catalogue."""


@dataclass(frozen=True, slots=True)
class RecordPage:
    """One page of an answer.

    num       the `Num` attribute of the list, None when absent
    skipped   items without usable times (some devices pad with empty ones); they count to sum_num
    """

    sn: int
    device_id: str
    sum_num: int | None
    items: tuple[RecordItem, ...]
    num: int | None = None
    skipped: int = 0


def encode_query(
    sn: int,
    channel_id: str,
    start_us: UtcMicros,
    end_us: UtcMicros,
    charset: Charset = Charset.GB2312,
) -> bytes:
    """All files of a channel that overlap the range, on the device itself (IndistinctQuery 0).

    Line breaks stand where the standard's example has them.
    """
    extra = element("StartTime", format_time(start_us)) + "\r\n"
    extra += element("EndTime", format_time(end_us)) + element("Secrecy", "0")
    extra += element("Type", "all") + element("IndistinctQuery", "0")
    return query("RecordInfo", sn, channel_id, charset, extra)


def parse_response(body: Body) -> RecordPage:
    """One page. Never fails on what is inside; ids missing in items are taken from the envelope."""
    listed = child(body.tree, "RecordList")
    nodes = [] if listed is None else list(children(listed, "Item"))[:ITEMS_MAX]
    items = [_item(node, body.device_id) for node in nodes]
    return RecordPage(
        sn=body.sn,
        device_id=body.device_id,
        sum_num=integer(body.text("SumNum")),
        items=tuple(item for item in items if item is not None),
        num=None if listed is None else integer(attribute(listed, "Num")),
        skipped=items.count(None),
    )


def _item(node: etree._Element, device_id: str) -> RecordItem | None:
    found = fields(node)
    start_us = parse_time(found.get("starttime", ""))
    end_us = parse_time(found.get("endtime", ""))
    if start_us is None or end_us is None or end_us < start_us:
        return None
    return RecordItem(
        channel_gb_id=GbId(found.get("deviceid", "") or device_id),
        name=found.get("name", ""),
        start_us=start_us,
        end_us=end_us,
        kind=found.get("type", "").lower(),
        size_bytes=integer(found.get("filesize", "")),
    )


__all__ = ["RecordPage", "encode_query", "parse_response"]
