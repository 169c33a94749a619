"""What flows: one inbound stream (MediaSession), the people who look at it (ViewSession), and the
story of each attempt to get a picture.

A media worker knows sessions, recordings and views by these values only; it holds no database and
no secret beyond the public half of the ticket key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from vsp.model.device import MediaTransport
from vsp.model.dialog import DialogState
from vsp.model.ids import AttemptId, ChannelId, SessionId, UtcMicros, ViewId, WorkerId


class VideoCodec(StrEnum):
    H264 = "h264"
    H265 = "h265"
    OTHER = "other"


class AudioCodec(StrEnum):
    G711A = "g711a"
    G711U = "g711u"
    AAC = "aac"
    OTHER = "other"


class StreamState(StrEnum):
    """Where an inbound stream stands; a tile's words come from it and the attempt."""

    SIGNALLING = "signalling"
    WAITING_MEDIA = "waiting_media"
    WAITING_KEYFRAME = "waiting_keyframe"
    FLOWING = "flowing"
    STALLED = "stalled"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """Ask a worker for a port that receives one stream. Idempotent by `session_id`.

    ssrc        the SSRC offered in `y=`; the first one that really arrives is taken, also 0
    transport   what the offer says; the port given back listens for UDP and for TCP, so that a
                second try over the other transport needs no other port
    """

    session_id: SessionId
    channel_id: ChannelId
    transport: MediaTransport
    ssrc: int


@dataclass(frozen=True, slots=True)
class SessionPort:
    """The address to write into the offer: `host` as advertised, `port` even."""

    session_id: SessionId
    worker_id: WorkerId
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class RemoteMedia:
    """What the answer said of the sender; packets from elsewhere are counted, never recorded.

    hosts       the media address of the answer and, behind NAT, the signalling address
    payloads    payload type -> encoding name, upper case ("PS", "H264", "PCMA", ...)
    dial        those of `hosts` that we may connect to, best first; empty: none
    dialog      that it was given in: the same answer in another one is a new beginning. A worker
                keeps it for the node, which may die before its own row of it is written
    """

    hosts: tuple[str, ...]
    port: int
    ssrc: int | None
    payloads: tuple[tuple[int, str], ...] = ((96, "PS"),)
    dial: tuple[str, ...] = ()
    dialog: DialogState | None = None


@dataclass(frozen=True, slots=True)
class StreamStats:
    """One stream as measured by its worker. Rates are over the last whole second."""

    packets: int = 0
    bytes: int = 0
    lost: int = 0
    reordered: int = 0
    duplicates: int = 0
    foreign: int = 0
    damaged_frames: int = 0
    frames: int = 0
    bits_per_s: int = 0
    frames_per_s: float = 0.0
    jitter_ms: float = 0.0
    width: int = 0
    height: int = 0
    video: VideoCodec | None = None
    audio: AudioCodec | None = None
    gop_frames: int = 0
    ssrc: int | None = None
    source: str = ""
    first_packet_us: UtcMicros | None = None
    first_key_us: UtcMicros | None = None
    last_packet_us: UtcMicros | None = None


@dataclass(frozen=True, slots=True)
class SessionStatus:
    session_id: SessionId
    channel_id: ChannelId
    worker_id: WorkerId
    state: StreamState
    transport: MediaTransport
    port: int
    recording: bool
    viewers: int
    stats: StreamStats
    dialog: DialogState | None = None

    @property
    def records(self) -> bool:
        """Whether pictures are really being recorded: asked for, and flowing."""
        return self.recording and self.state is StreamState.FLOWING


class ViewKind(StrEnum):
    LIVE = "live"
    PLAYBACK = "playback"


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """Ask a worker to let one viewer attach. `session_id` for live, `start_us` for playback."""

    view_id: ViewId
    kind: ViewKind
    channel_id: ChannelId
    session_id: SessionId | None = None
    start_us: UtcMicros | None = None
    end_us: UtcMicros | None = None


@dataclass(frozen=True, slots=True)
class ViewEndpoint:
    """Where the viewer connects: an absolute ws:// or wss:// URL on the worker's own port."""

    view_id: ViewId
    worker_id: WorkerId
    url: str


class Leg(StrEnum):
    """The leg of an attempt that failed, in the order in which a picture comes about."""

    PERMISSION = "permission"
    DEVICE_OFFLINE = "device_offline"
    WORKER = "worker"
    NO_SIP_ANSWER = "no_sip_answer"
    REFUSED = "refused"
    BAD_ANSWER = "bad_answer"
    NO_MEDIA = "no_media"
    FOREIGN_MEDIA = "foreign_media"
    DESTINATION_REFUSED = "destination_refused"
    NOT_DECODABLE = "not_decodable"


@dataclass(frozen=True, slots=True)
class AttemptStep:
    """One thing that happened during an attempt. `detail` names the packet in a capture."""

    at_us: UtcMicros
    what: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to get a picture from a channel, kept so that a failure names its leg."""

    id: AttemptId
    channel_id: ChannelId
    started_us: UtcMicros
    ended_us: UtcMicros | None = None
    purpose: str = "live"
    transport: MediaTransport | None = None
    call_id: str = ""
    succeeded: bool | None = None
    leg: Leg | None = None
    cause: str = ""
    next_step: str = ""
    steps: tuple[AttemptStep, ...] = field(default=())


# ---- what a worker tells the platform -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionChanged:
    """A stream began, stalled, recovered or ended. Sent on change, not on a timer."""

    status: SessionStatus
    cause: str = ""


@dataclass(frozen=True, slots=True)
class ViewEnded:
    """The viewer of `view_id` has gone, or never came within the attach time."""

    view_id: ViewId
    cause: str


@dataclass(frozen=True, slots=True)
class SegmentsWanted:
    """A playback needs rows from `from_us` on; answered with `MediaControl.feed_segments`."""

    view_id: ViewId
    channel_id: ChannelId
    from_us: UtcMicros
    until_us: UtcMicros


@dataclass(frozen=True, slots=True)
class Troubles:
    """Everything that refuses a worker what it needs, now; told whole whenever it changes.

    active  `store` (objects), `spool` (its log's disk) or `journal` -> why, as the system says it
    """

    active: Mapping[str, str]
