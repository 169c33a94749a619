"""What the store says when its database goes away under it, and that it comes back by itself."""

from pathlib import Path

import pytest

from tests.contract.conftest import with_database
from tests.contract.manual import CountingIds, ManualClock
from tests.contract.samples import row_of, segment
from tests.services import PostgresServer
from vsp.config import Config
from vsp.errors import DataLoss, Unavailable
from vsp.model.ids import ChannelId, UtcMicros
from vsp.store import migrate, open_store


def embedded(folder: Path) -> Config:
    return Config.model_validate({"node": {"data_dir": folder}})


async def test_a_restart_of_postgresql_loses_no_acknowledged_row_and_needs_no_reopening(
    postgres: PostgresServer, tmp_path: Path
):
    config = with_database(embedded(tmp_path), postgres.url(postgres.new_database()))
    await migrate(config)
    store = await open_store(config, ManualClock(), CountingIds())
    await store.segments.commit([segment(0)])

    postgres.stop("immediate")
    try:
        with pytest.raises(Unavailable):
            await store.segments.commit([segment(1)])
        with pytest.raises(Unavailable):
            await row_of(store.segments, segment(0))
    finally:
        postgres.start()

    await store.segments.commit([segment(2)])
    found = await store.segments.find(ChannelId("c1"), UtcMicros(0), UtcMicros(1 << 60))
    await store.close()
    assert [row.n for row in found] == [0, 2]


async def test_the_files_of_a_killed_process_hold_what_was_acknowledged(tmp_path: Path):
    running = await open_store(embedded(tmp_path / "a"), ManualClock(), CountingIds())
    await running.segments.commit([segment(0)])

    (tmp_path / "b").mkdir()  # database and log as they are on disk now, never closed
    for path in (tmp_path / "a").glob("vsp.sqlite*"):
        (tmp_path / "b" / path.name).write_bytes(path.read_bytes())
    survivor = await open_store(embedded(tmp_path / "b"), ManualClock(), CountingIds())

    assert await row_of(survivor.segments, segment(0)) == segment(0)
    await survivor.close()
    await running.close()


async def test_a_damaged_file_is_data_loss(tmp_path: Path):
    (tmp_path / "vsp.sqlite").write_bytes(b"not a database, whatever its name says" * 100)

    with pytest.raises(DataLoss, match="damaged"):
        await open_store(embedded(tmp_path), ManualClock(), CountingIds())


async def test_another_process_that_writes_is_waited_for(tmp_path: Path):
    one = await open_store(embedded(tmp_path), ManualClock(), CountingIds())
    two = await open_store(embedded(tmp_path), ManualClock(), CountingIds())

    for number in range(20):
        await (one, two)[number % 2].segments.commit([segment(number)])

    assert await row_of(one.segments, segment(19)) == segment(19)
    await two.close()
    await one.close()
