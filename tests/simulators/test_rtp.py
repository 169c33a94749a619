import struct

import pytest

from simulators.rtp import PAYLOAD_BYTES_MAX, Packetiser, framed, sender_report


def fields(packet: bytes) -> tuple[int, int, int, int, int]:
    """(version, marker, payload type, sequence, timestamp, SSRC) without the version byte."""
    first, second, sequence, timestamp, ssrc = struct.unpack_from(">BBHII", packet)
    assert first == 0x80
    return second >> 7, second & 0x7F, sequence, timestamp, ssrc


@pytest.mark.parametrize(("size", "count"), [(1, 1), (1400, 1), (1401, 2), (2800, 2), (70_000, 50)])
def test_a_pack_is_cut_into_packets_with_one_marker(size: int, count: int):
    pack = bytes(i & 0xFF for i in range(size))

    packets = Packetiser(200000001, 7).packets_of(pack, 90_000)

    assert len(packets) == count
    assert b"".join(packet[12:] for packet in packets) == pack
    assert max(len(packet) - 12 for packet in packets) <= PAYLOAD_BYTES_MAX
    seen = [fields(packet) for packet in packets]
    assert [f[0] for f in seen] == [0] * (count - 1) + [1]
    assert [f[2] for f in seen] == list(range(7, 7 + count))
    assert {f[1:2] + f[3:] for f in seen} == {(96, 90_000, 200000001)}


def test_the_ssrc_of_the_standard_example_is_on_the_wire():
    packet = Packetiser(int("0200000001"), 0).packets_of(b"x", 0)[0]

    assert packet[8:12].hex() == "0bebc201"


def test_the_sequence_wraps_within_a_frame_and_goes_on_in_the_next():
    packetiser = Packetiser(1, 0xFFFE)

    first = packetiser.packets_of(bytes(4_200), 0)
    second = packetiser.packets_of(b"x", 3_600)

    assert [fields(packet)[2] for packet in first + second] == [0xFFFE, 0xFFFF, 0, 1]


def test_tcp_frames_are_packets_behind_their_lengths():
    packets = Packetiser(1, 0).packets_of(bytes(1_500), 0)

    stream = framed(packets)

    assert stream[:4] == bytes.fromhex("0584 8060")  # 1,412 = 12 + 1,400; RTP V2, PT 96
    assert stream == b"".join(struct.pack(">H", len(p)) + p for p in packets)


def test_a_sender_report_counts_what_was_sent():
    packetiser = Packetiser(5, 0)
    packetiser.packets_of(bytes(3_000), 0)

    report = sender_report(packetiser, 1_500_000, 90_000)

    kind, length, ssrc, seconds, fraction, timestamp, packets, octets = struct.unpack(
        ">HHIIIIII", report
    )
    assert (kind, length, ssrc) == (0x80C8, 6, 5)
    assert (seconds, fraction) == (2_208_988_801, 1 << 31)
    assert (timestamp, packets, octets) == (90_000, 3, 3_000)
