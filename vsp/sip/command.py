"""Questions to a device and their answers: DeviceInfo, DeviceStatus, RecordInfo.

In MANSCDP a query is a MESSAGE of ours, answered 200 without body; its answer is another MESSAGE of
the device, in as many pages as it likes (GB/T 28181-2016 9.5, 9.7, annex A.2.4 and A.2.6). The two
are tied by device, command and SN and by nothing else: DeviceID may be the device's or the
channel's, pages come late, twice and out of order.

`Answers` ties them, `Paging` decides when a paged answer is over (pure), `Outbox` sends, `Commands`
puts the three together. The catalogue, which also changes rows, is in directory.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from vsp.config import SipConfig
from vsp.errors import Exhausted, Invalid, Unavailable, Unsupported
from vsp.model.device import Presence
from vsp.model.ids import DeviceId, GbId, UtcMicros
from vsp.ports import Clock, DeviceFacts, Ids, Metrics, RecordItem
from vsp.sip.core.agent import Peer
from vsp.sip.core.manscdp import deviceinfo, devicestatus, recordinfo
from vsp.sip.core.manscdp.envelope import Body
from vsp.sip.endpoint import SipEndpoint
from vsp.sip.presence import Entry, address
from vsp.sip.quirks import QuirkLedger

OPEN_MAX = 10_000
"""Queries waiting for answers; beyond it something asks without end."""

SN_FIRST, SN_LAST = 100_000, 2_000_000_000
"""SN stays below 2**31, since some devices keep it in a signed int (GB/T 28181-2016 annex A.1)."""

MANSCDP_TYPE = "Application/MANSCDP+xml"

SETTLE_S = 0.5
"""Wait after the last announced item: pages that belong together follow within milliseconds."""

RECORD_IDLE_S = 10.0
"""Silence that ends a RecordInfo answer: recorders send one to eight items a page, slowly."""

RECORD_TOTAL_S = 120.0
"""Longest RecordInfo answer: pages that never end must not hold a person for ever."""

RECORD_SLICE_US = UtcMicros(12 * 3600 * 1_000_000)
"""Longest range of one RecordInfo query: Hikvision and Huawei break their XML above about 12 h."""

RECORD_SLICES_MAX = 64
"""Slices of one search: a month in 12 h steps; longer ones are asked for in parts."""

RECORD_ITEMS_MAX = 50_000
"""Files of one search: a year of ten-minute files; more is a device gone wrong."""

UNSUPPORTED_STATUSES = frozenset({405, 415, 489, 501})


# ---- answers --------------------------------------------------------------------------------


class Answers:
    """Open queries by device, command and SN (GB/T 28181-2016 annex A.2.6)."""

    def __init__(self, ids: Ids, quirks: QuirkLedger, clock: Clock) -> None:
        self._sn = SN_FIRST + ids.number(900_000)
        self._quirks = quirks
        self._clock = clock
        self._open: dict[tuple[DeviceId, str, int], Callable[[Body], None]] = {}

    def open(self, device_id: DeviceId, command: str, sink: Callable[[Body], None]) -> int:
        """Wait for the answers of one query; gives its SN. `sink` gets each page as it comes."""
        if len(self._open) >= OPEN_MAX:
            raise Exhausted(f"{OPEN_MAX} queries wait for their answers")
        self._sn = self._sn + 1 if self._sn < SN_LAST else SN_FIRST
        self._open[(device_id, command.lower(), self._sn)] = sink
        return self._sn

    def close(self, device_id: DeviceId, command: str, sn: int) -> None:
        self._open.pop((device_id, command.lower(), sn), None)

    def deliver(self, device_id: DeviceId, body: Body) -> bool:
        """Hand an answer to its query. False when nobody waits (late, or never asked)."""
        command = body.cmd_type.lower()
        sink = self._open.get((device_id, command, body.sn))
        if sink is None and body.sn == 0:
            sink = self._only_open(device_id, command)
        if sink is None:
            return False
        sink(body)
        return True

    def _only_open(self, device_id: DeviceId, command: str) -> Callable[[Body], None] | None:
        """Quirk `sn-missing`: an answer without SN belongs to the one open query, if it is one."""
        fits = [sink for key, sink in self._open.items() if key[:2] == (device_id, command)]
        if len(fits) != 1:
            return None
        self._quirks.seen(device_id, "sn-missing", self._clock.now_us())
        return fits[0]

    def __len__(self) -> int:
        return len(self._open)


class Paging:
    """When a paged answer is over: all there, silent too long, or too long altogether. Pure.

    All there means exactly SumNum: a device that announces less than it sends, or counts each page
    by itself, must not make the rest look removed. Hence also the short wait after the last item,
    and the long one where fewer are all there than there were the last time.

    before  how many there were
    """

    def __init__(
        self, now: float, first_s: float, idle_s: float, total_s: float, before: int = 0
    ) -> None:
        self._idle_s = idle_s
        self._before = before
        self._end = now + total_s
        self._due = now + first_s
        self.pages = 0
        self.received = 0
        self.expected: int | None = None
        self.sum_changed = False

    def page(self, received: int, sum_num: int | None, now: float) -> None:
        """Note one page: what is there in all, and the total it announces; the largest counts."""
        self.pages += 1
        self.received = received
        if sum_num is not None and sum_num >= 0:
            self.sum_changed |= self.expected not in (None, sum_num)
            self.expected = max(sum_num, self.expected or 0)
        settled = self.complete and received >= self._before
        self._due = now + (SETTLE_S if settled else self._idle_s)

    @property
    def complete(self) -> bool:
        return self.received == self.expected

    @property
    def deadline(self) -> float:
        """When it is over, as far as can be said now."""
        return min(self._due, self._end)


async def collect(paging: Paging, arrived: asyncio.Event, clock: Clock) -> None:
    """Wait until the answer is over. `arrived` is set at each page."""
    while (left_s := paging.deadline - clock.monotonic()) > 0:
        try:
            async with asyncio.timeout(left_s):
                await arrived.wait()
        except TimeoutError:
            continue
        arrived.clear()


# ---- sending --------------------------------------------------------------------------------


class Outbox:
    """Sends MESSAGEs to devices, and knows how they are addressed."""

    def __init__(
        self,
        config: SipConfig,
        advertised: str,
        endpoint: SipEndpoint,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._config = config
        self._advertised = advertised
        self._endpoint = endpoint
        self._clock = clock
        self._metrics = metrics

    @property
    def local_uri(self) -> str:
        """From of everything we send (GB/T 28181-2016 annex G)."""
        return f"sip:{self._config.id}@{self._config.domain}"

    @property
    def contact(self) -> str:
        return f"sip:{self._config.id}@{host_text(self._advertised)}:{self._endpoint.port}"

    @staticmethod
    def remote_uri(gb_id: str) -> str:
        """To: the code with the domain that its first ten digits name."""
        return f"sip:{gb_id}@{gb_id[:10]}"

    @staticmethod
    def target(gb_id: str, peer: Peer) -> str:
        """Request-URI: the code at the address the device registered from."""
        return f"sip:{gb_id}@{host_text(peer.host)}:{peer.port}"

    def reach(self, entry: Entry) -> Peer:
        """Where requests to a device go now. Raises Unavailable with the evidence."""
        peer = entry.peer
        if peer is None or entry.presence is not Presence.ONLINE:
            raise Unavailable(
                f"device {entry.gb_id} is {entry.presence.value}",
                cause="the device has no valid registration or lost its heartbeat",
                next_step="check power and network of the device",
            )
        if not self._endpoint.connected(peer):
            raise Unavailable(
                f"the TCP connection of device {entry.gb_id} ({address(peer)}) is closed",
                cause="the device has to open it again; we never do (GB/T 28181-2022 9.1.1 f)",
                next_step="wait for the device to register again",
            )
        return peer

    async def message(self, entry: Entry, gb_id: str, body: bytes, timeout_s: float) -> None:
        """One MESSAGE, accepted with 2xx. Raises Unavailable or Unsupported naming the status."""
        peer = self.reach(entry)
        began = self._clock.monotonic()
        response = await self._endpoint.request(
            "MESSAGE",
            self.target(gb_id, peer),
            (
                ("From", f"<{self.local_uri}>"),
                ("To", f"<{self.remote_uri(gb_id)}>"),
                ("Content-Type", MANSCDP_TYPE),
            ),
            body,
            peer,
            timeout_s,
        )
        took_s = self._clock.monotonic() - began
        self._metrics.observe("vsp_sip_request_seconds", took_s, method="MESSAGE")
        if not 200 <= response.status < 300:
            kind = Unsupported if response.status in UNSUPPORTED_STATUSES else Unavailable
            raise kind(
                f"device {entry.gb_id} answers {response.status} {response.reason} to a MESSAGE "
                f"(peer {address(peer)}, Call-ID {response.call_id}, CSeq {response.cseq[0]})"
            )


def host_text(host: str) -> str:
    """An address as it stands in a URI (RFC 3261 25: IPv6 in brackets)."""
    return f"[{host}]" if ":" in host else host


# ---- the queries ----------------------------------------------------------------------------


class RecordItems(tuple[RecordItem, ...]):
    """Files of a device by start. `complete` is False when the device announced more than came."""

    complete: bool = True
    expected: int | None = None


class RecordAssembly:
    """Pages of one RecordInfo answer, in any order (GB/T 28181-2016 9.7). Pure."""

    def __init__(self, now: float, first_s: float) -> None:
        self.paging = Paging(now, first_s, RECORD_IDLE_S, RECORD_TOTAL_S)
        self.hollow = 0
        self._items: dict[tuple[str, int, int, str], RecordItem] = {}

    def add(self, page: recordinfo.RecordPage, now: float) -> None:
        """Take one page. Items without times are hollow: they count, and are left out."""
        for item in page.items:
            if len(self._items) < RECORD_ITEMS_MAX:
                key = (item.channel_gb_id, item.start_us, item.end_us, item.kind)
                self._items[key] = item
        self.hollow += page.skipped
        self.paging.page(len(self._items) + self.hollow, page.sum_num, now)

    @property
    def items(self) -> list[RecordItem]:
        return sorted(self._items.values(), key=lambda item: (item.start_us, item.end_us))


class Commands:
    """The queries whose answers go to whoever asked."""

    def __init__(
        self,
        config: SipConfig,
        outbox: Outbox,
        answers: Answers,
        quirks: QuirkLedger,
        clock: Clock,
    ) -> None:
        self._config = config
        self._outbox = outbox
        self._answers = answers
        self._quirks = quirks
        self._clock = clock

    async def device_info(self, entry: Entry) -> DeviceFacts:
        """Maker, model, firmware (GB/T 28181-2016 annex A.2.4.4, A.2.6.5)."""
        return deviceinfo.parse_response(
            await self._ask(entry, "DeviceInfo", deviceinfo.encode_query)
        )

    async def device_status(self, entry: Entry) -> Mapping[str, str]:
        """What the device says of itself now (GB/T 28181-2016 annex A.2.4.2)."""
        return devicestatus.parse_response(
            await self._ask(entry, "DeviceStatus", devicestatus.encode_query)
        )

    async def _ask(self, entry: Entry, command: str, encode: Callable[..., bytes]) -> Body:
        """One query with one answer. The answer may overtake the 200 of the query."""
        answer: asyncio.Future[Body] = asyncio.get_running_loop().create_future()

        def sink(body: Body) -> None:
            if not answer.done():
                answer.set_result(body)

        timeout_s = self._config.query_timeout_s
        sn = self._answers.open(entry.id, command, sink)
        try:
            query = encode(sn, entry.gb_id, entry.settings.charset)
            await self._send(entry, entry.gb_id, query, timeout_s, answer.done)
            async with asyncio.timeout(timeout_s):
                return await answer
        except TimeoutError as error:
            raise no_answer(entry, command, sn, timeout_s) from error
        finally:
            self._answers.close(entry.id, command, sn)

    async def _send(
        self,
        entry: Entry,
        gb_id: str,
        query: bytes,
        timeout_s: float,
        answered: Callable[[], bool],
    ) -> None:
        """Send; a lost 200 does not matter when the answer itself is there."""
        try:
            await self._outbox.message(entry, gb_id, query, timeout_s)
        except Unavailable:
            if not answered():
                raise

    async def records(
        self, entry: Entry, channel: GbId, from_us: UtcMicros, until_us: UtcMicros
    ) -> RecordItems:
        """Files a device holds of a channel, asked in slices of 12 h, one after another."""
        slices = record_slices(from_us, until_us)
        found: dict[tuple[str, int, int, str], RecordItem] = {}
        complete = True
        expected = 0
        for start_us, end_us in slices:
            part = await self._records_of(entry, channel, start_us, end_us)
            complete = complete and part.paging.complete
            expected += part.paging.expected or 0
            for item in part.items:
                found[(item.channel_gb_id, item.start_us, item.end_us, item.kind)] = item
        items = RecordItems(sorted(found.values(), key=lambda item: item.start_us))
        items.complete = complete
        items.expected = expected
        return items

    async def _records_of(
        self, entry: Entry, channel: GbId, start_us: UtcMicros, end_us: UtcMicros
    ) -> RecordAssembly:
        timeout_s = self._config.query_timeout_s
        assembly = RecordAssembly(self._clock.monotonic(), timeout_s)
        arrived = asyncio.Event()

        def sink(body: Body) -> None:
            assembly.add(recordinfo.parse_response(body), self._clock.monotonic())
            arrived.set()

        sn = self._answers.open(entry.id, "RecordInfo", sink)
        try:
            query = recordinfo.encode_query(sn, channel, start_us, end_us, entry.settings.charset)
            await self._send(entry, channel, query, timeout_s, lambda: assembly.paging.pages > 0)
            await collect(assembly.paging, arrived, self._clock)
        finally:
            self._answers.close(entry.id, "RecordInfo", sn)
        if not assembly.paging.pages:
            raise no_answer(entry, "RecordInfo", sn, timeout_s)
        self._note_quirks(entry, assembly)
        return assembly

    def _note_quirks(self, entry: Entry, assembly: RecordAssembly) -> None:
        now_us = self._clock.now_us()
        if assembly.hollow:
            self._quirks.seen(entry.id, "record-items-empty", now_us)
        if assembly.paging.sum_changed:
            self._quirks.seen(entry.id, "sumnum-changes", now_us)


def record_slices(from_us: UtcMicros, until_us: UtcMicros) -> list[tuple[UtcMicros, UtcMicros]]:
    """The range in steps that devices can answer. Raises Invalid for an empty or endless one."""
    if until_us <= from_us:
        raise Invalid("the range of a record search is empty")
    if until_us - from_us > RECORD_SLICE_US * RECORD_SLICES_MAX:
        raise Invalid(f"a record search covers at most {RECORD_SLICES_MAX // 2} days")
    starts = range(from_us, until_us, RECORD_SLICE_US)
    return [
        (UtcMicros(start), UtcMicros(min(start + RECORD_SLICE_US, until_us))) for start in starts
    ]


def no_answer(entry: Entry, command: str, sn: int, timeout_s: float) -> Unavailable:
    """The query was accepted, its answer did not come."""
    return Unavailable(
        f"device {entry.gb_id} did not answer {command} within {timeout_s:g} s (SN {sn})",
        cause="the device accepted the query with 200 but sent no answer",
        next_step="look for the SN in the device's SIP trace",
    )


__all__ = [
    "MANSCDP_TYPE",
    "Answers",
    "Commands",
    "Outbox",
    "Paging",
    "RecordAssembly",
    "RecordItems",
    "collect",
    "host_text",
    "no_answer",
    "record_slices",
]
