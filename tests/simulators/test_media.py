import asyncio
import itertools
import json
import socket
import struct
from pathlib import Path

import pytest

from simulators.faults import Faults
from simulators.media import (
    LATE_US_MAX,
    TCP_BACKLOG_BYTES_MAX,
    Disorder,
    MediaLeg,
    MediaSource,
    SendStats,
    SentLog,
    Target,
    TcpSink,
    packer_of,
    tone_of,
)
from simulators.nal import Stamp, read_stamp, split_nals
from simulators.rtp import Packetiser
from tests.simulators.test_ps import payload, pts_of, units
from vsp.clock import MICROS
from vsp.errors import Unavailable
from vsp.model.device import MediaTransport
from vsp.model.stream import VideoCodec

MINUTE_US = 60 * MICROS
START_US = 1_772_330_400 * MICROS
"""2026-03-01 10:00:00 Beijing time: a whole minute."""


class ListSink:
    """Keeps what it is given; may refuse."""

    def __init__(self) -> None:
        self.frames: list[tuple[list[bytes], bool]] = []
        self.accepts = True

    def send(self, packets: list[bytes], key: bool) -> bool:
        if self.accepts:
            self.frames.append((packets, key))
        return self.accepts


class NoLeg:
    has_rtcp = False


class RtcpLeg:
    has_rtcp = True

    def __init__(self) -> None:
        self.reports: list[bytes] = []

    def send_rtcp(self, packet: bytes) -> None:
        self.reports.append(packet)


def source_of(clip, faults: Faults | None = None, tone: bytes = b"", **rest) -> MediaSource:
    return MediaSource(
        channel="34020000001320000001",
        clip=clip,
        packer=packer_of(clip, faults or Faults()),
        packetiser=Packetiser(200000001, 100),
        sink=rest.pop("sink", None) or ListSink(),
        leg=rest.pop("leg", NoLeg()),
        tone=tone,
        **rest,
    )


def run(source: MediaSource, from_us: int, until_us: int) -> list[int]:
    """Ask whenever it is due; gives the due times."""
    source.begin(from_us)
    dues = []
    while (due := source.due_us()) <= until_us:
        dues.append(due)
        source.emit(due)
    return dues


def pictures(sink: ListSink) -> list[tuple[int, int, bytes]]:
    """(RTP timestamp, PTS, access unit) of each video pack sent."""
    found = []
    for packets, _ in sink.frames:
        pack = b"".join(packet[12:] for packet in packets)
        video = [unit for kind, unit in units(pack) if kind == 0xE0]
        if video:
            unit = b"".join(map(payload, video))
            found.append((int.from_bytes(packets[0][4:8], "big"), pts_of(video[0][9:14]), unit))
    return found


@pytest.mark.parametrize("codec", [VideoCodec.H264, VideoCodec.H265])
def test_the_frame_on_show_is_that_of_the_wall_clock(clips, codec: VideoCodec):
    source = source_of(clips[codec])

    dues = run(source, START_US + 10 * MICROS - 1, START_US + 11 * MICROS)

    sent = pictures(source.sink)
    stamps = [read_stamp(codec, split_nals(unit)) for _, _, unit in sent]
    first = START_US // 40_000 + 250
    assert dues == [START_US + 10 * MICROS + i * 40_000 for i in range(26)]
    expected = [Stamp(due, first + i & 0xFFFF_FFFF) for i, due in enumerate(dues)]
    assert stamps == expected
    assert [unit[-20:] for _, _, unit in sent] == [
        clips[codec].frame(250 + i).slices[-20:] for i in range(26)
    ]


def test_pts_and_rtp_time_come_from_the_wall_clock(clips):
    source = source_of(clips[VideoCodec.H264])

    run(source, START_US, START_US + MICROS)

    sent = pictures(source.sink)
    ticks = (START_US + 40_000) * 9 // 100
    assert [pts for _, pts, _ in sent] == [ticks + i * 3600 & (1 << 33) - 1 for i in range(25)]
    assert all(ts == pts & 0xFFFF_FFFF for ts, pts, _ in sent)


def test_the_stamp_stands_before_the_first_slice_and_after_the_parameter_sets(clips):
    source = source_of(clips[VideoCodec.H264])
    run(source, START_US - 1, START_US)

    nals = split_nals(pictures(source.sink)[0][2])

    assert [nal[0] & 31 for nal in nals][:4] == [7, 8, 6, 5]
    assert source.sink.frames[0][1]


def test_a_wrong_clock_shows_the_wrong_time_at_the_right_moment(clips):
    source = source_of(clips[VideoCodec.H264], skew_us=90 * MICROS)

    dues = run(source, START_US - 1, START_US)

    stamp = read_stamp(VideoCodec.H264, split_nals(pictures(source.sink)[0][2]))
    assert dues == [START_US]
    assert stamp.capture_us == START_US + 90 * MICROS


