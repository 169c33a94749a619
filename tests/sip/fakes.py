"""What the tests of signalling stand on: a clock in hand, counted metrics, a device to copy."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from vsp.clock import SystemIds
from vsp.config import Config, NodeConfig, SipConfig
from vsp.model.device import Device, DeviceKind, DeviceSecret, DeviceSettings, Presence
from vsp.model.ids import DeviceId, GbId, UtcMicros
from vsp.sip.core.agent import Peer
from vsp.sip.core.message import Message, parse_message

SECOND = 1_000_000
START_US = UtcMicros(1_772_330_400 * SECOND)  # 2026-03-01 10:00:00 in Beijing


class ManualClock:
    """Both clocks, turned by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def now_us(self) -> UtcMicros:
        return UtcMicros(START_US + round((self.now - 1000.0) * SECOND))

    def monotonic(self) -> float:
        return self.now


class CountedMetrics:
    """The Metrics port as counters by name and label values."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, name: str, by: float = 1.0, **labels: str) -> None:
        self.counts[" ".join((name, *labels.values()))] += int(by)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self.counts[" ".join((name, *labels.values()))] = int(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        self.counts[" ".join((name, *labels.values()))] += 1


def device(gb_id: str, password: str = "12345678", **changes: object):
    """A device and its secret, as the store gives them."""
    settings = DeviceSettings(**changes.pop("settings", {}))
    plain = Device(
        id=DeviceId(f"dev-{gb_id}"),
        gb_id=GbId(gb_id),
        name="",
        kind=DeviceKind.of(gb_id),
        settings=settings,
        presence=Presence.UNKNOWN,
        presence_since_us=UtcMicros(0),
        created_at_us=UtcMicros(0),
    )
    row = replace(plain, **changes)
    return row, DeviceSecret(row.id, password)


def message_of(data: bytes, peer: Peer | None = None) -> Message:
    return parse_message(data)


def config_in(folder: Path, **sip: object) -> Config:
    """A whole configuration with its data below `folder`."""
    return Config(node=NodeConfig(data_dir=folder), sip=SipConfig(**sip))


__all__ = [
    "SECOND",
    "START_US",
    "CountedMetrics",
    "ManualClock",
    "SystemIds",
    "config_in",
    "device",
    "message_of",
]
