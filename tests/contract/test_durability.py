"""A committed row is durable whatever the server's defaults are: read back by our own engine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.contract.manual import ManualClock
from tests.services import PostgresServer
from vsp.store.engine import Database, open_database


@pytest.fixture
async def careless(postgres: PostgresServer) -> AsyncIterator[Database]:
    """Of a server that would answer before anything is on disk, were it not asked to wait."""
    name = postgres.new_database()
    database = open_database(postgres.url(name), ManualClock())
    async with database.write() as connection:
        await connection.execute(sa.text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
        await connection.execute(sa.text("ALTER ROLE vsp SET synchronous_commit = off"))
    await database.close()  # defaults are those of the moment of connecting
    yield database
    async with database.write() as connection:
        await connection.execute(sa.text("ALTER ROLE vsp RESET synchronous_commit"))
    await database.close()


async def test_postgresql_waits_for_the_disk_although_its_default_is_not_to(careless: Database):
    asked = sa.text("SHOW synchronous_commit")
    default = sa.text(
        "SELECT count(*) FROM pg_db_role_setting WHERE 'synchronous_commit=off' = ANY (setconfig)"
    )

    async with careless.write() as connection:
        assert (await connection.execute(default)).scalar() == 2, "of the database and of the role"
        assert (await connection.execute(asked)).scalar() == "on"
    migrating = careless.migrating_engine()
    async with migrating.begin() as connection:
        assert (await connection.execute(asked)).scalar() == "on"
    await migrating.dispose()


async def test_sqlite_waits_for_the_disk_in_each_of_its_connections(tmp_path: Path):
    database = open_database(f"sqlite+aiosqlite:///{tmp_path}/x.sqlite", ManualClock())
    migrating = database.migrating_engine()
    for engine in (database.writing_engine(), database.reading_engine(), migrating):
        async with engine.connect() as connection:
            said = await connection.exec_driver_sql("PRAGMA synchronous")
            assert said.scalar() == 2, "FULL"
    await migrating.dispose()
    await database.close()
