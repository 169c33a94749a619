"""StreamBook over rows: dialogs that must be ended even after a restart, and the last attempts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vsp.model.device import MediaTransport, Transport
from vsp.model.ids import AttemptId, ChannelId, DeviceId, SessionId, UtcMicros, WorkerId
from vsp.model.stream import Attempt, AttemptStep, Leg
from vsp.ports import DialogState, StreamRow
from vsp.store.columns import NOTE_MAX, clean
from vsp.store.engine import Database
from vsp.store.tables import attempts, streams

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
    """Streams and attempts as rows."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, row: StreamRow) -> None:
        """Insert or replace, by session."""
        values = _stream_values(row)
        insert = self._database.insert(streams).values(values)
        upsert = insert.on_conflict_do_update(
            index_elements=["session_id"],
            set_={name: insert.excluded[name] for name in values if name != "session_id"},
        )
        async with self._database.write() as connection:
            await connection.execute(upsert)

    async def forget(self, session_id: SessionId) -> None:
        """The dialog is over; forgetting twice is nothing."""
        async with self._database.write() as connection:
            await connection.execute(sa.delete(streams).where(streams.c.session_id == session_id))

    async def all(self) -> Sequence[StreamRow]:
        """Every stream that was up when last heard of, oldest first."""
        query = sa.select(streams).order_by(streams.c.started_us, streams.c.session_id)
        async with self._database.read() as connection:
            return [_stream(row) for row in await connection.execute(query)]

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


def _stream_values(row: StreamRow) -> dict[str, Any]:
    dialog = row.dialog
    return {
        "session_id": row.session_id,
        "channel_id": row.channel_id,
        "device_id": row.device_id,
        "worker_id": row.worker_id,
        "started_us": row.started_us,
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


def _stream(row: sa.Row[Any]) -> StreamRow:
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
    return StreamRow(
        session_id=SessionId(row.session_id),
        channel_id=ChannelId(row.channel_id),
        device_id=DeviceId(row.device_id),
        worker_id=WorkerId(row.worker_id),
        dialog=dialog,
        started_us=UtcMicros(row.started_us),
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
