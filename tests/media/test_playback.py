"""Playback over a real media socket: rows fed as by a node, bytes from a real folder and spool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.media.rig import (
    CHANNEL,
    STEP_90K,
    Rig,
    Viewer,
    access_units,
    playable,
    running,
    settings,
    until,
    viewer,
)
from vsp.clock import SystemClock
from vsp.errors import Invalid
from vsp.media import messages
from vsp.media.core.au import AccessUnit
from vsp.media.core.fmp4 import Track, audio_track, iter_fragments, video_track
from vsp.media.core.nal import ParameterSets
from vsp.media.playback import READ_AHEAD_S, PlayHead
from vsp.media.recorder import Recorder
from vsp.model.ids import UtcMicros, ViewId
from vsp.model.recording import EndReason, RecordingSpec, Segment
from vsp.model.stream import AudioCodec, SegmentsWanted, ViewEnded, ViewKind

NOON_US = UtcMicros(1_790_000_000_000_000)
SECOND_US = 1_000_000


class Night:
    """A recorded night: two runs of six seconds with a gap of ten between them, rows in hand."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.rows: list[Segment] = []
        self.asked: list[SegmentsWanted] = []

    async def record(self, start_us: int, frames: int, stop: bool = True) -> Recorder:
        """`frames` pictures that arrived on time from `start_us` on, in segments of 2 s."""
        worker = self.rig.worker
        recorder = Recorder(
            CHANNEL, RecordingSpec(2.0, 1.0), worker._spool, SystemClock(), worker._ship
        )
        units = access_units(frames, start_us)
        sets = ParameterSets()
        sets.update(units[0])
        tracks: list[Track] = [video_track(sets, in_band=True)]
        for au in units:
            recorder.video(au, tracks, False)
        if stop:
            recorder.stop(EndReason.STOPPED)
        return recorder

    async def commit(self) -> None:
        """As the node does: rows from the journal, then the acknowledgement."""
        await until(lambda: not self.rig.worker._shipper.segments)
        await asyncio.sleep(0)
        self.rows = self.rig.segments
        await self.rig.worker.acknowledge(len(self.rows))

    async def answer(self) -> None:
        """A node's part: rows for every question."""
        while True:
            await until(lambda: len(self.rig.seen(SegmentsWanted)) > len(self.asked))
            question = self.rig.seen(SegmentsWanted)[len(self.asked)]
            assert isinstance(question, SegmentsWanted)
            self.asked.append(question)
            rows = [
                row
                for row in self.rows
                if row.end_us > question.from_us and row.start_us < question.until_us
            ]
            await self.rig.worker.feed_segments(question.view_id, rows, question.until_us)

    @asynccontextmanager
    async def watch(self, start_us: int, end_us: int | None = None) -> AsyncIterator[Viewer]:
        url = await self.rig.open_view(
            "p1", kind=ViewKind.PLAYBACK, session_id=None, start_us=start_us, end_us=end_us
        )
        answering = asyncio.create_task(self.answer())
        try:
            async with viewer(url, self.rig.ticket("p1", "playback")) as watching:
                await watching.say(rate=16)
                yield watching
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)


@asynccontextmanager
async def recorded_night(tmp_path: Path) -> AsyncIterator[Night]:
    async with running(settings(tmp_path)) as rig:
        night = Night(rig)
        await night.record(NOON_US, 150)
        await night.record(NOON_US + 16 * SECOND_US, 150)
        await night.commit()
        yield night


async def test_two_runs_play_as_one_timeline_with_the_gap_told(tmp_path: Path):
    async with recorded_night(tmp_path) as night:
        async with night.watch(NOON_US, NOON_US + 60 * SECOND_US) as watching:
            await until(lambda: "ended" in watching.states())

        assert playable(watching.binaries()) == [i * STEP_90K for i in range(300)]
        assert [said["type"] for said in watching.items if isinstance(said, dict)][:3] == [
            "state",
            "seek",
            "init",
        ]
        [gap] = watching.texts("gap")
        assert gap["from"] == messages.rfc3339(UtcMicros(NOON_US + 6 * SECOND_US))
        assert gap["to"] == messages.rfc3339(UtcMicros(NOON_US + 16 * SECOND_US))
        clocks = {said["media_s"]: said["time"] for said in watching.texts("clock")}
        assert clocks[6.0] == messages.rfc3339(UtcMicros(NOON_US + 16 * SECOND_US))
        assert len(watching.texts("init")) == 1


