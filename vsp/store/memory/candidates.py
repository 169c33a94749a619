"""DeviceBook in memory: candidates, the unknown ones that knock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vsp.model.device import Candidate
from vsp.model.ids import GbId
from vsp.ports import Page, PageRequest
from vsp.store import candidates as bounds
from vsp.store.columns import WORDS_MAX
from vsp.store.memory.rows import cleaned, page_of
from vsp.store.memory.tables import MemoryDatabase


class MemoryCandidates:
    """Candidates by code."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._candidates = database.candidates

    async def saw_candidates(self, sightings: Sequence[Candidate]) -> None:
        """Add to what is known: attempts are those since the last call, first_seen stays."""
        for sighting in sightings:
            seen = cleaned(sighting, WORDS_MAX, "host", "user_agent")
            known = self._candidates.by_gb_id.get(seen.gb_id)
            if known is not None:
                attempts = known.attempts + seen.attempts
                seen = replace(seen, first_seen_us=known.first_seen_us, attempts=attempts)
            self._candidates.put(seen)
        if len(self._candidates.by_gb_id) > bounds.CANDIDATES_MAX:
            self._forget_silent()

    async def candidates(self, page: PageRequest) -> Page[Candidate]:
        """Newest acquaintance first: that order does not move while somebody reads."""
        known = self._candidates.by_gb_id
        return page_of(
            self._candidates.order,
            page,
            (int, str),
            lambda key: known[key[1]],
            newest_first=True,
        )

    async def drop_candidates(self, gb_ids: Sequence[GbId]) -> None:
        """Forget them; who knocks again is a candidate again."""
        for gb_id in gb_ids:
            self._candidates.drop(gb_id)

    def _forget_silent(self) -> None:
        newest = sorted(
            self._candidates.by_gb_id.values(), key=lambda each: (-each.last_seen_us, each.gb_id)
        )
        for silent in newest[bounds.CANDIDATES_MAX :]:
            self._candidates.drop(silent.gb_id)
