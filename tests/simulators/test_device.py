"""Devices on real sockets."""

from __future__ import annotations

import asyncio
import itertools
import socket
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from simulators.camera import Camera, camera_spec
from simulators.clip import ClipSpec
from simulators.device import Device, Heartbeats, clip_spec, clip_specs
from simulators.faults import Faults
from simulators.media import SentLog, StreamBudget
from simulators.nal import Stamp, read_stamp, split_nals
from simulators.nvr import Nvr, nvr_spec
from simulators.spec import DeviceSpec, PlatformSpec, Timing, VideoSpec
from tests.simulators.conftest import GOP, SECONDS
from tests.simulators.little import CAMERA, NVR, PASSWORD, LittlePlatform, offer
from tests.simulators.live import Live, UdpReceiver, live, ps_of, until
from tests.simulators.test_ps import payload, units
from vsp.errors import Conflict, Unavailable
from vsp.model.device import Transport
from vsp.model.stream import VideoCodec

VIDEO = VideoSpec(gop_frames=GOP, loop_s=SECONDS)
QUICK = Timing(retry_s=0.2, keepalive_s=30)


def camera(**rest) -> DeviceSpec:
    return camera_spec(CAMERA, PASSWORD, **{"video": VIDEO, "timing": QUICK, **rest})


@asynccontextmanager
async def running(
    spec: DeviceSpec, platform: Live, clips, register: bool = True, **shared
) -> AsyncIterator[Device]:
    """A started device. Its channels all show the clip of CAM 01."""
    shown = dict.fromkeys(clip_specs(spec), clips[spec.video.codec])
    kind = Camera if spec.kind == "camera" else Nvr
    device = kind(spec, platform.spec, shown, seed=7, **shared)
    await device.start()
    try:
        if register:
            await device.registered(5)
        yield device
    finally:
        await device.stop()


@pytest.fixture
async def receiver() -> AsyncIterator[UdpReceiver]:
    """A port that collects RTP."""
    receiver = UdpReceiver().start()
    yield receiver
    receiver.close()


async def call_of(platform: Live, channel: str, sdp: bytes, **more):
    call = platform.little.invite(channel, platform.now(), sdp, **more)
    platform.flush()
    await until("an answer", lambda: call.answer or call.failed)
    return call


async def hang_up(platform: Live, call) -> None:
    platform.little.bye(call, platform.now())
    platform.flush()


def stamps_of(stream: bytes) -> list[int]:
    video = [payload(unit) for kind, unit in units(stream) if kind == 0xE0]
    return [read_stamp(VideoCodec.H264, split_nals(unit)).capture_us for unit in video]


@pytest.mark.parametrize("transport", list(Transport))
async def test_a_camera_registers_streams_and_leaves(clips, receiver, transport: Transport):
    async with live() as platform:
        async with running(camera(transport=transport), platform, clips) as device:
            assert platform.little.registered
            call = await call_of(platform, CAMERA, offer(receiver.port))
            await until("a second of video", receiver.has_key_frame)
            assert device.streams[call.dialog.call_id].frames > 20
            await hang_up(platform, call)
            await until("the end of the stream", lambda: not device.streams)
            assert device.online
        assert not platform.little.registered
    now_us = time.time_ns() // 1000
    captured = stamps_of(ps_of(receiver.packets))
    assert 0 <= now_us - captured[-1] < 3_000_000
    assert {b - a for a, b in itertools.pairwise(captured)} == {40_000}
    port = int(call.answer.body.split(b"m=video ")[1].split()[0])
    assert receiver.sources == {("127.0.0.1", port)}


