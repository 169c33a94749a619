"""What really happened in a world, written down by nobody of the platform.

The checkers compare this with what the platform says of itself. Nothing here asks the platform for
anything but at the very moment at which it claims something: when a row is committed, the object
must already be safe.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from simulators.world.pictures import numbers_in
from vsp.model.ids import ChannelId, UserId, ViewId
from vsp.model.recording import Segment


@dataclass(frozen=True, slots=True)
class Received:
    """A picture that a worker's session was given."""

    number: int
    at: float
    key: bool


@dataclass(frozen=True, slots=True)
class Death:
    """A process that died without being asked; `power` when its computer went dark."""

    at: float
    name: str
    power: bool


@dataclass(slots=True)
class Window:
    """Something was wrong from `begin` to `end`; kind as fate names it."""

    kind: str
    begin: float
    end: float = float("inf")
    about: str = ""


@dataclass(slots=True)
class Showing:
    """One view, as its viewer lived it."""

    view_id: ViewId
    user_id: UserId
    channel_id: ChannelId
    admitted: float | None = None
    frames: int = 0
    last_at: float = 0.0


@dataclass(slots=True)
class Witness:
    """See the module."""

    received: dict[ChannelId, list[Received]] = field(default_factory=dict)
    committed: dict[str, Segment] = field(default_factory=dict)
    deaths: list[Death] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    showings: list[Showing] = field(default_factory=list)
    denied: int = 0
    """Viewers with a bad ticket that were turned away."""

    intruders: list[str] = field(default_factory=list)
    """Viewers with a bad ticket that were let in."""

    barred: list[tuple[float, UserId, bool]] = field(default_factory=list)
    """When an account was disabled (True) or enabled again."""

    findings: list[str] = field(default_factory=list)

    def find(self, finding: str) -> None:
        self.findings.append(finding)

    def media(self, channel: str, packet: bytes, now: float) -> None:
        """A packet was handed to a session."""
        for number in numbers_in(packet):
            key = b"\x00\x00\x00\x01\x67" in packet
            self.received.setdefault(ChannelId(channel), []).append(Received(number, now, key))

    def begin(self, kind: str, now: float, about: str = "") -> Window:
        window = Window(kind, now, about=about)
        self.windows.append(window)
        return window

    def disturbed(self, begin: float, end: float, kinds: Sequence[str], about: str = "") -> bool:
        """Whether any such window overlaps [begin, end]."""
        return any(
            window.kind in kinds
            and window.begin <= end
            and window.end >= begin
            and about in ("", window.about)
            for window in self.windows
        )

    def died_within(self, begin: float, end: float, prefix: str = "") -> bool:
        """Whether a process of that name died in [begin, end]. Deaths are in order of time."""
        at = bisect_left(self.deaths, begin, key=lambda death: death.at)
        return any(death.name.startswith(prefix) for death in self.deaths[at:] if death.at <= end)


__all__ = ["Death", "Received", "Showing", "Window", "Witness"]
