"""SIP messages: one pass over the header block, everything else when asked for (RFC 3261 7, 20).

A `Message` keeps bytes. Its header index is built by `parse_message`; values are decoded, addresses
and numbers are parsed only by the accessor that needs them, because nine of ten messages here are
keepalives of which the platform reads four headers. Replies are built by echoing the request's own
header bytes (`reply_bytes`), never by formatting parsed ones.

Tolerated deviations are named in `Message.oddities`:

    content-length    differs from the body that came (Hikvision, Dahua; RFC 3261 20.14)
    bare-lf           header lines end in LF alone (RFC 3261 7.3)
    no-colon          a header line without colon, ignored
    lower-method      method not in capitals (GB/T 28181-2016 prints `Message`, `Register`)
    no-reason         status line without reason phrase
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from vsp.sip.core.uri import Malformed, Uri

DATAGRAM_BYTES_MAX = 65_535
"""What a UDP datagram can carry at all; devices do send fragmented 60 KB MESSAGEs."""

STREAM_BYTES_MAX = 2 << 20
"""One message on TCP: a catalogue page of about 3,500 items; larger answers come in pages."""

HEAD_BYTES_MAX = 65_535
"""Start line and headers of one message; the whole of a datagram, so that TCP gets no more."""

HEADERS_MAX = 128
"""Header lines of one message; GB/T 28181 messages have 8 to 16."""

LINE_BYTES_MAX = 8_192
"""One unfolded header line; the longest real ones, certificates in Authorization, have 4 KB."""

VIAS_MAX = 70
"""Hops: Max-Forwards starts at 70 (RFC 3261 8.1.1.6)."""

CANON_MAX = 512
"""Spellings of header names remembered; there are about 60 names, so 512 covers odd cases."""

_COMPACT = {
    "v": "via",
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "l": "content-length",
    "c": "content-type",
    "o": "event",
    "s": "subject",
    "e": "content-encoding",
    "k": "supported",
    "u": "allow-events",
    "r": "refer-to",
    "b": "referred-by",
}
_canon: dict[bytes, str] = {}

_FOLD = re.compile(rb"\r\n[ \t]+")
_CSEQ = re.compile(rb"\s*(\d{1,10})\s+(\S+)\s*")
_STATUS_LINE = re.compile(rb"SIP/2\.0 ([1-6]\d\d)(?: (.*))?", re.IGNORECASE | re.DOTALL)
_REQUEST_LINE = re.compile(rb"([!%'*+\-.0-9A-Z_`a-z~]{1,32}) (\S+) (SIP/\d{1,3}\.\d{1,3})", re.I)
_NEXT_START = re.compile(rb"\s*(?:[A-Z]{2,16} \S{1,2048} SIP/2\.0|SIP/2\.0 [1-6]\d\d)")
_FROM_USER = re.compile(rb"sips?:([^@:;>\s\"]{1,64})(?::[^@\s]{0,64})?@", re.IGNORECASE)
_RPORT = re.compile(rb";\s*rport(?:\s*=\s*\d*)?(?=\s*(?:;|$))", re.IGNORECASE)
_RECEIVED = re.compile(rb";\s*received\s*=[^;]*", re.IGNORECASE)
_BRANCH = re.compile(rb";\s*branch\s*=\s*([^;,\s]+)", re.IGNORECASE)
_SENT_BY = re.compile(rb"[^\s/]+\s*/\s*[^\s/]+\s*/\s*[^\s/]+\s+(\[[^\]]*\]|[^\s:;]+)")
_TAG = re.compile(rb";\s*tag\s*=", re.IGNORECASE)
_ADDRESS = re.compile(
    r'(?:"(?P<quoted>[^"\\]*(?:\\.[^"\\]*)*)"\s*|(?P<display>[^<",;]*))'
    r"<(?P<uri>[^<>]*)>(?P<params>[^,]*)",
    re.DOTALL,
)
_BARE_ADDRESS = re.compile(r"(?P<uri>[^\s<>;,\"]+)(?P<params>[^,]*)", re.DOTALL)


_REPLY = (
    b"SIP/2.0 %d %b\r\nVia: %b\r\nFrom:%b\r\nTo:%b\r\nCall-ID:%b\r\nCSeq:%b\r\n"
    b"%bContent-Length: %d\r\n\r\n%b"
)


class Source(Protocol):
    """Where a request came from, as far as a Via needs it; `agent.Peer` is one."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...


