"""What the HTTP API says and hears: one pydantic model for each body, query and answer.

This is the edge where instants become RFC 3339 text in UTC (`Z`, milliseconds) and back; inside
there are only integer microseconds. Field names are snake_case, units are last. The OpenAPI
document is generated from these classes.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from vsp.access.authn import SignedIn
from vsp.actions.alarms import Alarm
from vsp.actions.channels import ChannelEntry
from vsp.actions.devices import ApproveResult, DeviceEntry, ImportResult, LineFailed
from vsp.actions.overview import Counts
from vsp.actions.timeline import Timeline
from vsp.actions.views import OpenedView, ViewStatus
from vsp.model.changes import AuditRow, ChangePoint
from vsp.model.device import (
    Candidate,
    CatalogDiff,
    Charset,
    Device,
    DeviceKind,
    DeviceSettings,
    DigestAlgorithm,
    MediaTransport,
    NewDevice,
    Presence,
    RecordPlan,
    Transport,
)
from vsp.model.ids import GbId, UtcMicros
from vsp.model.people import Department, Region, Role, User
from vsp.model.stream import Attempt, SessionStatus
from vsp.ports import PAGE_SIZE_MAX, DeviceFacts, Page, PageRequest, RecordItem, TraceLine

T = TypeVar("T")

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_INSTANT_MAX_US = 4_102_444_800_000_000
"""2100-01-01: a later instant in a request is a mistake of units."""


HISTORY_DEFAULT_US = 7 * 86_400_000_000
"""A week: what the console shows of what has misbehaved."""


def instant(at_us: UtcMicros) -> str:
    """RFC 3339 in UTC with milliseconds: `2026-11-22T08:00:00.000Z`."""
    text = (_EPOCH + datetime.timedelta(microseconds=at_us)).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def maybe_instant(at_us: UtcMicros | None) -> str | None:
    return None if at_us is None else instant(at_us)


def parse_instant(text: object) -> object:
    """RFC 3339 with a zone, as microseconds. Raises ValueError, which pydantic reports."""
    if not isinstance(text, str):
        raise ValueError("an instant is RFC 3339 text such as 2026-11-22T08:00:00Z")
    try:
        # An unescaped "+" of a zone arrives as a blank in a query.
        at = datetime.datetime.fromisoformat(
            text.strip().replace(" ", "+") if _blank(text) else text
        )
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError("an instant is RFC 3339 text with a zone, such as 2026-11-22T08:00:00Z")
    at_us = (at - _EPOCH) // datetime.timedelta(microseconds=1)
    if not 0 <= at_us <= _INSTANT_MAX_US:
        raise ValueError("the instant is outside 1970 to 2100")
    return at_us


def _blank(text: str) -> bool:
    return "T" in text and " " in text


InstantIn = Annotated[
    int,
    BeforeValidator(parse_instant),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
InstantOut = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class Wire(BaseModel):
    """Base of all: unknown fields are refused, so that a typing slip is not silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ErrorOut(Wire):
    """Every failure: `kind` is one of nine words, the rest are sentences for people."""

    kind: str
    message: str
    cause: str
    next_step: str


class ListOut(Wire, Generic[T]):
    """One page. `next` is the cursor for `after`; null on the last page."""

    items: list[T]
    next: str | None = None
    total: int | None = None


def listed(items: Sequence[T]) -> ListOut[T]:
    """A list that is answered whole."""
    return ListOut[T](items=list(items), total=len(items))


S = TypeVar("S")


def paged(page: Page[S], convert: Callable[[S], T]) -> ListOut[T]:
    return ListOut[T](
        items=[convert(item) for item in page.items], next=page.next, total=page.total
    )


# ---- queries --------------------------------------------------------------------------------


class PageQuery(Wire):
    size: int = Field(100, ge=1, le=PAGE_SIZE_MAX, description="Rows of this page.")
    after: str | None = Field(None, max_length=512, description="`next` of the previous page.")

    def page(self) -> PageRequest:
        return PageRequest(self.size, self.after)


class DeviceQuery(PageQuery):
    q: str = Field("", max_length=100, description="Part of a name or code.")
    presence: Presence | None = None


