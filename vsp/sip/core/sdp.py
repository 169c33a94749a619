"""SDP of GB/T 28181: RFC 4566 lines plus `y=` (SSRC) and `f=` (media description).

`Sdp` is one description, parsed leniently and encoded in the order of the standard's examples;
`offer_live` writes the offer of a live stream, `parse_answer` reads what an answer means.

GB/T 28181-2016 annex F for y and f, annex L (2022 annex D) for RTP over TCP. Lenient where devices
are: any order of lines, bare LF, lines that are no lines, missing rtpmap, setup or y, several media
blocks, y with lost zeros, blanks or more than 32 bits.

y= stands after the media block and before f=: with anything behind it but f= Hikvision devices
refuse TCP offers with 415.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from vsp.errors import Unsupported
from vsp.model.device import MediaTransport
from vsp.sip.core.uri import Malformed

SDP_BYTES_MAX = 16_384
"""One description; real ones have 150 to 600 bytes."""

LINES_MAX = 512
"""Lines of one description."""

PAYLOADS_MAX = 64
"""Payload types of one media line."""

OFFERED_PAYLOADS = ((96, "PS"), (98, "H264"), (97, "MPEG4"))
"""What the examples of the 2016 edition offer, in their order."""

STATIC_PAYLOADS = {
    0: "PCMU",
    4: "G723",
    8: "PCMA",
    9: "G722",
    18: "G729",
    20: "SVACA",
    96: "PS",
    97: "MPEG4",
    98: "H264",
    100: "H265",
}
"""Meaning of a payload type without rtpmap (RFC 3551; 96 and above as GB/T 28181 assigns them).
99 is left out: SVAC by the standard, H.265 in practice."""

PRIVATE_CODECS = frozenset({"DAHUA", "HIKVISION"})
"""rtpmap names of streams that are not PS as the standard means it."""

SSRC_LIMIT = 1 << 32

_MEDIA = re.compile(r"(\w+)\s+(\d{1,5})(?:/\d+)?\s+(\S+)((?:\s+\S+)*)")
_RTPMAP = re.compile(r"(\d{1,3})\s+([^\s/]+)(?:/(\d+))?")
_CONNECTION = re.compile(r"IN\s+IP[46]\s+([^\s/]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Media:
    """One `m=` block.

    protocol    as written, `RTP/AVP` or `TCP/RTP/AVP`
    names       payload type -> encoding name, upper case, from rtpmap or by custom
    host        its own `c=`, "" when it has none
    attributes  every other `a=` as (name, value)
    """

    kind: str
    port: int
    protocol: str
    payloads: tuple[int, ...]
    names: tuple[tuple[int, str], ...] = ()
    direction: str = ""
    setup: str = ""
    connection: str = ""
    host: str = ""
    attributes: tuple[tuple[str, str], ...] = ()

    @property
    def tcp(self) -> bool:
        return self.protocol.upper().startswith("TCP")

    def name_of(self, payload: int) -> str:
        """Encoding name of a payload type, "" when unknown."""
        return dict(self.names).get(payload) or STATIC_PAYLOADS.get(payload, "")


@dataclass(frozen=True, slots=True)
class Sdp:
    """One description. ssrc is the value of `y=`, None when absent or unusable."""

    origin: str
    origin_host: str
    session: str
    host: str
    start_s: int = 0
    stop_s: int = 0
    media: tuple[Media, ...] = ()
    ssrc: int | None = None
    media_format: str | None = None
    source: str = ""

    def encode(self) -> bytes:
        """The lines in the order of the standard's examples, CRLF after each."""
        lines = ["v=0", f"o={self.origin} 0 0 IN IP{_family(self.origin_host)} {self.origin_host}"]
        lines.append(f"s={self.session}")
        if self.source:
            lines.append(f"u={self.source}")
        lines.append(f"c=IN IP{_family(self.host)} {self.host}")
        lines.append(f"t={self.start_s} {self.stop_s}")
        for media in self.media:
            lines += _media_lines(media)
        if self.ssrc is not None:
            lines.append(f"y={self.ssrc:010d}")
        if self.media_format is not None:
            lines.append(f"f={self.media_format}")
        return "".join(f"{line}\r\n" for line in lines).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer means for media.

    host, port  where the sender's media comes from, or (TCP active) where it listens
    transport   from the platform's point of view
    ssrc        of `y=`, None when the answer has none: then the offered one counts
    payloads    payload type -> encoding name, those that we can take
    """

    host: str
    port: int
    transport: MediaTransport
    ssrc: int | None
    payloads: tuple[tuple[int, str], ...]


def offer_live(
    platform_id: str,
    host: str,
    port: int,
    transport: MediaTransport,
    ssrc: int,
    *,
    media_format: str | None = None,
    stream_number: int | None = None,
    payloads: Sequence[tuple[int, str]] = OFFERED_PAYLOADS,
) -> bytes:
    """The INVITE body of a live stream (GB/T 28181-2016 9.2).

    media_format   value of `f=`, left out by default: devices ignore it or stumble over it
    stream_number  `a=streamnumber`, 0 main, 1 sub stream (2022)
    """
    attributes = () if stream_number is None else (("streamnumber", str(stream_number)),)
    media = Media(
        kind="video",
        port=port,
        protocol="RTP/AVP" if transport is MediaTransport.UDP else "TCP/RTP/AVP",
        payloads=tuple(number for number, _ in payloads),
        names=tuple(payloads),
        direction="recvonly",
        setup=_OFFERED_SETUP[transport],
        connection="" if transport is MediaTransport.UDP else "new",
        attributes=attributes,
    )
    offer = Sdp(platform_id, host, "Play", host, 0, 0, (media,), ssrc, media_format)
    return offer.encode()


_OFFERED_SETUP = {
    MediaTransport.UDP: "",
    MediaTransport.TCP_PASSIVE: "passive",
    MediaTransport.TCP_ACTIVE: "active",
}
"""`setup` names the role of who writes it (GB/T 28181-2016 annex L)."""


def parse_answer(body: bytes, offered: MediaTransport) -> Answer:
    """What an answer means. Raises Malformed (no SDP), Unsupported (no media we can take).

    A missing or repeated `setup` is read as the complement of the offer: some devices send our own
    role back. A transport that was not offered is refused.
    """
    sdp = parse_sdp(body)
    media = next((item for item in sdp.media if item.port and item.kind == "video"), None)
    if media is None:
        media = next((item for item in sdp.media if item.port), None)
    if media is None:
        raise Unsupported("answer without a media line, or with port 0")
    if media.tcp != (offered is not MediaTransport.UDP):
        raise Unsupported(f"answer over {media.protocol}, which was not offered")
    payloads = [(number, media.name_of(number)) for number in media.payloads]
    private = [name for _, name in payloads if name in PRIVATE_CODECS]
    usable = tuple((number, name) for number, name in payloads if name and name not in private)
    if not usable:
        raise Unsupported(f"answer offers only {', '.join(private) or 'unknown payloads'}")
    host = media.host or sdp.host or sdp.origin_host
    if not host:
        raise Malformed("answer without an address")
    return Answer(host, media.port, offered, sdp.ssrc, usable)


# ---- parsing --------------------------------------------------------------------------------


class _Reader:
    """Collects lines; the last `m=` block is open until the next one."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.media: list[_OpenMedia] = []

    def line(self, kind: str, value: str) -> None:
        if kind == "m":
            found = _MEDIA.fullmatch(value)
            if found is not None and int(found[2]) <= 65535:
                self.media.append(_OpenMedia(found))
        elif kind == "a" and self.media:
            self.media[-1].attribute(value)
        elif kind == "c" and self.media:
            self.media[-1].host = _address(value)
        else:
            self.values.setdefault(kind, value)


