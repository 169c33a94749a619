"""A ledger of dialogs, keyed by themselves, in place of streams that were keyed by their sessions.

One session may have several dialogs: while a new one is up, the BYE of the one before is owed.
"""

from __future__ import annotations

import hashlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")

DIALOG = (
    "call_id",
    "local_uri",
    "local_tag",
    "remote_uri",
    "remote_tag",
    "remote_target",
    "cseq",
    "transport",
    "host",
    "port",
)
USE = ("device_id", "channel_id", "session_id", "worker_id")


def upgrade() -> None:
    op.create_table(
        "dialogs",
        sa.Column("id", _ID, nullable=False, comment="hash of Call-ID and both tags"),
        sa.Column("device_id", _ID),
        sa.Column("channel_id", _ID, comment="with session and worker, or without both"),
        sa.Column("session_id", _ID),
        sa.Column("worker_id", sa.Integer()),
        sa.Column(
            "began_us",
            sa.BigInteger(),
            nullable=False,
            comment="when the INVITE was answered; us UTC",
        ),
        sa.Column(
            "ending_us",
            sa.BigInteger(),
            comment="since when a BYE is owed; none: it is up; us UTC",
        ),
        *_of_a_dialog(),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dialogs")),
        comment="dialogs that devices believe in: those that are up, and those whose BYE is owed",
    )
    for row in _rows("streams"):
        _insert(
            "dialogs",
            {
                "id": _id_of(row),
                "began_us": row["started_us"],
                **{name: row[name] for name in (*USE, *DIALOG)},
            },
        )
    op.drop_table("streams")


def downgrade() -> None:
    """Dialogs whose BYE is owed are forgotten: the table of before had no place for them."""
    op.create_table(
        "streams",
        sa.Column("session_id", _ID, nullable=False),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("device_id", _ID, nullable=False),
        sa.Column("worker_id", sa.Integer(), nullable=False),
        sa.Column(
            "started_us",
            sa.BigInteger(),
            nullable=False,
            comment="when the INVITE was answered; us UTC",
        ),
        *_of_a_dialog(),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_streams")),
        comment="inbound streams that are up, with their dialogs; survives a restart of the node",
    )
    up = [row for row in _rows("dialogs") if row["ending_us"] is None]
    for row in {row["session_id"]: row for row in up if row["session_id"] is not None}.values():
        values = {name: row[name] for name in (*USE, *DIALOG)}
        _insert("streams", {"started_us": row["began_us"], **values})
    op.drop_table("dialogs")


def _of_a_dialog() -> list[sa.Column[object]]:
    return [
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("local_uri", sa.Text(), nullable=False),
        sa.Column("local_tag", sa.Text(), nullable=False),
        sa.Column("remote_uri", sa.Text(), nullable=False),
        sa.Column("remote_tag", sa.Text(), nullable=False),
        sa.Column("remote_target", sa.Text(), nullable=False, comment="Contact of the answer"),
        sa.Column("cseq", sa.BigInteger(), nullable=False, comment="last one used by us"),
        sa.Column("transport", sa.Text(), nullable=False, comment="of signalling"),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
    ]


def _rows(table: str) -> list[sa.RowMapping]:
    return list(op.get_bind().execute(sa.text(f"SELECT * FROM {table}")).mappings())


def _insert(table: str, values: dict[str, object]) -> None:
    columns = sa.table(table, *(sa.column(name) for name in values))
    op.get_bind().execute(columns.insert().values(values))


def _id_of(row: sa.RowMapping) -> str:
    key = (row["call_id"], row["local_tag"], row["remote_tag"])
    return hashlib.sha256("\0".join(key).encode("utf-8", "replace")).hexdigest()[:32]
