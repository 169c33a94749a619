"""The registers with validity in memory; `vsp.store.register` says which version speaks when."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from vsp.errors import NotFound
from vsp.model.ids import ChannelId, DepartmentId, RegionId, UtcMicros
from vsp.model.people import Department, Region
from vsp.store.columns import WORDS_MAX
from vsp.store.memory.rows import cleaned
from vsp.store.memory.tables import MemoryDatabase, Placement
from vsp.store.register import UNPLACED_CLASS, UNPLACED_LABEL


class Version(Protocol):
    """What one version of something in a register says of its time."""

    @property
    def valid_from_us(self) -> UtcMicros: ...
    @property
    def valid_to_us(self) -> UtcMicros | None: ...


V = TypeVar("V", bound=Version)


def in_force(versions: Sequence[V], as_of_us: UtcMicros) -> V | None:
    """The version recorded last of those that speak by then, unless it has ended by then."""
    for version in reversed(versions):
        if version.valid_from_us <= as_of_us:
            ended = version.valid_to_us is not None and version.valid_to_us <= as_of_us
            return None if ended else version
    return None


class MemoryRegister:
    """Regions, departments and placements, all versions."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._register = database.register
        self._channels = database.channels

    async def regions(self, as_of_us: UtcMicros) -> Sequence[Region]:
        """The tree as it was at that instant, as we know it now; by code."""
        found = _as_of(self._register.regions.values(), as_of_us)
        return sorted(found, key=lambda region: (region.code, region.id))

    async def departments(self, as_of_us: UtcMicros) -> Sequence[Department]:
        """Likewise, by name."""
        found = _as_of(self._register.departments.values(), as_of_us)
        return sorted(found, key=lambda department: (department.name, department.id))

    async def put_region(self, region: Region, recorded_at_us: UtcMicros) -> None:
        """Add a version. Their order tells when each was recorded; nobody asks for the instant."""
        kept = cleaned(region, WORDS_MAX, "name")
        self._register.regions.setdefault(region.id, []).append(kept)

    async def put_department(self, department: Department, recorded_at_us: UtcMicros) -> None:
        """Add a version."""
        kept = cleaned(department, WORDS_MAX, "name", "kind")
        self._register.departments.setdefault(department.id, []).append(kept)

    async def place_channel(
        self,
        channel_id: ChannelId,
        region_id: RegionId | None,
        department_id: DepartmentId | None,
        valid_from_us: UtcMicros,
    ) -> None:
        """From then on it belongs there; class and label stay. Raises NotFound for no channel."""
        row = self._channels.by_id.get(channel_id)
        if row is None:
            raise NotFound("no such channel")
        last = in_force(row.placements, valid_from_us)
        row.placements.append(
            Placement(
                region_id,
                department_id,
                last.klass if last else UNPLACED_CLASS,
                last.label if last else UNPLACED_LABEL,
                valid_from_us,
            )
        )
        row.placed_until_us = row.placed_from_us  # the next reader finds out what is in force


def _as_of(register: Iterable[Sequence[V]], as_of_us: UtcMicros) -> Iterable[V]:
    found = (in_force(versions, as_of_us) for versions in register)
    return (version for version in found if version is not None)
