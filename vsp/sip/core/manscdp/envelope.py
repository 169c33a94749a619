"""The envelope of MANSCDP: bytes to text to a tree, and back (GB/T 28181-2016 annex A).

Character sets (2016 annex A "should be GB2312", 2022 "shall be GB 18030"): GB2312 and GBK are parts
of GB 18030, so every GB label is decoded as that, which keeps characters such as 镕 and 堃 that
devices send under a GB2312 label. UTF-8 is believed when it is declared and valid, and also under a
GB label when the bytes are valid UTF-8 that reads as Chinese. That is a matter of judgement: short
GBK texts are valid UTF-8 by chance (路, "road", is the two bytes of `·`), but then they read as
accented or Cyrillic letters.

Trees are parsed by lxml, hardened: no DTD, no entities, no network, bounded in size, depth and
number of nodes. Names are compared without case (the standard itself has `Alarmstatus`).
`Body.oddities` names what was forgiven:

    charset     the label and the bytes disagree
    controls    control bytes or NULs inside
    ampersand   `&` not escaped (Hikvision)
    brackets    `<` or `>` not escaped in a name or an address (Hikvision platform)
    tail        something after the root element
    broken      not well-formed; what could be read is there, the rest is missing
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from lxml import etree

from vsp.model.device import Charset
from vsp.model.ids import UtcMicros
from vsp.sip.core.uri import Malformed

BODY_BYTES_MAX = 2 << 20
"""A catalogue page of about 3,500 items; the same as a whole message on TCP."""

DEPTH_MAX = 64
"""Nesting; the deepest document of the standard has 6 levels."""

NODES_MAX = 100_000
"""Elements of one body: 2 MiB at 20 bytes an element."""

TEXT_LENGTH_MAX = 4_096
"""Characters of one value passed on; the standard's longest is 1,024."""

SN_MAX = (1 << 63) - 1
"""Serial numbers are below 2**31 in practice; larger ones fit a database column or are 0."""

BEIJING = timezone(timedelta(hours=8), "CST")
"""All times of MANSCDP are Beijing local time without a zone (2016 annex A)."""

XML_LABEL = {
    Charset.GB2312: "GB2312",
    Charset.GBK: "GBK",
    Charset.GB18030: "GB18030",
    Charset.UTF8: "UTF-8",
}

_ROOTS = {"control": "Control", "query": "Query", "notify": "Notify", "response": "Response"}
_DECLARED = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']\s*([\w.-]{1,20})", re.I)
_DECLARATION = re.compile(r"^\s*<\?xml[^>]{0,400}\?>", re.IGNORECASE)
_FORBIDDEN = re.compile(r"<!\s*(?:DOCTYPE|ENTITY|ELEMENT|ATTLIST)", re.IGNORECASE)
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_AMPERSAND = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#[xX][0-9A-Fa-f]{1,6});)")
_WIDE = re.compile("[\u2000-\u206f\u2100-\u27bf\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")
_NARROW = re.compile("[°±²³·×]")
_FREE_TEXT = ("Name", "Address", "Owner", "Manufacturer", "Model", "DeviceName", "FilePath")
"""Elements that hold what a person typed, and never other elements."""

_FREE_TEXT_MAX = 1_024
"""Characters between start and end tag of such an element, the standard's longest value."""

_STRAY_LESS = re.compile(r"<(?![A-Za-z_/!?])")
_ROOT_START = re.compile(r"<(Control|Query|Notify|Response)[\s>]", re.IGNORECASE)
_TIME = re.compile(
    r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})[T ](\d{1,2}):(\d{1,2}):(\d{1,2})(?:[.,](\d{1,9}))?"
    r"\s*(?:(Z)|([+-])(\d{2}):?(\d{2}))?",
    re.IGNORECASE,
)
_TOO_DEEP = etree.XPath("boolean(" + "/*" * (DEPTH_MAX + 1) + ")")


@dataclass(frozen=True, slots=True)
class Body:
    """One document.

    root        "Control", "Query", "Notify" or "Response", in this case
    cmd_type    as written, "" when missing
    sn          0 when missing or not a number
    device_id   "" when missing (`Broadcast` has none)
    """

    root: str
    cmd_type: str
    sn: int
    device_id: str
    tree: etree._Element
    oddities: tuple[str, ...] = ()

    def text(self, name: str) -> str:
        """Text of a child of the root, "" when missing."""
        return text_of(self.tree, name)


def parse_body(
    data: bytes, charset: Charset | None = None, *, size_max: int = BODY_BYTES_MAX
) -> Body:
    """Parse one body. Raises Malformed and nothing else, whatever the bytes.

    charset   what the device is set to; a declared or evident UTF-8 is believed all the same
    """
    if len(data) > size_max:
        raise Malformed(f"MANSCDP body of {len(data)} bytes")
    oddities: list[str] = []
    text = decode(data, charset, oddities)
    tree = _tree(_cleaned(text, oddities), oddities)
    root = _ROOTS.get(_name(tree).lower())
    if root is None:
        raise Malformed(f"MANSCDP root <{_name(tree)[:40]}>")
    sn = text_of(tree, "SN")
    return Body(
        root=root,
        cmd_type=text_of(tree, "CmdType"),
        sn=int(sn[:18]) if sn.isascii() and sn.isdigit() else 0,
        device_id=text_of(tree, "DeviceID"),
        tree=tree,
        oddities=tuple(oddities),
    )


