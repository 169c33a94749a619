"""The spool's files: nothing counts as on disk before it is, whatever the disk does meanwhile."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from simulators.world.disk import ForgetfulDisk
from tests.contract.manual import ManualClock
from tests.deaths import failing_at
from tests.media.rig import until
from vsp.clock import SystemClock
from vsp.disk import SystemDisk, exists
from vsp.faults import Point
from vsp.media import chunks as module
from vsp.media.chunks import (
    HEAD_BYTES,
    ChunkWriter,
    Drop,
    Kind,
    Write,
    WriterThread,
    chunk_path,
    chunks_in,
    read_chunk,
    records,
)

LOG = Path("/")
INTERVAL_S = 2.0


class Log:
    """Records for one writer: positions as a spool would give them."""

    def __init__(self, disk: ForgetfulDisk) -> None:
        self.disk = disk
        self.core = ChunkWriter(disk, LOG, INTERVAL_S)
        self.tail = self.chunk = 0
        self.bodies: list[bytes] = []

    def record(self, size: int = 100, new_chunk: bool = False) -> Write:
        if new_chunk:
            self.chunk = self.tail
        body = bytes([len(self.bodies) % 256]) * size
        job = Write(self.chunk, self.tail, Kind.FRAGMENT, 0, len(self.bodies), body)
        self.tail += job.size
        self.bodies.append(body)
        return job

    def held(self) -> list[bytes]:
        """Every record that is read back, from the first on."""
        return [
            bytes(record.body)
            for base, _ in chunks_in(self.disk, LOG)
            for record in records(self.disk, chunk_path(LOG, base), base)
        ]


@pytest.fixture(params=range(6))
def log(request: pytest.FixtureRequest) -> Log:
    """Under several seeds: what a power cut leaves is up to chance."""
    return Log(ForgetfulDisk(ManualClock(), request.param))


def test_what_was_synced_survives_a_power_cut(log: Log):
    for _ in range(3):
        assert log.core.do(log.record(), 0.0)
    assert log.core.sync(2.0)
    log.core.do(log.record(), 2.0)

    log.disk.cut_power()

    assert log.core.synced == 3 * (HEAD_BYTES + 100)
    assert log.held()[:3] == log.bodies[:3]


def test_a_sync_is_due_one_interval_after_the_first_byte_that_needs_it(log: Log):
    assert log.core.sync_due is None
    log.core.do(log.record(), 10.0)
    log.core.do(log.record(), 11.0)
    assert log.core.sync_due == 10.0 + INTERVAL_S

    log.core.sync(12.0)
    assert log.core.sync_due is None
    log.disk.syncs_fail = True
    log.core.do(log.record(), 13.0)
    log.core.sync(15.0)
    assert log.core.sync_due == 15.0 + module.RETRY_S


def test_what_a_failed_sync_gave_up_is_written_again(log: Log):
    log.core.do(log.record(), 0.0)
    log.core.sync(1.0)
    log.core.do(log.record(), 1.0)
    log.disk.syncs_fail = True
    for now in (2.0, 3.0):
        assert not log.core.sync(now)
    assert log.core.synced == HEAD_BYTES + 100, "nothing is claimed meanwhile"

    log.disk.syncs_fail = False
    assert log.core.do(log.record(), 3.5), "more may come meanwhile"
    assert log.core.sync(4.0)
    log.disk.cut_power()

    assert log.core.synced == log.tail
    assert log.held() == log.bodies


def test_what_a_failed_sync_gave_up_is_written_again_at_the_end_of_a_chunk(log: Log):
    log.core.do(log.record(), 0.0)
    log.disk.syncs_fail = True
    behind = log.record(new_chunk=True)
    assert not log.core.do(behind, 1.0), "no chunk is begun before the last one is on disk"
    assert log.core.synced == 0

    log.disk.syncs_fail = False
    assert log.core.do(behind, 2.0)
    log.disk.cut_power()

    assert log.core.synced == HEAD_BYTES + 100
    assert log.held()[:1] == log.bodies[:1]


def test_an_orderly_end_writes_again_what_a_failed_sync_gave_up(log: Log):
    log.core.do(log.record(), 0.0)
    log.disk.syncs_fail = True
    log.core.sync(1.0)

    log.disk.syncs_fail = False
    log.core.close()
    log.disk.cut_power()

    assert log.held() == log.bodies


def test_a_disk_that_refuses_to_the_end_is_not_waited_for(log: Log):
    log.core.do(log.record(), 0.0)
    log.disk.syncs_fail = True

    log.core.close()


def test_nothing_counts_as_synced_before_the_name_of_its_chunk_is(log: Log):
    first = log.record()
    with failing_at(Point.SPOOL_CHUNK_MADE):
        assert not log.core.do(first, 0.0)
    assert log.core.do(first, 0.5)
    assert log.core.sync(1.0)

    log.disk.cut_power()

    assert log.held() == log.bodies


def test_a_name_that_could_not_be_synced_is_synced_before_anything_is_claimed(log: Log):
    log.disk.syncs_fail = True
    first = log.record()
    assert not log.core.do(first, 0.0)
    log.disk.syncs_fail = False
    log.core.do(first, 0.5)
    log.core.sync(1.0)

    log.disk.cut_power()

    assert log.held() == log.bodies


# ---- what the disk says ---------------------------------------------------------------------


def test_a_full_disk_is_asked_again_and_its_words_are_known_until_it_takes(log: Log):
    log.core.do(log.record(), 0.0)
    log.disk.capacity_bytes = log.disk.used_bytes + 50
    job = log.record()
    for now in (0.5, 1.0):
        assert not log.core.do(job, now)
    assert "No space left" in log.core.trouble

    log.disk.capacity_bytes = 1 << 20
    assert log.core.do(job, 1.5)

    assert log.core.trouble == ""
    assert log.held() == log.bodies


def test_a_full_disk_that_still_syncs_is_full_all_the_same(log: Log):
    log.core.do(log.record(), 0.0)
    log.disk.capacity_bytes = log.disk.used_bytes
    log.core.do(log.record(), 1.0)

    assert log.core.sync(2.0), "what was written before is saved"

    assert log.core.synced == HEAD_BYTES + 100
    assert "No space left" in log.core.trouble


def test_a_disk_that_takes_but_does_not_sync_is_in_trouble(log: Log):
    log.disk.syncs_fail = False
    log.core.do(log.record(), 0.0)
    log.disk.syncs_fail = True
    log.core.sync(2.0)
    log.core.do(log.record(), 2.1)
    assert os.strerror(errno.EIO) in log.core.trouble

    log.disk.syncs_fail = False
    log.core.sync(2.5)
    assert log.core.trouble == ""


def test_a_sync_that_succeeds_at_the_end_of_a_chunk_ends_the_trouble(log: Log):
    log.core.do(log.record(), 0.0)
    log.disk.syncs_fail = True
    log.core.sync(2.0)
    log.disk.syncs_fail = False
    log.core.do(log.record(new_chunk=True), 2.1)

    assert log.core.trouble == ""


def test_no_more_is_taken_unsynced_than_can_be_written_again(
    log: Log, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "UNSYNCED_BYTES_MAX", 1000)
    log.core.do(log.record(), 0.0)
    log.core.sync(0.0)
    log.disk.syncs_fail = True

    taken = 0
    while log.core.do(log.record(), 1.0):
        taken += HEAD_BYTES + 100

    assert 1000 < taken <= 1000 + HEAD_BYTES + 100
    log.disk.syncs_fail = False
    del log.bodies[-1]  # it would be given again
    log.core.sync(2.0)
    log.disk.cut_power()
    assert log.held() == log.bodies


def test_media_is_hashed_once_however_often_it_is_refused(log: Log):
    hasher = hashlib.sha256()
    log.disk.capacity_bytes = 10
    job = Write(0, 0, Kind.FRAGMENT, 0, 0, b"head", b"media", hasher)
    for now in (0.0, 0.5):
        assert not log.core.do(job, now)
    log.disk.capacity_bytes = 1 << 20
    log.core.do(job, 1.0)

    assert hasher.digest() == hashlib.sha256(b"media").digest()


# ---- freeing --------------------------------------------------------------------------------


def test_a_dropped_chunk_never_comes_back(log: Log):
    log.core.do(log.record(), 0.0)
    second = log.record(new_chunk=True)
    log.core.do(second, 0.0)

    assert log.core.do(Drop(0), 1.0)
    log.disk.cut_power()

    assert not exists(log.disk, chunk_path(LOG, 0))


def test_a_drop_that_could_not_be_synced_is_synced_before_the_next(log: Log):
    log.core.do(log.record(), 0.0)
    log.core.do(log.record(new_chunk=True), 0.0)
    log.core.sync(0.0)
    log.disk.syncs_fail = True
    assert not log.core.do(Drop(0), 1.0)

    log.disk.syncs_fail = False
    assert log.core.do(Drop(0), 1.5)
    log.disk.cut_power()

    assert not exists(log.disk, chunk_path(LOG, 0))


def test_dropping_what_is_not_there_is_nothing(log: Log):
    assert log.core.do(Drop(77), 0.0)


def test_the_chunk_that_is_being_written_can_be_dropped(log: Log):
    """Everything in it is done, and the next record will stand in another one."""
    log.core.do(log.record(), 0.0)

    assert log.core.do(Drop(0), 1.0)
    assert log.core.do(log.record(new_chunk=True), 1.0)

    assert log.held() == log.bodies[1:]


# ---- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize("lost_bytes", [1, HEAD_BYTES, HEAD_BYTES + 99, HEAD_BYTES + 100])
def test_a_chunk_is_read_up_to_its_first_torn_record(log: Log, lost_bytes: int):
    for _ in range(3):
        log.core.do(log.record(), 0.0)
    file = log.disk.open(chunk_path(LOG, 0))
    file.truncate(file.size - lost_bytes)

    assert log.held() == log.bodies[:2]


def test_bytes_that_came_back_as_zeros_are_no_records(log: Log):
    log.core.do(log.record(), 0.0)
    file = log.disk.open(chunk_path(LOG, 0))
    file.truncate(file.size + 5000)

    assert log.held() == log.bodies


def test_nothing_is_read_behind_a_record_that_was_altered(log: Log):
    for _ in range(3):
        log.core.do(log.record(), 0.0)
    file = log.disk.open(chunk_path(LOG, 0))
    file.write(HEAD_BYTES + 100 + HEAD_BYTES + 50, b"?")

    assert log.held() == log.bodies[:1]


@pytest.mark.parametrize("length", [module.RECORD_BYTES_MAX + 1, 0xFFFF_FFFF])
def test_a_length_that_no_record_has_is_not_believed(log: Log, length: int):
    job = log.record()
    log.core.do(job, 0.0)
    log.disk.open(chunk_path(LOG, 0)).write(20, length.to_bytes(4, "little"))

    assert log.held() == []


def test_chunks_are_found_in_the_order_of_the_log_without_empty_ones(log: Log):
    for base in (0x20, 0x3, 0x100000000):
        log.disk.open(chunk_path(LOG, base), make=True).write(0, b"x" * base.bit_length())
    log.disk.open(chunk_path(LOG, 0x30), make=True)
    log.disk.open(LOG / "journal", make=True).write(0, b"x")

    assert chunks_in(log.disk, LOG) == [(0x3, 2), (0x20, 6), (0x100000000, 33)]


def test_reading_beyond_what_a_chunk_holds_is_data_loss(log: Log):
    log.core.do(log.record(), 0.0)

    assert read_chunk(log.disk, chunk_path(LOG, 0), HEAD_BYTES, 100) == log.bodies[0]
    for path, offset in ((chunk_path(LOG, 0), HEAD_BYTES + 1), (chunk_path(LOG, 7), 0)):
        with pytest.raises(module.DataLoss):
            read_chunk(log.disk, path, offset, 100)


# ---- the thread -----------------------------------------------------------------------------


class Moody(SystemDisk):
    """The machine's disk, which refuses what it is told to refuse."""

    def __init__(self) -> None:
        self.full = self.full_of_us = self.broken = False
        self.syncs = 0

    def open(self, path: Path, *, make: bool = False) -> MoodyFile:
        return MoodyFile(self, super().open(path, make=make))

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.full = self.full and not self.full_of_us


