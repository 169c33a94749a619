"""The link between node and worker: values survive it, errors keep their kind, loss is told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.media.rig import CHANNEL, SSRC, rig_link, running, settings, until
from tests.media.test_journal import SEGMENT
from vsp import link as module
from vsp.errors import KINDS, Internal, Invalid, Unavailable, VspError
from vsp.link import (
    CALLS,
    EVENTS,
    WorkerLink,
    error_from_wire,
    error_to_wire,
    event_from_wire,
    event_to_wire,
    from_wire,
    socket_path,
    to_wire,
)
from vsp.model.device import MediaTransport
from vsp.model.ids import SessionId, UtcMicros, ViewId, WorkerId
from vsp.model.recording import OpenSegment, RecordingSpec, Segment, SegmentClosed
from vsp.model.stream import (
    RemoteMedia,
    SegmentsWanted,
    SessionChanged,
    SessionPort,
    SessionSpec,
    SessionStatus,
    StreamState,
    StreamStats,
    Troubles,
    VideoCodec,
    ViewEnded,
    ViewEndpoint,
    ViewKind,
    ViewSpec,
)
from vsp.ports import MediaControl

S1, V1 = SessionId("s1"), ViewId("v1")
SPEC = SessionSpec(S1, CHANNEL, MediaTransport.UDP, SSRC)
REMOTE = RemoteMedia(("192.0.2.7", "2001:db8::7"), 15060, None, ((96, "PS"), (8, "PCMA")))
STATUS_OF_S1 = SessionStatus(
    S1,
    CHANNEL,
    WorkerId(0),
    StreamState.FLOWING,
    MediaTransport.TCP_PASSIVE,
    30000,
    True,
    2,
    StreamStats(packets=7, jitter_ms=1.5, video=VideoCodec.H265, first_key_us=UtcMicros(5)),
)
VIEW = ViewSpec(V1, ViewKind.PLAYBACK, CHANNEL, None, UtcMicros(1), UtcMicros(2))
VALUES = [
    SPEC,
    REMOTE,
    STATUS_OF_S1,
    VIEW,
    SEGMENT,
    SessionPort(S1, WorkerId(0), "192.0.2.1", 30000),
    ViewEndpoint(V1, WorkerId(0), "ws://127.0.0.1:1/live/v1"),
    RecordingSpec(),
    OpenSegment(CHANNEL, UtcMicros(1), 2, UtcMicros(3), UtcMicros(4)),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_every_value_survives_json(value: object):
    assert from_wire(type(value), json.loads(json.dumps(to_wire(value)))) == value


@pytest.mark.parametrize(
    "event",
    [
        SessionChanged(STATUS_OF_S1, "no packets"),
        ViewEnded(V1, "gone"),
        SegmentsWanted(V1, CHANNEL, UtcMicros(1), UtcMicros(2)),
        SegmentClosed(9, SEGMENT),
    ],
    ids=lambda event: type(event).__name__,
)
def test_every_event_survives_json(event):
    assert event_from_wire(json.loads(json.dumps(event_to_wire(event)))) == event
    assert type(event) in EVENTS.values()


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner)))
def test_what_is_no_value_is_invalid_and_nothing_else(wire: object):
    for kind in (SessionSpec, Segment, RemoteMedia):
        with pytest.raises(Invalid):
            from_wire(kind, wire)
    with pytest.raises(Invalid):
        event_from_wire(wire)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_keep_kind_and_words(kind: type[VspError]):
    error = error_from_wire(error_to_wire(kind("what", cause="why", next_step="do")))

    assert type(error) is kind
    assert (error.message, error.cause, error.next_step) == ("what", "why", "do")


def test_an_error_of_no_known_kind_is_internal():
    assert type(error_from_wire({"kind": "new"})) is Internal
    assert type(error_from_wire("<html>")) is Internal


def test_the_table_has_every_command_of_the_port():
    commands = {
        name
        for name in vars(MediaControl)
        if not name.startswith("_") and name not in {"worker_id", "events"}
    }

    assert commands | {"info"} == set(CALLS)


async def test_a_node_commands_a_worker_over_its_socket(tmp_path: Path):
    async with running(settings(tmp_path)) as rig, rig_link(tmp_path) as link:
        opened = await link.open_session(SPEC)
        await link.bind_remote(S1, RemoteMedia(("127.0.0.1",), 0, None))
        await link.start_recording(S1, RecordingSpec())
        view = await link.open_view(ViewSpec(V1, ViewKind.LIVE, CHANNEL, S1))
        [status] = await link.sessions()
        info = await link.info()
        await link.stop_recording(S1)
        await link.close_view(V1, "enough")
        await link.close_session(S1, "enough", "nothing")
        await link.acknowledge(0)

        assert status.state is StreamState.WAITING_MEDIA
        assert status.recording
        assert (status.port, opened.worker_id) == (opened.port, link.worker_id)
        assert view.url == f"ws://127.0.0.1:{rig.worker.http_port}/live/v1"
        assert (info.sessions, info.views, info.http_port) == (1, 1, rig.worker.http_port)
        assert await link.sessions() == await link.open_segments() == ()


async def test_rows_for_a_playback_pass_in_bulk(tmp_path: Path):
    async with running(settings(tmp_path)), rig_link(tmp_path) as link:
        await link.open_view(VIEW)
        await link.feed_segments(V1, [SEGMENT] * 1000, UtcMicros(10))


async def test_events_flow_until_the_worker_goes(tmp_path: Path):
    events: list[object] = []
    async with rig_link(tmp_path) as link:
        async with running(settings(tmp_path)):

            async def follow() -> None:
                async for event in link.events():
                    events.append(event)  # noqa: PERF401 - each as it comes

            following = asyncio.create_task(follow())
            await until(lambda: link.connected)
            await link.open_session(SPEC)
            await link.close_session(S1, "done")
            await until(lambda: len(events) == 2)
        with pytest.raises(Unavailable):
            await following

        assert not link.connected
        present, event = events
        assert present == Troubles({})
        assert isinstance(event, SessionChanged)
        assert event.cause == "done"


async def test_an_absent_worker_is_unavailable(tmp_path: Path):
    async with rig_link(tmp_path) as link:
        with pytest.raises(Unavailable, match="media worker 0 did not answer sessions"):
            await link.sessions()
        with pytest.raises(Unavailable):
            await anext(aiter(link.events()))


async def test_a_worker_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CALL_TIMEOUT_S", 0.05)
    path = socket_path(tmp_path, 0)
    path.parent.mkdir()
    held = asyncio.Event()

    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await held.wait()
        writer.close()

    server = await asyncio.start_unix_server(hang, str(path))
    async with rig_link(tmp_path) as link:
        with pytest.raises(Unavailable):
            await link.sessions()
    held.set()
    server.close()


def test_lines_are_cut_off_whole_and_blank_ones_dropped(monkeypatch: pytest.MonkeyPatch):
    buffer = bytearray(b'{"a":1}\n\n{"b":2}\n{"c"')

    assert module._take_lines(buffer) == [b'{"a":1}', b'{"b":2}']
    assert buffer == b'{"c"'
    monkeypatch.setattr(module, "BODY_BYTES_MAX", 10)
    with pytest.raises(Invalid):
        module._take_lines(bytearray(11))


def test_links_of_two_workers_are_two_sockets(tmp_path: Path):
    assert socket_path(tmp_path, 0) != socket_path(tmp_path, 1)
    assert WorkerLink(socket_path(tmp_path, 1), WorkerId(1)).worker_id == 1
