import sqlite3
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from tests.contract.manual import ManualClock
from vsp.errors import Conflict, DataLoss, Internal, Invalid, Unavailable
from vsp.store.engine import Database, PostgresDatabase, SqliteDatabase, open_database
from vsp.store.tables import segments


class PostgresError(Exception):
    """As asyncpg's, reduced to its state."""

    def __init__(self, sqlstate: str) -> None:
        super().__init__(sqlstate)
        self.sqlstate = sqlstate


@pytest.fixture
def sqlite(tmp_path: Path) -> Database:
    return open_database(f"sqlite+aiosqlite:///{tmp_path}/x.sqlite", ManualClock())


@pytest.fixture
def postgres() -> Database:
    return open_database("postgresql+asyncpg://vsp@127.0.0.1/x", ManualClock())


def sqlite_error(name: str) -> sqlite3.OperationalError:
    error = sqlite3.OperationalError(name)
    error.sqlite_errorname = name
    return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (exc.IntegrityError("s", None, Exception()), Conflict),
        (exc.DataError("s", None, Exception()), Invalid),
        (UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogate"), Invalid),
        (OverflowError("too large"), Invalid),
        (exc.OperationalError("s", None, sqlite_error("SQLITE_BUSY")), Unavailable),
        (exc.OperationalError("s", None, sqlite_error("SQLITE_FULL")), Unavailable),
        (exc.DatabaseError("s", None, sqlite_error("SQLITE_CORRUPT_INDEX")), DataLoss),
        (exc.DatabaseError("s", None, sqlite_error("SQLITE_NOTADB")), DataLoss),
        (exc.ProgrammingError("s", None, Exception("bug")), Internal),
        (exc.TimeoutError("pool"), Unavailable),
        (ConnectionRefusedError(), Unavailable),
        (TimeoutError(), Unavailable),
    ],
)
def test_what_sqlite_raises_becomes_one_of_our_kinds(
    sqlite: Database, error: Exception, kind: type
):
    with pytest.raises(kind) as caught, sqlite.errors():
        raise error

    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("57P01", Unavailable),
        ("08006", Unavailable),
        ("53300", Unavailable),
        ("53100", Unavailable),
        ("40001", Unavailable),
        ("40P01", Unavailable),
        ("XX001", DataLoss),
        ("42601", Internal),
        ("", Internal),
    ],
)
def test_what_postgresql_raises_is_told_apart_by_its_state(
    postgres: Database, sqlstate: str, kind: type
):
    with pytest.raises(kind), postgres.errors():
        raise exc.DBAPIError("s", None, PostgresError(sqlstate))


def test_our_own_errors_pass_untouched(sqlite: Database):
    with pytest.raises(KeyError), sqlite.errors():
        raise KeyError


def test_the_url_chooses_the_database(sqlite: Database, postgres: Database):
    assert isinstance(sqlite, SqliteDatabase)
    assert isinstance(postgres, PostgresDatabase)
    assert (sqlite.migrates_itself, postgres.migrates_itself) == (True, False)


async def test_the_file_is_durable_private_and_its_readers_cannot_write(
    sqlite: Database, tmp_path: Path
):
    async def value(pragma: str) -> object:
        async with sqlite.write() as connection:
            return (await connection.exec_driver_sql(f"PRAGMA {pragma}")).scalar()

    assert await value("journal_mode") == "wal"
    assert await value("synchronous") == 2, "FULL"
    assert await value("foreign_keys") == 1
    assert stat.S_IMODE((tmp_path / "x.sqlite").stat().st_mode) == 0o600
    with pytest.raises(Unavailable, match="readonly"):
        async with sqlite.read() as connection:
            await connection.execute(sa.text("CREATE TABLE t (x INTEGER)"))
    await sqlite.close()


async def test_a_failed_transaction_leaves_nothing(sqlite: Database):
    async with sqlite.write() as connection:
        await connection.run_sync(segments.metadata.create_all)

    async def fail_half_way() -> None:
        async with sqlite.write() as connection:
            await connection.execute(sa.text("INSERT INTO leases VALUES ('a', 'b', 1, 1)"))
            raise KeyError

    with pytest.raises(KeyError):
        await fail_half_way()

    async with sqlite.read() as connection:
        assert (await connection.execute(sa.text("SELECT count(*) FROM leases"))).scalar() == 0
    await sqlite.close()