async def test_pictures_leave_when_their_time_has_come(clips, receiver):
    async with live() as platform, running(camera(), platform, clips):
        await call_of(platform, CAMERA, offer(receiver.port))
        await until("a second of video", receiver.has_key_frame)

    lateness_us = []
    for packet, arrived_us in zip(receiver.packets, receiver.arrived_us, strict=True):
        timestamp = int.from_bytes(packet[4:8], "big")
        late_90k = (arrived_us * 9 // 100 - timestamp) & 0xFFFF_FFFF
        lateness_us.append(late_90k * 100 // 9)
    assert max(lateness_us) < 200_000  # the machine is shared
    assert statistics.median(lateness_us) < 10_000


async def media_server(port_ready: asyncio.Future) -> bytes:
    """Accepts one media connection and reads one and a half seconds of it."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port_ready.set_result(server.getsockname()[1])
        connection, _ = await loop.sock_accept(server)
    with connection:
        return await read_for(connection, 1.5)


async def read_for(connection: socket.socket, seconds: float) -> bytes:
    loop, stream = asyncio.get_running_loop(), bytearray()
    connection.setblocking(False)
    try:
        async with asyncio.timeout(seconds):
            while data := await loop.sock_recv(connection, 1 << 16):
                stream += data
    except TimeoutError:
        pass
    return bytes(stream)


def deframed(stream: bytes) -> list[bytes]:
    packets, offset = [], 0
    while offset + 2 <= len(stream):
        end = offset + 2 + int.from_bytes(stream[offset : offset + 2], "big")
        packets.append(stream[offset + 2 : end])
        offset = end
    return packets[:-1]


async def test_over_tcp_the_device_connects_to_a_passive_platform(clips):
    port = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(media_server(port))
    async with live() as platform, running(camera(), platform, clips):
        call = await call_of(platform, CAMERA, offer(await port, setup="passive"))
        stream = await serving
        await until("a BYE for the broken connection", lambda: call.byes)

    packets = deframed(stream)
    assert len(packets) > 40
    assert {packet[8:12].hex() for packet in packets} == {"0bebc201"}
    assert len(stamps_of(ps_of(packets[:-2]))) > 5


async def test_over_tcp_an_active_platform_connects_to_the_device(clips):
    async with live() as platform, running(camera(), platform, clips):
        call = await call_of(platform, CAMERA, offer(9, setup="active"))
        port = int(call.answer.body.split(b"m=video ")[1].split()[0])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            stream = await read_for(connection, 1.5)
        await until("a BYE for the broken connection", lambda: call.byes)

    assert len(deframed(stream)) > 40


async def test_an_nvr_streams_several_channels_at_once(clips):
    receivers = [UdpReceiver().start() for _ in range(3)]
    spec = nvr_spec(NVR, PASSWORD, channels=3, video=VIDEO, timing=QUICK)
    async with live() as platform, running(spec, platform, clips) as device:
        for number, (channel, receiver) in enumerate(zip(spec.channels, receivers, strict=True)):
            sdp = offer(receiver.port, y=f"y=020000000{number}")
            await call_of(platform, channel.gb_id, sdp, seq=f"020000000{number}")
        await until("three streams", lambda: all(len(r.packets) > 30 for r in receivers))
        assert len(device.streams) == 3
    for number, receiver in enumerate(receivers):
        receiver.close()
        ssrcs = {int.from_bytes(packet[8:12], "big") for packet in receiver.packets}
        assert ssrcs == {200000000 + number}


async def test_lossy_media_loses_packets_on_the_wire(clips, receiver):
    spec = camera(faults=Faults(loss=0.2))
    async with live() as platform, running(spec, platform, clips) as device:
        call = await call_of(platform, CAMERA, offer(receiver.port))
        await until("some packets", lambda: len(receiver.packets) > 100)
        sent = device.streams[call.dialog.call_id].packets
        got = len(receiver.packets)
    assert 0.65 < got / sent < 0.92


async def test_a_dead_device_is_silent_and_holds_its_ports(clips, receiver):
    spec = camera(faults=Faults(silent_death_after_s=2.0), transport=Transport.TCP)
    async with live() as platform, running(spec, platform, clips) as device:
        await call_of(platform, CAMERA, offer(receiver.port))
        await until("death", lambda: not device.online)
        seen, said = len(receiver.packets), len(platform.little.seen)
        platform.little.query("Catalog", CAMERA, platform.now())
        await asyncio.sleep(0.3)
        assert len(receiver.packets) == seen
        assert len(platform.little.seen) == said
        assert platform._connections
    assert platform.little.registered


async def test_a_camera_comes_back_after_its_connection_was_cut(clips):
    spec = camera(transport=Transport.TCP)
    async with live() as platform, running(spec, platform, clips) as device:
        platform.cut_connections()
        await until("offline", lambda: not device.online)
        await device.registered(5)


async def test_a_camera_waits_for_a_platform_that_starts_late(clips):
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    shown = {clip_spec(camera().channels[0], VIDEO): clips[VideoCodec.H264]}
    spec = camera(transport=Transport.TCP)
    device = Camera(spec, PlatformSpec("127.0.0.1", port), shown)
    await device.start()
    try:
        with pytest.raises(Unavailable, match="no way to"):
            await device.registered(0.5)
    finally:
        await device.stop()


async def test_lost_sip_is_repeated_until_it_arrives(clips):
    async with live() as platform:
        spec = camera(faults=Faults(sip_loss=0.3))
        async with running(spec, platform, clips, register=False) as device:
            await device.registered(20)
            platform.little.query("DeviceInfo", CAMERA, platform.now())
            platform.flush()
            await until("an answer", lambda: platform.little.bodies_of("DeviceInfo"), 20)


async def test_a_stop_takes_two_seconds_at_most_when_nobody_answers(clips):
    little = LittlePlatform()
    async with live(little) as platform, running(camera(), platform, clips) as device:
        little.silent = True
        began = time.monotonic()

        await device.stop()

        assert time.monotonic() - began < 2
        assert "not answered" in device.last_event


async def test_a_power_cut_takes_no_time_and_says_nothing(clips, receiver):
    async with live() as platform, running(camera(), platform, clips) as device:
        call = await call_of(platform, CAMERA, offer(receiver.port))
        await until("some media", lambda: receiver.packets)
        said = len(platform.little.seen)
        platform.little.query("Catalog", CAMERA, platform.now())

        await device.cut_power()

        assert not device.streams
        seen = len(receiver.packets)
        await asyncio.sleep(0.2)
        assert len(receiver.packets) == seen
        assert (len(platform.little.seen), call.byes) == (said, 0)


async def test_what_the_budget_of_all_devices_cannot_pay_is_refused(clips, receiver):
    spec = nvr_spec(NVR, PASSWORD, channels=3, video=VIDEO, timing=QUICK)
    one, two, three = (channel.gb_id for channel in spec.channels)
    budget = StreamBudget(2)
    async with live() as platform, running(spec, platform, clips, budget=budget) as device:
        first = await call_of(platform, one, offer(receiver.port))
        await call_of(platform, two, offer(receiver.port, y="y=0200000002"), seq="2")
        refused = await call_of(platform, three, offer(receiver.port, y="y=0200000003"), seq="3")
        assert refused.failed.status == 500
        assert (len(device.streams), budget.running, budget.refused) == (2, 2, 1)

        await hang_up(platform, first)
        await until("room", lambda: budget.running == 1)
        again = await call_of(platform, three, offer(receiver.port, y="y=0200000004"), seq="4")
        assert again.answer.status == 200
    assert budget.running == 0


async def test_devices_may_share_a_log(clips, receiver, tmp_path):
    log = SentLog(tmp_path / "sent.jsonl")
    async with live() as platform, running(camera(), platform, clips, log=log):
        await call_of(platform, CAMERA, offer(receiver.port))
        await until("pictures", lambda: (tmp_path / "sent.jsonl").stat().st_size)

    log.write(CAMERA, 1, Stamp(1, 1), True, 1, 1)  # still open: it is not the device's
    log.close()


# ---- heartbeats -----------------------------------------------------------------------------


def beat(number: int) -> bytes:
    body = b"<Notify>\r\n<CmdType>Keepalive</CmdType></Notify>"
    return b"MESSAGE sip:x SIP/2.0\r\nCall-ID: c%d@h\r\nCSeq: 1 MESSAGE\r\n\r\n" % number + body


def reply(number: int, status: int = 200) -> bytes:
    return b"SIP/2.0 %d OK\r\nCall-ID: c%d@h\r\n\r\n" % (status, number)


def test_a_heartbeat_counts_once_however_often_it_is_repeated():
    beats = Heartbeats()
    for number in (1, 2):
        for _ in range(3):
            beats.leaving(beat(number))
        for _ in range(2):
            beats.arrived(reply(number))
    beats.leaving(b"MESSAGE sip:x SIP/2.0\r\nCall-ID: x\r\n\r\n<CmdType>Catalog</CmdType>")
    beats.leaving(reply(3))

    assert (beats.sent, beats.unanswered) == (2, 0)


@pytest.mark.parametrize("status", [200, 403, 500])
def test_any_final_answer_to_a_heartbeat_is_one(status: int):
    beats = Heartbeats()
    beats.leaving(beat(1))
    beats.arrived(reply(1, status))
    beats.leaving(beat(2))

    assert beats.unanswered == 0


def test_a_heartbeat_is_unanswered_when_the_next_one_leaves_or_the_device_goes_offline():
    beats = Heartbeats()
    beats.leaving(beat(1))
    beats.arrived(reply(1, 100))
    beats.arrived(reply(7))
    assert beats.unanswered == 0

    beats.leaving(beat(2))
    assert (beats.sent, beats.unanswered) == (2, 1)
    beats.offline()
    beats.offline()
    assert beats.unanswered == 2


async def test_heartbeats_of_a_device_are_counted_on_its_socket(clips):
    timing = Timing(retry_s=0.2, keepalive_s=0.2, keepalive_misses=2)
    async with live() as platform, running(camera(timing=timing), platform, clips) as device:
        await until("two heartbeats", lambda: device.keepalives.sent >= 2)
        assert device.keepalives.unanswered == 0
        platform.little.silent = True
        await until("offline", lambda: not device.online)
        assert device.keepalives.unanswered == 2


async def test_a_taken_port_is_named(clips):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        spec = camera(bind_port=port)
        shown = {clip_spec(spec.channels[0], VIDEO): clips[VideoCodec.H264]}
        device = Camera(spec, PlatformSpec("127.0.0.1", 9), shown)

        with pytest.raises(Conflict, match=str(port)):
            await device.start()
        await device.stop()


def test_a_device_needs_a_clip_for_each_picture():
    spec = nvr_spec(NVR, PASSWORD, channels=2, video=VIDEO)

    wanted = clip_specs(spec)

    assert [clip.label for clip in wanted] == ["CAM 101", "CAM 102"]
    assert all(isinstance(clip, ClipSpec) for clip in wanted)
