"""StreamBook over rows: dialogs that must be ended even after a restart, and the last attempts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vsp.model.device import MediaTransport, Transport
from vsp.model.dialog import DialogKey, DialogState
from vsp.model.ids import AttemptId, ChannelId, DeviceId, SessionId, UtcMicros, WorkerId
from vsp.model.stream import Attempt, AttemptStep, Leg
from vsp.ports import DialogRow, DialogUse
from vsp.store.columns import NOTE_MAX, clean
from vsp.store.engine import Database
from vsp.store.tables import attempts, dialogs

ATTEMPTS_KEPT = 100
"""Attempts of a channel that are kept: a recorder that retries every minute leaves nearly two
hours, and a person looks at the last few."""

STEPS_MAX = 200
"""Steps of one attempt: a whole story takes about twenty."""


def kept_steps(attempt: Attempt) -> tuple[AttemptStep, ...]:
    """The steps of an attempt that are kept, cleaned."""
    return tuple(
        AttemptStep(step.at_us, clean(step.what, NOTE_MAX), clean(step.detail, NOTE_MAX))
        for step in attempt.steps[:STEPS_MAX]
    )


def attempts_shown(limit: int) -> int:
    """How many attempts an answer holds."""
    return max(0, min(limit, ATTEMPTS_KEPT))


class SqlStreamBook:
    """Dialogs and attempts as rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, row: DialogRow) -> None:
        """Insert or replace, by Call-ID and both tags."""
        values = _dialog_values(row)
        insert = self._database.insert(dialogs).values(values)
        upsert = insert.on_conflict_do_update(
            index_elements=["id"],
            set_={name: insert.excluded[name] for name in values if name != "id"},
        )
        async with self._database.write() as connection:
            await connection.execute(upsert)

    async def forget(self, dialog: DialogKey) -> None:
        """The dialog is over; forgetting twice is nothing."""
        gone = sa.delete(dialogs).where(dialogs.c.id == dialog_id(dialog))
        async with self._database.write() as connection:
            await connection.execute(gone)

    async def all(self) -> Sequence[DialogRow]:
        """Every dialog that was up or owed a BYE when last heard of, oldest first."""
        query = sa.select(dialogs).order_by(dialogs.c.began_us, dialogs.c.id)
        async with self._database.read() as connection:
            return [_dialog(row) for row in await connection.execute(query)]

    async def save_attempt(self, attempt: Attempt) -> None:
        """Insert or replace, by id; beyond ATTEMPTS_KEPT the channel's oldest go."""
        values = _attempt_values(attempt)
        insert = self._database.insert(attempts).values(values)
        upsert = insert.on_conflict_do_update(
            index_elements=["id"],
            set_={name: insert.excluded[name] for name in values if name != "id"},
        )
        async with self._database.write() as connection:
            await connection.execute(upsert)
            await connection.execute(_forget_old_attempts(attempt.channel_id))

    async def attempts(self, channel_id: ChannelId, limit: int = 50) -> Sequence[Attempt]:
        """The last ones, newest first."""
        query = (
            sa.select(attempts)
            .where(attempts.c.channel_id == channel_id)
            .order_by(attempts.c.started_us.desc(), attempts.c.id.desc())
            .limit(attempts_shown(limit))
        )
        async with self._database.read() as connection:
            return [_attempt(row) for row in await connection.execute(query)]


def _forget_old_attempts(channel_id: ChannelId) -> sa.Delete:
    old = (
        sa.select(attempts.c.id)
        .where(attempts.c.channel_id == channel_id)
        .order_by(attempts.c.started_us.desc(), attempts.c.id.desc())
        .offset(ATTEMPTS_KEPT)
        .limit(ATTEMPTS_KEPT)
    )
    return sa.delete(attempts).where(attempts.c.id.in_(old))


def dialog_id(dialog: DialogKey) -> str:
    """Of a length of its own, whatever a device chose for its tag."""
    return hashlib.sha256("\0".join(dialog).encode("utf-8", "replace")).hexdigest()[:32]


def _dialog_values(row: DialogRow) -> dict[str, Any]:
    dialog, use = row.dialog, row.use
    return {
        "id": dialog_id(dialog.key),
        "device_id": row.device_id,
        "channel_id": use and use.channel_id,
        "session_id": use and use.session_id,
        "worker_id": use and use.worker_id,
        "began_us": row.began_us,
        "ending_us": row.ending_us,
        "call_id": dialog.call_id,
        "local_uri": dialog.local_uri,
        "local_tag": dialog.local_tag,
        "remote_uri": dialog.remote_uri,
        "remote_tag": dialog.remote_tag,
        "remote_target": dialog.remote_target,
        "cseq": dialog.cseq,
        "transport": dialog.transport.value,
        "host": dialog.host,
        "port": dialog.port,
    }


def _dialog(row: sa.Row[Any]) -> DialogRow:
    dialog = DialogState(
        call_id=row.call_id,
        local_uri=row.local_uri,
        local_tag=row.local_tag,
        remote_uri=row.remote_uri,
        remote_tag=row.remote_tag,
        remote_target=row.remote_target,
        cseq=row.cseq,
        transport=Transport(row.transport),
        host=row.host,
        port=row.port,
    )
    return DialogRow(
        dialog=dialog,
        device_id=None if row.device_id is None else DeviceId(row.device_id),
        use=None
        if row.session_id is None
        else DialogUse(
            ChannelId(row.channel_id), SessionId(row.session_id), WorkerId(row.worker_id)
        ),
        began_us=UtcMicros(row.began_us),
        ending_us=None if row.ending_us is None else UtcMicros(row.ending_us),
    )


def _attempt_values(attempt: Attempt) -> dict[str, Any]:
    return {
        "id": attempt.id,
        "channel_id": attempt.channel_id,
        "started_us": attempt.started_us,
        "ended_us": attempt.ended_us,
        "purpose": attempt.purpose,
        "transport": attempt.transport and attempt.transport.value,
        "call_id": attempt.call_id,
        "succeeded": attempt.succeeded,
        "leg": attempt.leg and attempt.leg.value,
        "cause": attempt.cause,
        "next_step": attempt.next_step,
        "steps": [(step.at_us, step.what, step.detail) for step in kept_steps(attempt)],
    }


def _attempt(row: sa.Row[Any]) -> Attempt:
    return Attempt(
        id=AttemptId(row.id),
        channel_id=ChannelId(row.channel_id),
        started_us=UtcMicros(row.started_us),
        ended_us=None if row.ended_us is None else UtcMicros(row.ended_us),
        purpose=row.purpose,
        transport=MediaTransport(row.transport) if row.transport else None,
        call_id=row.call_id,
        succeeded=row.succeeded,
        leg=Leg(row.leg) if row.leg else None,
        cause=row.cause,
        next_step=row.next_step,
        steps=tuple(AttemptStep(UtcMicros(at), what, detail) for at, what, detail in row.steps),
    )
