"""The last SIP messages of each device, as an administrator reads them.

Writing stands in the receive path, so it only keeps bytes; decoding, and the removal of secrets,
are done for the few lines that somebody reads. What must never be shown (digest responses,
passwords in bodies) is removed in `render`, the only way out of here.

Heartbeats are nine tenths of all traffic and would push out what matters, so only the latest few of
a device are kept. Unknown peers share one small ring: they can flood each other only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from vsp.model.ids import DeviceId, UtcMicros
from vsp.ports import TraceLine
from vsp.sip.core.agent import Peer
from vsp.sip.presence import address

LINES_MAX = 500
"""Messages kept for one device: a day of queries and several attempts at a picture."""

BEATS_MAX = 2
"""Heartbeat messages kept for one device: the last one with its answer."""

LINE_BYTES_MAX = 8192
"""Bytes kept of one message: ten catalogue items with their headers. The rest is only counted."""

RING_BYTES_MAX = 256 * 1024
"""Bytes kept for one device in a small fleet."""

RING_BYTES_MIN = 1024
"""Bytes kept for one device in the largest fleet: one INVITE, or a REGISTER with its answer."""

ALL_BYTES_MAX = 64 << 20
"""Bytes that all rings share; each ring's part shrinks as the fleet grows."""

STRANGERS_LINES_MAX = 200
"""Messages kept of all unknown peers together."""

HEAD_SEARCHED = 2048
"""Bytes in which From and To are looked for; they stand among the first headers."""

_BEAT = b"<CmdType>Keepalive"
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_FROM = re.compile(rb"\n(?:From|f)[ \t]*:[^\r\n]{0,200}?sips?:([^@>;\s]{1,64})@", re.IGNORECASE)
_TO = re.compile(rb"\n(?:To|t)[ \t]*:[^\r\n]{0,200}?sips?:([^@>;\s]{1,64})@", re.IGNORECASE)
_CSEQ = re.compile(rb"\nCSeq[ \t]*:[ \t]*\d+[ \t]+(\w+)", re.IGNORECASE)
_COMMAND = re.compile(rb"<CmdType>\s*([\w.-]{1,40})", re.IGNORECASE)
_AUTHORIZATION = re.compile(
    r"^((?:proxy-)?authorization[ \t]*:.*(?:\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE
)
_RESPONSE = re.compile(r'(response[ \t]*=[ \t]*)("[^"\r\n]*"?|[^,\s]+)', re.IGNORECASE)
_PASSWORD = re.compile(
    r"(<[\w:.-]{0,40}(?:password|passwd|pwd|psw)[\w:.-]{0,40}(?:\s[^<>]{0,80})?>)[^<]*",
    re.IGNORECASE,
)
_PASSWORD_VALUE = re.compile(
    r"""(\b\w{0,40}(?:password|passwd|pwd|psw)\w{0,40}\s{0,4}=\s{0,4})("[^"]*"?|'[^']*'?|[^\s&;,<>"']+)""",
    re.IGNORECASE,
)
REMOVED = "(removed)"


class Seen(NamedTuple):
    """One message as it was on the wire, cut to LINE_BYTES_MAX; `size_bytes` is its full length."""

    at_us: UtcMicros
    outgoing: bool
    peer: Peer
    data: bytes
    size_bytes: int


class _Ring:
    """The messages of one device, oldest first, in two lists: heartbeats and the rest.

    Lists, because an empty deque takes 600 bytes, and there are two for each device of the fleet.
    """

    __slots__ = ("_after_beat", "_beats", "_lines", "_lines_max", "_size_bytes")

    def __init__(self, lines_max: int) -> None:
        self._lines: list[Seen] = []
        self._beats: list[Seen] = []
        self._lines_max = lines_max
        self._size_bytes = 0
        self._after_beat = False

    def beats(self, seen: Seen) -> bool:
        """Keep one message apart if it is a heartbeat, or the answer to the one just before it."""
        is_beat = not seen.outgoing and _BEAT in seen.data
        kept = is_beat or (self._after_beat and seen.outgoing and seen.data[:8] == b"SIP/2.0 ")
        if kept:
            self._beats.append(seen)
            if len(self._beats) > BEATS_MAX:
                del self._beats[0]
        self._after_beat = is_beat
        return kept

    def append(self, seen: Seen, bytes_max: int) -> None:
        """Keep one message; what is too old for the bounds goes."""
        if len(seen.data) > bytes_max:
            seen = seen._replace(data=seen.data[:bytes_max])
        lines = self._lines
        lines.append(seen)
        self._size_bytes += len(seen.data)
        drop = max(0, len(lines) - self._lines_max)
        self._size_bytes -= sum(len(old.data) for old in lines[:drop])
        while self._size_bytes > bytes_max:
            self._size_bytes -= len(lines[drop].data)
            drop += 1
        del lines[:drop]

    def newest(self, limit: int) -> list[Seen]:
        """The last `limit` messages, oldest first."""
        both = sorted([*self._lines, *self._beats], key=lambda seen: seen.at_us)
        return both[-limit:] if limit > 0 else []


