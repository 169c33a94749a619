"""What a device writes and reads above SIP: MANSCDP bodies and SDP, from the worked examples.

Nothing here is a general XML or SDP library. Requests are read with a few patterns over bytes,
answers are the standard's own examples (GB/T 28181-2016 annex J; element order as in annex A.2)
with values put in. Times in them are Beijing time without zone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Address
from xml.sax.saxutils import escape

from simulators.media import Target
from vsp.clock import MICROS
from vsp.errors import Invalid
from vsp.model.device import MediaTransport

BEIJING = timezone(timedelta(hours=8))
MANSCDP_TYPE = "Application/MANSCDP+xml"
SDP_TYPE = "Application/SDP"
MANUFACTURER = "Simulated"
MODEL = "S-1"
FIRMWARE = "1.0"

_ROOT = re.compile(rb"<(Query|Control|Notify|Response)\b", re.IGNORECASE)
_ELEMENT = r"<{name}\s*>\s*([^<]*?)\s*</{name}\s*>"


@dataclass(frozen=True, slots=True)
class Tongue:
    """How a device writes Chinese: the label in the declaration, and the bytes."""

    label: str = "GB2312"

    def encode(self, text: str) -> bytes:
        """Bytes are GB 18030, of which GB2312 and GBK are parts, unless the label says UTF-8."""
        return text.encode("utf-8" if self.label.upper() == "UTF-8" else "gb18030")


@dataclass(frozen=True, slots=True)
class Query:
    """A MANSCDP request as far as a device looks. Times only where the request has them."""

    root: str
    command: str
    serial: str
    device_id: str
    start_us: int | None = None
    end_us: int | None = None


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """One `Item` of a catalogue answer."""

    gb_id: str
    name: str
    parent_id: str
    online: bool


@dataclass(frozen=True, slots=True)
class Record:
    """One `Item` of a RecordInfo answer."""

    start_us: int
    end_us: int
    size_bytes: int


def beijing(at_us: int) -> str:
    """`yyyy-MM-ddTHH:mm:ss` (GB/T 28181-2016 annex A.2.1 dateTime)."""
    return datetime.fromtimestamp(at_us / MICROS, BEIJING).strftime("%Y-%m-%dT%H:%M:%S")


def from_beijing(text: str) -> int | None:
    """Microseconds UTC of such a text, or None."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=BEIJING)
    return round(moment.astimezone(UTC).timestamp() * MICROS)


def _field(body: bytes, name: str) -> str | None:
    found = re.search(_ELEMENT.format(name=name).encode(), body, re.IGNORECASE)
    return found[1].decode("ascii", "replace") if found else None


def parse_query(body: bytes) -> Query:
    """Read a request. Raises Invalid when it is none."""
    root = _ROOT.search(body)
    command, serial = _field(body, "CmdType"), _field(body, "SN")
    device_id = _field(body, "DeviceID") or ""
    if root is None or not command or not serial:
        raise Invalid(f"not a MANSCDP request: {body[:80]!r}")
    start, end = _field(body, "StartTime"), _field(body, "EndTime")
    return Query(
        root=root[1].decode().capitalize(),
        command=command,
        serial=serial,
        device_id=device_id,
        start_us=from_beijing(start) if start else None,
        end_us=from_beijing(end) if end else None,
    )


def has_element(body: bytes, name: str) -> bool:
    """Whether `name` occurs as an element."""
    return re.search(rf"<{name}\b".encode(), body, re.IGNORECASE) is not None


# ---- answers --------------------------------------------------------------------------------


def _document(tongue: Tongue, label: str, content: str) -> bytes:
    return tongue.encode(
        f'<?xml version="1.0" encoding="{label or tongue.label}"?>\r\n{content}\r\n'
    )


