"""AuditLog in memory: the rows of `ChainedAuditLog`, one chain for each node."""

from __future__ import annotations

from vsp.model.changes import AuditRow
from vsp.ports import Clock, Ids, Page, PageRequest
from vsp.store.audit import ChainedAuditLog, ChainHead, follow
from vsp.store.memory.rows import page_of
from vsp.store.memory.tables import MemoryDatabase


class MemoryAuditLog(ChainedAuditLog):
    """Audit rows of one node, and the reading of all nodes'."""

    def __init__(self, database: MemoryDatabase, clock: Clock, ids: Ids, node: str) -> None:
        super().__init__(clock, ids, node)
        self._audit = database.audit

    async def rows(self, page: PageRequest) -> Page[AuditRow]:
        """Newest first, all nodes."""
        return page_of(
            self._audit.order,
            page,
            (int, str, int),
            lambda key: self._audit.chains[key[1]][key[2] - 1],
            newest_first=True,
            counted=False,
        )

    async def verify(self) -> int:
        """Rows checked, all nodes. Raises DataLoss naming the first one that does not follow."""
        chains = sorted(self._audit.chains.items())
        return sum(follow(node, rows, ChainHead()).seq for node, rows in chains)

    async def _append(self, draft: AuditRow, again: bool = False) -> None:
        chain = self._audit.chains.get(self._node)
        if again and any(_same_place(row, draft) for row in chain or ()):
            return
        head = ChainHead(chain[-1].seq, chain[-1].hash) if chain else ChainHead()
        self._audit.add(self._node, self._next_row(draft, head))


def _same_place(row: AuditRow, draft: AuditRow) -> bool:
    return (row.act_id, row.phase) == (draft.act_id, draft.phase)
