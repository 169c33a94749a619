from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from tests.contract.conftest import Databases, of_sql
from tests.contract.manual import CountingIds, ManualClock
from tests.contract.samples import new_device
from vsp.config import Config
from vsp.errors import Conflict, Invalid, NotFound, Unavailable
from vsp.model.device import RecordPlan
from vsp.model.ids import UtcMicros
from vsp.ports import DialogUse
from vsp.store import migrate, open_store
from vsp.store.engine import open_database
from vsp.store.tables import metadata


async def tables(config: Config) -> set[str]:
    database = open_database(config.database_url, ManualClock())
    async with database.read() as connection:
        found = await connection.run_sync(lambda sync: set(sa.inspect(sync).get_table_names()))
    await database.close()
    return found


@of_sql
async def test_the_revisions_make_exactly_the_tables_of_the_code(config: Config):
    database = open_database(config.database_url, ManualClock())

    def differences(connection: sa.Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with database.read() as connection:
        found = await connection.run_sync(differences)
    await database.close()

    assert found == []


@of_sql
async def test_up_and_down_and_up_again(databases: Databases, tmp_path: Path):
    config = databases.bare(tmp_path)
    names = {table.name for table in metadata.sorted_tables}

    await migrate(config)
    assert await tables(config) == names | {"alembic_version"}
    await migrate(config, "base")
    assert await tables(config) == {"alembic_version"}
    await migrate(config, "0001")
    await migrate(config, "head")
    assert await tables(config) == names | {"alembic_version"}
    databases.drop(config)


@of_sql
async def test_an_unknown_revision_is_invalid_and_changes_nothing(config: Config):
    with pytest.raises(Invalid, match="9999"):
        await migrate(config, "9999")

    assert "devices" in await tables(config)


@of_sql
async def test_the_embedded_database_migrates_itself_and_the_shared_one_asks(
    databases: Databases, tmp_path: Path
):
    config = databases.bare(tmp_path)

    if databases.kind == "sqlite":
        store = await open_store(config, ManualClock(), CountingIds())
        await store.close()
        assert "devices" in await tables(config)
    else:
        with pytest.raises(Conflict, match=r"revision none.*needs 0002") as caught:
            await open_store(config, ManualClock(), CountingIds())
        assert "vsp migrate" in caught.value.next_step
        databases.drop(config)


@of_sql
async def test_a_lost_master_key_is_not_replaced_by_a_new_one(config: Config, clock: ManualClock):
    store = await open_store(config, clock, CountingIds())
    await store.devices.add_device(new_device(), UtcMicros(1), RecordPlan.NONE)
    await store.close()
    key = config.data_dir / "keys" / "master.key"
    key.unlink()

    with pytest.raises(NotFound, match=r"master\.key"):
        await open_store(config, clock, CountingIds())

    assert not key.exists()


async def test_a_database_out_of_reach_is_unavailable(tmp_path: Path):
    (tmp_path / "file").write_text("")
    nowhere = [
        "postgresql+asyncpg://vsp@127.0.0.1:1/x",
        f"postgresql+asyncpg://vsp@/x?host={tmp_path}",
        f"sqlite+aiosqlite:///{tmp_path}/file/vsp.sqlite",
    ]
    for url in nowhere:
        config = Config.model_validate(
            {"database": {"url": url}, "node": {"data_dir": tmp_path / "data"}}
        )
        with pytest.raises(Unavailable):
            await open_store(config, ManualClock(), CountingIds())
        with pytest.raises(Unavailable):
            await migrate(config)


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite:///x", "no url", "postgresql://x/y"])
async def test_other_databases_are_refused_by_name(url: str, tmp_path: Path):
    config = Config.model_validate({"database": {"url": url}, "node": {"data_dir": tmp_path}})

    with pytest.raises(Invalid, match=r"database\.url"):
        await open_store(config, ManualClock(), CountingIds())


STREAM = {
    "session_id": "s1",
    "channel_id": "c1",
    "device_id": "d1",
    "worker_id": 1,
    "started_us": 7,
    "call_id": "3f1c@192.0.2.10",
    "local_uri": "sip:us",
    "local_tag": "p1",
    "remote_uri": "sip:them",
    "remote_tag": "d1",
    "remote_target": "sip:them@192.0.2.20",
    "cseq": 20,
    "transport": "udp",
    "host": "192.0.2.20",
    "port": 5060,
}


async def executed(
    config: Config, statement: str, values: object = None
) -> list[dict[str, object]]:
    database = open_database(config.database_url, ManualClock())
    async with database.write() as connection:
        result = await connection.execute(sa.text(statement), values)
        rows = [dict(row) for row in result.mappings()] if result.returns_rows else []
    await database.close()
    return rows


@of_sql
async def test_streams_become_dialogs_and_streams_again(databases: Databases, tmp_path: Path):
    config = databases.bare(tmp_path)
    await migrate(config, "0001")
    names = ", ".join(STREAM)
    places = ", ".join(f":{name}" for name in STREAM)
    await executed(config, f"INSERT INTO streams ({names}) VALUES ({places})", STREAM)

    await migrate(config, "0002")
    store = await open_store(config, ManualClock(), CountingIds())
    [row] = await store.streams.all()
    owed = replace(row, dialog=replace(row.dialog, cseq=21, call_id="x"), ending_us=UtcMicros(9))
    await store.streams.save(owed)
    await store.close()
    assert (row.use, row.began_us, row.dialog.cseq) == (DialogUse("c1", "s1", 1), 7, 20)

    await migrate(config, "0001")
    assert await executed(config, "SELECT * FROM streams") == [STREAM]
    databases.drop(config)
