"""MPEG program stream as GB/T 28181 devices send it -> access units.

GB/T 28181-2016 annex C.1 (2022: annex C) over ISO 13818-1 2.5. A picture is one pack: pack header,
on key pictures system header and stream map, then PES. What is read here is a stream of bytes that
RTP happens to cut: where packets begin and end, and what their marker says, only decides *when* the
bytes are looked at. Units are followed by their lengths and never searched for, except after a
loss or where a length is wrong; then the next pack header counts.

Each tolerance has a name, collected in `oddities` for the trace of the device.
"""

from __future__ import annotations

from vsp.media.core.assembler import FRAME_BYTES_MAX, Hint, PictureAssembler
from vsp.media.core.au import AccessUnit
from vsp.media.core.audio import AudioAssembler, codec_of_stream_type
from vsp.media.core.timeline import Timeline
from vsp.model.stream import VideoCodec

START = b"\0\0\1"
PACK = b"\0\0\1\xba"

END, PACK_ID, SYSTEM, MAP = 0xB9, 0xBA, 0xBB, 0xBC
VIDEO_IDS = range(0xE0, 0xF0)
AUDIO_IDS = range(0xC0, 0xE0)

BUFFER_BYTES_MAX = FRAME_BYTES_MAX + (1 << 20)
"""What may wait for the rest of a unit: a picture in one PES without length, and its headers."""

PARSE_STEP_BYTES = 65_536
"""Without any hint the bytes are looked at each time this much has come: one full PES."""

MAP_ENTRIES_MAX = 16
"""Streams read of one map: GB/T 28181 has two, NVRs with several cameras a handful."""

OTHER_ID_PATIENCE = 100
"""PES of another video id without one of ours, until the other is taken: four seconds."""

_VIDEO_TYPES = {
    0x1B: VideoCodec.H264,
    0x24: VideoCodec.H265,
    0x10: VideoCodec.OTHER,
    0x80: VideoCodec.OTHER,
    0x01: VideoCodec.OTHER,
    0x02: VideoCodec.OTHER,
}
"""stream_type (GB/T 28181-2016 annex C.1.5; 0x24 of ISO 13818-1, used by every H.265 device)."""


