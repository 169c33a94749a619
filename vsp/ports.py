"""Every seam of the platform as a Protocol.

Packages that decide or transport (`sip media retention access health`) never import each other nor
`store`; they receive these. Each port has one contract suite in `tests/contract/` that every
implementation passes. All times are `UtcMicros` unless named `now` (monotonic seconds).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from vsp.model.changes import AuditRow, Axis, ChangePoint
from vsp.model.device import (
    Binding,
    Candidate,
    CatalogDiff,
    CatalogItem,
    Channel,
    Device,
    DeviceSecret,
    DeviceSettings,
    NewDevice,
    Presence,
    RecordPlan,
)
from vsp.model.dialog import DialogKey, DialogState
from vsp.model.ids import (
    ChannelId,
    DepartmentId,
    DeviceId,
    GbId,
    RegionId,
    SessionId,
    UserId,
    UtcMicros,
    ViewId,
    WorkerId,
)
from vsp.model.people import Action, Actor, Department, Region, Role, User
from vsp.model.recording import OpenSegment, RecordingSpec, Segment, SegmentClosed
from vsp.model.stream import (
    Attempt,
    RemoteMedia,
    SegmentsWanted,
    SessionChanged,
    SessionPort,
    SessionSpec,
    SessionStatus,
    Troubles,
    ViewEnded,
    ViewEndpoint,
    ViewSpec,
)

T = TypeVar("T")


class Clock(Protocol):
    def now_us(self) -> UtcMicros: ...
    def monotonic(self) -> float: ...


class Ids(Protocol):
    """Randomness. A seeded one makes a whole run repeatable."""

    def token(self, n_bytes: int = 16) -> str: ...
    def number(self, below: int) -> int: ...
    def row_id(self) -> str: ...


class Metrics(Protocol):
    """Counting without knowing Prometheus. Names are declared in `health/metrics.py` only."""

    def count(self, name: str, by: float = 1.0, **labels: str) -> None: ...
    def gauge(self, name: str, value: float, **labels: str) -> None: ...
    def observe(self, name: str, value: float, **labels: str) -> None: ...


# ---- lists ----------------------------------------------------------------------------------

PAGE_SIZE_MAX = 500
"""Rows of one page: what a table can show and a client can parse in a few milliseconds."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Keyset paging: `after` is the opaque cursor of the previous page."""

    size: int = 100
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    items: Sequence[T]
    next: str | None
    total: int | None = None


# ---- devices and channels -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What the registrar writes behind, coalesced per device: at most one row a second."""

    device_id: DeviceId
    binding: Binding | None
    last_seen_us: UtcMicros | None
    presence: Presence
    presence_since_us: UtcMicros


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a DeviceInfo answer said."""

    manufacturer: str
    model: str
    firmware: str
    name: str


class DeviceBook(Protocol):
    """Devices, their channels and the unknown ones that knock."""

    async def add_device(
        self, new: NewDevice, at_us: UtcMicros, default_plan: RecordPlan
    ) -> Device:
        """Raises Conflict when the gb_id is taken. Channels found later inherit the plan."""
        ...

    async def device(self, device_id: DeviceId) -> Device: ...
    async def device_by_gb_id(self, gb_id: GbId) -> Device | None: ...
    async def devices(
        self, page: PageRequest, search: str = "", presence: Presence | None = None
    ) -> Page[Device]: ...
    async def secret(self, device_id: DeviceId) -> DeviceSecret: ...
    async def all_devices(self) -> Sequence[tuple[Device, DeviceSecret]]:
        """Every device with its secret: what the registrar loads at start."""
        ...

    async def update_device(
        self,
        device_id: DeviceId,
        *,
        name: str | None = None,
        settings: DeviceSettings | None = None,
        password: str | None = None,
    ) -> Device: ...
    async def remove_device(self, device_id: DeviceId) -> None: ...
    async def save_states(self, states: Sequence[DeviceState]) -> None: ...
    async def save_facts(self, device_id: DeviceId, facts: DeviceFacts) -> None: ...

    async def saw_candidates(self, sightings: Sequence[Candidate]) -> None: ...
    async def candidates(self, page: PageRequest) -> Page[Candidate]: ...
    async def drop_candidates(self, gb_ids: Sequence[GbId]) -> None: ...

    async def apply_catalog(
        self,
        device_id: DeviceId,
        items: Sequence[CatalogItem],
        expected: int | None,
        complete: bool,
        at_us: UtcMicros,
    ) -> CatalogDiff:
        """Insert and update. Missing ones are marked, and only when `complete`; none is deleted."""
        ...

    async def channel(self, channel_id: ChannelId) -> Channel: ...
    async def channels_by_gb_id(self, gb_id: GbId) -> Sequence[Channel]: ...
    async def channels(
        self, page: PageRequest, search: str = "", device_id: DeviceId | None = None
    ) -> Page[Channel]: ...
    async def planned_channels(self) -> Sequence[Channel]:
        """Playable channels whose plan is not NONE: the recorder's desired state."""
        ...

    async def channel_counts(self, device_ids: Sequence[DeviceId]) -> Mapping[DeviceId, int]:
        """Playable channels of each device named, in one query; without any: left out."""
        ...

    async def save_presence(
        self, states: Sequence[tuple[ChannelId, Presence, UtcMicros]]
    ) -> None: ...
    async def update_channel(
        self,
        channel_id: ChannelId,
        *,
        record_plan: RecordPlan | None = None,
        name: str | None = None,
    ) -> Channel: ...
    async def counts(self) -> Mapping[str, int]:
        """devices, devices_online, channels, channels_online, candidates."""
        ...


