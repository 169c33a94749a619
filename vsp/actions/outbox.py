"""What the node owes the database while it refuses: rows that nobody will offer a second time.

A full disk may be the database's own. What workers, cameras and our own reconcilers tell us then
must neither be lost nor hold up those who tell it, for recording and live views go on. So a write
that the database cannot take now is kept here, in order, and offered again every SETTLE_S until it
is taken. It is kept in memory: a node that dies meanwhile forgets change points, dialogs and ends
of acts, and nothing that a worker's journal knows.

What a person asks for is not kept here. It is refused to their face, with the cause: what cannot be
audited does not begin. What ends, ends, and its audit row is owed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import count

import structlog

from vsp.errors import REFUSALS, Exhausted, VspError
from vsp.model.changes import Axis, ChangePoint
from vsp.model.dialog import DialogKey
from vsp.model.ids import ChannelId, UtcMicros
from vsp.model.stream import Attempt
from vsp.ports import ChangeLog, DialogRow, StreamBook, Write

log = structlog.get_logger(__name__)

SETTLE_S = 1.0
"""Between two offers: a database that is back is met within a second."""

OWED_MAX = 10_000
"""Writes kept. Segment rows are the largest, about 5 kB with their index of fragments: 50 MB, which
200 cameras reach after 50 minutes. Segments beyond it wait in their workers' journals; change
points, dialogs and ends of acts beyond it are lost, which is logged."""


class Outbox:
    """Owed writes by name, oldest first; one that is owed already is replaced in its place.

    trouble     what the database says while it refuses, else empty
    on_trouble  awaited with `trouble` when the database begins to refuse, and with "" once it has
                taken everything that was owed
    """

    def __init__(self) -> None:
        self.trouble = ""
        self.on_trouble: Callable[[str], Awaitable[None]] | None = None
        self._owed: dict[str, Write] = {}
        self._told = False

    @property
    def owed(self) -> int:
        return len(self._owed)

    async def write(self, name: str, work: Write) -> None:
        """Now, or as soon as the database takes it. Raises Exhausted when too much is owed.

        While something is owed everything waits its turn, so that writes stay in order.
        """
        if not self.trouble and not self._owed:
            try:
                await work()
                return
            except REFUSALS as error:
                self.refused(error)
        if len(self._owed) >= OWED_MAX and name not in self._owed:
            raise Exhausted(
                f"{OWED_MAX} rows wait for the database",
                cause=self.trouble,
                next_step="look at the database server (or at the disk of node.data_dir)",
            )
        self._owed[name] = work

    def refused(self, error: VspError) -> None:
        """The database did not take a write, whoever's it was."""
        if not self.trouble:
            log.error("the database refuses", why=error.message)
        self.trouble = error.message

    async def settle(self) -> None:
        """Offer what is owed. To be called every SETTLE_S, by one task."""
        if self.trouble and not self._told:
            self._told = True
            await self._tell(self.trouble)
        await self._offer()
        if self._told and not self._owed:
            log.info("the database takes again")
            self.trouble, self._told = "", False
            await self._tell("")

    async def close(self) -> None:
        """Offer once more what is owed; what is refused even now is lost, except to journals."""
        await self.settle()
        if self._owed:
            log.error("owed writes are lost", writes=len(self._owed), first=next(iter(self._owed)))

    async def _offer(self) -> None:
        while self._owed:
            name, work = next(iter(self._owed.items()))
            try:
                await work()
            except REFUSALS as error:
                self.refused(error)
                return
            except Exception:
                log.exception("owed write dropped", name=name)
            if self._owed.get(name) is work:
                del self._owed[name]

    async def _tell(self, trouble: str) -> None:
        if self.on_trouble is not None:
            await self.on_trouble(trouble)


class PatientChangeLog:
    """A ChangeLog that does not fail: a point that cannot be written now keeps its time and is
    written later. Beyond OWED_MAX it is lost, which is logged."""

    def __init__(self, changes: ChangeLog, outbox: Outbox) -> None:
        self._changes = changes
        self._outbox = outbox
        self._numbers = count()

    async def append(self, points: Sequence[ChangePoint]) -> None:
        if not points:
            return
        name = f"change points {next(self._numbers)}"
        try:
            await self._outbox.write(name, partial(self._changes.append, points))
        except Exhausted:
            log.error("change points dropped", points=len(points))

    async def between(
        self, subject: str, axis: Axis, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[ChangePoint]:
        """Without what is owed."""
        return await self._changes.between(subject, axis, from_us, until_us)


class PatientStreamBook:
    """A StreamBook that does not fail: a camera that is being called must not wait for a disk. The
    newest word of a dialog counts; a node that dies before it is written asks for the stream anew.
    """

    def __init__(self, book: StreamBook, outbox: Outbox) -> None:
        self._book = book
        self._outbox = outbox

    async def save(self, row: DialogRow) -> None:
        await self._write(_name_of(row.dialog.key), partial(self._book.save, row))

    async def forget(self, dialog: DialogKey) -> None:
        await self._write(_name_of(dialog), partial(self._book.forget, dialog))

    async def save_attempt(self, attempt: Attempt) -> None:
        await self._write(f"attempt {attempt.id}", partial(self._book.save_attempt, attempt))

    async def all(self) -> Sequence[DialogRow]:
        return await self._book.all()

    async def attempts(self, channel_id: ChannelId, limit: int = 50) -> Sequence[Attempt]:
        return await self._book.attempts(channel_id, limit)

    async def _write(self, name: str, work: Write) -> None:
        try:
            await self._outbox.write(name, work)
        except Exhausted:
            log.error("row of a stream dropped", name=name)


def _name_of(dialog: DialogKey) -> str:
    return f"dialog {' '.join(dialog)}"


__all__ = ["OWED_MAX", "SETTLE_S", "Outbox", "PatientChangeLog", "PatientStreamBook"]
