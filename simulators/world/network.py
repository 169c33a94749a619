"""A network in memory, on virtual time: the stage of a seeded world.

    network = Network(loop, seed, trace)
    network.bind(address, on_datagram)        UDP: lost, doubled, late, overtaken as `weather` says
    network.listen(address, factory)          TCP: late, in order, whole or broken
    network.connect(source, target, factory)
    network.cut.add(host)                     nothing reaches or leaves that host any more

Who binds, listens or connects within a process owns that end: it is served in the process's own
context, and closed by the system when the process is killed, as real sockets are. Everything random
is drawn from the seed, in the order in which things happen, and everything that arrives goes into
the trace.

Not a model of TCP: a lost segment is only late, and a host that vanishes is noticed by the other
end after `KEEPALIVE_S`, as the kernel's keepalive would.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from simulators.world.loop import Killed, Process, VirtualLoop, current, require_alive
from simulators.world.trace import Trace

Address = tuple[str, int]
OnDatagram = Callable[[bytes, Address], None]
Factory = Callable[[], asyncio.Protocol]

RESEND_S = 0.2
"""What a lost TCP segment costs: about one retransmission timeout on a near network."""

CUT_RETRY_S = 1.0
"""How often a segment knocks at a host that is cut off."""

KEEPALIVE_S = 120.0
"""When TCP notices that the other host has vanished: 60 s of silence, four probes 15 s apart."""


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

    def __init__(self, loop: VirtualLoop, seed: int | str, trace: Trace) -> None:
        self.weather = CALM
        self.cut: set[str] = set()
        self.delivered = 0
        self.lost = 0
        self.loop = loop
        self.trace = trace
        self._random = random.Random(f"network/{seed}")
        self._sockets: dict[Address, tuple[OnDatagram, Process | None]] = {}
        self._listeners: dict[Address, tuple[Factory, Process | None]] = {}
        self._owned: dict[Process, _Owned] = {}

    # ---- UDP --------------------------------------------------------------------------------

    def bind(self, address: Address, on_datagram: OnDatagram) -> None:
        require_alive()
        assert address not in self._sockets, f"{address} is taken"
        owner = current()
        self._sockets[address] = on_datagram, owner
        if owner is not None:
            self._owned_by(owner).sockets[address] = None

    def unbind(self, address: Address) -> None:
        """Close a socket or a listener; harmless when there is none."""
        for table in (self._sockets, self._listeners):
            _, owner = table.pop(address, (None, None))
            if owner is not None:
                self._owned_by(owner).sockets.pop(address, None)

    def send(self, data: bytes, source: Address, target: Address) -> None:
        """One datagram, as the weather has it."""
        require_alive()
        weather, now = self.weather, self.loop.now
        if source[0] in self.cut or target[0] in self.cut:
            self.lost += 1
        elif weather is CALM:
            self.loop.post_at(now + weather.delay_s, partial(self._arrive, data, source, target))
        else:
            draw = self._random.random
            copies = 0 if draw() < weather.loss else 2 if draw() < weather.duplicate else 1
            self.lost += copies == 0
            for _ in range(copies):
                when = now + weather.delay_s + weather.jitter_s * draw()
                self.loop.post_at(when, partial(self._arrive, data, source, target))

    def _arrive(self, data: bytes, source: Address, target: Address) -> None:
        bound = self._sockets.get(target)
        if bound is None or source[0] in self.cut or target[0] in self.cut:
            self.lost += 1
            return
        self.delivered += 1
        self.trace.note(self.loop.now, data, source, target)
        run_in(bound[1], bound[0], data, source)

    # ---- TCP --------------------------------------------------------------------------------

    def listen(self, address: Address, factory: Factory) -> None:
        require_alive()
        owner = current()
        self._listeners[address] = factory, owner
        if owner is not None:
            self._owned_by(owner).sockets[address] = None

    def connect(self, source: Address, target: Address, factory: Factory) -> StreamEnd | None:
        """Our end of a new connection; None when nobody listens there or can be reached."""
        require_alive()
        listener = self._listeners.get(target)
        if listener is None or source[0] in self.cut or target[0] in self.cut:
            return None
        accept, owner = listener
        ours = StreamEnd(self, source, target, factory(), current())
        theirs = StreamEnd(self, target, source, accept(), owner)
        ours.other, theirs.other = theirs, ours
        for end in (ours, theirs):
            if end.owner is not None:
                self._owned_by(end.owner).streams[end] = None
            self.loop.post_at(self.loop.now, end.begin)
        return ours

    def stream_delay_s(self, source: Address, target: Address) -> float | None:
        """How long a segment takes now; None while it cannot get through."""
        if source[0] in self.cut or target[0] in self.cut:
            return None
        weather = self.weather
        if weather is CALM:
            return weather.delay_s
        draw = self._random.random
        late_s = RESEND_S if draw() < weather.loss else 0.0
        return weather.delay_s + weather.jitter_s * draw() + late_s

    def forget(self, end: StreamEnd) -> None:
        if end.owner is not None:
            self._owned_by(end.owner).streams.pop(end, None)

    # ---- owners -----------------------------------------------------------------------------

    def _owned_by(self, process: Process) -> _Owned:
        owned = self._owned.get(process)
        if owned is None:
            owned = self._owned[process] = _Owned({}, {})
            process.on_kill.append(partial(self._close_all_of, process))
        return owned

    def _close_all_of(self, process: Process) -> None:
        """What the system does when a process dies."""
        owned = self._owned.pop(process)
        for address in owned.sockets:
            self._sockets.pop(address, None)
            self._listeners.pop(address, None)
        for end in list(owned.streams):
            end.abort()


@dataclass(slots=True)
class _Owned:
    sockets: dict[Address, None]
    streams: dict[StreamEnd, None]


def run_in(owner: Process | None, action: Callable[..., object], *arguments: object) -> None:
    """Do something as that process, unless it is dead; it may die of it."""
    if owner is None:
        action(*arguments)
    elif owner.alive:
        try:
            owner.call(action, *arguments)
        except Killed:
            return


class StreamEnd(asyncio.Transport):
    """One end of a connection, as the transport of its protocol."""

    def __init__(
        self,
        network: Network,
        source: Address,
        target: Address,
        protocol: asyncio.Protocol,
        owner: Process | None,
    ) -> None:
        super().__init__({"sockname": source, "peername": target})
        self.other: StreamEnd
        self.owner = owner
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
            run_in(self.owner, self._protocol.connection_made, self)

    # ---- what a protocol calls --------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        require_alive()
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
            self._later(0.0, self._reset_other)

    def vanish(self) -> None:
        """The host is gone without a word: our protocol hears nothing, the other end waits."""
        self._open, self._vanished = False, True
        self._network.forget(self)
        self._later(KEEPALIVE_S, self.other._end)

    # ---- within -----------------------------------------------------------------------------

    def _later(self, wait_s: float, action: Callable[[], object]) -> None:
        loop = self._network.loop
        loop.post_at(loop.now + wait_s, action)

    def _reset_other(self) -> None:
        delay_s = self._network.stream_delay_s(self._source, self._target)
        if delay_s is None:
            self._later(CUT_RETRY_S, self._reset_other)
        else:
            self._later(delay_s, self.other._end)

    def _end(self) -> None:
        if not self._open:
            return
        self._open = False
        self._waiting.clear()
        self._network.forget(self)
        self._later(0.0, lambda: run_in(self.owner, self._protocol.connection_lost, None))

    def _pump(self) -> None:
        """One segment after the other, each when the one before has arrived."""
        if self._pumping or not self._waiting or not self._open:
            return
        delay_s = self._network.stream_delay_s(self._source, self._target)
        self._pumping = True
        if delay_s is None:
            self._later(CUT_RETRY_S, self._again)
        else:
            self._later(delay_s, self._arrive)

    def _again(self) -> None:
        self._pumping = False
        self._pump()

    def _arrive(self) -> None:
        self._pumping = False
        if self._waiting:
            data = self._waiting.popleft()
            if self.other._open:
                network = self._network
                network.delivered += 1
                network.trace.note(network.loop.now, data, self._source, self._target)
                run_in(self.other.owner, self.other._protocol.data_received, data)
        self._pump()


__all__ = ["CALM", "Address", "Network", "StreamEnd", "Weather", "run_in"]
