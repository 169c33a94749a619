"""Putting RTP packets in order, and saying how many are missing.

    for packet in sorter.push_batch(rtp.collect(frames).bursts, now): depacketizer.push(...)

In-order input passes straight through. A hole is waited for until `window` later packets have come
or `wait_s` has passed; then the next packet out carries `lost`. A sender that starts again with
other numbers is followed once two packets in a row agree (RFC 3550 A.1).
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from vsp.media.core.rtp import Burst, Packet

WINDOW_PACKETS = 64
"""50-100 packets is what GB/T 28181 receivers use over UDP: 60 ms of a 10 Mbit/s stream."""

WAIT_S = 0.1
"""A packet later than this has lost its picture anyway, and the viewer's patience with it."""

DROPOUT_MAX = 3000
"""A larger step forward is a restarted sender, not loss (RFC 3550 A.1 MAX_DROPOUT)."""

MISORDER_MAX = 100
"""A larger step back is a restarted sender, not a late packet (RFC 3550 A.1 MAX_MISORDER)."""

ALL_TYPES = range(128)

PS_TYPES = frozenset({96})
"""Payload type of PS where the answer says nothing else (GB/T 28181-2016 annex C.2.4)."""

PAYLOAD_TYPES_MAX = 8
"""Sequence spaces of one source: PS, one or two audio types, the rest is noise."""


@dataclass(slots=True)
class _Held:
    """An out-of-order burst with its payloads copied: the receive buffer will be reused."""

    burst: Burst
    since: float


