"""Playback views: recorded segments, paced onto the same media socket as live.

What is read, and from where, is `archive.py`; it reaches up to a few seconds behind live. Bytes are
read by range, one key-framed fragment at a time, and only the picture's track is sent on (MSE
refuses G.711).

Media time. A socket has one media timeline that only grows, so that a player can append for ever:
each fragment's `tfdt` is its recorded decode time plus a shift. The shift is chosen at every
discontinuity (start, seek, gap, new run) such that the fragment begins where the last one sent
ended, and is kept within a run, so that rounding never adds up. `clock` tells after each
discontinuity, and at every segment, which instant a media time stands for; `seek` precedes the
fragments of a new `seq`. Nothing of an older `seq` is sent after it: one task sends everything.

Pacing. A virtual play head runs at the asked rate; fragments are sent until `READ_AHEAD_S` ahead of
it. The reader is pulled by the sender, so nothing queues here but one fragment.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import structlog

from vsp.errors import DataLoss, Exhausted, Invalid, NotFound, VspError
from vsp.media import messages
from vsp.media.archive import Finder, Part, Source
from vsp.media.core.au import CLOCK_HZ
from vsp.media.core.fmp4 import Track, init_segment, iter_fragments, parse_init, remux
from vsp.media.hub import InitPiece, Piece
from vsp.media.live import Socket, View, last_words, send_all, send_item
from vsp.media.messages import Message
from vsp.model.ids import UtcMicros
from vsp.model.recording import Segment
from vsp.model.stream import ViewSpec
from vsp.ports import Clock

log = structlog.get_logger(__name__)

READ_AHEAD_S = 2.5
"""Media sent before it is due: fills a browser's buffer, yet a seek wastes little."""

EDGE_POLL_S = 0.25
"""Period at which a segment that is being written is looked at for more."""

EDGE_WAIT_S = 10.0
"""An open segment that grows by nothing for this long has no more to play."""

GAP_MIN_US = 200_000
"""Segments closer than this follow each other: arrival times shake by less."""

POSITION_S = 1.0
"""Period of position messages."""

MAPPINGS_MAX = 8
"""Clock announcements remembered, to say where the head is: it is seconds behind what was sent."""

ANSWERS_MAX = 16
"""Complaints about a client's commands that wait to be told; a flood loses its oldest."""


class PlayHead:
    """Where a player that plays at `rate` stands on the media timeline. `now` is monotonic."""

    def __init__(self) -> None:
        self.rate = 1.0
        self.paused = False
        self._at = 0.0
        self._media_s = 0.0

    def position_s(self, now: float) -> float:
        return self._media_s + (0.0 if self.paused else max(0.0, now - self._at) * self.rate)

    def jump(self, now: float, media_s: float) -> None:
        self._at, self._media_s = now, media_s

    def set_rate(self, now: float, rate: float) -> None:
        self.jump(now, self.position_s(now))
        self.rate = rate

    def pause(self, now: float, paused: bool) -> None:
        self.jump(now, self.position_s(now))
        self.paused = paused

    def due_in_s(self, now: float, media_s: float) -> float | None:
        """Seconds until media at `media_s` should be sent; None: not while paused."""
        ahead_s = media_s - self.position_s(now) - READ_AHEAD_S * max(1.0, self.rate)
        if ahead_s <= 0:
            return 0.0
        return None if self.paused else ahead_s / self.rate