# ---- recordings -----------------------------------------------------------------------------


class SegmentIndex(Protocol):
    """Rows of what is stored. A row is written only after its object is durable (I1)."""

    async def commit(self, segments: Sequence[Segment]) -> None:
        """One transaction; idempotent by key. Returns once the rows are on disk."""
        ...

    async def find(
        self, channel_id: ChannelId, from_us: UtcMicros, until_us: UtcMicros, limit: int = 1000
    ) -> Sequence[Segment]:
        """Segments that overlap [from, until), by start."""
        ...

    async def next_after(self, channel_id: ChannelId, at_us: UtcMicros) -> Segment | None: ...
    async def by_key(self, keys: Sequence[str]) -> Mapping[str, Segment]:
        """The rows of those objects; keys without a row are left out."""
        ...

    async def walk(self, after: str, limit: int) -> Sequence[Segment]:
        """Every row, in the order of keys (by code point): the first `limit` behind `after`."""
        ...

    async def count(self) -> int:
        """Rows in all. It may take seconds: for those who are going to walk over every one."""
        ...


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size_bytes: int
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UploadInfo:
    """An upload under way. begun_us: by the store's clock."""

    key: str
    upload_id: str
    begun_us: UtcMicros


@dataclass(frozen=True, slots=True)
class PartInfo:
    """A part that has arrived. `tag` is what `complete` wants for it."""

    number: int
    size_bytes: int
    tag: str


class ObjectStore(Protocol):
    """Objects that grow by parts and become visible whole. Keys are made only from our own ids.

    begin -> put_part (1..n, any order, repeatable with the same bytes) -> complete. A part is at
    least 5 MiB but for the last one on S3; the folder takes any size. Whoever knows `upload_id` and
    the parts may complete, also another process. Metadata: ASCII keys and values.
    """

    async def begin(self, key: str, metadata: Mapping[str, str]) -> str: ...
    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        """Returns the part's tag. The same number again replaces it."""
        ...

    async def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> ObjectInfo:
        """Durable when it returns. Completing an already completed upload returns the object."""
        ...

    async def abort(self, key: str, upload_id: str) -> None: ...
    def uploads(self, prefix: str) -> AsyncIterator[UploadInfo]:
        """Uploads under way of keys that begin so, whoever began them; in no order."""
        ...

    async def parts(self, key: str, upload_id: str) -> Sequence[PartInfo]:
        """What has arrived of an upload, by number: enough for any process to complete it.

        NotFound once it is complete or aborted.
        """
        ...

    async def put(self, key: str, data: bytes, metadata: Mapping[str, str]) -> ObjectInfo: ...
    async def stat(self, key: str) -> ObjectInfo: ...
    async def read(self, key: str, offset: int, length: int) -> bytes:
        """Exactly `length` bytes, or DataLoss; NotFound when there is no such object."""
        ...

    def list(self, prefix: str, after: str = "") -> AsyncIterator[ObjectInfo]:
        """Objects whose keys begin so, those behind `after` only; metadata is left empty.

        Folder by folder, in the order of keys within each. Folders of one level are in that order
        too when no name of them begins another's, as with those of our own keys.
        """
        ...

    async def delete(self, key: str) -> None: ...