class ChannelQuery(PageQuery):
    q: str = Field("", max_length=100, description="Part of a name or code.")
    device: str | None = Field(None, max_length=64, description="Only this device's channels.")


class TraceQuery(Wire):
    limit: int = Field(500, ge=1, le=2000)


class AttemptQuery(Wire):
    limit: int = Field(50, ge=1, le=200)


class WindowQuery(Wire):
    from_: InstantIn = Field(alias="from")
    to: InstantIn


class HistoryQuery(Wire):
    from_: InstantIn | None = Field(None, alias="from", description="Default: seven days ago.")
    to: InstantIn | None = Field(None, description="Default: now.")

    def window(self, now_us: UtcMicros) -> tuple[UtcMicros, UtcMicros]:
        """From when to when, with what was left out filled in."""
        until_us = now_us if self.to is None else self.to
        from_us = until_us - HISTORY_DEFAULT_US if self.from_ is None else self.from_
        return UtcMicros(from_us), UtcMicros(until_us)


class AlarmQuery(HistoryQuery):
    from_: InstantIn | None = Field(
        None, alias="from", description="Default with `to`: seven days before it."
    )
    to: InstantIn | None = Field(None, description="Default with `from`: now.")


class ImportQuery(Wire):
    update: bool = Field(False, description="Overwrite devices that are known already.")


# ---- session and users ----------------------------------------------------------------------


class UserOut(Wire):
    id: str
    name: str
    display_name: str
    role: Role
    enabled: bool
    must_change_password: bool
    created_at: InstantOut

    @classmethod
    def of(cls, user: User) -> UserOut:
        return cls(
            id=user.id,
            name=user.name,
            display_name=user.display_name,
            role=user.role,
            enabled=user.enabled,
            must_change_password=user.must_change_password,
            created_at=instant(user.created_at_us),
        )


class SignInIn(Wire):
    user: str = Field(max_length=256)
    password: str = Field(max_length=1024)
    totp: str | None = Field(None, max_length=16, description="Ignored: no account has one yet.")


class SessionOut(Wire):
    user: UserOut
    expires_at: InstantOut = Field(description="End of the session unless it is used before.")


class SignedInOut(SessionOut):
    token: str = Field(description="Bearer token; told once.")

    @classmethod
    def of(cls, signed_in: SignedIn, ends_at_us: UtcMicros) -> SignedInOut:
        return cls(
            user=UserOut.of(signed_in.user),
            expires_at=instant(ends_at_us),
            token=signed_in.token,
        )


class PasswordIn(Wire):
    old: str = Field(max_length=1024)
    new: str = Field(max_length=1024)


class NewUserIn(Wire):
    name: str = Field(max_length=64)
    password: str = Field(max_length=1024)
    role: Role
    display_name: str = Field("", max_length=64)
    must_change_password: bool = Field(
        True, description="Whether the first act must be a new password; off for programs."
    )


class UserPatchIn(Wire):
    enabled: bool | None = None
    role: Role | None = None
    password: str | None = Field(None, max_length=1024)


# ---- devices --------------------------------------------------------------------------------


class CatalogOut(Wire):
    received: int
    expected: int | None
    complete: bool
    at: InstantOut | None


class SettingsOut(Wire):
    auth_username: str | None
    transport: Transport | None
    media_transport: MediaTransport | None
    charset: Charset
    version: str | None
    digest: DigestAlgorithm
    keepalive_interval_s: int | None
    keepalive_misses: int | None
    send_date: bool

    @classmethod
    def of(cls, settings: DeviceSettings) -> SettingsOut:
        return cls(**{name: getattr(settings, name) for name in cls.model_fields})