@dataclass(frozen=True, slots=True)
class NameAddr:
    """A From, To or Contact value: URI, header parameters (names lower-case), display text."""

    uri: Uri
    params: tuple[tuple[str, str], ...] = ()
    text: str = ""

    @classmethod
    def parse(cls, value: str) -> NameAddr:
        """The first address of `value`. Raises Malformed.

        Without angle brackets everything after `;` belongs to the header (RFC 3261 20.10).
        """
        value = value.strip()
        found = _ADDRESS.match(value) or _BARE_ADDRESS.match(value)
        if found is None:
            raise Malformed(f"not an address: {value[:80]!r}")
        groups = found.groupdict()
        quoted = groups.get("quoted")
        text = quoted if quoted is not None else groups.get("display") or ""
        pairs = (part.partition("=") for part in found["params"].split(";"))
        params = tuple(
            (key.strip().lower(), item.strip().strip('"')) for key, _, item in pairs if key.strip()
        )
        return cls(Uri.parse(found["uri"]), params, text.strip())

    def param(self, name: str) -> str | None:
        for key, value in self.params:
            if key == name:
                return value
        return None

    @property
    def tag(self) -> str:
        """The tag parameter, "" when absent."""
        return self.param("tag") or ""

    @property
    def user(self) -> str:
        return self.uri.user


