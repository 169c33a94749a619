"""The schema, in its final shape for both databases.

Instants end in `_us`: integer microseconds since 1970-01-01T00:00:00Z. Lengths of time end in their
unit. Identifiers are ours (`Ids.row_id`) unless named `gb_id`, the 20-digit code chosen by others,
which is an attribute and never a key to anything else.

Three habits of these tables:
- registers (regions, departments, placements) are append-only versions with validity and the time
  of recording; `as of` is a query (people.py says which version speaks);
- `change_points` holds every state of everything; intervals are derived, never stored;
- `audit` is a hash chain a node, refused to UPDATE and DELETE by triggers.

A change here needs a revision in migrations/; a test compares the two on both databases.
"""

from __future__ import annotations

import sqlalchemy as sa

from vsp.store.columns import NOTE_MAX, Pairs, Words, id_text, row_number

metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)


def _instant(name: str, comment: str, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable, comment=f"{comment}; us UTC")


def _words(name: str, comment: str) -> sa.Column[str]:
    return sa.Column(name, Words(), nullable=False, server_default="", comment=comment)


def _note(name: str, comment: str) -> sa.Column[str]:
    return sa.Column(name, Words(NOTE_MAX), nullable=False, server_default="", comment=comment)


# ---- devices and channels -------------------------------------------------------------------

devices = sa.Table(
    "devices",
    metadata,
    sa.Column("id", id_text(), primary_key=True),
    sa.Column("gb_id", id_text(), nullable=False, comment="code of the device, chosen by others"),
    _words("name", "given by an administrator; empty: use reported_name"),
    _words("reported_name", "from the device's DeviceInfo"),
    _words("manufacturer", "from DeviceInfo"),
    _words("model", "from DeviceInfo"),
    _words("firmware", "from DeviceInfo"),
    sa.Column("sealed_password", sa.LargeBinary, nullable=False, comment="AES-GCM, see vsp/seal"),
    sa.Column("default_plan", sa.Text, nullable=False, comment="RecordPlan its channels inherit"),
    sa.Column("auth_username", Words(), comment="digest user name when it is not the code"),
    sa.Column("transport", sa.Text, comment="wished SIP transport; null: what it registers over"),
    sa.Column("media_transport", sa.Text, comment="null: the platform's default"),
    sa.Column("charset", sa.Text, nullable=False, comment="of MANSCDP bodies sent to it"),
    sa.Column("version", Words(), comment="forced GB/T 28181 version; null: as it says"),
    sa.Column("digest", sa.Text, nullable=False, comment="digest algorithm offered to it"),
    sa.Column("keepalive_interval_s", sa.Integer, comment="s; null: the platform's default"),
    sa.Column("keepalive_misses", sa.Integer, comment="count; null: the platform's default"),
    sa.Column("send_date", sa.Boolean, nullable=False, comment="Date in the answer to REGISTER"),
    sa.Column("presence", sa.Text, nullable=False, comment="online, offline or unknown"),
    _instant("presence_since_us", "since when presence holds"),
    _instant("last_seen_us", "last message from it, written behind", nullable=True),
    sa.Column("binding_transport", sa.Text, comment="null: not registered"),
    sa.Column("binding_host", Words(), comment="source address of its REGISTER"),
    sa.Column("binding_port", sa.Integer),
    sa.Column("binding_contact", Words(), comment="Contact URI as sent"),
    _instant("binding_registered_at_us", "when it registered", nullable=True),
    _instant("binding_expires_at_us", "end of the registration", nullable=True),
    sa.Column("binding_user_agent", Words()),
    sa.Column("binding_gb_version", Words(), comment="X-GB-Ver as sent"),
    sa.Column("catalog_received", sa.BigInteger, nullable=False, comment="items of last answer"),
    sa.Column("catalog_expected", sa.BigInteger, comment="SumNum of the last answer"),
    sa.Column("catalog_complete", sa.Boolean, nullable=False),
    _instant("catalog_at_us", "when the last catalogue answer ended", nullable=True),
    _instant("created_at_us", "when it was added"),
    _instant("removed_at_us", "when it was removed; the row stays for its recordings", True),
    comment="peers below us that may register",
)
sa.Index(
    "uq_devices_gb_id_present",
    devices.c.gb_id,
    unique=True,
    sqlite_where=devices.c.removed_at_us.is_(None),
    postgresql_where=devices.c.removed_at_us.is_(None),
)

