from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence

from tests.actions.scripted import Worker
from tests.e2e.platform import until
from vsp.actions.workers import WorkerPool
from vsp.errors import Unavailable
from vsp.model.ids import ViewId, WorkerId
from vsp.model.stream import SessionStatus, Troubles, ViewEnded
from vsp.ports import WorkerEvent


class Newsworthy(Worker):
    """A worker that tells what is put into `news`, and of which something happens while it is
    asked for its sessions. None in the news breaks the connection."""

    def __init__(self) -> None:
        super().__init__()
        self.news: asyncio.Queue[WorkerEvent | None] = asyncio.Queue()
        self.listeners = 0

    async def events(self) -> AsyncGenerator[WorkerEvent, None]:
        self.listeners += 1
        try:
            yield Troubles({})
            while (event := await self.news.get()) is not None:
                yield event
            raise Unavailable("the connection broke")
        finally:
            self.listeners -= 1

    async def sessions(self) -> Sequence[SessionStatus]:
        if self.listeners:
            self.news.put_nowait(ViewEnded(ViewId("v1"), "gone meanwhile"))
        return []


async def test_what_happens_while_a_worker_is_asked_is_not_missed():
    worker, told = Newsworthy(), []
    pool = WorkerPool([worker])

    async def adopted(worker_id: WorkerId, sessions: Sequence[SessionStatus]) -> None:
        told.append("adopted")

    async def ended(event: ViewEnded) -> None:
        told.append(event.cause)

    pool.on_adopted, pool.on_view_ended = adopted, ended
    pool.start()
    try:
        await until("the news", lambda: _holds(len(told) == 2), 5)
    finally:
        await pool.close()

    assert told == ["adopted", "gone meanwhile"]
    assert worker.listeners == 0


async def test_a_worker_that_breaks_off_is_lost_and_adopted_again(monkeypatch):
    monkeypatch.setattr("vsp.actions.workers.RECONNECT_S", 0.0)
    worker, told = Newsworthy(), []
    pool = WorkerPool([worker])

    async def adopted(worker_id: WorkerId, sessions: Sequence[SessionStatus]) -> None:
        told.append("adopted")

    async def lost(worker_id: WorkerId) -> None:
        told.append(f"lost, {list(pool.alive)} alive")

    pool.on_adopted, pool.on_lost = adopted, lost
    pool.start()
    try:
        await until("it is adopted", lambda: _holds(told == ["adopted"]), 5)
        worker.news.put_nowait(None)
        await until("it is adopted again", lambda: _holds(len(told) == 3), 5)
    finally:
        await pool.close()

    assert told == ["adopted", "lost, [] alive", "adopted"]


async def test_a_worker_that_is_asked_again_tells_all_anew_and_was_never_lost():
    worker, told = Newsworthy(), []
    pool = WorkerPool([worker])

    async def adopted(worker_id: WorkerId, sessions: Sequence[SessionStatus]) -> None:
        told.append("adopted")

    async def lost(worker_id: WorkerId) -> None:
        told.append("lost")

    pool.on_adopted, pool.on_lost = adopted, lost
    pool.start()
    try:
        await until("it is adopted", lambda: _holds(told == ["adopted"]), 5)
        await until("its news are read", lambda: _holds(worker.news.empty()), 5)
        pool.ask_again(WorkerId(0))
        worker.news.put_nowait(Troubles({}))
        await until("it is adopted again", lambda: _holds(len(told) == 2), 5)
    finally:
        await pool.close()

    assert told == ["adopted", "adopted"]
    assert worker.listeners == 0


async def _holds(condition: bool) -> bool:
    return condition
