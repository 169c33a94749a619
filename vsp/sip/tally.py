"""Counts collected in the receive path and handed to the `Metrics` port once a second.

Counting through the port costs about 2 us with its labels, three of them a message; a heartbeat
as a whole costs thirty. Here it is one addition. Gauges and observations pass straight through.
"""

from __future__ import annotations

from vsp.ports import Metrics


class Tally:
    """The Metrics port, with `count` put off until `flush`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._counts: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def count(self, name: str, by: float = 1.0, **labels: str) -> None:
        """As many keys as there are declared label values, which are few (health/metrics.py)."""
        key = (name, tuple(labels.items()))
        self._counts[key] = self._counts.get(key, 0.0) + by

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self._metrics.gauge(name, value, **labels)

    def observe(self, name: str, value: float, **labels: str) -> None:
        self._metrics.observe(name, value, **labels)

    def flush(self) -> None:
        """Hand everything over."""
        counts, self._counts = self._counts, {}
        for (name, labels), by in counts.items():
            self._metrics.count(name, by, **dict(labels))


__all__ = ["Tally"]