async def test_a_seek_begins_at_the_key_picture_before_and_says_both_instants(tmp_path: Path):
    async with recorded_night(tmp_path) as night, night.watch(NOON_US) as watching:
        await until(watching.fragments)
        target_us = UtcMicros(NOON_US + 17_500_000)
        await watching.say(seek={"seq": 7, "time": messages.rfc3339(target_us)})
        await until(lambda: len(watching.texts("seek")) == 2)
        await until(lambda: "ended" in watching.states())

        told = watching.texts("seek")[1]
        # Key pictures come every 0.4 s.
        assert told["seq"] == 7
        assert told["time"] == messages.rfc3339(UtcMicros(NOON_US + 17_200_000))
        assert told["target"] == messages.rfc3339(target_us)
        media_s, target_media_s = float(str(told["media_s"])), float(str(told["target_media_s"]))
        assert target_media_s - media_s == pytest.approx(0.3)
        after = watching.items[watching.items.index(told) :]
        fragments = [item for item in after if isinstance(item, bytes) and item[4:8] == b"moof"]
        first = next(iter_fragments(fragments[0])).samples[1][0]
        assert first.dts_90k == round(media_s * 90_000)
        assert first.key
        assert sum(len(f.samples[1]) for data in fragments for f in iter_fragments(data)) == 120


def fragments_of(watching: Viewer, seq: int) -> list[object]:
    """What came after the announcement of `seq`."""
    told = [n for n, said in enumerate(watching.items) if is_seek(said, seq)]
    after = watching.items[told[0] :] if told else []
    return [item for item in after if isinstance(item, bytes) and item[4:8] == b"moof"]


def is_seek(said: object, seq: int) -> bool:
    return isinstance(said, dict) and said["type"] == "seek" and said["seq"] == seq


async def test_media_time_never_runs_backwards_over_seeks(tmp_path: Path):
    async with recorded_night(tmp_path) as night, night.watch(NOON_US) as watching:
        for seq, second in enumerate((20, 3, 18, 0), start=1):
            await watching.say(
                seek={"seq": seq, "time": messages.rfc3339(UtcMicros(NOON_US + second * SECOND_US))}
            )
            await until(lambda seq=seq: fragments_of(watching, seq))
        samples = [
            sample
            for data in watching.fragments()
            for fragment in iter_fragments(data)
            for sample in fragment.samples[1]
        ]

        ends = [sample.dts_90k + sample.duration_90k for sample in samples]
        assert all(end <= later.dts_90k for end, later in zip(ends, samples[1:], strict=False))


async def test_a_start_in_a_gap_begins_with_what_comes_next(tmp_path: Path):
    async with recorded_night(tmp_path) as night:
        async with night.watch(NOON_US + 10 * SECOND_US) as watching:
            await until(watching.fragments)

        types = [item["type"] for item in watching.items if isinstance(item, dict)]
        assert types[:3] == ["state", "gap", "seek"]
        told = watching.texts("seek")[0]
        assert (
            told["time"] == told["target"] == messages.rfc3339(UtcMicros(NOON_US + 16 * SECOND_US))
        )