class DeviceOut(Wire):
    id: str
    gb_id: str
    name: str
    kind: DeviceKind
    presence: Presence
    presence_since: InstantOut
    created_at: InstantOut
    address: str | None
    transport: Transport | None
    last_seen: InstantOut | None
    expires_at: InstantOut | None
    manufacturer: str
    model: str
    firmware: str
    user_agent: str
    gb_version: str
    channels: int
    catalog: CatalogOut
    settings: SettingsOut

    @classmethod
    def of(cls, entry: DeviceEntry) -> DeviceOut:
        device, binding = entry.device, entry.device.binding
        return cls(
            id=device.id,
            gb_id=device.gb_id,
            name=device.name,
            kind=device.kind,
            presence=device.presence,
            presence_since=instant(device.presence_since_us),
            created_at=instant(device.created_at_us),
            address=None if binding is None else _address(binding.host, binding.port),
            transport=None if binding is None else binding.transport,
            last_seen=maybe_instant(device.last_seen_us),
            expires_at=None if binding is None else instant(binding.expires_at_us),
            manufacturer=device.manufacturer,
            model=device.model,
            firmware=device.firmware,
            user_agent="" if binding is None else binding.user_agent,
            gb_version="" if binding is None else binding.gb_version,
            channels=entry.channels,
            catalog=_catalog(device),
            settings=SettingsOut.of(device.settings),
        )


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _catalog(device: Device) -> CatalogOut:
    return CatalogOut(
        received=device.catalog_received,
        expected=device.catalog_expected,
        complete=device.catalog_complete,
        at=maybe_instant(device.catalog_at_us),
    )


class SettingsIn(Wire):
    """Settings of a device; null means the platform's default."""

    auth_username: str | None = Field(None, max_length=64)
    transport: Transport | None = None
    media_transport: MediaTransport | None = None
    charset: Charset | None = None
    version: str | None = Field(None, max_length=16)
    digest: DigestAlgorithm | None = None
    keepalive_interval_s: int | None = Field(None, ge=1, le=3600)
    keepalive_misses: int | None = Field(None, ge=1, le=10)
    send_date: bool | None = None

    def applied_to(self, settings: DeviceSettings) -> DeviceSettings:
        """`settings` with what this request really names; null puts a default back."""
        default = DeviceSettings()
        values = {name: getattr(settings, name) for name in SettingsIn.model_fields}
        for name in self.model_fields_set & values.keys():
            given = getattr(self, name)
            values[name] = getattr(default, name) if given is None else given
        return DeviceSettings(**values)

    def names_settings(self) -> bool:
        return bool(self.model_fields_set & SettingsIn.model_fields.keys())


class NewDeviceIn(SettingsIn):
    gb_id: str = Field(max_length=64)
    password: str = Field(max_length=256)
    name: str = Field("", max_length=256)
    record: bool | RecordPlan | None = Field(
        None, description="Record its channels; none: as the platform is set."
    )

    def new_device(self) -> NewDevice:
        return NewDevice(
            gb_id=GbId(self.gb_id),
            password=self.password,
            name=self.name,
            settings=self.applied_to(DeviceSettings()),
            record_plan=self._plan(),
        )

    def _plan(self) -> RecordPlan | None:
        if isinstance(self.record, bool):
            return RecordPlan.ALWAYS if self.record else RecordPlan.NONE
        return self.record


class DevicePatchIn(SettingsIn):
    name: str | None = Field(None, max_length=256)
    password: str | None = Field(None, max_length=256)


class ImportIn(Wire):
    csv: str = Field(description="Text of the sheet, the first line naming the columns.")


class LineFailedOut(Wire):
    line: int
    gb_id: str
    error: str

    @classmethod
    def of(cls, failed: LineFailed) -> LineFailedOut:
        return cls(line=failed.line, gb_id=failed.gb_id, error=failed.error)


class ImportOut(Wire):
    added: int
    updated: int
    failed: list[LineFailedOut]
    total: int

    @classmethod
    def of(cls, result: ImportResult) -> ImportOut:
        return cls(
            added=result.added,
            updated=result.updated,
            failed=[LineFailedOut.of(failed) for failed in result.failed],
            total=result.total,
        )


class TraceLineOut(Wire):
    at: InstantOut
    outgoing: bool
    peer: str
    summary: str
    text: str

    @classmethod
    def of(cls, line: TraceLine) -> TraceLineOut:
        return cls(
            at=instant(line.at_us),
            outgoing=line.outgoing,
            peer=line.peer,
            summary=line.summary,
            text=line.text,
        )


