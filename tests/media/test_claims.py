"""What a spool's folder says of a worker that does not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.test_journal import segments
from tests.media.test_spool import head, opened, write
from vsp.disk import SystemDisk
from vsp.errors import Unavailable
from vsp.media import claims as module
from vsp.media.claims import SpoolClaims
from vsp.media.journal import Journal


def claims(folder: Path) -> SpoolClaims:
    return SpoolClaims(SystemDisk(), folder)


def test_a_folder_without_spool_and_journal_claims_nothing(tmp_path: Path):
    assert claims(tmp_path).read() == frozenset()


async def test_what_is_in_the_spool_is_claimed_while_it_is_written_and_after_a_crash(
    tmp_path: Path,
):
    reading = claims(tmp_path)
    async with opened(tmp_path / "log") as spool:
        segment = await write(spool, 3)
        await spool.until_written(segment.position_end)
        assert reading.read() == {head().key}

    assert reading.read() == claims(tmp_path).read() == {head().key}


async def test_what_the_spool_has_let_go_is_not_claimed(tmp_path: Path):
    async with opened(tmp_path / "log") as spool:
        kept, gone = await write(spool, 2, n=0), await write(spool, 2, n=1)
        spool.release(gone)
        await spool.until_written(kept.position_end)

    assert claims(tmp_path).read() == {kept.head.key}


def test_what_is_in_the_journal_is_claimed_until_it_is_acknowledged(tmp_path: Path):
    journal, reading = Journal(tmp_path / "journal", SystemDisk()), claims(tmp_path)
    journal.append(segments(3))
    assert reading.read() == {"k0", "k1", "k2"}

    journal.acknowledge(2)
    assert reading.read() == {"k2"}
    journal.close()


async def test_reading_changes_nothing(tmp_path: Path):
    async with opened(tmp_path / "log") as spool:
        await write(spool, 2)
    Journal(tmp_path / "journal", SystemDisk()).append(segments(1))
    torn = tmp_path / "journal"
    torn.write_bytes(torn.read_bytes() + b"\x01\x02")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    claims(tmp_path).read()

    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


async def test_what_has_not_changed_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async with opened(tmp_path / "log") as spool:
        await write(spool, 2)
    reading = claims(tmp_path)
    once = reading.read()

    monkeypatch.setattr(module, "scan", None)

    assert reading.read() == once


def test_a_chunk_that_goes_while_it_is_read_is_read_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "log").mkdir()
    tries = []

    def scan(*_: object) -> list[object]:
        tries.append(1)
        if len(tries) < module.TRIES:
            raise FileNotFoundError("freed")
        return []

    monkeypatch.setattr(module, "scan", scan)

    assert SpoolClaims(SystemDisk(), tmp_path)._read() == frozenset()
    assert len(tries) == module.TRIES


def test_a_spool_that_cannot_be_read_says_so(tmp_path: Path):
    (tmp_path / "log").write_bytes(b"not a folder")

    with pytest.raises(Unavailable, match="cannot be read"):
        claims(tmp_path).read()