class ReorderBuffer:
    """One sequence space.

    joined  payload types whose packets of one timestamp are glued (those carrying PS); the others
            keep each packet, because its boundaries mean something (H264, H265)
    lost, duplicates, reordered   packets so far; a late packet whose hole was given up counts as
                                  reordered and lost, for it came and was of no use
    restarts                      times the sender began a new sequence
    """

    def __init__(
        self,
        window: int = WINDOW_PACKETS,
        wait_s: float = WAIT_S,
        joined: Container[int] = ALL_TYPES,
    ) -> None:
        self.lost = 0
        self.duplicates = 0
        self.reordered = 0
        self.restarts = 0
        self._window = window
        self._wait_s = wait_s
        self._joined = joined
        self._next: int | None = None
        self._held: dict[int, _Held] = {}
        self._given_up = (0, 0)
        self._probation: _Held | None = None

    def push(self, burst: Burst, now: float) -> list[Packet]:
        """One burst in; what is now in order out."""
        return self.push_batch((burst,), now)

    def push_batch(self, bursts: Iterable[Burst], now: float) -> list[Packet]:
        """All bursts of one receive."""
        out: list[Packet] = []
        for burst in bursts:
            self.put(burst, now, out)
        return out

    def put(self, burst: Burst, now: float, out: list[Packet]) -> None:
        """One burst in; what is now in order is added to `out`. The first branch is that of a
        healthy stream."""
        if burst.seq == self._next and not self._held:
            self._emit(burst, 0, out)
        else:
            self._place(burst, now, out)

    def advance(self, now: float) -> list[Packet]:
        """Give up on holes older than `wait_s`."""
        out: list[Packet] = []
        while self._held and now >= self._oldest() + self._wait_s:
            self._skip_hole(out)
        return out

    def next_deadline(self) -> float | None:
        """When `advance` has something to do."""
        return self._oldest() + self._wait_s if self._held else None

    def flush(self) -> list[Packet]:
        """Everything that is held, holes or not."""
        out: list[Packet] = []
        while self._held:
            self._skip_hole(out)
        return out

    @property
    def held_packets(self) -> int:
        """Packets that wait for a hole to be filled."""
        return sum(len(held.burst.parts) for held in self._held.values())

    def accepts(self, seq: int) -> bool:
        """Whether `seq` is near what this space expects, i.e. plausibly its own."""
        return self._next is not None and abs(_ahead(seq, self._next)) <= self._window

    # ---- placing ----

    def _place(self, burst: Burst, now: float, out: list[Packet]) -> None:
        if self._next is None:
            self._next = burst.seq
        step = _ahead(burst.seq, self._next)
        if step > DROPOUT_MAX or step < -MISORDER_MAX:
            self._doubt(burst, now, out)
            return
        self._probation = None
        if step < 0:
            burst = self._without_past(burst, -step)
            if not burst.parts:
                return
            step = 0
        if step == 0:
            self._emit(burst, 0, out)
            self._release(out)
            return
        self._hold(burst, now)
        while self._held and self._span() > self._window:
            self._skip_hole(out)

    def _without_past(self, burst: Burst, behind: int) -> Burst:
        """Drop what is delivered already or given up, and count which of the two it was."""
        old = min(behind, len(burst.parts))
        begin, end = self._given_up
        late = sum((burst.seq + i - begin) & 0xFFFF < end - begin for i in range(old))
        self.reordered += late
        self.duplicates += old - late
        return _tail(burst, old)

    def _hold(self, burst: Burst, now: float) -> None:
        known = self._held.get(burst.seq)
        if known is not None and len(known.burst.parts) >= len(burst.parts):
            self.duplicates += len(burst.parts)
            return
        if known is not None:
            self.duplicates += len(known.burst.parts)
        since = now if known is None else known.since
        self._held[burst.seq] = _Held(_owned(burst), since)

    def _release(self, out: list[Packet]) -> None:
        """Emit what the filled hole was holding back."""
        while self._held:
            seq = self._nearest()
            assert self._next is not None
            step = _ahead(seq, self._next)
            if step > 0:
                return
            burst = self._take(seq)
            if step < 0:
                old = min(-step, len(burst.parts))
                self.duplicates += old
                burst = _tail(burst, old)
            if burst.parts:
                self.reordered += 1
                self._emit(burst, 0, out)

    def _skip_hole(self, out: list[Packet]) -> None:
        assert self._next is not None
        seq = self._nearest()
        lost = _ahead(seq, self._next)
        if lost > 0:
            self._given_up = (self._next, self._next + lost)
            self.lost += lost
        self._next = seq
        self._emit(self._take(seq), max(lost, 0), out)
        self._release(out)

    def _doubt(self, burst: Burst, now: float, out: list[Packet]) -> None:
        """Far from what is expected: a stray, or a restarted sender if the next one agrees."""
        before = self._probation
        if before is not None and before.burst.seq == burst.seq:
            self.duplicates += len(burst.parts)
            return
        follows = before is not None and _end(before.burst) == burst.seq
        if len(burst.parts) < 2 and not follows:
            self._probation = _Held(_owned(burst), now)
            return
        self._probation = None
        while self._held:
            self._skip_hole(out)
        self.restarts += 1
        self._given_up = (0, 0)
        # How many are missing between two sequences cannot be known; one says "something is".
        if before is not None and follows:
            self._emit(before.burst, 1, out)
            self._emit(burst, 0, out)
        else:
            self._emit(burst, 1, out)

    # ---- output ----

    def _emit(self, burst: Burst, lost: int, out: list[Packet]) -> None:
        parts = burst.parts
        seq = burst.seq
        self._next = (seq + len(parts)) & 0xFFFF
        ts, ssrc, pt = burst.ts, burst.ssrc, burst.pt
        if pt in self._joined:
            payload, marker, count = b"".join(parts), burst.marker, len(parts)
            out.append(Packet(seq, ts, ssrc, pt, marker, payload, count, lost, burst.arrival_us))
            return
        last = len(parts) - 1
        for i, part in enumerate(parts):
            marker = burst.marker and i == last
            number = (seq + i) & 0xFFFF
            missing = lost if i == 0 else 0
            packet = Packet(number, ts, ssrc, pt, marker, bytes(part), 1, missing, burst.arrival_us)
            out.append(packet)

    # ---- what is held ----

    def _take(self, seq: int) -> Burst:
        return self._held.pop(seq).burst

    def _nearest(self) -> int:
        expected = self._next
        assert expected is not None
        return min(self._held, key=lambda seq: _ahead(seq, expected))

    def _oldest(self) -> float:
        return min(held.since for held in self._held.values())

    def _span(self) -> int:
        """How far the newest held packet is ahead of the first missing one, in packets.

        Never more than DROPOUT_MAX + one batch, and memory is bounded by it: a hole is given up
        as soon as the span exceeds the window.
        """
        expected = self._next
        assert expected is not None
        return max(_ahead(_end(held.burst), expected) for held in self._held.values())


@dataclass(slots=True)
class _Space:
    buffer: ReorderBuffer
    types: set[int] = field(default_factory=set)


