"""A row made from its object alone, when whoever wrote the object can no longer say.

An object is published only whole, so whatever lies under a key of ours is as much of that segment
as anybody has: it is never replaced, it is read. What an object does not know is when its pictures
arrived: wall time is counted from the start in its key by media time, which differs from arrival by
what the camera's clock drifts in a minute. An object that was completed from an upload that nobody
finished may end within a box; what is whole before that is the segment.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import AsyncIterator

from vsp.errors import DataLoss, Invalid
from vsp.media.core.au import CLOCK_HZ
from vsp.media.core.fmp4 import FragmentInfo, Init, Sample, iter_fragments, parse_init
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import Container, EndReason, Segment
from vsp.model.stream import AudioCodec, VideoCodec
from vsp.ports import ObjectInfo, ObjectStore

READ_BYTES = 4 << 20
"""Bytes read at a time."""

BOX_BYTES_MAX = 64 << 20
"""Longest box of ours: a fragment is two seconds, so this is 250 Mbit/s."""

_KEY = re.compile(r"v1/([0-9A-Za-z_-]{1,64})/\d{4}/\d\d/\d\d/(\d{1,16})-(\d{1,16})-(\d{1,9})\.mp4")


async def read_segment(objects: ObjectStore, info: ObjectInfo) -> Segment:
    """The row of an object. Raises Invalid when it is not one of ours, DataLoss, NotFound."""
    named = _KEY.fullmatch(info.key)
    if named is None:
        raise Invalid(f"{info.key} is not the key of a recording")
    reading = _Reading()
    async for box in _top_boxes(objects, info, reading.digest):
        reading.take(box)
    channel, start_us, run_us, n = named.groups()
    return reading.row(
        info, ChannelId(channel), UtcMicros(int(start_us)), UtcMicros(int(run_us)), int(n)
    )


async def _top_boxes(
    objects: ObjectStore, info: ObjectInfo, digest: hashlib._Hash
) -> AsyncIterator[bytes]:
    """Each whole box of the outermost level; every byte goes through `digest`."""
    held = bytearray()
    read = 0
    while read < info.size_bytes or held:
        size = _box_size(held)
        while size is None or len(held) < size:
            length = min(READ_BYTES, info.size_bytes - read)
            if not length:
                return
            piece = await objects.read(info.key, read, length)
            digest.update(piece)
            held += piece
            read += length
            size = _box_size(held)
        yield bytes(held[:size])
        del held[:size]


def _box_size(data: bytearray) -> int | None:
    if len(data) < 8:
        return None
    size: int = struct.unpack_from(">I", data)[0]
    if not 8 <= size <= BOX_BYTES_MAX:
        raise Invalid(f"an MP4 box of {size} bytes is not one of ours")
    return size


class _Reading:
    """What has been read of an object."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self._offset = 0
        self._head = b""
        self._init: Init | None = None
        self._moof = b""
        self._fragments: list[tuple[int, int, FragmentInfo]] = []

    def take(self, box: bytes) -> None:
        """The next box of the outermost level."""
        kind = box[4:8]
        if kind == b"moof":
            self._moof = box
        elif kind == b"mdat" and self._moof:
            data = self._moof + box
            [fragment] = iter_fragments(data)
            self._fragments.append((self._offset - len(self._moof), len(data), fragment))
            self._moof = b""
        elif self._init is None:
            self._head += box
            if kind == b"moov":
                self._init = parse_init(self._head)
        self._offset += len(box)

    def row(
        self, info: ObjectInfo, channel_id: ChannelId, start_us: UtcMicros, run: UtcMicros, n: int
    ) -> Segment:
        if self._init is None or not self._fragments:
            raise DataLoss(f"{info.key} holds no media")
        video = next((t for t in self._init.tracks if t.kind == "video"), None)
        sound = next((t for t in self._init.tracks if t.kind == "audio"), None)
        first = video or self._init.tracks[0]
        pictures = [fragment.samples.get(first.id, []) for _, _, fragment in self._fragments]
        shown = [sample for samples in pictures for sample in samples]
        if not shown:
            raise DataLoss(f"{info.key} holds no picture")
        start_90k = shown[0].dts_90k
        duration_90k = shown[-1].dts_90k + shown[-1].duration_90k - start_90k
        return Segment(
            channel_id=channel_id,
            key=info.key,
            container=Container.MP4,
            run=run,
            n=n,
            start_us=start_us,
            end_us=UtcMicros(start_us + max(1, duration_90k * 1_000_000 // CLOCK_HZ)),
            start_90k=start_90k,
            duration_90k=duration_90k,
            size_bytes=info.size_bytes,
            sha256=self.digest.hexdigest(),
            init_bytes=self._init.size,
            fragments=self._table(pictures, start_90k),
            video=video.codec if video and isinstance(video.codec, VideoCodec) else None,
            audio=sound.codec if sound and isinstance(sound.codec, AudioCodec) else None,
            codecs=",".join(track.codec_string for track in self._init.tracks),
            width=video.width if video else 0,
            height=video.height if video else 0,
            frames=len(shown),
            damaged_frames=0,
            end_reason=EndReason.WORKER_LOST,
        )

    def _table(
        self, pictures: list[list[Sample]], start_90k: int
    ) -> tuple[tuple[int, int, int], ...]:
        """As `SpooledSegment.table`: one entry for each key picture, reaching to the next one."""
        entries: list[tuple[int, int, int]] = []
        for (offset, length, _), samples in zip(self._fragments, pictures, strict=True):
            if not entries or (samples and samples[0].key):
                since_90k = samples[0].dts_90k - start_90k if samples else 0
                entries.append((since_90k * 1000 // CLOCK_HZ, offset, length))
            else:
                start_ms, begin, so_far = entries[-1]
                entries[-1] = (start_ms, begin, so_far + length)
        return tuple(entries)


__all__ = ["read_segment"]