class MoodyFile:
    def __init__(self, disk: Moody, file: module.File) -> None:
        self._disk = disk
        self._file = file
        self.read, self.truncate, self.close = file.read, file.truncate, file.close

    @property
    def size(self) -> int:
        return self._file.size

    def write(self, offset: int, *pieces: bytes) -> None:
        if self._disk.broken:
            raise RuntimeError("a fault of our own")
        if self._disk.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._file.write(offset, *pieces)

    def sync(self) -> None:
        self._file.sync()
        self._disk.syncs += 1


class Threaded:
    """A writer thread over such a disk."""

    def __init__(self, folder: Path, fsync_interval_s: float = 0.02) -> None:
        self.folder = folder
        self.disk = Moody()
        self.core = ChunkWriter(self.disk, folder, fsync_interval_s)
        self.told: list[int] = []
        self.writer = WriterThread(
            self.core, lambda job: self.told.append(job.index), SystemClock()
        )
        self.writer.start()
        self._tail = self._chunk = 0
        self._count = 0

    def put(self, count: int = 1, new_chunk: bool = False) -> int:
        """Records of one chunk; gives its position."""
        if new_chunk:
            self._chunk = self._tail
        for _ in range(count):
            job = Write(self._chunk, self._tail, Kind.FRAGMENT, 0, self._count, b"x" * 100)
            self._tail += job.size
            self._count += 1
            self.writer.put(job)
        return self._chunk

    def held(self) -> list[int]:
        path = chunk_path(self.folder, 0)
        return [record.index for record in records(SystemDisk(), path, 0)] if path.exists() else []


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.005)


