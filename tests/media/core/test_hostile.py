"""Whatever arrives: nothing but Invalid is raised, nothing grows, time goes on."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media.core import clips, packer
from tests.media.core.helpers import pictures, received
from vsp.errors import Invalid
from vsp.media.core import fmp4, jitter, nal
from vsp.media.core.assembler import FRAME_BYTES_MAX
from vsp.media.core.au import AccessUnit
from vsp.media.core.es import depacketizer_for
from vsp.media.core.ps_demux import BUFFER_BYTES_MAX, PsDemuxer
from vsp.model.stream import VideoCodec

DEVICES = [
    ("libx264", packer.H264, packer.G711A),
    ("libx265", packer.H265, packer.AAC),
]


def device(name: str, video: int, audio: int) -> list[bytes]:
    """A small stream with sound, as RTP packets."""
    clip = clips.video(name, frames=12, gop=4, width=64, height=64)
    heard = clips.alaw() if audio == packer.G711A else clips.adts()
    packed = []
    for p, sound in zip(clip, heard, strict=False):
        packed += [
            (p.dts, packer.picture(p.data, p.pts, key=p.key, video=video, audio=audio, most=900)),
            (p.dts + 900, packer.sound(sound, p.pts)),
        ]
    return packer.rtp_stream(packed, payload_bytes=500)


class Platform:
    """Everything that a received packet passes, up to the bytes for the viewer."""

    def __init__(self) -> None:
        self.sorter = jitter.Sorter()
        self.demuxer = PsDemuxer()
        self.sets = nal.ParameterSets()
        self.fragmenter: fmp4.Fragmenter | None = None
        self.last: dict[str, int] = {}
        self.fragments = 0

    def receive(self, packets: list[bytes], now: float) -> None:
        burst = received(packets)
        for packet in self.sorter.push_batch(burst, now) + self.sorter.advance(now):
            for unit in self.demuxer.push(
                packet.payload, packet.ts, packet.marker, packet.lost > 0, int(now * 1e6)
            ):
                self.take(unit)
        assert self.demuxer.buffered_bytes <= BUFFER_BYTES_MAX

    def take(self, unit: AccessUnit) -> None:
        assert unit.dts_90k > self.last.get(unit.kind, -(1 << 63))
        assert len(unit.data) <= FRAME_BYTES_MAX
        self.last[unit.kind] = unit.dts_90k
        list(nal.user_data(unit))
        if self.sets.update(unit):
            self.fragmenter = fmp4.Fragmenter([fmp4.video_track(self.sets)])
            fmp4.parse_init(fmp4.init_segment([fmp4.video_track(self.sets)]))
        if self.fragmenter is not None and unit.codec in (VideoCodec.H264, VideoCodec.H265):
            self.fragmenter.add(unit)
            fragment = self.fragmenter.fragment()
            assert fragment is not None
            list(fmp4.iter_fragments(fragment.data))
            self.fragments += 1


@pytest.mark.parametrize(("name", "video", "audio"), DEVICES)
def test_flipped_bytes_in_a_stream_break_nothing_and_it_recovers(name: str, video: int, audio: int):
    packets = device(name, video, audio)
    for seed in range(60):
        dice = random.Random(seed)
        platform = Platform()
        for round_ in range(3):
            sent = [bytearray(packet) for packet in packets]
            if round_ < 2:
                for _ in range(dice.randrange(1, 30)):
                    victim = dice.choice(sent)
                    victim[dice.randrange(12, len(victim))] = dice.randrange(256)
            fed = [bytes(packet) for packet in sent]
            for at in range(0, len(fed), 16):
                batch = [_renumbered(p, round_ * len(fed)) for p in fed[at : at + 16]]
                platform.receive(batch, round_ + at / 1000)

        assert platform.fragments >= 10, f"seed {seed}"


def _renumbered(packet: bytes, shift: int) -> bytes:
    seq = int.from_bytes(packet[2:4], "big") + shift & 0xFFFF
    return packet[:2] + seq.to_bytes(2, "big") + packet[4:]


@pytest.mark.parametrize(("name", "video", "audio"), DEVICES)
def test_lost_doubled_and_reordered_packets_break_nothing(name: str, video: int, audio: int):
    packets = device(name, video, audio)
    for seed in range(60):
        dice = random.Random(seed)
        platform = Platform()
        mixed: list[bytes] = []
        for packet in packets:
            if dice.random() < 0.05:
                continue
            at = max(len(mixed) - dice.choice([0, 0, 0, 0, 1, 5]), 0)
            mixed.insert(at, packet)
            if dice.random() < 0.05:
                mixed.append(packet)
        for at in range(0, len(mixed), 16):
            platform.receive(mixed[at : at + 16], at / 1000)
        platform.receive([], 100.0)

        assert platform.sorter.next_deadline() is None


@pytest.mark.parametrize(("name", "video", "audio"), DEVICES)
def test_cut_and_spliced_streams_of_bytes_break_nothing(name: str, video: int, audio: int):
    stream = b"".join(packet[12:] for packet in device(name, video, audio))
    for seed in range(100):
        dice = random.Random(seed)
        demuxer, data = PsDemuxer(), stream
        for _ in range(dice.randrange(1, 6)):
            at, to = sorted(dice.choices(range(len(data)), k=2))
            data = dice.choice(
                [data[:at] + data[to:], data[:to] + data[at:], data[:at] + bytes(200) + data[at:]]
            )
        units = []
        at = 0
        while at < len(data):
            size = dice.choice([1, 20, 500, 5000])
            units += demuxer.push(data[at : at + size], at // 999, dice.random() < 0.3)
            at += size
        units += demuxer.flush()

        assert all(b.dts_90k > a.dts_90k for a, b in pairwise(pictures(units)))
        assert sum(len(unit.data) for unit in units) <= len(data)


UNITS = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [
            packer.pack_header(),
            packer.system_header(),
            packer.stream_map((0x1B, 0xE0), (0x90, 0xC0)),
            packer.stream_map((0x24, 0xE0), (0x0F, 0xC0)),
            packer.stream_map((0x80, 0xE1), (0x99, 0xC1)),
            packer.pes(0xE0, b"\0\0\1\x67\x42\0\x1e", 0),
            packer.pes(0xE0, b"\0\0\1\x40\x01\x0c", 3600),
            packer.pes(0xE0, b"\0\0\1\x65\x88\x80" * 3, 7200, 3600),
            packer.pes(0xE0, b"\0\0\1\x41\x9a\x80"),
            packer.pes(0xE1, b"\0\0\1\x26\x01\xaf", 9),
            packer.pes(0xC0, b"\xff\xf1\x50\x40\x01\xff\xfc12345"),
            packer.pes(0xC0, b"\xd5" * 30, 5),
            b"\0\0\1\xe0\0\0\x80\x80\x05",
            b"\0\0\1\xe0\0\x03\xff\xff\xff",
            b"\0\0\1\xbc\xff\xff",
            b"\0\0\1\xbd\0\x04abcd",
            b"\0\0\1\xb9",
            b"\0\0\1\xba",
            b"\0\0\1",
            b"\x47" + bytes(187),
        ]
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(UNITS, max_size=6),
            st.one_of(st.integers(0, 3), st.integers(0, 2**32 - 1)),
            st.booleans(),
            st.booleans(),
            st.integers(0, 2**50),
        ),
        max_size=20,
    )
)
def test_any_program_stream_is_taken(pushes: list[tuple[list[bytes], int, bool, bool, int]]):
    demuxer = PsDemuxer()
    units = []
    given_bytes = 0

    for parts, ts, marker, lost, arrival_us in pushes:
        payload = b"".join(parts)
        given_bytes += len(payload)
        units += demuxer.push(payload, ts, marker, lost, arrival_us)
    units += demuxer.flush()

    for kind in ("video", "audio"):
        times = [unit.dts_90k for unit in units if unit.kind == kind]
        assert all(b > a for a, b in pairwise(times))
    assert sum(len(unit.data) for unit in units) <= given_bytes
    assert len(demuxer.oddities) < 20


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=600), st.integers(0, 4), st.integers(0, 40))
def test_any_parameter_sets_give_a_movie_or_none(data: bytes, kind: int, split_at: int):
    """Random sets that happen to parse must still give a movie that can be read back."""
    first = (b"\x67", b"\x42\x01", b"\x67\x64\0\x28", b"\x67\x42\0\x1e", b"\x42\x01\x01\x01\x60")[
        kind
    ]
    h265 = first[0] == 0x42
    head = b"\0\0\1\x40\x01\x0c" if h265 else b""
    pps = b"\0\0\1\x44\x01" if h265 else b"\0\0\1\x68\xce"
    slice_ = b"\0\0\1\x26\x01\xaf" if h265 else b"\0\0\1\x65\x88"
    whole = head + b"\0\0\1" + first + data[split_at:] + pps + data[:split_at] + slice_
    codec = VideoCodec.H265 if h265 else VideoCodec.H264
    unit = AccessUnit("video", codec, 0, 0, True, whole, nals=nal.split(whole))
    sets = nal.ParameterSets()

    if sets.update(unit):
        track = fmp4.video_track(sets)
        assert fmp4.parse_init(fmp4.init_segment([track])).tracks == (track,)
    else:
        with pytest.raises(Invalid):
            fmp4.video_track(sets)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["PS", "H264", "H265", "PCMA", "PCMU"]))
def test_every_depacketizer_takes_every_byte_string_in_every_cut(data: bytes, encoding: str):
    depacketizer = depacketizer_for(encoding)
    assert depacketizer is not None

    for at in range(0, len(data), 7):
        depacketizer.push(memoryview(data)[at : at + 7], at, at % 3 == 0, at % 5 == 0)
    depacketizer.flush()


def test_a_flood_of_start_codes_costs_no_more_than_its_length():
    demuxer = PsDemuxer()
    flood = packer.pes(0xE0, b"\0\0\1" * 20_000)
    demuxer.push(packer.picture(clips.video()[0].data, 0, key=True), 0, True)

    units = []
    for _ in range(100):
        units += demuxer.push(flood, 1, False)
    units += demuxer.flush()

    assert all(len(unit.nals) <= nal.NALS_MAX for unit in units)
