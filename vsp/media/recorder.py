"""The recorder of one stream: access units in, segments of about a minute in the spool.

A segment begins and is cut at a key picture. Within it, media is written as fragments: one from key
picture to key picture, but none longer than `FRAGMENT_S`, so that a crash costs two seconds and not
a long GOP. Segments of a run join without a seam: the end of one is the start of the next.

Two clocks. Wall time is by arrival (`au.arrival_us`) and says which seconds exist; it never runs
backwards within a run, and a step of the machine's clock ends the run with that reason. Media time
(`dts`) is what players show; it counts from the run's first picture.

What the disk or the store cannot take is not queued without end: the segment is closed with the
reason `storage_failure` and the next one is tried `REFUSED_RETRY_S` later. A segment that came to
nothing is no row, so the reason is given to the one before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from vsp.errors import Exhausted, Invalid
from vsp.faults import Point, reach
from vsp.media.core.au import CLOCK_HZ, AccessUnit
from vsp.media.core.fmp4 import Fragment, Fragmenter, Track, init_segment
from vsp.media.messages import day_path
from vsp.media.spool import FragmentHead, SegmentHead, Spool, SpooledSegment
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import Container, EndReason, OpenSegment, RecordingSpec
from vsp.model.stream import AudioCodec, VideoCodec
from vsp.ports import Clock

log = structlog.get_logger(__name__)

FRAGMENT_S = 2.0
"""Longest media that exists only in memory: what a killed worker loses of a stream."""

FRAGMENT_90K = int(FRAGMENT_S * CLOCK_HZ)

CUT_EARLY_90K = CLOCK_HZ // 10
"""A key picture this little before the minute ends the segment: cameras are not exact."""

CLOCK_STEP_US = 1_000_000
"""Wall against monotonic clock moved this far within a run: the clock was set, not slewed."""

REFUSED_RETRY_S = 5.0
"""Wait before recording is tried again after the spool refused."""

PIECES_MAX = 10_000
"""Fragments of one segment; the index takes 20,000. A sender whose clock stands still, or that
makes every picture a key picture, must not grow a segment without end."""

SEGMENT_BYTES_MAX = 2 << 30
"""Bytes of one segment: ten minutes of 25 Mbit/s; the index takes offsets below 4 GiB."""

RUNS_APART_US = 1_000
"""Room for the index of the worker; a run does not end and begin again within a millisecond."""

_SAFE_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")


def object_key(channel_id: ChannelId, start_us: UtcMicros, run: UtcMicros, n: int) -> str:
    """`v1/{channel}/{yyyy}/{mm}/{dd}/{start_us}-{run}-{n}.mp4`, UTC day of the start."""
    if not _SAFE_ID.fullmatch(channel_id):
        raise Invalid(f"channel id {channel_id!r} cannot be part of an object key")
    return f"v1/{channel_id}/{day_path(start_us)}/{start_us}-{run}-{n}.mp4"


def run_id(start_us: UtcMicros, worker: int) -> UtcMicros:
    """What no other run of this channel has. A worker that is out of reach records on while another
    one begins, and both may get the same picture in the same microsecond."""
    return UtcMicros(start_us // RUNS_APART_US * RUNS_APART_US + worker)


@dataclass(slots=True)
class _Run:
    """Unbroken recording. origin_90k: decode time of its first picture. drift_us: wall - timer."""

    id: UtcMicros
    origin_90k: int
    drift_us: int
    n: int = 0


@dataclass(slots=True)
class _Open:
    """The segment being written, and the fragment being collected for it."""

    segment: SpooledSegment
    fragmenter: Fragmenter
    start_90k: int
    fragment_start_us: UtcMicros
    fragment_start_90k: int
    fragment_since: float
    pictures: int = 0
    damaged: int = 0
    key: bool = True


class Recorder:
    """`video` and `audio` for each access unit, `advance` when it is due, `stop` at the end.

    on_begin  told of each segment as it begins, with the spec; it ships the segment
    worker    the index of ours, for what must not be made twice on this node
    """

    def __init__(
        self,
        channel_id: ChannelId,
        spec: RecordingSpec,
        spool: Spool,
        clock: Clock,
        on_begin: Callable[[SpooledSegment, RecordingSpec], None],
        worker: int = 0,
    ) -> None:
        self._channel_id = channel_id
        self._spec = spec
        self._spool = spool
        self._clock = clock
        self._on_begin = on_begin
        self._worker = worker
        self._run: _Run | None = None
        self._open: _Open | None = None
        self._before: SpooledSegment | None = None
        self._last: AccessUnit | None = None
        self._last_end_us: UtcMicros | None = None
        self._picture_90k = CLOCK_HZ // 25
        self._refused_until = 0.0
        self.refusals = 0

    @property
    def spec(self) -> RecordingSpec:
        return self._spec

    def open_segment(self) -> OpenSegment | None:
        if self._open is None:
            return None
        head = self._open.segment.head
        end_us = self._open.segment.end_us
        return OpenSegment(head.channel_id, head.run, head.n, head.start_us, end_us)

    def video(self, au: AccessUnit, tracks: Sequence[Track], format_changed: bool) -> None:
        """One picture. `tracks` are those in force; at a key picture they may have changed."""
        if self._last is not None and 0 < au.dts_90k - self._last.dts_90k < CLOCK_HZ:
            self._picture_90k = au.dts_90k - self._last.dts_90k
        if au.key:
            self._cut(au, tracks, format_changed)
            if self._open is None:
                self._begin(au, tracks)
        opened = self._open
        if opened is not None:
            if opened.pictures and self._fragment_is_full(opened, au):
                self._write_fragment(opened, end=au)
            self._collect(opened, au)
        self._last = au

    def audio(self, au: AccessUnit) -> None:
        """Sound that plays before the run's first picture is left out."""
        run = self._run
        opened = self._open
        if opened is not None and run is not None and au.dts_90k >= run.origin_90k:
            if opened.pictures and opened.fragmenter.full:
                self._write_fragment(opened)
            if self._open is opened:
                opened.fragmenter.add(au)

    def advance(self, now: float, rests: bool = False) -> None:
        """Write what has waited too long: a slow stream must not keep pictures in memory. When the
        stream `rests` nothing is waited for."""
        due = self.next_deadline()
        if self._open is not None and due is not None and (rests or now >= due):
            self._write_fragment(self._open)

    def next_deadline(self) -> float | None:
        """When `advance` is due if no picture comes; never within FRAGMENT_S from the first one."""
        opened = self._open
        return (
            opened.fragment_since + FRAGMENT_S if opened is not None and opened.pictures else None
        )

    def stop(self, reason: EndReason) -> None:
        """Close the segment and the run. Recording goes on with the next key picture, if any."""
        if self._open is not None:
            self._close(reason)
        self._run = self._before = None

    # ---- segments ---------------------------------------------------------------------------

    def _cut(self, key: AccessUnit, tracks: Sequence[Track], format_changed: bool) -> None:
        """Close the open segment before a key picture when there is a reason to."""
        opened, run = self._open, self._run
        if opened is None or run is None:
            return
        if format_changed:
            self._end_run(EndReason.FORMAT_CHANGED, key)
        elif abs(self._drift_us() - run.drift_us) > CLOCK_STEP_US:
            self._end_run(EndReason.CLOCK_STEP, None)
        elif self._is_due(opened, key) or self._gained_audio(tracks):
            self._close(EndReason.ROLLED, key)
            run.n += 1
            reach(Point.RECORDER_ROLLED)

    def _end_run(self, reason: EndReason, next_key: AccessUnit | None) -> None:
        self._close(reason, next_key)
        self._run = None

    def _is_due(self, opened: _Open, key: AccessUnit) -> bool:
        """Long enough by media time, or too much by any other measure."""
        long_enough_90k = int(self._spec.segment_s * CLOCK_HZ) - CUT_EARLY_90K
        if key.dts_90k - opened.start_90k >= long_enough_90k:
            return True
        return self._is_overgrown(opened, 2)

    def _is_overgrown(self, opened: _Open, share: int) -> bool:
        segment = opened.segment
        pieces, size_bytes = len(segment.fragments), segment.size_bytes
        return pieces >= PIECES_MAX // share or size_bytes >= SEGMENT_BYTES_MAX // share

    def _gained_audio(self, tracks: Sequence[Track]) -> bool:
        """Sound that appeared after the segment began gets its track with an early cut."""
        has_audio = any(track.kind == "audio" for track in tracks)
        return has_audio and self._open is not None and self._open.segment.head.audio is None

    def _drift_us(self) -> int:
        return self._clock.now_us() - int(self._clock.monotonic() * 1_000_000)

    def _begin(self, key: AccessUnit, tracks: Sequence[Track]) -> None:
        now = self._clock.monotonic()
        if now < self._refused_until:
            self._run = None  # a hole is no part of a run
            return
        start_us = UtcMicros(key.arrival_us)
        if self._run is None:
            self._run = _Run(run_id(start_us, self._worker), key.dts_90k, self._drift_us())
        elif self._last_end_us is not None:
            start_us = self._last_end_us
        init = init_segment(tracks)
        reach(Point.RECORDER_INIT_ABOUT)
        head = self._head(self._run, start_us, key.dts_90k, tracks, len(init))
        try:
            segment = self._spool.begin(head, init)
        except Exhausted as error:
            self._run = None
            self._refused(error)
            return
        fragmenter = Fragmenter(tracks, self._run.origin_90k)
        self._open = _Open(segment, fragmenter, key.dts_90k, start_us, key.dts_90k, now)
        self._on_begin(segment, self._spec)

    def _head(
        self,
        run: _Run,
        start_us: UtcMicros,
        start_dts_90k: int,
        tracks: Sequence[Track],
        init_bytes: int,
    ) -> SegmentHead:
        video = next(track for track in tracks if track.kind == "video")
        sound = next((track for track in tracks if track.kind == "audio"), None)
        return SegmentHead(
            channel_id=self._channel_id,
            key=object_key(self._channel_id, start_us, run.id, run.n),
            container=Container.MP4,
            run=run.id,
            n=run.n,
            start_us=start_us,
            start_90k=start_dts_90k - run.origin_90k,
            init_bytes=init_bytes,
            video=VideoCodec(video.codec),
            audio=AudioCodec(sound.codec) if sound is not None else None,
            codecs=",".join(track.codec_string for track in tracks),
            width=video.width,
            height=video.height,
        )

    def _close(self, reason: EndReason, next_key: AccessUnit | None = None) -> None:
        opened = self._open
        assert opened is not None
        if opened.pictures:
            self._write_fragment(opened, end=next_key)
        if self._open is opened:
            self._spool.end(opened.segment, reason)
            self._last_end_us = opened.segment.end_us if reason is EndReason.ROLLED else None
            self._open, self._before = None, opened.segment

    # ---- fragments --------------------------------------------------------------------------

    def _fragment_is_full(self, opened: _Open, au: AccessUnit) -> bool:
        long_enough = au.dts_90k - opened.fragment_start_90k >= FRAGMENT_90K
        return au.key or long_enough or opened.fragmenter.full

    def _collect(self, opened: _Open, au: AccessUnit) -> None:
        if opened.pictures == 0:
            opened.key = au.key
            opened.fragment_start_90k = au.dts_90k
            opened.fragment_since = self._clock.monotonic()
            # After a pause that was too short to end the run, media stands where it arrived.
            arrival_us = UtcMicros(au.arrival_us)
            opened.fragment_start_us = max(opened.fragment_start_us, arrival_us)
        opened.pictures += 1
        opened.damaged += au.damaged
        opened.fragmenter.add(au)

    def _write_fragment(self, opened: _Open, end: AccessUnit | None = None) -> None:
        """Write what is collected. `end`: the picture after it, whose time is this one's end."""
        fragment = opened.fragmenter.fragment(end.dts_90k if end is not None else None)
        assert fragment is not None, "a fragment with pictures is never empty"
        head = self._fragment_head(opened, fragment, self._end_us(opened, end))
        opened.pictures = opened.damaged = 0
        opened.fragment_start_us = head.end_us
        reach(Point.RECORDER_FRAGMENT_ABOUT)
        try:
            self._spool.append(opened.segment, head, fragment.data)
        except Exhausted as error:
            self._give_up(opened, EndReason.STORAGE_FAILURE)
            self._refused(error)
        else:
            self._before = None
            if self._is_overgrown(opened, 1):  # and no key picture came to cut it at
                self._give_up(opened, EndReason.MEDIA_STOPPED)

    def _give_up(self, opened: _Open, reason: EndReason) -> None:
        """End segment and run here; the next key picture begins another."""
        self._spool.end(opened.segment, reason)
        self._open = self._run = self._last_end_us = None

    def _end_us(self, opened: _Open, end: AccessUnit | None) -> UtcMicros:
        """Wall time after the last picture; never before the fragment's start."""
        assert self._last is not None
        length_us = self._picture_90k * 1_000_000 // CLOCK_HZ
        by_arrival = end.arrival_us if end is not None else self._last.arrival_us + length_us
        return UtcMicros(max(by_arrival, opened.fragment_start_us + 1))

    def _fragment_head(self, opened: _Open, fragment: Fragment, end_us: UtcMicros) -> FragmentHead:
        return FragmentHead(
            start_us=opened.fragment_start_us,
            end_us=end_us,
            base_dts_90k=fragment.base_dts_90k,
            duration_90k=fragment.duration_90k,
            frames=opened.pictures,
            damaged_frames=opened.damaged,
            key=opened.key,
        )

    def _refused(self, error: Exhausted) -> None:
        """Nothing of the segment before says why its successor is missing, so it ends anew."""
        before, self._before = self._before, None
        if before is not None:
            self._spool.end(before, EndReason.STORAGE_FAILURE)
        self.refusals += 1
        self._refused_until = self._clock.monotonic() + REFUSED_RETRY_S
        log.error("recording refused", channel=self._channel_id, why=str(error), cause=error.cause)