class Sorter:
    """One SSRC: a ReorderBuffer per payload type, or one for all where they share numbers.

    Dahua sends audio as PT 8 beside PS PT 96, with its own or with shared sequence numbers; a new
    type whose number fits an existing space joins it. A loss in a shared space is told to every
    type in it, for nobody knows whose packet it was.

    joined  payload types that are glued per timestamp: those carrying PS
    ignored packets of payload types beyond PAYLOAD_TYPES_MAX
    """

    def __init__(
        self,
        joined: Container[int] = PS_TYPES,
        window: int = WINDOW_PACKETS,
        wait_s: float = WAIT_S,
    ) -> None:
        self.ignored = 0
        self._joined = joined
        self._window = window
        self._wait_s = wait_s
        self._spaces: list[_Space] = []
        self._by_type: dict[int, _Space] = {}
        self._owed: dict[int, int] = {}

    @property
    def lost(self) -> int:
        return sum(space.buffer.lost for space in self._spaces)

    @property
    def duplicates(self) -> int:
        return sum(space.buffer.duplicates for space in self._spaces)

    @property
    def reordered(self) -> int:
        return sum(space.buffer.reordered for space in self._spaces)

    @property
    def restarts(self) -> int:
        return sum(space.buffer.restarts for space in self._spaces)

    def push(self, burst: Burst, now: float) -> list[Packet]:
        """One burst in; what is now in order out."""
        return self.push_batch((burst,), now)

    def push_batch(self, bursts: Iterable[Burst], now: float) -> list[Packet]:
        """All bursts of one receive."""
        out: list[Packet] = []
        for burst in bursts:
            space = self._by_type.get(burst.pt) or self._new_type(burst)
            if space is None:
                self.ignored += len(burst.parts)
            elif len(space.types) == 1:
                space.buffer.put(burst, now, out)
            else:
                out += self._told(space, space.buffer.push(burst, now))
        return out

    def advance(self, now: float) -> list[Packet]:
        """Give up on holes older than `wait_s`."""
        out: list[Packet] = []
        for space in self._spaces:
            out += self._told(space, space.buffer.advance(now))
        return out

    def next_deadline(self) -> float | None:
        """When `advance` has something to do."""
        deadlines = [space.buffer.next_deadline() for space in self._spaces]
        return min((at for at in deadlines if at is not None), default=None)

    def flush(self) -> list[Packet]:
        """Everything that is held, holes or not."""
        out: list[Packet] = []
        for space in self._spaces:
            out += self._told(space, space.buffer.flush())
        return out

    def _new_type(self, burst: Burst) -> _Space | None:
        if len(self._by_type) >= PAYLOAD_TYPES_MAX:
            return None
        for space in self._spaces:
            if space.buffer.accepts(burst.seq):
                break
        else:
            space = _Space(ReorderBuffer(self._window, self._wait_s, self._joined))
            self._spaces.append(space)
        space.types.add(burst.pt)
        self._by_type[burst.pt] = space
        return space

    def _told(self, space: _Space, packets: list[Packet]) -> list[Packet]:
        """Carry a loss in a shared space over to the next packet of each other type."""
        if len(space.types) == 1:
            return packets
        for packet in packets:
            if packet.lost:
                self._owed.update(dict.fromkeys(space.types - {packet.pt}, packet.lost))
            elif self._owed:
                packet.lost = self._owed.pop(packet.pt, 0)
        return packets


def _ahead(seq: int, expected: int) -> int:
    """How far `seq` is ahead of `expected`, -32768..32767 (RFC 3550 A.1 arithmetic)."""
    return ((seq - expected + 0x8000) & 0xFFFF) - 0x8000


def _end(burst: Burst) -> int:
    return (burst.seq + len(burst.parts)) & 0xFFFF


def _tail(burst: Burst, skip: int) -> Burst:
    """The burst without its first `skip` packets."""
    seq = (burst.seq + skip) & 0xFFFF
    parts, marker = burst.parts[skip:], burst.marker
    return Burst(seq, burst.ts, burst.ssrc, burst.pt, marker, parts, burst.arrival_us)


def _owned(burst: Burst) -> Burst:
    parts = [memoryview(bytes(part)) for part in burst.parts]
    seq, marker = burst.seq, burst.marker
    return Burst(seq, burst.ts, burst.ssrc, burst.pt, marker, parts, burst.arrival_us)
