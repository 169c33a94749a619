"""Fan-out of one live stream: a Producer pushes pictures, Consumers take what was made once.

The hub keeps the pictures since the last key picture. While somebody watches, each picture is put
into a fragment of its own, once, and the same bytes go to every viewer; while nobody does, nothing
is muxed. A viewer that comes gets the init segment and the kept pictures at once, so it shows a
picture without waiting for the next key picture.

Bounds. The kept pictures are bounded by bytes (then a viewer starts at the next key picture). Each
viewer's queue is bounded by bytes and by age: when it overflows, its fragments are dropped up to
the next key picture, the viewer is told of the gap, and nobody else notices. Damaged pictures are
not shown: the last good one stands until the next clean key picture (they are recorded all the
same, as evidence).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from vsp.media import messages
from vsp.media.core.au import CLOCK_HZ, AccessUnit
from vsp.media.core.fmp4 import Fragmenter, Track, init_segment
from vsp.media.messages import Message
from vsp.model.ids import UtcMicros

QUEUE_AGE_MAX_S = 3.0
"""Oldest fragment that may wait for a viewer: later than this, live is no longer live."""

CLOCK_DRIFT_MAX_US = 500_000
"""Arrival against the announced mapping; more than this and the mapping is announced anew."""

MESSAGES_MAX = 256
"""Text frames waiting for one viewer, four minutes of statistics: it does not read, cut it."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One fragment ready to be sent, with the picture it holds."""

    data: bytes
    key: bool
    media_90k: int
    arrival_us: UtcMicros


@dataclass(frozen=True, slots=True)
class InitPiece:
    """What a decoder must be given first: the announcement and the init segment."""

    message: Message
    data: bytes


Item = Message | InitPiece | Piece


@dataclass(frozen=True, slots=True)
class _Skip:
    """Pictures left out from `since` on, and what is queued to say so."""

    since: Piece
    messages: tuple[Message, Message]


class Consumer:
    """One viewer's bounded queue. The hub offers, the viewer's task takes."""

    def __init__(self, bytes_max: int) -> None:
        self.dropped = 0
        self._bytes_max = bytes_max
        self._queue: deque[tuple[Item, float]] = deque()
        self._bytes = 0
        self._messages = 0
        self._skipping_since: Piece | None = None
        self._untold: _Skip | None = None
        self._ready = asyncio.Event()
        self._last_sent_us: UtcMicros | None = None
        self.closed = False

    def say(self, message: Message) -> None:
        """Queue a text frame. A viewer that takes none is closed."""
        self._messages += 1
        if self._messages > MESSAGES_MAX:
            self.closed = True
        self._put(message, 0.0)

    def start(self, piece: InitPiece) -> None:
        self._put(piece, 0.0)

    def offer(self, piece: Piece, now: float) -> None:
        """Queue a fragment, or drop and go on at the next key picture when the viewer is behind."""
        if self._skipping_since is None and self._is_behind(len(piece.data), now):
            self._drop(piece)
        if self._skipping_since is not None:
            if not piece.key:
                self.dropped += 1
                return
            self._resume(self._skipping_since, piece)
        self._bytes += len(piece.data)
        self._put(piece, now)

    def close(self, *last_words: Message) -> None:
        """No more pictures, not even queued ones; the last words are still taken."""
        self._queue = deque((item, at) for item, at in self._queue if not isinstance(item, Piece))
        self._bytes = 0
        for message in last_words:
            self.say(message)
        self.closed = True
        self._ready.set()

    async def take(self) -> Item | None:
        """The next item; None when closed and empty."""
        while not self._queue:
            if self.closed:
                return None
            self._ready.clear()
            await self._ready.wait()
        item, _ = self._queue.popleft()
        if isinstance(item, Piece):
            self._bytes -= len(item.data)
            self._last_sent_us = item.arrival_us
        elif not isinstance(item, InitPiece):
            self._messages -= 1
            if self._untold is not None and item is self._untold.messages[0]:
                self._untold = None
        return item

    def lag_ms(self, now_us: UtcMicros) -> int:
        """Age of the newest picture that this viewer was sent."""
        return 0 if self._last_sent_us is None else max(0, now_us - self._last_sent_us) // 1000

    def _put(self, item: Item, now: float) -> None:
        self._queue.append((item, now))
        self._ready.set()

    def _is_behind(self, more_bytes: int, now: float) -> bool:
        if self._bytes and self._bytes + more_bytes > self._bytes_max:
            return True
        oldest = next((at for item, at in self._queue if isinstance(item, Piece)), now)
        return now - oldest > QUEUE_AGE_MAX_S

    def _drop(self, piece: Piece) -> None:
        """Forget every queued fragment; texts and init segments stay, in order.

        A gap that the viewer was not yet told of, whose far side it never got, is one with this.
        """
        pieces = [item for item, _ in self._queue if isinstance(item, Piece)]
        self.dropped += len(pieces)
        self._skipping_since = pieces[0] if pieces else piece
        told: tuple[Message, ...] = ()
        if self._untold is not None:
            self._skipping_since, told = self._untold.since, self._untold.messages
            self._messages -= len(told)
            self._untold = None
        self._queue = deque(
            (item, at)
            for item, at in self._queue
            if not isinstance(item, Piece) and not any(item is said for said in told)
        )
        self._bytes = 0

    def _resume(self, since: Piece, piece: Piece) -> None:
        self._skipping_since = None
        cause = "the viewer's connection is too slow; pictures were left out"
        gap = messages.gap(since.arrival_us, piece.arrival_us, cause)
        clock = messages.clock(piece.media_90k, piece.arrival_us)
        self._untold = _Skip(since, (gap, clock))
        self.say(gap)
        self.say(clock)


