"""Cutting a TCP byte stream into SIP messages by Content-Length (RFC 3261 18.3).

`feed` returns whole messages for `parse_message`, and `PING` for each CRLF CRLF between them
(RFC 5626 3.5.1). Deviations, counted in `resyncs`:

    length too large   while bytes are awaited, or when what follows is no start line, a start line
                       inside the body ends the message there
    length too small   an XML or SDP body that follows a shorter length is given with its message,
                       as far as it has come (Hikvision, Dahua: 0 with a body present)
    junk               skipped up to the next start line

A body that is awaited is searched only once, so that a slow large message costs no more than its
length.
"""

from __future__ import annotations

import re

from vsp.sip.core.message import HEAD_BYTES_MAX, STREAM_BYTES_MAX
from vsp.sip.core.uri import Malformed

PING = b"\r\n\r\n"

START_BYTES_MAX = 2_400
"""Bytes in which a start line must show itself: method, a URI of at most 2,048, version, reason."""

JUNK_BYTES_MAX = 65_535
"""Junk in a row after which a connection is given up: as much as one wrong body may be."""

_LINE = rb"(?:[A-Za-z]{2,16} [^\s\x00]{1,2048} SIP/\d\.\d|SIP/2\.0 [1-6]\d\d(?: [^\r\n]{0,256})?)"
_START = re.compile(_LINE + rb"[ \t]*\r?\n")
_INSIDE = re.compile(
    rb"[\n>\x00]((?:[A-Z]{2,16} sips?:[^\s\x00]{1,2048} SIP/2\.0|SIP/2\.0 [1-6]\d\d [^\r\n]{0,256})"
    rb"\r?\n(?:Via|v|From|f|To|t|Call-ID|i|CSeq)[ \t]*:)",
    re.IGNORECASE,
)
_KNOWN = re.compile(
    rb"(?:REGISTER|MESSAGE|INVITE|ACK|BYE|CANCEL|OPTIONS|INFO|SUBSCRIBE|NOTIFY) |SIP/2\.0 ", re.I
)
"""Beyond doubt the beginning of a start line, not the rest of one cut by a length too large."""

_BODY_STARTS = (b"<", b"v=0")
_LENGTH = re.compile(rb"\n(?:content-length|l)[ \t]*:[ \t]*(\d{1,10})[ \t]*\r?(?:\n|$)", re.I)
_HEAD_END = re.compile(rb"\n\r?\n")


class StreamFramer:
    """The bytes of one connection that are not a whole message yet; bounded by one message."""

    def __init__(self) -> None:
        self.resyncs = 0
        self._buffer = bytearray()
        self._wanted = 0
        self._searched = 0
        self._junk = 0

    @property
    def buffered(self) -> int:
        """Bytes held back."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, give messages. Raises Malformed when the stream is beyond saving."""
        self._buffer += data
        messages: list[bytes] = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> bytes | None:
        """The next message or ping, None when more bytes are needed."""
        buffer = self._buffer
        while buffer and buffer[0] in b"\r\n\x00":
            if buffer.startswith(PING):
                return self._take(4)
            if PING.startswith(bytes(buffer)):
                return None
            del buffer[:1]
        if not buffer or (not _START.match(buffer) and not self._find_start()):
            return None
        self._junk = 0
        body = self._body_start()
        if body is None:
            return None
        declared = _LENGTH.search(buffer, 0, body)
        length = 0 if declared is None else int(declared[1])
        if length > STREAM_BYTES_MAX:
            raise Malformed(f"Content-Length of {length}")
        if len(buffer) < body + length:
            return self._cut_inside(body)
        return self._take(self._end(body, body + length))

    def _take(self, end: int) -> bytes:
        message = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._searched = 0
        return message

    def _find_start(self) -> bool:
        """Skip junk up to a start line. False when none has come yet."""
        buffer = self._buffer
        if b"\n" not in buffer[:START_BYTES_MAX] and len(buffer) < START_BYTES_MAX:
            return False
        found = _INSIDE.search(buffer)
        skip = found.start(1) if found else max(0, len(buffer) - START_BYTES_MAX)
        self._junk += skip
        if self._junk > JUNK_BYTES_MAX:
            raise Malformed(f"{self._junk} bytes that are no SIP")
        if found:
            self.resyncs += 1
        del buffer[:skip]
        return found is not None

    def _body_start(self) -> int | None:
        """Where the body begins, None while the headers are not whole."""
        buffer = self._buffer
        found = buffer.find(b"\r\n\r\n")
        bare = _HEAD_END.search(buffer, 0, found + 4 if found >= 0 else len(buffer))
        if bare is None:
            if len(buffer) > HEAD_BYTES_MAX:
                raise Malformed("headers without end")
            return None
        return bare.end()

    def _cut_inside(self, body: int) -> bytes | None:
        """Bytes are missing. Has the next message begun already, within this one's body?"""
        buffer = self._buffer
        found = _INSIDE.search(buffer, max(body - 1, self._searched - START_BYTES_MAX))
        self._searched = len(buffer)
        if found is None:
            return None
        self.resyncs += 1
        return self._take(found.start(1))

    def _end(self, body: int, end: int) -> int:
        """Where the message really ends, given where its Content-Length says."""
        buffer = self._buffer
        rest = bytes(buffer[end : end + START_BYTES_MAX]).lstrip(b"\r\n\x00 ")
        a_body = rest.startswith(_BODY_STARTS)
        unclear = b"\n" not in rest and len(rest) < START_BYTES_MAX
        if not a_body and (unclear or (_KNOWN.match(rest) and _START.match(rest))):
            return end
        inside = _INSIDE.search(buffer, body - 1, end + START_BYTES_MAX)
        if inside is not None and inside.start(1) < end:
            self.resyncs += 1
            return inside.start(1)
        if a_body:
            self.resyncs += 1
            after = _INSIDE.search(buffer, end)
            return after.start(1) if after is not None else len(buffer)
        return end


__all__ = ["JUNK_BYTES_MAX", "PING", "StreamFramer"]
