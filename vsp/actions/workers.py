"""The media workers of this node: which are there, what they tell us, and to whom it goes.

One task per worker follows its event stream. When the stream begins, or begins again after either
side died, the worker's own list of sessions is the truth and is handed to `on_adopted`; it is asked
for when we listen already, so that nothing falls between answer and news. A worker that cannot be
reached is simply not placed upon.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

import structlog

from vsp.errors import Exhausted, Unavailable, VspError
from vsp.model.ids import WorkerId
from vsp.model.recording import SegmentClosed
from vsp.model.stream import (
    SegmentsWanted,
    SessionChanged,
    SessionStatus,
    Troubles,
    ViewEnded,
)
from vsp.ports import MediaControl, WorkerEvent

log = structlog.get_logger(__name__)

RECONNECT_S = 0.5
"""Pause before following a lost worker again: about what its restart takes."""


class WorkerPool:
    """Follows every worker and spreads streams over those that answer."""

    def __init__(self, workers: Sequence[MediaControl]) -> None:
        self._workers = {worker.worker_id: worker for worker in workers}
        self._sessions: dict[WorkerId, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._ask_again: set[WorkerId] = set()
        self.on_adopted: Callable[[WorkerId, Sequence[SessionStatus]], Awaitable[None]] | None = (
            None
        )
        self.on_lost: Callable[[WorkerId], Awaitable[None]] | None = None
        self.on_session: Callable[[SessionChanged], Awaitable[None]] | None = None
        self.on_view_ended: Callable[[ViewEnded], Awaitable[None]] | None = None
        self.on_segments_wanted: Callable[[WorkerId, SegmentsWanted], Awaitable[None]] | None = None
        self.on_segment_closed: Callable[[WorkerId, SegmentClosed], Awaitable[None]] | None = None
        self.on_troubles: Callable[[WorkerId, Troubles], Awaitable[None]] | None = None

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._follow(worker), name=f"follow worker {worker_id}")
            for worker_id, worker in self._workers.items()
        ]

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def alive(self) -> Sequence[WorkerId]:
        return sorted(self._sessions)

    def get(self, worker_id: WorkerId) -> MediaControl:
        return self._workers[worker_id]

    def __contains__(self, worker_id: WorkerId) -> bool:
        """Whether this node has such a worker, alive or not."""
        return worker_id in self._workers

    def all_alive(self) -> Sequence[MediaControl]:
        return [self._workers[worker_id] for worker_id in self.alive]

    def place(self) -> MediaControl:
        """The worker with the fewest streams. Raises Exhausted when none answers."""
        if not self._sessions:
            raise Exhausted(
                "no media worker answers",
                cause="worker: every media worker of this node is down or starting",
                next_step="wait a few seconds; if it lasts, run `vsp doctor`",
            )
        worker_id = min(self._sessions, key=lambda candidate: self._sessions[candidate])
        self._sessions[worker_id] += 1
        return self._workers[worker_id]

    def released(self, worker_id: WorkerId) -> None:
        if worker_id in self._sessions:
            self._sessions[worker_id] = max(0, self._sessions[worker_id] - 1)

    def ask_again(self, worker_id: WorkerId) -> None:
        """Have its unacknowledged segments told once more, from its next piece of news on."""
        self._ask_again.add(worker_id)

    async def _follow(self, worker: MediaControl) -> None:
        while True:
            try:
                while True:
                    await self._listen(worker)
            except (VspError, OSError) as error:
                log.debug("worker not reachable", worker=worker.worker_id, error=str(error))
            except Exception:
                log.exception("worker event failed", worker=worker.worker_id)
            if self._sessions.pop(worker.worker_id, None) is not None:
                log.warning("worker lost", worker=worker.worker_id)
                if self.on_lost is not None:
                    await self.on_lost(worker.worker_id)
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self, worker: MediaControl) -> None:
        """Until we want to begin anew; raises what breaks it off."""
        self._ask_again.discard(worker.worker_id)
        async with aclosing(worker.events()) as events:
            first = await anext(events)
            await self._adopt(worker)
            await self._dispatch(worker.worker_id, first)
            async for event in events:
                await self._dispatch(worker.worker_id, event)
                if worker.worker_id in self._ask_again:
                    return
        raise Unavailable(f"media worker {worker.worker_id} closed its event stream")

    async def _adopt(self, worker: MediaControl) -> None:
        """Nothing is placed on it before both sides agree: a session that it was given meanwhile
        would be missing in its answer, and taken for lost."""
        sessions = await worker.sessions()
        if self.on_adopted is not None:
            await self.on_adopted(worker.worker_id, sessions)
        self._sessions[worker.worker_id] = len(sessions)
        log.info("worker adopted", worker=worker.worker_id, sessions=len(sessions))

    async def _dispatch(self, worker_id: WorkerId, event: WorkerEvent) -> None:
        match event:
            case SegmentClosed() if self.on_segment_closed is not None:
                await self.on_segment_closed(worker_id, event)
            case SessionChanged() if self.on_session is not None:
                await self.on_session(event)
            case ViewEnded() if self.on_view_ended is not None:
                await self.on_view_ended(event)
            case SegmentsWanted() if self.on_segments_wanted is not None:
                await self.on_segments_wanted(worker_id, event)
            case Troubles() if self.on_troubles is not None:
                await self.on_troubles(worker_id, event)
            case _:
                pass
