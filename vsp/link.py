"""Control calls between the node and its media workers: HTTP over a Unix socket.

Both ends live on this page: the wire form of values (`to_wire`, `from_wire`), the table of calls
that `media/control.py` serves, and `WorkerLink`, the node's side, which is a `ports.MediaControl`.
In one process the worker object itself is used instead and none of this runs.

The socket is `{data_dir}/run/worker-K.sock`, mode 0600 in a 0700 folder: who may open it may
command the worker, so it carries no further credential. Calls are `POST /v1/{name}` with a JSON
object of arguments; an error comes back as `{kind, message, cause, next_step}` and is raised here
as the same `VspError`. Events are one long answer of JSON lines.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import aiohttp
import structlog
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from vsp.errors import KINDS, Internal, Invalid, Unavailable, VspError
from vsp.model.ids import SessionId, UtcMicros, ViewId, WorkerId
from vsp.model.recording import OpenSegment, RecordingSpec, Segment, SegmentClosed
from vsp.model.stream import (
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
from vsp.ports import WorkerEvent

T = TypeVar("T")

log = structlog.get_logger(__name__)

CALL_TIMEOUT_S = 10.0
"""Longest wait for one call. A worker answers in milliseconds; ten seconds is a hung one."""

EVENT_SILENCE_S = 15.0
"""Silence after which the event stream counts as dead; a worker sends a blank line every 5 s."""

BODY_BYTES_MAX = 32 << 20
"""Largest request or event line: 1,000 rows of a minute each are about 3 MB of JSON."""


# ---- wire form ------------------------------------------------------------------------------


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    return TypeAdapter(cast("type[Any]", kind))


def to_wire(value: object) -> object:
    """A dataclass of `model/` (or a sequence of them, or a plain value) as JSON values."""
    if isinstance(value, list | tuple):
        return [to_wire(item) for item in value]
    kind: Hashable = cast(Hashable, type(value))
    wire: object = _adapter(kind).dump_python(value, mode="json")
    return wire


def from_wire(kind: type[T], wire: object) -> T:
    """The value of type `kind` that `to_wire` made `wire` from. Raises Invalid naming the field."""
    try:
        value: T = _adapter(cast(Hashable, kind)).validate_python(wire)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        name = getattr(kind, "__name__", str(kind))
        raise Invalid(f"{name} on the wire: {where}: {first['msg']}") from error
    return value


EVENTS: Mapping[str, type[WorkerEvent]] = {
    "session_changed": SessionChanged,
    "view_ended": ViewEnded,
    "segments_wanted": SegmentsWanted,
    "segment_closed": SegmentClosed,
    "troubles": Troubles,
}
_EVENT_NAMES = {kind: name for name, kind in EVENTS.items()}


def event_to_wire(event: WorkerEvent) -> dict[str, object]:
    return {"event": _EVENT_NAMES[type(event)], "value": to_wire(event)}


def event_from_wire(wire: object) -> WorkerEvent:
    if not isinstance(wire, dict) or wire.get("event") not in EVENTS:
        raise Invalid(f"unknown worker event: {str(wire)[:100]}")
    return from_wire(EVENTS[wire["event"]], wire.get("value"))


def error_to_wire(error: VspError) -> dict[str, str]:
    return {
        "kind": error.kind,
        "message": error.message,
        "cause": error.cause,
        "next_step": error.next_step,
    }


def error_from_wire(wire: object) -> VspError:
    """The error that the other side raised; what is not understood is Internal."""
    said = wire if isinstance(wire, dict) else {}
    kinds = {kind.kind: kind for kind in KINDS}
    kind = kinds.get(str(said.get("kind")), Internal)
    return kind(
        str(said.get("message", "no message")),
        cause=str(said.get("cause", "")),
        next_step=str(said.get("next_step", "")),
    )


# ---- the calls ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Call:
    """One method of MediaControl: its arguments by name. The server answers its return value."""

    arguments: Mapping[str, type[Any]]


CALLS: Mapping[str, Call] = {
    "open_session": Call({"spec": SessionSpec}),
    "bind_remote": Call({"session_id": str, "remote": RemoteMedia}),
    "close_session": Call({"session_id": str, "cause": str, "next_step": str}),
    "start_recording": Call({"session_id": str, "spec": RecordingSpec}),
    "stop_recording": Call({"session_id": str}),
    "open_view": Call({"spec": ViewSpec}),
    "close_view": Call({"view_id": str, "cause": str}),
    "keep_views": Call({"view_ids": tuple[str, ...]}),
    "feed_segments": Call({"view_id": str, "segments": tuple[Segment, ...], "until_us": int}),
    "sessions": Call({}),
    "open_segments": Call({}),
    "held_keys": Call({}),
    "acknowledge": Call({"seq": int}),
    "info": Call({}),
}


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker says of itself: the port that its viewers really connect to, and its load.

    loop_lag_ms  largest lateness of the worker's loop within the last whole second
    """

    worker_id: WorkerId
    pid: int
    http_port: int
    sessions: int
    views: int
    spool_bytes: int
    unacknowledged: int
    loop_lag_ms: float = 0.0


def socket_path(data_dir: Path, worker_id: int) -> Path:
    """Where worker `worker_id` listens for its node."""
    return data_dir / "run" / f"worker-{worker_id}.sock"