class CatalogDiffOut(Wire):
    """Codes of the channels that an answer brought, changed, or (if complete) lacked."""

    received: int
    expected: int | None
    complete: bool
    added: list[str]
    changed: list[str]
    missing: list[str]

    @classmethod
    def of(cls, diff: CatalogDiff) -> CatalogDiffOut:
        return cls(
            received=diff.received,
            expected=diff.expected,
            complete=diff.complete,
            added=list(diff.added),
            changed=list(diff.changed),
            missing=list(diff.missing),
        )


class DeviceInfoOut(Wire):
    manufacturer: str
    model: str
    firmware: str
    name: str

    @classmethod
    def of(cls, facts: DeviceFacts) -> DeviceInfoOut:
        return cls(
            manufacturer=facts.manufacturer,
            model=facts.model,
            firmware=facts.firmware,
            name=facts.name,
        )


class DeviceStatusOut(Wire):
    """The elements of the device's answer by their own names, unjudged."""

    status: dict[str, str]


class ChangePointOut(Wire):
    at: InstantOut
    state: str
    cause: str
    evidence: str

    @classmethod
    def of(cls, point: ChangePoint) -> ChangePointOut:
        return cls(
            at=instant(point.at_us),
            state=point.state,
            cause=point.cause,
            evidence=point.evidence,
        )


class CandidateOut(Wire):
    gb_id: str
    host: str
    port: int
    transport: Transport
    user_agent: str
    first_seen: InstantOut
    last_seen: InstantOut
    attempts: int

    @classmethod
    def of(cls, candidate: Candidate) -> CandidateOut:
        return cls(
            gb_id=candidate.gb_id,
            host=candidate.host,
            port=candidate.port,
            transport=candidate.transport,
            user_agent=candidate.user_agent,
            first_seen=instant(candidate.first_seen_us),
            last_seen=instant(candidate.last_seen_us),
            attempts=candidate.attempts,
        )


class ApproveItemIn(Wire):
    gb_id: str = Field(max_length=64)
    password: str = Field(max_length=256)
    name: str = Field("", max_length=256)


class ApproveIn(Wire):
    items: list[ApproveItemIn] = Field(max_length=1000)


class ApproveOut(Wire):
    approved: int
    failed: list[LineFailedOut]

    @classmethod
    def of(cls, result: ApproveResult) -> ApproveOut:
        return cls(
            approved=result.approved,
            failed=[LineFailedOut.of(failed) for failed in result.failed],
        )


class DismissIn(Wire):
    gb_ids: list[Annotated[str, Field(max_length=64)]] = Field(max_length=1000)


# ---- channels -------------------------------------------------------------------------------


class ChannelOut(Wire):
    id: str
    device_id: str
    device_gb_id: str
    device_name: str
    gb_id: str
    name: str
    playable: bool
    presence: Presence
    presence_since: InstantOut
    reported: Presence
    parent_gb_id: str
    civil_code: str
    record_plan: RecordPlan
    klass: str = Field(alias="class")
    label: str
    region_id: str | None
    department_id: str | None
    recording: bool
    manufacturer: str
    model: str
    address: str
    longitude: float | None
    latitude: float | None
    ptz_type: int | None
    missing_since: InstantOut | None

    @classmethod
    def of(cls, entry: ChannelEntry) -> ChannelOut:
        channel = entry.channel
        return cls(
            id=channel.id,
            device_id=channel.device_id,
            device_gb_id=entry.device.gb_id,
            device_name=entry.device.name,
            gb_id=channel.gb_id,
            name=channel.name,
            playable=channel.playable,
            presence=channel.presence,
            presence_since=instant(channel.presence_since_us),
            reported=channel.reported,
            parent_gb_id=channel.parent_gb_id,
            civil_code=channel.civil_code,
            record_plan=channel.record_plan,
            klass=channel.klass.value,
            label=channel.label.value,
            region_id=channel.region_id,
            department_id=channel.department_id,
            recording=entry.recording,
            manufacturer=channel.manufacturer,
            model=channel.model,
            address=channel.address,
            longitude=channel.longitude,
            latitude=channel.latitude,
            ptz_type=channel.ptz_type,
            missing_since=maybe_instant(channel.missing_since_us),
        )


class ChannelPatchIn(Wire):
    record_plan: RecordPlan | None = None
    name: str | None = Field(None, max_length=256)


