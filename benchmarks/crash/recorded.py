"""What was sent against what was recorded, picture by picture.

The truth of what was sent is the simulators' log, a line a picture. The truth of what was recorded
is the bytes of the objects that the index names, searched for the stamp that the camera put into
each picture (simulators/nal.py). Nothing of the platform reads them here: no demuxer, no index of
fragments, no API. `probe` has ffprobe decode a segment and measures its pictures against the log.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import struct
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from simulators.nal import SEI_UUID, unescape

_STAMP = struct.Struct(">QI")
_STAMP_ESCAPED_BYTES = _STAMP.size + 6
"""With as many emulation prevention bytes as could be in it."""

PROBE_TIMEOUT_S = 60
"""ffprobe decodes a segment of seconds in tenths of one."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture as its camera sent it; dialogs: SSRC of each stream that carried it."""

    capture_us: int
    sent_us: int
    key: bool
    size_bytes: int
    dialogs: frozenset[int]


Sent = Mapping[str, Sequence[Picture]]
"""By code of the channel, in order of capture."""


def read_sent(path: Path) -> Sent:
    """The simulators' log. A line that is being written is left out."""
    channels: dict[str, dict[int, Picture]] = defaultdict(dict)
    for line in path.read_bytes().splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        said = json.loads(line)
        pictures, at = channels[said["channel"]], said["capture_us"]
        known = pictures.get(at)
        dialogs = frozenset({said["ssrc"]}) | (known.dialogs if known else frozenset())
        sent_us = min(said["sent_us"], known.sent_us) if known else said["sent_us"]
        pictures[at] = Picture(at, sent_us, said["key"], said["size_bytes"], dialogs)
    return {code: [by_time[at] for at in sorted(by_time)] for code, by_time in channels.items()}


# ---- what is recorded -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """A segment as the index has it. channel: code."""

    key: str
    channel: str
    start_us: int
    end_us: int
    size_bytes: int
    sha256: str
    frames: int
    end_reason: str


_ROWS = """
    select s.key, c.gb_id, s.start_us, s.end_us, s.size_bytes, s.sha256, s.frames, s.end_reason
    from segments s join channels c on c.id = s.channel_id order by s.channel_id, s.start_us
"""


def read_rows(database: Path) -> list[Row]:
    """Every committed segment, by channel and time, read beside the platform and not through it."""
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    try:
        return [Row(*fields) for fields in connection.execute(_ROWS)]
    finally:
        connection.close()


def stamps_in(data: bytes) -> list[int]:
    """Capture time of each picture, in the order of the bytes."""
    found = []
    at = data.find(SEI_UUID)
    while at >= 0:
        at += len(SEI_UUID)
        stamp = unescape(data[at : at + _STAMP_ESCAPED_BYTES])
        found.append(int(_STAMP.unpack_from(stamp)[0]))
        at = data.find(SEI_UUID, at)
    return found


@dataclass(slots=True)
class Recorded:
    """What the objects hold. One that is not there holds nothing and has no digest.

    channels    capture times, in the order of segments and of bytes
    altered     keys of objects with other bytes than their row says
    miscounted  keys of objects with another number of pictures than their row says
    """

    channels: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    stamps: dict[str, list[int]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    altered: list[str] = field(default_factory=list)
    miscounted: list[str] = field(default_factory=list)


def read_recorded(rows: Sequence[Row], objects: Path) -> Recorded:
    """Read every object whole."""
    recorded = Recorded()
    for row in rows:
        try:
            data = (objects / row.key).read_bytes()
        except FileNotFoundError:
            continue
        digest, stamps = hashlib.sha256(data).hexdigest(), stamps_in(data)
        if (digest, len(data)) != (row.sha256, row.size_bytes):
            recorded.altered.append(row.key)
        if len(stamps) != row.frames:
            recorded.miscounted.append(row.key)
        recorded.digests[row.key] = digest
        recorded.stamps[row.key] = stamps
        recorded.channels[row.channel] += stamps
    return recorded


def orphans(rows: Iterable[Row], objects: Path) -> list[str]:
    """What lies in the folder of objects and belongs to no row: objects, metadata, uploads.

    An upload without a head, which a death may leave as it is begun or removed, is none to anybody:
    the store itself removes what is left of it.
    """
    known = {row.key for row in rows}
    heads = sorted((objects / ".uploads").glob("*/head.json"))
    found = [str(head.parent.relative_to(objects)) for head in heads if head.stat().st_size > 0]
    for path in (objects / "v1").rglob("*"):
        key = str(path.relative_to(objects))
        if path.name.startswith("."):
            key = str(path.with_name(path.name[1:].removesuffix(".meta")).relative_to(objects))
        if path.is_file() and key not in known:
            found.append(str(path.relative_to(objects)))
    return found


# ---- the comparison -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hole:
    """Pictures of a channel, one after the other, that were sent and are nowhere.

    before_us  when the last recorded picture before it was sent
    until_us   when the next recorded one was taken
    """

    channel: str
    pictures: tuple[Picture, ...]
    before_us: int
    until_us: int


def holes(channel: str, sent: Sequence[Picture], recorded: Iterable[int]) -> list[Hole]:
    """Between the first and the last recorded picture of a channel."""
    kept = set(recorded)
    found: list[Hole] = []
    open_: list[Picture] = []
    before_us = None
    for picture in sent:
        if picture.capture_us not in kept:
            open_.append(picture)
            continue
        if open_ and before_us is not None:
            found.append(Hole(channel, tuple(open_), before_us, picture.capture_us))
        open_, before_us = [], picture.sent_us
    return found


@dataclass(frozen=True, slots=True)
class Order:
    """Pictures that came twice, out of order, or that nobody sent."""

    doubled: int
    disordered: int
    unknown: int


def order(sent: Sequence[Picture], recorded: Sequence[int]) -> Order:
    known = {picture.capture_us for picture in sent}
    steps = pairwise(recorded)
    return Order(
        doubled=len(recorded) - len(set(recorded)),
        disordered=sum(second < first for first, second in steps),
        unknown=len(set(recorded) - known),
    )


# ---- what another decoder says --------------------------------------------------------------


def probe(path: Path, stamps: Sequence[int], sent: Sequence[Picture]) -> str:
    """Decode a segment with ffprobe; says what is wrong with it, or nothing.

    Every picture decodes, there are as many as the scan found, and each is as long as it was sent.
    """
    asked = "ffprobe -v error -count_frames -select_streams v:0 -of json"
    asked += " -show_entries stream=nb_read_frames:packet=size"
    seen = subprocess.run(
        [*asked.split(), str(path)],
        capture_output=True,
        text=True,
        timeout=PROBE_TIMEOUT_S,
        check=False,
    )
    if seen.returncode or seen.stderr:
        return f"{path.name}: {seen.stderr.strip() or seen.returncode}"
    said = json.loads(seen.stdout)
    decoded = int(said["streams"][0]["nb_read_frames"])
    if decoded != len(stamps):
        return f"{path.name}: {decoded} pictures decode, {len(stamps)} are stamped"
    by_time = {picture.capture_us: picture.size_bytes for picture in sent}
    lengths = [int(packet["size"]) for packet in said["packets"]]
    wrong = sum(
        length != by_time.get(stamp) for length, stamp in zip(lengths, stamps, strict=False)
    )
    return f"{path.name}: {wrong} pictures are not as long as they were sent" if wrong else ""
