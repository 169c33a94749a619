from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.errors import Invalid
from vsp.media.core.framing import GARBAGE_BYTES_MAX, SOURCES_MAX, Rfc4571


def packet(seq: int, size: int = 100, ssrc: int = 0x11223344, first: int = 0x80) -> bytes:
    body = bytes((seq + i) & 0x7F for i in range(size))
    return struct.pack(">BBHII", first, 96, seq & 0xFFFF, 5, ssrc) + body


def framed(*packets: bytes) -> bytes:
    return b"".join(struct.pack(">H", len(p)) + p for p in packets)


def dollar(*packets: bytes, channel: int = 0) -> bytes:
    return b"".join(struct.pack(">BBH", 0x24, channel, len(p)) + p for p in packets)


def feed(framing: Rfc4571, data: bytes, step: int) -> list[bytes]:
    out = []
    for at in range(0, len(data), step):
        out += [bytes(frame) for frame in framing.feed(data[at : at + step])]
    return out


@pytest.mark.parametrize("step", [1, 7, 113, 100_000])
def test_packets_are_cut_at_their_lengths_however_they_arrive(step: int):
    packets = [packet(i, 50 + i) for i in range(20)]
    framing = Rfc4571()

    assert feed(framing, framed(*packets), step) == packets
    assert (framing.framing, framing.resyncs) == ("rfc4571", 0)


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_dollar_framing_is_recognised_from_the_first_bytes(step: int):
    packets = [packet(i, 50 + i) for i in range(20)]
    framing = Rfc4571()

    assert feed(framing, dollar(*packets), step) == packets
    assert framing.framing == "interleaved"


def test_a_first_packet_of_9_kib_is_not_taken_for_dollar_framing():
    packets = [packet(1, 0x2410 - 12), packet(2)]
    framing = Rfc4571()

    assert feed(framing, framed(*packets), 4096) == packets
    assert framing.framing == "rfc4571"


def test_the_packets_stay_valid_when_more_is_fed():
    framing = Rfc4571()
    (first,) = framing.feed(framed(packet(1)))

    framing.feed(framed(packet(2)) * 100)

    assert bytes(first) == packet(1)


def test_rtcp_between_rtp_is_passed_on():
    report = struct.pack(">BBHI", 0x80, 200, 6, 0x11223344) + bytes(20)
    bye = struct.pack(">BBHI", 0x81, 203, 1, 0x11223344)
    stream = [packet(1), report, packet(2), bye, packet(3)]

    assert feed(Rfc4571(), framed(*stream), 999) == stream


def test_an_empty_frame_is_allowed_and_nothing():
    assert feed(Rfc4571(), framed(packet(1), b"", packet(2)), 999) == [packet(1), packet(2)]


def test_a_second_source_is_believed_when_a_packet_follows_it():
    stream = [packet(1), packet(2, ssrc=9), packet(3), packet(4, ssrc=9)]
    framing = Rfc4571()

    assert feed(framing, framed(*stream), 50) == stream
    assert framing.resyncs == 0


def test_more_sources_than_known_ones_are_no_garbage():
    stream = [packet(i, ssrc=i) for i in range(SOURCES_MAX * 3)]
    framing = Rfc4571()

    got = feed(framing, framed(*stream, packet(99)), 1000)

    assert got[: len(stream)] == stream


@pytest.mark.parametrize("step", [37, 100_000])
def test_after_garbage_the_next_packet_is_found_by_its_ssrc(step: int):
    before = framed(*(packet(i) for i in range(5)))
    after = [packet(i) for i in range(10, 15)]
    framing = Rfc4571()

    got = feed(framing, before + b"\x05garbage!" * 40 + framed(*after), step)

    assert got[-5:] == after
    assert framing.resyncs == 1
    assert framing.skipped_bytes == 360


def test_a_sender_that_overwrites_its_buffer_loses_only_what_it_overwrote():
    packets = [packet(i, 1400) for i in range(12)]
    stream = framed(*packets)
    torn = stream[:5000] + stream[7000:]
    framing = Rfc4571()

    got = feed(framing, torn, 1448)

    assert got[:3] == packets[:3]
    assert got[-6:] == packets[-6:]


def test_an_ssrc_inside_a_payload_is_not_taken_for_a_header():
    inside = b"\x80\x60\0\1\0\0\0\5\x11\x22\x33\x44"
    tricky = packet(1)[:40] + b"\x07\xd0" + inside + b"\x01" * 60
    stream = framed(packet(0)) + b"\xff\xff\x01\x02" * 10 + framed(tricky, packet(2), packet(3))
    framing = Rfc4571()

    got = feed(framing, stream, 100_000)

    assert got[-2:] == [packet(2), packet(3)]


def test_a_stream_that_is_not_rtp_is_invalid():
    with pytest.raises(Invalid):
        Rfc4571().feed(b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\n" * 4)


def test_garbage_without_end_is_invalid_at_its_limit():
    framing = Rfc4571()
    framing.feed(framed(packet(1)))
    garbage = b"\x01" * 65_536

    for _ in range(GARBAGE_BYTES_MAX // len(garbage)):
        framing.feed(garbage)
    with pytest.raises(Invalid):
        framing.feed(garbage)

    assert framing.skipped_bytes <= GARBAGE_BYTES_MAX + len(garbage)


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_any_bytes_give_packets_or_invalid(chunks: list[bytes]):
    framing = Rfc4571()
    framing.feed(framed(packet(1), packet(2)))

    frames = []
    with suppress(Invalid):
        for chunk in chunks:
            frames += framing.feed(chunk)

    assert all(len(frame) >= 8 for frame in frames)


@given(st.binary(max_size=300))
def test_any_first_bytes_give_packets_or_invalid(data: bytes):
    with suppress(Invalid):
        Rfc4571().feed(data)
