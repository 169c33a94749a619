"""What several tests of the media core do: packets in, pictures out, and other people's verdict."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterable, Sequence

import av

from tests.media.core import clips, packer
from vsp.media.core import fmp4, jitter, nal, rtp
from vsp.media.core.au import AccessUnit, Depacketizer


def received(packets: Iterable[bytes]) -> list[rtp.Burst]:
    return rtp.collect(memoryview(packet) for packet in packets).bursts


def run(
    packets: Iterable[bytes],
    depacketizer: Depacketizer,
    batch: int = 16,
    joined: Sequence[int] = (96,),
) -> list[AccessUnit]:
    """Packets of one source through sorter and depacketiser, `batch` at a time, then flushed."""
    sorter = jitter.Sorter(joined=joined)
    units: list[AccessUnit] = []
    waiting = list(packets)
    arrival_us = 1_000_000
    for at in range(0, len(waiting), batch):
        out = sorter.push_batch(received(waiting[at : at + batch]), at * 0.001)
        arrival_us += 40_000
        for packet in out:
            units += depacketizer.push(
                packet.payload, packet.ts, packet.marker, packet.lost > 0, arrival_us
            )
    for packet in sorter.flush():
        units += depacketizer.push(packet.payload, packet.ts, packet.marker, packet.lost > 0)
    return units + depacketizer.flush()


def packs(
    clip: Sequence[clips.Picture], video: int = packer.H264, most: int = 65000
) -> list[tuple[int, bytes]]:
    """(RTP timestamp, pack) of each picture, as a well-behaved device sends it."""
    return [
        (p.dts, packer.picture(p.data, p.pts, p.dts, p.key, video=video, most=most)) for p in clip
    ]


def pictures(units: Iterable[AccessUnit]) -> list[AccessUnit]:
    return [unit for unit in units if unit.kind == "video"]


def sounds(units: Iterable[AccessUnit]) -> list[AccessUnit]:
    return [unit for unit in units if unit.kind == "audio"]


def sets_of(units: Iterable[AccessUnit]) -> nal.ParameterSets:
    sets = nal.ParameterSets()
    for unit in units:
        sets.update(unit)
    return sets


def movie(units: Sequence[AccessUnit], in_band: bool = False, live: bool = False) -> bytes:
    """A whole file: from the first key picture on, a fragment per GOP or (live) per picture."""
    units = sorted(units, key=lambda unit: (unit.dts_90k, unit.kind == "audio"))
    first = next(i for i, unit in enumerate(units) if unit.kind == "video" and unit.key)
    tracks = [fmp4.video_track(sets_of(units), in_band=in_band)]
    heard = sounds(units)
    if heard:
        tracks.append(fmp4.audio_track(heard[0]))
    fragmenter = fmp4.Fragmenter(tracks)
    parts = [fmp4.init_segment(tracks)]
    for unit in units[first:]:
        if unit.kind == "video" and unit.key:
            parts.append(_bytes(fragmenter.fragment(end_dts_90k=unit.dts_90k)))
        fragmenter.add(unit)
        if live:
            parts.append(_bytes(fragmenter.fragment()))
    parts.append(_bytes(fragmenter.fragment()))
    return b"".join(parts)


def _bytes(fragment: fmp4.Fragment | None) -> bytes:
    return fragment.data if fragment is not None else b""


def decoded(data: bytes) -> tuple[int, int]:
    """Pictures and audio samples that PyAV decodes from a movie."""
    frames = samples = 0
    with av.open(io.BytesIO(data)) as container:
        for frame in container.decode():
            if isinstance(frame, av.VideoFrame):
                frames += 1
            else:
                samples += frame.samples
    return frames, samples


def ffprobe(data: bytes, *entries: str) -> dict[str, str]:
    """Fields of the first video stream; fails on anything that ffprobe has to say."""
    done = subprocess.run(
        [
            *("ffprobe", "-v", "error", "-count_frames", "-select_streams", "v:0"),
            *("-show_entries", "stream=" + ",".join(entries), "-of", "default=nw=1", "-"),
        ],
        input=data,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.stderr == b""
    assert done.returncode == 0
    lines = done.stdout.decode("ascii").splitlines()
    return dict(line.split("=", 1) for line in lines)