class TraceBook:
    """All rings. `None` as the device means: a peer that nobody knows."""

    def __init__(self) -> None:
        self._rings: dict[DeviceId, _Ring] = {}
        self._strangers = _Ring(STRANGERS_LINES_MAX)

    def note(
        self,
        device_id: DeviceId | None,
        at_us: UtcMicros,
        outgoing: bool,
        peer: Peer,
        data: bytes,
    ) -> None:
        """Keep one message. Cheap: no decoding."""
        seen = Seen(at_us, outgoing, peer, data[:LINE_BYTES_MAX], len(data))
        if device_id is None:
            self._strangers.append(seen, RING_BYTES_MAX)
            return
        ring = self._rings.get(device_id)
        if ring is None:
            ring = self._rings[device_id] = _Ring(LINES_MAX)
        if not ring.beats(seen):
            ring.append(seen, self._ring_bytes_max())

    def _ring_bytes_max(self) -> int:
        share = ALL_BYTES_MAX // max(1, len(self._rings))
        return max(RING_BYTES_MIN, min(RING_BYTES_MAX, share))

    def lines(self, device_id: DeviceId, limit: int = LINES_MAX) -> Sequence[TraceLine]:
        """The last messages of a device, oldest first, fit for a reader."""
        ring = self._rings.get(device_id)
        return [render(seen) for seen in ring.newest(limit)] if ring else []

    def strangers(self, limit: int = STRANGERS_LINES_MAX) -> Sequence[TraceLine]:
        """The last messages of unknown peers."""
        return [render(seen) for seen in self._strangers.newest(limit)]

    def forget(self, device_id: DeviceId) -> None:
        """The device was removed."""
        self._rings.pop(device_id, None)


def parties(data: bytes) -> tuple[str, str]:
    """User parts of From and To, "" where there is none. For sorting lines only: not a parser."""
    return _party(data, b"\nFrom:", _FROM), _party(data, b"\nTo:", _TO)


def _party(data: bytes, plain: bytes, odd: re.Pattern[bytes]) -> str:
    """One of them: by position in the usual spelling, by pattern in any other."""
    start = data.find(plain, 0, HEAD_SEARCHED)
    if start >= 0:
        line = data[start : data.find(b"\n", start + 1)]
        user = line[line.find(b":", len(plain)) + 1 : line.find(b"@")]
        return user.decode("latin-1") if user.isdigit() else ""
    found = odd.search(data, 0, HEAD_SEARCHED)
    return found[1].decode("latin-1") if found else ""


def render(seen: Seen) -> TraceLine:
    """Decode one message and take out what must not be shown."""
    text = remove_secrets(decode(seen.data))
    if seen.size_bytes > len(seen.data):
        text += f"\n(… {seen.size_bytes - len(seen.data)} more bytes)"
    return TraceLine(seen.at_us, seen.outgoing, address(seen.peer), summary(seen.data), text)


def summary(data: bytes) -> str:
    """One line that names the message: `MESSAGE Catalog`, `401 Unauthorized (REGISTER)`."""
    first = data.split(b"\n", 1)[0].strip().decode("utf-8", "replace")[:120]
    cseq = _CSEQ.search(data)
    method = cseq.group(1).decode("latin-1") if cseq else ""
    if first.startswith("SIP/2.0 "):
        return f"{first[8:]} ({method})" if method else first[8:]
    command = _COMMAND.search(data)
    named = first.split(" ", 1)[0]
    return f"{named} {command.group(1).decode('latin-1')}" if command else named


def decode(data: bytes) -> str:
    """Bytes as text: UTF-8 where they are, else GB18030, which holds GBK and GB2312.

    Head and body apart, since a device may write each its own way (GB/T 28181-2016 6.10,
    2022 4.6 only speak of the body).
    """
    end = _HEAD_END.search(data)
    if end is None:
        return _decode_part(data)
    return _decode_part(data[: end.end()]) + _decode_part(data[end.end() :])


def _decode_part(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("gb18030", "replace").replace("\x00", "")


def remove_secrets(text: str) -> str:
    """Without digest responses and passwords. A response with its nonce can be guessed off line."""
    text = _AUTHORIZATION.sub(lambda m: _RESPONSE.sub(rf'\1"{REMOVED}"', m.group(1)), text)
    text = _PASSWORD.sub(rf"\1{REMOVED}", text)
    return _PASSWORD_VALUE.sub(rf"\1{REMOVED}", text)


__all__ = [
    "BEATS_MAX",
    "HEAD_SEARCHED",
    "LINES_MAX",
    "LINE_BYTES_MAX",
    "REMOVED",
    "RING_BYTES_MAX",
    "RING_BYTES_MIN",
    "STRANGERS_LINES_MAX",
    "Seen",
    "TraceBook",
    "decode",
    "parties",
    "remove_secrets",
    "render",
    "summary",
]
