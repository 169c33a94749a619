"""Who is there: the table of devices and the rules by which they come and go. Pure.

A device is ONLINE from a successful REGISTER, or from a heartbeat within a valid registration. It
goes OFFLINE when `interval x misses` seconds bring no sign of life, when its registration ends,
when it unregisters, or when its TCP connection stays closed for the settable leave. Between these
edges nothing moves: a late heartbeat, a renewed registration or a new port change no state, so the
state cannot flap with a network that merely jitters (GB/T 28181-2016 9.6, 9.1).

Each edge yields one ChangePoint whose evidence says in words what was seen. Timers run on monotonic
seconds named `now`; wall time only goes into rows. One heap entry stands for each online device and
is checked against the device when it is due, so that a heartbeat costs no heap operation.

After a restart nobody is called away at once: devices could not reach us, which is our fault. For
FREEZE_INTERVALS heartbeats the restored ones count as there.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from vsp.clock import MICROS
from vsp.model.changes import Axis, ChangePoint
from vsp.model.device import Binding, Device, DeviceSecret, DeviceSettings, Presence, Transport
from vsp.model.ids import DeviceId, GbId, UtcMicros
from vsp.ports import DeviceState
from vsp.sip.core.agent import Peer
from vsp.sip.core.digest import Secret

FREEZE_INTERVALS = 3
"""Heartbeat periods after a restart in which nobody goes off line: as long as a device may need to
notice us (GB/T 28181-2016 9.6: three unanswered heartbeats)."""

ADVANCE_MAX_S = 3.0
"""Longest time between two calls of `advance` before it is taken for a stall of our own."""

MOVE_MIN_S = 60.0
"""Between two moves of a device that is alive."""

INTERVAL_MIN_S, INTERVAL_MAX_S = 1, 3600
"""Bounds of a heartbeat period. Devices offer 0 and 65535; outside the bounds it is clamped."""


@dataclass(frozen=True, slots=True)
class PresenceRules:
    """The platform's defaults; a device's settings come first.

    tcp_leave_s   how long a closed TCP connection may stay closed before the device is away
    """

    keepalive_interval_s: int = 60
    keepalive_misses: int = 3
    tcp_leave_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Edge:
    """A device came or went."""

    device_id: DeviceId
    presence: Presence
    cause: str
    evidence: str
    at_us: UtcMicros

    def point(self) -> ChangePoint:
        """The row of the change log."""
        return ChangePoint(
            subject=f"device:{self.device_id}",
            axis=Axis.PRESENCE,
            at_us=self.at_us,
            state=self.presence.value,
            cause=self.cause,
            evidence=self.evidence,
        )


@dataclass(frozen=True, slots=True)
class Move:
    """A device registered from another address."""

    device_id: DeviceId
    before: str
    after: str
    silent_s: int
    at_us: UtcMicros

    def point(self) -> ChangePoint:
        """The row of the change log."""
        return ChangePoint(
            subject=f"device:{self.device_id}",
            axis=Axis.BINDING,
            at_us=self.at_us,
            state=self.after,
            cause="moved",
            evidence=f"from {self.before}, heard {self.silent_s} s before",
        )


class Entry:
    """One device as signalling knows it. Changed only by `Roster`.

    peer           where requests go: the source of the last REGISTER or accepted heartbeat
    expires_now    monotonic end of the registration
    heard_now      monotonic time of the last sign of life
    closed_now     since when its TCP connection is closed, None while it is open or over UDP
    moved_now      when it last registered from another host; None: it has not
    scheduled_now  deadline of its live heap item; items with another one are stale
    """

    __slots__ = (
        "binding",
        "catalog_at_us",
        "catalog_complete",
        "catalog_items",
        "closed_now",
        "device",
        "digest_secret",
        "expires_now",
        "gb_bytes",
        "heard_now",
        "last_seen_us",
        "moved_now",
        "peer",
        "presence",
        "presence_since_us",
        "scheduled_now",
    )

    def __init__(self, device: Device, secret: DeviceSecret) -> None:
        self.device = device
        self.gb_bytes = device.gb_id.encode()
        self.digest_secret = _secret(secret)
        self.binding = device.binding
        self.peer: Peer | None = None
        self.presence = device.presence
        self.presence_since_us = device.presence_since_us
        self.last_seen_us = device.last_seen_us
        self.catalog_at_us = device.catalog_at_us
        self.catalog_complete = device.catalog_complete
        self.catalog_items = device.catalog_received
        self.expires_now = 0.0
        self.heard_now = 0.0
        self.closed_now: float | None = None
        self.moved_now: float | None = None
        self.scheduled_now: float | None = None

    @property
    def id(self) -> DeviceId:
        return self.device.id

    @property
    def gb_id(self) -> GbId:
        return self.device.gb_id

    @property
    def settings(self) -> DeviceSettings:
        return self.device.settings

    def state(self) -> DeviceState:
        """What is written behind."""
        return DeviceState(
            self.device.id,
            self.binding,
            self.last_seen_us,
            self.presence,
            self.presence_since_us,
        )


def _secret(secret: DeviceSecret) -> Secret | None:
    """None for an empty password: such a device is refused, it could be anybody."""
    return Secret(secret.password) if secret.password else None


class Roster:
    """Every device, its binding and its presence."""

    def __init__(self, rules: PresenceRules) -> None:
        self._rules = rules
        self._by_id: dict[DeviceId, Entry] = {}
        self._by_gb_id: dict[str, Entry] = {}
        self._by_peer: dict[tuple[Transport, str, int], Entry] = {}
        self._due: list[tuple[float, DeviceId]] = []
        self._dirty: dict[DeviceId, None] = {}
        self._edges: list[Edge] = []
        self._moves: list[Move] = []
        self._advanced_now: float | None = None
        self._frozen_until_now = 0.0

    # ---- the table --------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_id.values())

    def get(self, device_id: DeviceId) -> Entry | None:
        return self._by_id.get(device_id)

    def by_gb_id(self, gb_id: str) -> Entry | None:
        return self._by_gb_id.get(gb_id)

    def by_peer(self, peer: Peer) -> Entry | None:
        """The device that last registered from exactly this address."""
        return self._by_peer.get((peer.transport, peer.host, peer.port))

    def load(
        self, devices: Iterable[tuple[Device, DeviceSecret]], now: float, now_us: UtcMicros
    ) -> None:
        """Take over the rows of a former run. Bindings stay valid; see FREEZE_INTERVALS."""
        for device, secret in devices:
            entry = self._insert(device, secret)
            if entry.binding is not None:
                self._restore(entry, entry.binding, now, now_us)

    def _insert(self, device: Device, secret: DeviceSecret) -> Entry:
        entry = Entry(device, secret)
        self._by_id[device.id] = entry
        self._by_gb_id[device.gb_id] = entry
        return entry

    def _restore(self, entry: Entry, binding: Binding, now: float, now_us: UtcMicros) -> None:
        interval_s, misses = self.heartbeat(entry)
        left_s = (binding.expires_at_us - now_us) / MICROS
        frozen_s = FREEZE_INTERVALS * interval_s
        online = entry.presence is Presence.ONLINE
        entry.heard_now = now + max(0, FREEZE_INTERVALS - misses) * interval_s
        entry.expires_now = now + (max(left_s, frozen_s) if online else left_s)
        self._seat(entry, Peer(binding.transport, binding.host, binding.port))
        if binding.transport is Transport.TCP:
            # The connection died with the former process; the freeze replaces its leave.
            entry.closed_now = now + frozen_s - self._rules.tcp_leave_s
        if online:
            self._reschedule(entry)

    def put(self, device: Device, secret: DeviceSecret) -> None:
        """Add a device, or take over new settings and a new password of a known one."""
        entry = self._by_id.get(device.id)
        if entry is None:
            self._insert(device, secret)
            return
        if entry.gb_id != device.gb_id:
            self._by_gb_id.pop(entry.gb_id, None)
            self._by_gb_id[device.gb_id] = entry
        entry.device = device
        entry.gb_bytes = device.gb_id.encode()
        entry.digest_secret = _secret(secret)
        if entry.presence is Presence.ONLINE:
            self._reschedule(entry)

    def remove(self, device_id: DeviceId) -> Entry | None:
        """Forget a device; what was to be written of it is dropped too."""
        entry = self._by_id.pop(device_id, None)
        if entry is not None:
            self._by_gb_id.pop(entry.gb_id, None)
            self._unseat(entry)
            self._dirty.pop(device_id, None)
        return entry

    def heartbeat(self, entry: Entry) -> tuple[int, int]:
        """Period in seconds and misses allowed, for this device."""
        interval_s = entry.settings.keepalive_interval_s or self._rules.keepalive_interval_s
        misses = entry.settings.keepalive_misses or self._rules.keepalive_misses
        return min(max(interval_s, INTERVAL_MIN_S), INTERVAL_MAX_S), max(1, misses)

    def registered(self, entry: Entry, now: float) -> bool:
        """Whether its registration is valid (GB/T 28181-2016 9.1.2)."""
        return entry.binding is not None and now < entry.expires_now

    # ---- what the network said --------------------------------------------------------------

    def bind(self, entry: Entry, binding: Binding, peer: Peer, expires_s: int, now: float) -> None:
        """An authenticated REGISTER: the binding is this one now, the device is there."""
        now_us = binding.registered_at_us
        before = entry.peer
        if before is not None and before.host != peer.host:
            entry.moved_now = now
            silent_s = int(now - entry.heard_now)
            self._moves.append(Move(entry.id, address(before), address(peer), silent_s, now_us))
        entry.binding = binding
        entry.expires_now = now + expires_s
        self._seat(entry, peer)
        self._alive(entry, now, now_us)
        if entry.presence is not Presence.ONLINE:
            evidence = f"registered from {address(peer)}, expires in {expires_s} s"
            self._turn(entry, Presence.ONLINE, "registered", evidence, now_us)
        self._reschedule(entry)

    def move_wait_s(self, entry: Entry, peer: Peer, now: float) -> float:
        """How long the device must not move to that host: one that is alive moves once a minute.

        Two that share a code and a password, or one that knows the password of another, would take
        the binding from each other with every REGISTER.
        """
        if entry.moved_now is None or not self.is_held_elsewhere(entry, peer, now):
            return 0.0
        return max(0.0, entry.moved_now + MOVE_MIN_S - now)

    def is_held_elsewhere(self, entry: Entry, peer: Peer, now: float) -> bool:
        """Whether the device is bound to another host and was heard there within a heartbeat."""
        if entry.peer is None or entry.peer.host == peer.host:
            return False
        interval_s, _ = self.heartbeat(entry)
        return now - entry.heard_now <= 1.5 * interval_s

    def unbind(self, entry: Entry, peer: Peer, now: float, now_us: UtcMicros) -> None:
        """An authenticated REGISTER with Expires 0."""
        self._alive(entry, now, now_us)
        self._drop_binding(entry)
        if entry.presence is not Presence.OFFLINE:
            evidence = f"unregistered from {address(peer)}"
            self._turn(entry, Presence.OFFLINE, "unregistered", evidence, now_us)

    def beat(self, entry: Entry, peer: Peer, now: float, now_us: UtcMicros) -> bool:
        """A heartbeat from the bound host within a valid registration. True when the port moved."""
        moved = entry.peer != peer
        if moved:
            self._move(entry, peer)
        self._alive(entry, now, now_us)
        if entry.presence is not Presence.ONLINE:
            evidence = f"heartbeat from {address(peer)} within a valid registration"
            self._turn(entry, Presence.ONLINE, "heartbeat", evidence, now_us)
            self._reschedule(entry)
        return moved

    def heard(self, entry: Entry, now: float, now_us: UtcMicros) -> None:
        """Any other message of an online device is a sign of life too, but brings nobody back."""
        if entry.presence is Presence.ONLINE:
            self._alive(entry, now, now_us)

    def disconnected(self, peer: Peer, now: float) -> Entry | None:
        """A TCP connection closed. The device has its leave to come back by another."""
        entry = self.by_peer(peer)
        if entry is None or entry.peer != peer:
            return None
        entry.closed_now = now
        if entry.presence is Presence.ONLINE:
            self._reschedule(entry)
        return entry

    def _alive(self, entry: Entry, now: float, now_us: UtcMicros) -> None:
        entry.heard_now = now
        entry.last_seen_us = now_us
        self._dirty[entry.id] = None

    def _move(self, entry: Entry, peer: Peer) -> None:
        """Same host, new port or connection (GB/T 28181-2022 9.1.1 f), behind a translator)."""
        self._seat(entry, peer)
        if entry.binding is not None:
            entry.binding = replace(
                entry.binding, transport=peer.transport, host=peer.host, port=peer.port
            )

    def _seat(self, entry: Entry, peer: Peer) -> None:
        self._unseat(entry)
        entry.peer = peer
        entry.closed_now = None
        self._by_peer[(peer.transport, peer.host, peer.port)] = entry

    def _unseat(self, entry: Entry) -> None:
        peer = entry.peer
        if peer is not None:
            key = (peer.transport, peer.host, peer.port)
            if self._by_peer.get(key) is entry:
                del self._by_peer[key]
        entry.peer = None

    def _drop_binding(self, entry: Entry) -> None:
        entry.binding = None
        entry.expires_now = 0.0
        self._unseat(entry)
        self._dirty[entry.id] = None

    def _turn(
        self, entry: Entry, presence: Presence, cause: str, evidence: str, now_us: UtcMicros
    ) -> None:
        entry.presence = presence
        # A stepped wall clock must not put a later edge before an earlier one.
        entry.presence_since_us = max(now_us, UtcMicros(entry.presence_since_us + 1))
        self._dirty[entry.id] = None
        self._edges.append(Edge(entry.id, presence, cause, evidence, entry.presence_since_us))

    # ---- time -------------------------------------------------------------------------------

    def _deadlines(self, entry: Entry) -> tuple[tuple[float, str], ...]:
        """When each of the three reasons to call it away comes due."""
        interval_s, misses = self.heartbeat(entry)
        leave = float("inf")
        if entry.closed_now is not None:
            leave = entry.closed_now + self._rules.tcp_leave_s
        return (
            (entry.heard_now + interval_s * misses, "heartbeat_lost"),
            (entry.expires_now, "expired"),
            (leave, "disconnected"),
        )

    def _reschedule(self, entry: Entry) -> None:
        """Push only a deadline that came closer; one that moved away is found when it is due."""
        due, _ = min(self._deadlines(entry))
        if entry.scheduled_now is None or due < entry.scheduled_now:
            entry.scheduled_now = due
            heapq.heappush(self._due, (due, entry.id))

    def next_deadline(self) -> float | None:
        return max(self._due[0][0], self._frozen_until_now) if self._due else None

    def advance(self, now: float, now_us: UtcMicros) -> None:
        """Call away whoever is due. To be called at least once in ADVANCE_MAX_S."""
        if self._advanced_now is not None and now - self._advanced_now > ADVANCE_MAX_S:
            # We slept, not they: what they sent meanwhile still waits in the socket.
            self._frozen_until_now = now + (now - self._advanced_now)
        self._advanced_now = now
        if now < self._frozen_until_now:
            return
        while self._due and self._due[0][0] <= now:
            due, device_id = heapq.heappop(self._due)
            entry = self._by_id.get(device_id)
            if entry is None or entry.scheduled_now != due:
                continue
            entry.scheduled_now = None
            if entry.presence is Presence.ONLINE:
                self._judge(entry, now, now_us)

    def _judge(self, entry: Entry, now: float, now_us: UtcMicros) -> None:
        due, cause = min(self._deadlines(entry))
        if due > now:
            self._reschedule(entry)
            return
        evidence = f"{self._reason(entry, cause, now_us)}; {self._last_words(entry)}"
        if cause == "expired":
            self._drop_binding(entry)
        self._turn(entry, Presence.OFFLINE, cause, evidence, now_us)

    def _reason(self, entry: Entry, cause: str, now_us: UtcMicros) -> str:
        if cause == "heartbeat_lost":
            interval_s, misses = self.heartbeat(entry)
            seen_us = entry.last_seen_us or now_us
            return f"no heartbeat for {max(interval_s * misses, (now_us - seen_us) // MICROS)} s"
        if cause == "expired":
            return "registration ended without renewal"
        return f"TCP connection closed and not renewed within {self._rules.tcp_leave_s:g} s"

    def _last_words(self, entry: Entry) -> str:
        if entry.last_seen_us is None:
            return "never heard"
        where = f" from {address(entry.peer)}" if entry.peer else ""
        return f"last at {beijing_time(entry.last_seen_us)}{where}"

    # ---- what is to be written --------------------------------------------------------------

    def take_edges(self) -> list[Edge]:
        """Edges since the last call, in order."""
        edges, self._edges = self._edges, []
        return edges

    def take_moves(self) -> list[Move]:
        """Moves since the last call, in order."""
        moves, self._moves = self._moves, []
        return moves

    def dirty(self) -> int:
        return len(self._dirty)

    def take_states(self, limit: int) -> Sequence[DeviceState]:
        """Up to `limit` changed rows, longest waiting first."""
        taken = [device_id for device_id, _ in zip(self._dirty, range(limit), strict=False)]
        states = []
        for device_id in taken:
            del self._dirty[device_id]
            states.append(self._by_id[device_id].state())
        return states

    def put_back(self, states: Iterable[DeviceState]) -> None:
        """Writing failed: they are due again, in their newest form."""
        for state in states:
            if state.device_id in self._by_id:
                self._dirty[state.device_id] = None


BEIJING_S = 8 * 3600
"""Beijing is UTC+8 all year; devices and their administrators read this clock."""


def beijing_time(at_us: UtcMicros) -> str:
    """HH:MM:SS for evidence sentences; full instants stand beside them as numbers."""
    seconds = (at_us // MICROS + BEIJING_S) % 86_400
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def address(peer: Peer) -> str:
    """`192.0.2.7:5060/udp`: as it would be looked for in a capture."""
    host = f"[{peer.host}]" if ":" in peer.host else peer.host
    return f"{host}:{peer.port}/{peer.transport.value}"


__all__ = [
    "ADVANCE_MAX_S",
    "FREEZE_INTERVALS",
    "Edge",
    "Entry",
    "PresenceRules",
    "Roster",
    "address",
    "beijing_time",
]
