"""Finding what was recorded, between the node's rows and what the worker holds itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.media.rig import folder_objects, open_spool
from tests.media.test_journal import SEGMENT
from tests.media.test_spool import fragment, head, media, opened
from vsp.blocking import IoPool
from vsp.errors import NotFound, Unavailable
from vsp.media import archive as module
from vsp.media.archive import FED_ROWS_MAX, Finder, Rows, Source
from vsp.media.spool import SpooledSegment
from vsp.model.ids import ChannelId, UtcMicros, ViewId
from vsp.model.recording import EndReason, Segment
from vsp.model.stream import SegmentsWanted, ViewKind, ViewSpec
from vsp.store.blobs import FolderObjects
from vsp.store.folder import Folder

MINUTE_US = 60_000_000
NOW_US = UtcMicros(1000 * MINUTE_US)


def minute(n: int, **changed: object) -> Segment:
    start_us = UtcMicros(n * MINUTE_US)
    end_us = UtcMicros(start_us + MINUTE_US)
    return replace(SEGMENT, key=f"m{n}", start_us=start_us, end_us=end_us, **changed)  # type: ignore[arg-type]


class Clock:
    def now_us(self) -> UtcMicros:
        return NOW_US

    def monotonic(self) -> float:
        return 0.0


@dataclass
class Node:
    """A node and a worker's holdings: answers questions from its rows."""

    folder: Path
    rows: list[Segment] = field(default_factory=list)
    own: list[SpooledSegment] = field(default_factory=list)
    waiting: list[Segment] = field(default_factory=list)
    asked: list[SegmentsWanted] = field(default_factory=list)
    answers: bool = True
    end_us: UtcMicros | None = None

    def __post_init__(self) -> None:
        spec = ViewSpec(
            ViewId("p1"), ViewKind.PLAYBACK, ChannelId("c1"), None, UtcMicros(0), self.end_us
        )
        self.spool = open_spool(self.folder / "log")
        self.objects = folder_objects(self.folder / "objects")
        self.finder = Finder(spec, self.objects, self.spool, self, Clock(), self.want)

    def spooled(self, channel_id: ChannelId) -> Sequence[SpooledSegment]:
        return self.own

    def uncommitted(self, channel_id: ChannelId) -> Sequence[Segment]:
        return self.waiting

    def want(self, question: SegmentsWanted) -> None:
        self.asked.append(question)
        if self.answers:
            asyncio.get_running_loop().call_soon(self.answer, question)

    def answer(self, question: SegmentsWanted) -> None:
        overlapping = [
            row
            for row in self.rows
            if row.end_us > question.from_us and row.start_us < question.until_us
        ]
        self.finder.feed(overlapping, question.until_us)

    async def found(self, minutes: float) -> str | None:
        source = await self.finder.find(UtcMicros(int(minutes * MINUTE_US)))
        return source.key if source is not None else None


def held(n: int) -> SpooledSegment:
    """Minute `n` of the channel, in the worker's spool."""
    segment = SpooledSegment(n, replace(head(n), key=f"own{n}"))
    segment.add_piece(0, 400)
    start_us = UtcMicros(n * MINUTE_US)
    info = replace(fragment(0), start_us=start_us, end_us=UtcMicros(start_us + MINUTE_US))
    segment.add_fragment(1000, 100, info)
    return segment


async def test_the_segment_that_covers_an_instant_is_found_and_remembered(tmp_path: Path):
    node = Node(tmp_path, rows=[minute(n) for n in range(10, 20)])

    assert await node.found(12.5) == "m12"
    assert await node.found(13) == "m13"
    assert await node.found(19.99) == "m19"
    assert len(node.asked) == 1


async def test_a_gap_leads_to_the_next_segment_however_far(tmp_path: Path):
    node = Node(tmp_path, rows=[minute(3), minute(900)])

    assert await node.found(5) == "m900"
    # An hour, then two, four and eight, then the rest: not sixteen questions.
    assert len(node.asked) <= 5


async def test_nothing_after_the_last_segment_is_the_end(tmp_path: Path):
    node = Node(tmp_path, rows=[minute(900)])

    assert await node.found(901) is None