async def test_the_thread_writes_in_order_tells_the_loop_and_syncs_in_time(tmp_path: Path):
    threaded = Threaded(tmp_path)
    threaded.put(5)
    await until(lambda: len(threaded.told) == 5)
    await until(lambda: threaded.disk.syncs)
    await threaded.writer.close(5.0)

    assert threaded.told == threaded.held() == [0, 1, 2, 3, 4]


async def test_the_thread_asks_a_full_disk_again_and_loses_nothing(tmp_path: Path):
    threaded = Threaded(tmp_path)
    threaded.disk.full = True
    threaded.put(3)
    await until(lambda: threaded.core.trouble)
    assert threaded.told == []

    threaded.disk.full = False
    await until(lambda: len(threaded.told) == 3)
    await threaded.writer.close(5.0)

    assert threaded.held() == [0, 1, 2]
    assert threaded.core.trouble == ""


async def test_a_disk_that_is_full_of_us_is_given_back_what_waits_to_be_dropped(tmp_path: Path):
    threaded = Threaded(tmp_path)
    threaded.put()
    await until(lambda: threaded.told)
    threaded.disk.full = threaded.disk.full_of_us = True
    waiting, last = threaded.put(new_chunk=True), threaded.put(new_chunk=True)
    await until(lambda: threaded.core.trouble)

    threaded.writer.put(Drop(0))
    threaded.writer.put(Drop(waiting))
    await until(lambda: len(threaded.told) == 3)
    await threaded.writer.close(5.0)

    assert threaded.told == [0, 1, 2]
    assert [base for base, _ in chunks_in(SystemDisk(), tmp_path)] == [last]