async def test_what_is_not_yet_committed_is_played_from_the_worker_itself(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        night = Night(rig)
        await night.record(NOON_US, 150)
        await rig.closed(3)
        async with night.watch(NOON_US, NOON_US + 60 * SECOND_US) as watching:
            await until(lambda: "ended" in watching.states())

        assert playable(watching.binaries()) == [i * STEP_90K for i in range(150)]


async def test_a_segment_that_is_being_written_is_followed_to_its_end(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        night = Night(rig)
        recorder = await night.record(NOON_US, 45, stop=False)
        async with night.watch(NOON_US, NOON_US + 60 * SECOND_US) as watching:
            await until(lambda: len(watching.fragments()) == 4)
            recorder.stop(EndReason.STOPPED)
            await until(lambda: "ended" in watching.states())

        assert playable(watching.binaries()) == [i * STEP_90K for i in range(45)]


async def test_sound_is_left_out_because_browsers_refuse_it(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        worker = rig.worker
        spec = RecordingSpec(600.0, 1.0)
        recorder = Recorder(CHANNEL, spec, worker._spool, SystemClock(), worker._ship)
        units = access_units(20, NOON_US)
        sets = ParameterSets()
        sets.update(units[0])
        sound = [alaw_unit(au.dts_90k) for au in units]
        tracks = [video_track(sets, in_band=True), audio_track(sound[0])]
        for picture, au in zip(units, sound, strict=True):
            recorder.video(picture, tracks, False)
            recorder.audio(au)
        recorder.stop(EndReason.STOPPED)
        night = Night(rig)
        await night.commit()
        async with night.watch(NOON_US, NOON_US + 60 * SECOND_US) as watching:
            await until(lambda: "ended" in watching.states())

        assert night.rows[0].codecs.endswith(",alaw")
        assert watching.texts("init")[0]["mime"] == 'video/mp4; codecs="avc1.42C00B"'
        assert b"alaw" not in b"".join(watching.binaries())
        assert playable(watching.binaries()) == [i * STEP_90K for i in range(20)]


def alaw_unit(dts_90k: int) -> AccessUnit:
    return AccessUnit(
        kind="audio",
        codec=AudioCodec.G711A,
        pts_90k=dts_90k,
        dts_90k=dts_90k,
        key=True,
        data=b"\xd5" * 320,
        duration_90k=STEP_90K,
        rate_hz=8000,
        channels=1,
    )


async def test_an_object_that_is_gone_is_a_gap_and_not_the_end(tmp_path: Path):
    async with recorded_night(tmp_path) as night:
        await night.rig.objects.delete(night.rows[1].key)
        async with night.watch(NOON_US, NOON_US + 6 * SECOND_US) as watching:
            await until(lambda: "ended" in watching.states())

        assert len(playable(watching.binaries())) == 100
        assert watching.texts("gap")[0]["cause"] == "a stored segment cannot be read"


async def test_pause_stops_sending_a_little_ahead_and_play_goes_on(tmp_path: Path):
    async with recorded_night(tmp_path) as night, night.watch(NOON_US) as watching:
        await watching.say(pause=True)
        await watching.say(rate=1)
        await until(lambda: watching.texts("position"))
        await asyncio.sleep(0.3)
        paused_at = len(watching.fragments())
        await asyncio.sleep(0.3)
        still = len(watching.fragments())
        await watching.say(rate=16)
        await watching.say(pause=False)
        await until(lambda: "ended" in watching.states())

        assert paused_at == still
        assert len(playable(watching.binaries())) == 300


async def test_a_command_that_is_not_understood_is_answered_and_changes_nothing(tmp_path: Path):
    async with recorded_night(tmp_path) as night, night.watch(NOON_US) as watching:
        await watching.say(rate=0)
        await until(lambda: watching.texts("error"))
        await until(lambda: "ended" in watching.states())

        assert watching.texts("error")[0]["kind"] == "invalid"


async def test_closing_the_view_ends_a_playback_even_while_it_waits_for_rows(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        url = await rig.open_view("p1", kind=ViewKind.PLAYBACK, session_id=None, start_us=NOON_US)
        async with viewer(url, rig.ticket("p1", "playback")) as watching:
            await until(lambda: rig.seen(SegmentsWanted))
            await rig.worker.close_view(ViewId("p1"), "the right was revoked")
            await until(lambda: watching.closed)
        await until(lambda: rig.seen(ViewEnded))

        assert watching.texts("error")[0]["cause"] == "the right was revoked"


async def test_rows_for_a_live_view_are_refused(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        await rig.open_view("v1")
        with pytest.raises(Invalid, match="no playback"):
            await rig.worker.feed_segments(ViewId("v1"), [], NOON_US)


# ---- the play head --------------------------------------------------------------------------


def test_the_head_runs_at_its_rate_and_stands_while_paused():
    head = PlayHead()
    head.jump(100.0, 5.0)

    head.set_rate(101.0, 4.0)
    assert head.position_s(102.0) == 10.0
    head.pause(102.0, True)
    assert head.position_s(200.0) == 10.0
    head.pause(200.0, False)
    assert head.position_s(201.0) == 14.0


def test_media_is_due_a_read_ahead_before_the_head_reaches_it():
    head = PlayHead()
    head.jump(0.0, 0.0)

    assert head.due_in_s(0.0, READ_AHEAD_S) == 0.0
    assert head.due_in_s(0.0, READ_AHEAD_S + 1) == 1.0
    head.pause(0.0, True)
    assert head.due_in_s(0.0, READ_AHEAD_S) == 0.0
    assert head.due_in_s(0.0, READ_AHEAD_S + 1) is None