class PsDemuxer:
    """`push` the payloads of PS packets in order; never raises on what a device sends.

    oddities         names of the deviations met, e.g. "psm-missing", "psm-wrong-codec",
                     "pes-length-0", "pes-length-wrong", "bare-pack-header", "mpeg-ts"
    damaged_frames   pictures marked damaged
    skipped_bytes    bytes that belonged to no unit
    """

    def __init__(self) -> None:
        self.skipped_bytes = 0
        self.oddities: set[str] = set()
        self._out: list[AccessUnit] = []
        self.clock = Timeline()
        sound = Timeline(master=self.clock)
        self._video = PictureAssembler(self.clock, self._out, self.oddities)
        self._audio = AudioAssembler(sound, self._out, self.oddities)
        self._video_id = self._audio_id = 0
        self._other_ids = 0
        self._map = b""
        self._synced = False
        self._ts: int | None = None
        self._parts: list[bytes] = []
        self._size = 0
        self._need = 0
        self._scanned = 0
        self._begun = (0, 0)
        self._latest = (0, 0)

    @property
    def damaged_frames(self) -> int:
        """Pictures marked damaged so far."""
        return self._video.damaged

    @property
    def buffered_bytes(self) -> int:
        """What waits for the rest of its unit."""
        return self._size

    def push(
        self,
        payload: bytes | memoryview,
        ts: int,
        marker: bool,
        lost: bool = False,
        arrival_us: int = 0,
    ) -> list[AccessUnit]:
        """Payload of one RTP packet, or of several joined that have the same timestamp."""
        data = payload if isinstance(payload, bytes) else bytes(payload)
        at_pack = data.startswith(PACK)
        if lost:
            self._lose()
        elif self._size and (at_pack or ts != self._ts):
            self._parse(closed=at_pack)
        if not self._size:
            if ts != self._ts:
                self._video.hint(Hint.TIMESTAMP)
            self._begun = (ts, arrival_us)
        self._ts = ts
        self._latest = (ts, arrival_us)
        self._parts.append(data)
        self._size += len(data)
        if marker and self._size >= self._need:
            self._parse()
            if not self._size:
                self._video.hint(Hint.MARKER)
        elif self._size >= self._need + PARSE_STEP_BYTES:
            self._parse()
        return self._take()

    def pause(self) -> list[AccessUnit]:
        """The sender rests: a picture that seems to be over leaves."""
        self._video.pause()
        return self._take()

    def flush(self) -> list[AccessUnit]:
        """The stream is over: what is buffered is used as far as it goes."""
        self._parse(closed=True)
        self._video.flush()
        return self._take()

    def _take(self) -> list[AccessUnit]:
        if not self._out:
            return []
        out = self._out.copy()
        self._out.clear()
        return out

    # ---- the buffer ----

    def _parse(self, closed: bool = False, lossy: bool = False) -> None:
        """Take whole units off the buffer.

        closed  nothing more of the unit at the buffer's end will come: a pack header is next
        lossy   because it was lost, so that even a PES without length is not whole
        """
        parts = self._parts
        buffer = parts[0] if len(parts) == 1 else b"".join(parts)
        at, size = 0, len(buffer)
        self._need = 0
        while size - at >= 4:
            end = self._unit(buffer, at, closed, lossy)
            if end <= at:
                break
            at, self._scanned = end, 0
        if closed and at < size:
            self.skipped_bytes += size - at
            at, self._scanned, self._need = size, 0, 0
        if at:
            self._begun = self._latest
        self._parts = [buffer[at:]] if at < size else []
        self._size = size - at
        if self._size > BUFFER_BYTES_MAX:
            self.oddities.add("unit-too-large")
            self.skipped_bytes += self._size
            self._parts, self._size, self._need, self._scanned = [], 0, 0, 0
            self._break()

    def _lose(self) -> None:
        """Whole units before the loss are good; the one it hit is cut short."""
        self._parse(closed=True, lossy=True)
        self._break()

    def _break(self) -> None:
        """Something is missing here. Go on at the next pack header."""
        self._video.broken()
        self._audio.broken()
        self._synced = False

    # ---- units ----

    def _unit(self, buffer: bytes, at: int, closed: bool, lossy: bool) -> int:
        """Handle the unit at `at`; returns its end, or `at` if it is not all there."""
        if not self._synced or not buffer.startswith(START, at) or buffer[at + 3] < END:
            at = self._resynchronise(buffer, at)
            return self._pack_header(buffer, at) if self._synced else at
        code = buffer[at + 3]
        if code == PACK_ID:
            return self._pack_header(buffer, at)
        if code == END:
            return at + 4
        if len(buffer) - at < 6:
            return at
        length = buffer[at + 4] << 8 | buffer[at + 5]
        end = at + 6 + length
        if code in VIDEO_IDS and (length == 0 or _is_wrong(buffer, end)):
            return self._endless(buffer, at, length, closed, lossy)
        if end > len(buffer):
            self._need = end - at
            if not closed or code not in VIDEO_IDS:
                return at
            self._video_pes(buffer, at, len(buffer), whole=False)
            return len(buffer)
        if code in VIDEO_IDS:
            self._video_pes(buffer, at, end)
        elif code in AUDIO_IDS:
            self._audio_pes(buffer, at, end)
        elif code == MAP:
            self._stream_map(buffer[at:end])
        return end

    def _pack_header(self, buffer: bytes, at: int) -> int:
        """14 bytes and stuffing (ISO 13818-1 2.5.3.3), or the 12 of MPEG-1 (ISO 11172-1 2.4.3.2).

        SCR and mux rate are not looked at: many devices write nonsense. Some Hikvision H.265
        firmware sends the four bytes alone, straight before the PES.
        """
        if len(buffer) < at + 7:
            return at
        if buffer.startswith(START, at + 4):
            self.oddities.add("bare-pack-header")
            return at + 4
        if buffer[at + 4] >> 4 == 2:
            end = at + 12
        elif len(buffer) < at + 14:
            return at
        else:
            end = at + 14 + (buffer[at + 13] & 7)
        return end if end <= len(buffer) else at

    def _resynchronise(self, buffer: bytes, at: int) -> int:
        """Skip to the next pack header, or to what may be the beginning of one.

        In a stream that was in step, skipped zeros are stuffing; anything else is damage that
        nobody reported (senders that overwrite their own TCP buffer).
        """
        found = _find_pack(buffer, at)
        to = found if found >= 0 else len(buffer) - 3
        if self._synced and any(buffer[at:to]):
            self.oddities.add("garbage-between-packs")
            self._break()
        if buffer[at] == 0x47 and buffer[at + 188 : at + 189] == b"\x47":
            self.oddities.add("mpeg-ts")
        self._synced = found >= 0
        self.skipped_bytes += to - at
        return to

    def _endless(self, buffer: bytes, at: int, length: int, closed: bool, lossy: bool) -> int:
        """A video PES whose length is 0 (legal in TS only) or does not lead to a start code.

        It ends at the next pack header: within video data 000001BA cannot occur, while E0 and C0
        can. Where more than 65,535 bytes were counted in 16 bits, all of them are the picture.
        """
        found = buffer.find(PACK, at + max(6 + length, self._scanned))
        if found < 0 and not closed:
            self._scanned = max(len(buffer) - at - 3, 0)
            self._need = len(buffer) - at + PARSE_STEP_BYTES // 4
            return at
        end = found if found >= 0 else len(buffer)
        whole = found >= 0 or not lossy
        if length == 0:
            self.oddities.add("pes-length-0")
        elif (end - at - 6 - length) % 65_536:
            self.oddities.add("garbage-between-packs")
            self._video_pes(buffer, at, at + 6 + length)
            self.skipped_bytes += end - at - 6 - length
            self._break()
            return end
        else:
            self.oddities.add("pes-length-wrong")
        self._video_pes(buffer, at, end, whole)
        return end

    # ---- contents ----

    def _video_pes(self, buffer: bytes, at: int, end: int, whole: bool = True) -> None:
        code = buffer[at + 3]
        if code != self._video_id and not self._takes(code):
            return
        self._other_ids = 0
        if not self._map:
            self.oddities.add("psm-missing")
        begin, pts, dts = _pes_header(buffer, at, end)
        if begin < end:
            self._video.add(buffer[begin:end], pts, dts, *self._begun)
            if not whole:
                self._video.cut()

    def _audio_pes(self, buffer: bytes, at: int, end: int) -> None:
        code = buffer[at + 3]
        if not self._audio_id:
            self._audio_id = code
        if code == self._audio_id:
            begin, pts, _ = _pes_header(buffer, at, end)
            self._audio.add(buffer[begin:end], pts, *self._begun)

    def _takes(self, code: int) -> bool:
        """The first video id is ours; another only when ours has gone (several cameras in one)."""
        if self._video_id:
            self.oddities.add("several-video-ids")
            self._other_ids += 1
            if self._other_ids < OTHER_ID_PATIENCE:
                return False
            self._video.flush()
        self._video_id = code
        return True

    def _stream_map(self, unit: bytes) -> None:
        """Program stream map (ISO 13818-1 2.5.4). Its CRC is wrong on some devices: not enforced.

        Vendor descriptors whose lengths disagree are cut off at the map's own length.
        """
        if unit == self._map or len(unit) < 16:
            return
        self._map = unit
        at = 12 + (unit[8] << 8 | unit[9])
        last = len(unit) - 4
        if at > last:
            self.oddities.add("psm-broken")
            return
        last = min(last, at + (unit[at - 2] << 8 | unit[at - 1]))
        streams: dict[int, int] = {}
        for _ in range(MAP_ENTRIES_MAX):
            if at + 4 > last:
                break
            streams.setdefault(unit[at + 1], unit[at])
            at += 4 + (unit[at + 2] << 8 | unit[at + 3])
        if at != last:
            self.oddities.add("psm-broken")
        self._choose_streams(streams)

    def _choose_streams(self, streams: dict[int, int]) -> None:
        video = [code for code in streams if code in VIDEO_IDS]
        audio = [code for code in streams if code in AUDIO_IDS]
        if video and self._video_id not in video:
            self._video_id = video[0]
        if audio and self._audio_id not in audio:
            self._audio_id = audio[0]
        video_codec = _VIDEO_TYPES.get(streams.get(self._video_id, -1))
        audio_codec = codec_of_stream_type(streams.get(self._audio_id, -1))
        if video_codec is not None:
            self._video.declare(video_codec)
        elif video:
            self.oddities.add("stream-type-unknown")
        if audio_codec is not None:
            self._audio.declare(audio_codec)
        elif audio:
            self.oddities.add("stream-type-unknown")


