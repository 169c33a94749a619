"""The two databases behind one face; every difference between them is a named method here.

SQLite (embedded default): one file in WAL mode with one writing connection and a few reading ones;
`synchronous=FULL`, because a row that was acknowledged must survive a power cut. PostgreSQL: one
pool, `synchronous_commit=on` for the same reason. Nothing outside this file and the migrations asks
which of the two it is.

    async with database.write() as connection: ...   # one transaction, committed on leaving
    async with database.read() as connection: ...    # one snapshot, never waits for a writer

Errors of a driver leave as kinds of `vsp.errors`: out of reach or busy is Unavailable, a broken
unique or foreign key is Conflict, a damaged file is DataLoss.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import event, exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool

from vsp.clock import MICROS
from vsp.errors import REFUSALS, Conflict, DataLoss, Internal, Invalid, Unavailable, VspError
from vsp.ports import Clock

BUSY_TIMEOUT_MS = 10_000
"""How long SQLite waits for another process (`vsp user add`) to end its transaction."""

LOG_BYTES_MAX = 64 << 20
"""SQLite's write-ahead log is cut back to this after a burst; it normally has 4 MiB."""

POOL_TIMEOUT_S = 15.0
"""Longest wait for a connection: more than BUSY_TIMEOUT_MS, so that the real reason is reported."""

SQLITE_READERS = 4
"""Reading connections of SQLite; each is a thread, and two cores serve no more."""

POSTGRES_CONNECTIONS = 16
"""Connections of one node; ten nodes stay below PostgreSQL's default of 100 only with a pooler."""

CONNECT_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 30.0
"""A statement of ours takes milliseconds; after this long the server is as good as gone."""

MIGRATION_LOCK = 0x7673_7001
"""Any number nobody else uses: key of PostgreSQL's advisory lock around migrations."""

CHUNK_ROWS = 250
"""Rows of one round trip: about 5 ms of loop time, and far below every limit on parameters."""


class Database(ABC):
    """A database that is open. `name` is SQLAlchemy's word for the dialect.

    migrates_itself   whether opening the store may change its schema: nobody else uses it
    on_refused        told of each write that the database did not take, whoever asked for it
    """

    name: str
    migrates_itself: bool
    on_refused: Callable[[VspError], None] | None = None

    @abstractmethod
    def reading_engine(self) -> AsyncEngine: ...

    @abstractmethod
    def writing_engine(self) -> AsyncEngine: ...

    @abstractmethod
    def migrating_engine(self) -> AsyncEngine:
        """An engine of its own for migrations; the caller disposes of it."""

    @abstractmethod
    def insert(self, table: sa.Table) -> postgresql.Insert:
        """INSERT that knows ON CONFLICT; both dialects' forms have the same methods."""

    @abstractmethod
    def now_us(self) -> sa.ColumnElement[int]:
        """The one clock that all holders of this database share, as an expression."""

    @abstractmethod
    def hold_migrations(self, connection: sa.Connection) -> None:
        """Until this transaction ends no other process migrates."""

    @abstractmethod
    async def hold(self, connection: AsyncConnection, name: str) -> None:
        """Until this transaction ends no other one holds `name`, in whatever process."""

    @abstractmethod
    def is_outage(self, error: exc.DBAPIError) -> bool:
        """Whether the database is out of reach or busy, so that trying again is sensible."""

    @abstractmethod
    def is_damage(self, error: exc.DBAPIError) -> bool:
        """Whether stored pages do not read as they should."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection inside one snapshot."""
        with self.errors():
            async with self.reading_engine().connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """A connection inside one transaction, durable when the block is left without error."""
        try:
            with self.errors():
                async with self.writing_engine().begin() as connection:
                    yield connection
        except REFUSALS as error:
            if self.on_refused is not None:
                self.on_refused(error)
            raise

    async def close(self) -> None:
        """Close every connection."""
        await self.reading_engine().dispose()
        await self.writing_engine().dispose()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what a driver raises into our kinds."""
        try:
            yield
        except exc.IntegrityError as error:
            raise Conflict("a row with this key exists, or one it needs does not") from error
        except (exc.DataError, UnicodeError, OverflowError) as error:
            raise Invalid("a value does not fit its column") from error
        except exc.DBAPIError as error:
            raise self._kind_of(error) from error
        except (exc.TimeoutError, OSError, TimeoutError) as error:
            raise _unavailable(error) from error

    def _kind_of(self, error: exc.DBAPIError) -> Exception:
        if self.is_damage(error):
            return DataLoss(
                f"the {self.name} database is damaged: {error.orig}",
                next_step="restore the last backup, then run `vsp rebuild-index`",
            )
        if error.connection_invalidated or self.is_outage(error):
            return _unavailable(error.orig or error)
        return Internal(f"{self.name} refused a statement: {error.orig}")


def _unavailable(error: BaseException) -> Unavailable:
    return Unavailable(
        f"the database does not answer: {type(error).__name__}: {error}",
        cause="the database is out of reach, busy or out of space",
        next_step="look at the database server (or at the disk of node.data_dir)",
    )


class SqliteDatabase(Database):
    """The embedded default: one file, one writer."""

    name = "sqlite"
    migrates_itself = True

    def __init__(self, url: sa.URL, clock: Clock) -> None:
        self._url = url
        self._clock = clock
        _make_private_file(Path(url.database or ""))
        self._writer = self._engine(1, _WRITER_PRAGMAS, "BEGIN IMMEDIATE")
        self._readers = self._engine(SQLITE_READERS, _READER_PRAGMAS, "BEGIN")

    def reading_engine(self) -> AsyncEngine:
        return self._readers

    def writing_engine(self) -> AsyncEngine:
        return self._writer

    def migrating_engine(self) -> AsyncEngine:
        # Batch mode makes a table anew and renames it, which foreign keys would refuse.
        return self._engine(0, _MIGRATION_PRAGMAS, "BEGIN EXCLUSIVE")

    def insert(self, table: sa.Table) -> postgresql.Insert:
        return cast("postgresql.Insert", sqlite.insert(table))

    def now_us(self) -> sa.ColumnElement[int]:
        return sa.literal(self._clock.now_us(), sa.BigInteger)

    def hold_migrations(self, connection: sa.Connection) -> None:
        """BEGIN EXCLUSIVE holds the file already."""

    async def hold(self, connection: AsyncConnection, name: str) -> None:
        """BEGIN IMMEDIATE holds everything that can be written."""

    def is_outage(self, error: exc.DBAPIError) -> bool:
        return isinstance(error, exc.OperationalError | exc.InterfaceError)

    def is_damage(self, error: exc.DBAPIError) -> bool:
        name = getattr(error.orig, "sqlite_errorname", "")
        return name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))

    def _engine(self, connections: int, pragmas: tuple[str, ...], begin: str) -> AsyncEngine:
        pool: dict[str, Any] = {"poolclass": NullPool}
        if connections:
            pool = {
                "poolclass": AsyncAdaptedQueuePool,
                "pool_size": connections,
                "max_overflow": 0,
                "pool_timeout": POOL_TIMEOUT_S,
            }
        engine = create_async_engine(self._url, **pool)
        event.listen(engine.sync_engine, "connect", _sqlite_setup(pragmas))
        event.listen(engine.sync_engine, "begin", lambda c: c.exec_driver_sql(begin))
        return engine


_COMMON_PRAGMAS = (
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    f"PRAGMA journal_size_limit={LOG_BYTES_MAX}",
    "PRAGMA trusted_schema=OFF",
)
_WRITER_PRAGMAS = (*_COMMON_PRAGMAS, "PRAGMA foreign_keys=ON")
_READER_PRAGMAS = (*_COMMON_PRAGMAS, "PRAGMA query_only=ON")
_MIGRATION_PRAGMAS = (*_COMMON_PRAGMAS, "PRAGMA foreign_keys=OFF")


def _sqlite_setup(pragmas: tuple[str, ...]) -> Callable[[DBAPIConnection, object], None]:
    def setup(connection: DBAPIConnection, _record: object) -> None:
        connection.isolation_level = None  # we BEGIN ourselves; the driver would do it too late
        try:
            cursor = connection.cursor()
            for pragma in pragmas:
                cursor.execute(pragma)
            cursor.close()
        except BaseException:
            connection.close()  # nobody else knows of it yet
            raise

    return setup


def _make_private_file(path: Path) -> None:
    """The file holds password hashes: for us alone, before SQLite makes it for everyone."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Unavailable(
            f"database file {path} cannot be opened: {error.strerror}",
            next_step="check node.data_dir and who owns it",
        ) from error


