from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsp.media.core import rtcp
from vsp.media.core.rtp import Packet, is_rtcp

SR = struct.pack(">BBHIQIII", 0x80, 200, 6, 7, 0x0123456789ABCDEF, 90_000, 10, 5000)
BYE = struct.pack(">BBHI", 0x81, 203, 1, 7)
SDES = struct.pack(">BBHIBB", 0x81, 202, 2, 7, 1, 1) + b"x\0"


def packet(seq: int, ts: int = 0, count: int = 1, lost: int = 0) -> Packet:
    return Packet(seq, ts, 7, 96, True, b"", count, lost)


def test_a_compound_packet_gives_its_reports_and_byes():
    assert rtcp.parse(SR + SDES + BYE) == [
        rtcp.SenderReport(7, 0x0123456789ABCDEF, 90_000, 10, 5000),
        rtcp.Bye(7),
    ]


def test_a_cut_compound_packet_gives_what_is_whole():
    assert len(rtcp.parse(SR + BYE[:6])) == 1
    assert rtcp.parse(SR[:20]) == []


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_ignored(data: bytes):
    rtcp.parse(data)
    rtcp.parse(SR + data)


def test_a_receiver_report_is_a_compound_packet_with_a_name():
    reception = rtcp.Reception(ssrc=7)
    reception.received(packet(65_534, count=2), 0.0)
    reception.received(packet(1, ts=3600, count=2, lost=1), 0.04)

    report = reception.receiver_report(own_ssrc=99, cname="vsp@192.0.2.1", now=1.0)

    assert is_rtcp(report)
    assert len(report) % 4 == 0
    first, kind, words, own, source, loss, highest = struct.unpack_from(">BBHIIII", report)
    assert (first, kind, words, own, source) == (0x81, 201, 7, 99, 7)
    assert loss == (1 * 256 // 5) << 24 | 1
    assert highest == 1 << 16 | 2
    assert report[32:34] == b"\x81\xca"
    assert b"vsp@192.0.2.1\0" in report


def test_the_fraction_lost_counts_from_the_last_report():
    reception = rtcp.Reception(ssrc=7)
    reception.received(packet(1, lost=1), 0.0)
    reception.receiver_report(99, "x", 0.0)
    reception.received(packet(2), 0.0)

    loss = struct.unpack_from(">I", reception.receiver_report(99, "x", 1.0), 12)[0]

    assert loss == 1


def test_the_delay_since_the_last_sender_report_is_told():
    reception = rtcp.Reception(ssrc=7)
    (report,) = rtcp.parse(SR)
    assert isinstance(report, rtcp.SenderReport)
    reception.sender_report(report, now=10.0)

    lsr, delay = struct.unpack_from(">II", reception.receiver_report(99, "x", 11.5), 24)

    assert lsr == 0x456789AB
    assert delay == 65536 * 3 // 2


def test_even_arrival_has_no_jitter_and_uneven_arrival_has():
    even, uneven = rtcp.Reception(7), rtcp.Reception(7)
    for i in range(200):
        even.received(packet(i, ts=i * 3600), i * 0.04)
        uneven.received(packet(i, ts=i * 3600), i * 0.04 + (i % 2) * 0.01)

    assert even.jitter_s == pytest.approx(0.0, abs=1e-9)
    assert uneven.jitter_s == pytest.approx(0.01, rel=0.05)


def test_a_jump_of_the_senders_clock_is_no_jitter():
    reception = rtcp.Reception(7)
    reception.received(packet(1, ts=0), 0.0)

    reception.received(packet(2, ts=900_000_000), 0.04)

    assert reception.jitter_s == 0.0