channels = sa.Table(
    "channels",
    metadata,
    sa.Column("id", id_text(), primary_key=True),
    sa.Column("device_id", id_text(), sa.ForeignKey("devices.id"), nullable=False),
    sa.Column("gb_id", id_text(), nullable=False),
    _words("given_name", "by an administrator; empty: use reported_name"),
    _words("reported_name", "from the catalogue"),
    sa.Column("playable", sa.Boolean, nullable=False, comment="model/catalog.py says how"),
    sa.Column("presence", sa.Text, nullable=False, comment="our judgement"),
    _instant("presence_since_us", "since when presence holds"),
    sa.Column("reported", sa.Text, nullable=False, comment="presence as its device says"),
    sa.Column("parent_gb_id", id_text(), nullable=False, comment="parent shown in a tree"),
    _words("civil_code", "as reported, often junk"),
    sa.Column("record_plan", sa.Text, comment="RecordPlan; null: its device's default_plan"),
    _words("manufacturer", "from the catalogue"),
    _words("model", "from the catalogue"),
    _words("address", "from the catalogue"),
    sa.Column("longitude", sa.Double, comment="degrees, datum as reported"),
    sa.Column("latitude", sa.Double, comment="degrees, datum as reported"),
    sa.Column("ptz_type", sa.Integer, comment="Info/PTZType"),
    _instant("missing_since_us", "first complete catalogue without it", nullable=True),
    _instant("created_at_us", "first catalogue with it"),
    sa.UniqueConstraint("device_id", "gb_id", name="uq_channels_device_id_gb_id"),
    comment="items of the devices' catalogues, playable or not",
)
sa.Index("ix_channels_gb_id_id", channels.c.gb_id, channels.c.id)

catalogue_facts = sa.Table(
    "catalogue_facts",
    metadata,
    sa.Column("channel_id", id_text(), sa.ForeignKey("channels.id"), primary_key=True),
    _words("owner", "as reported"),
    sa.Column("parental", sa.Boolean, nullable=False, comment="says that it has children"),
    sa.Column("parent_ids", Pairs(), nullable=False, comment="JSON: every parent named, in order"),
    sa.Column("business_group_id", Words(), nullable=False),
    sa.Column("secrecy", sa.Integer, nullable=False),
    sa.Column("extra", Pairs(), nullable=False, comment="JSON: further elements, name and text"),
    sa.Column("fingerprint", sa.Text, nullable=False, comment="BLAKE2b of the item as reported"),
    _instant("reported_at_us", "catalogue answer that last changed it"),
    comment="what a catalogue says beyond what lists show",
)

candidates = sa.Table(
    "candidates",
    metadata,
    sa.Column("gb_id", id_text(), primary_key=True),
    _words("host", "source address of the last REGISTER"),
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("transport", sa.Text, nullable=False),
    _words("user_agent", "as sent"),
    _instant("first_seen_us", "first REGISTER"),
    _instant("last_seen_us", "last REGISTER"),
    sa.Column("attempts", sa.BigInteger, nullable=False, comment="REGISTERs seen"),
    comment="unknown devices that knock; bounded, oldest go first",
)
sa.Index("ix_candidates_first_seen_us", candidates.c.first_seen_us, candidates.c.gb_id)

# ---- registers with validity ----------------------------------------------------------------

regions = sa.Table(
    "regions",
    metadata,
    sa.Column("version", row_number(), primary_key=True, comment="order of recording"),
    sa.Column("id", id_text(), nullable=False),
    sa.Column("code", sa.Text, nullable=False, comment="2, 4, 6, 9 or 12 digits by level"),
    _words("name", "official name"),
    sa.Column("level", sa.Text, nullable=False, comment="province city county town village"),
    sa.Column("parent_id", id_text()),
    _instant("valid_from_us", "from when this version speaks"),
    _instant("valid_to_us", "end of the region; null: none known", nullable=True),
    _instant("recorded_at_us", "when this version was recorded"),
    comment="administrative regions, five levels, all versions",
)
sa.Index("ix_regions_id", regions.c.id, regions.c.version)

departments = sa.Table(
    "departments",
    metadata,
    sa.Column("version", row_number(), primary_key=True, comment="order of recording"),
    sa.Column("id", id_text(), nullable=False),
    _words("name", "official name"),
    _words("kind", "police, transport, city management, ..."),
    sa.Column("region_id", id_text()),
    _instant("valid_from_us", "from when this version speaks"),
    _instant("valid_to_us", "end of the department; null: none known", nullable=True),
    _instant("recorded_at_us", "when this version was recorded"),
    comment="bodies that own or share cameras, all versions",
)
sa.Index("ix_departments_id", departments.c.id, departments.c.version)