class PlaybackView(View):
    """One viewer of a channel's past. Everything is sent by the task that runs `_serve`."""

    def __init__(self, spec: ViewSpec, finder: Finder, clock: Clock) -> None:
        super().__init__(spec)
        assert spec.start_us is not None, "a playback has a start"
        self._finder = finder
        self._clock = clock
        self._head = PlayHead()
        self._seek: messages.Seek | None = messages.Seek(0, spec.start_us)
        self._answers: deque[Message] = deque(maxlen=ANSWERS_MAX)
        self._over = False
        self._woken = asyncio.Event()
        self._seq = 0
        self._init = b""
        self._shift_90k: int | None = None
        self._sent_90k = 0
        self._sequence = 0
        self._mappings: deque[tuple[int, UtcMicros]] = deque(maxlen=MAPPINGS_MAX)
        self._position_at = 0.0

    def feed(self, rows: Sequence[Segment], until_us: UtcMicros) -> None:
        self._finder.feed(rows, until_us)

    def _stop(self) -> None:
        self._over = True
        self._finder.give_up()
        self._woken.set()

    def _leave(self) -> None:
        self._stop()

    def _command(self, text: str) -> None:
        now = self._clock.monotonic()
        try:
            match messages.parse_command(text):
                case messages.Seek() as seek:
                    self._seek = seek
                case messages.Rate(rate):
                    self._head.set_rate(now, rate)
                case messages.Pause(paused):
                    self._head.pause(now, paused)
        except Invalid as error:
            self._answers.append(messages.failure(error))
        self._woken.set()

    @property
    def _interrupted(self) -> bool:
        return self._over or self._seek is not None

    async def _serve(self, socket: Socket) -> None:
        try:
            await send_all(socket, messages.state("playing"))
            while not self._over:
                seek, self._seek = self._seek, None
                if seek is None:
                    await self._sleep(socket, POSITION_S)
                else:
                    await self._play(socket, seek)
        except (OSError, TimeoutError):
            self.failure = self.failure or Exhausted("the viewer takes no more data")
            return
        except VspError as error:
            self.failure = self.failure or error
        if self.failure is not None:
            await send_all(socket, *last_words(self.failure))

    async def _play(self, socket: Socket, asked: messages.Seek) -> None:
        """From an instant on until the end, the next seek, or the viewer's going."""
        self._seq = asked.seq
        self._shift_90k = None
        seek: messages.Seek | None = asked
        at_us = asked.time_us
        before: Source | None = None
        while not self._interrupted:
            source = await self._finder.find(at_us)
            if source is None:
                await send_all(socket, messages.state("ended", "nothing more is recorded"))
                return
            if source.start_us - at_us > GAP_MIN_US:
                await send_all(socket, messages.gap(at_us, source.start_us, "nothing recorded"))
            at_us = max(at_us, source.start_us)
            if before is None or (before.run, before.n + 1) != (source.run, source.n):
                self._shift_90k = None
            try:
                if await self._play_source(socket, source, at_us, seek):
                    seek = None
            except (NotFound, DataLoss, Invalid) as error:
                log.error("stored segment unreadable", key=source.key, why=str(error))
                cause = "a stored segment cannot be read"
                await send_all(socket, messages.gap(at_us, source.end_us, cause))
            at_us, before = max(at_us, source.end_us), source

    async def _play_source(
        self, socket: Socket, source: Source, at_us: UtcMicros, seek: messages.Seek | None
    ) -> bool:
        """Send a segment from the key picture at or before `at_us`. Whether `seek` was told."""
        track = _for_browser(parse_init(await source.init()).tracks)
        told, fresh = False, True
        async with aclosing(self._parts(socket, source, at_us)) as parts:
            async for part in parts:
                data = await source.read(part.offset, part.length)
                for fragment in iter_fragments(data):
                    samples = fragment.samples.get(track.id)
                    if not samples:
                        continue
                    media_90k = self._place(samples[0].dts_90k)
                    if seek is not None and not told:
                        await self._tell_seek(socket, seek, media_90k, part.start_us, at_us)
                        told = True
                    if not await self._wait_until_due(socket, media_90k):
                        return told
                    await self._announce(socket, track, media_90k, part.start_us, fresh)
                    fresh = False
                    piece = data[fragment.offset : fragment.offset + fragment.size]
                    await self._send(socket, piece, track, media_90k, part.start_us)
                    last = samples[-1]
                    self._sent_90k = self._place(last.dts_90k + last.duration_90k)
        return told

    async def _parts(
        self, socket: Socket, source: Source, at_us: UtcMicros
    ) -> AsyncGenerator[Part, None]:
        """Parts from the key picture at or before `at_us`; of a growing segment as they come."""
        parts = source.parts()
        begin = [index for index, part in enumerate(parts) if part.key and part.start_us <= at_us]
        index = begin[-1] if begin else 0
        grown_at = self._clock.monotonic()
        while not self._interrupted:
            parts = source.parts()
            now = self._clock.monotonic()
            if index < len(parts):
                if self.spec.end_us is not None and parts[index].start_us >= self.spec.end_us:
                    return
                yield parts[index]
                index, grown_at = index + 1, now
            elif source.growing and now - grown_at < EDGE_WAIT_S:
                await self._sleep(socket, EDGE_POLL_S)
            else:
                return

    # ---- media time -------------------------------------------------------------------------

    def _place(self, recorded_90k: int) -> int:
        """Recorded decode time on this socket's timeline; after a discontinuity, at its end."""
        if self._shift_90k is None:
            self._shift_90k = self._sent_90k - recorded_90k
        return recorded_90k + self._shift_90k

    async def _tell_seek(
        self,
        socket: Socket,
        seek: messages.Seek,
        media_90k: int,
        start_us: UtcMicros,
        target_us: UtcMicros,
    ) -> None:
        """What follows belongs to `seek.seq`; the head stands at the target, not at the key."""
        await send_all(socket, messages.seek(seek.seq, media_90k, start_us, target_us))
        ahead_s = max(0, target_us - start_us) / 1_000_000
        self._head.jump(self._clock.monotonic(), media_90k / CLOCK_HZ + ahead_s)
        self._mappings.clear()

    async def _announce(
        self, socket: Socket, track: Track, media_90k: int, start_us: UtcMicros, fresh: bool
    ) -> None:
        """Init segment when the format is another one; the clock at the start of each segment."""
        init = init_segment([track])
        if init != self._init:
            self._init = init
            await send_item(socket, InitPiece(messages.init(track, self._seq), init))
        if fresh:
            self._mappings.append((media_90k, start_us))
            await send_all(socket, messages.clock(media_90k, start_us))

    async def _send(
        self, socket: Socket, data: bytes, track: Track, media_90k: int, start_us: UtcMicros
    ) -> None:
        assert self._shift_90k is not None, "the fragment has its place"
        self._sequence += 1
        moved = remux(data, [track.id], self._shift_90k, self._sequence)
        await send_item(socket, Piece(moved, True, media_90k, start_us))

    # ---- waiting ----------------------------------------------------------------------------

    async def _wait_until_due(self, socket: Socket, media_90k: int) -> bool:
        """Sleep until media at `media_90k` should be sent. False when interrupted meanwhile."""
        while not self._interrupted:
            due_in_s = self._head.due_in_s(self._clock.monotonic(), media_90k / CLOCK_HZ)
            if due_in_s == 0.0:
                await self._tell(socket)
                return True
            await self._sleep(socket, POSITION_S if due_in_s is None else due_in_s)
        return False

    async def _sleep(self, socket: Socket, seconds: float) -> None:
        """Until something is commanded, for so long, at most until the next position is due."""
        await self._tell(socket)
        self._woken.clear()
        if self._interrupted or self._answers:
            return
        try:
            async with asyncio.timeout(min(seconds, POSITION_S)):
                await self._woken.wait()
        except TimeoutError:
            return

    async def _tell(self, socket: Socket) -> None:
        """Answers that wait, and once a second how far the play head has come."""
        while self._answers:
            await send_all(socket, self._answers.popleft())
        now = self._clock.monotonic()
        if now - self._position_at < POSITION_S or not self._mappings:
            return
        self._position_at = now
        media_90k = min(int(self._head.position_s(now) * CLOCK_HZ), self._sent_90k)
        begin_90k, begin_us = self._mappings[0]
        for mapping in self._mappings:
            if mapping[0] <= media_90k:
                begin_90k, begin_us = mapping
        at_us = UtcMicros(begin_us + max(0, media_90k - begin_90k) * 1_000_000 // CLOCK_HZ)
        await send_all(socket, messages.position(self._seq, media_90k, at_us))


def _for_browser(tracks: Sequence[Track]) -> Track:
    """The picture's track as MSE wants it: recordings say avc3/hev1, browsers prefer avc1/hvc1."""
    video = next((track for track in tracks if track.kind == "video"), None)
    if video is None:
        raise Invalid("a stored segment has no picture")
    entry = {"avc3": "avc1", "hev1": "hvc1"}.get(video.entry, video.entry)
    return replace(video, entry=entry, codec_string=entry + video.codec_string[4:])
