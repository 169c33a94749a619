"""One inbound stream: port -> reorder -> demux -> hub and recorder, and what is known of it.

A MediaSession is the worker's end of one INVITE. It is opened before the INVITE leaves (so that the
port listens before its number is told), bound when the answer is known, and closed by the node; it
outlives the node's restarts. Its states are those of `model.stream.StreamState`:

    SIGNALLING --bind--> WAITING_MEDIA --packet--> WAITING_KEYFRAME --key picture--> FLOWING
    FLOWING, WAITING_KEYFRAME --silence of stall_timeout_s--> STALLED --packet--> WAITING_KEYFRAME
    any --close--> ENDED

Each change is an event for the node and a text for the viewers. A wait that takes too long (no
packet, no key picture) is told once more with its cause, in the same state, so that the node can
name the leg that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from vsp.errors import Conflict, Unsupported
from vsp.media import messages
from vsp.media.core import rtcp
from vsp.media.core.au import AccessUnit, Depacketizer
from vsp.media.core.es import G711Payload, depacketizer_for
from vsp.media.core.fmp4 import Track, audio_track, video_track
from vsp.media.core.jitter import Sorter
from vsp.media.core.nal import ParameterSets
from vsp.media.core.rtp import Burst, Packet
from vsp.media.datagrams import Source
from vsp.media.hub import Consumer, Hub
from vsp.media.ingest import PortStats
from vsp.media.recorder import Recorder
from vsp.model.device import MediaTransport
from vsp.model.ids import UtcMicros, WorkerId
from vsp.model.recording import EndReason, OpenSegment
from vsp.model.stream import (
    AudioCodec,
    RemoteMedia,
    SessionChanged,
    SessionSpec,
    SessionStatus,
    StreamState,
    StreamStats,
    VideoCodec,
)
from vsp.ports import Clock

log = structlog.get_logger(__name__)

REPORT_INTERVAL_S = 5.0
"""Period of RTCP receiver reports; some senders stop after a minute without (RFC 3550 6.2)."""

KEYFRAME_TIMEOUT_S = 12.0
"""Media without a decodable key picture for this long is worth a cause; GOPs reach ten seconds."""

REST_S = 0.5
"""Without a packet for this long a stream rests: no encoder pauses so within a picture, and ports
that nobody watches are drained more often."""

STATIC_ENCODINGS = {0: "PCMU", 8: "PCMA"}
"""RFC 3551: sound beside PS with its static type, also when the answer does not list it."""


class Port(Protocol):
    """One session's sockets (`ingest.MediaPort`), as the session uses them."""

    port: int
    stats: PortStats
    ssrc: int | None
    source: Source | None

    def bind(self, remote: RemoteMedia, transport: MediaTransport) -> None: ...
    def unpin(self) -> None: ...
    def watch(self, watched: bool) -> None: ...
    def drain(self) -> None: ...
    def send_rtcp(self, data: bytes) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds of silence: before the first packet, and after it."""

    first_packet_s: float
    stall_s: float


@dataclass(slots=True)
class _Counts:
    """Totals at the last tick, for rates."""

    at: float
    bytes: int = 0
    frames: int = 0


class MediaSession:
    """Receives one stream. `attach_port` once, then the port calls `media`, `control`, `broken`."""

    def __init__(
        self,
        spec: SessionSpec,
        worker_id: WorkerId,
        clock: Clock,
        timeouts: Timeouts,
        view_queue_bytes_max: int,
        report_ssrc: int,
        on_change: Callable[[SessionChanged], None],
    ) -> None:
        self.spec = spec
        self.state = StreamState.SIGNALLING
        self.hub = Hub(view_queue_bytes_max)
        self.recorder: Recorder | None = None
        self.waits = False
        """Whether `advance` has something to do: packets came since it found the stream at rest."""
        self._worker_id = worker_id
        self._clock = clock
        self._timeouts = timeouts
        self._report_ssrc = report_ssrc
        self._on_change = on_change
        self._port: Port | None = None
        self._cause = ""
        self._next_step = ""
        self._remote: RemoteMedia | None = None
        self._sorter = Sorter()
        self._depacketizers: dict[int, Depacketizer] = {}
        self._reception: rtcp.Reception | None = None
        self._sets = ParameterSets()
        self._sound: AccessUnit | None = None
        self._live_track: Track | None = None
        self._tracks: tuple[Track, ...] = ()
        self._recording_changed = False
        self._since = clock.monotonic()
        self._late_told = False
        self._last_packet = 0.0
        self._last_picture = 0.0
        self._last_report = 0.0
        self._first_packet_us: UtcMicros | None = None
        self._first_key_us: UtcMicros | None = None
        self._last_packet_us: UtcMicros | None = None
        self._frames = self._damaged = self._gop_frames = self._gop_so_far = 0
        self._counts = _Counts(self._since)
        self._bits_per_s = 0
        self._frames_per_s = 0.0

    # ---- commands ---------------------------------------------------------------------------

    @property
    def port(self) -> int:
        assert self._port is not None, "attach_port comes first"
        return self._port.port

    def attach_port(self, port: Port) -> None:
        self._port = port

    def bind(self, remote: RemoteMedia) -> None:
        """The answer is known. The same again does nothing. Raises Unsupported, Conflict."""
        if remote == self._remote or self._port is None:
            return
        depacketizers = _depacketizers(remote)
        if self._remote is None:
            self._depacketizers = depacketizers
        else:
            self._begin_anew(self._port, self._remote, remote)
        joined = frozenset(pt for pt, name in remote.payloads if name.upper() == "PS")
        self._sorter = Sorter(joined or frozenset({96}))
        self._remote = remote
        self._enter(StreamState.WAITING_MEDIA)
        self._port.bind(remote, self.spec.transport)

    def _begin_anew(self, port: Port, before: RemoteMedia, remote: RemoteMedia) -> None:
        """A new dialog over the same port: the sender may come from another port and SSRC.

        Viewers and recording stay, and so do the depacketisers, whose clocks keep media time going
        forward whatever the sender's does.
        """
        if remote.payloads != before.payloads:
            raise Conflict(
                f"the device answered {remote.payloads} and before it {before.payloads}",
                cause="another encoding needs another session",
            )
        port.drain()
        self._break_off()
        port.unpin()
        self._reception = None

    def record(self, recorder: Recorder) -> None:
        """Record from the next key picture on."""
        self.stop_recording()
        self.recorder = recorder

    def stop_recording(self, reason: EndReason = EndReason.STOPPED) -> None:
        if self.recorder is not None:
            self.recorder.stop(reason)
            self.recorder = None

    def close(self, cause: str, next_step: str = "", reason: EndReason | None = None) -> None:
        """Give what is complete to viewers and recording, free the port."""
        if self.state is StreamState.ENDED:
            return
        if self._port is not None:
            self._port.drain()
        self._flush()
        self.stop_recording(reason or EndReason.MEDIA_STOPPED)
        if self._port is not None:
            self._port.close()
        self._enter(StreamState.ENDED, cause, next_step)

    def attach(self, consumer: Consumer) -> None:
        """A viewer: told the state, then given pictures; the port is read at once from now on."""
        consumer.say(self._state_message())
        self.hub.attach(consumer, self._clock.monotonic())
        if self._port is not None:
            self._port.watch(True)

    def detach(self, consumer: Consumer) -> None:
        self.hub.detach(consumer)
        if self._port is not None and not self.hub.viewers:
            self._port.watch(False)

    # ---- what the port says -----------------------------------------------------------------

    def media(self, bursts: list[Burst], now: float) -> None:
        """Packets of this stream's source, in order of arrival."""
        if self.state is StreamState.ENDED or not bursts:
            return
        self._last_packet = now
        self._last_packet_us = UtcMicros(bursts[-1].arrival_us)
        if self.state is not StreamState.FLOWING:
            self._begin(UtcMicros(bursts[0].arrival_us))
        if self._reception is None:
            self._reception = rtcp.Reception(bursts[0].ssrc)
        self._take(self._sorter.push_batch(bursts, now), now)
        self._take(self._sorter.advance(now), now)

    def _begin(self, arrival_us: UtcMicros) -> None:
        """The first packet, or the first after a silence."""
        if self.state in {StreamState.WAITING_MEDIA, StreamState.STALLED}:
            self._first_packet_us = self._first_packet_us or arrival_us
            self._enter(StreamState.WAITING_KEYFRAME)

    def control(self, packets: Sequence[bytes], now: float) -> None:
        for packet in packets:
            for said in rtcp.parse(packet):
                if isinstance(said, rtcp.SenderReport) and self._reception is not None:
                    self._reception.sender_report(said, now)

    def broken(self, cause: str) -> None:
        """The port has given up. Media time stops here; the node decides what follows."""
        if self.state is not StreamState.ENDED:
            self._stall(cause)

    def _take(self, packets: Sequence[Packet], now: float) -> None:
        for packet in packets:
            self.waits = True
            if self._reception is not None:
                self._reception.received(packet, packet.arrival_us / 1_000_000)
            depacketizer = self._depacketizers.get(packet.pt) or self._unlisted(packet.pt)
            for au in depacketizer.push(
                packet.payload, packet.ts, packet.marker, packet.lost > 0, packet.arrival_us
            ):
                self._access_unit(au, now)

    def _unlisted(self, pt: int) -> Depacketizer:
        """A type that the answer does not list: static sound, or else the first one it does list.

        Quirk `payload-type-unlisted`: devices answer 96 and send another number (RFC 3264 6.1).
        """
        pictures = _pictures(self._depacketizers)
        found = depacketizer_for(STATIC_ENCODINGS.get(pt, ""), beside=pictures)
        self._depacketizers[pt] = found or next(iter(self._depacketizers.values()))
        return self._depacketizers[pt]

    def _flush(self) -> None:
        now = self._clock.monotonic()
        if self._depacketizers:
            self._take(self._sorter.flush(), now)
        for depacketizer in dict.fromkeys(self._depacketizers.values()):
            for au in depacketizer.flush():
                self._access_unit(au, now)

    # ---- access units -----------------------------------------------------------------------

    def _access_unit(self, au: AccessUnit, now: float) -> None:
        if au.kind == "video":
            self._video(au, now)
        else:
            self._audio(au)

    def _video(self, au: AccessUnit, now: float) -> None:
        self._frames += 1
        self._last_picture = now
        self._damaged += au.damaged
        changed = False
        if au.key:
            self._gop_frames, self._gop_so_far = self._gop_so_far, 0
            changed = self._update_format(au)
        self._gop_so_far += 1
        if self._live_track is None:
            return
        if au.key and self.state is StreamState.WAITING_KEYFRAME:
            self._first_key_us = self._first_key_us or UtcMicros(au.arrival_us)
            self._enter(StreamState.FLOWING)
        self.hub.push(au, self._live_track, changed, now)
        if self.recorder is not None:
            self.recorder.video(au, self._tracks, self._recording_changed)
            if au.key:
                self._recording_changed = False

    def _audio(self, au: AccessUnit) -> None:
        sound = self._sound
        same = sound is not None and (sound.codec, sound.config) == (au.codec, au.config)
        if not same:
            self._recording_changed |= sound is not None
            self._sound = au
            self._make_tracks()
        if self.recorder is not None:
            self.recorder.audio(au)

    def _update_format(self, key: AccessUnit) -> bool:
        """Whether viewers need a new init segment. Recordings keep parameter sets in band and are
        cut only when the picture itself changes (some cameras change PPS ids with every GOP)."""
        before = self._sets.format
        changed = self._sets.update(key)
        if self._sets.format is None:
            return False
        if changed or self._live_track is None:
            self._recording_changed |= before is not None and before != self._sets.format
            self._live_track = video_track(self._sets)
            self._make_tracks()
        return changed

    def _make_tracks(self) -> None:
        """Tracks of a recording: the picture, and the sound where MP4 can carry it."""
        if self._sets.format is None:
            return
        tracks = [video_track(self._sets, in_band=True)]
        if self._sound is not None:
            try:
                tracks.append(audio_track(self._sound))
            except Unsupported as error:
                log.info("sound not recorded", session=self.spec.session_id, why=str(error))
        self._tracks = tuple(tracks)

    # ---- time -------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """What waits in memory goes on when its time has come, or when nothing comes any more."""
        rests = now - self._last_packet >= REST_S
        if rests:
            for depacketizer in dict.fromkeys(self._depacketizers.values()):
                for au in depacketizer.pause():
                    self._access_unit(au, now)
        if self.recorder is not None:
            self.recorder.advance(now, rests)
        self.waits = not rests

    def tick(self, now: float) -> None:
        """Once a second: rates, reports, timeouts, statistics for the viewers."""
        self._rates(now)
        if self.state is not StreamState.ENDED and self._depacketizers:
            self._take(self._sorter.advance(now), now)
        self._report(now)
        self._judge_silence(now)
        if self.hub.viewers:
            self._tell_stats()

    def _tell_stats(self) -> None:
        measured, now_us = self.stats(), self._clock.now_us()
        for consumer in self.hub.consumers():
            lag_ms = consumer.lag_ms(now_us)
            consumer.say(messages.stats(measured, lag_ms, consumer.dropped, self.hub.held))

    def _rates(self, now: float) -> None:
        passed_s = now - self._counts.at
        if passed_s <= 0 or self._port is None:
            return
        received = self._port.stats.bytes
        self._bits_per_s = round((received - self._counts.bytes) * 8 / passed_s)
        self._frames_per_s = round((self._frames - self._counts.frames) / passed_s, 1)
        self._counts = _Counts(now, received, self._frames)

    def _report(self, now: float) -> None:
        if self._reception is None or self._port is None or self.state is StreamState.ENDED:
            return
        if now - self._last_report >= REPORT_INTERVAL_S:
            self._last_report = now
            self._port.send_rtcp(self._reception.receiver_report(self._report_ssrc, "vsp", now))

    def _judge_silence(self, now: float) -> None:
        stall_s, waited_s = self._timeouts.stall_s, now - self._since
        match self.state:
            case StreamState.WAITING_MEDIA if waited_s > self._timeouts.first_packet_s:
                self._late(self._no_packet_cause())
            case StreamState.WAITING_KEYFRAME | StreamState.FLOWING:
                if now - self._last_packet > stall_s:
                    self._stall(f"no media packet for {stall_s:g} s")
                elif self.state is StreamState.FLOWING and now - self._last_picture > stall_s:
                    self._stall(f"sound, but no picture for {stall_s:g} s")
                elif self.state is StreamState.WAITING_KEYFRAME and waited_s > KEYFRAME_TIMEOUT_S:
                    self._late(f"media, but no key picture for {KEYFRAME_TIMEOUT_S:g} s")

    def _no_packet_cause(self) -> str:
        assert self._port is not None
        stats = self._port.stats
        cause = f"no media packet on port {self._port.port} for {self._timeouts.first_packet_s:g} s"
        if stats.foreign:
            cause += f"; {stats.foreign} packets came from elsewhere ({stats.foreign_source})"
        return cause

    def _late(self, cause: str) -> None:
        if not self._late_told:
            self._late_told = True
            self._tell(cause, "")

    def _stall(self, cause: str) -> None:
        self._break_off()
        self._enter(StreamState.STALLED, cause)

    def _break_off(self) -> None:
        """The run ends with what is complete; only a key picture begins another."""
        self._flush()
        if self.recorder is not None:
            self.recorder.stop(EndReason.MEDIA_STOPPED)
        self.hub.break_off()

    def _enter(self, state: StreamState, cause: str = "", next_step: str = "") -> None:
        self.state = state
        self._since = self._clock.monotonic()
        self._late_told = False
        self._tell(cause, next_step)

    def _tell(self, cause: str, next_step: str) -> None:
        self._cause, self._next_step = cause, next_step
        self.hub.say(self._state_message())
        log.info("stream state", session=self.spec.session_id, state=self.state.value, cause=cause)
        self._on_change(SessionChanged(self.status(), cause))

    def _state_message(self) -> messages.Message:
        return messages.state(messages.STATE_WORDS[self.state], self._cause, self._next_step)

    # ---- what is known ----------------------------------------------------------------------

    def open_segment(self) -> OpenSegment | None:
        return self.recorder.open_segment() if self.recorder is not None else None

    def status(self) -> SessionStatus:
        return SessionStatus(
            session_id=self.spec.session_id,
            channel_id=self.spec.channel_id,
            worker_id=self._worker_id,
            state=self.state,
            transport=self.spec.transport,
            port=self.port,
            recording=self.recorder is not None,
            viewers=self.hub.viewers,
            stats=self.stats(),
            dialog=self._remote.dialog if self._remote is not None else None,
        )

    def stats(self) -> StreamStats:
        port, picture = self._port, self._sets.format
        assert port is not None, "attach_port comes first"
        return StreamStats(
            packets=port.stats.packets,
            bytes=port.stats.bytes,
            lost=self._sorter.lost,
            reordered=self._sorter.reordered,
            duplicates=self._sorter.duplicates,
            foreign=port.stats.foreign,
            damaged_frames=self._damaged,
            frames=self._frames,
            bits_per_s=self._bits_per_s,
            frames_per_s=self._frames_per_s,
            jitter_ms=round(self._reception.jitter_s * 1000, 2) if self._reception else 0.0,
            width=picture.width if picture else 0,
            height=picture.height if picture else 0,
            video=VideoCodec(picture.codec) if picture else None,
            audio=AudioCodec(self._sound.codec) if self._sound else None,
            gop_frames=self._gop_frames,
            ssrc=port.ssrc,
            source=str(port.source) if port.source else "",
            first_packet_us=self._first_packet_us,
            first_key_us=self._first_key_us,
            last_packet_us=self._last_packet_us,
        )


def _depacketizers(remote: RemoteMedia) -> dict[int, Depacketizer]:
    """One for each payload type of the answer that we can read. Raises Unsupported if none.

    Sound of its own type comes last, for it takes its place in time from the pictures.
    """
    found: dict[int, Depacketizer] = {}
    static = STATIC_ENCODINGS.values()
    for pt, encoding in sorted(remote.payloads, key=lambda offered: offered[1].upper() in static):
        depacketizer = depacketizer_for(encoding, beside=_pictures(found))
        if depacketizer is not None:
            found[pt] = depacketizer
    if not found:
        offered = ", ".join(f"{pt} {encoding}" for pt, encoding in remote.payloads) or "nothing"
        raise Unsupported(
            f"the answer offers only {offered}",
            cause="the sender uses an encoding that this platform does not read",
            next_step="switch the device's stream to the standard PS (payload type 96)",
        )
    return found


def _pictures(depacketizers: dict[int, Depacketizer]) -> Depacketizer | None:
    """The first of them that may bring pictures."""
    every = depacketizers.values()
    return next((found for found in every if not isinstance(found, G711Payload)), None)
