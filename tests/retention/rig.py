"""Rows and objects in memory, with real recordings, and every way in which the two can differ."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, partial
from hashlib import sha256

from tests.contract.manual import CountingIds, ManualClock
from tests.media.rig import GOP, STEP_90K, access_units
from vsp.errors import Unavailable
from vsp.media.core.fmp4 import Fragmenter, init_segment, video_track
from vsp.media.core.nal import ParameterSets
from vsp.media.recorder import object_key
from vsp.media.salvage import read_segment
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.people import Action
from vsp.model.recording import Container, EndReason, Segment
from vsp.model.stream import VideoCodec
from vsp.ports import ObjectStore, SegmentIndex
from vsp.retention.check import Check, Finding, Kind, Level, Sources, State
from vsp.retention.claims import Claimed
from vsp.store.memory import MemoryBucket, MemoryDatabase, MemoryObjects, open_memory

START_US = 1_700_000_000_000_000
"""2023-11-14 22:13:20 UTC."""

PIECES = 3
LENGTH_US = PIECES * GOP * 40_000
"""Length of every recording here: three GOPs of ten pictures, 25 a second."""


@cache
def pieces() -> tuple[bytes, ...]:
    """Head and fragments of a recording."""
    units = access_units(PIECES * GOP, START_US)
    sets = ParameterSets()
    sets.update(units[0])
    tracks = [video_track(sets, in_band=True)]
    fragmenter = Fragmenter(tracks)
    made = [init_segment(tracks)]
    for begin in range(0, len(units), GOP):
        for unit in units[begin : begin + GOP]:
            fragmenter.add(unit)
        fragment = fragmenter.fragment((begin + GOP) * STEP_90K)
        assert fragment is not None
        made.append(fragment.data)
    return tuple(made)


DATA = b"".join(pieces())


def segment(n: int = 0, channel: str = "c1", **changes: object) -> Segment:
    """The n-th of a run, as its worker would have written the row."""
    start_us = UtcMicros(START_US + n * LENGTH_US)
    head, *fragments = pieces()
    table, offset = [], len(head)
    for number, fragment in enumerate(fragments):
        table.append((number * GOP * 40, offset, len(fragment)))
        offset += len(fragment)
    made = Segment(
        channel_id=ChannelId(channel),
        key=object_key(ChannelId(channel), start_us, UtcMicros(START_US), n),
        container=Container.MP4,
        run=UtcMicros(START_US),
        n=n,
        start_us=start_us,
        end_us=UtcMicros(start_us + LENGTH_US),
        start_90k=0,
        duration_90k=PIECES * GOP * STEP_90K,
        size_bytes=len(DATA),
        sha256=sha256(DATA).hexdigest(),
        init_bytes=len(head),
        fragments=tuple(table),
        video=VideoCodec.H264,
        audio=None,
        codecs="avc3.42C00B",
        width=160,
        height=96,
        frames=PIECES * GOP,
        damaged_frames=0,
        end_reason=EndReason.ROLLED,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def metadata(row: Segment) -> dict[str, str]:
    """As `shipper.py` gives it."""
    return {
        "channel": row.channel_id,
        "run": str(row.run),
        "n": str(row.n),
        "start-us": str(row.start_us),
        "codecs": row.codecs,
        "init-bytes": str(row.init_bytes),
    }


@dataclass
class Rig:
    """claimed: what workers say; silent: why one of them says nothing."""

    clock: ManualClock = field(default_factory=lambda: ManualClock(START_US + 3_600_000_000))
    claimed: Claimed = field(default_factory=lambda: Claimed(frozenset()))
    silent: str = ""
    database: MemoryDatabase = field(default_factory=MemoryDatabase)
    bucket: MemoryBucket = field(default_factory=MemoryBucket)

    def __post_init__(self) -> None:
        self.store = open_memory(self.database, self.clock, CountingIds(), "node-1")
        self.objects: ObjectStore = MemoryObjects(self.bucket, self.clock)
        self.segments: SegmentIndex = self.store.segments
        self.asked = 0

    async def claims(self) -> Claimed:
        self.asked += 1
        if self.silent:
            raise Unavailable(self.silent)
        return self.claimed

    def sources(self) -> Sources:
        return Sources(
            segments=self.segments,
            objects=self.objects,
            audit=self.store.audit,
            claims=self.claims,
            facts=lambda info: read_segment(self.objects, info),
            acting=partial(self.store.audit.act, None, Action.STORE_MEND, who="test"),
        )

    def state(self, level: Level = Level.PRESENCE, *, mend: bool = False) -> State:
        return State(level, mend, self.clock.now_us(), "test")

    def begin(self, level: Level = Level.PRESENCE, *, mend: bool = False) -> Check:
        return Check(self.sources(), self.state(level, mend=mend))

    async def check(self, level: Level = Level.PRESENCE, *, mend: bool = False) -> State:
        """A whole check."""
        begun = self.begin(level, mend=mend)
        async for _ in begun.run():
            pass
        return begun.state

    # ---- what there is ----------------------------------------------------------------------

    async def recorded(self, *rows: Segment) -> None:
        """Objects with their rows."""
        for row in rows:
            await self.only_object(row)
        await self.store.segments.commit(rows)

    async def only_object(self, row: Segment, data: bytes = DATA) -> None:
        await self.objects.put(row.key, data, metadata(row))

    async def begun(self, row: Segment, *parts: bytes) -> str:
        """An upload under way."""
        upload_id = await self.objects.begin(row.key, metadata(row))
        for number, part in enumerate(parts, 1):
            await self.objects.put_part(row.key, upload_id, number, part)
        return upload_id

    async def uploads(self) -> list[str]:
        return [upload.upload_id async for upload in self.objects.uploads("v1/")]

    async def row(self, key: str) -> Segment | None:
        return (await self.store.segments.by_key([key])).get(key)


def keys_of(state: State, kind: Kind) -> list[str]:
    return [finding.key for finding in state.findings if finding.kind is kind]


def only(state: State) -> Finding:
    """The one finding that there is."""
    [finding] = state.findings
    assert sum(state.counts.values()) == 1
    return finding