def test_audio_comes_between_the_pictures_every_40_ms(clips):
    source = source_of(clips[VideoCodec.H264], tone=tone_of("CAM 01"))

    run(source, START_US, START_US + MICROS)

    kinds = [units(b"".join(p[12:] for p in packets))[-1][0] for packets, _ in source.sink.frames]
    stamps = [int.from_bytes(packets[0][4:8], "big") for packets, _ in source.sink.frames]
    assert kinds == [0xC0, 0xE0] * 25
    assert len(set(stamps)) == 50
    assert all(b - a == 1800 for a, b in itertools.pairwise(stamps))


def test_a_source_that_overslept_a_little_catches_up(clips):
    source = source_of(clips[VideoCodec.H264])
    source.begin(START_US)

    source.emit(START_US + LATE_US_MAX)

    assert len(source.sink.frames) == 25
    assert source.stats.skipped_frames == 0


def test_a_source_that_was_stopped_goes_on_with_now(clips):
    source = source_of(clips[VideoCodec.H264], tone=tone_of("CAM 01"))
    source.begin(START_US)

    source.emit(START_US + 30 * MICROS)

    assert 1 <= len(source.sink.frames) <= 2
    assert source.stats.skipped_frames == 30 * 25 - 1
    assert source.due_us() > START_US + 30 * MICROS


def test_what_the_sink_refuses_is_counted(clips):
    source = source_of(clips[VideoCodec.H264])
    source.sink.accepts = False

    run(source, START_US, START_US + MICROS)

    assert source.stats.skipped_frames == 25
    assert source.stats.frames == 0


def test_sender_reports_go_out_every_five_seconds(clips):
    leg = RtcpLeg()
    source = source_of(clips[VideoCodec.H264], leg=leg)

    run(source, START_US, START_US + 12 * MICROS)

    assert len(leg.reports) == 3
    assert struct.unpack_from(">I", leg.reports[-1], 20)[0] > 0


def test_the_sent_log_has_a_line_for_each_picture(clips, tmp_path: Path):
    path = tmp_path / "deep" / "sent.jsonl"
    log = SentLog(path)
    source = source_of(clips[VideoCodec.H264], log=log, tone=tone_of("CAM 01"))

    run(source, START_US - 1, START_US + MICROS)
    log.close()

    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 26
    assert lines[0]["channel"] == "34020000001320000001"
    assert [line["capture_us"] for line in lines] == [START_US + i * 40_000 for i in range(26)]
    assert [line["key"] for line in lines] == [i % 25 == 0 for i in range(26)]
    assert lines[1]["frame"] == lines[0]["frame"] + 1
    assert lines[0]["ssrc"] == 200000001


# ---- faults ---------------------------------------------------------------------------------


def numbered(count: int) -> list[bytes]:
    return [struct.pack(">I", i) for i in range(count)]


def numbers(packets: list[bytes]) -> list[int]:
    return [struct.unpack(">I", packet)[0] for packet in packets]


def test_loss_loses_about_its_share_and_nothing_else():
    left = numbers(Disorder(Faults(loss=0.1), "seed").pass_through(numbered(10_000)))

    assert 8_800 < len(left) < 9_200
    assert left == sorted(set(left))


def test_dup_sends_twice_in_a_row():
    left = numbers(Disorder(Faults(dup=0.05), "seed").pass_through(numbered(10_000)))

    assert 10_400 < len(left) < 10_600
    assert left == sorted(left)
    assert set(left) == set(range(10_000))


def test_reorder_delays_by_a_few_packets_and_loses_none():
    disorder = Disorder(Faults(reorder=0.05), "seed")

    left = numbers(disorder.pass_through(numbered(10_000)))

    assert set(range(9_990)) <= set(left)
    assert left != sorted(left)
    late = [max(left[:i]) - n for i, n in enumerate(left) if i and n < max(left[:i])]
    assert 400 < len(late) < 700
    assert max(late) <= 10


def test_the_same_seed_disturbs_the_same_packets():
    faults = Faults(loss=0.1, reorder=0.1, dup=0.1)

    runs = [Disorder(faults, seed).pass_through(numbered(500)) for seed in ("a", "a", "b")]

    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    ("faults", "kinds"),
    [
        (Faults(), [0xBA, 0xBB, 0xBC, 0xE0]),
        (Faults(no_psm=True), [0xBA, 0xBB, 0xE0]),
        (Faults(bd_packets=True), [0xBA, 0xBB, 0xBC, 0xBD, 0xE0]),
    ],
)
def test_stream_faults_show_in_the_pack(clips, faults: Faults, kinds: list[int]):
    pack = packer_of(clips[VideoCodec.H264], faults).video(b"x" * 100, 0, key=True)

    assert [kind for kind, _ in units(pack)] == kinds


