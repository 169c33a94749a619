"""Streams by other people's programs: FFmpeg's `vob`, GStreamer's PS muxer and payloaders.

Their input is one of our clips, so that what must come out is known.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import av

from tests.media.core import clips

FFMPEG = shutil.which("ffmpeg") is not None
GSTREAMER = shutil.which("gst-launch-1.0") is not None


@cache
def ffmpeg_vob(codec: str, b_frames: int = 0) -> bytes:
    """The clip muxed by FFmpeg as a DVD-like program stream: PES of 2 KiB, no stream map."""
    return _run(
        *("ffmpeg", "-v", "error", "-i", "{movie}", "-c", "copy", "-muxrate"),
        *("10M", "-f", "vob", "-y", "{out}"),
        movie=_transport_stream(codec, b_frames),
    )


@cache
def gstreamer_ps(codec: str, b_frames: int = 0) -> bytes:
    """The clip muxed by mpegpsmux (H.264 only in 1.22): one PES a picture, map on key pictures."""
    return _run(
        *("gst-launch-1.0", "-q", "filesrc", "location={movie}", "!", "tsdemux", "!"),
        *("h264parse", "config-interval=-1", "!", "mpegpsmux", "!", "filesink", "location={out}"),
        movie=_transport_stream(codec, b_frames),
    )


@cache
def gstreamer_rtp(codec: str) -> tuple[bytes, ...]:
    """The clip as RTP packets of rtph264pay or rtph265pay, received from a UDP socket."""
    kind = "h264" if codec == "libx264" else "h265"
    with tempfile.TemporaryDirectory() as folder, socket.socket(type=socket.SOCK_DGRAM) as sink:
        movie = Path(folder) / "in.ts"
        movie.write_bytes(_transport_stream(codec, 0))
        sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(1.0)
        command = (
            f"gst-launch-1.0 -q filesrc location={movie} ! tsdemux ! {kind}parse ! "
            f"rtp{kind}pay mtu=600 pt=98 config-interval=-1 ! "
            f"udpsink host=127.0.0.1 port={sink.getsockname()[1]}"
        )
        subprocess.run(command.split(), check=True, capture_output=True, timeout=60)
        packets = []
        try:
            while True:
                packets.append(sink.recv(2048))
        except TimeoutError:
            return tuple(packets)


@cache
def _transport_stream(codec: str, b_frames: int) -> bytes:
    """The clip muxed by PyAV, for programs that want a container with times."""
    clip = clips.video(codec, b_frames=b_frames)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.ts"
        with av.open(str(path), "w", format="mpegts") as container:
            stream = container.add_mux_stream("h264" if codec == "libx264" else "hevc", rate=25)
            stream.time_base = clips.TIME_BASE
            for p in clip:
                packet = av.Packet(p.data)
                packet.pts, packet.dts, packet.time_base = p.pts, p.dts, clips.TIME_BASE
                packet.is_keyframe, packet.stream = p.key, stream
                container.mux(packet)
        return path.read_bytes()


def _run(*command: str, movie: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        paths = {"movie": Path(folder) / "in.ts", "out": Path(folder) / "out.ps"}
        paths["movie"].write_bytes(movie)
        filled = [part.format(**paths) for part in command]
        subprocess.run(filled, check=True, capture_output=True, timeout=60)
        return paths["out"].read_bytes()
