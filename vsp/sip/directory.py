"""What hangs below a device: the catalogue (目录), asked for, put together, applied.

An answer comes in any number of pages; it is whole when as many different DeviceIDs are there as
SumNum says (GB/T 28181-2016 9.5 and annex A.2.6), else it is over after a silence and stays
*partial*: what came is applied, nothing is taken away. `CatalogAssembly` holds that rule and
`CatalogPlan` who is asked when; both are pure. `Directory` runs them.

Devices are asked after they come on line and once in a refresh period, a bounded number at a time:
fifty thousand answers at once, after an outage, would only be lost.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from dataclasses import replace

import structlog

from vsp.config import SipConfig
from vsp.errors import Unavailable, VspError
from vsp.model.catalog import parents_named, playable_of
from vsp.model.device import CatalogDiff, CatalogItem, DeviceKind, Presence
from vsp.model.ids import DeviceId, GbId, UtcMicros
from vsp.ports import Clock, DeviceBook, Metrics
from vsp.sip.command import Answers, Outbox, Paging, collect, no_answer
from vsp.sip.core.manscdp import catalog
from vsp.sip.core.manscdp.envelope import Body
from vsp.sip.presence import Entry
from vsp.sip.quirks import QuirkLedger

log = structlog.get_logger(__name__)

IN_FLIGHT_MAX = 50
"""Catalogue queries under way at once; their answers fit the socket's buffer."""

FIRST_PAGE_PLATFORM_S = 180.0
"""Wait for the first page of a lower platform: large ones need minutes to gather it."""

TOTAL_S = 900.0
"""Longest catalogue answer: 30,000 items, one a MESSAGE, 30 ms each."""

ITEMS_MAX = 100_000
"""Items of one answer: a large city's platform; more is a device gone wrong."""

FRESH_S = 300.0
"""A complete catalogue younger than this is not asked for again when a device comes back."""

RETRY_FIRST_S = 60.0
"""Pause after a failed query, doubling up to the refresh period (as after a failed registration,
GB/T 28181-2016 9.1.2.1)."""


class CatalogAssembly:
    """Pages of one answer. Unique by DeviceID; the last word about an item counts. Pure."""

    def __init__(self, now: float, first_s: float, idle_s: float, before: int = 0) -> None:
        self.paging = Paging(now, first_s, idle_s, TOTAL_S, before)
        self._items: dict[GbId, CatalogItem] = {}
        self.damaged = False

    def add(self, page: catalog.CatalogPage, now: float) -> None:
        """Take one page; an item named twice keeps both its parents (2022 annex H)."""
        self.damaged |= page.damaged
        for item in page.items:
            known = self._items.get(item.gb_id)
            if known is not None:
                self._items[item.gb_id] = _united(known, item)
            elif len(self._items) < ITEMS_MAX:
                self._items[item.gb_id] = item
        self.paging.page(len(self._items), page.sum_num, now)

    @property
    def items(self) -> list[CatalogItem]:
        return list(self._items.values())


def _united(known: CatalogItem, again: CatalogItem) -> CatalogItem:
    parents = dict.fromkeys((*known.parent_ids, *again.parent_ids))
    return replace(again, parent_ids=tuple(parents))


class CatalogPlan:
    """Who is asked when: one due time for each device, nearest first. Pure."""

    def __init__(self) -> None:
        self._due: dict[DeviceId, float] = {}
        self._heap: list[tuple[float, DeviceId]] = []

    def want(self, device_id: DeviceId, due: float) -> None:
        """Ask this device at `due`, or earlier if that is planned already."""
        planned = self._due.get(device_id)
        if planned is None or due < planned:
            self._due[device_id] = due
            heapq.heappush(self._heap, (due, device_id))

    def forget(self, device_id: DeviceId) -> None:
        self._due.pop(device_id, None)

    def take(self, now: float, count: int) -> list[DeviceId]:
        """Up to `count` devices that are due; they are no longer planned."""
        taken: list[DeviceId] = []
        while self._heap and self._heap[0][0] <= now and len(taken) < count:
            due, device_id = heapq.heappop(self._heap)
            if self._due.get(device_id) == due:
                del self._due[device_id]
                taken.append(device_id)
        return taken

    def next_deadline(self) -> float | None:
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def __len__(self) -> int:
        return len(self._due)


