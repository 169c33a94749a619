"""AuditLog: who did what, in one hash chain for each node.

An act writes one row before it begins and one when it has ended; if the first cannot be written the
act is refused, and nothing happened. An opening row without an ending one therefore says: begun,
outcome unknown (the node died). An end that the database refuses has happened all the same: it is
written as soon as it can be, with the time and outcome it had, so `at_us` may step back along the
chain. Rows are numbered from 1 without holes, and

    hash = SHA-256(previous hash || canonical JSON of node and row)

so that a row that was changed, removed, inserted or moved is found by `verify`, which names it. A
tail cut off whole leaves a valid shorter chain; it is found by comparing with the chain heads that
are anchored outside the database.

`ChainedAuditLog` says what an act writes and how it is chained, `SqlAuditLog` keeps it as rows.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from vsp.errors import REFUSALS, DataLoss, VspError
from vsp.model.changes import AuditRow
from vsp.model.ids import UtcMicros
from vsp.model.people import Action, Actor
from vsp.ports import AuditEntry, Clock, Ids, Keep, Page, PageRequest
from vsp.store.columns import NOTE_MAX, WORDS_MAX, clean
from vsp.store.engine import CHUNK_ROWS, Database
from vsp.store.paging import fetch_page
from vsp.store.tables import audit

log = structlog.get_logger(__name__)

FIRST_HASH = "0" * 64
"""What the first row of a chain follows."""

NOTES_MAX = 50
"""Notes of one act; they share NOTE_MAX characters anyway."""

OPENED = "opened"
ENDED = "ended"


@dataclass(slots=True)
class _Entry:
    """An act under way."""

    notes: list[str]

    def note(self, detail: str) -> None:
        """Keep `detail` in the ending row."""
        if len(self.notes) < NOTES_MAX:
            self.notes.append(detail)


@dataclass(frozen=True, slots=True)
class ChainHead:
    """What the next row of a chain follows."""

    seq: int = 0
    hash: str = FIRST_HASH


class ChainedAuditLog(ABC):
    """The acts of one node, each as two rows of its chain. Who derives from it keeps the rows."""

    def __init__(self, clock: Clock, ids: Ids, node: str) -> None:
        self._clock = clock
        self._ids = ids
        self._node = node
        self._keep: Keep | None = None

    def keep_endings(self, keep: Keep) -> None:
        """Whom to give an ending row that cannot be written now."""
        self._keep = keep

    @asynccontextmanager
    async def act(
        self,
        actor: Actor | None,
        action: Action,
        subject: str,
        reason: str = "",
        address: str = "",
        who: str = "",
    ) -> AsyncIterator[AuditEntry]:
        """The opening row, the body, the ending row: ok, the error's kind, or cancelled."""
        opening = self._draft(actor, action, subject, reason, address, who)
        entry = _Entry([])
        try:
            await self._append(opening)
        except asyncio.CancelledError:
            await self._end(opening, entry, "cancelled")
            raise
        try:
            yield entry
        except VspError as error:
            await self._end(opening, entry, error.kind)
            raise
        except Exception:
            await self._end(opening, entry, "internal")
            raise
        except BaseException:
            await self._end(opening, entry, "cancelled")
            raise
        await self._end(opening, entry, "ok")

    @abstractmethod
    async def _append(self, draft: AuditRow, again: bool = False) -> None:
        """Keep `draft` as the next row of our chain: whole, though the caller be cancelled here.

        again   a write whose answer was lost may have been done: then nothing is added
        """

    def _next_row(self, draft: AuditRow, head: ChainHead) -> AuditRow:
        """`draft` with what its place in the chain gives it, and this instant if it has none."""
        at_us = draft.at_us or self._clock.now_us()
        row = replace(draft, seq=head.seq + 1, at_us=at_us, previous_hash=head.hash)
        return replace(row, hash=row_hash(self._node, row))

    def _draft(
        self, actor: Actor | None, action: Action, subject: str, reason: str, address: str, who: str
    ) -> AuditRow:
        return AuditRow(
            seq=0,
            act_id=self._ids.row_id(),
            phase=OPENED,
            at_us=UtcMicros(0),
            actor=clean(actor.user.name if actor else who, WORDS_MAX),
            address=clean(actor.address if actor else address, WORDS_MAX),
            action=action.value,
            subject=clean(subject, WORDS_MAX),
            reason=clean(reason, NOTE_MAX),
            result="",
            detail="",
            previous_hash="",
            hash="",
        )

    async def _end(self, opening: AuditRow, entry: _Entry, result: str) -> None:
        """The ending row. Its failure is only logged: the act has happened or has its own error."""
        detail = clean("; ".join(entry.notes), NOTE_MAX)
        at_us = self._clock.now_us()
        ending = replace(opening, phase=ENDED, at_us=at_us, result=result, detail=detail)
        try:
            await self._append_or_keep(ending)
        except VspError as error:
            log.error(
                "audit row not written",
                act=opening.act_id,
                action=opening.action,
                subject=opening.subject,
                result=result,
                error=error.message,
            )

    async def _append_or_keep(self, ending: AuditRow) -> None:
        try:
            await self._append(ending)
        except REFUSALS:
            if self._keep is None:
                raise
            name = f"end of act {ending.act_id}"
            await self._keep(name, partial(self._append, ending, again=True))


