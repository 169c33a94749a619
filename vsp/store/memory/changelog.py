"""ChangeLog in memory: the points of each subject and axis, in the order of time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence

from vsp.model.changes import Axis, ChangePoint
from vsp.model.ids import UtcMicros
from vsp.store import changelog as bounds
from vsp.store.columns import NOTE_MAX, WORDS_MAX
from vsp.store.memory.rows import cleaned
from vsp.store.memory.tables import BY_AT, MemoryDatabase


class MemoryChangeLog:
    """Change points by subject and axis."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._points = database.change_points

    async def append(self, points: Sequence[ChangePoint]) -> None:
        """All of them. Of two at one instant the later arrival stands behind."""
        for point in points:
            kept = cleaned(cleaned(point, WORDS_MAX, "state"), NOTE_MAX, "cause", "evidence")
            insort(self._points.setdefault((point.subject, point.axis), []), kept, key=BY_AT)

    async def between(
        self, subject: str, axis: Axis, from_us: UtcMicros, until_us: UtcMicros
    ) -> Sequence[ChangePoint]:
        """The point in force at `from_us`, then every later one before `until_us`, in order."""
        points = self._points.get((subject, axis), [])
        later = bisect_right(points, from_us, key=BY_AT)
        end = bisect_left(points, until_us, lo=later, key=BY_AT)
        return points[max(later - 1, 0) : min(end, later + bounds.POINTS_MAX)]