class WorkerLink:
    """One media worker as seen from the node; implements `ports.MediaControl`.

    The worker may be absent, be restarted or hang: every call then raises Unavailable within
    `CALL_TIMEOUT_S`, and `events()` ends so that its follower knows to compare sessions again.
    """

    def __init__(self, path: Path, worker_id: WorkerId) -> None:
        self._path = path
        self._worker_id = worker_id
        self._http: aiohttp.ClientSession | None = None
        self._connected = False

    @property
    def worker_id(self) -> WorkerId:
        return self._worker_id

    @property
    def connected(self) -> bool:
        """Whether the event stream is up; what was missed before is replayed or asked again."""
        return self._connected

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def open_session(self, spec: SessionSpec) -> SessionPort:
        return from_wire(SessionPort, await self._call("open_session", spec=spec))

    async def bind_remote(self, session_id: SessionId, remote: RemoteMedia) -> None:
        await self._call("bind_remote", session_id=session_id, remote=remote)

    async def close_session(self, session_id: SessionId, cause: str, next_step: str = "") -> None:
        await self._call("close_session", session_id=session_id, cause=cause, next_step=next_step)

    async def start_recording(self, session_id: SessionId, spec: RecordingSpec) -> None:
        await self._call("start_recording", session_id=session_id, spec=spec)

    async def stop_recording(self, session_id: SessionId) -> None:
        await self._call("stop_recording", session_id=session_id)

    async def open_view(self, spec: ViewSpec) -> ViewEndpoint:
        return from_wire(ViewEndpoint, await self._call("open_view", spec=spec))

    async def close_view(self, view_id: ViewId, cause: str) -> None:
        await self._call("close_view", view_id=view_id, cause=cause)

    async def keep_views(self, view_ids: Sequence[ViewId]) -> Sequence[ViewId]:
        said = await self._call("keep_views", view_ids=tuple(view_ids))
        return from_wire(tuple[ViewId, ...], said)

    async def feed_segments(
        self, view_id: ViewId, segments: Sequence[Segment], until_us: UtcMicros
    ) -> None:
        await self._call(
            "feed_segments", view_id=view_id, segments=tuple(segments), until_us=until_us
        )

    async def sessions(self) -> Sequence[SessionStatus]:
        return from_wire(tuple[SessionStatus, ...], await self._call("sessions"))

    async def open_segments(self) -> Sequence[OpenSegment]:
        return from_wire(tuple[OpenSegment, ...], await self._call("open_segments"))

    async def held_keys(self) -> Sequence[str]:
        return from_wire(tuple[str, ...], await self._call("held_keys"))

    async def acknowledge(self, seq: int) -> None:
        await self._call("acknowledge", seq=seq)

    async def info(self) -> WorkerInfo:
        return from_wire(WorkerInfo, await self._call("info"))

    async def events(self) -> AsyncGenerator[WorkerEvent, None]:
        """Unacknowledged journal entries first, then everything as it happens.

        Ends by Unavailable when the worker goes away: the caller (actions/workers.py) then compares
        sessions and opens the stream again. Entries that were not acknowledged come once more, so
        their commit must be idempotent.
        """
        try:
            async for event in self._events_once():
                yield event
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable(f"events of media worker {self._worker_id}: {error}") from error
        finally:
            self._connected = False
        raise Unavailable(f"media worker {self._worker_id} closed its event stream")

    async def _events_once(self) -> AsyncIterator[WorkerEvent]:
        timeout = aiohttp.ClientTimeout(total=None, connect=CALL_TIMEOUT_S)
        async with self._session().get("http://worker/v1/events", timeout=timeout) as answer:
            if answer.status != 200:
                raise error_from_wire(await answer.json())
            self._connected = True
            buffer = bytearray()
            while True:
                async with asyncio.timeout(EVENT_SILENCE_S):
                    chunk = await answer.content.readany()
                if not chunk:
                    return
                buffer += chunk
                for line in _take_lines(buffer):
                    yield event_from_wire(from_json(line))

    async def _call(self, name: str, **arguments: object) -> object:
        body = {key: to_wire(value) for key, value in arguments.items()}
        try:
            async with (
                asyncio.timeout(CALL_TIMEOUT_S),
                self._session().post(f"http://worker/v1/{name}", json=body) as answer,
            ):
                said = await answer.json()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unavailable(
                f"media worker {self._worker_id} did not answer {name} ({self._path})",
                cause=f"{type(error).__name__}: {error}",
                next_step="look at the worker's log; the supervisor restarts a dead worker",
            ) from error
        if answer.status != 200:
            raise error_from_wire(said)
        return said["result"] if isinstance(said, dict) else None

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(path=str(self._path), limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
            )
        return self._http


def _take_lines(buffer: bytearray) -> list[bytes]:
    """Cut whole lines off the front of `buffer`; blank ones are signs of life and are dropped."""
    if len(buffer) > BODY_BYTES_MAX:
        raise Invalid(f"a worker event is longer than {BODY_BYTES_MAX} bytes")
    end = buffer.rfind(b"\n")
    if end < 0:
        return []
    lines = bytes(buffer[:end]).split(b"\n")
    del buffer[: end + 1]
    return [line for line in lines if line.strip()]


__all__ = [
    "CALLS",
    "EVENTS",
    "WorkerInfo",
    "WorkerLink",
    "error_from_wire",
    "error_to_wire",
    "event_from_wire",
    "event_to_wire",
    "from_wire",
    "socket_path",
    "to_wire",
]
