"""What really happened in a world, written down by nobody of the platform.

The checkers compare this with what the platform says of itself. Nothing here asks the platform for
anything but at the very moment at which it claims something: when a row is committed, the object
must already be safe.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from simulators.world.loop import Process, current
from simulators.world.pictures import is_key, numbers_in
from vsp.model.changes import AuditRow
from vsp.model.ids import ChannelId, SessionId, UserId, UtcMicros, ViewId
from vsp.model.people import Action
from vsp.model.recording import Segment
from vsp.model.stream import SessionSpec, ViewSpec
from vsp.store.audit import OPENED

WATCHING = {Action.VIEW_LIVE, Action.PLAYBACK}

ROW_BEFORE_S = 60.0
"""Longest time from the audit row of a view to its opening: a stream may be waited for."""


@dataclass(frozen=True, slots=True)
class Received:
    """A picture that a worker was given.

    came  when it reached the port: a port holds what comes before it knows whom to trust
    """

    number: int
    at: float
    key: bool
    came: float


@dataclass(slots=True, eq=False)
class Taping:
    """A session that a worker was told to record: what it was given from then on must be kept."""

    channel_id: ChannelId
    process: Process
    begin: float
    end: float = float("inf")
    received: list[Received] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Death:
    """A process that died without being asked; `power` when its computer went dark."""

    at: float
    name: str
    power: bool


@dataclass(slots=True, eq=False)
class Window:
    """Something was wrong from `begin` to `end`; kind as fate names it."""

    kind: str
    begin: float
    end: float = float("inf")
    about: str = ""


@dataclass(slots=True, eq=False)
class Showing:
    """One view, as its viewer lived it."""

    view_id: ViewId
    user_id: UserId
    channel_id: ChannelId
    opened_us: UtcMicros
    admitted: float | None = None
    frames: int = 0
    last_at: float = 0.0


class Witness:
    """See the module."""

    def __init__(self) -> None:
        self.tapings: list[Taping] = []
        self.committed: dict[str, Segment] = {}
        self.published: dict[str, float] = {}
        """When each object of the bucket was completed."""
        self.acts: dict[str, float] = {}
        """When each act that is in the audit log began."""
        self.deaths: list[Death] = []
        self.windows: list[Window] = []
        self.showings: list[Showing] = []
        self.barred: list[tuple[float, UserId]] = []
        """When an account had been disabled."""
        self.denied = 0
        """Viewers with a bad ticket that were turned away."""
        self.timelines = 0
        """Timelines that were asked for and looked through."""
        self.findings: list[str] = []
        self._specs: dict[SessionId, SessionSpec] = {}
        self._taping: dict[SessionId, Taping] = {}
        self._views: set[ViewId] = set()
        self._rows: dict[str, list[float]] = {}
        """Of each subject, when a row was written that no view has come of yet."""

    def find(self, finding: str) -> None:
        """Something is not as it must be."""
        self.findings.append(finding)

    # ---- what workers are told and given ----------------------------------------------------

    def told(self, name: str, arguments: Sequence[object], now: float) -> None:
        """A worker has done what the node told it to; we are in its process."""
        match name, arguments:
            case "open_session", [SessionSpec() as spec]:
                self._specs[spec.session_id] = spec
            case "start_recording", [str(session), *_]:
                self._begin_taping(SessionId(session), now)
            case (("stop_recording" | "close_session"), [str(session), *_]):
                taping = self._taping.pop(SessionId(session), None)
                if taping is not None:
                    taping.end = now
            case "open_view", [ViewSpec() as view]:
                self._view_opened(view, now)

    def _begin_taping(self, session: SessionId, now: float) -> None:
        process = current()
        assert process is not None
        before = self._taping.get(session)
        if before is None or before.process is not process:
            taping = Taping(self._specs[session].channel_id, process, now)
            self._taping[session] = taping
            self.tapings.append(taping)

    def _view_opened(self, view: ViewSpec, now: float) -> None:
        """I5: who may look now is written down already, each in a row of its own."""
        if view.view_id in self._views:
            return
        self._views.add(view.view_id)
        rows = self._rows.get(f"channel:{view.channel_id}", [])
        while rows:
            if now - rows.pop(0) <= ROW_BEFORE_S:
                return
        self.find(f"{now:.3f} view {view.view_id} of {view.channel_id} is open and not in the log")

    def acted(self, row: AuditRow, now: float) -> None:
        """A row is in the audit log."""
        self.acts.setdefault(row.act_id, now)
        if row.phase == OPENED and row.action in WATCHING:
            self._rows.setdefault(row.subject, []).append(now)

    def media(self, spec: SessionSpec, packet: bytes, now: float, came: float) -> None:
        """A packet was handed to a session; it came then."""
        taping = self._taping.get(spec.session_id)
        if taping is not None:
            key = is_key(packet)
            numbers = numbers_in(packet)
            taping.received += [Received(number, now, key, came) for number in numbers]

    # ---- what was wrong ---------------------------------------------------------------------

    def died(self, process: Process, now: float, *, power: bool = False) -> None:
        """Without having been asked."""
        self.deaths.append(Death(now, process.name, power))

    def begin(self, kind: str, now: float, about: str = "") -> Window:
        """From now on something is wrong."""
        window = Window(kind, now, about=about)
        self.windows.append(window)
        return window

    def disturbed(self, begin: float, end: float, *kinds: str, about: str = "") -> bool:
        """Whether any such window overlaps [begin, end]."""
        return any(
            window.kind in kinds
            and window.begin <= end
            and window.end >= begin
            and about in ("", window.about)
            for window in self.windows
        )

    def died_within(self, begin: float, end: float, prefix: str = "") -> bool:
        """Whether a process of such a name died in [begin, end]."""
        at = bisect_left(self.deaths, begin, key=lambda death: death.at)
        return any(death.name.startswith(prefix) for death in self.deaths[at:] if death.at <= end)


__all__ = ["Death", "Received", "Showing", "Taping", "Window", "Witness"]