def _is_wrong(buffer: bytes, end: int) -> bool:
    """What follows is there and is no start code, so the length was wrong."""
    return end + 3 <= len(buffer) and not buffer.startswith(START, end)


def _find_pack(buffer: bytes, at: int) -> int:
    """The next pack header from `at` on, by its start code and the marker bits after it."""
    found = buffer.find(PACK, at)
    while 0 <= found < len(buffer) - 4:
        following = buffer[found + 4]
        if following >> 6 == 1 or following >> 4 == 2 or buffer.startswith(START, found + 4):
            return found
        found = buffer.find(PACK, found + 1)
    return found


def _pes_header(buffer: bytes, at: int, end: int) -> tuple[int, int | None, int | None]:
    """(where the payload begins, PTS, DTS) of ISO 13818-1 2.4.3.6, or of MPEG-1."""
    if at + 9 > end or buffer[at + 6] >> 6 != 2:
        return _mpeg1_pes_header(buffer, at + 6, end)
    flags = buffer[at + 7] >> 6
    begin = at + 9 + buffer[at + 8]
    if begin > end:
        # A header length past the end is taken for nonsense, not for an empty payload.
        begin = min(at + 9 + (0, 0, 5, 10)[flags], end)
    pts = _timestamp(buffer, at + 9) if flags & 2 and at + 14 <= begin else None
    dts = _timestamp(buffer, at + 14) if flags == 3 and at + 19 <= begin else None
    return begin, pts, dts


def _mpeg1_pes_header(buffer: bytes, at: int, end: int) -> tuple[int, int | None, int | None]:
    """Stuffing, buffer size, timestamps (ISO 11172-1 2.4.3.3). Not conforming: all is payload."""
    begin = at
    while at < end and buffer[at] == 0xFF and at - begin < 16:
        at += 1
    if at + 2 < end and buffer[at] >> 6 == 1:
        at += 2
    kind = buffer[at] >> 4 if at < end else 0
    if kind == 2 and at + 5 <= end:
        return at + 5, _timestamp(buffer, at), None
    if kind == 3 and at + 10 <= end:
        return at + 10, _timestamp(buffer, at), _timestamp(buffer, at + 5)
    if at < end and buffer[at] == 0x0F:
        return at + 1, None, None
    return begin, None, None


def _timestamp(buffer: bytes, at: int) -> int:
    """33 bits in five bytes with marker bits between, which are not checked."""
    return (
        (buffer[at] & 0x0E) << 29
        | buffer[at + 1] << 22
        | (buffer[at + 2] & 0xFE) << 14
        | buffer[at + 3] << 7
        | buffer[at + 4] >> 1
    )
