"""Catalog (目录): the query, its answer in pages, and notified changes.

GB/T 28181-2016 9.5 and annex A. A page is taken as it is: SumNum may change between pages, Num may
differ from the items, and items may lack almost everything (Hikvision recorders send no ParentID).
Items without a DeviceID are left out and counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from lxml import etree

from vsp.model.device import CatalogItem, Charset, Presence
from vsp.model.ids import GbId
from vsp.sip.core.manscdp.envelope import Body, attribute, child, children, fields, integer, query

ITEMS_MAX = 10_000
"""Items of one message (2016 annex A: "not more than 10 000")."""

PARENTS_MAX = 16
"""Parents of one item; business and civil trees together give three or four."""

EXTRA_MAX = 64
"""Further elements kept of one item; the 2022 edition defines about thirty."""

_ON = {"on", "online", "ok", "1", "true"}
_OFF = {"off", "offline", "error", "0", "false"}
_KNOWN = {
    "deviceid",
    "name",
    "manufacturer",
    "model",
    "owner",
    "civilcode",
    "address",
    "parental",
    "parentid",
    "businessgroupid",
    "secrecy",
    "status",
    "longitude",
    "latitude",
    "ptztype",
    "password",
    "event",
}
"""Read into a field of their own, or (Password) not to be kept at all."""


@dataclass(frozen=True, slots=True)
class CatalogPage:
    """One page of an answer.

    sum_num   the total that this page announces, None when absent
    num       the `Num` attribute of the list, None when absent
    skipped   items without DeviceID, and items of a broken page that may have been cut
    damaged   the page was not well-formed: what it does not hold may still exist
    """

    sn: int
    device_id: str
    sum_num: int | None
    num: int | None
    items: tuple[CatalogItem, ...]
    skipped: int = 0
    damaged: bool = False


@dataclass(frozen=True, slots=True)
class CatalogChange:
    """ON OFF VLOST DEFECT ADD DEL or UPDATE; the item is whole for ADD and UPDATE only."""

    event: str
    item: CatalogItem


def encode_query(sn: int, device_id: str, charset: Charset = Charset.GB2312) -> bytes:
    """Ask for everything below `device_id`."""
    return query("Catalog", sn, device_id, charset)


def parse_response(body: Body) -> CatalogPage:
    """One page. Never fails on what is inside."""
    listed = child(body.tree, "DeviceList")
    nodes = [] if listed is None else list(children(listed, "Item"))[:ITEMS_MAX]
    damaged = "broken" in body.oddities
    items = [None if damaged and not _is_whole(node) else parse_item(node) for node in nodes]
    return CatalogPage(
        sn=body.sn,
        device_id=body.device_id,
        sum_num=_count(body.text("SumNum")),
        num=None if listed is None else _count(attribute(listed, "Num")),
        items=tuple(item for item in items if item is not None),
        skipped=items.count(None),
        damaged=damaged,
    )


def _is_whole(node: etree._Element) -> bool:
    """Whether an item of a broken page still has what every item has, from its first to its last.

    An item that was cut would otherwise erase what is known of its channel.
    """
    return {"deviceid", "name", "status"} <= fields(node).keys()


def parse_notify(body: Body) -> tuple[CatalogChange, ...]:
    """Changes of a NOTIFY; events come with stray blanks even in the standard (2016 annex J)."""
    listed = child(body.tree, "DeviceList")
    nodes = [] if listed is None else list(children(listed, "Item"))[:ITEMS_MAX]
    changes: list[CatalogChange] = []
    for node in nodes:
        item = parse_item(node)
        if item is not None:
            changes.append(CatalogChange(fields(node).get("event", "").upper(), item))
    return tuple(changes)


def parse_item(node: etree._Element) -> CatalogItem | None:
    """One `Item`; None when it names no device."""
    found = fields(node)
    info = child(node, "Info")
    inner = {} if info is None else fields(info)
    gb_id = found.get("deviceid", "") or attribute(node, "DeviceID")
    if not gb_id:
        return None
    longitude = _degrees(found.get("longitude", ""), 180.0)
    latitude = _degrees(found.get("latitude", ""), 90.0)
    placed = longitude is not None and latitude is not None and (longitude, latitude) != (0.0, 0.0)
    return CatalogItem(
        gb_id=GbId(gb_id),
        name=found.get("name", ""),
        manufacturer=found.get("manufacturer", ""),
        model=found.get("model", ""),
        owner=found.get("owner", ""),
        civil_code=found.get("civilcode", ""),
        address=found.get("address", ""),
        parental=found.get("parental", "") == "1",
        parent_ids=_parents(found.get("parentid", "")),
        business_group_id=found.get("businessgroupid", "") or inner.get("businessgroupid", ""),
        secrecy=integer(found.get("secrecy", "")) or 0,
        status=_status(found.get("status", "")),
        longitude=longitude if placed else None,
        latitude=latitude if placed else None,
        ptz_type=_first_number(inner.get("ptztype", "") or found.get("ptztype", "")),
        extra=_extra(found, inner),
    )


def _parents(text: str) -> tuple[str, ...]:
    """ParentID may join several with `/` (2016 annex A); order kept, repeats dropped."""
    parents = dict.fromkeys(part.strip() for part in text.split("/"))
    return tuple(part for part in parents if part)[:PARENTS_MAX]


def _status(text: str) -> Presence:
    text = text.lower()
    if text in _ON:
        return Presence.ONLINE
    return Presence.OFFLINE if text in _OFF else Presence.UNKNOWN


def _degrees(text: str, limit: float) -> float | None:
    """A coordinate; None when absent, no number or out of range. 0,0 means "not set" above."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if -limit <= value <= limit else None


def _first_number(text: str) -> int | None:
    """PTZType is a `/` list since 2022; the first one is the main one."""
    return integer(text.partition("/")[0])


def _extra(found: dict[str, str], inner: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Everything else by lower-case name, fields of Info as `info/...`."""
    extra = [(name, text) for name, text in found.items() if name not in _KNOWN and text]
    extra += [(f"info/{name}", text) for name, text in inner.items() if name not in _KNOWN and text]
    return tuple(extra[:EXTRA_MAX])


def _count(text: str) -> int | None:
    number = integer(text)
    return number if number is not None and 0 <= number < 1 << 31 else None


__all__ = [
    "ITEMS_MAX",
    "CatalogChange",
    "CatalogPage",
    "encode_query",
    "parse_item",
    "parse_notify",
    "parse_response",
]
