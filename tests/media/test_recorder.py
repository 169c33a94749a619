"""Cutting segments: where they begin and end, what they say of themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.media.rig import CHANNEL, GOP, STEP_90K, access_units, decoded, open_spool
from vsp.errors import Exhausted, Invalid
from vsp.media.chunks import Kind
from vsp.media.core.au import AccessUnit
from vsp.media.core.fmp4 import (
    SAMPLES_MAX,
    Track,
    audio_track,
    iter_fragments,
    parse_init,
    video_track,
)
from vsp.media.core.nal import ParameterSets
from vsp.media.recorder import REFUSED_RETRY_S, Recorder, object_key, run_id
from vsp.media.spool import Spool, SpooledSegment
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import EndReason, RecordingSpec
from vsp.model.stream import AudioCodec

START_US = UtcMicros(1_795_305_600_000_000 - 1_000_000)
"""One second before midnight of 2026-11-22 UTC."""

SPEC = RecordingSpec(segment_s=4.0, part_s=1.0)


@dataclass
class Clock:
    """A clock in hand."""

    wall_us: int = START_US
    at: float = 100.0

    def now_us(self) -> UtcMicros:
        return UtcMicros(self.wall_us)

    def monotonic(self) -> float:
        return self.at

    def forward(self, seconds: float) -> None:
        self.wall_us += round(seconds * 1_000_000)
        self.at += seconds


@dataclass
class Bench:
    """A recorder over a real spool, fed by hand."""

    spool: Spool
    clock: Clock = field(default_factory=Clock)
    begun: list[SpooledSegment] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recorder = Recorder(
            CHANNEL, SPEC, self.spool, self.clock, lambda segment, _: self.begun.append(segment)
        )
        sets = ParameterSets()
        sets.update(access_units(1, START_US)[0])
        self.tracks: list[Track] = [video_track(sets, in_band=True)]

    def feed(self, units: list[AccessUnit], changed: bool = False) -> None:
        for au in units:
            self.recorder.video(au, self.tracks, changed)
            self.clock.forward(0.04)

    def ends(self) -> list[EndReason | None]:
        return [segment.end for segment in self.begun]

    async def data(self, segment: SpooledSegment) -> bytes:
        return await self.spool.read(segment, 0, segment.size_bytes)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    spool = open_spool(tmp_path)
    spool.start()
    yield Bench(spool)
    await spool.close()


async def test_segments_are_cut_at_the_first_key_picture_after_their_length(bench: Bench):
    bench.feed(access_units(240, START_US))
    bench.recorder.stop(EndReason.STOPPED)

    assert bench.ends() == [EndReason.ROLLED, EndReason.ROLLED, EndReason.STOPPED]
    # A picture is 40 ms, a GOP 10 of them: 4 s are 100 pictures exactly.
    rows = [segment.row(EndReason.ROLLED) for segment in bench.begun]
    assert [row.frames for row in rows] == [100, 100, 40]
    assert [row.start_90k for row in rows] == [0, 360_000, 720_000]
    assert [row.duration_90k for row in rows] == [360_000, 360_000, 144_000]


async def test_the_end_of_one_segment_is_the_start_of_the_next(bench: Bench):
    bench.feed(access_units(240, START_US))
    bench.recorder.stop(EndReason.STOPPED)
    first, second, third = bench.begun

    assert first.head.start_us == first.head.run == START_US
    assert first.end_us == second.head.start_us == START_US + 4_000_000
    assert second.end_us == third.head.start_us
    assert third.end_us == START_US + 240 * 40_000
    assert [segment.head.n for segment in bench.begun] == [0, 1, 2]
    assert {segment.head.run for segment in bench.begun} == {START_US}


async def test_the_key_says_channel_utc_day_start_run_and_number(bench: Bench):
    bench.feed(access_units(101, START_US))

    assert [segment.head.key for segment in bench.begun] == [
        f"v1/{CHANNEL}/2026/11/21/{START_US}-{START_US}-0.mp4",
        f"v1/{CHANNEL}/2026/11/22/{START_US + 4_000_000}-{START_US}-1.mp4",
    ]


@pytest.mark.parametrize("channel", ["", "../x", "a/b", "a.b", "x" * 65, "通道"])
def test_a_channel_id_that_could_leave_its_folder_is_refused(channel: str):
    with pytest.raises(Invalid):
        object_key(ChannelId(channel), UtcMicros(0), UtcMicros(0), 0)


async def test_every_segment_stands_alone(bench: Bench):
    bench.feed(access_units(130, START_US))
    bench.recorder.stop(EndReason.STOPPED)

    times = []
    for segment in bench.begun:
        data = await bench.data(segment)
        init = parse_init(data)
        assert init.size == segment.head.init_bytes
        found = [(info.offset, info.size) for info in iter_fragments(data, init.size)]
        assert found == [(offset, size) for offset, size, _ in segment.fragments]
        times += decoded(data)
    assert times == [i * STEP_90K for i in range(130)]


async def test_the_table_leads_to_each_key_picture(bench: Bench):
    bench.feed(access_units(55, START_US))
    bench.recorder.stop(EndReason.STOPPED)
    [segment] = bench.begun

    table = segment.table()
    assert [ms for ms, _, _ in table] == [0, 400, 800, 1200, 1600, 2000]
    assert table[0][1] == segment.head.init_bytes
    assert table[-1][1] + table[-1][2] == segment.size_bytes
    data = await bench.data(segment)
    for _, offset, length in table:
        [info] = iter_fragments(data[offset : offset + length])
        assert info.samples[1][0].key


async def test_a_long_gop_is_written_every_two_seconds(bench: Bench):
    units = access_units(130, START_US)
    for au in units[1:]:
        au.key = False
    bench.feed(units)
    [segment] = bench.begun

    assert [fragment.frames for _, _, fragment in segment.fragments] == [50, 50]
    assert [fragment.key for _, _, fragment in segment.fragments] == [True, False]
    assert len(segment.table()) == 1
    assert segment.table()[0][2] == segment.size_bytes - segment.head.init_bytes


async def test_a_flood_of_pictures_is_written_before_one_would_be_refused(bench: Bench):
    first, *others = access_units(GOP, START_US)
    flood = [first, *(replace(others[0], dts_90k=n, pts_90k=n) for n in range(1, SAMPLES_MAX + 10))]
    bench.feed(flood)
    bench.recorder.stop(EndReason.STOPPED)

    [segment] = bench.begun
    assert [head.frames for _, _, head in segment.fragments] == [SAMPLES_MAX, 10]


async def test_a_flood_of_sound_leaves_room_for_the_picture(bench: Bench):
    picture, after, *_ = access_units(GOP, START_US)
    sound = AccessUnit("audio", AudioCodec.G711A, 1, 1, True, bytes(8), rate_hz=8000, channels=1)
    bench.tracks.append(audio_track(sound))
    bench.feed([picture])
    for n in range(1, SAMPLES_MAX + 10):
        bench.recorder.audio(replace(sound, dts_90k=n, pts_90k=n, nals=[]))
    bench.feed([after])
    bench.recorder.stop(EndReason.STOPPED)

    [segment] = bench.begun
    assert [head.frames for _, _, head in segment.fragments] == [1, 1]


async def test_a_stalled_stream_leaves_nothing_in_memory(bench: Bench):
    bench.feed(access_units(5, START_US))
    bench.clock.forward(2.1)
    bench.recorder.advance(bench.clock.monotonic())

    assert bench.begun[0].fragments[0][2].frames == 5


async def test_media_after_a_short_pause_stands_where_it_arrived(bench: Bench):
    bench.feed(access_units(10, START_US))
    bench.clock.forward(5.0)
    bench.recorder.advance(bench.clock.monotonic())
    bench.feed(access_units(10, START_US + 5_000_000, first=10))
    bench.recorder.stop(EndReason.STOPPED)
    [segment] = bench.begun

    assert [ms for ms, _, _ in segment.table()] == [0, 5400]


def test_two_workers_that_get_the_same_picture_at_once_make_two_objects():
    runs = {run_id(UtcMicros(START_US), worker) for worker in (0, 1)}

    assert len({object_key(CHANNEL, UtcMicros(START_US), run, 0) for run in runs}) == 2


async def test_nothing_is_recorded_before_the_first_key_picture(bench: Bench):
    bench.feed(access_units(9, START_US, first=1))
    assert bench.begun == []

    bench.feed(access_units(10, START_US, first=10))
    assert bench.begun[0].head.start_us == START_US + 10 * 40_000


async def test_another_picture_size_ends_the_run(bench: Bench):
    bench.feed(access_units(15, START_US))
    bench.feed(access_units(5, START_US, first=15))
    bench.recorder.video(access_units(1, START_US, first=20)[0], bench.tracks, True)

    assert bench.ends() == [EndReason.FORMAT_CHANGED, None]
    assert bench.begun[1].head.run == bench.begun[1].head.start_us == bench.begun[0].end_us


async def test_a_step_of_the_wall_clock_ends_the_run(bench: Bench):
    bench.feed(access_units(20, START_US))
    bench.clock.wall_us -= 3_600_000_000
    bench.feed(access_units(20, START_US - 3_600_000_000, first=20))

    assert bench.ends() == [EndReason.CLOCK_STEP, None]
    assert bench.begun[0].end_us > bench.begun[0].head.start_us
    assert bench.begun[1].head.run == START_US - 3_600_000_000 + 20 * 40_000


async def test_a_stop_ends_the_run_and_the_next_picture_begins_another(bench: Bench):
    bench.feed(access_units(15, START_US))
    bench.recorder.stop(EndReason.MEDIA_STOPPED)
    bench.recorder.stop(EndReason.MEDIA_STOPPED)
    bench.feed(access_units(15, START_US + 60_000_000, first=20))

    first, second = bench.begun
    assert (first.end, second.end) == (EndReason.MEDIA_STOPPED, None)
    assert first.end_us == START_US + 15 * 40_000
    assert second.head.start_90k == 0


async def test_damaged_pictures_are_kept_and_counted(bench: Bench):
    units = access_units(20, START_US)
    units[3] = replace(units[3], damaged=True)
    bench.feed(units)
    bench.recorder.stop(EndReason.STOPPED)

    row = bench.begun[0].row(EndReason.STOPPED)
    assert (row.frames, row.damaged_frames) == (20, 1)


class Doorkeeper:
    """Says whether the spool has room: for beginnings, and for what follows them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refuses: set[Kind] = set()
        append = Spool._append

        def judged(
            spool: Spool, segment: SpooledSegment, kind: Kind, *rest: Any, **how: Any
        ) -> int:
            if kind in self.refuses:
                raise Exhausted("full")
            return append(spool, segment, kind, *rest, **how)

        monkeypatch.setattr(Spool, "_append", judged)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Doorkeeper:
    return Doorkeeper(monkeypatch)


