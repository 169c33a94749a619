"""One worker, end to end: camera on a socket, viewer on a WebSocket, objects in a folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.media.core import packer
from tests.media.rig import (
    CHANNEL,
    SSRC,
    STEP_90K,
    Rig,
    decoded,
    playable,
    running,
    settings,
    until,
    viewer,
)
from vsp.errors import Conflict, Exhausted, Invalid, NotFound, Unsupported
from vsp.model.device import MediaTransport
from vsp.model.ids import ChannelId, SessionId, UtcMicros, ViewId
from vsp.model.recording import EndReason, RecordingSpec, Segment
from vsp.model.stream import RemoteMedia, SessionChanged, StreamState, ViewEnded, ViewKind, ViewSpec

S1 = SessionId("s1")


async def pictures_of(rig: Rig, segments: list[Segment]) -> list[int]:
    times = []
    for segment in segments:
        times += decoded(await rig.objects.read(segment.key, 0, segment.size_bytes))
    return times


def states(rig: Rig) -> list[StreamState]:
    return [event.status.state for event in rig.seen(SessionChanged)]


# ---- live -----------------------------------------------------------------------------------


async def test_a_viewer_sees_what_the_camera_sends(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        port = await rig.open_session()
        url = await rig.open_view("v1")
        async with viewer(url, rig.ticket("v1")) as watching:
            await until(lambda: watching.states() == ["signalling"])
            await rig.bind()
            camera = rig.camera(port)
            await camera.send(25, frames_per_s=100)
            await until(lambda: len(watching.fragments()) == 25)

        assert watching.states() == ["signalling", "waiting_media", "waiting_keyframe", "playing"]
        assert watching.texts("init")[0]["mime"] == 'video/mp4; codecs="avc1.42C00B"'
        assert playable(watching.binaries()) == [i * STEP_90K for i in range(25)]


async def test_a_second_viewer_starts_at_once_with_the_same_bytes(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        first, second = await rig.open_view("v1"), await rig.open_view("v2")
        async with viewer(first, rig.ticket("v1")) as early:
            await camera.send(15, frames_per_s=200)
            await until(lambda: len(early.fragments()) == 15)
            async with viewer(second, rig.ticket("v2")) as late:
                await until(lambda: len(late.fragments()) == 5)

        assert late.fragments() == early.fragments()[10:]
        assert playable(late.binaries()) == [i * STEP_90K for i in range(10, 15)]
        assert late.states() == ["playing"]


async def test_closing_a_session_tells_its_viewers_why(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        url = await rig.open_view("v1")
        async with viewer(url, rig.ticket("v1")) as watching:
            await until(watching.states)
            await rig.worker.close_session(S1, "the device answered 486", "try again later")
            await until(lambda: watching.closed)

        [error] = watching.texts("error")
        assert (error["cause"], error["next_step"]) == (
            "the device answered 486",
            "try again later",
        )
        assert watching.states()[-1] == "ended"
        assert rig.seen(ViewEnded)


async def test_a_viewer_that_comes_after_the_failure_still_learns_the_reason(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        url = await rig.open_view("v1")
        await rig.worker.close_session(S1, "the device answered 486")
        async with viewer(url, rig.ticket("v1")) as watching:
            await until(lambda: watching.closed)

        assert [item["type"] for item in watching.items] == ["error", "state"]  # type: ignore[index]


async def test_a_revoked_view_is_cut_off_at_once(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        url = await rig.open_view("v1")
        async with viewer(url, rig.ticket("v1")) as watching:
            await camera.send(5)
            await until(watching.fragments)
            await rig.worker.close_view(ViewId("v1"), "the right was revoked")
            await until(lambda: watching.closed)
            seen = len(watching.fragments())
            await camera.send(5)

        assert len(watching.fragments()) == seen
        assert watching.texts("error")[0]["cause"] == "the right was revoked"


async def test_a_view_without_a_viewer_expires(tmp_path: Path):
    config = settings(tmp_path, media={"view_attach_timeout_s": 0.1})
    async with running(config) as rig:
        await rig.open_session()
        url = await rig.open_view("v1")
        await until(lambda: rig.seen(ViewEnded))

        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with viewer(url, rig.ticket("v1")):
                pass
        assert refused.value.status == 404


async def test_statistics_and_the_clock_reach_the_viewer(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        url = await rig.open_view("v1")
        async with viewer(url, rig.ticket("v1")) as watching:
            await camera.send(30, frames_per_s=25)
            await until(lambda: watching.texts("stats"))

        [clock] = watching.texts("clock")
        stats = watching.texts("stats")[0]
        assert clock["media_s"] == 0.0
        assert (stats["width"], stats["height"], stats["codec"]) == (160, 96, "h264")
        assert 15 < float(str(stats["frames_per_s"])) < 35


# ---- ingest ---------------------------------------------------------------------------------


async def test_packets_of_a_foreign_source_are_counted_and_never_recorded(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        port = await rig.open_session()
        camera, thief = rig.camera(port), rig.camera(port, host="127.0.0.9")
        near, other = rig.camera(port), rig.camera(port)
        await thief.send(5)
        await rig.bind()
        await rig.worker.start_recording(S1, RecordingSpec(600.0, 1.0))
        for _ in range(20):
            await camera.send(1)
            await thief.send(2)
            await near.send(1)
            await other.send(1, ssrc=SSRC + 1)
        await asyncio.sleep(0.05)
        [status] = await rig.worker.sessions()
        await rig.worker.close_session(S1, "done")
        [segment] = await rig.closed(1)

        # An attacker at the camera's own address has another port, and is foreign just as much.
        assert status.stats.foreign == (thief.seq - 100) + (near.seq - 100) + (other.seq - 100)
        assert status.stats.packets == camera.seq - 100
        assert status.stats.lost == status.stats.damaged_frames == 0
        assert await pictures_of(rig, [segment]) == [i * STEP_90K for i in range(20)]


async def test_an_ssrc_other_than_offered_is_taken_when_it_comes_first(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        await camera.send(3, ssrc=0)
        await until(lambda: StreamState.FLOWING in states(rig))

        [status] = await rig.worker.sessions()
        assert status.stats.ssrc == 0


async def test_packets_before_the_answer_are_kept_and_judged_by_it(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        port = await rig.open_session()
        camera, stranger = rig.camera(port), rig.camera(port, host="127.0.0.9")
        await stranger.send(3)
        await camera.send(3)
        await asyncio.sleep(0.05)
        await rig.bind()

        [status] = await rig.worker.sessions()
        assert status.state is StreamState.FLOWING
        assert status.stats.packets == camera.seq - 100
        assert status.stats.foreign == stranger.seq - 100


async def test_media_over_tcp_is_taken_from_the_allowed_host_only(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        port = await rig.open_session(transport=MediaTransport.TCP_PASSIVE)
        await rig.bind()
        rig.camera(port, host="127.0.0.9", tcp=True)
        await asyncio.sleep(0.03)
        camera = rig.camera(port, tcp=True)
        await camera.send(12)
        await until(lambda: StreamState.FLOWING in states(rig))
        await asyncio.sleep(0.05)

        [status] = await rig.worker.sessions()
        assert status.stats.frames == 12
        assert status.stats.foreign == 1


async def test_a_worker_that_connects_itself_receives_over_tcp(tmp_path: Path):
    connected = asyncio.get_running_loop().create_future()

    async def on_connection(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set_result(writer)

    server = await asyncio.start_server(on_connection, "127.0.0.1", 0)
    async with running(settings(tmp_path)) as rig:
        await rig.open_session(transport=MediaTransport.TCP_ACTIVE)
        await rig.bind(port=server.sockets[0].getsockname()[1])
        writer = await asyncio.wait_for(connected, 5)
        source = rig.camera((await rig.worker.sessions())[0].port)
        for frame in range(3):
            for packet in source.packets(frame):
                writer.write(len(packet).to_bytes(2, "big") + packet)
        await writer.drain()
        await until(lambda: StreamState.FLOWING in states(rig))

        writer.close()
    server.close()


async def test_a_sender_that_cannot_be_reached_is_reported(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        await rig.open_session(transport=MediaTransport.TCP_ACTIVE)
        await rig.bind(port=1)
        await until(lambda: StreamState.STALLED in states(rig))

        event = rig.seen(SessionChanged)[-1]
        assert "no TCP connection to 127.0.0.1:1" in event.cause


async def test_a_worker_connects_only_where_it_may(tmp_path: Path):
    knocks = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda *_: knocks.set_result(True), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(settings(tmp_path)) as rig:
        await rig.open_session(transport=MediaTransport.TCP_ACTIVE)
        await rig.worker.bind_remote(S1, RemoteMedia(("127.0.0.1",), port, SSRC))
        await until(lambda: StreamState.STALLED in states(rig))

        event = rig.seen(SessionChanged)[-1]
        assert "none that we may connect to" in event.cause
    assert not knocks.done()
    server.close()


async def test_behind_a_translator_the_address_that_answers_is_used(tmp_path: Path):
    connected = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, w: connected.set_result(w), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(settings(tmp_path)) as rig:
        await rig.open_session(transport=MediaTransport.TCP_ACTIVE)
        hosts = ("127.0.0.9", "127.0.0.1")  # nobody listens at the first one
        await rig.worker.bind_remote(S1, RemoteMedia(hosts, port, SSRC, dial=hosts))

        (await asyncio.wait_for(connected, 5)).close()
    server.close()


async def test_silence_stalls_a_stream_and_packets_revive_it_as_a_new_run(tmp_path: Path):
    config = settings(tmp_path, media={"stall_timeout_s": 0.6})
    async with running(config) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        await rig.worker.start_recording(S1, RecordingSpec(600.0, 1.0))
        await camera.send(12)
        await until(lambda: StreamState.STALLED in states(rig))
        await camera.send(30)
        await until(lambda: states(rig)[-1] is StreamState.FLOWING)
        await rig.worker.close_session(S1, "done")
        first, second = await rig.closed(2)

        assert first.end_reason is EndReason.MEDIA_STOPPED
        assert (first.n, second.n) == (0, 0)
        assert second.start_us > first.end_us
        assert second.run > first.run
        # Frames 12 to 19 came after the stall and before a key picture.
        assert (first.frames, second.frames) == (12, 22)


async def test_no_packet_at_all_is_told_with_what_came_from_elsewhere(tmp_path: Path):
    config = settings(tmp_path, media={"first_packet_timeout_s": 0.3})
    async with running(config) as rig:
        port = await rig.open_session()
        await rig.bind()
        stranger = rig.camera(port, host="127.0.0.9")
        await stranger.send(1)
        await until(lambda: len(rig.seen(SessionChanged)) == 2)

        event = rig.seen(SessionChanged)[-1]
        assert event.status.state is StreamState.WAITING_MEDIA
        assert "packets came from elsewhere (127.0.0.9:" in event.cause


async def test_lost_packets_are_counted_recorded_and_not_shown(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        await rig.worker.start_recording(S1, RecordingSpec(600.0, 1.0))
        url = await rig.open_view("v1")
        async with viewer(url, rig.ticket("v1")) as watching:
            await camera.send(4)
            camera.seq += 3
            await camera.send(1)
            await camera.send(20)
            await until(lambda: watching.texts("gap"))
            await asyncio.sleep(0.15)

        [status] = await rig.worker.sessions()
        assert status.stats.lost == 3
        assert status.stats.damaged_frames > 0
        shown = playable(watching.binaries())
        assert [i * STEP_90K for i in range(4)] == shown[:4]
        assert shown[4] == 10 * STEP_90K
        await rig.worker.close_session(S1, "done")
        [segment] = await rig.closed(1)
        assert segment.frames == status.stats.frames
        assert segment.damaged_frames == status.stats.damaged_frames


async def test_ports_run_out_with_a_word_and_come_back_when_sessions_close(tmp_path: Path):
    config = settings(tmp_path, media={"ports_per_worker": 4})
    async with running(config) as rig:
        first = await rig.open_session("s1")
        second = await rig.open_session("s2")
        with pytest.raises(Exhausted, match="media ports"):
            await rig.open_session("s3")
        await rig.worker.close_session(S1, "done")
        third = await rig.open_session("s3")

        assert first % 2 == second % 2 == 0
        assert third == first


# ---- recording ------------------------------------------------------------------------------


async def test_recorded_segments_are_whole_and_join_without_a_seam(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        await rig.worker.start_recording(S1, RecordingSpec(2.0, 1.0))
        await camera.send(125, frames_per_s=200)
        await rig.closed(2)
        await rig.worker.close_session(S1, "done")
        segments = await rig.closed(3)

        assert await pictures_of(rig, segments) == [i * STEP_90K for i in range(125)]
        assert [segment.n for segment in segments] == [0, 1, 2]
        assert segments[0].end_us == segments[1].start_us
        assert [segment.end_reason for segment in segments[1:]] == [
            EndReason.ROLLED,
            EndReason.MEDIA_STOPPED,
        ]


async def test_sound_is_recorded_and_left_out_for_viewers(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        await rig.worker.start_recording(S1, RecordingSpec(600.0, 1.0))
        url = await rig.open_view("v1")
        async with viewer(url, rig.ticket("v1")) as watching:
            await camera.send(15)
            for frame in range(15, 30):
                await camera.send(1)
                pack = packer.sound(b"\xd5" * 320, 90_000 + frame * STEP_90K)
                for packet in packer.rtp(pack, camera.seq, 90_000 + frame * STEP_90K, ssrc=SSRC):
                    camera.socket.send(packet)
                    camera.seq += 1
            await until(lambda: len(watching.fragments()) == 30)
            await rig.worker.close_session(S1, "done")
            segments = await rig.closed(2)

        assert [segment.audio for segment in segments] == [None, "g711a"]
        assert segments[1].codecs == "avc3.42C00B,alaw"
        assert segments[1].n == 1
        assert "alaw" not in str(watching.texts("init"))


async def test_recording_can_stop_while_the_stream_goes_on(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        spec = RecordingSpec(600.0, 1.0)
        await rig.worker.start_recording(S1, spec)
        await rig.worker.start_recording(S1, spec)
        await camera.send(15)
        await until(lambda: StreamState.FLOWING in states(rig))
        await asyncio.sleep(0.05)
        opened = await rig.worker.open_segments()
        await rig.worker.stop_recording(S1)
        [segment] = await rig.closed(1)

        assert [found.start_us for found in opened] == [segment.start_us]
        assert segment.end_reason is EndReason.STOPPED
        assert not (await rig.worker.sessions())[0].recording


# ---- commands -------------------------------------------------------------------------------


async def test_opening_twice_is_opening_once(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        first = await rig.open_session()
        again = await rig.open_session(transport=MediaTransport.TCP_PASSIVE)
        view, same = await rig.open_view("v1"), await rig.open_view("v1")

        assert (first, view) == (again, same)
        with pytest.raises(Conflict):
            await rig.open_session(channel_id=ChannelId("another"))
        with pytest.raises(Conflict):
            await rig.open_view("v1", kind=ViewKind.PLAYBACK, start_us=UtcMicros(1))


async def test_what_is_not_there_is_named_and_closing_it_is_nothing(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        with pytest.raises(NotFound, match="no session s1"):
            await rig.bind()
        with pytest.raises(NotFound):
            await rig.open_view("v1")
        await rig.worker.close_session(S1, "")
        await rig.worker.close_view(ViewId("v1"), "")
        await rig.worker.feed_segments(ViewId("v1"), [], UtcMicros(1))


async def test_hostile_or_useless_arguments_are_refused(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        with pytest.raises(Invalid, match="object key"):
            await rig.open_session(channel_id=ChannelId("../etc"))
        await rig.open_session()
        with pytest.raises(Invalid, match="not an address"):
            await rig.bind(host="camera.example")
        with pytest.raises(Unsupported, match="98 SVAC"):
            await rig.worker.bind_remote(S1, RemoteMedia(("127.0.0.1",), 0, None, ((98, "SVAC"),)))
        with pytest.raises(Invalid):
            await rig.worker.open_view(ViewSpec(ViewId("v1"), ViewKind.PLAYBACK, CHANNEL))