channel_placements = sa.Table(
    "channel_placements",
    metadata,
    sa.Column("version", row_number(), primary_key=True, comment="order of recording"),
    sa.Column("channel_id", id_text(), sa.ForeignKey("channels.id"), nullable=False),
    sa.Column("region_id", id_text()),
    sa.Column("department_id", id_text()),
    sa.Column("klass", sa.Text, nullable=False, comment="ChannelClass"),
    sa.Column("label", sa.Text, nullable=False, comment="ChannelLabel"),
    _instant("valid_from_us", "from when this version speaks"),
    _instant("valid_to_us", "end of the placement; null: none known", nullable=True),
    _instant("recorded_at_us", "when this version was recorded"),
    comment="where a channel belongs and which promise covers it, all versions",
)
sa.Index(
    "ix_channel_placements_channel_id",
    channel_placements.c.channel_id,
    channel_placements.c.version,
)

# ---- change points and recordings -----------------------------------------------------------

change_points = sa.Table(
    "change_points",
    metadata,
    sa.Column("id", row_number(), primary_key=True, comment="order of arrival"),
    sa.Column("subject", id_text(), nullable=False, comment="device:{id} or channel:{id}"),
    sa.Column("axis", sa.Text, nullable=False, comment="Axis"),
    _instant("at_us", "from when the state holds"),
    _words("state", "a word of the axis"),
    _note("cause", "why, in one sentence"),
    _note("evidence", "what was seen"),
    comment="every state of everything, append-only; a state holds until the next point",
)
sa.Index(
    "ix_change_points_subject",
    change_points.c.subject,
    change_points.c.axis,
    change_points.c.at_us,
    change_points.c.id,
)

segments = sa.Table(
    "segments",
    metadata,
    sa.Column("key", id_text(), primary_key=True, comment="of the object, durable before this row"),
    sa.Column("channel_id", id_text(), nullable=False),
    sa.Column("container", sa.Text, nullable=False, comment="mp4 or ps"),
    _instant("run_us", "start of the run's first segment"),
    sa.Column("n", sa.Integer, nullable=False, comment="position in the run, from 0"),
    _instant("start_us", "arrival of the first access unit"),
    _instant("end_us", "arrival of the last one plus its duration"),
    sa.Column("start_90k", sa.BigInteger, nullable=False, comment="first tfdt; 1/90000 s"),
    sa.Column("duration_90k", sa.BigInteger, nullable=False, comment="media time; 1/90000 s"),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.Text, nullable=False, comment="of the object, lower-case hex"),
    sa.Column("init_bytes", sa.Integer, nullable=False, comment="length of ftyp moov"),
    sa.Column(
        "fragments",
        sa.LargeBinary,
        nullable=False,
        comment="triples of little-endian u32: ms from start_us, byte offset, byte length",
    ),
    sa.Column("video", sa.Text, comment="VideoCodec"),
    sa.Column("audio", sa.Text, comment="AudioCodec"),
    sa.Column("codecs", Words(), nullable=False, comment="RFC 6381 codecs string"),
    sa.Column("width", sa.Integer, nullable=False, comment="pixels"),
    sa.Column("height", sa.Integer, nullable=False, comment="pixels"),
    sa.Column("frames", sa.Integer, nullable=False),
    sa.Column("damaged_frames", sa.Integer, nullable=False),
    sa.Column("end_reason", sa.Text, nullable=False, comment="EndReason"),
    comment="what is stored: a row is written only after its object is durable (I1)",
)
sa.Index("ix_segments_channel_start", segments.c.channel_id, segments.c.start_us, segments.c.end_us)
sa.Index("ix_segments_channel_end", segments.c.channel_id, segments.c.end_us)

# ---- streams --------------------------------------------------------------------------------

