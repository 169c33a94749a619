"""DeviceBook over rows: candidates, the unknown ones that knock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from vsp.model.device import Candidate, Transport
from vsp.model.ids import GbId, UtcMicros
from vsp.ports import Page, PageRequest
from vsp.store.chunks import chunks
from vsp.store.engine import Database
from vsp.store.paging import fetch_page
from vsp.store.tables import candidates

CANDIDATES_MAX = 10_000
"""Rows kept. Codes are free to invent, so a stranger could fill the disk; the ones silent longest
go first, and who still knocks comes back within a minute."""


class SqlCandidates:
    """Candidates as rows of `candidates`."""

    _database: Database

    async def saw_candidates(self, sightings: Sequence[Candidate]) -> None:
        """Add to what is known: attempts are those since the last call, first_seen stays."""
        if not sightings:
            return
        insert = self._database.insert(candidates)
        new = insert.excluded
        upsert = insert.on_conflict_do_update(
            index_elements=["gb_id"],
            set_={
                "host": new.host,
                "port": new.port,
                "transport": new.transport,
                "user_agent": new.user_agent,
                "last_seen_us": new.last_seen_us,
                "attempts": candidates.c.attempts + new.attempts,
            },
        )
        ordered = sorted(sightings, key=lambda sighting: sighting.gb_id)
        async with self._database.write() as connection:
            for chunk in chunks(ordered):
                await connection.execute(upsert, [_values(sighting) for sighting in chunk])
            await connection.execute(_forget_silent())

    async def candidates(self, page: PageRequest) -> Page[Candidate]:
        """Newest acquaintance first: that order does not move while somebody reads."""
        async with self._database.read() as connection:
            return await fetch_page(
                connection,
                sa.select(candidates),
                [(candidates.c.first_seen_us, int), (candidates.c.gb_id, str)],
                page,
                _candidate,
                newest_first=True,
                total=sa.select(sa.func.count()).select_from(candidates),
            )

    async def drop_candidates(self, gb_ids: Sequence[GbId]) -> None:
        """Forget them; who knocks again is a candidate again."""
        async with self._database.write() as connection:
            for chunk in chunks(gb_ids):
                await connection.execute(sa.delete(candidates).where(candidates.c.gb_id.in_(chunk)))


def _forget_silent() -> sa.Delete:
    silent = (
        sa.select(candidates.c.gb_id)
        .order_by(candidates.c.last_seen_us.desc(), candidates.c.gb_id)
        .offset(CANDIDATES_MAX)
        .limit(CANDIDATES_MAX)
    )
    return sa.delete(candidates).where(candidates.c.gb_id.in_(silent))


def _values(sighting: Candidate) -> dict[str, Any]:
    return {
        "gb_id": sighting.gb_id,
        "host": sighting.host,
        "port": sighting.port,
        "transport": sighting.transport.value,
        "user_agent": sighting.user_agent,
        "first_seen_us": sighting.first_seen_us,
        "last_seen_us": sighting.last_seen_us,
        "attempts": sighting.attempts,
    }


def _candidate(row: sa.Row[Any]) -> Candidate:
    return Candidate(
        gb_id=GbId(row.gb_id),
        host=row.host,
        port=row.port,
        transport=Transport(row.transport),
        user_agent=row.user_agent,
        first_seen_us=UtcMicros(row.first_seen_us),
        last_seen_us=UtcMicros(row.last_seen_us),
        attempts=row.attempts,
    )
