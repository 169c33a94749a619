"""Looking at the platform itself: counts, streams, the register of places, the audit log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vsp.access.scope import Access
from vsp.actions.views import Streams
from vsp.model.changes import AuditRow
from vsp.model.people import Action, Actor, Department, Region
from vsp.model.stream import SessionStatus
from vsp.ports import AuditLog, Clock, DeviceBook, Page, PageRequest, People


@dataclass(frozen=True, slots=True)
class Counts:
    """The numbers of the console's header."""

    devices: int
    devices_online: int
    channels: int
    channels_online: int
    candidates: int
    streams: int
    recording: int
    views: int


class Overview:
    """Use cases that only read."""

    def __init__(
        self,
        *,
        book: DeviceBook,
        people: People,
        streams: Streams,
        audit: AuditLog,
        access: Access,
        clock: Clock,
        open_views: Callable[[], int],
        metrics_text: Callable[[], str],
    ) -> None:
        self._book = book
        self._people = people
        self._streams = streams
        self._audit = audit
        self._access = access
        self._clock = clock
        self._open_views = open_views
        self._metrics_text = metrics_text

    async def counts(self, actor: Actor) -> Counts:
        self._access.require(actor, Action.LIST)
        rows = await self._book.counts()
        statuses = self._streams.statuses()
        return Counts(
            devices=rows.get("devices", 0),
            devices_online=rows.get("devices_online", 0),
            channels=rows.get("channels", 0),
            channels_online=rows.get("channels_online", 0),
            candidates=rows.get("candidates", 0),
            streams=len(statuses),
            recording=sum(1 for status in statuses if status.records),
            views=self._open_views(),
        )

    async def streams(self, actor: Actor) -> Sequence[SessionStatus]:
        self._access.require(actor, Action.LIST)
        return self._streams.statuses()

    async def regions(self, actor: Actor) -> Sequence[Region]:
        self._access.require(actor, Action.LIST)
        return await self._people.regions(self._clock.now_us())

    async def departments(self, actor: Actor) -> Sequence[Department]:
        self._access.require(actor, Action.LIST)
        return await self._people.departments(self._clock.now_us())

    async def audit_rows(self, actor: Actor, page: PageRequest) -> Page[AuditRow]:
        self._access.require(actor, Action.AUDIT_READ)
        return await self._audit.rows(page)

    def metrics(self, actor: Actor) -> str:
        self._access.require(actor, Action.SYSTEM_READ)
        return self._metrics_text()