class _OpenMedia:
    def __init__(self, found: re.Match[str]) -> None:
        self.kind = found[1].lower()
        self.port = int(found[2])
        self.protocol = found[3]
        numbers = [int(part) for part in found[4].split() if re.fullmatch(r"\d{1,3}", part)]
        self.payloads = tuple(number for number in numbers if number < 128)[:PAYLOADS_MAX]
        self.host = ""
        self.names: dict[int, str] = {}
        self.known = {"setup": "", "connection": "", "direction": ""}
        self.attributes: list[tuple[str, str]] = []

    def attribute(self, text: str) -> None:
        name, _, value = text.partition(":")
        name, value = name.strip().lower(), value.strip()
        mapped = _RTPMAP.match(value) if name == "rtpmap" else None
        if mapped is not None:
            if len(self.names) < PAYLOADS_MAX:
                self.names[int(mapped[1])] = mapped[2].upper()
        elif name in {"recvonly", "sendonly", "sendrecv", "inactive"}:
            self.known["direction"] = name
        elif name in {"setup", "connection"}:
            self.known[name] = value.lower()
        else:
            self.attributes.append((name, value))

    def close(self) -> Media:
        return Media(
            kind=self.kind,
            port=self.port,
            protocol=self.protocol,
            payloads=self.payloads,
            names=tuple(self.names.items()),
            direction=self.known["direction"],
            setup=self.known["setup"],
            connection=self.known["connection"],
            host=self.host,
            attributes=tuple(self.attributes),
        )