# ---- log of changes, audit, people ----------------------------------------------------------


class ChangeLog(Protocol):
    async def append(self, points: Sequence[ChangePoint]) -> None: ...
    async def between(
        self, subject: str, axis: Axis, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[ChangePoint]:
        """The point in force at `from_us`, then every point before `until_us`."""
        ...


class AuditEntry(Protocol):
    """An act under way. Leaving the context writes its end: ok, or the error's kind."""

    def note(self, detail: str) -> None: ...


Write = Callable[[], Awaitable[None]]
"""A write that can be tried again."""

Keep = Callable[[str, Write], Awaitable[None]]
"""Keeps a write under a name, and tries it until it is taken."""


class AuditLog(Protocol):
    def keep_endings(self, keep: Keep) -> None:
        """Whom to give an ending row that cannot be written now. An opening row has no second try:
        without it there is no act."""
        ...

    def act(
        self,
        actor: Actor | None,
        action: Action,
        subject: str,
        reason: str = "",
        address: str = "",
        who: str = "",
    ) -> AbstractAsyncContextManager[AuditEntry]:
        """Row when it opens, another when it ends. If it cannot be opened the act is refused."""
        ...

    async def rows(self, page: PageRequest) -> Page[AuditRow]: ...
    async def verify(self) -> int:
        """Rows checked; raises DataLoss naming the first row whose hash does not follow."""
        ...


@dataclass(frozen=True, slots=True)
class WebSession:
    """A signed-in session as stored: only a hash of its token."""

    token_hash: str
    user_id: UserId
    created_at_us: UtcMicros
    seen_at_us: UtcMicros
    expires_at_us: UtcMicros
    address: str


class People(Protocol):
    async def add_user(self, user: User, password_hash: str) -> None: ...
    async def user(self, user_id: UserId) -> User: ...
    async def user_by_name(self, name: str) -> tuple[User, str] | None:
        """The user and the password hash."""
        ...

    async def users(self) -> Sequence[User]: ...
    async def set_password(
        self, user_id: UserId, password_hash: str, must_change: bool
    ) -> None: ...
    async def set_user(
        self, user_id: UserId, *, enabled: bool | None = None, role: Role | None = None
    ) -> User: ...

    async def save_session(self, session: WebSession) -> None: ...
    async def session(self, token_hash: str) -> tuple[WebSession, User] | None: ...
    async def touch_session(self, token_hash: str, seen_at_us: UtcMicros) -> None: ...
    async def end_sessions(
        self, *, token_hash: str | None = None, user_id: UserId | None = None
    ) -> None: ...

    async def failed_sign_ins(self, name: str, since_us: UtcMicros) -> int: ...
    async def note_sign_in(self, name: str, address: str, ok: bool, at_us: UtcMicros) -> None: ...

    async def regions(self, as_of_us: UtcMicros) -> Sequence[Region]: ...
    async def departments(self, as_of_us: UtcMicros) -> Sequence[Department]: ...
    async def put_region(self, region: Region, recorded_at_us: UtcMicros) -> None: ...
    async def put_department(self, department: Department, recorded_at_us: UtcMicros) -> None: ...
    async def place_channel(
        self,
        channel_id: ChannelId,
        region_id: RegionId | None,
        department_id: DepartmentId | None,
        valid_from_us: UtcMicros,
    ) -> None: ...


# ---- streams --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DialogUse:
    """Whom the media of a dialog is for: a session of a worker."""

    channel_id: ChannelId
    session_id: SessionId
    worker_id: WorkerId


@dataclass(frozen=True, slots=True)
class DialogRow:
    """A dialog that a device believes in. Survives the process that made it.

    device_id   None when the address is of no device that we know
    use         None when nobody waits for it: answered too late, or unusable
    began_us    when it was answered
    ending_us   since when its BYE is owed; None while it is up
    """

    dialog: DialogState
    device_id: DeviceId | None
    use: DialogUse | None
    began_us: UtcMicros
    ending_us: UtcMicros | None = None


class StreamBook(Protocol):
    """The ledger of dialogs, and of attempts."""

    async def save(self, row: DialogRow) -> None: ...
    async def forget(self, dialog: DialogKey) -> None: ...
    async def all(self) -> Sequence[DialogRow]: ...
    async def save_attempt(self, attempt: Attempt) -> None: ...
    async def attempts(self, channel_id: ChannelId, limit: int = 50) -> Sequence[Attempt]: ...


WorkerEvent = SessionChanged | ViewEnded | SegmentsWanted | SegmentClosed | Troubles


class MediaControl(Protocol):
    """One media worker, as the platform commands it. Every call is idempotent by its id."""

    @property
    def worker_id(self) -> WorkerId: ...
    async def open_session(self, spec: SessionSpec) -> SessionPort: ...
    async def bind_remote(self, session_id: SessionId, remote: RemoteMedia) -> None: ...
    async def close_session(self, session_id: SessionId, cause: str, next_step: str = "") -> None:
        """End the stream and its views; both sentences are shown in the viewers' tiles."""
        ...

    async def start_recording(self, session_id: SessionId, spec: RecordingSpec) -> None: ...
    async def stop_recording(self, session_id: SessionId) -> None: ...
    async def open_view(self, spec: ViewSpec) -> ViewEndpoint: ...
    async def close_view(self, view_id: ViewId, cause: str) -> None: ...
    async def keep_views(self, view_ids: Sequence[ViewId]) -> Sequence[ViewId]:
        """Close every view but these: those of a node that is gone have nobody who judges them.

        Returns which of these there are: the others ended with an earlier life of the worker.
        """
        ...

    async def feed_segments(
        self, view_id: ViewId, segments: Sequence[Segment], until_us: UtcMicros
    ) -> None:
        """Rows that answer SegmentsWanted, by start; none exists between the last one and until."""
        ...

    async def sessions(self) -> Sequence[SessionStatus]: ...
    async def open_segments(self) -> Sequence[OpenSegment]: ...
    async def held_keys(self) -> Sequence[str]:
        """Objects that this worker is still at work on, up to the commit of their rows.

        What is not named here, and existed when it was asked for, the worker will never touch. So
        it waits until the spool of an earlier life is read; Unavailable while it cannot know.
        """
        ...

    async def acknowledge(self, seq: int) -> None:
        """Rows up to and including `seq` are committed; the journal may forget them."""
        ...

    def events(self) -> AsyncGenerator[WorkerEvent, None]:
        """Unacknowledged entries and the present troubles first, then everything as it happens."""
        ...


@dataclass(frozen=True, slots=True)
class InviteSpec:
    """What to INVITE (GB/T 28181-2016 9.2): one live stream of one channel.

    use  who receives it; kept with the dialog
    """

    device_id: DeviceId
    channel_gb_id: GbId
    host: str
    port: int
    transport: str
    ssrc: int
    use: DialogUse | None = None


@dataclass(frozen=True, slots=True)
class InviteAnswer:
    """The 200 OK, reduced to what media needs. `dialog` is in the ledger."""

    dialog: DialogState
    remote: RemoteMedia


@dataclass(frozen=True, slots=True)
class RecordItem:
    """One file held by a device (RecordInfo, GB/T 28181-2016 9.7). Times are UTC micros."""

    channel_gb_id: GbId
    name: str
    start_us: UtcMicros
    end_us: UtcMicros
    kind: str
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class TraceLine:
    """One SIP message seen or sent for a device. `text` is decoded, secrets removed, bounded."""

    at_us: UtcMicros
    outgoing: bool
    peer: str
    summary: str
    text: str


class SignalControl(Protocol):
    """Signalling, as actions use it."""

    def device_added(self, device: Device, secret: DeviceSecret) -> None: ...
    def device_removed(self, device_id: DeviceId) -> None: ...
    def presence(self, device_id: DeviceId) -> tuple[Presence, UtcMicros]: ...
    async def invite(self, spec: InviteSpec) -> InviteAnswer: ...
    async def bye(self, dialog: DialogState) -> None: ...
    async def refresh_catalog(self, device_id: DeviceId) -> CatalogDiff: ...
    async def device_info(self, device_id: DeviceId) -> DeviceFacts: ...
    async def device_status(self, device_id: DeviceId) -> Mapping[str, str]: ...
    async def records(
        self, device_id: DeviceId, channel_gb_id: GbId, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[RecordItem]: ...
    def trace(self, device_id: DeviceId, limit: int = 500) -> Sequence[TraceLine]: ...


class Lease(Protocol):
    """A right to act alone, for a while, with a fencing epoch."""

    async def claim(self, name: str, holder: str, ttl_s: float) -> int | None:
        """The epoch when held (new or renewed), None when another holds it."""
        ...

    async def give_up(self, name: str, holder: str) -> None: ...
