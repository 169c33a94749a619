"""The first schema.

A revision is frozen: it never imports `vsp.store.tables`, which goes on changing.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for create in TABLES.values():
        create()
    _forbid_rewriting_audit()


def downgrade() -> None:
    _allow_rewriting_audit()
    for table in reversed(TABLES):
        op.drop_table(table)


def _forbid_rewriting_audit() -> None:
    """Audit rows are only added. Whoever owns the database can drop this: the chain shows it."""
    if op.get_bind().dialect.name == "sqlite":
        for verb in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_refuses_{verb.lower()} BEFORE {verb} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'audit rows are only added'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'audit rows are only added'; END$$"
    )
    op.execute(
        "CREATE TRIGGER audit_refuses_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()"
    )


def _allow_rewriting_audit() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER audit_refuses_update")
        op.execute("DROP TRIGGER audit_refuses_delete")
        return
    op.execute("DROP TRIGGER audit_refuses_change ON audit")
    op.execute("DROP FUNCTION audit_refuses()")


def _devices() -> None:
    op.create_table(
        "devices",
        sa.Column("id", _ID, nullable=False),
        sa.Column("gb_id", _ID, nullable=False, comment="code of the device, chosen by others"),
        sa.Column(
            "name",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="given by an administrator; empty: use reported_name",
        ),
        sa.Column(
            "reported_name",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="from the device's DeviceInfo",
        ),
        sa.Column(
            "manufacturer", sa.Text(), server_default="", nullable=False, comment="from DeviceInfo"
        ),
        sa.Column("model", sa.Text(), server_default="", nullable=False, comment="from DeviceInfo"),
        sa.Column(
            "firmware", sa.Text(), server_default="", nullable=False, comment="from DeviceInfo"
        ),
        sa.Column(
            "sealed_password", sa.LargeBinary(), nullable=False, comment="AES-GCM, see vsp/seal"
        ),
        sa.Column(
            "default_plan", sa.Text(), nullable=False, comment="RecordPlan its channels inherit"
        ),
        sa.Column(
            "auth_username",
            sa.Text(),
            nullable=True,
            comment="digest user name when it is not the code",
        ),
        sa.Column(
            "transport",
            sa.Text(),
            nullable=True,
            comment="wished SIP transport; null: what it registers over",
        ),
        sa.Column(
            "media_transport", sa.Text(), nullable=True, comment="null: the platform's default"
        ),
        sa.Column("charset", sa.Text(), nullable=False, comment="of MANSCDP bodies sent to it"),
        sa.Column(
            "version",
            sa.Text(),
            nullable=True,
            comment="forced GB/T 28181 version; null: as it says",
        ),
        sa.Column("digest", sa.Text(), nullable=False, comment="digest algorithm offered to it"),
        sa.Column(
            "keepalive_interval_s",
            sa.Integer(),
            nullable=True,
            comment="s; null: the platform's default",
        ),
        sa.Column(
            "keepalive_misses",
            sa.Integer(),
            nullable=True,
            comment="count; null: the platform's default",
        ),
        sa.Column(
            "send_date", sa.Boolean(), nullable=False, comment="Date in the answer to REGISTER"
        ),
        sa.Column("presence", sa.Text(), nullable=False, comment="online, offline or unknown"),
        sa.Column(
            "presence_since_us",
            sa.BigInteger(),
            nullable=False,
            comment="since when presence holds; us UTC",
        ),
        sa.Column(
            "last_seen_us",
            sa.BigInteger(),
            nullable=True,
            comment="last message from it, written behind; us UTC",
        ),
        sa.Column("binding_transport", sa.Text(), nullable=True, comment="null: not registered"),
        sa.Column(
            "binding_host", sa.Text(), nullable=True, comment="source address of its REGISTER"
        ),
        sa.Column("binding_port", sa.Integer(), nullable=True),
        sa.Column("binding_contact", sa.Text(), nullable=True, comment="Contact URI as sent"),
        sa.Column(
            "binding_registered_at_us",
            sa.BigInteger(),
            nullable=True,
            comment="when it registered; us UTC",
        ),
        sa.Column(
            "binding_expires_at_us",
            sa.BigInteger(),
            nullable=True,
            comment="end of the registration; us UTC",
        ),
        sa.Column("binding_user_agent", sa.Text(), nullable=True),
        sa.Column("binding_gb_version", sa.Text(), nullable=True, comment="X-GB-Ver as sent"),
        sa.Column(
            "catalog_received", sa.BigInteger(), nullable=False, comment="items of last answer"
        ),
        sa.Column(
            "catalog_expected", sa.BigInteger(), nullable=True, comment="SumNum of the last answer"
        ),
        sa.Column("catalog_complete", sa.Boolean(), nullable=False),
        sa.Column(
            "catalog_at_us",
            sa.BigInteger(),
            nullable=True,
            comment="when the last catalogue answer ended; us UTC",
        ),
        sa.Column(
            "created_at_us", sa.BigInteger(), nullable=False, comment="when it was added; us UTC"
        ),
        sa.Column(
            "removed_at_us",
            sa.BigInteger(),
            nullable=True,
            comment="when it was removed; the row stays for its recordings; us UTC",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_devices")),
        comment="peers below us that may register",
    )
    op.create_index(
        "uq_devices_gb_id_present",
        "devices",
        ["gb_id"],
        unique=True,
        sqlite_where=sa.text("removed_at_us IS NULL"),
        postgresql_where=sa.text("removed_at_us IS NULL"),
    )


def _channels() -> None:
    op.create_table(
        "channels",
        sa.Column("id", _ID, nullable=False),
        sa.Column("device_id", _ID, nullable=False),
        sa.Column("gb_id", _ID, nullable=False),
        sa.Column(
            "given_name",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="by an administrator; empty: use reported_name",
        ),
        sa.Column(
            "reported_name",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="from the catalogue",
        ),
        sa.Column("playable", sa.Boolean(), nullable=False, comment="model/catalog.py says how"),
        sa.Column("presence", sa.Text(), nullable=False, comment="our judgement"),
        sa.Column(
            "presence_since_us",
            sa.BigInteger(),
            nullable=False,
            comment="since when presence holds; us UTC",
        ),
        sa.Column("reported", sa.Text(), nullable=False, comment="presence as its device says"),
        sa.Column("parent_gb_id", _ID, nullable=False, comment="parent shown in a tree"),
        sa.Column(
            "civil_code",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="as reported, often junk",
        ),
        sa.Column(
            "record_plan",
            sa.Text(),
            nullable=True,
            comment="RecordPlan; null: its device's default_plan",
        ),
        sa.Column(
            "manufacturer",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="from the catalogue",
        ),
        sa.Column(
            "model", sa.Text(), server_default="", nullable=False, comment="from the catalogue"
        ),
        sa.Column(
            "address", sa.Text(), server_default="", nullable=False, comment="from the catalogue"
        ),
        sa.Column("longitude", sa.Double(), nullable=True, comment="degrees, datum as reported"),
        sa.Column("latitude", sa.Double(), nullable=True, comment="degrees, datum as reported"),
        sa.Column("ptz_type", sa.Integer(), nullable=True, comment="Info/PTZType"),
        sa.Column(
            "missing_since_us",
            sa.BigInteger(),
            nullable=True,
            comment="first complete catalogue without it; us UTC",
        ),
        sa.Column(
            "created_at_us",
            sa.BigInteger(),
            nullable=False,
            comment="first catalogue with it; us UTC",
        ),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name=op.f("fk_channels_device_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channels")),
        sa.UniqueConstraint("device_id", "gb_id", name="uq_channels_device_id_gb_id"),
        comment="items of the devices' catalogues, playable or not",
    )
    op.create_index("ix_channels_gb_id_id", "channels", ["gb_id", "id"], unique=False)


def _catalogue_facts() -> None:
    op.create_table(
        "catalogue_facts",
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("owner", sa.Text(), server_default="", nullable=False, comment="as reported"),
        sa.Column("parental", sa.Boolean(), nullable=False, comment="says that it has children"),
        sa.Column(
            "parent_ids", sa.Text(), nullable=False, comment="JSON: every parent named, in order"
        ),
        sa.Column("business_group_id", sa.Text(), nullable=False),
        sa.Column("secrecy", sa.Integer(), nullable=False),
        sa.Column(
            "extra", sa.Text(), nullable=False, comment="JSON: further elements, name and text"
        ),
        sa.Column(
            "fingerprint", sa.Text(), nullable=False, comment="BLAKE2b of the item as reported"
        ),
        sa.Column(
            "reported_at_us",
            sa.BigInteger(),
            nullable=False,
            comment="catalogue answer that last changed it; us UTC",
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channels.id"], name=op.f("fk_catalogue_facts_channel_id")
        ),
        sa.PrimaryKeyConstraint("channel_id", name=op.f("pk_catalogue_facts")),
        comment="what a catalogue says beyond what lists show",
    )


def _candidates() -> None:
    op.create_table(
        "candidates",
        sa.Column("gb_id", _ID, nullable=False),
        sa.Column(
            "host",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="source address of the last REGISTER",
        ),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("transport", sa.Text(), nullable=False),
        sa.Column("user_agent", sa.Text(), server_default="", nullable=False, comment="as sent"),
        sa.Column(
            "first_seen_us", sa.BigInteger(), nullable=False, comment="first REGISTER; us UTC"
        ),
        sa.Column("last_seen_us", sa.BigInteger(), nullable=False, comment="last REGISTER; us UTC"),
        sa.Column("attempts", sa.BigInteger(), nullable=False, comment="REGISTERs seen"),
        sa.PrimaryKeyConstraint("gb_id", name=op.f("pk_candidates")),
        comment="unknown devices that knock; bounded, oldest go first",
    )
    op.create_index(
        "ix_candidates_first_seen_us", "candidates", ["first_seen_us", "gb_id"], unique=False
    )


def _regions() -> None:
    op.create_table(
        "regions",
        sa.Column("version", _NUMBER, nullable=False, comment="order of recording"),
        sa.Column("id", _ID, nullable=False),
        sa.Column("code", sa.Text(), nullable=False, comment="2, 4, 6, 9 or 12 digits by level"),
        sa.Column("name", sa.Text(), server_default="", nullable=False, comment="official name"),
        sa.Column("level", sa.Text(), nullable=False, comment="province city county town village"),
        sa.Column("parent_id", _ID, nullable=True),
        sa.Column(
            "valid_from_us",
            sa.BigInteger(),
            nullable=False,
            comment="from when this version speaks; us UTC",
        ),
        sa.Column(
            "valid_to_us",
            sa.BigInteger(),
            nullable=True,
            comment="end of the region; null: none known; us UTC",
        ),
        sa.Column(
            "recorded_at_us",
            sa.BigInteger(),
            nullable=False,
            comment="when this version was recorded; us UTC",
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_regions")),
        comment="administrative regions, five levels, all versions",
    )
    op.create_index("ix_regions_id", "regions", ["id", "version"], unique=False)


def _departments() -> None:
    op.create_table(
        "departments",
        sa.Column("version", _NUMBER, nullable=False, comment="order of recording"),
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False, comment="official name"),
        sa.Column(
            "kind",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="police, transport, city management, ...",
        ),
        sa.Column("region_id", _ID, nullable=True),
        sa.Column(
            "valid_from_us",
            sa.BigInteger(),
            nullable=False,
            comment="from when this version speaks; us UTC",
        ),
        sa.Column(
            "valid_to_us",
            sa.BigInteger(),
            nullable=True,
            comment="end of the department; null: none known; us UTC",
        ),
        sa.Column(
            "recorded_at_us",
            sa.BigInteger(),
            nullable=False,
            comment="when this version was recorded; us UTC",
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_departments")),
        comment="bodies that own or share cameras, all versions",
    )
    op.create_index("ix_departments_id", "departments", ["id", "version"], unique=False)


def _channel_placements() -> None:
    op.create_table(
        "channel_placements",
        sa.Column("version", _NUMBER, nullable=False, comment="order of recording"),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("region_id", _ID, nullable=True),
        sa.Column("department_id", _ID, nullable=True),
        sa.Column("klass", sa.Text(), nullable=False, comment="ChannelClass"),
        sa.Column("label", sa.Text(), nullable=False, comment="ChannelLabel"),
        sa.Column(
            "valid_from_us",
            sa.BigInteger(),
            nullable=False,
            comment="from when this version speaks; us UTC",
        ),
        sa.Column(
            "valid_to_us",
            sa.BigInteger(),
            nullable=True,
            comment="end of the placement; null: none known; us UTC",
        ),
        sa.Column(
            "recorded_at_us",
            sa.BigInteger(),
            nullable=False,
            comment="when this version was recorded; us UTC",
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"], ["channels.id"], name=op.f("fk_channel_placements_channel_id")
        ),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_channel_placements")),
        comment="where a channel belongs and which promise covers it, all versions",
    )
    op.create_index(
        "ix_channel_placements_channel_id",
        "channel_placements",
        ["channel_id", "version"],
        unique=False,
    )


def _change_points() -> None:
    op.create_table(
        "change_points",
        sa.Column("id", _NUMBER, nullable=False, comment="order of arrival"),
        sa.Column("subject", _ID, nullable=False, comment="device:{id} or channel:{id}"),
        sa.Column("axis", sa.Text(), nullable=False, comment="Axis"),
        sa.Column(
            "at_us", sa.BigInteger(), nullable=False, comment="from when the state holds; us UTC"
        ),
        sa.Column(
            "state", sa.Text(), server_default="", nullable=False, comment="a word of the axis"
        ),
        sa.Column(
            "cause", sa.Text(), server_default="", nullable=False, comment="why, in one sentence"
        ),
        sa.Column(
            "evidence", sa.Text(), server_default="", nullable=False, comment="what was seen"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_change_points")),
        comment="every state of everything, append-only; a state holds until the next point",
    )
    op.create_index(
        "ix_change_points_subject",
        "change_points",
        ["subject", "axis", "at_us", "id"],
        unique=False,
    )


def _segments() -> None:
    op.create_table(
        "segments",
        sa.Column("key", _ID, nullable=False, comment="of the object, durable before this row"),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column("container", sa.Text(), nullable=False, comment="mp4 or ps"),
        sa.Column(
            "run_us",
            sa.BigInteger(),
            nullable=False,
            comment="start of the run's first segment; us UTC",
        ),
        sa.Column("n", sa.Integer(), nullable=False, comment="position in the run, from 0"),
        sa.Column(
            "start_us",
            sa.BigInteger(),
            nullable=False,
            comment="arrival of the first access unit; us UTC",
        ),
        sa.Column(
            "end_us",
            sa.BigInteger(),
            nullable=False,
            comment="arrival of the last one plus its duration; us UTC",
        ),
        sa.Column("start_90k", sa.BigInteger(), nullable=False, comment="first tfdt; 1/90000 s"),
        sa.Column("duration_90k", sa.BigInteger(), nullable=False, comment="media time; 1/90000 s"),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False, comment="of the object, lower-case hex"),
        sa.Column("init_bytes", sa.Integer(), nullable=False, comment="length of ftyp moov"),
        sa.Column(
            "fragments",
            sa.LargeBinary(),
            nullable=False,
            comment="triples of little-endian u32: ms from start_us, byte offset, byte length",
        ),
        sa.Column("video", sa.Text(), nullable=True, comment="VideoCodec"),
        sa.Column("audio", sa.Text(), nullable=True, comment="AudioCodec"),
        sa.Column("codecs", sa.Text(), nullable=False, comment="RFC 6381 codecs string"),
        sa.Column("width", sa.Integer(), nullable=False, comment="pixels"),
        sa.Column("height", sa.Integer(), nullable=False, comment="pixels"),
        sa.Column("frames", sa.Integer(), nullable=False),
        sa.Column("damaged_frames", sa.Integer(), nullable=False),
        sa.Column("end_reason", sa.Text(), nullable=False, comment="EndReason"),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_segments")),
        comment="what is stored: a row is written only after its object is durable (I1)",
    )
    op.create_index("ix_segments_channel_end", "segments", ["channel_id", "end_us"], unique=False)
    op.create_index(
        "ix_segments_channel_start", "segments", ["channel_id", "start_us", "end_us"], unique=False
    )


def _streams() -> None:
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
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_streams")),
        comment="inbound streams that are up, with their dialogs; survives a restart of the node",
    )


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("id", _ID, nullable=False),
        sa.Column("channel_id", _ID, nullable=False),
        sa.Column(
            "started_us", sa.BigInteger(), nullable=False, comment="when the attempt began; us UTC"
        ),
        sa.Column(
            "ended_us", sa.BigInteger(), nullable=True, comment="when its outcome was known; us UTC"
        ),
        sa.Column("purpose", sa.Text(), nullable=False, comment="live, record, ..."),
        sa.Column("transport", sa.Text(), nullable=True, comment="MediaTransport"),
        sa.Column("call_id", sa.Text(), nullable=False),
        sa.Column("succeeded", sa.Boolean(), nullable=True, comment="null: under way"),
        sa.Column("leg", sa.Text(), nullable=True, comment="Leg that failed"),
        sa.Column("cause", sa.Text(), server_default="", nullable=False, comment="for people"),
        sa.Column("next_step", sa.Text(), server_default="", nullable=False, comment="for people"),
        sa.Column("steps", sa.Text(), nullable=False, comment="JSON: at_us, what, detail"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        comment="tries to get a picture; the last ones of each channel",
    )
    op.create_index(
        "ix_attempts_channel_id", "attempts", ["channel_id", "started_us", "id"], unique=False
    )


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("name_key", _ID, nullable=False, comment="name, case folded"),
        sa.Column(
            "display_name", sa.Text(), server_default="", nullable=False, comment="for people"
        ),
        sa.Column("role", sa.Text(), nullable=False, comment="Role"),
        sa.Column("department_id", _ID, nullable=True),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("must_change_password", sa.Boolean(), nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=False, comment="argon2id, PHC string"),
        sa.Column(
            "created_at_us",
            sa.BigInteger(),
            nullable=False,
            comment="when the account was made; us UTC",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name_key", name=op.f("uq_users_name_key")),
        comment="people who may sign in",
    )


def _web_sessions() -> None:
    op.create_table(
        "web_sessions",
        sa.Column("token_hash", _ID, nullable=False, comment="the token itself is not stored"),
        sa.Column("user_id", _ID, nullable=False),
        sa.Column("created_at_us", sa.BigInteger(), nullable=False, comment="sign-in; us UTC"),
        sa.Column(
            "seen_at_us",
            sa.BigInteger(),
            nullable=False,
            comment="last request, written now and then; us UTC",
        ),
        sa.Column("expires_at_us", sa.BigInteger(), nullable=False, comment="us UTC"),
        sa.Column(
            "address", sa.Text(), server_default="", nullable=False, comment="of the sign-in"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_web_sessions_user_id")),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_web_sessions")),
        comment="signed-in sessions",
    )
    op.create_index(
        op.f("ix_web_sessions_expires_at_us"), "web_sessions", ["expires_at_us"], unique=False
    )
    op.create_index(op.f("ix_web_sessions_user_id"), "web_sessions", ["user_id"], unique=False)


def _sign_ins() -> None:
    op.create_table(
        "sign_ins",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("name_key", _ID, nullable=False, comment="name as typed, case folded"),
        sa.Column(
            "address", sa.Text(), server_default="", nullable=False, comment="where it came from"
        ),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False, comment="us UTC"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sign_ins")),
        comment="tries to sign in, for locks; kept 30 days",
    )
    op.create_index(op.f("ix_sign_ins_at_us"), "sign_ins", ["at_us"], unique=False)
    op.create_index("ix_sign_ins_name_key", "sign_ins", ["name_key", "at_us"], unique=False)


def _audit() -> None:
    op.create_table(
        "audit",
        sa.Column("node", _ID, nullable=False, comment="one chain a node"),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False, comment="from 1"),
        sa.Column("act_id", _ID, nullable=False, comment="joins the opening and the ending row"),
        sa.Column("phase", sa.Text(), nullable=False, comment="opened or ended"),
        sa.Column(
            "at_us", sa.BigInteger(), nullable=False, comment="when the row was written; us UTC"
        ),
        sa.Column(
            "actor",
            sa.Text(),
            server_default="",
            nullable=False,
            comment="name of the user, or who it was said to be",
        ),
        sa.Column(
            "address", sa.Text(), server_default="", nullable=False, comment="where it came from"
        ),
        sa.Column("action", sa.Text(), nullable=False, comment="Action"),
        sa.Column(
            "subject", sa.Text(), server_default="", nullable=False, comment="what was acted on"
        ),
        sa.Column(
            "reason", sa.Text(), server_default="", nullable=False, comment="given by the actor"
        ),
        sa.Column("result", sa.Text(), nullable=False, comment="ok, an error's kind, cancelled"),
        sa.Column(
            "detail", sa.Text(), server_default="", nullable=False, comment="what is worth keeping"
        ),
        sa.Column(
            "previous_hash", sa.Text(), nullable=False, comment="hash of seq - 1; zeros at seq 1"
        ),
        sa.Column("hash", sa.Text(), nullable=False, comment="SHA-256, see store/audit.py"),
        sa.PrimaryKeyConstraint("node", "seq", name=op.f("pk_audit")),
        comment="who did what; hash-chained; UPDATE and DELETE are refused by triggers",
    )
    op.create_index("ix_audit_at_us", "audit", ["at_us", "node", "seq"], unique=False)


def _leases() -> None:
    op.create_table(
        "leases",
        sa.Column("name", _ID, nullable=False),
        sa.Column("holder", _ID, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False, comment="grows with every new holding"),
        sa.Column(
            "until_us",
            sa.BigInteger(),
            nullable=False,
            comment="end unless renewed, by the database's clock; us UTC",
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
        comment="rights to act alone, with a fencing epoch",
    )


TABLES = {
    "devices": _devices,
    "channels": _channels,
    "catalogue_facts": _catalogue_facts,
    "candidates": _candidates,
    "regions": _regions,
    "departments": _departments,
    "channel_placements": _channel_placements,
    "change_points": _change_points,
    "segments": _segments,
    "streams": _streams,
    "attempts": _attempts,
    "users": _users,
    "web_sessions": _web_sessions,
    "sign_ins": _sign_ins,
    "audit": _audit,
    "leases": _leases,
}
