"""What is kept. A Run is unbroken recording; a Segment is one stored piece of a run, about 60 s,
cut at key frames; a Gap is absence with a cause.

A segment has two clocks. `start_us`/`end_us` are wall time by packet arrival and decide which
seconds exist. `duration_90k` is media time and decides what a player may show. They are stored
separately because each alone misleads (docs/design/time.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.stream import AudioCodec, VideoCodec


class Container(StrEnum):
    MP4 = "mp4"
    PS = "ps"


class EndReason(StrEnum):
    """Why a segment was closed. Everything but ROLLED also ends its run."""

    ROLLED = "rolled"
    STOPPED = "stopped"
    MEDIA_STOPPED = "media_stopped"
    FORMAT_CHANGED = "format_changed"
    CLOCK_STEP = "clock_step"
    WORKER_LOST = "worker_lost"
    STORAGE_FAILURE = "storage_failure"


class GapCause(StrEnum):
    """Why a second is missing. The closed list of rule B6; more causes join with the ledger."""

    DEVICE_OFFLINE = "device_offline"
    DEVICE_REFUSES = "device_refuses"
    NO_MEDIA = "no_media"
    PLATFORM_RESTART = "platform_restart"
    WORKER_LOST = "worker_lost"
    STORAGE_FAILURE = "storage_failure"
    NOT_PLANNED = "not_planned"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class RecordingSpec:
    """How a worker records one session. Idempotent: the same spec twice is one recording."""

    segment_s: float = 60.0
    part_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Segment:
    """One stored piece. Committed as a row only after its object is durable (invariant I1).

    key           `v1/{channel}/{yyyy}/{mm}/{dd}/{start_us}-{run}-{n}.mp4` (UTC day of start_us)
    run           all segments of a run share it: start_us of the first one, to the millisecond; the
                  last three digits are the worker's index (two may begin at the same picture)
    n             position in the run, from 0
    start_us      arrival of the first access unit
    end_us        arrival of the last access unit plus its duration: the next segment's start
    start_90k     decode time of the first sample as written in its first `tfdt`
    init_bytes    length of `ftyp moov`; media fragments follow
    fragments     (offset from start_us in ms, byte offset, byte length) of each key-framed fragment
    sha256        of the whole object, lower-case hex
    """

    channel_id: ChannelId
    key: str
    container: Container
    run: UtcMicros
    n: int
    start_us: UtcMicros
    end_us: UtcMicros
    start_90k: int
    duration_90k: int
    size_bytes: int
    sha256: str
    init_bytes: int
    fragments: tuple[tuple[int, int, int], ...]
    video: VideoCodec | None
    audio: AudioCodec | None
    codecs: str
    width: int
    height: int
    frames: int
    damaged_frames: int
    end_reason: EndReason


@dataclass(frozen=True, slots=True)
class SegmentClosed:
    """A worker's journal entry: the object is complete; the row may be written.

    seq leaves the journal only by `MediaControl.acknowledge` after the row is committed.
    """

    seq: int
    segment: Segment


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """A segment being written now, as its worker sees it; shown on timelines, not yet promised."""

    channel_id: ChannelId
    run: UtcMicros
    n: int
    start_us: UtcMicros
    end_us: UtcMicros


@dataclass(frozen=True, slots=True)
class Span:
    """A recorded stretch on a timeline: segments of one run merged. `open` means still growing."""

    start_us: UtcMicros
    end_us: UtcMicros
    open: bool = False
    damaged_frames: int = 0


@dataclass(frozen=True, slots=True)
class Gap:
    start_us: UtcMicros
    end_us: UtcMicros
    cause: GapCause
    evidence: str = ""