class Message:
    """One request (`method` set, `status` 0) or response (`method` None, `status` 100-699).

    Made by `parse_message` only. What it checked: start line, the five mandatory headers present,
    CSeq a number and (in requests) the right method. The lazy accessors `from_`, `to`, `contact`
    may raise Malformed; a shell answers that with 400.
    """

    __slots__ = (
        "_contact",
        "_cseq",
        "_from",
        "_index",
        "_more",
        "_to",
        "body",
        "method",
        "oddities",
        "reason",
        "status",
        "uri",
        "vias",
    )

    def __init__(self) -> None:
        self.method: str | None = None
        self.status = 0
        self.reason = ""
        self.uri = b""
        self.vias: list[bytes] = []
        self.body = b""
        self.oddities: list[str] | tuple[()] = ()
        self._index: dict[str, bytes] = {}
        self._more: list[tuple[str, bytes]] | None = None
        self._from: NameAddr | None = None
        self._to: NameAddr | None = None
        self._contact: NameAddr | None = None
        self._cseq = (0, "")

    def raw(self, name: str) -> bytes | None:
        """The first value of a header (lower-case long name) as it came, unstripped."""
        return self._index.get(name)

    def header(self, name: str) -> str | None:
        """The first value of a header, decoded, None when absent."""
        value = self._index.get(name)
        if name == "via":
            return _text(self.vias[0])
        return None if value is None else _text(value)

    def headers(self, name: str) -> list[str]:
        """Every line of a header, in order."""
        if name == "via":
            return [_text(via) for via in self.vias]
        values = [self._index[name]] if name in self._index else []
        if self._more is not None:
            values += [value for key, value in self._more if key == name]
        return [_text(value) for value in values]

    @property
    def call_id(self) -> str:
        return _text(self._index["call-id"])

    @property
    def cseq(self) -> tuple[int, str]:
        return self._cseq

    @property
    def from_(self) -> NameAddr:
        if self._from is None:
            self._from = NameAddr.parse(_text(self._index["from"]))
        return self._from

    @property
    def from_user(self) -> str:
        """User part of From without parsing the rest; "" when it has none (TP-Link)."""
        found = _FROM_USER.search(self._index["from"])
        return "" if found is None else _text(found[1])

    @property
    def to(self) -> NameAddr:
        if self._to is None:
            self._to = NameAddr.parse(_text(self._index["to"]))
        return self._to

    @property
    def contact(self) -> NameAddr | None:
        """The first Contact; None when absent or `*`."""
        if self._contact is None:
            value = self._index.get("contact")
            if value is None or value.strip() in {b"", b"*"}:
                return None
            self._contact = NameAddr.parse(_text(value))
        return self._contact

    @property
    def expires(self) -> int | None:
        """Wanted expiry in seconds: Contact's parameter, else the header (RFC 3261 10.2.1.1).

        None when absent or not a number; values above 2**32-1 are cut (RFC 3261 20.19).
        """
        value = self._index.get("contact")
        contact = self.contact if value is not None and b"xpires" in value else None
        for text in (contact.param("expires") if contact else None, self.header("expires")):
            if text is not None and text.isascii() and text.isdigit():
                return min(int(text[:12]), 0xFFFFFFFF)
        return None

    @property
    def content_type(self) -> str:
        """Lower-case media type without parameters, "" when absent."""
        value = self._index.get("content-type")
        return "" if value is None else _text(value).partition(";")[0].strip().lower()

    @property
    def user_agent(self) -> str:
        return self.header("user-agent") or self.header("server") or ""

    @property
    def branch(self) -> bytes:
        """Branch of the top Via, b"" when it has none (Hikvision platforms)."""
        top = self.vias[0]
        start = top.find(b";branch=")
        if start < 0:
            found = _BRANCH.search(top)
            return b"" if found is None else found[1]
        end = top.find(b";", start + 8)
        return (top[start + 8 :] if end < 0 else top[start + 8 : end]).strip()

    @property
    def start_line(self) -> str:
        """For logs and traces."""
        if self.method is None:
            return f"SIP/2.0 {self.status} {self.reason}"
        return f"{self.method} {_text(self.uri)} SIP/2.0"

    def note(self, oddity: str) -> None:
        """Record a tolerated deviation."""
        self.oddities = [*self.oddities, oddity]


def parse_message(data: bytes) -> Message:
    """Parse one whole message. Raises Malformed and nothing else, whatever the bytes."""
    message = Message()
    head_end, body_start = _head_end(data)
    head = data[:head_end]
    lines = _head_lines(head, message)
    _index_headers(message, lines)
    _start_line(message, lines[0])
    _mandatory(message)
    _body(message, data, body_start)
    return message


def _head_end(data: bytes) -> tuple[int, int]:
    """Where the header block ends and where the body begins."""
    if len(data) > STREAM_BYTES_MAX + HEAD_BYTES_MAX:
        raise Malformed(f"message of {len(data)} bytes")
    end = data.find(b"\r\n\r\n")
    bare = data.find(b"\n\n", 0, end if end >= 0 else HEAD_BYTES_MAX)
    start = end + 4
    if bare >= 0:
        end, start = bare, bare + 2
    if end < 0:
        raise Malformed("no empty line ends the headers")
    if end > HEAD_BYTES_MAX:
        raise Malformed(f"headers of {end} bytes")
    return end, start


def _head_lines(head: bytes, message: Message) -> list[bytes]:
    """Start line and unfolded header lines. Leading empty lines are skipped (RFC 3261 7.5)."""
    if head.count(b"\n") != head.count(b"\r\n"):
        message.note("bare-lf")
        head = head.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if head.startswith(b"\r\n"):
        head = head.lstrip(b"\r\n")
    if b"\r\n " in head or b"\r\n\t" in head:
        head = _FOLD.sub(b" ", head)
    lines = head.split(b"\r\n")
    if len(lines) > HEADERS_MAX + 1:
        raise Malformed(f"{len(lines) - 1} header lines")
    if len(head) > LINE_BYTES_MAX and max(map(len, lines)) > LINE_BYTES_MAX:
        raise Malformed("header line too long")
    return lines