@dataclass(frozen=True, slots=True)
class Speaker:
    """Writes the bodies of one device.

    label  written into the declaration in place of the true one; "" for honesty
    """

    device_id: str
    tongue: Tongue = Tongue()
    label: str = ""

    def keepalive(self, serial: int) -> bytes:
        """GB/T 28181-2016 9.6, annex A.2.5."""
        return self._write(
            f"<Notify><CmdType>Keepalive</CmdType><SN>{serial}</SN>"
            f"<DeviceID>{self.device_id}</DeviceID><Status>OK</Status></Notify>"
        )

    def catalog(self, query: Query, total: int, entries: Sequence[CatalogEntry]) -> bytes:
        """One page; without entries there is no DeviceList at all."""
        items = "\r\n".join(_catalog_item(entry) for entry in entries)
        listing = f'<DeviceList Num="{len(entries)}">\r\n{items}</DeviceList>' if entries else ""
        return self._answer(query, f"<SumNum>{total}</SumNum>{listing}")

    def device_info(self, query: Query, name: str, channels: int) -> bytes:
        return self._answer(
            query,
            f"<DeviceName>{escape(name)}</DeviceName><Result>OK</Result>"
            f"<Manufacturer>{MANUFACTURER}</Manufacturer><Model>{MODEL}</Model>"
            f"<Firmware>{FIRMWARE}</Firmware><Channel>{channels}</Channel>",
        )

    def device_status(self, query: Query, now_us: int, sending: bool) -> bytes:
        return self._answer(
            query,
            "<Result>OK</Result><Online>ONLINE</Online><Status>OK</Status>"
            f"<Encode>{'ON' if sending else 'OFF'}</Encode><Record>ON</Record>"
            f"<DeviceTime>{beijing(now_us)}</DeviceTime>",
        )

    def record_info(self, query: Query, name: str, total: int, records: Sequence[Record]) -> bytes:
        """One page; empty is SumNum 0 without RecordList."""
        items = "\r\n".join(_record_item(query.device_id, name, record) for record in records)
        listing = f'<RecordList Num="{len(records)}">\r\n{items}</RecordList>' if records else ""
        return self._answer(
            query, f"<Name>{escape(name)}</Name><SumNum>{total}</SumNum>\r\n{listing}"
        )

    def refusal(self, query: Query) -> bytes:
        """The answer to what this device cannot do."""
        return self._answer(query, "<Result>ERROR</Result>")

    def _answer(self, query: Query, content: str) -> bytes:
        return self._write(
            f"<Response><CmdType>{escape(query.command)}</CmdType><SN>{escape(query.serial)}</SN>"
            f"<DeviceID>{escape(query.device_id)}</DeviceID>{content}</Response>"
        )

    def _write(self, content: str) -> bytes:
        return _document(self.tongue, self.label, content)


def _catalog_item(entry: CatalogEntry) -> str:
    return (
        f"<Item><DeviceID>{entry.gb_id}</DeviceID><Name>{escape(entry.name)}</Name>"
        f"<Manufacturer>{MANUFACTURER}</Manufacturer><Model>{MODEL}</Model><Owner>O</Owner>"
        f"<CivilCode>{entry.gb_id[:6]}</CivilCode><Address>A</Address><Parental>0</Parental>"
        f"<ParentID>{entry.parent_id}</ParentID><SafetyWay>0</SafetyWay>"
        f"<RegisterWay>1</RegisterWay><Secrecy>0</Secrecy>"
        f"<Status>{'ON' if entry.online else 'OFF'}</Status>"
        f"<Longitude>118.376451</Longitude><Latitude>31.326319</Latitude>"
        f"<Info><PTZType>3</PTZType></Info></Item>"
    )


def _record_item(gb_id: str, name: str, record: Record) -> str:
    return (
        f"<Item><DeviceID>{gb_id}</DeviceID><Name>{escape(name)}</Name>"
        f"<FilePath>/rec/{record.start_us // MICROS}</FilePath><Address>A</Address>"
        f"<StartTime>{beijing(record.start_us)}</StartTime>"
        f"<EndTime>{beijing(record.end_us)}</EndTime><Secrecy>0</Secrecy><Type>time</Type>"
        f"<FileSize>{record.size_bytes}</FileSize></Item>"
    )


