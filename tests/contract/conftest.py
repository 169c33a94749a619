"""The contract suites run over every kind of database and of object store, all of them real.

A test of rows asks for `store`, and for `reopen` when it needs a second process; it then runs over
SQLite, PostgreSQL and memory. A test of what only SQL has is marked `of_sql`.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.contract.manual import CountingIds, ManualClock
from tests.services import PostgresServer, S3Server, postgres_server, run_apart, s3_server
from vsp.config import Config
from vsp.store import Objects, Store, migrate, open_objects, open_store
from vsp.store.memory import MemoryBucket, MemoryDatabase, MemoryObjects, open_memory

NODE = "node-t"

SQL = ("sqlite", "postgresql")

of_sql = pytest.mark.parametrize("databases", SQL, indirect=True, scope="session")
"""For a test of schema, triggers or connections: it is not collected for memory, which has none."""

Reopen = Callable[..., Awaitable[Store]]


@dataclass
class Databases:
    """Databases of one kind: SQLite's are copies of one file; PostgreSQL's is emptied again and
    again, because making one costs a second, unless a test says that it will alter the schema; in
    memory a new one costs nothing, and its configuration names none.
    """

    kind: str
    folder: Path
    server: PostgresServer | None = None
    shared: str = ""

    def new(self, folder: Path, *, own: bool = False) -> Config:
        """A configuration whose database is migrated and empty."""
        config = Config.model_validate({"node": {"data_dir": folder, "name": NODE}})
        if self.kind == "sqlite":
            shutil.copy(self.folder / "vsp.sqlite", folder / "vsp.sqlite")
        if self.server is None:
            return config
        run_apart(self.server.empty_database(self.shared))
        name = self.server.new_database(self.shared) if own else self.shared
        return with_database(config, self.server.url(name))

    def drop(self, config: Config) -> None:
        """Give its disk space back; files of SQLite go with pytest's own folder."""
        name = sa.make_url(config.database_url).database
        if self.server is not None and name != self.shared:
            self.server.drop_database(str(name))

    def bare(self, folder: Path) -> Config:
        """A configuration whose database has no schema."""
        config = Config.model_validate({"node": {"data_dir": folder, "name": NODE}})
        if self.server is not None:
            return with_database(config, self.server.url(self.server.new_database()))
        return config


def with_database(config: Config, url: str) -> Config:
    return config.model_copy(update={"database": config.database.model_copy(update={"url": url})})


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session", params=[*SQL, "memory"])
def databases(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Databases:
    folder = tmp_path_factory.mktemp("databases")
    config = Config.model_validate({"node": {"data_dir": folder}})
    if request.param == "memory":
        return Databases("memory", folder)
    if request.param == "sqlite":
        run_apart(migrate(config))
        return Databases("sqlite", folder)
    server: PostgresServer = request.getfixturevalue("postgres")
    shared = server.new_database()
    run_apart(migrate(with_database(config, server.url(shared))))
    return Databases("postgresql", folder, server, shared)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def ids() -> CountingIds:
    return CountingIds()


@pytest.fixture
def own_database() -> None:
    """Asked for by a test that alters the schema."""


@pytest.fixture
def config(
    request: pytest.FixtureRequest, databases: Databases, tmp_path: Path
) -> Iterator[Config]:
    made = databases.new(tmp_path, own="own_database" in request.fixturenames)
    yield made
    databases.drop(made)


@pytest.fixture
def reopen(databases: Databases, config: Config, clock: ManualClock, ids: CountingIds) -> Reopen:
    """Opens the test's one database, as each process does for itself; who opens closes."""
    memory = MemoryDatabase()

    async def open_again(node: str = NODE) -> Store:
        if databases.kind == "memory":
            return open_memory(memory, clock, ids, node)
        named = config.node.model_copy(update={"name": node})
        return await open_store(config.model_copy(update={"node": named}), clock, ids)

    return open_again


@pytest.fixture
async def store(reopen: Reopen) -> AsyncIterator[Store]:
    opened = await reopen()
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def seaweed() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["folder", "s3", "memory"])
def open_again(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Objects]:
    """Opens the same store as another process would."""
    if request.param == "memory":
        bucket, clock = MemoryBucket(), ManualClock()
        return lambda: MemoryObjects(bucket, clock)
    values: dict[str, object] = {"node": {"data_dir": tmp_path}}
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("seaweed")
        values["store"] = {
            "kind": "s3",
            "s3_endpoint": server.endpoint,
            "s3_bucket": "contract",
            "s3_secure": False,
            "s3_credentials": server.write_credentials(tmp_path / "credentials"),
        }
    config = Config.model_validate(values)
    return lambda: open_objects(config)


@pytest.fixture
async def objects(open_again: Callable[[], Objects]) -> AsyncIterator[Objects]:
    opened = open_again()
    yield opened
    await opened.close()
