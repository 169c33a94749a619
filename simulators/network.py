"""A network in memory, on virtual time: the stage of a seeded world.

    loop = VirtualLoop()                      time jumps to the next timer when nothing is ready
    network = Network(loop, seed)
    network.bind(address, on_datagram)        UDP: lost, doubled, late, overtaken as `weather` says
    network.listen(address, factory)          TCP: late, in order, whole or broken
    network.connect(source, target, factory)
    network.cut.add(host)                     nothing reaches or leaves that host any more

Everything random is drawn from the seed, in the order in which things happen, and everything that
arrives goes into `trace`: the same seed gives the same hash, or something in the world depends on
more than its inputs (the hash seed of Python is such a thing; run with PYTHONHASHSEED=0).

Not a model of TCP: a lost segment is only late, and a host that vanishes is noticed by the other
end after `KEEPALIVE_S`, as the kernel's keepalive would.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import random
import selectors
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from vsp.clock import MICROS
from vsp.model.ids import UtcMicros

Address = tuple[str, int]
OnDatagram = Callable[[bytes, Address], None]
Factory = Callable[[], asyncio.Protocol]

RESEND_S = 0.2
"""What a lost TCP segment costs: about one retransmission timeout on a near network."""

CUT_RETRY_S = 1.0
"""How often a segment knocks at a host that is cut off."""

KEEPALIVE_S = 120.0
"""When TCP notices that the other host has vanished: 60 s of silence, four probes 15 s apart."""

START_US = 1_772_330_400 * MICROS
"""Wall time at virtual second 0: 2026-03-01 10:00:00 in Beijing."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: what would have been waited for is added to `now`."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise RuntimeError("virtual time stands still: nothing will ever happen")
        self.now += max(0.0, timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps. Threads and real sockets have no place in it."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class VirtualClock:
    """Both clocks of `vsp.ports.Clock`, of a loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now_us(self) -> UtcMicros:
        return UtcMicros(START_US + round(self._loop.time() * MICROS))

    def monotonic(self) -> float:
        return self._loop.time()


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to a datagram.

    loss, duplicate  chance of each
    delay_s          of all
    jitter_s         up to this on top, drawn for each: datagrams overtake one another
    """

    loss: float = 0.0
    duplicate: float = 0.0
    delay_s: float = 0.005
    jitter_s: float = 0.0


CALM = Weather()


class Network:
    """Hosts that talk. See the module."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int | str) -> None:
        self.weather = CALM
        self.cut: set[str] = set()
        self.delivered = 0
        self.lost = 0
        self._loop = loop
        self._random = random.Random(f"network/{seed}")
        self._sockets: dict[Address, OnDatagram] = {}
        self._listeners: dict[Address, Factory] = {}
        self._trace = hashlib.blake2b(digest_size=16)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._posts = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def trace(self) -> str:
        """Hash of everything that has arrived so far, with time, source and target."""
        return self._trace.hexdigest()

    # ---- UDP --------------------------------------------------------------------------------

    def bind(self, address: Address, on_datagram: OnDatagram) -> None:
        assert address not in self._sockets, f"{address} is taken"
        self._sockets[address] = on_datagram

    def unbind(self, address: Address) -> None:
        """Close a socket or a listener; harmless when there is none."""
        self._sockets.pop(address, None)
        self._listeners.pop(address, None)

    def send(self, data: bytes, source: Address, target: Address) -> None:
        """One datagram, as the weather has it."""
        draw, weather = self._random.random, self.weather
        copies = 0 if draw() < weather.loss else 2 if draw() < weather.duplicate else 1
        if copies == 0 or self._apart(source, target):
            self.lost += 1
            return
        for _ in range(copies):
            wait_s = weather.delay_s + weather.jitter_s * draw()
            self.call_later(wait_s, partial(self._arrive, data, source, target))

    def _arrive(self, data: bytes, source: Address, target: Address) -> None:
        on_datagram = self._sockets.get(target)
        if on_datagram is None or self._apart(source, target):
            self.lost += 1
            return
        self.note(data, source, target)
        on_datagram(data, source)

    def _apart(self, source: Address, target: Address) -> bool:
        return source[0] in self.cut or target[0] in self.cut

    def note(self, data: bytes, source: Address, target: Address) -> None:
        """Into the trace."""
        self.delivered += 1
        at_us = round(self._loop.time() * MICROS)
        self._trace.update(f"{at_us} {source} {target} {len(data)}\n".encode() + data)

    # ---- TCP --------------------------------------------------------------------------------

    def listen(self, address: Address, factory: Factory) -> None:
        self._listeners[address] = factory

    def connect(self, source: Address, target: Address, factory: Factory) -> StreamEnd | None:
        """Our end of a new connection; None when nobody listens there or can be reached."""
        accept = self._listeners.get(target)
        if accept is None or self._apart(source, target):
            return None
        ours = StreamEnd(self, source, target, factory())
        theirs = StreamEnd(self, target, source, accept())
        ours.other, theirs.other = theirs, ours
        for end in (ours, theirs):
            self._loop.call_soon(end.begin)
        return ours

    def stream_delay_s(self, source: Address, target: Address) -> float | None:
        """How long a segment takes now; None while it cannot get through."""
        if self._apart(source, target):
            return None
        draw, weather = self._random.random, self.weather
        late_s = RESEND_S if draw() < weather.loss else 0.0
        return weather.delay_s + weather.jitter_s * draw() + late_s

    # ---- time -------------------------------------------------------------------------------

    def call_later(self, wait_s: float, action: Callable[[], None]) -> None:
        """Like the loop's, but in order: the loop does not keep that of timers of one instant."""
        self._posts += 1
        heapq.heappush(self._due, (self._loop.time() + wait_s, self._posts, action))
        self._arm()

    def _arm(self) -> None:
        if self._due and (self._timer is None or self._due[0][0] < self._timer.when()):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._due[0][0], self._run_due)

    def _run_due(self) -> None:
        """One at a time, so that whoever is made ready by it runs before the next."""
        self._timer = None
        _, _, action = heapq.heappop(self._due)
        try:
            action()
        finally:
            self._arm()


