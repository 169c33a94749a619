"""What a device answers to MESSAGE: catalogue, facts, status, recordings.

Each request gets its 200 at once and without body; the business answer is a MESSAGE of our own to
the ID found in the request's From, same SN. Answers of many pages are sent serially, each after
the 200 to the one before (GB/T 28181-2016 9.3 to 9.7, annex N for pages).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from simulators.line import Line
from simulators.spec import ChannelSpec
from simulators.templates import (
    CatalogEntry,
    Query,
    Record,
    Speaker,
    has_element,
    parse_query,
)
from vsp.clock import MICROS
from vsp.errors import Invalid
from vsp.ports import Clock
from vsp.sip.core.message import Message
from vsp.sip.core.transaction import ServerTransaction

ANSWERS_MAX = 16
"""Answers under way at once; a device that is asked more says 503. NVRs manage fewer."""
RECORD_US = 600 * MICROS
"""Length of one recording file."""
RECORD_PAGE_MAX = 8
"""Items of one RecordInfo page: 1 to 8, as devices send them."""
_ANSWERED_CONTROLS = ("RecordCmd", "GuardCmd", "AlarmCmd", "HomePosition", "DeviceUpgrade")
"""Control commands that want an answer (2016 annex A.2.3); the others are not answered."""
GBK_TAIL = "镕堃"
"""Characters that GBK has and GB2312 has not; both occur in Chinese place names."""


class Desk:
    """Reads requests, writes answers. `sending` tells whether any stream is under way."""

    def __init__(
        self, line: Line, speaker: Speaker, clock: Clock, sending: Callable[[], bool]
    ) -> None:
        self._line = line
        self._speaker = speaker
        self._clock = clock
        self._sending = sending
        self._started_us = clock.now_us()
        self._under_way = 0
        self._channels = {channel.gb_id: channel for channel in line.spec.channels}

    def message(self, transaction: ServerTransaction, request: Message, now: float) -> None:
        """One MESSAGE from the platform."""
        try:
            query = parse_query(request.body)
        except Invalid:
            self._line.reply(transaction, 400, "Bad Request", now)
            return
        if query.device_id != self._line.spec.gb_id and query.device_id not in self._channels:
            self._line.reply(transaction, 404, "Not Found", now)
        elif self._under_way >= ANSWERS_MAX:
            self._line.reply(transaction, 503, "Service Unavailable", now)
        else:
            self._line.reply(transaction, 200, "OK", now)
            self._answer(query, request, now)

    def forget(self) -> None:
        """The link broke: what was being said is not continued."""
        self._under_way = 0

    def _answer(self, query: Query, request: Message, now: float) -> None:
        pages = self._pages(query, request.body)
        if pages is None:
            return
        self._under_way += 1
        asker = request.from_user or self._line.platform.gb_id
        wait_s = self._line.spec.faults.slow_catalog_s if query.command == "Catalog" else 0.0
        agent = self._line.agent
        self._line.at(now + wait_s, lambda when: self._say(asker, pages, when, agent))

    def _say(self, asker: str, pages: Iterator[bytes], now: float, agent: object) -> None:
        """The next page, if the link is still the one on which it was asked for."""
        if self._line.agent is not agent:
            return
        page = next(pages, None)
        if page is None:
            self._under_way -= 1
            return

        def said(answer: Message | None, when: float) -> None:
            if answer is not None and 200 <= answer.status < 300:
                self._say(asker, pages, when, agent)
            else:
                self._under_way -= 1

        self._line.message(asker, page, now, said)

    def _pages(self, query: Query, body: bytes) -> Iterator[bytes] | None:
        """The bodies to send, None when nothing is to be said."""
        if query.root == "Query":
            match query.command:
                case "Catalog":
                    return self._catalog(query)
                case "DeviceInfo":
                    return iter([self._device_info(query)])
                case "DeviceStatus":
                    now_us = self._clock.now_us()
                    return iter([self._speaker.device_status(query, now_us, self._sending())])
                case "RecordInfo":
                    return self._record_info(query)
                case _:
                    return iter([self._speaker.refusal(query)])
        if query.root == "Control" and (
            query.command != "DeviceControl"
            or any(has_element(body, name) for name in _ANSWERED_CONTROLS)
        ):
            return iter([self._speaker.refusal(query)])
        return None

    # ---- contents ---------------------------------------------------------------------------

    def _catalog(self, query: Query) -> Iterator[bytes]:
        """The device's own ID asks for all of them, a channel's for that one."""
        faults, spec = self._line.spec.faults, self._line.spec
        wanted = [c for c in spec.channels if query.device_id in (spec.gb_id, c.gb_id)]
        entries = [self._entry(channel) for channel in wanted]
        total = max(0, len(entries) + faults.catalog_sumnum_lie)
        size = max(1, faults.catalog_page_size)
        for first in range(0, max(1, len(entries)), size):
            yield self._speaker.catalog(query, total, entries[first : first + size])

    def _entry(self, channel: ChannelSpec) -> CatalogEntry:
        """ParentID is the device; of a device that is its own channel, the system (annex A.2.1)."""
        spec = self._line.spec
        own = channel.gb_id == spec.gb_id
        parent = self._line.platform.gb_id if own else spec.gb_id
        return CatalogEntry(channel.gb_id, self._name(channel.name), parent, channel.online)

    def _name(self, name: str) -> str:
        return name + GBK_TAIL if self._line.spec.faults.gbk_names else name

    def _device_info(self, query: Query) -> bytes:
        channel = self._channels.get(query.device_id)
        if query.device_id != self._line.spec.gb_id and channel is not None:
            return self._speaker.device_info(query, self._name(channel.name), 1)
        name = self._name(self._line.spec.name)
        return self._speaker.device_info(query, name, len(self._channels))

    def _record_info(self, query: Query) -> Iterator[bytes]:
        """Files since the device was switched on; the last one is still being written."""
        now_us = self._clock.now_us()
        from_us = query.start_us if query.start_us is not None else self._started_us
        until_us = query.end_us if query.end_us is not None else now_us
        starts = range(self._started_us, now_us, RECORD_US)
        records = [
            Record(start, min(start + RECORD_US, now_us), self._size_bytes(start, now_us))
            for start in starts
            if start < until_us and min(start + RECORD_US, now_us) > from_us
        ]
        channel = self._channels.get(query.device_id)
        name = self._name(channel.name if channel else self._line.spec.name)
        first = 0
        while first < len(records) or first == 0:
            size = self._line.ids.number(RECORD_PAGE_MAX) + 1
            yield self._speaker.record_info(
                query, name, len(records), records[first : first + size]
            )
            first += size

    def _size_bytes(self, start_us: int, now_us: int) -> int:
        length_us = min(RECORD_US, now_us - start_us)
        return self._line.spec.video.bits_per_s * length_us // (8 * MICROS)


__all__ = ["ANSWERS_MAX", "GBK_TAIL", "RECORD_PAGE_MAX", "RECORD_US", "Desk"]
