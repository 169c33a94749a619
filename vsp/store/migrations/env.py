"""Run by alembic for every command; the connection is handed in by `vsp.store.migrating`."""

from alembic import context

from vsp.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by making it anew
)
context.run_migrations()