class Hub:
    """The live side of one stream. `push` for every picture; consumers come and go."""

    def __init__(self, bytes_max: int) -> None:
        self.held = 0
        self._gop_bytes_max = bytes_max // 2
        self._consumers: dict[Consumer, None] = {}
        self._track: Track | None = None
        self._init: InitPiece | None = None
        self._origin_90k = 0
        self._flowing = False
        self._gop: list[AccessUnit] = []
        self._gop_bytes = 0
        self._gop_whole = False
        self._pieces: list[Piece] = []
        self._fragmenter: Fragmenter | None = None
        self._clock: tuple[int, UtcMicros] | None = None
        self._held_since_us: UtcMicros | None = None

    @property
    def viewers(self) -> int:
        return len(self._consumers)

    def consumers(self) -> Iterator[Consumer]:
        yield from tuple(self._consumers)

    def push(self, au: AccessUnit, track: Track, changed: bool, now: float) -> None:
        """One picture in decode order. `changed`: the decoder must be told anew, from this one."""
        if au.key:
            self._forget_gop()
        if changed or self._track is None:
            self._set_track(track, au)
        if au.damaged:
            self._hold(au)
        elif au.key or self._flowing:
            if au.key:
                self._on_key(au)
            self._keep(au)
            if self._fragmenter is not None:
                piece = self._mux(self._fragmenter, au)
                for consumer in self._consumers:
                    consumer.offer(piece, now)

    def attach(self, consumer: Consumer, now: float) -> None:
        """Begin with what is kept, then everything as it comes."""
        self._consumers[consumer] = None
        if self._init is None or self._track is None:
            return
        consumer.start(self._init)
        if self._fragmenter is None:
            self._fragmenter = Fragmenter([self._track], self._origin_90k)
            for au in self._gop if self._gop_whole else ():
                self._mux(self._fragmenter, au)
        if self._clock is not None:
            consumer.say(messages.clock(*self._clock))
        for piece in self._pieces:
            consumer.offer(piece, now)

    def detach(self, consumer: Consumer) -> None:
        self._consumers.pop(consumer, None)
        if not self._consumers:
            self._fragmenter = None
            self._pieces = []

    def say(self, message: Message) -> None:
        """The same text to every viewer."""
        for consumer in self._consumers:
            consumer.say(message)

    def break_off(self) -> None:
        """Media has stopped: what is kept is stale, and only a key picture begins anew."""
        self._forget_gop()
        self._flowing = False

    # ---- inside -----------------------------------------------------------------------------

    def _set_track(self, track: Track, first: AccessUnit) -> None:
        """The first one fixes where media time begins; later ones only replace the decoder."""
        if self._track is None:
            self._origin_90k = first.dts_90k
        self._track = track
        self._init = InitPiece(messages.init(track), init_segment([track]))
        if self._consumers:
            self._fragmenter = Fragmenter([track], self._origin_90k)
            for consumer in self._consumers:
                consumer.start(self._init)

    def _on_key(self, au: AccessUnit) -> None:
        self._flowing = True
        arrival_us = UtcMicros(au.arrival_us)
        if self._held_since_us is not None:
            cause = "packets were lost on the way; damaged pictures are not shown"
            self.say(messages.gap(self._held_since_us, arrival_us, cause))
            self._held_since_us = self._clock = None
        self._keep_clock(au.dts_90k - self._origin_90k, arrival_us)

    def _keep_clock(self, media_90k: int, arrival_us: UtcMicros) -> None:
        """Announce where the media timeline stands on the wall, at first and when it drifted."""
        if self._clock is not None:
            since_us = (media_90k - self._clock[0]) * 1_000_000 // CLOCK_HZ
            if abs(self._clock[1] + since_us - arrival_us) <= CLOCK_DRIFT_MAX_US:
                return
        self._clock = (media_90k, arrival_us)
        self.say(messages.clock(media_90k, arrival_us))

    def _hold(self, au: AccessUnit) -> None:
        """Show nothing of it and of what refers to it; the gap is told when a clean one comes."""
        self.held += 1
        self._flowing = False
        if self._held_since_us is None:
            self._held_since_us = UtcMicros(au.arrival_us)

    def _keep(self, au: AccessUnit) -> None:
        if au.key:
            self._gop_whole = True
        self._gop_bytes += len(au.data)
        if self._gop_bytes > self._gop_bytes_max:
            self._forget_gop()
        elif self._gop_whole:
            self._gop.append(au)

    def _forget_gop(self) -> None:
        self._gop, self._pieces = [], []
        self._gop_bytes = 0
        self._gop_whole = False

    def _mux(self, fragmenter: Fragmenter, au: AccessUnit) -> Piece:
        fragmenter.add(au)
        fragment = fragmenter.fragment()
        assert fragment is not None, "one picture was added"
        arrival_us = UtcMicros(au.arrival_us)
        piece = Piece(fragment.data, au.key, fragment.base_dts_90k, arrival_us)
        if self._gop_whole:
            self._pieces.append(piece)
        return piece