async def test_a_full_spool_ends_the_segment_and_recording_is_tried_again_later(
    bench: Bench, door: Doorkeeper
):
    bench.feed(access_units(15, START_US))
    door.refuses = {Kind.BEGIN, Kind.FRAGMENT}
    bench.feed(access_units(30, START_US, first=15))
    assert bench.ends() == [EndReason.STORAGE_FAILURE]
    assert bench.recorder.refusals == 1

    door.refuses.clear()
    bench.clock.forward(REFUSED_RETRY_S)
    bench.feed(access_units(GOP + 1, START_US + 10_000_000, first=50))
    assert bench.ends() == [EndReason.STORAGE_FAILURE, None]


@pytest.mark.parametrize(("refused", "fed"), [(Kind.BEGIN, 100), (Kind.FRAGMENT, 101)])
async def test_a_segment_that_comes_to_nothing_gives_its_reason_to_the_one_before(
    bench: Bench, door: Doorkeeper, refused: Kind, fed: int
):
    bench.feed(access_units(fed, START_US))
    door.refuses = {refused}
    bench.feed(access_units(GOP + 1, START_US, first=fed))

    whole, *empty = bench.begun
    assert len(whole.fragments) == 100 // GOP
    assert not any(segment.fragments for segment in empty)
    assert set(bench.ends()) == {EndReason.STORAGE_FAILURE}


async def test_what_is_being_written_is_known(bench: Bench):
    assert bench.recorder.open_segment() is None
    bench.feed(access_units(25, START_US))

    opened = bench.recorder.open_segment()
    assert opened is not None
    assert (opened.start_us, opened.end_us) == (START_US, START_US + 800_000)