# ---- SDP ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offer:
    """The SDP of an INVITE. `session` is the `s=` word in lower case; `ssrc` None without `y=`."""

    session: str
    target: Target
    ps_payload: bool
    ssrc: int | None
    ssrc_text: str


_MEDIA_LINE = re.compile(r"video\s+(\d+)(?:/\d+)?\s+(TCP/)?RTP/AVP\s+([\d ]+)", re.IGNORECASE)


def parse_offer(body: bytes) -> Offer:
    """Read an offer (GB/T 28181-2016 annex F, L). Raises Invalid when it has no usable m= line."""
    lines = [line.strip() for line in body.decode("latin-1").splitlines()]
    values = [(line[0], line[2:].strip()) for line in lines if line[1:2] == "="]
    attributes = [value.lower() for name, value in values if name == "a"]
    media = next((m for n, v in values if n == "m" and (m := _MEDIA_LINE.match(v))), None)
    address = [v.split()[-1] for n, v in values if n == "c" and v.upper().startswith("IN IP4")]
    if media is None or not address or int(media[1]) > 0xFFFF:
        raise Invalid(f"offer has no m=video line over RTP/AVP, or no c= line: {body[:120]!r}")
    try:
        host = str(IPv4Address(address[-1]))
    except ValueError as error:
        raise Invalid(f"c= line has no IPv4 address: {address[-1][:40]!r}") from error
    transport = MediaTransport.UDP
    if media[2]:
        active = "setup:active" in attributes
        transport = MediaTransport.TCP_ACTIVE if active else MediaTransport.TCP_PASSIVE
    ssrc_text = next((v for n, v in values if n == "y"), "")
    return Offer(
        session=next((v.lower() for n, v in values if n == "s"), ""),
        target=Target(transport, host, int(media[1])),
        ps_payload="96" in media[3].split() and _is_plain_ps(attributes),
        ssrc=int(ssrc_text) if ssrc_text.isdigit() and int(ssrc_text) <= 0xFFFF_FFFF else None,
        ssrc_text=ssrc_text,
    )


def _is_plain_ps(attributes: Sequence[str]) -> bool:
    """`a=rtpmap:96 HIKVISION/90000` and the like ask for a private stream."""
    named = [a.split(maxsplit=1)[1] for a in attributes if a.startswith("rtpmap:96 ")]
    return all(name.startswith("ps/") for name in named)


def answer_sdp(offer: Offer, channel_id: str, host: str, port: int, y: str) -> bytes:
    """The SDP of the 200: sendonly, and over TCP the complement of the offer's role.

    y  the SSRC in ten digits, "" to leave the line out
    """
    tcp = offer.target.transport is not MediaTransport.UDP
    role = "passive" if offer.target.transport is MediaTransport.TCP_ACTIVE else "active"
    lines = [
        "v=0",
        f"o={channel_id} 0 0 IN IP4 {host}",
        "s=Play",
        f"c=IN IP4 {host}",
        "t=0 0",
        f"m=video {port} {'TCP/' if tcp else ''}RTP/AVP 96",
        "a=sendonly",
        "a=rtpmap:96 PS/90000",
        *([f"a=setup:{role}", "a=connection:new"] if tcp else []),
        *([f"y={y}"] if y else []),
    ]
    return "".join(f"{line}\r\n" for line in lines).encode("ascii")


__all__ = [
    "BEIJING",
    "MANSCDP_TYPE",
    "SDP_TYPE",
    "CatalogEntry",
    "Offer",
    "Query",
    "Record",
    "Speaker",
    "Tongue",
    "answer_sdp",
    "beijing",
    "from_beijing",
    "has_element",
    "parse_offer",
    "parse_query",
]
