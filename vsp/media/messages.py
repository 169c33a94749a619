"""The text frames of the media socket, and instants as they stand in them.

One function a message, so that a viewer's protocol can be read here in one place. Instants are
RFC 3339 in UTC with milliseconds; media times are seconds on the socket's own media timeline
(`tfdt` of what was sent). The client's side is three commands: seek, rate, pause.
"""

from __future__ import annotations

import calendar
import re
import time
from dataclasses import dataclass

from pydantic_core import from_json

from vsp.errors import Invalid, VspError
from vsp.media.core.au import CLOCK_HZ
from vsp.media.core.fmp4 import Track, mime
from vsp.model.ids import UtcMicros
from vsp.model.stream import StreamState, StreamStats

Message = dict[str, object]

COMMAND_LENGTH_MAX = 1024
"""Characters of one client command; a seek has about 70."""

RATE_MIN, RATE_MAX = 0.25, 16.0
"""Speeds a player may ask for. Beyond 16 a browser drops most pictures anyway."""

STATE_WORDS = {
    StreamState.SIGNALLING: "signalling",
    StreamState.WAITING_MEDIA: "waiting_media",
    StreamState.WAITING_KEYFRAME: "waiting_keyframe",
    StreamState.FLOWING: "playing",
    StreamState.STALLED: "stalled",
    StreamState.ENDED: "ended",
}
"""A tile says "playing" where the platform says that media flows."""


def state(word: str, cause: str = "", next_step: str = "") -> Message:
    return {"type": "state", "state": word, "cause": cause, "next_step": next_step}


def init(track: Track, seq: int | None = None) -> Message:
    """Precedes the binary init segment; a later one replaces the decoder's configuration."""
    said: Message = {
        "type": "init",
        "mime": mime([track]),
        "codec": track.codec.value,
        "width": track.width,
        "height": track.height,
    }
    return said if seq is None else said | {"seq": seq}


def clock(media_90k: int, at_us: UtcMicros) -> Message:
    """From here on, wall time = `time` + (media time - `media_s`)."""
    return {"type": "clock", "media_s": media_90k / CLOCK_HZ, "time": rfc3339(at_us)}


def gap(from_us: UtcMicros, to_us: UtcMicros, cause: str) -> Message:
    return {"type": "gap", "from": rfc3339(from_us), "to": rfc3339(to_us), "cause": cause}


def failure(error: VspError) -> Message:
    return {
        "type": "error",
        "kind": error.kind,
        "message": error.message,
        "cause": error.cause,
        "next_step": error.next_step,
    }


def stats(measured: StreamStats, lag_ms: int, dropped: int, held: int) -> Message:
    """Each second. dropped: not sent because this viewer is slow; held: not shown as damaged."""
    return {
        "type": "stats",
        "bits_per_s": measured.bits_per_s,
        "frames_per_s": measured.frames_per_s,
        "lost": measured.lost,
        "foreign": measured.foreign,
        "damaged": measured.damaged_frames,
        "jitter_ms": measured.jitter_ms,
        "width": measured.width,
        "height": measured.height,
        "codec": measured.video.value if measured.video else "",
        "audio": measured.audio.value if measured.audio else "",
        "lag_ms": lag_ms,
        "dropped": dropped,
        "held": held,
    }


def seek(seq: int, media_90k: int, at_us: UtcMicros, target_us: UtcMicros) -> Message:
    """What follows belongs to `seq`. `time`: of the key picture it begins with, at `media_s`.

    `target` is the instant to show: what was asked, or the first recorded one after it;
    `target_media_s` is where it lies on the media timeline.
    """
    ahead_s = max(0, target_us - at_us) / 1_000_000
    return {
        "type": "seek",
        "seq": seq,
        "time": rfc3339(at_us),
        "media_s": media_90k / CLOCK_HZ,
        "target": rfc3339(target_us),
        "target_media_s": media_90k / CLOCK_HZ + ahead_s,
    }


def position(seq: int, media_90k: int, at_us: UtcMicros) -> Message:
    """How far playback has come: the last instant sent, and its place on the media timeline."""
    return {
        "type": "position",
        "seq": seq,
        "time": rfc3339(at_us),
        "media_time_s": media_90k / CLOCK_HZ,
    }


# ---- what a client may say ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Seek:
    seq: int
    time_us: UtcMicros


@dataclass(frozen=True, slots=True)
class Rate:
    rate: float


@dataclass(frozen=True, slots=True)
class Pause:
    paused: bool


Command = Seek | Rate | Pause


def parse_command(text: str) -> Command:
    """One client frame. Raises Invalid."""
    if len(text) > COMMAND_LENGTH_MAX:
        raise Invalid(f"command is longer than {COMMAND_LENGTH_MAX} characters")
    try:
        said = from_json(text)
    except ValueError as error:
        raise Invalid("command is not JSON") from error
    match said:
        case {"seek": {"seq": int(seq), "time": str(instant)}} if 0 <= seq < 1 << 53:
            return Seek(seq, parse_rfc3339(instant))
        case {"rate": int(rate) | float(rate)} if RATE_MIN <= rate <= RATE_MAX:
            return Rate(float(rate))
        case {"pause": bool(paused)}:
            return Pause(paused)
    raise Invalid(
        "command is not understood",
        cause=text[:80],
        next_step=f"send seek with seq and time, rate {RATE_MIN} to {RATE_MAX:g}, or pause",
    )


# ---- instants -------------------------------------------------------------------------------

_INSTANT = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))"
)


def rfc3339(at_us: UtcMicros) -> str:
    """`2026-11-22T06:05:04.003Z`; microseconds are cut, not rounded."""
    seconds, micros = divmod(at_us, 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{micros // 1000:03d}Z"


def day_path(at_us: UtcMicros) -> str:
    """`2026/11/22`, the UTC day, as in object keys."""
    return time.strftime("%Y/%m/%d", time.gmtime(at_us // 1_000_000))


def parse_rfc3339(text: str) -> UtcMicros:
    """RFC 3339 5.6 with any zone. Raises Invalid."""
    match = _INSTANT.fullmatch(text)
    if match is None:
        raise Invalid(f"not an RFC 3339 instant: {text[:40]!r}")
    day, hour, fraction, sign, zone_h, zone_min = match.groups()
    try:
        seconds = calendar.timegm(time.strptime(f"{day} {hour}", "%Y-%m-%d %H:%M:%S"))
    except ValueError as error:
        raise Invalid(f"not an RFC 3339 instant: {text[:40]!r}") from error
    if sign:
        offset_s = int(zone_h) * 3600 + int(zone_min) * 60
        seconds -= offset_s if sign == "+" else -offset_s
    return UtcMicros(seconds * 1_000_000 + int((fraction or "").ljust(6, "0")[:6]))