dialogs = sa.Table(
    "dialogs",
    metadata,
    sa.Column("id", id_text(), primary_key=True, comment="hash of Call-ID and both tags"),
    sa.Column("device_id", id_text()),
    sa.Column("channel_id", id_text(), comment="with session and worker, or without both"),
    sa.Column("session_id", id_text()),
    sa.Column("worker_id", sa.Integer),
    _instant("began_us", "when the INVITE was answered"),
    _instant("ending_us", "since when a BYE is owed; none: it is up", nullable=True),
    sa.Column("call_id", Words(NOTE_MAX), nullable=False),
    sa.Column("local_uri", Words(NOTE_MAX), nullable=False),
    sa.Column("local_tag", Words(NOTE_MAX), nullable=False),
    sa.Column("remote_uri", Words(NOTE_MAX), nullable=False),
    sa.Column("remote_tag", Words(NOTE_MAX), nullable=False),
    sa.Column("remote_target", Words(NOTE_MAX), nullable=False, comment="Contact of the answer"),
    sa.Column("cseq", sa.BigInteger, nullable=False, comment="last one used by us"),
    sa.Column("transport", sa.Text, nullable=False, comment="of signalling"),
    sa.Column("host", Words(NOTE_MAX), nullable=False),
    sa.Column("port", sa.Integer, nullable=False),
    comment="dialogs that devices believe in: those that are up, and those whose BYE is owed",
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", id_text(), primary_key=True),
    sa.Column("channel_id", id_text(), nullable=False),
    _instant("started_us", "when the attempt began"),
    _instant("ended_us", "when its outcome was known", nullable=True),
    sa.Column("purpose", Words(), nullable=False, comment="live, record, ..."),
    sa.Column("transport", sa.Text, comment="MediaTransport"),
    sa.Column("call_id", Words(), nullable=False),
    sa.Column("succeeded", sa.Boolean, comment="null: under way"),
    sa.Column("leg", sa.Text, comment="Leg that failed"),
    _note("cause", "for people"),
    _note("next_step", "for people"),
    sa.Column("steps", Pairs(), nullable=False, comment="JSON: at_us, what, detail"),
    comment="tries to get a picture; the last ones of each channel",
)
sa.Index("ix_attempts_channel_id", attempts.c.channel_id, attempts.c.started_us, attempts.c.id)

# ---- people, audit, leases ------------------------------------------------------------------

users = sa.Table(
    "users",
    metadata,
    sa.Column("id", id_text(), primary_key=True),
    sa.Column("name", Words(), nullable=False),
    sa.Column("name_key", id_text(), nullable=False, unique=True, comment="name, case folded"),
    _words("display_name", "for people"),
    sa.Column("role", sa.Text, nullable=False, comment="Role"),
    sa.Column("department_id", id_text()),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("must_change_password", sa.Boolean, nullable=False),
    sa.Column("password_hash", sa.Text, nullable=False, comment="argon2id, PHC string"),
    _instant("created_at_us", "when the account was made"),
    comment="people who may sign in",
)

web_sessions = sa.Table(
    "web_sessions",
    metadata,
    sa.Column("token_hash", id_text(), primary_key=True, comment="the token itself is not stored"),
    sa.Column("user_id", id_text(), sa.ForeignKey("users.id"), nullable=False, index=True),
    _instant("created_at_us", "sign-in"),
    _instant("seen_at_us", "last request, written now and then"),
    sa.Column("expires_at_us", sa.BigInteger, nullable=False, index=True, comment="us UTC"),
    _words("address", "of the sign-in"),
    comment="signed-in sessions",
)

sign_ins = sa.Table(
    "sign_ins",
    metadata,
    sa.Column("id", row_number(), primary_key=True),
    sa.Column("name_key", id_text(), nullable=False, comment="name as typed, case folded"),
    _words("address", "where it came from"),
    sa.Column("ok", sa.Boolean, nullable=False),
    sa.Column("at_us", sa.BigInteger, nullable=False, index=True, comment="us UTC"),
    comment="tries to sign in, for locks; kept 30 days",
)
sa.Index("ix_sign_ins_name_key", sign_ins.c.name_key, sign_ins.c.at_us)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("node", id_text(), primary_key=True, comment="one chain a node"),
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False, comment="from 1"),
    sa.Column("act_id", id_text(), nullable=False, comment="joins the opening and the ending row"),
    sa.Column("phase", sa.Text, nullable=False, comment="opened or ended"),
    _instant("at_us", "when the row was written"),
    _words("actor", "name of the user, or who it was said to be"),
    _words("address", "where it came from"),
    sa.Column("action", sa.Text, nullable=False, comment="Action"),
    _words("subject", "what was acted on"),
    _note("reason", "given by the actor"),
    sa.Column("result", sa.Text, nullable=False, comment="ok, an error's kind, cancelled"),
    _note("detail", "what is worth keeping"),
    sa.Column("previous_hash", sa.Text, nullable=False, comment="hash of seq - 1; zeros at seq 1"),
    sa.Column("hash", sa.Text, nullable=False, comment="SHA-256, see store/audit.py"),
    comment="who did what; hash-chained; UPDATE and DELETE are refused by triggers",
)
sa.Index("ix_audit_at_us", audit.c.at_us, audit.c.node, audit.c.seq)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("name", id_text(), primary_key=True),
    sa.Column("holder", id_text(), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False, comment="grows with every new holding"),
    _instant("until_us", "end unless renewed, by the database's clock"),
    comment="rights to act alone, with a fencing epoch",
)
