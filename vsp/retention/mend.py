"""What may be mended without losing anything: rows are given back, uploads are finished or dropped.

Never is an object deleted or replaced, a row deleted or changed. An upload is dropped only when the
store has nothing of it, or when its object is there: a key has one stream of bytes, so an upload
that is not longer than the object holds nothing more. Each act stands in the audit log.

Parts cannot be read before they are an object. So an upload that has any is completed first and
read then; its first part holds the head of the segment and at least one fragment (`shipper.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from vsp.errors import Conflict, DataLoss, NotFound
from vsp.model.ids import UtcMicros
from vsp.model.recording import EndReason, Segment
from vsp.ports import AuditEntry, ObjectInfo, PartInfo, SegmentIndex, UploadInfo
from vsp.retention.keys import Named, channel_of, parse, start_of
from vsp.retention.metered import Metered

DRIFT_US_MAX = 5_000_000
"""How far a segment may reach into its neighbours and be cut there. An object knows its media time
only: a camera's clock drifts, and the network held its first picture back."""

NEIGHBOURS_MAX = 10
"""Rows looked at that cover one moment; there is one, or I2 is broken already."""

Acting = Callable[[str, str], AbstractAsyncContextManager[AuditEntry]]
"""Opens an audited act on a subject, for a reason."""


class Mender:
    """Each verb says what it did, or raises Conflict, Invalid, DataLoss, NotFound: why it did not.

    Whoever calls has seen that nobody claims the key.
    """

    def __init__(self, segments: SegmentIndex, objects: Metered, acting: Acting) -> None:
        self._segments = segments
        self._objects = objects
        self._acting = acting

    async def give_row(self, key: str, ahead: str = "") -> str:
        """The row of an object that has none.

        ahead  the next object without a row, if any: where this one ends, if it goes on there
        """
        info = await self._objects.stat(key)
        facts = await self._objects.facts(info)
        _agree(info, facts)
        row = await self._placed(facts, parse(ahead))
        if row.start_us >= row.end_us:
            raise Conflict(f"其时间已有录像 its time is recorded already: {key}")
        async with self._acting(f"channel:{row.channel_id}", f"object without row: {key}") as act:
            await self._segments.commit([row])
            act.note("the row was made from the object")
        _, offset, length = row.fragments[-1]
        torn = info.size_bytes - offset - length
        cut = f"，末尾 {torn} 字节不完整" if torn else ""
        return f"已从对象补回行{cut} the row was made from the object"

    async def finish(self, upload: UploadInfo, parts: Sequence[PartInfo]) -> str:
        """Make an upload an object with its row, or drop one that holds nothing more."""
        try:
            info = await self._objects.stat(upload.key)
        except NotFound:
            if parts:
                return await self._complete(upload, parts)
            return await self._drop(upload, "尚无数据 nothing of it has arrived")
        arrived = size_of(parts)
        if arrived > info.size_bytes:
            raise Conflict(
                f"上传有 {arrived} 字节，其对象只有 {info.size_bytes} 字节 "
                f"the upload has {arrived} bytes, its object {info.size_bytes}"
            )
        return await self._drop(upload, "其对象已在 its object is there")

    async def _complete(self, upload: UploadInfo, parts: Sequence[PartInfo]) -> str:
        key, arrived = upload.key, size_of(parts)
        row = (await self._segments.by_key([key])).get(key)
        if row is None:
            await self._free_from(key)
        elif row.size_bytes != arrived:
            raise Conflict(
                f"上传有 {arrived} 字节，行记 {row.size_bytes} 字节 "
                f"the upload has {arrived} bytes, the row says {row.size_bytes}"
            )
        async with self._on(upload) as act:
            await self._objects.complete(upload, parts)
            act.note(f"completed with {arrived} bytes in {len(parts)} parts")
        done = f"已完成上传（{arrived} 字节） the upload was completed"
        return done if row is not None else f"{done}; {await self.give_row(key)}"

    async def _drop(self, upload: UploadInfo, why: str) -> str:
        async with self._on(upload) as act:
            await self._objects.abort(upload)
            act.note(f"dropped: {why}")
        return f"已放弃上传 the upload was dropped: {why}"

    def _on(self, upload: UploadInfo) -> AbstractAsyncContextManager[AuditEntry]:
        subject = f"channel:{channel_of(upload.key)}"
        return self._acting(subject, f"upload {upload.upload_id} left of {upload.key}")

    async def _placed(self, facts: Segment, ahead: Named) -> Segment:
        """`facts` between its neighbours in the channel; it may touch them, not overlap (I2)."""
        start_us = await self._free_from(facts.key)
        following = await self._following(facts, ahead)
        if following is None:
            return replace(facts, start_us=start_us)
        over_us = facts.end_us - following.start_us
        if over_us >= DRIFT_US_MAX:
            raise Conflict(_overlap(f"segment {following.n} of run {following.run}"))
        goes_on = (following.run, following.n) == (facts.run, facts.n + 1)
        if goes_on and over_us > -DRIFT_US_MAX:
            end_us, reason = following.start_us, EndReason.ROLLED
        else:
            end_us, reason = min(facts.end_us, following.start_us), facts.end_reason
        return replace(facts, start_us=start_us, end_us=end_us, end_reason=reason)

    async def _following(self, facts: Segment, ahead: Named) -> Named | None:
        """What comes next in the channel: a row, or an object that will be one."""
        behind_us = UtcMicros(facts.start_us + 1)
        row = await self._segments.next_after(facts.channel_id, behind_us)
        if ahead.channel_id == facts.channel_id and (row is None or ahead.start_us < row.start_us):
            return ahead
        return None if row is None else Named(row.channel_id, row.start_us, row.run, row.n)

    async def _free_from(self, key: str) -> UtcMicros:
        """The first moment of this object that no row before it covers. Raises Conflict."""
        start_us = start_of(key)
        rows = await self._segments.find(
            channel_of(key), start_us, UtcMicros(start_us + 1), NEIGHBOURS_MAX
        )
        for row in rows:
            if row.end_us - start_of(key) >= DRIFT_US_MAX:
                raise Conflict(_overlap(row.key))
            start_us = max(start_us, row.end_us)
        return start_us


def size_of(parts: Sequence[PartInfo]) -> int:
    return sum(part.size_bytes for part in parts)


def _overlap(other: str) -> str:
    return f"会与 {other} 的时间重叠 it would overlap {other}"


def _agree(info: ObjectInfo, facts: Segment) -> None:
    """Raises DataLoss when the object is not what was said of it when it was begun."""
    found = {
        "channel": facts.channel_id,
        "run": str(facts.run),
        "n": str(facts.n),
        "start-us": str(facts.start_us),
        "codecs": facts.codecs,
        "init-bytes": str(facts.init_bytes),
        "sha256": facts.sha256,
    }
    for name in found.keys() & info.metadata.keys():
        if found[name] != info.metadata[name]:
            raise DataLoss(
                f"对象的元数据 {name} 为 {info.metadata[name]}，内容为 {found[name]} "
                f"its metadata says {name} {info.metadata[name]}, its bytes say {found[name]}"
            )


__all__ = ["Acting", "Mender", "size_of"]
