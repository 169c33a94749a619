"""The rows of a database in memory, and the orders in which they are looked for.

A row is the noun that its port gives away, frozen, so that reading copies nothing; where a noun is
made of more than it shows (a given and a reported name), the row keeps the rest beside it. Orders
are sorted lists. Nothing here iterates over a set, so nothing depends on how a process hashes.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from vsp.model.changes import AuditRow, Axis, ChangePoint
from vsp.model.device import Candidate, Channel, ChannelClass, ChannelLabel, Device, RecordPlan
from vsp.model.ids import (
    AttemptId,
    ChannelId,
    DepartmentId,
    DeviceId,
    GbId,
    RegionId,
    UserId,
    UtcMicros,
)
from vsp.model.people import Department, Region, User
from vsp.model.recording import Segment
from vsp.model.stream import Attempt
from vsp.ports import DialogRow, WebSession

if TYPE_CHECKING:
    from _typeshed import SupportsRichComparison

K = TypeVar("K", bound="SupportsRichComparison")

# ---- devices and channels -------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class DeviceRow:
    """A device as it is shown, and what is not shown of it."""

    device: Device
    given_name: str
    password: str
    default_plan: RecordPlan
    reported_name: str = ""
    removed: bool = False


@dataclass(slots=True)
class DeviceTable:
    """Devices that are present."""

    by_id: dict[DeviceId, DeviceRow] = field(default_factory=dict)
    by_gb_id: dict[GbId, DeviceRow] = field(default_factory=dict)
    order: list[tuple[GbId, DeviceId]] = field(default_factory=list)

    def add(self, row: DeviceRow) -> None:
        device = row.device
        assert device.id not in self.by_id, device.id
        self.by_id[device.id] = row
        self.by_gb_id[device.gb_id] = row
        insort(self.order, (device.gb_id, device.id))

    def remove(self, row: DeviceRow) -> None:
        device = row.device
        row.removed = True
        del self.by_id[device.id]
        del self.by_gb_id[device.gb_id]
        _take(self.order, (device.gb_id, device.id))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a channel belongs and which promise covers it, from a date on."""

    region_id: RegionId | None
    department_id: DepartmentId | None
    klass: ChannelClass
    label: ChannelLabel
    valid_from_us: UtcMicros
    valid_to_us: UtcMicros | None = None


@dataclass(slots=True, eq=False)
class ChannelRow:
    """A channel as it was last shown, and what that is made of.

    record_plan      its own; None: its device's
    planned          whether the table has it among the planned ones
    placements       all versions, in the order of recording
    placed_from_us   from then on `channel` has the placement that is in force,
    placed_until_us  until then; at first it never has
    """

    channel: Channel
    device: DeviceRow
    given_name: str = ""
    reported_name: str = ""
    record_plan: RecordPlan | None = None
    fingerprint: str = ""
    planned: bool = False
    placements: list[Placement] = field(default_factory=list)
    placed_from_us: int = 0
    placed_until_us: int = 0


@dataclass(slots=True)
class ChannelTable:
    """Channels. `by_id` has those of removed devices too: their rows stay, as in a database."""

    by_id: dict[ChannelId, ChannelRow] = field(default_factory=dict)
    by_gb_id: dict[GbId, list[ChannelId]] = field(default_factory=dict)
    of_device: dict[DeviceId, list[tuple[GbId, ChannelId]]] = field(default_factory=dict)
    order: list[tuple[GbId, ChannelId]] = field(default_factory=list)
    planned: list[ChannelId] = field(default_factory=list)

    def add(self, row: ChannelRow) -> None:
        channel = row.channel
        assert channel.id not in self.by_id, channel.id
        self.by_id[channel.id] = row
        insort(self.by_gb_id.setdefault(channel.gb_id, []), channel.id)
        insort(self.of_device.setdefault(channel.device_id, []), (channel.gb_id, channel.id))
        insort(self.order, (channel.gb_id, channel.id))

    def plan(self, row: ChannelRow) -> None:
        """Put it among the planned ones, or take it from there, as its channel now says."""
        planned = row.channel.record_plan is not RecordPlan.NONE and not row.device.removed
        if planned and not row.planned:
            insort(self.planned, row.channel.id)
        elif row.planned and not planned:
            _take(self.planned, row.channel.id)
        row.planned = planned

    def hide(self, device_id: DeviceId) -> None:
        """The device was removed, and its channels are gone with it."""
        for gb_id, channel_id in self.of_device.pop(device_id, []):
            _take(self.by_gb_id[gb_id], channel_id)
            _take(self.order, (gb_id, channel_id))
            self.plan(self.by_id[channel_id])


@dataclass(slots=True)
class CandidateTable:
    """Candidates; their order is that of first sight, which never moves."""

    by_gb_id: dict[GbId, Candidate] = field(default_factory=dict)
    order: list[tuple[UtcMicros, GbId]] = field(default_factory=list)

    def put(self, candidate: Candidate) -> None:
        if candidate.gb_id not in self.by_gb_id:
            insort(self.order, (candidate.first_seen_us, candidate.gb_id))
        self.by_gb_id[candidate.gb_id] = candidate

    def drop(self, gb_id: GbId) -> None:
        candidate = self.by_gb_id.pop(gb_id, None)
        if candidate is not None:
            _take(self.order, (candidate.first_seen_us, gb_id))