class Directory:
    """Asks devices for their catalogues and applies the answers."""

    def __init__(
        self,
        config: SipConfig,
        outbox: Outbox,
        answers: Answers,
        devices: DeviceBook,
        quirks: QuirkLedger,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._answers = answers
        self._devices = devices
        self._quirks = quirks
        self._clock = clock
        self._metrics = metrics
        self._plan = CatalogPlan()
        self._failures: dict[DeviceId, int] = {}
        self._running: dict[DeviceId, asyncio.Future[CatalogDiff]] = {}
        self._assemblies: dict[DeviceId, CatalogAssembly] = {}
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._nudged = asyncio.Event()
        self.on_catalog: Callable[[DeviceId, CatalogDiff], None] | None = None

    def progress(self, device_id: DeviceId) -> tuple[int, int | None] | None:
        """(received, expected) of the answer coming in now; None when none is."""
        assembly = self._assemblies.get(device_id)
        return None if assembly is None else (assembly.paging.received, assembly.paging.expected)

    # ---- one answer -------------------------------------------------------------------------

    async def refresh(self, entry: Entry) -> CatalogDiff:
        """Ask now; who asks while an answer is coming in shares it.

        A short answer is applied as partial and returned, `complete` False. Raises Unavailable
        when the device is away, refuses, or sends no page at all.
        """
        running = self._running.get(entry.id)
        if running is not None:
            return await asyncio.shield(running)
        shared: asyncio.Future[CatalogDiff] = asyncio.get_running_loop().create_future()
        self._running[entry.id] = shared
        try:
            async with self._slots:
                diff = await self._ask(entry)
        except BaseException as error:
            failure = error if isinstance(error, VspError) else _given_up(entry)
            shared.set_exception(failure)
            shared.exception()  # read once, so that a failure nobody shares is no warning
            raise
        else:
            shared.set_result(diff)
            return diff
        finally:
            del self._running[entry.id]

    async def _ask(self, entry: Entry) -> CatalogDiff:
        try:
            assembly = await self._gather(entry)
        except VspError:
            self._metrics.count("vsp_sip_catalogs", result="failed")
            if not _is_new_camera(entry):
                raise
            # A camera that cannot tell its catalogue is one picture all the same.
            return await self._apply(entry, [], None, complete=False)
        paging = assembly.paging
        if paging.sum_changed:
            self._quirks.seen(entry.id, "sumnum-changes", self._clock.now_us())
        complete = paging.complete and not assembly.damaged
        result = "complete" if complete else "partial"
        self._metrics.count("vsp_sip_catalogs", result=result)
        return await self._apply(entry, assembly.items, paging.expected, complete)

    async def _gather(self, entry: Entry) -> CatalogAssembly:
        first_s = first_page_s(entry.device.kind, self._config.query_timeout_s)
        now = self._clock.monotonic()
        idle_s, before = self._config.catalog_idle_s, entry.catalog_items
        assembly = CatalogAssembly(now, first_s, idle_s, before)
        arrived = asyncio.Event()

        def sink(body: Body) -> None:
            assembly.add(catalog.parse_response(body), self._clock.monotonic())
            arrived.set()

        sn = self._answers.open(entry.id, "Catalog", sink)
        self._assemblies[entry.id] = assembly
        try:
            await self._send(entry, sn, assembly)
            await collect(assembly.paging, arrived, self._clock)
        finally:
            self._answers.close(entry.id, "Catalog", sn)
            del self._assemblies[entry.id]
        if not assembly.paging.pages:
            raise no_answer(entry, "Catalog", sn, first_s)
        return assembly

    async def _send(self, entry: Entry, sn: int, assembly: CatalogAssembly) -> None:
        query = catalog.encode_query(sn, entry.gb_id, entry.settings.charset)
        try:
            await self._outbox.message(entry, entry.gb_id, query, self._config.query_timeout_s)
        except Unavailable:
            if not assembly.paging.pages:  # a lost 200 does not matter once pages come
                raise

    async def _apply(
        self, entry: Entry, items: list[CatalogItem], expected: int | None, complete: bool
    ) -> CatalogDiff:
        now_us = self._clock.now_us()
        own = own_channel(entry, items)
        if own is not None:
            self._quirks.seen(entry.id, "catalog-without-self", now_us)
            items = [item for item in items if item.gb_id != own.gb_id] + [own]
            expected = None if expected is None else max(expected, len(items))
        before = entry.catalog_items
        diff = await self._devices.apply_catalog(entry.id, items, expected, complete, now_us)
        entry.catalog_at_us = now_us
        entry.catalog_complete = complete
        entry.catalog_items = diff.received if complete else max(before, diff.received)
        log.info(
            "catalogue applied",
            device=entry.id,
            received=diff.received,
            expected=diff.expected,
            complete=diff.complete,
        )
        if self.on_catalog is not None:
            self.on_catalog(entry.id, diff)
        return diff

    # ---- the round --------------------------------------------------------------------------

    def came_online(self, entry: Entry) -> None:
        """Ask soon, unless the catalogue is fresh; then in its turn."""
        now = self._clock.monotonic()
        age_s = catalog_age_s(entry, self._clock.now_us())
        wait_s = 0.0
        if entry.catalog_complete and age_s is not None and age_s < FRESH_S:
            wait_s = max(0.0, self._config.catalog_refresh_s - age_s)
        self._failures.pop(entry.id, None)
        self._plan.want(entry.id, now + wait_s)
        self._nudged.set()

    def forget(self, device_id: DeviceId) -> None:
        """The device was removed."""
        self._plan.forget(device_id)
        self._failures.pop(device_id, None)

    def plan_all(self, entries: list[Entry]) -> None:
        """After a start: everybody who is there, each when its catalogue has come of age."""
        now, now_us = self._clock.monotonic(), self._clock.now_us()
        for entry in entries:
            age_s = catalog_age_s(entry, now_us)
            fresh = entry.catalog_complete and age_s is not None
            left_s = self._config.catalog_refresh_s - (age_s or 0.0) if fresh else 0.0
            self._plan.want(entry.id, now + max(0.0, left_s))
        self._nudged.set()

    async def run(
        self,
        find: Callable[[DeviceId], Entry | None],
        survey: Callable[[Entry], Awaitable[CatalogDiff]],
    ) -> None:
        """Ask whoever is due, at most IN_FLIGHT_MAX at a time, for ever; to be cancelled."""
        async with asyncio.TaskGroup() as group:
            under_way: set[asyncio.Task[None]] = set()
            while True:
                free = IN_FLIGHT_MAX - len(under_way)
                for device_id in self._plan.take(self._clock.monotonic(), free):
                    entry = find(device_id)
                    if entry is not None and entry.presence is Presence.ONLINE:
                        task = group.create_task(self._survey(entry, survey))
                        under_way.add(task)
                        task.add_done_callback(under_way.discard)
                        task.add_done_callback(lambda _: self._nudged.set())
                await self._wait(len(under_way) < IN_FLIGHT_MAX)

    async def _wait(self, may_start: bool) -> None:
        """Until a slot is free, somebody is due, or somebody new is wanted."""
        due = self._plan.next_deadline()
        wait_s = None
        if may_start and due is not None:
            wait_s = max(0.0, due - self._clock.monotonic())
        try:
            async with asyncio.timeout(wait_s):
                await self._nudged.wait()
        except TimeoutError:
            return
        self._nudged.clear()

    async def _survey(
        self, entry: Entry, survey: Callable[[Entry], Awaitable[CatalogDiff]]
    ) -> None:
        """One device's turn; then its next one is planned."""
        try:
            diff = await survey(entry)
            wait_s = self._after(entry.id, diff.complete)
        except VspError as error:
            log.warning("catalogue not read", device=entry.id, error=error.message)
            wait_s = self._after(entry.id, False)
        except Exception:
            log.exception("catalogue not read", device=entry.id)
            wait_s = self._after(entry.id, False)
        self._plan.want(entry.id, self._clock.monotonic() + wait_s)

    def _after(self, device_id: DeviceId, complete: bool) -> float:
        """Seconds until this device is asked again."""
        if complete:
            self._failures.pop(device_id, None)
            return self._config.catalog_refresh_s
        failures = self._failures[device_id] = self._failures.get(device_id, 0) + 1
        return retry_after_s(failures, self._config.catalog_refresh_s)


def retry_after_s(failures: int, refresh_s: float) -> float:
    """60 s, then twice as long each time, never beyond the refresh period."""
    return min(RETRY_FIRST_S * 2.0 ** min(failures - 1, 20), refresh_s)


def first_page_s(kind: DeviceKind, query_timeout_s: float) -> float:
    """How long the first page may take."""
    if kind is DeviceKind.PLATFORM:
        return max(query_timeout_s, FIRST_PAGE_PLATFORM_S)
    return query_timeout_s


def catalog_age_s(entry: Entry, now_us: UtcMicros) -> float | None:
    """Age of the last applied answer; None when there is none."""
    if entry.catalog_at_us is None:
        return None
    return max(0.0, (now_us - entry.catalog_at_us) / 1_000_000)


def own_channel(entry: Entry, items: list[CatalogItem]) -> CatalogItem | None:
    """Quirk `catalog-without-self`: a camera that names no picture source is one itself.

    GB/T 28181-2016 annex J: a device answers with itself and what is below it. Recorders and
    platforms without cameras simply have none.
    """
    if entry.device.kind is not DeviceKind.CAMERA:
        return None
    parents = parents_named(items)
    if any(playable_of(item, parents) for item in items):
        return None
    return CatalogItem(
        gb_id=entry.gb_id,
        name=entry.device.name or entry.gb_id,
        manufacturer=entry.device.manufacturer,
        model=entry.device.model,
        status=Presence.ONLINE,
    )


def _is_new_camera(entry: Entry) -> bool:
    """A camera in reach that never told a catalogue; one that did keeps what it told."""
    camera = entry.device.kind is DeviceKind.CAMERA
    return camera and entry.catalog_at_us is None and entry.presence is Presence.ONLINE


def _given_up(entry: Entry) -> Unavailable:
    return Unavailable(f"the catalogue query to device {entry.gb_id} was given up")


__all__ = [
    "FRESH_S",
    "IN_FLIGHT_MAX",
    "ITEMS_MAX",
    "CatalogAssembly",
    "CatalogPlan",
    "Directory",
    "catalog_age_s",
    "first_page_s",
    "own_channel",
    "retry_after_s",
]
