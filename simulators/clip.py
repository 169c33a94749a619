"""The pre-encoded loop: 60 s of picture aligned to the wall-clock minute, so that nothing is
encoded while streaming.

The frame on show at wall time t is frame `t mod 60 s` of the loop, and its bar code says so: cells
of width/32 by height/18 from the top-left corner, 14 columns by 2 rows,

  row 0:  light  dark   d15 d14 d13 d12 d11 d10 d9 d8 d7 d6 d5 d4
  row 1:  dark   light  d3  d2  d1  d0  c7  c6  c5 c4 c3 c2 c1 c0

(d = milliseconds within the minute, c = their CRC-8; more in picture.py). `read_barcode` reads it.

Frame 0 is an IDR with its parameter sets, and so is each `gop_frames`-th. No B frames. A clip file
is written once, under a name made from its parameters, and mapped into memory by whoever sends it:

  magic (8) | u32 length of header | header (JSON: sizes of frames) | frames, Annex B, in order
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import mmap
import os
import struct
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.video.codeccontext import VideoCodecContext

from simulators.nal import START_CODE, is_parameter_set, is_slice, split_nals
from simulators.picture import (
    BARCODE_COLUMNS,
    BARCODE_GRID_COLUMNS,
    BARCODE_GRID_ROWS,
    BARCODE_ROWS,
    Painter,
    read_barcode,
)
from simulators.process import die_with_parent
from vsp.errors import DataLoss, Internal, Invalid
from vsp.model.stream import VideoCodec

MAGIC = b"VSPCLIP1"
LOOP_S = 60
DEFAULT_CACHE = Path(".cache/clips")
_PICTURE_VERSION = 1
"""Raise it when the picture or the encoder's settings change: old files are then not found."""

_ROOT = str(Path(__file__).resolve().parents[1])
_ENCODERS = {VideoCodec.H264: "libx264", VideoCodec.H265: "libx265"}


@dataclass(frozen=True, slots=True)
class ClipSpec:
    """What a clip shows and how it is coded. `seconds` is 60 but in a test that is in a hurry."""

    label: str
    codec: VideoCodec = VideoCodec.H264
    width: int = 640
    height: int = 360
    fps: int = 25
    gop_frames: int = 50
    bits_per_s: int = 600_000
    seconds: int = LOOP_S

    def __post_init__(self) -> None:
        if self.codec not in _ENCODERS:
            raise Invalid(f"no encoder for codec {self.codec}")
        if self.width % BARCODE_GRID_COLUMNS or self.height % 4 or self.height < 36:
            raise Invalid(f"picture size {self.width}x{self.height} is not on the grid")
        if LOOP_S % self.seconds or self.frames % self.gop_frames:
            raise Invalid(f"{self.gop_frames} frames do not divide a loop of {self.frames}")

    @property
    def frames(self) -> int:
        """Frames of the loop."""
        return self.fps * self.seconds

    @property
    def file_name(self) -> str:
        """Readable start, then a digest of everything that shapes the bytes."""
        digest = hashlib.sha256(repr((_PICTURE_VERSION, asdict(self))).encode()).hexdigest()
        label = "".join(c if c.isalnum() else "-" for c in self.label.lower())
        return f"{label}-{self.width}x{self.height}-{self.codec}-{digest[:16]}.clip"


@dataclass(frozen=True, slots=True)
class ClipFrame:
    """One coded picture: parameter sets (key frames only), then slices. Annex B both."""

    head: bytes
    slices: bytes
    key: bool


class Clip:
    """A loop in memory, or rather mapped from its file."""

    def __init__(
        self, spec: ClipSpec, index: list[tuple[int, int, int, bool]], data: mmap.mmap
    ) -> None:
        self.spec = spec
        self._index = index
        self._data = data

    @classmethod
    def load(cls, spec: ClipSpec, path: Path) -> Clip:
        """Map a clip file. Raises DataLoss when it is not a whole one."""
        with path.open("rb") as file:
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if data[: len(MAGIC)] != MAGIC:
            raise DataLoss(f"not a clip file: {path}", next_step="Remove it; it is made anew.")
        (length,) = struct.unpack_from(">I", data, len(MAGIC))
        offset = len(MAGIC) + 4 + length
        index = []
        for head, slices, key in json.loads(data[len(MAGIC) + 4 : offset])["frames"]:
            index.append((offset, offset + head, offset + head + slices, bool(key)))
            offset += head + slices
        if offset != len(data) or len(index) != spec.frames:
            raise DataLoss(f"clip file is cut short: {path}", next_step="Remove it.")
        return cls(spec, index, data)

    def __len__(self) -> int:
        return len(self._index)

    def frame(self, number: int) -> ClipFrame:
        """The frame on show at frame time `number`, counted from any whole minute."""
        start, middle, end, key = self._index[number % len(self._index)]
        return ClipFrame(self._data[start:middle], self._data[middle:end], key)


