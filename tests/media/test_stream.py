"""One stream through the worker: odd payload types, changed formats, reports."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.actions.scripted import dialog_state
from tests.e2e.platform import until as eventually
from tests.media.core import packer
from tests.media.rig import GOP, SSRC, STEP_90K, decoded, playable, running, settings, until, viewer
from vsp.errors import Conflict
from vsp.media.core.fmp4 import iter_fragments, parse_init
from vsp.model.device import MediaTransport
from vsp.model.ids import SessionId
from vsp.model.recording import EndReason, RecordingSpec
from vsp.model.stream import AudioCodec, RemoteMedia, SessionChanged, StreamState

S1 = SessionId("s1")
SECOND = dialog_state("second@192.0.2.10")


async def test_a_payload_type_that_the_answer_does_not_list_is_read_as_the_first(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        await camera.send(15, pt=97)
        await until(lambda: rig.seen(SessionChanged)[-1].status.state is StreamState.FLOWING)
        await asyncio.sleep(0.05)

        [status] = await rig.worker.sessions()
        assert (status.stats.width, status.stats.damaged_frames) == (160, 0)


async def test_a_stream_at_rest_waits_for_nothing_until_a_packet_comes(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        session = rig.worker._sessions[S1]
        await camera.send(15)
        await until(lambda: session.waits)
        await until(lambda: not session.waits)
        assert (await rig.worker.sessions())[0].stats.frames == 15

        await camera.send(1)
        await until(lambda: session.waits)


async def test_sound_beside_the_program_stream_is_part_of_the_stream(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        for frame in range(15):
            await camera.send(1)
            [sound] = packer.rtp(b"\xd5" * 320, camera.seq, frame * 320, pt=8, ssrc=SSRC)
            camera.seq += 1
            camera.socket.send(sound)
        await asyncio.sleep(0.05)

        [status] = await rig.worker.sessions()
        assert status.stats.audio is AudioCodec.G711A
        assert status.stats.lost == status.stats.damaged_frames == 0


async def test_sound_with_a_clock_of_its_own_is_recorded_in_step_with_the_pictures(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        payloads = ((8, "PCMA"), (96, "PS"))
        await rig.worker.bind_remote(S1, RemoteMedia(("127.0.0.1",), 0, SSRC, payloads))
        await rig.worker.start_recording(S1, RecordingSpec(600.0, 1.0))
        for frame in range(2 * GOP):
            await camera.send(1, frames_per_s=25)
            ts = (0xFFFFFF00 + frame * 320) & 0xFFFFFFFF
            [sound] = packer.rtp(b"\xd5" * 320, camera.seq, ts, pt=8, ssrc=SSRC)
            camera.seq += 1
            camera.socket.send(sound)
        await asyncio.sleep(0.05)
        await rig.worker.close_session(S1, "done")
        await until(lambda: [segment for segment in rig.segments if segment.audio])
        [segment] = [segment for segment in rig.segments if segment.audio]
        data = await rig.objects.read(segment.key, 0, segment.size_bytes)

    kinds = {track.id: track.kind for track in parse_init(data).tracks}
    fragment = next(iter(iter_fragments(data, segment.init_bytes)))
    begins = {kinds[track]: samples[0].dts_90k for track, samples in fragment.samples.items()}
    assert abs(begins["audio"] - begins["video"]) < 5 * STEP_90K


async def test_sound_alone_does_not_pass_for_a_picture(tmp_path: Path):
    config = settings(tmp_path, media={"stall_timeout_s": 0.5})
    async with running(config) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        await camera.send(15)
        for frame in range(100):
            [sound] = packer.rtp(b"\xd5" * 320, camera.seq, frame * 320, pt=8, ssrc=SSRC)
            camera.seq += 1
            camera.socket.send(sound)
            await asyncio.sleep(0.02)

        causes = [event.cause for event in rig.seen(SessionChanged)]
        assert "sound, but no picture for 0.5 s" in causes


async def test_the_last_picture_before_a_rest_is_recorded_though_nothing_follows(tmp_path: Path):
    config = settings(tmp_path, media={"stall_timeout_s": 30.0})
    async with running(config) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        await rig.worker.start_recording(S1, RecordingSpec(600.0, 1.0))
        await camera.send(1)  # too early for its marker to be trusted

        async def recorded() -> bool:
            return any(open_.end_us > open_.start_us for open_ in await rig.worker.open_segments())

        await eventually("the picture is in the spool", recorded, 5)


async def test_another_picture_size_brings_a_new_init_and_a_new_run(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        port = await rig.open_session()
        await rig.bind()
        await rig.worker.start_recording(S1, RecordingSpec(600.0, 1.0))
        url = await rig.open_view("v1")
        camera = rig.camera(port)
        other = rig.camera(port, width=320, height=192)
        async with viewer(url, rig.ticket("v1")) as watching:
            await camera.send(GOP)
            camera.clip = other.clip
            await camera.send(GOP)
            await until(lambda: len(watching.texts("init")) == 2)
            await until(lambda: len(watching.fragments()) == 2 * GOP)
            await rig.worker.close_session(S1, "done")
            first, second = await rig.closed(2)

        assert [said["width"] for said in watching.texts("init")] == [160, 320]
        binaries = watching.binaries()
        again = next(i for i, data in enumerate(binaries) if i and data[4:8] == b"ftyp")
        assert playable(binaries[:again]) == [i * STEP_90K for i in range(GOP)]
        assert playable(binaries[again:]) == [i * STEP_90K for i in range(GOP, 2 * GOP)]
        assert first.end_reason is EndReason.FORMAT_CHANGED
        assert (first.width, second.width, second.n) == (160, 320, 0)
        assert second.start_us == first.end_us
        assert second.run // 1000 == second.start_us // 1000
        assert second.run != first.run
        data = await rig.objects.read(second.key, 0, second.size_bytes)
        assert decoded(data) == [i * STEP_90K for i in range(GOP)]


async def test_the_sender_gets_receiver_reports(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        port = await rig.open_session()
        await rig.bind()
        camera = rig.camera(port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            control.bind(("127.0.0.1", camera.socket.getsockname()[1] + 1))
            control.setblocking(False)
            await camera.send(5)
            loop = asyncio.get_running_loop()
            report = await asyncio.wait_for(loop.sock_recv(control, 1500), 5)

        # RR (201) about the camera's SSRC, RFC 3550 6.4.2.
        assert report[1] == 201
        assert int.from_bytes(report[8:12], "big") == SSRC


async def test_a_second_answer_replaces_the_first(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind(host="192.0.2.7")
        await rig.bind(host="192.0.2.7")
        await camera.send(2)
        await asyncio.sleep(0.05)
        before = (await rig.worker.sessions())[0].stats
        await rig.worker.bind_remote(S1, RemoteMedia(("127.0.0.1",), 0, SSRC))
        await camera.send(13)
        await until(lambda: rig.seen(SessionChanged)[-1].status.state is StreamState.FLOWING)

        assert before.packets == 0
        assert before.foreign > 0


async def rebooted(rig, port: int, *, watched: bool, tcp: bool = False) -> None:
    """A camera sends two GOPs, dies, and comes back in a new dialog: other port, SSRC and clock."""
    first = rig.camera(port, tcp=tcp)
    await first.send(2 * GOP + 1)
    await until(lambda: rig.seen(SessionChanged)[-1].status.state is StreamState.FLOWING)
    if not watched:
        await first.send(GOP)  # these still wait in the socket when the new dialog begins

    again = RemoteMedia(("127.0.0.1",), 0, 0x0C0FFEE0, dialog=SECOND)
    await rig.worker.bind_remote(S1, again)
    if not tcp:
        await first.send(1)  # on its way when the old dialog ended
    second = rig.camera(port, tcp=tcp)
    await until(lambda: rig.seen(SessionChanged)[-1].status.state is StreamState.WAITING_MEDIA)
    for _ in range(3):
        await second.send(GOP, ssrc=0x0C0FFEE0)


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("watched", [False, True])
async def test_a_new_dialog_may_bring_another_port_ssrc_and_clock(
    tmp_path: Path, watched: bool, tcp: bool
):
    transport = MediaTransport.TCP_PASSIVE if tcp else MediaTransport.UDP
    async with running(settings(tmp_path)) as rig, AsyncExitStack() as stack:
        port = await rig.open_session(transport=transport)
        await rig.bind()
        await rig.worker.start_recording(S1, RecordingSpec(600.0, 1.0))
        if watched:
            url = await rig.open_view("v1")
            watching = await stack.enter_async_context(viewer(url, rig.ticket("v1")))

        await rebooted(rig, port, watched=watched, tcp=tcp)
        await until(lambda: rig.seen(SessionChanged)[-1].status.state is StreamState.FLOWING)
        status = (await rig.worker.sessions())[0]
        await rig.worker.close_session(S1, "done")
        first, second = await rig.closed(2)

        assert status.stats.ssrc == 0x0C0FFEE0
        assert first.end_reason is EndReason.MEDIA_STOPPED
        assert second.run > first.run
        for segment in (first, second):
            assert decoded(await rig.objects.read(segment.key, 0, segment.size_bytes))
        if watched:
            times = playable(watching.binaries())
            assert times == sorted(times), "media time of a socket never goes back"


async def test_the_same_answer_of_the_same_dialog_changes_nothing(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session())
        await rig.bind()
        await camera.send(GOP)
        await until(lambda: rig.seen(SessionChanged)[-1].status.state is StreamState.FLOWING)

        await rig.bind()

        assert (await rig.worker.sessions())[0].state is StreamState.FLOWING


async def test_another_encoding_in_a_new_dialog_needs_another_session(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        await rig.bind()

        with pytest.raises(Conflict):
            await rig.worker.bind_remote(
                S1, RemoteMedia(("127.0.0.1",), 0, SSRC, ((98, "H264"),), dialog=SECOND)
            )


async def test_h265_flows_to_viewers_and_recordings(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        camera = rig.camera(await rig.open_session(), codec="libx265")  # type: ignore[arg-type]
        await rig.bind()
        await rig.worker.start_recording(S1, RecordingSpec(600.0, 1.0))
        url = await rig.open_view("v1")
        async with viewer(url, rig.ticket("v1")) as watching:
            for _ in range(20):
                frame = camera.sent_frames
                picture = camera.clip[frame]
                pts = 90_000 + frame * STEP_90K
                pack = packer.picture(picture.data, pts, key=picture.key, video=packer.H265)
                for packet in packer.rtp(pack, camera.seq, pts, ssrc=SSRC):
                    camera.seq += 1
                    camera.socket.send(packet)
                camera.sent_frames += 1
                await asyncio.sleep(0.002)
            await until(lambda: len(watching.fragments()) == 20)
            await rig.worker.close_session(S1, "done")
            [segment] = await rig.closed(1)

        assert str(watching.texts("init")[0]["mime"]).startswith('video/mp4; codecs="hvc1.')
        assert playable(watching.binaries()) == [i * STEP_90K for i in range(20)]
        data = await rig.objects.read(segment.key, 0, segment.size_bytes)
        assert decoded(data) == [i * STEP_90K for i in range(20)]
