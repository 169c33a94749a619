"""The node's door: what comes through it, and what does not."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.media.rig import CHANNEL, SSRC, rig_link, running, settings
from tests.media.test_journal import SEGMENT
from vsp.errors import KINDS, Conflict, Internal, Invalid, NotFound
from vsp.media.control import PATH_LENGTH_MAX, STATUS, ControlServer, EventBus
from vsp.model.device import MediaTransport
from vsp.model.ids import SessionId, ViewId
from vsp.model.recording import SegmentClosed
from vsp.model.stream import SessionSpec, ViewEnded

S1, V1 = SessionId("s1"), ViewId("v1")
SPEC = SessionSpec(S1, CHANNEL, MediaTransport.UDP, SSRC)


def test_every_kind_of_error_that_has_a_status_exists():
    assert set(STATUS) <= {kind.kind for kind in KINDS}


async def test_errors_of_the_worker_reach_the_node_as_they_were(tmp_path: Path):
    async with running(settings(tmp_path)), rig_link(tmp_path) as link:
        await link.open_session(SPEC)

        with pytest.raises(NotFound, match="no session s2"):
            await link.stop_recording(SessionId("s2"))
        with pytest.raises(Conflict):
            await link.open_session(SessionSpec(S1, SEGMENT.channel_id, MediaTransport.UDP, 1))
        with pytest.raises(Invalid, match="takes"):
            await link._call("stop_recording", view="v1")
        with pytest.raises(Invalid, match="session_id"):
            await link._call("stop_recording", session_id=3)
        with pytest.raises(NotFound, match="no such call"):
            await link._call("__init__")


async def test_a_bug_in_a_call_is_internal_and_the_worker_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with running(settings(tmp_path)) as rig, rig_link(tmp_path) as link:

        async def buggy() -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(rig.worker, "sessions", buggy)
        with pytest.raises(Internal, match="a bug"):
            await link.sessions()
        monkeypatch.undo()

        assert await link.sessions() == ()


async def test_a_data_folder_too_deep_for_a_socket_is_named(tmp_path: Path):
    server = ControlServer(None, tmp_path / ("x" * PATH_LENGTH_MAX))  # type: ignore[arg-type]

    with pytest.raises(Invalid, match=r"node\.data_dir"):
        await server.start()


async def test_a_listener_that_is_too_far_behind_is_cut_off_and_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("vsp.media.control.EVENTS_MAX", 3)
    bus = EventBus()
    slow, quick = aiter(bus.listen(list)), aiter(bus.listen(lambda: [SegmentClosed(1, SEGMENT)]))
    first = asyncio.create_task(anext(slow))
    assert await anext(quick) == SegmentClosed(1, SEGMENT)
    await asyncio.sleep(0)
    for n in range(6):
        bus.publish(ViewEnded(V1, str(n)))
        assert await anext(quick) == ViewEnded(V1, str(n))

    seen = [await first] + [event async for event in slow]
    assert seen == [ViewEnded(V1, str(n)) for n in range(3)]