class AttemptStepOut(Wire):
    at: InstantOut
    what: str
    detail: str


class AttemptOut(Wire):
    id: str
    started_at: InstantOut
    ended_at: InstantOut | None
    purpose: str
    transport: MediaTransport | None
    call_id: str
    succeeded: bool | None
    leg: str | None
    cause: str
    next_step: str
    steps: list[AttemptStepOut]

    @classmethod
    def of(cls, attempt: Attempt) -> AttemptOut:
        return cls(
            id=attempt.id,
            started_at=instant(attempt.started_us),
            ended_at=maybe_instant(attempt.ended_us),
            purpose=attempt.purpose,
            transport=attempt.transport,
            call_id=attempt.call_id,
            succeeded=attempt.succeeded,
            leg=None if attempt.leg is None else attempt.leg.value,
            cause=attempt.cause,
            next_step=attempt.next_step,
            steps=[
                AttemptStepOut(at=instant(step.at_us), what=step.what, detail=step.detail)
                for step in attempt.steps
            ],
        )


class RecordOut(Wire):
    """A file that the device itself holds."""

    name: str
    start: InstantOut
    end: InstantOut
    kind: str
    size_bytes: int | None

    @classmethod
    def of(cls, item: RecordItem) -> RecordOut:
        return cls(
            name=item.name,
            start=instant(item.start_us),
            end=instant(item.end_us),
            kind=item.kind,
            size_bytes=item.size_bytes,
        )


class SpanOut(Wire):
    start: InstantOut
    end: InstantOut
    open: bool
    damaged_frames: int


class GapOut(Wire):
    start: InstantOut
    end: InstantOut
    cause: str
    evidence: str


class TimelineOut(Wire):
    from_: InstantOut = Field(alias="from")
    to: InstantOut
    spans: list[SpanOut]
    gaps: list[GapOut]

    @classmethod
    def of(cls, line: Timeline) -> TimelineOut:
        return cls(
            from_=instant(line.from_us),
            to=instant(line.to_us),
            spans=[
                SpanOut(
                    start=instant(span.start_us),
                    end=instant(span.end_us),
                    open=span.open,
                    damaged_frames=span.damaged_frames,
                )
                for span in line.spans
            ],
            gaps=[
                GapOut(
                    start=instant(gap.start_us),
                    end=instant(gap.end_us),
                    cause=gap.cause.value,
                    evidence=gap.evidence,
                )
                for gap in line.gaps
            ],
        )


# ---- views and streams ----------------------------------------------------------------------


class LiveIn(Wire):
    reason: str = Field("", max_length=200, description="Why; kept in the audit log.")


class PlaybackIn(Wire):
    start: InstantIn
    end: InstantIn | None = None
    reason: str = Field("", max_length=200, description="Why; kept in the audit log.")


class OpenedViewOut(Wire):
    """Connect to `url` (a WebSocket) with `ticket` before `expires_at`."""

    view_id: str
    url: str
    ticket: str
    expires_at: InstantOut

    @classmethod
    def of(cls, opened: OpenedView) -> OpenedViewOut:
        return cls(
            view_id=opened.view.id,
            url=opened.url,
            ticket=opened.ticket,
            expires_at=instant(opened.expires_at_us),
        )


class StreamStatsOut(Wire):
    packets: int
    bytes: int
    lost: int
    reordered: int
    duplicates: int
    foreign: int
    damaged_frames: int
    frames: int
    bits_per_s: int
    frames_per_s: float
    jitter_ms: float
    width: int
    height: int
    video: str | None
    audio: str | None
    gop_frames: int
    ssrc: int | None
    source: str
    first_packet_at: InstantOut | None
    first_key_at: InstantOut | None
    last_packet_at: InstantOut | None


class StreamOut(Wire):
    session_id: str
    channel_id: str
    worker_id: int
    state: str
    transport: MediaTransport
    port: int
    recording: bool
    viewers: int
    stats: StreamStatsOut

    @classmethod
    def of(cls, status: SessionStatus) -> StreamOut:
        return cls(
            session_id=status.session_id,
            channel_id=status.channel_id,
            worker_id=status.worker_id,
            state=status.state.value,
            transport=status.transport,
            port=status.port,
            recording=status.recording,
            viewers=status.viewers,
            stats=_stats(status),
        )


