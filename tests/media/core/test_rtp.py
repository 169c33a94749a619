from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from vsp.media.core import rtp


def packet(
    seq: int,
    ts: int = 1000,
    payload: bytes = b"data",
    marker: bool = False,
    pt: int = 96,
    ssrc: int = 7,
    first: int = 0x80,
) -> bytes:
    return struct.pack(">BBHII", first, pt | marker << 7, seq & 0xFFFF, ts, ssrc) + payload


def collect(*packets: bytes) -> rtp.Received:
    return rtp.collect(memoryview(p) for p in packets)


def test_a_plain_header_is_read_field_by_field():
    header = rtp.parse_header(packet(65535, 0xFFFFFFFF, marker=True, pt=98, ssrc=0x01020304))

    assert header == (65535, 0xFFFFFFFF, 0x01020304, 98, True, 12, 16)


def test_csrc_extension_and_padding_are_not_payload():
    csrc, extension = b"CCCCDDDD", b"\xbe\xde\x00\x01" + b"EEEE"
    data = packet(1, payload=csrc + extension + b"data" + b"\0\0\3", first=0x80 | 0x30 | 2)

    header = rtp.parse_header(data)

    assert header is not None
    assert data[header.offset : header.end] == b"data"


def test_what_is_not_rtp_has_no_header():
    assert rtp.parse_header(b"\x80" * 11) is None
    assert rtp.parse_header(packet(1, first=0x40)) is None
    assert rtp.parse_header(packet(1, first=0x8F, payload=b"")) is None  # 15 CSRCs, none there
    assert rtp.parse_header(packet(1, first=0x90, payload=b"\0\0\xff\xff")) is None
    assert rtp.parse_header(packet(1, first=0xA0, payload=b"\xff")) is None


def test_rtcp_on_the_same_port_is_told_apart():
    sender_report = struct.pack(">BBHI", 0x80, 200, 6, 7) + bytes(20)

    received = collect(sender_report, packet(1))

    assert rtp.is_rtcp(sender_report)
    assert not rtp.is_rtcp(packet(1, marker=True))
    assert [bytes(data) for data in received.rtcp] == [sender_report]
    assert len(received.bursts) == 1
    assert received.rejected == 0


def test_a_short_receiver_report_is_rtcp_too():
    empty = struct.pack(">BBHI", 0x80, 201, 1, 7)

    assert len(collect(empty).rtcp) == 1


def test_the_packets_of_one_frame_become_one_burst():
    frame = [packet(i, payload=bytes([i])) for i in range(10)]
    frame.append(packet(10, payload=b"\x0a", marker=True))

    received = collect(*frame)

    (burst,) = received.bursts
    assert b"".join(burst.parts) == bytes(range(11))
    assert (burst.seq, burst.marker) == (0, True)


def test_a_burst_runs_over_the_wrap_of_the_sequence_number():
    (burst,) = collect(packet(65534), packet(65535), packet(0), packet(1)).bursts

    assert (burst.seq, len(burst.parts)) == (65534, 4)


def test_a_new_timestamp_ends_a_burst_without_any_marker():
    bursts = collect(packet(1, 1000), packet(2, 1000), packet(3, 4600)).bursts

    assert [(b.ts, len(b.parts), b.marker) for b in bursts] == [
        (1000, 2, False),
        (4600, 1, False),
    ]


def test_a_marker_ends_a_burst_though_the_timestamp_stays():
    bursts = collect(*(packet(i, marker=True) for i in range(3))).bursts

    assert [len(b.parts) for b in bursts] == [1, 1, 1]


def test_holes_sources_and_types_end_a_burst():
    bursts = collect(
        packet(1), packet(3), packet(4, ssrc=8), packet(5, ssrc=8, pt=8), packet(6, ssrc=8, pt=8)
    ).bursts

    assert [(b.seq, b.ssrc, b.pt, len(b.parts)) for b in bursts] == [
        (1, 7, 96, 1),
        (3, 7, 96, 1),
        (4, 8, 96, 1),
        (5, 8, 8, 2),
    ]


def test_packets_with_extensions_join_the_burst_of_plain_ones():
    extended = packet(2, payload=b"\0\0\0\0" + b"b", first=0x90)

    (burst,) = collect(packet(1, payload=b"a"), extended, packet(3, payload=b"c")).bursts

    assert b"".join(burst.parts) == b"abc"


def test_noise_is_counted_and_breaks_nothing():
    received = collect(b"", b"GET / HTTP/1.1", packet(1), b"\0\1\0\0!\x12\xa4B" + bytes(12))

    assert received.rejected == 3
    assert len(received.bursts) == 1


@given(st.lists(st.binary(max_size=64), max_size=30))
def test_any_datagrams_are_sorted_into_rtp_rtcp_and_noise(datagrams: list[bytes]):
    received = collect(*datagrams)

    parts = sum(len(burst.parts) for burst in received.bursts)
    assert parts + len(received.rtcp) + received.rejected == len(datagrams)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3), st.sampled_from([1, 2]), st.booleans(), st.sampled_from([0x80, 0x90])
        ),
        max_size=40,
    )
)
def test_grouping_loses_no_payload_and_keeps_the_order(steps: list[tuple[int, int, bool, int]]):
    seq, packets, payloads = 65530, [], []
    for i, (step, ts, marker, first) in enumerate(steps):
        seq += step
        payloads.append(bytes([i]))
        head = b"\0\0\0\0" if first == 0x90 else b""
        packets.append(packet(seq, ts, head + payloads[-1], marker, first=first))

    bursts = collect(*packets).bursts

    assert [bytes(part) for burst in bursts for part in burst.parts] == payloads
    assert sum(burst.marker for burst in bursts) == sum(marker for _, _, marker, _ in steps)