def parse_sdp(body: bytes) -> Sdp:
    """Read a description. Raises Malformed and nothing else, whatever the bytes."""
    if len(body) > SDP_BYTES_MAX:
        raise Malformed(f"SDP of {len(body)} bytes")
    text = body.decode("utf-8", "replace").replace("\x00", "")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if len(lines) > LINES_MAX:
        raise Malformed(f"SDP of {len(lines)} lines")
    reader = _Reader()
    for line in lines:
        kind, equals, value = line.strip().partition("=")
        if equals and len(kind.strip()) == 1:
            reader.line(kind.strip().lower(), value.strip())
    values = reader.values
    if not reader.media and not {"v", "o", "s"} & values.keys():
        raise Malformed("body is no SDP")
    origin = values.get("o", "").split()
    start_s, stop_s = _times(values.get("t", ""))
    return Sdp(
        origin=origin[0] if origin else "",
        origin_host=origin[5] if len(origin) > 5 else "",
        session=values.get("s", ""),
        host=_address(values.get("c", "")),
        start_s=start_s,
        stop_s=stop_s,
        media=tuple(item.close() for item in reader.media),
        ssrc=_ssrc(values.get("y")),
        media_format=values.get("f"),
        source=values.get("u", ""),
    )


def _ssrc(text: str | None) -> int | None:
    """`y=` as a number: ten digits, of which leading zeros and even more may be lost."""
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 12:
        return None
    value = int(text)
    return value if value < SSRC_LIMIT else None


def _address(text: str) -> str:
    found = _CONNECTION.search(text)
    return "" if found is None else found[1]


def _times(text: str) -> tuple[int, int]:
    parts = [part for part in text.split() if part.isascii() and part.isdigit() and len(part) < 13]
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 else (0, 0)


def _family(host: str) -> int:
    return 6 if ":" in host else 4


def _media_lines(media: Media) -> list[str]:
    numbers = " ".join(str(number) for number in media.payloads)
    lines = [f"m={media.kind} {media.port} {media.protocol} {numbers}"]
    if media.host:
        lines.append(f"c=IN IP{_family(media.host)} {media.host}")
    if media.direction:
        lines.append(f"a={media.direction}")
    for number, name in media.names:
        lines.append(f"a=rtpmap:{number} {name}/{_CLOCKS.get(name, 90_000)}")
    if media.setup:
        lines.append(f"a=setup:{media.setup}")
    if media.connection:
        lines.append(f"a=connection:{media.connection}")
    lines += [f"a={name}:{value}" if value else f"a={name}" for name, value in media.attributes]
    return lines


_CLOCKS = {"PCMA": 8_000, "PCMU": 8_000, "G723": 8_000, "G729": 8_000, "G722": 8_000}


__all__ = [
    "Answer",
    "Media",
    "Sdp",
    "offer_live",
    "parse_answer",
    "parse_sdp",
]
