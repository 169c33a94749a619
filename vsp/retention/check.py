"""Do rows and objects agree? The proof of I1 and I2 (docs/design/recording.md), in both directions.

Theory of operation. Rows and objects are walked side by side in the order of keys: channel by
channel, and within one in the order of time. A key on one side only is looked at again before it
counts, because a running platform moves on: a missing object is asked for by name; an object
without a row is held against the claims of workers (`claims.py`), then against the rows once more.
Then come uploads that nobody finishes, then the audit chain. Memory is bounded by the objects of
one folder, which is a day of one channel.

A check may be left wherever it yields; `Check.state` is then all that another process needs to go
on. It only reads; what may be mended is handed to `mend.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby

from vsp.errors import Conflict, DataLoss, Invalid, NotFound
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import Segment
from vsp.ports import AuditLog, ObjectInfo, ObjectStore, PartInfo, SegmentIndex, UploadInfo
from vsp.retention.claims import Claimed, Claims
from vsp.retention.keys import channel_of, start_of
from vsp.retention.mend import Acting, Mender, size_of
from vsp.retention.metered import Cost, Facts, Metered

ROWS_AT_ONCE = 500
"""Rows of one page: 2 MB with the tables of their fragments."""

STRAYS_AT_ONCE = 200
"""Objects without a row that are judged with one look at the claims."""

FINDINGS_KEPT_MAX = 1_000
"""Findings kept with their words; the rest is counted. Who has more has one cause for most."""

Steps = AsyncGenerator[None, None]
"""Work that may be left for ever wherever it yields."""


class Level(StrEnum):
    """What is compared: names, names and sizes, or every byte."""

    PRESENCE = "presence"
    SIZE = "size"
    HASH = "hash"


class Kind(StrEnum):
    """What can be wrong.

    LOST       a row without its object
    SIZE       an object of another size than its row says
    HASH       an object with other bytes than its row says, or whose bytes cannot be read
    OVERLAP    two rows of one channel cover the same moment (I2)
    ORPHAN     an object without a row, at which nobody works
    ABANDONED  an upload that nobody will finish
    AUDIT      the chain of audit rows is broken
    """

    LOST = "lost"
    SIZE = "size"
    HASH = "hash"
    OVERLAP = "overlap"
    ORPHAN = "orphan"
    ABANDONED = "abandoned"
    AUDIT = "audit"


@dataclass(frozen=True, slots=True)
class Finding:
    """cause, mended: sentences for people; `mended` is empty when nothing was done."""

    kind: Kind
    key: str
    channel_id: ChannelId
    cause: str
    mended: str = ""


class Stage(StrEnum):
    """What a check is at."""

    SEGMENTS = "segments"
    UPLOADS = "uploads"
    AUDIT = "audit"
    DONE = "done"


_FOLLOWING = {
    Stage.SEGMENTS: Stage.UPLOADS,
    Stage.UPLOADS: Stage.AUDIT,
    Stage.AUDIT: Stage.DONE,
}


@dataclass(frozen=True, slots=True)
class Reach:
    """The row that reaches furthest into time of those seen of its channel."""

    channel_id: str = ""
    key: str = ""
    end_us: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """How far a check is and what it has found.

    by     who began it, with which version
    after  everything up to this key is done, of the stage
    """

    level: Level
    mend: bool
    began_us: UtcMicros
    by: str
    stage: Stage = Stage.SEGMENTS
    after: str = ""
    reach: Reach = Reach()
    counts: Mapping[Kind, int] = field(default_factory=dict)
    mended: Mapping[Kind, int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    cost: Cost = field(default_factory=Cost)

    @property
    def is_clean(self) -> bool:
        return not any(self.counts.values())


@dataclass(frozen=True, slots=True)
class Sources:
    """What a check looks at, whom it asks, and where it writes down what it mends."""

    segments: SegmentIndex
    objects: ObjectStore
    audit: AuditLog
    claims: Claims
    facts: Facts
    acting: Acting


class Check:
    """Goes on from `state`."""

    def __init__(self, sources: Sources, state: State) -> None:
        self._began = state
        self._stage = state.stage
        self._after = state.after
        self._reach = state.reach
        self._counts = Counter(state.counts)
        self._mended = Counter(state.mended)
        self._findings = list(state.findings)
        self._cost = replace(state.cost)
        self._segments = sources.segments
        self._audit = sources.audit
        self._claims = sources.claims
        self._objects = Metered(sources.objects, sources.facts, self._cost)
        self._mender = Mender(sources.segments, self._objects, sources.acting)

    @property
    def state(self) -> State:
        """As of the last step."""
        return replace(
            self._began,
            stage=self._stage,
            after=self._after,
            reach=self._reach,
            counts=dict(self._counts),
            mended=dict(self._mended),
            findings=tuple(self._findings),
            cost=replace(self._cost),
        )

    @property
    def mended(self) -> int:
        """Findings of which something could be made."""
        return self._mended.total()

    @property
    def cost(self) -> Cost:
        """As it grows."""
        return self._cost

    async def run(self) -> Steps:
        """Every stage that is left."""
        work = {
            Stage.SEGMENTS: self.segments,
            Stage.UPLOADS: self.uploads,
            Stage.AUDIT: self.audit,
        }
        while self._stage is not Stage.DONE:
            async with aclosing(work[self._stage]()) as steps:
                async for _ in steps:
                    yield
            self._stage, self._after = _FOLLOWING[self._stage], ""
            yield

    # ---- rows and objects -------------------------------------------------------------------

    async def segments(self) -> Steps:
        """A step for each key. `strays` are all behind `after`, and nothing behind them is done."""
        strays: list[ObjectInfo] = []
        async with aclosing(self._rows()) as rows, aclosing(self._listed()) as objects:
            row, info = await anext(rows, None), await anext(objects, None)
            while row is not None or info is not None:
                if info is not None and (row is None or info.key < row.key):
                    strays.append(info)
                    info = await anext(objects, None)
                    if len(strays) > STRAYS_AT_ONCE:
                        await self._judge(strays[:-1], ahead=strays[-1].key)
                        del strays[:-1]
                elif row is not None:
                    await self._judge(strays)
                    strays = []
                    await self._compare(row, info)
                    if info is not None and info.key == row.key:
                        info = await anext(objects, None)
                    row = await anext(rows, None)
                yield
            await self._judge(strays)

    async def _rows(self) -> AsyncGenerator[Segment, None]:
        after = self._after
        while page := await self._segments.walk(after, ROWS_AT_ONCE):
            for row in page:
                yield row
            after = page[-1].key

    def _listed(self) -> AsyncGenerator[ObjectInfo, None]:
        return self._objects.listed(self._after)

    async def _compare(self, row: Segment, info: ObjectInfo | None) -> None:
        """A row with the object of the same key, if the list has come to it."""
        self._cost.rows += 1
        found: list[Finding] = []
        try:
            if info is None or info.key != row.key:
                info = await self._objects.stat(row.key)
        except NotFound:
            cause = "有行而无对象 the row has no object"
            found.append(_finding(Kind.LOST, row.key, cause))
        else:
            found += await self._differences(row, info)
        found += self._overlaps(row)
        self._note(found)
        self._after = row.key

    async def _differences(self, row: Segment, info: ObjectInfo) -> list[Finding]:
        level = self._began.level
        if level is Level.PRESENCE:
            return []
        if info.size_bytes != row.size_bytes:
            cause = (
                f"对象有 {info.size_bytes} 字节，行记 {row.size_bytes} 字节 "
                f"the object has {info.size_bytes} bytes, the row says {row.size_bytes}"
            )
            return [_finding(Kind.SIZE, row.key, cause)]
        if level is Level.SIZE:
            return []
        try:
            digest = await self._objects.sha256(info)
        except (DataLoss, NotFound) as error:
            return [_finding(Kind.HASH, row.key, f"对象读不出 unreadable: {error.message}")]
        if digest != row.sha256:
            cause = (
                f"对象内容已变：SHA-256 为 {digest}，行记 {row.sha256} "
                f"the object's bytes have changed: SHA-256 is {digest}, the row says {row.sha256}"
            )
            return [_finding(Kind.HASH, row.key, cause)]
        return []

    def _overlaps(self, row: Segment) -> list[Finding]:
        """Whether it begins before an earlier row of its channel ends."""
        reach = self._reach
        if reach.channel_id != row.channel_id:
            self._reach = Reach(row.channel_id, row.key, row.end_us)
            return []
        if row.end_us > reach.end_us:
            self._reach = Reach(row.channel_id, row.key, row.end_us)
        over_us = reach.end_us - row.start_us
        if over_us <= 0:
            return []
        cause = (
            f"与 {reach.key} 重叠 {over_us / 1e6:.3f} 秒 "
            f"it begins {over_us / 1e6:.3f} s before {reach.key} ends"
        )
        return [_finding(Kind.OVERLAP, row.key, cause)]

    # ---- objects without a row --------------------------------------------------------------

    async def _judge(self, strays: Sequence[ObjectInfo], ahead: str = "") -> None:
        """Objects that had no row: somebody may be at work on them, or have been.

        ahead  the next one, which is judged later
        """
        if not strays:
            return
        claimed = await self._claims()
        rows = await self._segments.by_key([info.key for info in strays])
        found: list[Finding] = []
        following = [*(info.key for info in strays[1:]), ahead]
        for info, next_key in zip(strays, following, strict=True):
            row = rows.get(info.key)
            if row is not None:
                found += await self._differences(row, info)
            elif not claimed.spares(info.key, start_of(info.key)):
                found.append(await self._orphan(info.key, next_key))
        self._note(found)
        self._after = strays[-1].key

    async def _orphan(self, key: str, ahead: str) -> Finding:
        finding = _finding(Kind.ORPHAN, key, "有对象而无行，也无进程在处理 the object has no row")
        return await self._mend(finding, lambda: self._mender.give_row(key, ahead))

    # ---- uploads ----------------------------------------------------------------------------

    async def uploads(self) -> Steps:
        """A step for each key that has some."""
        left = [each for each in await self._objects.uploads() if each.key > self._after]
        if not left:
            return
        claimed = await self._claims()
        for key, some in groupby(left, lambda upload: upload.key):
            found = [
                await self._abandoned(upload, parts)
                for upload, parts in await self._left(list(some), claimed)
            ]
            self._note(found)
            self._after = key
            yield

    async def _left(
        self, uploads: Sequence[UploadInfo], claimed: Claimed
    ) -> list[tuple[UploadInfo, Sequence[PartInfo]]]:
        """Those of one key that nobody works on nor has ended since, with their parts. The one that
        has most comes first: it becomes the object, which holds what the others have."""
        left = []
        for upload in uploads:
            self._cost.uploads += 1
            if not claimed.spares(upload.key, upload.begun_us):
                with suppress(NotFound):
                    left.append((upload, await self._objects.parts(upload)))
        return sorted(left, key=lambda each: -size_of(each[1]))

    async def _abandoned(self, upload: UploadInfo, parts: Sequence[PartInfo]) -> Finding:
        cause = (
            f"上传无人完成（{len(parts)} 块，{size_of(parts)} 字节） "
            f"nobody finishes this upload of {len(parts)} parts, {size_of(parts)} bytes"
        )
        finding = _finding(Kind.ABANDONED, upload.key, cause)
        return await self._mend(finding, lambda: self._mender.finish(upload, parts))

    # ---- the audit chain --------------------------------------------------------------------

    async def audit(self) -> Steps:
        """One step."""
        try:
            self._cost.audit_rows = await self._audit.verify()
        except DataLoss as error:
            self._note([_finding(Kind.AUDIT, "", f"审计链断裂 {error.message}: {error.cause}")])
        yield

    # ---- findings ---------------------------------------------------------------------------

    async def _mend(self, finding: Finding, act: Callable[[], Awaitable[str]]) -> Finding:
        """The finding with what was done about it, or why not."""
        if not self._began.mend:
            return finding
        try:
            return replace(finding, mended=await act())
        except (Conflict, DataLoss, Invalid, NotFound) as error:
            why = f"{finding.cause}; 未修复 not mended: {error.message}"
            return replace(finding, cause=why)

    def _note(self, found: Sequence[Finding]) -> None:
        for finding in found:
            self._counts[finding.kind] += 1
            if finding.mended:
                self._mended[finding.kind] += 1
        self._findings += found[: FINDINGS_KEPT_MAX - len(self._findings)]


def _finding(kind: Kind, key: str, cause: str) -> Finding:
    return Finding(kind, key, channel_of(key), cause)


__all__ = ["Check", "Finding", "Kind", "Level", "Sources", "Stage", "State", "Steps"]
