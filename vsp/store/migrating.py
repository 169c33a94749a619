"""Bringing a database to the schema of this version: one chain of revisions for both databases.

The embedded SQLite is migrated whenever it is opened. PostgreSQL is migrated by `vsp migrate` only:
several nodes share it, and an administrator chooses the moment.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import command
from alembic.config import Config as AlembicConfig
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from vsp.clock import SystemClock
from vsp.config import Config
from vsp.errors import Conflict, Invalid
from vsp.store.engine import Database, open_database

SCRIPTS = "vsp.store:migrations"


async def migrate(config: Config, revision: str = "head") -> None:
    """Bring the database to `revision`, up or down ("base" empties it), in one transaction.

    Raises Invalid for an unknown revision, Unavailable when the database is out of reach.
    """
    database = open_database(config.database_url, SystemClock())
    try:
        await migrate_database(database, revision)
    finally:
        await database.close()


async def migrate_database(database: Database, revision: str = "head") -> None:
    """`migrate`, for a database that is open."""
    engine = database.migrating_engine()
    try:
        with database.errors():
            async with engine.begin() as connection:
                await connection.run_sync(_migrate, database, revision)
    finally:
        await engine.dispose()


async def check_revision(database: Database) -> None:
    """Raises Conflict unless the schema is exactly this version's."""
    async with database.read() as connection:
        found = await connection.run_sync(_revision)
    wanted = ScriptDirectory.from_config(_alembic()).get_current_head()
    if found != wanted:
        raise Conflict(
            f"the database schema is at revision {found or 'none'}, this version needs {wanted}",
            next_step="run `vsp migrate`",
        )


def _alembic(connection: sa.Connection | None = None) -> AlembicConfig:
    alembic = AlembicConfig(attributes={"connection": connection})
    alembic.set_main_option("script_location", SCRIPTS)
    return alembic


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _migrate(connection: sa.Connection, database: Database, revision: str) -> None:
    database.hold_migrations(connection)
    current = _revision(connection)
    alembic = _alembic(connection=connection)
    script = ScriptDirectory.from_config(alembic)
    try:
        if _is_downgrade(script, current, revision):
            command.downgrade(alembic, revision)
        else:
            command.upgrade(alembic, revision)
    except CommandError as error:
        raise Invalid(f"cannot migrate from {current or 'base'} to {revision}: {error}") from error


def _is_downgrade(script: ScriptDirectory, current: str | None, target: str) -> bool:
    if target == "head" or current is None:
        return False
    if target == "base":
        return True
    below = {step.revision for step in script.iterate_revisions(current, "base")}
    return target in below - {current}
