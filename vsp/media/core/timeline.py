"""Times of one track, put right: unwrapped, strictly increasing in decode order.

Devices send PTS of 33 bits that wrap, stand still, run backward, jump, or are missing; their RTP
timestamps count 90 kHz, 8 kHz or milliseconds. The order of trust is: PTS, RTP timestamp, arrival
time, the usual step. A single wrong value is bridged and the next right one is believed again; a
clock that really restarted is followed with a new offset, so that the output never jumps back.
"""

from __future__ import annotations

from bisect import insort

PTS_MODULUS = 1 << 33
"""PES timestamps have 33 bits (ISO 13818-1 2.4.3.7)."""

STEP_90K = 3600
"""25 pictures a second, until the stream has shown its own step."""

AHEAD_MAX_90K = 900_000
"""10 s. A larger step forward must be confirmed by as much time on the wall."""

BEHIND_MAX_90K = 45_000
"""0.5 s. Up to here a backward value may be a glitch; beyond, the clock was restarted."""

REPAIRS_MAX = 5
"""Values in a row that did not fit before the clock counts as restarted."""

RTP_STEP_MIN_90K = 900
"""100 pictures a second. Smaller RTP steps do not count 90 kHz."""

_RTP_SCALES = ((90_000, 1.0), (8_000, 11.25), (1_000, 90.0))
"""Clocks met in RTP timestamps of PS, and the factor to 90 kHz."""

_MEASURE_US = 2_000_000
"""Two seconds tell 1, 8 and 90 kHz apart on any network."""

REORDER_MAX = 16
"""Pictures a decoder may hold back (H.264 A.3.1 MaxDpbFrames, H.265 A.4.2)."""


