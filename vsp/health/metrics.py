"""Every metric of the platform, declared once with its unit and help.

Other packages count through the `Metrics` port by name; a name that is not declared here is a
broken invariant, found by the first test that runs over it. Labels are few and bounded: never a
device, a channel or a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


@dataclass(frozen=True, slots=True)
class Declaration:
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


LAG_BUCKETS_S = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
"""Around the loop-lag budget: p99 20 ms, worst 50 ms."""

COUNTERS: Mapping[str, Declaration] = {
    "vsp_sip_requests": Declaration("SIP requests received, by method.", ("method",)),
    "vsp_sip_responses": Declaration("SIP responses sent, by status class.", ("status",)),
    "vsp_sip_refused": Declaration("Requests refused, by reason.", ("reason",)),
    "vsp_sip_keepalives": Declaration("Keepalives accepted."),
    "vsp_sip_registers": Declaration("REGISTERs, by outcome.", ("result",)),
    "vsp_sip_invites": Declaration("INVITEs sent, by outcome.", ("result",)),
    "vsp_sip_catalogs": Declaration("Catalogue answers, by outcome.", ("result",)),
    "vsp_device_transitions": Declaration("Presence changes of devices.", ("state",)),
    "vsp_stream_attempts": Declaration("Attempts to bring a stream up, by result.", ("result",)),
    "vsp_segments_committed": Declaration("Segment rows committed."),
    "vsp_segment_bytes": Declaration("Bytes of committed segments."),
    "vsp_reconcile_findings": Declaration("Rows and objects that disagreed, by kind.", ("kind",)),
    "vsp_reconcile_mended": Declaration("Those that were mended, by kind.", ("kind",)),
    "vsp_views_opened": Declaration("Views opened, by kind.", ("kind",)),
    "vsp_sign_ins": Declaration("Sign-ins, by result.", ("result",)),
    "vsp_http_requests": Declaration("HTTP requests, by status class.", ("status",)),
}

GAUGES: Mapping[str, Declaration] = {
    "vsp_devices": Declaration("Devices, by presence.", ("presence",)),
    "vsp_channels": Declaration("Channels in the register."),
    "vsp_candidates": Declaration("Unknown devices waiting for a decision."),
    "vsp_streams": Declaration("Inbound streams, by state.", ("state",)),
    "vsp_recordings_planned": Declaration("Channels whose plan says: record."),
    "vsp_recordings_active": Declaration("Channels being recorded now."),
    "vsp_workers_alive": Declaration("Media workers that answer."),
    "vsp_stream_bits_per_second": Declaration("Sum of inbound bit rates."),
    "vsp_packets_lost": Declaration("Packets lost on inbound streams that are up."),
    "vsp_packets_foreign": Declaration("Packets from unexpected sources, never recorded."),
    "vsp_alarms": Declaration("Alarms that are raised, by kind.", ("kind",)),
    "vsp_objects_lost": Declaration("Rows without their object, as last looked at."),
    "vsp_store_free_bytes": Declaration("Free space of the object store's disk."),
}

HISTOGRAMS: Mapping[str, Declaration] = {
    "vsp_loop_lag_seconds": Declaration("Lag of the event loop.", buckets=LAG_BUCKETS_S),
    "vsp_sip_request_seconds": Declaration(
        "Time to answer a request of ours, by method.",
        ("method",),
        (0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0),
    ),
}


class PrometheusMetrics:
    """The `Metrics` port on prometheus-client, with a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._counters = {
            name: Counter(name, item.help, item.labels, registry=self._registry)
            for name, item in COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(name, item.help, item.labels, registry=self._registry)
            for name, item in GAUGES.items()
        }
        self._histograms = {
            name: Histogram(
                name, item.help, item.labels, registry=self._registry, buckets=item.buckets
            )
            for name, item in HISTOGRAMS.items()
        }

    def count(self, name: str, by: float = 1.0, **labels: str) -> None:
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(by)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        histogram = self._histograms[name]
        (histogram.labels(**labels) if labels else histogram).observe(value)

    def text(self) -> str:
        """The exposition format that Prometheus scrapes."""
        return generate_latest(self._registry).decode()