async def test_what_was_written_before_the_disk_was_full_is_synced_all_the_same(tmp_path: Path):
    threaded = Threaded(tmp_path, fsync_interval_s=0.1)
    threaded.put(1)
    await until(lambda: threaded.told)
    threaded.disk.full = True
    threaded.put(1)
    await until(lambda: threaded.core.trouble)

    await until(lambda: threaded.core.synced == HEAD_BYTES + 100)

    await threaded.writer.close(5.0)


async def test_everything_that_was_put_is_on_disk_when_the_thread_ends(tmp_path: Path):
    threaded = Threaded(tmp_path, fsync_interval_s=60.0)
    threaded.put(50)
    await threaded.writer.close(5.0)

    assert threaded.held() == list(range(50))
    assert threaded.disk.syncs == 1


async def test_a_thread_before_a_full_disk_ends_when_it_is_told_to(tmp_path: Path):
    threaded = Threaded(tmp_path)
    threaded.disk.full = True
    threaded.put(2)
    await until(lambda: threaded.core.trouble)

    await threaded.writer.close(5.0)

    assert not threaded.writer._thread.is_alive()
    assert threaded.writer.failure is None


async def test_what_ends_the_thread_of_itself_is_known(tmp_path: Path):
    threaded = Threaded(tmp_path)
    threaded.disk.broken = True
    threaded.put(1)
    await until(lambda: threaded.writer.failure)

    assert str(threaded.writer.failure) == "a fault of our own"
    await threaded.writer.close(5.0)