def row_hash(node: str, row: AuditRow) -> str:
    """SHA-256 over the previous hash, then the row without its own: sorted, no blanks, UTF-8."""
    fields = {**asdict(row), "node": node}
    del fields["hash"]
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(row.previous_hash.encode() + text.encode()).hexdigest()


def follow(node: str, rows: Iterable[AuditRow], head: ChainHead) -> ChainHead:
    """The head after these rows. Raises DataLoss naming the first one that does not follow."""
    for row in rows:
        follows = row.seq == head.seq + 1 and row.previous_hash == head.hash
        if not follows or row.hash != row_hash(node, row):
            raise DataLoss(
                f"audit chain of {node} breaks at row {head.seq + 1}",
                cause="a row was changed, removed or inserted outside the platform",
                next_step="compare with the last backup and the anchored chain heads",
            )
        head = ChainHead(row.seq, row.hash)
    return head


class SqlAuditLog(ChainedAuditLog):
    """Audit rows of one node, and the reading of all nodes'."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, node: str) -> None:
        super().__init__(clock, ids, node)
        self._database = database
        self._chain = asyncio.Lock()
        self._writing: set[asyncio.Task[None]] = set()

    async def rows(self, page: PageRequest) -> Page[AuditRow]:
        """Newest first, all nodes."""
        key = [(audit.c.at_us, int), (audit.c.node, str), (audit.c.seq, int)]
        async with self._database.read() as connection:
            return await fetch_page(
                connection, sa.select(audit), key, page, _row, newest_first=True
            )

    async def verify(self) -> int:
        """Rows checked, all nodes. Raises DataLoss naming the first one that does not follow."""
        checked = 0
        async with self._database.read() as connection:
            nodes = (await connection.scalars(sa.select(audit.c.node).distinct())).all()
            for node in sorted(nodes):
                checked += await _verify_chain(connection, node)
        return checked

    async def close(self) -> None:
        """Wait for rows of cancelled acts that are still being written."""
        if self._writing:
            await asyncio.wait(self._writing)

    async def _append(self, draft: AuditRow, again: bool = False) -> None:
        """In a task of its own, so that a cancelled caller does not tear the row in two."""
        task = asyncio.create_task(self._write(draft, again))
        self._writing.add(task)
        task.add_done_callback(self._written)
        await asyncio.shield(task)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may be gone; the error was theirs to see

    async def _write(self, draft: AuditRow, again: bool) -> None:
        # The lock keeps our own acts in order; `hold` also those of a process that was given the
        # same node name by mistake, or that an administrator started beside us.
        async with self._chain, self._database.write() as connection:
            await self._database.hold(connection, f"audit:{self._node}")
            if again and await self._holds(connection, draft):
                return
            row = self._next_row(draft, await self._head(connection))
            await connection.execute(sa.insert(audit).values(node=self._node, **asdict(row)))

    async def _holds(self, connection: AsyncConnection, draft: AuditRow) -> bool:
        found = await connection.scalar(
            sa.select(audit.c.seq).where(
                audit.c.at_us == draft.at_us,
                audit.c.node == self._node,
                audit.c.act_id == draft.act_id,
                audit.c.phase == draft.phase,
            )
        )
        return found is not None

    async def _head(self, connection: AsyncConnection) -> ChainHead:
        last = (
            await connection.execute(
                sa.select(audit.c.seq, audit.c.hash)
                .where(audit.c.node == self._node)
                .order_by(audit.c.seq.desc())
                .limit(1)
            )
        ).first()
        return ChainHead(last.seq, last.hash) if last else ChainHead()


async def _verify_chain(connection: AsyncConnection, node: str) -> int:
    head = ChainHead()
    while True:
        rows = (
            await connection.execute(
                sa.select(audit)
                .where(audit.c.node == node, audit.c.seq > head.seq)
                .order_by(audit.c.seq)
                .limit(CHUNK_ROWS)
            )
        ).all()
        head = follow(node, map(_row, rows), head)
        if len(rows) < CHUNK_ROWS:
            return head.seq
        await asyncio.sleep(0)


def _row(row: sa.Row[Any]) -> AuditRow:
    return AuditRow(
        seq=row.seq,
        act_id=row.act_id,
        phase=row.phase,
        at_us=UtcMicros(row.at_us),
        actor=row.actor,
        address=row.address,
        action=row.action,
        subject=row.subject,
        reason=row.reason,
        result=row.result,
        detail=row.detail,
        previous_hash=row.previous_hash,
        hash=row.hash,
    )
