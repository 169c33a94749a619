"""From spool to object to journal: in that order, whatever the store does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from tests.media.rig import open_spool, until
from tests.media.test_spool import fragment, head, media, whole, write
from vsp.blocking import IoPool
from vsp.clock import SystemClock
from vsp.disk import SystemDisk
from vsp.errors import NotFound, Unavailable
from vsp.media import shipper as module
from vsp.media.journal import Journal
from vsp.media.shipper import Shipper
from vsp.model.recording import EndReason, SegmentClosed
from vsp.ports import ObjectInfo
from vsp.store.blobs import FolderObjects
from vsp.store.folder import Folder


class Weather(FolderObjects):
    """A real folder whose calls can be made to fail, by name."""

    def __init__(self, root: Path) -> None:
        super().__init__(Folder(root), IoPool("test", 2))
        self.failing: dict[str, list[Exception]] = {}
        self.calls: list[str] = []

    def _meet(self, name: str) -> None:
        self.calls.append(name)
        errors = self.failing.get(name)
        if errors:
            raise errors.pop(0)

    async def begin(self, key: str, metadata: Mapping[str, str]) -> str:
        self._meet("begin")
        return await super().begin(key, metadata)

    async def put_part(self, key: str, upload_id: str, number: int, data: bytes) -> str:
        self._meet(f"part {number}")
        return await super().put_part(key, upload_id, number, data)

    async def complete(self, key: str, upload_id: str, tags: Sequence[str]) -> ObjectInfo:
        info = await super().complete(key, upload_id, tags)
        self._meet("complete")
        return info


@dataclass
class Bench:
    """A shipper over a real spool, journal and folder."""

    folder: Path
    closed: list[SegmentClosed] = field(default_factory=list)
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.spool = open_spool(self.folder / "log")
        self.spool.start()
        self.journal = Journal(self.folder / "journal", SystemDisk())
        self.objects = Weather(self.folder / "objects")
        self.shipper = Shipper(
            self.spool,
            self.objects,
            self.journal,
            IoPool("test", 2),
            SystemClock(),
            self.closed.append,
        )

    async def object(self, key: str) -> bytes:
        info = await self.objects.stat(key)
        return await self.objects.read(key, 0, info.size_bytes)

    async def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        await self.shipper.close(1.0)
        await self.spool.close()
        await asyncio.to_thread(self.journal.close)
        await self.objects.close()


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(module, "KNOCK_S", 0.01)
    made = Bench(tmp_path)
    yield made
    await made.close()


async def test_a_segment_grows_by_parts_and_becomes_an_object_and_an_entry(bench: Bench):
    segment = bench.spool.begin(head(), b"init" * 100)
    bench.shipper.ship(segment, part_s=4.0)
    for i in range(5):
        bench.spool.append(segment, fragment(i), media(i))
        await asyncio.sleep(0)
        await asyncio.sleep(0.02)
    grown = list(bench.objects.calls)
    bench.spool.end(segment, EndReason.ROLLED)
    await until(lambda: bench.closed)

    assert grown == ["begin", "part 1", "part 2"]
    assert bench.objects.calls[3:] == ["part 3", "complete"]
    assert await bench.object(segment.head.key) == whole(5)
    row = bench.closed[0].segment
    assert row.sha256 == sha256(whole(5)).hexdigest()
    assert row.size_bytes == len(whole(5))
    assert segment.released
    metadata = (await bench.objects.stat(segment.head.key)).metadata
    assert metadata["codecs"] == "avc3.42C00B"
    assert metadata["start-us"] == "0"


async def test_parts_wait_until_the_store_takes_their_size(bench: Bench):
    bench.shipper._part_bytes_min = 12_000
    segment = bench.spool.begin(head(), b"init" * 100)
    bench.shipper.ship(segment, part_s=1.0)
    for i in range(4):
        bench.spool.append(segment, fragment(i), media(i))
        await asyncio.sleep(0.02)
    grown = list(bench.objects.calls)
    bench.spool.end(segment, EndReason.ROLLED)
    await until(lambda: bench.closed)

    assert grown == ["begin", "part 1"]
    assert await bench.object(segment.head.key) == whole(4)


async def test_a_store_that_is_away_is_tried_until_it_is_back(bench: Bench):
    away = [Unavailable("connection refused")] * 2
    bench.objects.failing = {"begin": list(away), "part 1": list(away), "complete": list(away)}
    segment = await write(bench.spool, 2)
    bench.spool.end(segment, EndReason.STOPPED)
    bench.shipper.ship(segment, part_s=1.0)
    await until(lambda: bench.closed)

    # An answer to `complete` that was lost is a completion all the same.
    assert bench.objects.calls.count("complete") == 3
    assert await bench.object(segment.head.key) == whole(2)
    assert len(bench.closed) == 1


async def test_an_upload_that_the_store_lost_begins_again(bench: Bench):
    bench.objects.failing = {"part 2": [NotFound("no such upload")]}
    segment = bench.spool.begin(head(), b"init" * 100)
    bench.shipper.ship(segment, part_s=2.0)
    for i in range(4):
        bench.spool.append(segment, fragment(i), media(i))
        await asyncio.sleep(0.03)
    bench.spool.end(segment, EndReason.ROLLED)
    await until(lambda: bench.closed)

    assert bench.objects.calls.count("begin") == 2
    assert await bench.object(segment.head.key) == whole(4)


async def test_a_segment_without_media_leaves_no_trace(bench: Bench):
    segment = bench.spool.begin(head(), b"init" * 100)
    bench.shipper.ship(segment, part_s=1.0)
    bench.spool.end(segment, EndReason.MEDIA_STOPPED)
    await until(lambda: not bench.shipper.segments)

    assert bench.closed == []
    assert bench.objects.calls == []
    assert segment.released


async def test_entries_that_close_together_share_one_write(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    batches: list[int] = []
    real = Journal.append

    def append(journal: Journal, rows):
        batches.append(len(rows))
        return real(journal, rows)

    monkeypatch.setattr(Journal, "append", append)
    for n in range(20):
        segment = await write(bench.spool, 1, n)
        bench.spool.end(segment, EndReason.ROLLED)
        bench.shipper.ship(segment, part_s=1.0)
    await until(lambda: len(bench.closed) == 20)

    assert sum(batches) == 20
    assert [entry.seq for entry in bench.closed] == list(range(1, 21))


async def test_a_journal_that_cannot_be_written_holds_the_entry_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    refusals = [Unavailable("disk full"), Unavailable("disk full")]
    real = Journal.append

    def append(journal: Journal, rows):
        if refusals:
            raise refusals.pop()
        return real(journal, rows)

    monkeypatch.setattr(Journal, "append", append)
    segment = await write(bench.spool, 1)
    bench.spool.end(segment, EndReason.ROLLED)
    bench.shipper.ship(segment, part_s=1.0)
    await until(lambda: bench.closed)

    assert refusals == []
    assert len(bench.journal) == 1


@pytest.mark.parametrize("died_before", ["begin", "part 2", "complete", "journal"])
async def test_whatever_step_a_crash_hits_the_next_life_finishes_once(
    bench: Bench, tmp_path: Path, died_before: str
):
    segment = bench.spool.begin(head(), b"init" * 100)
    bench.objects.failing = {died_before: [Unavailable("dying")] * 1000}
    bench.shipper.ship(segment, part_s=2.0)
    for i in range(4):
        bench.spool.append(segment, fragment(i), media(i))
        await asyncio.sleep(0.02)
    if died_before == "journal":
        await bench.shipper._put_new_bytes(segment)
        tags = [tag for tag, _ in segment.parts]
        await bench.objects.complete(segment.head.key, segment.upload_id, tags)
    bench.spool.end(segment, EndReason.ROLLED)
    for task in bench.shipper._tasks.values():
        task.cancel()
    await bench.close()

    next_life = Bench(tmp_path)
    for found in await next_life.spool.recover():
        next_life.shipper.ship(found, part_s=2.0)
    await until(lambda: next_life.closed)
    await until(lambda: not next_life.shipper.segments)

    [entry] = next_life.closed
    assert entry.segment.end_reason is EndReason.ROLLED
    assert await next_life.object(segment.head.key) == whole(4)
    assert entry.segment.sha256 == sha256(whole(4)).hexdigest()
    await next_life.close()
    third_life = Bench(tmp_path)
    assert await third_life.spool.recover() == []
    assert [waiting.seq for waiting in third_life.journal.unacknowledged()] == [1]
    await third_life.close()