def encode(spec: ClipSpec) -> bytes:
    """The whole clip file. Takes about 1.5 ms a frame (H.264, 640x360)."""
    painter = Painter(spec.label, spec.width, spec.height)
    encoder = _open_encoder(spec)
    frames: list[ClipFrame] = []
    for index in range(spec.frames):
        picture = av.VideoFrame.from_ndarray(
            painter.frame(index, index * 1000 // spec.fps), "yuv420p"
        )
        picture.pts = index
        frames += [_cut(spec.codec, bytes(packet)) for packet in encoder.encode(picture)]
    frames += [_cut(spec.codec, bytes(packet)) for packet in encoder.encode(None)]
    assert len(frames) == spec.frames, "one access unit a picture: no B frames, no delay lost"
    assert [f.key for f in frames] == [i % spec.gop_frames == 0 for i in range(spec.frames)]
    header = json.dumps({"frames": [[len(f.head), len(f.slices), int(f.key)] for f in frames]})
    body = b"".join(f.head + f.slices for f in frames)
    return MAGIC + struct.pack(">I", len(header)) + header.encode() + body


def _open_encoder(spec: ClipSpec) -> VideoCodecContext:
    encoder = av.CodecContext.create(_ENCODERS[spec.codec], "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = spec.width, spec.height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, spec.fps), Fraction(spec.fps)
    encoder.gop_size, encoder.bit_rate = spec.gop_frames, spec.bits_per_s
    gop = f"keyint={spec.gop_frames}:min-keyint={spec.gop_frames}:scenecut=0:bframes=0"
    if spec.codec is VideoCodec.H264:
        extra = {"x264-params": f"{gop}:threads=1:lookahead-threads=1"}
    else:
        one_thread = "pools=none:frame-threads=1:no-wpp=1"
        extra = {
            "x265-params": f"{gop}:{one_thread}:no-open-gop=1:repeat-headers=1:log-level=error"
        }
    encoder.options = {"preset": "ultrafast", "tune": "zerolatency", **extra}
    return encoder


def _cut(codec: VideoCodec, access_unit: bytes) -> ClipFrame:
    """Parameter sets and slices; the encoder's own SEI and AUD are left out."""
    nals = split_nals(access_unit)
    sets = [nal for nal in nals if is_parameter_set(codec, nal)]
    slices = [nal for nal in nals if is_slice(codec, nal)]
    return ClipFrame(
        b"".join(START_CODE + nal for nal in sets),
        b"".join(START_CODE + nal for nal in slices),
        bool(sets),
    )


def ensure(spec: ClipSpec, cache: Path) -> Path:
    """The clip's file, made if it is not there. Two makers at once do no harm: the last wins."""
    path = cache / spec.file_name
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        with made.open("wb") as file:
            file.write(encode(spec))
            file.flush()
            os.fsync(file.fileno())
        made.replace(path)
    return path


async def prepare(
    specs: Iterable[ClipSpec],
    cache: Path = DEFAULT_CACHE,
    progress: Callable[[int, int], None] | None = None,
) -> Mapping[ClipSpec, Clip]:
    """Every clip, loaded; missing ones are encoded in parallel processes first.

    progress  called with (done, total) of the clips to encode, first with (0, total)
    """
    wanted = list(dict.fromkeys(specs))
    missing = [spec for spec in wanted if not (cache / spec.file_name).exists()]
    if missing:
        await _encode_all(missing, cache, progress or (lambda done, total: None))
    return {spec: Clip.load(spec, cache / spec.file_name) for spec in wanted}


async def _encode_all(
    missing: list[ClipSpec], cache: Path, progress: Callable[[int, int], None]
) -> None:
    """Share the work among as many processes as there are cores; they die with us, or before."""
    progress(0, len(missing))
    workers = min(len(missing), os.cpu_count() or 1)
    finished = itertools.count(1)
    async with asyncio.TaskGroup() as group:
        for worker in range(workers):
            share = missing[worker::workers]
            group.create_task(
                _encode_share(share, cache, lambda: progress(next(finished), len(missing)))
            )


async def _encode_share(specs: list[ClipSpec], cache: Path, done: Callable[[], None]) -> None:
    """One process that reads specs from its standard input and says a line for each made clip."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([_ROOT, *sys.path])}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulators.clip", str(cache)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    assert process.stdin is not None, "asked for above"
    assert process.stdout is not None, "asked for above"
    try:
        process.stdin.write(json.dumps([asdict(spec) for spec in specs]).encode())
        process.stdin.close()
        async for _ in process.stdout:
            done()
        if await process.wait() != 0:
            raise Internal(f"encoding clips failed with status {process.returncode}")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _work() -> None:
    """The process of `_encode_share`."""
    die_with_parent()
    for fields in json.load(sys.stdin):
        path = ensure(
            ClipSpec(**{**fields, "codec": VideoCodec(fields["codec"])}), Path(sys.argv[1])
        )
        sys.stdout.write(f"{path.name}\n")
        sys.stdout.flush()


__all__ = [
    "BARCODE_COLUMNS",
    "BARCODE_GRID_COLUMNS",
    "BARCODE_GRID_ROWS",
    "BARCODE_ROWS",
    "DEFAULT_CACHE",
    "LOOP_S",
    "Clip",
    "ClipFrame",
    "ClipSpec",
    "encode",
    "ensure",
    "prepare",
    "read_barcode",
]


if __name__ == "__main__":
    _work()