# ---- characters -----------------------------------------------------------------------------


def decode(data: bytes, charset: Charset | None, oddities: list[str]) -> str:
    """Bytes to text; never fails. What is in no known character set becomes U+FFFD."""
    if data.isascii():
        return data.decode("ascii")
    found = _DECLARED.match(data)
    label = found[1].decode("latin-1").lower() if found else ""
    declared_utf8 = label in {"utf-8", "utf8"} or (not label and charset is Charset.UTF8)
    if data.startswith(b"\xef\xbb\xbf"):
        data, declared_utf8 = data[3:], True
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        if not declared_utf8:
            return data.decode("gb18030", "replace")
        oddities.append("charset")
        return _decode_pieces(data)
    if declared_utf8:
        return text
    if not _reads_as_chinese(text):
        return data.decode("gb18030", "replace")
    oddities.append("charset")
    return text


def _reads_as_chinese(text: str) -> bool:
    """Whether text decoded as UTF-8 under a GB label is more than a coincidence."""
    wide = len(_WIDE.findall(text))
    narrow = len(_NARROW.findall(text))
    foreign = sum(not character.isascii() for character in text) - wide - narrow
    return foreign == 0 and 0 < wide >= narrow


def _decode_pieces(data: bytes) -> str:
    """A document of several sets (Uniview: GBK device name among UTF-8): each text by itself.

    `<` is no trailing byte in GB 18030, so cutting there cuts no character.
    """
    return "<".join(_decode_piece(piece) for piece in data.split(b"<"))


def _decode_piece(piece: bytes) -> str:
    try:
        return piece.decode("utf-8")
    except UnicodeDecodeError:
        return piece.decode("gb18030", "replace")


def _cleaned(text: str, oddities: list[str]) -> str:
    """Take off what no parser accepts and devices send."""
    text = _DECLARATION.sub("", text.lstrip("\ufeff"), count=1).rstrip("\x00 \r\n\t")
    if _CONTROLS.search(text):
        oddities.append("controls")
        text = _CONTROLS.sub("", text)
    if _FORBIDDEN.search(text):
        raise Malformed("MANSCDP body with a DTD")
    if "&" in text and _AMPERSAND.search(text):
        oddities.append("ampersand")
        text = _AMPERSAND.sub("&amp;", text)
    return text


# ---- trees ----------------------------------------------------------------------------------