class PostgresDatabase(Database):
    """The clustered form: one pool, truth shared with other nodes."""

    name = "postgresql"
    migrates_itself = False

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self._pool = self._engine(
            pool_size=POSTGRES_CONNECTIONS,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=True,  # a restart of the server must not fail the next statement
        )

    def reading_engine(self) -> AsyncEngine:
        return self._pool

    def writing_engine(self) -> AsyncEngine:
        return self._pool

    def migrating_engine(self) -> AsyncEngine:
        return self._engine(poolclass=NullPool)

    def insert(self, table: sa.Table) -> postgresql.Insert:
        return postgresql.insert(table)

    def now_us(self) -> sa.ColumnElement[int]:
        seconds = sa.extract("epoch", sa.func.clock_timestamp())
        return sa.cast(seconds * MICROS, sa.BigInteger)

    def hold_migrations(self, connection: sa.Connection) -> None:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))

    async def hold(self, connection: AsyncConnection, name: str) -> None:
        key = sa.func.hashtextextended(name, 0)
        await connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))

    def is_outage(self, error: exc.DBAPIError) -> bool:
        if isinstance(error, exc.OperationalError | exc.InterfaceError):
            return True
        # Class 08 connection, 40 rollback, 53 resources, 57 operator intervention.
        return str(getattr(error.orig, "sqlstate", "") or "")[:2] in {"08", "40", "53", "57"}

    def is_damage(self, error: exc.DBAPIError) -> bool:
        return str(getattr(error.orig, "sqlstate", "") or "").startswith("XX")

    def _engine(self, **pool: object) -> AsyncEngine:
        return create_async_engine(
            self._url,
            connect_args={
                "timeout": CONNECT_TIMEOUT_S,
                "command_timeout": COMMAND_TIMEOUT_S,
                "server_settings": {
                    "application_name": "vsp",
                    # Plans of ours are short; compiling them costs more than running them.
                    "jit": "off",
                    # A committed row is durable (I1), whatever this server or role has as default.
                    "synchronous_commit": "on",
                },
            },
            **pool,
        )


def open_database(url: str, clock: Clock) -> Database:
    """The database of a SQLAlchemy URL. Connects at first use. Raises Invalid for other kinds."""
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError as error:
        raise Invalid("database.url is no SQLAlchemy URL") from error
    if parsed.drivername == "sqlite+aiosqlite":
        return SqliteDatabase(parsed, clock)
    if parsed.drivername == "postgresql+asyncpg":
        return PostgresDatabase(parsed)
    raise Invalid(
        f"database.url names {parsed.drivername}",
        next_step="use sqlite+aiosqlite:///path or postgresql+asyncpg://user@host/name",
    )
