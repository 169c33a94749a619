"""Named tolerances: where devices leave the standard and what we do about it.

A row stands here only when code acts on it; that code calls `QuirkLedger.seen` with the row's name,
so that a device's page can say what is odd about it. Nothing is decided here. Names are stable:
they appear in the API and in metrics.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from vsp.model.ids import DeviceId, UtcMicros

DEVICES_MAX = 100_000
"""Devices remembered; the largest fleet of one node. The one longest without news goes first."""


@dataclass(frozen=True, slots=True)
class Quirk:
    """One tolerance.

    clause    what is broken, with the edition it stands in
    seen_at   where it was met
    handling  what we do instead of refusing
    """

    name: str
    clause: str
    seen_at: str
    handling: str


@dataclass(frozen=True, slots=True)
class Sighting:
    """How often one device showed one quirk."""

    quirk: Quirk
    first_us: UtcMicros
    last_us: UtcMicros
    times: int


_ROWS = (
    Quirk(
        "content-length-wrong",
        "RFC 3261 18.3 and 20.14: Content-Length is the length of the body",
        "Hikvision (another length, or 0 with a body), Dahua (0 in catalogue answers)",
        "over UDP the body is what the datagram holds",
    ),
    Quirk(
        "bare-line-feeds",
        "RFC 3261 7: header lines end with CRLF",
        "several small stacks",
        "read all the same",
    ),
    Quirk(
        "method-in-lower-case",
        "RFC 3261 7.1: methods are written in capitals (GB/T 28181-2016 prints them mixed)",
        "several",
        "read as if in capitals",
    ),
    Quirk(
        "via-without-branch",
        "RFC 3261 8.1.1.7: each Via carries a branch (examples of GB/T 28181-2016 have none)",
        "Hikvision platforms",
        "the whole Via, Call-ID and CSeq tell requests apart",
    ),
    Quirk(
        "from-without-id",
        "GB/T 28181-2016 9.1.1: From of a request names the device",
        "TP-Link",
        "the sender is taken from the exact source address it registered from",
    ),
    Quirk(
        "from-names-channel",
        "GB/T 28181-2016 annex A: From of a MESSAGE names the registered device",
        "several recorders",
        "the sender is taken from the exact source address it registered from",
    ),
    Quirk(
        "source-port-moved",
        "GB/T 28181-2022 9.1.1 f): traffic stays on the address registered from",
        "every device behind an address translator",
        "a heartbeat from the same host moves the binding to the new port",
    ),
    Quirk(
        "keepalive-after-offline",
        "GB/T 28181-2016 9.6: after lost heartbeats the device registers again",
        "Huawei: only heartbeats, never a REGISTER, while its registration lasts",
        "within a valid registration a heartbeat brings the device back on line",
    ),
    Quirk(
        "foreign-auth-scheme",
        "GB/T 28181-2016 9.1.2.1: registration is authorised by digest",
        "devices of the 2011 edition set to certificates (Capability, Asymmetric)",
        "answered with a digest challenge",
    ),
    Quirk(
        "empty-message",
        "RFC 3428 4 and GB/T 28181-2016 annex A: a MESSAGE carries MANSCDP",
        "several",
        "answered 200, counted as a sign of life, nothing else",
    ),
    Quirk(
        "private-command",
        "GB/T 28181-2016 annex A: a command is one of the listed XML documents",
        "DJI DataTransfer",
        "answered 200 although the body is not XML we know; 400 would disturb the device",
    ),
    Quirk(
        "broken-xml",
        "GB/T 28181-2016 annex A.1: bodies are well-formed XML",
        "Hikvision (unescaped &, control bytes), several (NULs, extra end tags)",
        "read leniently; what is whole is used",
    ),
    Quirk(
        "wrong-charset",
        "GB/T 28181-2016 annex A, 2022 4.6: bodies are in the declared character set",
        "Uniview and others: UTF-8 declared as GB2312, and the reverse",
        "decoded by trial, the declared set first",
    ),
    Quirk(
        "sn-missing",
        "GB/T 28181-2016 annex A.2.6: an answer repeats the SN of its query",
        "several",
        "taken for the answer of the only open query of that command",
    ),
    Quirk(
        "sumnum-changes",
        "GB/T 28181-2016 annex A.2.6: SumNum is the total of the whole answer",
        "several: it changes between packets of one answer",
        "the largest value counts; what differs from it at the end is kept as partial",
    ),
    Quirk(
        "catalog-without-self",
        "GB/T 28181-2016 9.5: a device answers with itself and its children",
        "network cameras that list nothing, or list no picture source",
        "a camera (type 131, 132) becomes its own channel",
    ),
    Quirk(
        "record-items-empty",
        "GB/T 28181-2016 annex A.2.6 RecordInfo: an item has a device and times",
        "several: items with empty ids and times",
        "such items count towards SumNum and are left out",
    ),
    Quirk(
        "answer-ssrc-differs",
        "GB/T 28181-2016 annex F: a device of our own domain repeats the offered y",
        "Hikvision platforms and outside domains",
        "the answer's SSRC is followed",
    ),
    Quirk(
        "answer-without-ssrc",
        "GB/T 28181-2016 annex F: the answer carries y",
        "many",
        "the offered SSRC is assumed; the first packet decides",
    ),
    Quirk(
        "answer-without-setup",
        "GB/T 28181-2016 annex L: setup in offer and answer of RTP over TCP",
        "several",
        "the complement of our offer is assumed",
    ),
    Quirk(
        "status-without-id",
        "GB/T 28181-2016 annex P: MediaStatus comes from the device of the dialog",
        "Hikvision (other From), several (the channel's id)",
        "matched by Call-ID and source host",
    ),
)

QUIRKS: dict[str, Quirk] = {row.name: row for row in _ROWS}
"""All tolerances by name."""


class QuirkLedger:
    """Which device showed what. In memory; it fills again within a heartbeat after a restart."""

    def __init__(self) -> None:
        self._seen: OrderedDict[DeviceId, dict[str, Sighting]] = OrderedDict()

    def seen(self, device_id: DeviceId, name: str, now_us: UtcMicros) -> bool:
        """Note one sighting. True when it is the first of this quirk at this device."""
        quirk = QUIRKS[name]
        shown = self._seen.setdefault(device_id, {})
        self._seen.move_to_end(device_id)
        old = shown.get(name)
        first_us = old.first_us if old else now_us
        times = old.times + 1 if old else 1
        shown[name] = Sighting(quirk, first_us, now_us, times)
        if len(self._seen) > DEVICES_MAX:
            self._seen.popitem(last=False)
        return old is None

    def of(self, device_id: DeviceId) -> tuple[Sighting, ...]:
        """What the device showed, by name."""
        shown = self._seen.get(device_id, {})
        return tuple(shown[name] for name in sorted(shown))

    def forget(self, device_id: DeviceId) -> None:
        """The device was removed."""
        self._seen.pop(device_id, None)


__all__ = ["DEVICES_MAX", "QUIRKS", "Quirk", "QuirkLedger", "Sighting"]