def _parser(*, recover: bool) -> etree.XMLParser:
    return etree.XMLParser(
        encoding="utf-8",
        recover=recover,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


_STRICT = _parser(recover=False)
_LENIENT = _parser(recover=True)


def _tree(text: str, oddities: list[str]) -> etree._Element:
    tags = text.count("<")
    if tags > 2 * NODES_MAX:
        raise Malformed(f"MANSCDP body with {tags} tags")
    data = text.encode("utf-8", "replace")
    try:
        tree = etree.fromstring(data, _STRICT)
    except etree.XMLSyntaxError:
        tree = _recovered(text, oddities)
    if tags > DEPTH_MAX and _TOO_DEEP(tree):
        raise Malformed(f"MANSCDP body nested deeper than {DEPTH_MAX}")
    return tree


def _recovered(text: str, oddities: list[str]) -> etree._Element:
    """Cut the root out of what surrounds it and try again; then take what can be read."""
    root = _root_only(text)
    whole = _brackets_escaped(_STRAY_LESS.sub("&lt;", root))
    data = whole.encode("utf-8", "replace")
    try:
        tree = etree.fromstring(data, _STRICT)
    except etree.XMLSyntaxError:
        oddities.append("broken")
        return _read_leniently(data)
    oddities.append("tail" if whole == root else "brackets")
    return tree


def _brackets_escaped(text: str) -> str:
    """Quirk `brackets-in-text`: what stands in a free text is text, tags and all."""
    for name in _FREE_TEXT:
        start, end = f"<{name}>", f"</{name}>"
        pieces = text.split(start)
        for index, piece in enumerate(pieces[1:], start=1):
            at = piece.find(end, 0, _FREE_TEXT_MAX)
            inner = piece[:at]
            if at > 0 and ("<" in inner or ">" in inner):
                escaped = inner.replace("<", "&lt;").replace(">", "&gt;")
                pieces[index] = escaped + piece[at:]
        text = start.join(pieces)
    return text


def _read_leniently(data: bytes) -> etree._Element:
    try:
        tree = etree.fromstring(data, _LENIENT)
    except etree.XMLSyntaxError as error:
        raise Malformed("MANSCDP body is no XML") from error
    if tree is None or not isinstance(tree.tag, str):
        raise Malformed("MANSCDP body is no XML")
    return tree


def _root_only(text: str) -> str:
    """From the first root's start tag to its first end tag, or to the end."""
    start = _ROOT_START.search(text)
    if start is None:
        return text
    end = re.compile(rf"</{start[1]}\s*>", re.IGNORECASE).search(text, start.end())
    return text[start.start() : len(text) if end is None else end.end()]


def _name(node: etree._Element) -> str:
    """Local name: a namespace, seen in one vendor's bodies, is ignored."""
    tag = node.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def child(node: etree._Element, name: str) -> etree._Element | None:
    """The first child of that name, without case; None when missing."""
    for item in children(node, name):
        return item
    return None


def children(node: etree._Element, name: str) -> Iterator[etree._Element]:
    """Children of that name, without case, in order."""
    wanted = name.lower()
    for item in node:
        if _name(item).lower() == wanted:
            yield item


def text_of(node: etree._Element, name: str) -> str:
    """Text of the first child of that name, or of that attribute; "" when missing.

    Attributes stand in for children in one vendor's dialect (`<Notify CmdType="Keepalive">`).
    """
    item = child(node, name)
    if item is not None:
        return _text(item)
    return attribute(node, name)


def attribute(node: etree._Element, name: str) -> str:
    """An attribute, without case, "" when missing."""
    wanted = name.lower()
    for key, value in node.attrib.items():
        if str(key).lower() == wanted:
            return str(value).strip()[:TEXT_LENGTH_MAX]
    return ""


def fields(node: etree._Element) -> dict[str, str]:
    """Texts of all children that have no children: lower-case name -> text, the first counts."""
    found: dict[str, str] = {}
    for item in node:
        if len(item) == 0:
            found.setdefault(_name(item).lower(), _text(item))
    return found


def leaves(node: etree._Element) -> Iterator[tuple[str, str]]:
    """(name as written, text) of all children that have no children."""
    for item in node:
        if len(item) == 0 and _name(item):
            yield _name(item), _text(item)


def _text(node: etree._Element) -> str:
    return (node.text or "").strip()[:TEXT_LENGTH_MAX]


def integer(text: str) -> int | None:
    """A decimal number of at most 18 digits, None for anything else."""
    text = text.strip()
    digits = text[1:] if text[:1] in {"-", "+"} else text
    if not digits.isascii() or not digits.isdigit() or len(digits) > 18:
        return None
    return int(text)


# ---- writing --------------------------------------------------------------------------------


def document(root: str, content: str, charset: Charset) -> bytes:
    """A body as the standard's examples are written: declaration, root, each line with CRLF."""
    text = (
        f'<?xml version="1.0" encoding="{XML_LABEL[charset]}"?>\r\n<{root}>{content}</{root}>\r\n'
    )
    return encode(text, charset)


def query(cmd_type: str, sn: int, device_id: str, charset: Charset, extra: str = "") -> bytes:
    """A `Query` of that CmdType; `extra` is XML that follows DeviceID."""
    head = element("CmdType", cmd_type) + element("SN", str(sn)) + element("DeviceID", device_id)
    return document("Query", head + extra, charset)


def element(name: str, text: str) -> str:
    """`<name>text</name>`, escaped; characters that XML forbids are left out."""
    text = _CONTROLS.sub("", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<{name}>{text}</{name}>"


def encode(text: str, charset: Charset = Charset.GB2312) -> bytes:
    """Text to bytes: GB 18030 for every GB label, so that no character is lost (2.6)."""
    return text.encode("utf-8" if charset is Charset.UTF8 else "gb18030", "replace")


# ---- time -----------------------------------------------------------------------------------


def parse_time(text: str) -> UtcMicros | None:
    """A dateTime as UTC micros; None when it is none.

    Without a zone it is Beijing time. Zones, `Z` and fractions occur (Unisinsight) and count.
    """
    found = _TIME.fullmatch(text.strip())
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in found.groups()[:6])
    try:
        moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=_zone(found))
    except (ValueError, OverflowError):
        return None
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    micros = int((found[7] or "0").ljust(6, "0")[:6])
    return UtcMicros((delta.days * 86_400 + delta.seconds) * 1_000_000 + micros)


def _zone(found: re.Match[str]) -> timezone:
    if found[8]:
        return UTC
    if not found[9]:
        return BEIJING
    minutes = int(found[10]) * 60 + int(found[11])
    return timezone(timedelta(minutes=minutes if found[9] == "+" else -minutes))


def format_time(at_us: UtcMicros) -> str:
    """`yyyy-MM-ddTHH:mm:ss` in Beijing time, fractions cut (2016 annex A)."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=at_us // 1_000_000)
    return moment.astimezone(BEIJING).strftime("%Y-%m-%dT%H:%M:%S")


__all__ = [
    "BODY_BYTES_MAX",
    "DEPTH_MAX",
    "NODES_MAX",
    "Body",
    "attribute",
    "child",
    "children",
    "decode",
    "document",
    "element",
    "encode",
    "fields",
    "format_time",
    "integer",
    "leaves",
    "parse_body",
    "parse_time",
    "query",
    "text_of",
]
