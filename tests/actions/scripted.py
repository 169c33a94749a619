"""Ports whose other side is a script: what signalling and a worker would answer, and when.

The streams' own logic (order, sharing, retries, grace) is tested against these; that the real
signalling and the real workers behave so is what tests/e2e shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vsp.errors import NotFound, Unavailable, VspError
from vsp.model.changes import Axis, ChangePoint
from vsp.model.device import (
    Channel,
    ChannelClass,
    ChannelLabel,
    Device,
    DeviceKind,
    DeviceSettings,
    MediaTransport,
    Presence,
    RecordPlan,
    Transport,
)
from vsp.model.dialog import DialogState
from vsp.model.ids import (
    ChannelId,
    DeviceId,
    GbId,
    SessionId,
    UtcMicros,
    ViewId,
    WorkerId,
)
from vsp.model.recording import OpenSegment, RecordingSpec, Segment
from vsp.model.stream import (
    Attempt,
    RemoteMedia,
    SessionChanged,
    SessionPort,
    SessionSpec,
    SessionStatus,
    StreamState,
    StreamStats,
    ViewEndpoint,
    ViewSpec,
)
from vsp.ports import InviteAnswer, InviteSpec

CAMERA = GbId("34020000001320000001")


def device(**changes: object) -> Device:
    known = Device(
        id=DeviceId("d1"),
        gb_id=CAMERA,
        name="东门",
        kind=DeviceKind.CAMERA,
        settings=DeviceSettings(),
        presence=Presence.ONLINE,
        presence_since_us=UtcMicros(0),
        created_at_us=UtcMicros(0),
    )
    return replace(known, **changes)


def channel(number: int = 1, plan: RecordPlan = RecordPlan.NONE) -> Channel:
    return Channel(
        id=ChannelId(f"c{number}"),
        device_id=DeviceId("d1"),
        gb_id=GbId(f"3402000000132{number:07d}"),
        name=f"东门 {number}",
        playable=True,
        presence=Presence.ONLINE,
        presence_since_us=UtcMicros(0),
        reported=Presence.ONLINE,
        parent_gb_id="",
        civil_code="340200",
        record_plan=plan,
        klass=ChannelClass.ORDINARY,
        label=ChannelLabel.PUBLIC,
        region_id=None,
        department_id=None,
    )


class Register:
    """The device book as streams and recorder read it."""

    def __init__(self, *channels: Channel, settings: DeviceSettings | None = None) -> None:
        self.channels = {item.id: item for item in channels}
        self.known = device(settings=settings or DeviceSettings())
        self.refuses = False

    async def device(self, device_id: DeviceId) -> Device:
        self._may_refuse()
        return self.known

    async def channel(self, channel_id: ChannelId) -> Channel:
        self._may_refuse()
        if channel_id not in self.channels:
            raise NotFound("no such channel")
        return self.channels[channel_id]

    async def planned_channels(self) -> Sequence[Channel]:
        self._may_refuse()
        return [item for item in self.channels.values() if item.record_plan is not RecordPlan.NONE]

    def _may_refuse(self) -> None:
        if self.refuses:
            raise Unavailable("the database refuses")


def _set() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class Signalling:
    """Answers INVITE from a script, BYE when it may; remembers every one."""

    online: bool = True
    answers: list[VspError | None] = field(default_factory=list)
    invites: list[InviteSpec] = field(default_factory=list)
    byes: list[DialogState] = field(default_factory=list)
    answers_bye: asyncio.Event = field(default_factory=_set)
    media_hosts: tuple[str, ...] = ("192.0.2.7",)

    def presence(self, device_id: DeviceId) -> tuple[Presence, UtcMicros]:
        return (Presence.ONLINE if self.online else Presence.OFFLINE), UtcMicros(0)

    async def invite(self, spec: InviteSpec) -> InviteAnswer:
        self.invites.append(spec)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        dialog = dialog_state(f"call-{len(self.invites)}")
        return InviteAnswer(dialog, RemoteMedia(self.media_hosts, 15060, spec.ssrc))

    async def bye(self, dialog: DialogState) -> None:
        self.byes.append(dialog)
        await self.answers_bye.wait()


def dialog_state(call_id: str) -> DialogState:
    return DialogState(
        call_id=call_id,
        local_uri="sip:34020000002000000001@3402000000",
        local_tag="a",
        remote_uri="sip:34020000001320000001@3402000000",
        remote_tag="b",
        remote_target="sip:34020000001320000001@192.0.2.7:5060",
        cseq=1,
        transport=Transport.UDP,
        host="192.0.2.7",
        port=5060,
    )


class Worker:
    """A media worker whose packets come when `media` says so (by the transport of the INVITE)."""

    worker_id = WorkerId(0)

    def __init__(self, media: Callable[[], bool] = lambda: True) -> None:
        self.media = media
        self.opened: dict[SessionId, SessionSpec] = {}
        self.closed: list[tuple[SessionId, str]] = []
        self.views: dict[ViewId, ViewSpec] = {}
        self.recordings: set[SessionId] = set()
        self.state: dict[SessionId, StreamState] = {}
        self.foreign = 0
        self.bound: list[RemoteMedia] = []
        self.on_session: Callable[[SessionChanged], object] | None = None

    async def open_session(self, spec: SessionSpec) -> SessionPort:
        self.opened[spec.session_id] = spec
        self.state[spec.session_id] = StreamState.SIGNALLING
        return SessionPort(spec.session_id, self.worker_id, "192.0.2.1", 30000)

    async def bind_remote(self, session_id: SessionId, remote: RemoteMedia) -> None:
        self.bound.append(remote)
        if self.media():
            await self.becomes(session_id, StreamState.WAITING_KEYFRAME)
            await self.becomes(session_id, StreamState.FLOWING)

    async def becomes(self, session_id: SessionId, state: StreamState, cause: str = "") -> None:
        self.state[session_id] = state
        assert self.on_session is not None
        await self.on_session(SessionChanged(self.status(session_id), cause))  # type: ignore[misc]

    def status(self, session_id: SessionId) -> SessionStatus:
        return SessionStatus(
            session_id=session_id,
            channel_id=self.opened[session_id].channel_id,
            worker_id=self.worker_id,
            state=self.state[session_id],
            transport=MediaTransport.UDP,
            port=30000,
            recording=session_id in self.recordings,
            viewers=0,
            stats=StreamStats(foreign=self.foreign),
        )

    async def close_session(self, session_id: SessionId, cause: str, next_step: str = "") -> None:
        self.closed.append((session_id, cause))
        self.opened.pop(session_id, None)

    async def start_recording(self, session_id: SessionId, spec: RecordingSpec) -> None:
        self.recordings.add(session_id)

    async def stop_recording(self, session_id: SessionId) -> None:
        self.recordings.discard(session_id)

    async def open_view(self, spec: ViewSpec) -> ViewEndpoint:
        self.views[spec.view_id] = spec
        return ViewEndpoint(spec.view_id, self.worker_id, f"ws://worker/live/{spec.view_id}")

    async def close_view(self, view_id: ViewId, cause: str) -> None:
        if self.views.pop(view_id, None) is None:
            raise NotFound("no such view")

    async def keep_views(self, view_ids: Sequence[ViewId]) -> Sequence[ViewId]:
        self.views = {key: spec for key, spec in self.views.items() if key in view_ids}
        return list(self.views)

    async def feed_segments(
        self, view_id: ViewId, segments: Sequence[Segment], until_us: UtcMicros
    ) -> None:
        raise AssertionError("not scripted")

    async def sessions(self) -> Sequence[SessionStatus]:
        return [self.status(session_id) for session_id in self.opened]

    async def open_segments(self) -> Sequence[OpenSegment]:
        return []

    async def acknowledge(self, seq: int) -> None:
        raise AssertionError("not scripted")

    async def events(self) -> AsyncGenerator[SessionChanged, None]:
        return
        yield


class Ledger:
    """The attempts of a StreamBook, in a list. Its dialogs are signalling's."""

    def __init__(self) -> None:
        self.told: list[Attempt] = []

    async def save_attempt(self, attempt: Attempt) -> None:
        self.told.append(attempt)

    async def attempts(self, channel_id: ChannelId, limit: int = 50) -> Sequence[Attempt]:
        return [item for item in self.told if item.channel_id == channel_id][-limit:]


class Changes:
    """ChangeLog in a list."""

    def __init__(self) -> None:
        self.points: list[ChangePoint] = []

    async def append(self, points: Sequence[ChangePoint]) -> None:
        self.points += points

    async def between(
        self, subject: str, axis: Axis, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[ChangePoint]:
        return [
            point
            for point in self.points
            if point.subject == subject and point.axis is axis and point.at_us < until_us
        ]


class Counting:
    """Metrics that remember totals."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}

    def count(self, name: str, by: float = 1.0, **labels: str) -> None:
        key = name + "".join(f",{label}={value}" for label, value in sorted(labels.items()))
        self.counts[key] = self.counts.get(key, 0) + by

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self.counts[name] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.counts[name] = value

    def seen(self) -> Mapping[str, float]:
        return self.counts