def test_split_pes_cuts_small(clips):
    pack = packer_of(clips[VideoCodec.H264], Faults(split_pes=True)).video(
        bytes(9000), 0, key=False
    )

    assert max(len(unit) for _, unit in units(pack)) <= 2000


# ---- legs -----------------------------------------------------------------------------------


async def test_udp_leaves_from_the_port_that_was_answered():
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(2)
    leg = MediaLeg(Target(MediaTransport.UDP, *receiver.getsockname()), "127.0.0.1")

    sink = await leg.connect(None, SendStats())
    sink.send([b"one", b"two"], key=True)

    assert [receiver.recvfrom(100) for _ in range(2)] == [
        (b"one", ("127.0.0.1", leg.port)),
        (b"two", ("127.0.0.1", leg.port)),
    ]
    assert leg.port % 2 == 0
    leg.close()
    receiver.close()


async def test_rtcp_has_the_odd_port_above():
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(2)
    host, port = receiver.getsockname()
    leg = MediaLeg(Target(MediaTransport.UDP, host, port - 1), "127.0.0.1", rtcp=True)

    leg.send_rtcp(b"report")

    assert receiver.recvfrom(100) == (b"report", ("127.0.0.1", leg.port + 1))
    leg.close()
    receiver.close()


async def test_when_the_platform_is_passive_the_device_connects():
    server = socket.create_server(("127.0.0.1", 0))
    leg = MediaLeg(Target(MediaTransport.TCP_PASSIVE, *server.getsockname()), "127.0.0.1")

    sink = await leg.connect(None, SendStats())
    connection, address = server.accept()
    sink.send([b"abc", b"de"], key=True)
    await asyncio.sleep(0.01)

    assert connection.recv(100) == b"\0\3abc\0\2de"
    assert address[1] == leg.port
    leg.close()
    connection.close()
    server.close()


async def test_when_the_platform_is_active_the_device_listens_before_it_answers():
    leg = MediaLeg(Target(MediaTransport.TCP_ACTIVE, "127.0.0.1", 9), "127.0.0.1")
    client = socket.create_connection(("127.0.0.1", leg.port))

    sink = await leg.connect(None, SendStats())
    sink.send([b"abc"], key=True)
    await asyncio.sleep(0.01)

    assert client.recv(100) == b"\0\3abc"
    client.close()
    assert "closed" in await asyncio.wait_for(leg.lost(), 2)
    leg.close()


async def test_a_platform_that_listens_late_is_still_reached():
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.bind(("127.0.0.1", 0))
    leg = MediaLeg(Target(MediaTransport.TCP_PASSIVE, *server.getsockname()), "127.0.0.1")
    connecting = asyncio.create_task(leg.connect(None, SendStats()))
    await asyncio.sleep(0.2)

    server.listen()

    assert await asyncio.wait_for(connecting, 3) is not None
    leg.close()
    server.close()


async def test_a_platform_that_never_listens_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("simulators.media.TCP_CONNECT_PAUSE_S", 0.01)
    closed = socket.create_server(("127.0.0.1", 0))
    address = closed.getsockname()
    closed.close()
    leg = MediaLeg(Target(MediaTransport.TCP_PASSIVE, *address), "127.0.0.1")

    with pytest.raises(Unavailable, match="after 3 tries"):
        await leg.connect(None, SendStats())
    leg.close()


async def test_nobody_connecting_is_given_up(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("simulators.media.TCP_ACCEPT_TIMEOUT_S", 0.05)
    leg = MediaLeg(Target(MediaTransport.TCP_ACTIVE, "127.0.0.1", 9), "127.0.0.1")

    with pytest.raises(Unavailable, match="nobody connected"):
        await leg.connect(None, SendStats())
    leg.close()


class CrowdedTransport(asyncio.Transport):
    """A transport whose buffer is as full as the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.full_bytes = 0
        self.written: list[bytes] = []

    def get_write_buffer_size(self) -> int:
        return self.full_bytes

    def write(self, data) -> None:
        self.written.append(bytes(data))


async def test_a_slow_connection_loses_whole_gops_not_bytes():
    sink, transport = TcpSink(), CrowdedTransport()
    sink.connection_made(transport)

    taken = []
    for number in range(12):
        transport.full_bytes = TCP_BACKLOG_BYTES_MAX + (1 if number in (3, 4) else 0)
        taken.append(sink.send([bytes([number])], key=number % 4 == 0))

    assert taken == [True] * 3 + [False] * 5 + [True] * 4
    assert len(transport.written) == 7