class Timeline:
    """`place` each unit of a track, in decode order.

    reorder  how many pictures may be sent before one that is shown earlier (from the SPS); used
             only where such pictures come without DTS
    repairs  values that had to be replaced, so far
    """

    def __init__(self, master: Timeline | None = None) -> None:
        self.reorder = 0
        self.repairs = 0
        self._master = master
        self._offset = 0
        self._last: int | None = None
        self._raw = 0
        self._unwrapped = 0
        self._pts: int | None = None
        self._rtp: int | None = None
        self._arrival_us = 0
        self._step = STEP_90K
        self._misfits = 0
        self._scale = _RtpScale()
        self._saw_dts = False
        self._waiting: list[int] | None = None

    def place(
        self,
        pts: int | None,
        dts: int | None,
        rtp_ts: int,
        arrival_us: int = 0,
        duration_90k: int = 0,
    ) -> tuple[int, int]:
        """(pts, dts) to use, 90 kHz.

        pts, dts      as sent, 33 bits; None when the PES header has none
        arrival_us    0 when not known
        duration_90k  of the unit itself, if known (audio); 0 otherwise
        """
        scale = self._scale.update(rtp_ts, arrival_us)
        before = self._rtp, self._arrival_us
        self._rtp, self._arrival_us = rtp_ts, arrival_us
        if pts is None:
            return self._bridge(self._fallback(before, duration_90k, scale))
        if dts is not None and dts != pts:
            self._saw_dts = True
        raw = pts if dts is None else dts
        if self._last is None:
            return self._begin(pts, raw)
        candidate = self._unwrap(raw) + self._offset
        ahead = candidate - self._last
        if self._reordering(ahead):
            return self._reordered(candidate)
        moved, self._pts = pts != self._pts, pts
        shown_later = _signed(pts - raw) if pts != raw else 0
        if 0 < ahead <= AHEAD_MAX_90K + _waited_90k(before[1], arrival_us):
            self._accept(candidate, ahead)
        elif self._squeezable(ahead, pts != raw and moved):
            self._last += 1
            return candidate + shown_later, self._last
        else:
            self._repair(ahead, self._fallback(before, duration_90k, scale))
        return self._last + shown_later, self._last

    def at(self, arrival_us: int) -> int | None:
        """What this track shows at a moment of arrival; None before its first unit."""
        if self._last is None:
            return None
        return self._last + min(_waited_90k(self._arrival_us, arrival_us), AHEAD_MAX_90K)

    def align(self, at_90k: int, pts: int) -> None:
        """Before the first `place`: its `pts` shall be `at_90k`.

        For sound beside the program stream, whose RTP clock has nothing to do with the picture's.
        """
        self._raw = self._unwrapped = pts
        self._offset = at_90k - pts
        self._last = at_90k - 1

    # ---- the usual ----

    def _begin(self, pts: int, raw: int) -> tuple[int, int]:
        """The first decode time counts as it is; the PTS may already be one round on."""
        self._raw = self._unwrapped = self._last = raw
        return raw + _signed(pts - raw), raw

    def _unwrap(self, raw: int) -> int:
        self._unwrapped += _signed(raw - self._raw)
        self._raw = raw
        return self._unwrapped

    def _accept(self, dts: int, step: int) -> None:
        if step <= AHEAD_MAX_90K and self._misfits == 0:
            self._step = step
        self._last, self._misfits = dts, 0

    # ---- repair ----

    def _squeezable(self, ahead: int, reordered: bool) -> bool:
        """A picture with a DTS of its own that comes a little late: its PTS is right all the same.

        Muxers leave out the DTS of the first pictures, which then stand too far ahead.
        """
        if not reordered or not -BEHIND_MAX_90K < ahead <= 0 or self._misfits >= REORDER_MAX:
            return False
        self._misfits += 1
        self.repairs += 1
        return True

    def _repair(self, ahead: int, fallback: int) -> None:
        """The value stands, runs backward or jumps: go on by `fallback`, rebase if it stays so."""
        assert self._last is not None
        self.repairs += 1
        self._misfits += 1
        self._last += fallback
        if -BEHIND_MAX_90K < ahead <= 0 and self._misfits < REPAIRS_MAX:
            return
        if not self._follow_master(self._last - fallback):
            self._offset = self._last - self._unwrapped
        self._misfits = 0

    def _follow_master(self, before: int) -> bool:
        """Where the device's clock restarted, sound takes the picture's new offset if that fits."""
        if self._master is None:
            return False
        candidate = self._unwrapped + self._master._offset
        if not 0 < candidate - before <= AHEAD_MAX_90K:
            return False
        self._offset, self._last = self._master._offset, candidate
        return True

    def _bridge(self, fallback: int) -> tuple[int, int]:
        """No PTS at all."""
        self._last = fallback if self._last is None else self._last + fallback
        return self._last, self._last

    def _fallback(self, before: tuple[int | None, int], duration_90k: int, scale: float) -> int:
        """The step from the unit `before` (RTP timestamp, arrival) to this one without help from
        its PTS; always positive. Without a unit before, where this one stands."""
        rtp_ts, (rtp_before, before_us) = self._rtp, before
        assert rtp_ts is not None
        if self._last is None:
            return rtp_ts
        if duration_90k > 0:
            return duration_90k
        if rtp_before is not None:
            step = int((((rtp_ts - rtp_before + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)) * scale)
            if RTP_STEP_MIN_90K <= step <= AHEAD_MAX_90K:
                return step
        waited_90k = _waited_90k(before_us, self._arrival_us)
        return waited_90k if waited_90k > AHEAD_MAX_90K else self._step

    # ---- B-frames without DTS ----

    def _reordering(self, ahead: int) -> bool:
        """From the first picture that is shown before an earlier one, if the SPS allows it."""
        if self._saw_dts or not self.reorder or self._misfits:
            return False
        if abs(ahead) > AHEAD_MAX_90K:
            self._waiting = None
            return False
        if self._waiting is None and -AHEAD_MAX_90K <= ahead < 0:
            assert self._last is not None
            depth = min(self.reorder, REORDER_MAX)
            self._waiting = [self._last - self._step * (depth - i - 1) for i in range(depth)]
        return self._waiting is not None

    def _reordered(self, pts: int) -> tuple[int, int]:
        """The n-th smallest PTS is the n-th DTS, `reorder` pictures late."""
        assert self._waiting is not None
        assert self._last is not None
        insort(self._waiting, pts)
        self._last = max(self._waiting.pop(0), self._last + 1)
        return pts, self._last


class _RtpScale:
    """Which clock the RTP timestamps count, measured against arrival."""

    def __init__(self) -> None:
        self._factor = 1.0
        self._since: tuple[int, int] | None = None

    def update(self, rtp_ts: int, arrival_us: int) -> float:
        if not arrival_us:
            return self._factor
        if self._since is None:
            self._since = (rtp_ts, arrival_us)
            return self._factor
        passed_us = arrival_us - self._since[1]
        if passed_us >= _MEASURE_US or passed_us < 0:
            counted = (rtp_ts - self._since[0]) & 0xFFFFFFFF
            self._since = (rtp_ts, arrival_us)
            for hz, factor in _RTP_SCALES:
                if 0.7 < counted * 1e6 / (hz * max(passed_us, 1)) < 1.4:
                    self._factor = factor
        return self._factor


def _waited_90k(since_us: int, arrival_us: int) -> int:
    """Time between two arrivals; 0 where one is not known or the clock was set back."""
    return max(arrival_us - since_us, 0) * 9 // 100 if since_us else 0


def _signed(difference: int) -> int:
    """A difference of 33-bit times as the shorter way round."""
    half = PTS_MODULUS >> 1
    return ((difference + half) % PTS_MODULUS) - half
