"""What a device says, as tshark reads it."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest

from simulators.camera import camera_spec
from simulators.faults import Faults, SsrcFault
from simulators.nvr import nvr_spec
from tests.simulators.little import CAMERA, NVR, PASSWORD, LittlePlatform, World, offer
from tests.simulators.test_media import START_US, run, source_of
from vsp.clock import MICROS
from vsp.model.stream import VideoCodec

RAW_IP = 101
"""pcap link type."""


def datagram(data: bytes, source: int, target: int) -> bytes:
    """IPv4 and UDP around `data`, from 127.0.0.1 to itself, without checksums."""
    udp = struct.pack(">HHHH", source, target, 8 + len(data), 0) + data
    local = bytes((127, 0, 0, 1))
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, local, local)
    return head + udp


def write_capture(path: Path, datagrams: list[bytes]) -> None:
    out = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, RAW_IP)
    for number, packet in enumerate(datagrams):
        out += (
            struct.pack("<IIII", number // 1000, number % 1000, len(packet), len(packet)) + packet
        )
    path.write_bytes(out)


def fields(path: Path, decode: str, shown: str, *names: str) -> list[list[str]]:
    """The fields of the packets that match the display filter."""
    command = ["tshark", "-r", str(path), "-d", decode, "-Y", shown, "-T", "fields"]
    for name in names:
        command += ["-e", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [line.split("\t") for line in done.stdout.splitlines()]


def a_day(pair: World) -> None:
    """Everything that a device says, once."""
    pair.start().run(70)
    channel = pair.spec.channels[0].gb_id
    for command in ("Catalog", "DeviceInfo", "DeviceStatus", "RecordInfo", "PresetQuery"):
        pair.platform.query(command, channel, pair.now)
        pair.run(pair.now + 1)
    for setup in ("", "passive", "active"):
        call = pair.platform.invite(channel, pair.now, offer(30000, setup=setup), seq=setup or "1")
        pair.run(pair.now + 10)
        if call.answer is not None:
            pair.platform.bye(call, pair.now)
    pair.platform.invite("34020000001320009999", pair.now)
    for method in ("OPTIONS", "INFO", "BYE"):
        pair.platform.request(method, channel, pair.now)
    pair.platform.invite(channel, pair.now, seq="last")
    pair.run(pair.now + 10)
    pair.ua.stop(pair.now)
    pair.run(pair.now + 1)


SPECS = {
    "camera": camera_spec(CAMERA, PASSWORD),
    "nvr": nvr_spec(NVR, PASSWORD, name="录像机"),
    "strange": nvr_spec(
        NVR,
        PASSWORD,
        faults=Faults(
            ssrc=SsrcFault.WRONG,
            no_y=True,
            slow_answer_s=5,
            gbk_names=True,
            catalog_page_size=8,
            label="UTF-8",
        ),
    ),
    "busy": camera_spec(CAMERA, PASSWORD, faults=Faults(busy=True)),
}


@pytest.mark.parametrize("name", SPECS)
def test_tshark_reads_every_sip_message_and_finds_nothing_malformed(name: str, tmp_path: Path):
    pair = World(SPECS[name], LittlePlatform(qop="auth", algorithm="SHA-256"))
    a_day(pair)
    sent = [data for _, data in pair.device_sent]
    path = tmp_path / "sip.pcap"
    write_capture(path, [datagram(data, 40000, 5060) for data in sent])

    read = fields(path, "udp.port==5060,sip", "sip", "sip.Method", "sip.Status-Code")
    bad = fields(
        path,
        "udp.port==5060,sip",
        "_ws.malformed || _ws.expert.severity>=0x800000",
        "_ws.expert.message",
    )

    assert len(read) == len(sent)
    assert bad == []
    methods = {method for method, *_ in read if method}
    assert methods == {"REGISTER", "MESSAGE"} | (set() if name == "busy" else {"BYE"})


def test_tshark_reads_the_rtp_without_a_gap(clips, tmp_path: Path):
    source = source_of(clips[VideoCodec.H264])
    run(source, START_US - 1, START_US + MICROS)
    packets = [packet for packets, _ in source.sink.frames for packet in packets]
    path = tmp_path / "rtp.pcap"
    write_capture(path, [datagram(packet, 15060, 30000) for packet in packets])

    read = fields(
        path, "udp.port==30000,rtp", "rtp", "rtp.seq", "rtp.ssrc", "rtp.p_type", "rtp.marker"
    )

    assert [int(line[0]) for line in read] == list(range(100, 100 + len(packets)))
    assert {(line[1], line[2]) for line in read} == {("0x0bebc201", "96")}
    assert sum(line[3] in ("1", "True") for line in read) == 26