async def test_what_begins_after_the_end_of_the_view_is_not_found(tmp_path: Path):
    node = Node(tmp_path, rows=[minute(3), minute(30)], end_us=UtcMicros(20 * MINUTE_US))

    assert await node.found(3) == "m3"
    assert await node.found(4) is None


async def test_going_back_asks_again(tmp_path: Path):
    node = Node(tmp_path, rows=[minute(n) for n in range(100)])

    assert await node.found(50) == "m50"
    assert await node.found(10) == "m10"
    assert len(node.asked) == 2


async def test_what_only_the_worker_holds_follows_the_rows(tmp_path: Path):
    node = Node(tmp_path, rows=[minute(n) for n in range(5)], own=[held(6)], waiting=[minute(5)])

    assert [await node.found(n) for n in (4, 5, 6)] == ["m4", "m5", "own6"]


async def test_a_segment_that_was_open_at_the_answer_is_not_taken_for_a_gap(tmp_path: Path):
    node = Node(tmp_path, rows=[minute(4)], own=[held(5), held(6)])
    assert await node.found(4) == "m4"

    # Meanwhile minute 5 was committed and acknowledged: it is a row now, and no longer ours.
    node.rows.append(minute(5))
    node.own = [held(6)]

    assert await node.found(5) == "m5"


async def test_a_silent_node_is_asked_again_and_then_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "ASK_AGAIN_S", 0.01)
    node = Node(tmp_path, rows=[minute(1)], answers=False)

    with pytest.raises(Unavailable, match="did not say"):
        await node.found(1)
    assert len(node.asked) == module.ASK_TRIES


async def test_an_answer_that_says_nothing_new_does_not_loop_for_ever(tmp_path: Path):
    node = Node(tmp_path)
    node.answer = lambda question: node.finder.feed([], question.from_us)  # type: ignore[method-assign]

    with pytest.raises(Unavailable):
        await node.found(1)


async def test_a_viewer_that_goes_ends_the_wait(tmp_path: Path):
    node = Node(tmp_path, answers=False)
    waiting = asyncio.create_task(node.found(1))
    await asyncio.sleep(0)
    node.finder.give_up()

    assert await waiting is None


def test_rows_are_bounded_and_forget_the_oldest():
    rows = Rows()
    rows.add([minute(n) for n in range(FED_ROWS_MAX + 10)], NOW_US)

    assert rows.from_us == 10 * MINUTE_US
    assert rows.after(UtcMicros(0)) == minute(10)


async def test_a_source_reads_the_object_once_the_spool_has_let_go(tmp_path: Path):
    objects = folder_objects(tmp_path / "objects")
    async with opened(tmp_path / "log") as spool:
        segment = spool.begin(head(), b"init" * 100)
        spool.append(segment, fragment(0), media(0))
        source = Source(objects, spool, None, segment)
        before = await source.read(400, 5000)
        assert source.growing
        spool.end(segment, EndReason.ROLLED)
        data = await spool.read(segment, 0, segment.size_bytes)
        await objects.put(segment.head.key, data, {})
        spool.release(segment)

        assert not source.growing
        assert await source.read(400, 5000) == before == media(0)
        assert await source.init() == b"init" * 100
    await objects.close()


async def test_an_object_that_is_gone_is_told_and_a_busy_store_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "READ_RETRY_S", 0.001)
    busy = [Unavailable("busy"), Unavailable("busy")]

    class Busy(FolderObjects):
        async def read(self, key: str, offset: int, length: int) -> bytes:
            if busy:
                raise busy.pop()
            return await super().read(key, offset, length)

    objects = Busy(Folder(tmp_path / "objects"), IoPool("test", 1))
    source = Source(objects, open_spool(tmp_path / "log"), minute(1), None)

    with pytest.raises(NotFound):
        await source.init()
    busy += [Unavailable("down")] * 3
    with pytest.raises(Unavailable, match="down"):
        await source.init()
    await objects.close()


def test_a_stored_segment_has_one_part_for_each_key_picture(tmp_path: Path):
    spool = open_spool(tmp_path)
    source = Source(folder_objects(tmp_path), spool, minute(2), None)

    assert [(part.start_us, part.offset, part.length) for part in source.parts()] == [
        (2 * MINUTE_US, 600, 200),
        (2 * MINUTE_US + 2_000_000, 800, 200),
    ]