def _stats(status: SessionStatus) -> StreamStatsOut:
    stats = status.stats
    values: dict[str, Any] = {
        name: getattr(stats, name)
        for name in StreamStatsOut.model_fields
        if not name.endswith("_at")
    }
    return StreamStatsOut(
        **values,
        first_packet_at=maybe_instant(stats.first_packet_us),
        first_key_at=maybe_instant(stats.first_key_us),
        last_packet_at=maybe_instant(stats.last_packet_us),
    )


class ViewOut(Wire):
    """A view, the stream behind it, and the last attempt to bring that stream up."""

    view_id: str
    kind: str
    channel_id: str
    opened_at: InstantOut
    ended_at: InstantOut | None
    state: str
    cause: str
    next_step: str
    stream: StreamOut | None
    attempt: AttemptOut | None

    @classmethod
    def of(cls, status: ViewStatus) -> ViewOut:
        view, attempt = status.view, status.attempt
        failed = attempt if attempt is not None and attempt.succeeded is False else None
        return cls(
            view_id=view.id,
            kind=view.kind.value,
            channel_id=view.channel_id,
            opened_at=instant(view.opened_us),
            ended_at=maybe_instant(view.ended_us),
            state=status.state.value,
            cause=view.cause or (failed.cause if failed else ""),
            next_step=failed.next_step if failed else "",
            stream=None if status.status is None else StreamOut.of(status.status),
            attempt=None if attempt is None else AttemptOut.of(attempt),
        )


# ---- the platform ---------------------------------------------------------------------------


class HealthOut(Wire):
    status: str
    version: str
    now: InstantOut


class OverviewOut(Wire):
    devices: int
    devices_online: int
    channels: int
    channels_online: int
    candidates: int
    streams: int
    recording: int
    views: int

    @classmethod
    def of(cls, counts: Counts) -> OverviewOut:
        return cls(**{name: getattr(counts, name) for name in cls.model_fields})


class AlarmOut(Wire):
    """kind says what is refused, subject to whom, cause why, in the words of the system."""

    kind: str
    subject: str
    cause: str
    since: InstantOut
    until: InstantOut | None = Field(description="When it was over; null while it stands.")

    @classmethod
    def of(cls, alarm: Alarm) -> AlarmOut:
        return cls(
            kind=alarm.kind,
            subject=alarm.subject,
            cause=alarm.cause,
            since=instant(alarm.since_us),
            until=maybe_instant(alarm.until_us),
        )


class RegionOut(Wire):
    id: str
    code: str
    name: str
    level: str
    parent_id: str | None
    valid_from: InstantOut
    valid_to: InstantOut | None

    @classmethod
    def of(cls, region: Region) -> RegionOut:
        return cls(
            id=region.id,
            code=region.code,
            name=region.name,
            level=region.level.value,
            parent_id=region.parent_id,
            valid_from=instant(region.valid_from_us),
            valid_to=maybe_instant(region.valid_to_us),
        )


class DepartmentOut(Wire):
    id: str
    name: str
    kind: str
    region_id: str | None
    valid_from: InstantOut
    valid_to: InstantOut | None

    @classmethod
    def of(cls, department: Department) -> DepartmentOut:
        return cls(
            id=department.id,
            name=department.name,
            kind=department.kind,
            region_id=department.region_id,
            valid_from=instant(department.valid_from_us),
            valid_to=maybe_instant(department.valid_to_us),
        )


class AuditRowOut(Wire):
    seq: int
    act_id: str
    phase: str
    at: InstantOut
    actor: str
    address: str
    action: str
    subject: str
    reason: str
    result: str
    detail: str
    hash: str

    @classmethod
    def of(cls, row: AuditRow) -> AuditRowOut:
        return cls(
            seq=row.seq,
            act_id=row.act_id,
            phase=row.phase,
            at=instant(row.at_us),
            actor=row.actor,
            address=row.address,
            action=row.action,
            subject=row.subject,
            reason=row.reason,
            result=row.result,
            detail=row.detail,
            hash=row.hash,
        )