class StreamEnd(asyncio.Transport):
    """One end of a connection, as the transport of its protocol."""

    def __init__(
        self, network: Network, source: Address, target: Address, protocol: asyncio.Protocol
    ) -> None:
        super().__init__({"sockname": source, "peername": target})
        self.other: StreamEnd
        self._network = network
        self._source = source
        self._target = target
        self._protocol = protocol
        self._waiting: deque[bytes] = deque()
        self._pumping = False
        self._open = True
        self._vanished = False

    def begin(self) -> None:
        if self._open:
            self._protocol.connection_made(self)

    # ---- what a protocol calls --------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if self._open:
            self._waiting.append(bytes(data))
            self._pump()

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._waiting))

    def is_closing(self) -> bool:
        return not self._open

    def close(self) -> None:
        self.abort()

    def abort(self) -> None:
        """Reset: both ends hear of it, the other one as soon as it can."""
        if self._open and not self._vanished:
            self._end()
            self._network.call_later(0.0, self._reset_other)

    def vanish(self) -> None:
        """The host is gone without a word: our protocol hears nothing, the other end waits."""
        self._open, self._vanished = False, True
        self._network.call_later(KEEPALIVE_S, self.other._end)

    # ---- within -----------------------------------------------------------------------------

    def _reset_other(self) -> None:
        delay_s = self._network.stream_delay_s(self._source, self._target)
        if delay_s is None:
            self._network.call_later(CUT_RETRY_S, self._reset_other)
        else:
            self._network.call_later(delay_s, self.other._end)

    def _end(self) -> None:
        if not self._open:
            return
        self._open = False
        self._waiting.clear()
        self._network.call_later(0.0, lambda: self._protocol.connection_lost(None))

    def _pump(self) -> None:
        """One segment after the other, each when the one before has arrived."""
        if self._pumping or not self._waiting or not self._open:
            return
        delay_s = self._network.stream_delay_s(self._source, self._target)
        self._pumping = True
        if delay_s is None:
            self._network.call_later(CUT_RETRY_S, self._again)
        else:
            self._network.call_later(delay_s, self._arrive)

    def _again(self) -> None:
        self._pumping = False
        self._pump()

    def _arrive(self) -> None:
        self._pumping = False
        if self._waiting:
            data = self._waiting.popleft()
            if self.other._open:
                self._network.note(data, self._source, self._target)
                self.other._protocol.data_received(data)
        self._pump()


__all__ = [
    "CALM",
    "Address",
    "Network",
    "StreamEnd",
    "VirtualClock",
    "VirtualLoop",
    "Weather",
]