# ---- recordings and streams -----------------------------------------------------------------

BY_START = attrgetter("start_us", "key")
BY_AT = attrgetter("at_us")


@dataclass(slots=True)
class ChannelSegments:
    """The segments of one channel by start; `longest_us` is how long the longest one lasts."""

    rows: list[Segment] = field(default_factory=list)
    longest_us: int = 0


@dataclass(slots=True)
class SegmentTable:
    """Segments by key, by channel and start, and, when somebody walks, in the order of keys."""

    by_key: dict[str, Segment] = field(default_factory=dict)
    of_channel: dict[ChannelId, ChannelSegments] = field(default_factory=dict)
    _order: list[str] = field(default_factory=list)
    _not_in_order: list[str] = field(default_factory=list)

    def add(self, segment: Segment) -> None:
        self.by_key[segment.key] = segment
        self._not_in_order.append(segment.key)
        mine = self.of_channel.setdefault(segment.channel_id, ChannelSegments())
        insort(mine.rows, segment, key=BY_START)
        mine.longest_us = max(mine.longest_us, segment.end_us - segment.start_us)

    def order(self) -> list[str]:
        """Every key. Sorted when it is asked for: walks are rare and rows come all the time."""
        if self._not_in_order:
            self._order += self._not_in_order
            self._order.sort()
            self._not_in_order.clear()
        return self._order


@dataclass(slots=True)
class AttemptTable:
    """Attempts by id, and of each channel in the order of their beginning."""

    by_id: dict[AttemptId, Attempt] = field(default_factory=dict)
    of_channel: dict[ChannelId, list[tuple[UtcMicros, AttemptId]]] = field(default_factory=dict)

    def put(self, attempt: Attempt) -> None:
        if attempt.id in self.by_id:
            self.drop(attempt.id)
        self.by_id[attempt.id] = attempt
        mine = self.of_channel.setdefault(attempt.channel_id, [])
        insort(mine, (attempt.started_us, attempt.id))

    def drop(self, attempt_id: AttemptId) -> None:
        attempt = self.by_id.pop(attempt_id)
        _take(self.of_channel[attempt.channel_id], (attempt.started_us, attempt_id))


# ---- people, audit, leases ------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class UserRow:
    """An account with the hash of its password."""

    user: User
    password_hash: str


@dataclass(frozen=True, slots=True)
class SignIn:
    """A try to sign in."""

    name_key: str
    ok: bool
    at_us: UtcMicros


@dataclass(slots=True)
class PeopleTable:
    """Accounts by id and by the key of their name, sessions, and tries in the order of arrival."""

    by_id: dict[UserId, UserRow] = field(default_factory=dict)
    by_name: dict[str, UserRow] = field(default_factory=dict)
    sessions: dict[str, WebSession] = field(default_factory=dict)
    sign_ins: list[SignIn] = field(default_factory=list)


@dataclass(slots=True)
class RegisterTable:
    """All versions of each region and department, in the order of recording."""

    regions: dict[RegionId, list[Region]] = field(default_factory=dict)
    departments: dict[DepartmentId, list[Department]] = field(default_factory=dict)


@dataclass(slots=True)
class AuditTable:
    """The chain of each node, and the order of all rows: instant, node, place in the chain."""

    chains: dict[str, list[AuditRow]] = field(default_factory=dict)
    order: list[tuple[UtcMicros, str, int]] = field(default_factory=list)

    def add(self, node: str, row: AuditRow) -> None:
        self.chains.setdefault(node, []).append(row)
        insort(self.order, (row.at_us, node, row.seq))


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """Who holds a right, under which epoch, until when."""

    holder: str
    epoch: int
    until_us: int


# ---- all of them ----------------------------------------------------------------------------


@dataclass(slots=True)
class MemoryDatabase:
    """All rows. It outlives the stores that are opened over it, at once or one after another."""

    devices: DeviceTable = field(default_factory=DeviceTable)
    channels: ChannelTable = field(default_factory=ChannelTable)
    candidates: CandidateTable = field(default_factory=CandidateTable)
    segments: SegmentTable = field(default_factory=SegmentTable)
    change_points: dict[tuple[str, Axis], list[ChangePoint]] = field(default_factory=dict)
    dialogs: dict[str, DialogRow] = field(default_factory=dict)
    attempts: AttemptTable = field(default_factory=AttemptTable)
    people: PeopleTable = field(default_factory=PeopleTable)
    register: RegisterTable = field(default_factory=RegisterTable)
    audit: AuditTable = field(default_factory=AuditTable)
    leases: dict[str, LeaseRow] = field(default_factory=dict)


def _take(order: list[K], key: K) -> None:
    """Remove what is there for certain."""
    place = bisect_left(order, key)
    assert order[place] == key, key
    del order[place]