def _index_headers(message: Message, lines: list[bytes]) -> None:
    index = message._index
    vias = message.vias
    canon = _canon.get
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        key = canon(name) or _canonical(name)
        if key == "via":
            vias.append(value.strip())
        elif not colon:
            message.note("no-colon")
        elif key in index:
            if message._more is None:
                message._more = []
            message._more.append((key, value))
        else:
            index[key] = value
    if len(vias) > 1 or (vias and b"," in vias[0]):
        message.vias = [via for line in vias for via in _split_via(line)]
    if len(message.vias) > VIAS_MAX:
        raise Malformed(f"{len(message.vias)} Via headers")


def _split_via(line: bytes) -> list[bytes]:
    """Several Via values on one line (RFC 3261 7.3.1); quoted commas do not occur in practice."""
    return [part.strip() for part in line.split(b",") if part.strip()]


def _canonical(name: bytes) -> str:
    """Lower-case long form of a header name, remembered in a bounded table."""
    key = name.strip().lower().decode("latin-1")
    key = _COMPACT.get(key, key)
    if len(_canon) < CANON_MAX and len(name) <= 32:
        _canon[name] = key
    return key


def _start_line(message: Message, line: bytes) -> None:
    parts = line.split(b" ")
    if len(parts) == 3 and parts[2] == b"SIP/2.0" and parts[0].isalpha() and parts[1]:
        method = parts[0].decode("ascii", "replace")
        message.uri = parts[1]
    elif (found := _STATUS_LINE.fullmatch(line)) is not None:
        message.status = int(found[1])
        message.reason = _text(found[2] or b"")
        if found[2] is None:
            message.note("no-reason")
        return
    elif (found := _REQUEST_LINE.fullmatch(line)) is not None:
        method = found[1].decode("ascii")
        message.uri = found[2]
        if found[3].upper() != b"SIP/2.0":
            message.method = method.upper()
            raise Malformed("another version of SIP", status=505, partial=_answerable(message))
    else:
        raise Malformed(f"not a start line: {line[:60]!r}")
    if not method.isupper():
        message.note("lower-method")
        method = method.upper()
    message.method = method


def _mandatory(message: Message) -> None:
    """Via, From, To, Call-ID and CSeq (RFC 3261 8.1.1); CSeq as number and method."""
    index = message._index
    missing = [name for name in ("from", "to", "call-id", "cseq") if name not in index]
    if missing or not message.vias:
        raise Malformed(f"no {', '.join(missing) or 'via'} header")
    found = _CSEQ.fullmatch(index["cseq"])
    if found is None or int(found[1]) > 0xFFFFFFFF:
        raise Malformed("CSeq is not a number and a method", partial=_answerable(message))
    number = int(found[1])
    method = found[2].decode("latin-1").upper()
    message._cseq = (number, method)
    if message.method is not None and method != message.method:
        raise Malformed("CSeq names another method", partial=_answerable(message))


def _answerable(message: Message) -> Message | None:
    """The message, when it is a request that carries all that an answer echoes."""
    index = message._index
    whole = message.vias and all(name in index for name in ("from", "to", "call-id", "cseq"))
    return message if whole and message.method not in (None, "ACK") else None


