"""Lease in memory; all holders share the clock of the world they live in."""

from __future__ import annotations

from dataclasses import replace

from vsp.clock import MICROS
from vsp.ports import Clock
from vsp.store.memory.tables import LeaseRow, MemoryDatabase


class MemoryLease:
    """Leases by name."""

    def __init__(self, database: MemoryDatabase, clock: Clock) -> None:
        self._leases = database.leases
        self._clock = clock

    async def claim(self, name: str, holder: str, ttl_s: float) -> int | None:
        """The epoch when held (new or renewed), None while another holds it."""
        now_us = self._clock.now_us()
        held = self._leases.get(name)
        epoch = 1
        if held is not None:
            running = held.until_us > now_us
            if running and held.holder != holder:
                return None
            epoch = held.epoch if running else held.epoch + 1
        self._leases[name] = LeaseRow(holder, epoch, now_us + int(ttl_s * MICROS))
        return epoch

    async def give_up(self, name: str, holder: str) -> None:
        """End it now if it is still held; the next holder gets a higher epoch."""
        held = self._leases.get(name)
        if held is not None and held.holder == holder:
            self._leases[name] = replace(held, until_us=0)
