"""The spool: what was written comes back after a crash, up to the last whole fragment."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.media.rig import open_spool, until
from vsp.errors import DataLoss, Exhausted, Invalid
from vsp.media import chunks
from vsp.media import spool as module
from vsp.media.spool import FragmentHead, SegmentHead, Spool, SpooledSegment
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.recording import Container, EndReason
from vsp.model.stream import VideoCodec

INIT = b"init" * 100
BIG = 1 << 30


def head(n: int = 0) -> SegmentHead:
    return SegmentHead(
        channel_id=ChannelId("c1"),
        key=f"v1/c1/2026/11/22/{n}-0-{n}.mp4",
        container=Container.MP4,
        run=UtcMicros(0),
        n=n,
        start_us=UtcMicros(n * 60_000_000),
        start_90k=0,
        init_bytes=len(INIT),
        video=VideoCodec.H264,
        audio=None,
        codecs="avc3.42C00B",
        width=160,
        height=96,
    )


def fragment(n: int, key: bool = True) -> FragmentHead:
    start_us = UtcMicros(n * 2_000_000)
    return FragmentHead(start_us, UtcMicros(start_us + 2_000_000), n * 180_000, 180_000, 50, 1, key)


def media(n: int, size: int = 5000) -> bytes:
    return bytes([n]) * size


@asynccontextmanager
async def opened(folder: Path, bytes_max: int = BIG) -> AsyncIterator[Spool]:
    spool = open_spool(folder, bytes_max)
    spool.start()
    try:
        yield spool
    finally:
        await spool.close()


async def write(spool: Spool, fragments: int, n: int = 0) -> SpooledSegment:
    segment = spool.begin(head(n), INIT)
    for i in range(fragments):
        spool.append(segment, fragment(i), media(i))
    return segment


def whole(fragments: int) -> bytes:
    return INIT + b"".join(media(i) for i in range(fragments))


async def test_bytes_are_read_back_by_range_over_fragment_borders(tmp_path: Path):
    async with opened(tmp_path) as spool:
        segment = await write(spool, 3)
        data = whole(3)

        assert await spool.read(segment, 0, len(data)) == data
        assert await spool.read(segment, 399, 2) == data[399:401]
        assert await spool.read(segment, 5000, 6000) == data[5000:11000]
        assert await spool.read(segment, len(data), 0) == b""
        with pytest.raises(Invalid):
            await spool.read(segment, 0, len(data) + 1)


async def test_the_hash_is_that_of_the_object(tmp_path: Path):
    async with opened(tmp_path) as spool:
        segment = await write(spool, 3)
        await spool.until_written(segment.position_end)

        assert segment.hasher.hexdigest() == hashlib.sha256(whole(3)).hexdigest()


async def test_a_crash_leaves_what_was_written_with_its_hash_and_uploads(tmp_path: Path):
    async with opened(tmp_path) as spool:
        lost = await write(spool, 3, n=0)
        spool.note_upload(lost, "upload-1")
        spool.note_part(lost, "tag-1", 5400)
        ended = await write(spool, 2, n=1)
        spool.end(ended, EndReason.ROLLED)
        done = await write(spool, 2, n=2)
        spool.end(done, EndReason.ROLLED)
        spool.release(done)

    async with opened(tmp_path) as again:
        first, second = await again.recover()

        assert (first.end, second.end) == (EndReason.WORKER_LOST, EndReason.ROLLED)
        assert (first.upload_id, first.parts) == ("upload-1", [("tag-1", 5400)])
        assert await again.read(first, 0, first.size_bytes) == whole(3)
        row = second.row(EndReason.ROLLED, second.hasher.hexdigest())
        assert row.sha256 == hashlib.sha256(whole(2)).hexdigest()
        assert (row.frames, row.damaged_frames, row.duration_90k) == (100, 2, 360_000)
        assert row.fragments == ((0, 400, 5000), (0, 5400, 5000))


@pytest.mark.parametrize("lost_bytes", [1, 100, 4999, 5040])
async def test_a_torn_tail_costs_the_last_fragment_only(tmp_path: Path, lost_bytes: int):
    async with opened(tmp_path) as spool:
        await write(spool, 3)
    [chunk] = tmp_path.glob("*.log")
    os.truncate(chunk, chunk.stat().st_size - lost_bytes)

    async with opened(tmp_path) as again:
        [segment] = await again.recover()

        assert await again.read(segment, 0, segment.size_bytes) == whole(2)
        assert segment.hasher.hexdigest() == hashlib.sha256(whole(2)).hexdigest()


@pytest.mark.parametrize("seed", range(20))
async def test_an_altered_byte_is_never_taken_for_media(tmp_path: Path, seed: int):
    async with opened(tmp_path) as spool:
        segment = await write(spool, 3)
        spool.end(segment, EndReason.ROLLED)
    [chunk] = tmp_path.glob("*.log")
    data = bytearray(chunk.read_bytes())
    data[seed * len(data) // 20] ^= 0x40
    chunk.write_bytes(data)

    async with opened(tmp_path) as again:
        for found in await again.recover():
            held = await again.read(found, 0, found.size_bytes)
            assert whole(3).startswith(held)
            assert found.hasher.hexdigest() == hashlib.sha256(held).hexdigest()


async def test_nothing_is_joined_on_behind_a_hole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 6000)
    async with opened(tmp_path) as spool:
        segment = await write(spool, 4)
        spool.note_upload(segment, "upload-1")
        spool.note_part(segment, "tag-1", segment.size_bytes)
        spool.end(segment, EndReason.ROLLED)
    second = sorted(tmp_path.glob("*.log"))[2]
    second.write_bytes(b"\0" * second.stat().st_size)

    async with opened(tmp_path) as again:
        [found] = await again.recover()

        assert found.end is EndReason.WORKER_LOST
        assert len(found.fragments) < 4
        assert found.parts == []


async def test_space_is_freed_from_the_front_once_segments_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "CHUNK_BYTES", 6000)
    async with opened(tmp_path) as spool:
        first, second = await write(spool, 3, n=0), await write(spool, 3, n=1)
        await spool.until_written(second.position_end)
        before = len(list(tmp_path.glob("*.log")))
        spool.release(second)
        held = spool.size_bytes
        spool.release(first)

        assert before >= 6
        assert held > 2 * 15_000
        assert spool.size_bytes < 6000
        await until(lambda: len(list(tmp_path.glob("*.log"))) <= 2)


async def test_old_chunks_go_when_recovery_found_nothing_to_keep(tmp_path: Path):
    async with opened(tmp_path) as spool:
        spool.release(await write(spool, 3))

    async with opened(tmp_path) as again:
        assert await again.recover() == []
        segment = await write(again, 1, n=1)
        await again.until_written(segment.position_end)
        await until(lambda: len(list(tmp_path.glob("*.log"))) == 1)


async def test_positions_never_repeat_over_restarts(tmp_path: Path):
    numbers = []
    for n in range(3):
        async with opened(tmp_path) as spool:
            numbers.append((await write(spool, 1, n)).number)

    assert numbers == sorted(set(numbers))


async def test_a_full_spool_refuses_media_but_takes_the_reason(tmp_path: Path):
    async with opened(tmp_path, bytes_max=20_000) as spool:
        segment = await write(spool, 3)
        with pytest.raises(Exhausted, match="spool holds"):
            spool.append(segment, fragment(3), media(3))
        with pytest.raises(Exhausted):
            spool.begin(head(1), media(0, 6000))
        spool.end(segment, EndReason.STORAGE_FAILURE)

    async with opened(tmp_path) as again:
        [found] = await again.recover()
        assert found.end is EndReason.STORAGE_FAILURE
        assert len(found.fragments) == 3


def append_for_ever(spool: Spool, segment: SpooledSegment, size: int) -> None:
    for i in count():
        spool.append(segment, fragment(i), media(i % 256, size))


@pytest.mark.parametrize("size", [300, 5_000, 15_000])
async def test_a_spool_that_was_full_takes_as_much_again_once_all_is_done(
    tmp_path: Path, size: int
):
    taken = []
    async with opened(tmp_path, bytes_max=20_000) as spool:
        for n in range(4):
            segment = spool.begin(head(n), INIT)
            with pytest.raises(Exhausted, match="spool holds"):
                append_for_ever(spool, segment, size)
            spool.end(segment, EndReason.STORAGE_FAILURE)
            taken.append(len(segment.fragments))
            spool.release(segment)

    assert taken[0] > 0
    assert min(taken) >= taken[0] * 3 // 4


async def test_a_disk_that_refuses_is_tried_again_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(chunks, "RETRY_S", 0.01)
    monkeypatch.setattr(module, "QUEUE_BYTES_MAX", 20_000)
    refusing = True
    real = os.pwritev

    def pwritev(fd: int, buffers: list[bytes], offset: int) -> int:
        if refusing:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, buffers, offset)

    monkeypatch.setattr(os, "pwritev", pwritev)
    async with opened(tmp_path) as spool:
        segment = await write(spool, 3)
        with pytest.raises(Exhausted, match="bytes behind"):
            spool.append(segment, fragment(3), media(3))
        refusing = False

        assert await spool.read(segment, 0, segment.size_bytes) == whole(3)


async def test_reading_what_was_freed_is_data_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 6000)
    async with opened(tmp_path) as spool:
        segment = await write(spool, 3)
        await spool.until_written(segment.position_end)
        spool.release(segment)
        await until(lambda: len(list(tmp_path.glob("*.log"))) == 1)

        with pytest.raises(DataLoss):
            await spool.read(segment, 0, 1000)


def test_the_table_has_one_entry_per_key_picture_and_reaches_to_the_next():
    segment = SpooledSegment(0, head())
    segment.add_piece(0, 400)
    for i, key in enumerate((True, False, False, True, False)):
        segment.add_fragment(1000 * (i + 1), 100 + i, fragment(i, key))

    assert segment.table() == ((0, 400, 303), (6000, 703, 207))