def _body(message: Message, data: bytes, start: int) -> None:
    """Cut the body by Content-Length where that can be right, else take what came.

    Bytes after the declared length are a body whose length was written wrong, unless they are
    blank or another message (RFC 3261 18.3 has the rest of a datagram ignored).
    """
    declared = message._index.get("content-length")
    message.body = data[start:]
    if declared is None:
        return
    declared = declared.strip()
    if not declared.isdigit() or len(declared) > 10:
        raise Malformed("Content-Length is not a number", partial=_answerable(message))
    length = int(declared)
    present = len(data) - start
    if length == present:
        return
    rest = data[start + length :]
    if length < present and (not rest.strip(b"\r\n \t\x00") or _NEXT_START.match(rest)):
        message.body = data[start : start + length]
        return
    message.note("content-length")


def _text(value: bytes) -> str:
    """Header text: UTF-8 as RFC 3261 says, Latin-1 where it is not."""
    try:
        return value.decode().strip()
    except UnicodeDecodeError:
        return value.decode("latin-1").strip()


# ---- building -------------------------------------------------------------------------------


def reply_bytes(
    request: Message,
    status: int,
    reason: str,
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    to_tag: str = "",
    peer: Source | None = None,
) -> bytes:
    """A response that echoes the request's Via, From, To, Call-ID and CSeq (RFC 3261 8.2.6.2).

    to_tag   added to To when it has none and `status` is not 100
    peer     source of the request, for rport and received (RFC 3581 4, RFC 3261 18.2.1)
    """
    index = request._index
    vias = request.vias
    top = vias[0] if peer is None else _stamped(vias[0], peer)
    if len(vias) > 1:
        top = b"\r\nVia: ".join([top, *vias[1:]])
    to = index["to"]
    if to_tag and status != 100 and b";tag=" not in to and _TAG.search(to) is None:
        to = b"%b;tag=%b" % (to, to_tag.encode())
    extra = _header_block(headers) if headers else b""
    if "record-route" in index and 100 < status < 300:
        routes = (f"Record-Route: {route}\r\n" for route in request.headers("record-route"))
        extra = "".join(routes).encode() + extra
    return _REPLY % (
        status,
        reason.encode(),
        top,
        index["from"],
        to,
        index["call-id"],
        index["cseq"],
        extra,
        len(body),
        body,
    )


def _stamped(via: bytes, peer: Source) -> bytes:
    """The top Via with rport filled in, and received where RFC 3261 18.2.1 asks for it."""
    plain = via.find(b";rport;")
    if plain >= 0 and b"received" not in via:
        return b"%b;rport=%d;received=%b%b" % (
            via[:plain],
            peer.port,
            peer.host.encode(),
            via[plain + 6 :],
        )
    via = _RECEIVED.sub(b"", via)
    stamp = b";received=" + peer.host.encode()
    if _RPORT.search(via) is not None:
        return _RPORT.sub(b";rport=%d%b" % (peer.port, stamp), via, count=1)
    sent_by = _SENT_BY.match(via)
    if sent_by is not None and sent_by[1].decode("latin-1").strip("[]") == peer.host:
        return via
    return via + stamp


def build_request(
    method: str, uri: str, headers: Sequence[tuple[str, str]], body: bytes = b""
) -> bytes:
    """A request as bytes; Content-Length is added. Raises Malformed for CR or LF in any value."""
    if any(mark in uri for mark in " \r\n"):
        raise Malformed(f"not a Request-URI: {uri[:80]!r}")
    head = f"{method} {uri} SIP/2.0\r\n".encode()
    return head + _header_block(headers) + b"Content-Length: %d\r\n\r\n" % len(body) + body


def _header_block(headers: Sequence[tuple[str, str]]) -> bytes:
    block = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if block.count("\n") != len(headers) or block.count("\r") != len(headers):
        raise Malformed("a header value holds a line break")
    return block.encode()


__all__ = [
    "DATAGRAM_BYTES_MAX",
    "HEADERS_MAX",
    "HEAD_BYTES_MAX",
    "LINE_BYTES_MAX",
    "STREAM_BYTES_MAX",
    "VIAS_MAX",
    "Malformed",
    "Message",
    "NameAddr",
    "build_request",
    "parse_message",
    "reply_bytes",
]
