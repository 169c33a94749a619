"""Metrics are declared once; everything that counts uses a declared name with its labels."""

import ast
from pathlib import Path

import pytest

from vsp.health.metrics import COUNTERS, GAUGES, HISTOGRAMS, PrometheusMetrics

KINDS = {"count": COUNTERS, "gauge": GAUGES, "observe": HISTOGRAMS}
RESERVED = {"by", "value"}


def calls() -> list[tuple[str, str, str, set[str]]]:
    """(file, kind, metric, labels) of each call on the Metrics port in vsp/."""
    found = []
    for path in Path("vsp").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            name = node.args[0] if node.args else None
            if node.func.attr in KINDS and isinstance(name, ast.Constant):
                labels = {keyword.arg for keyword in node.keywords if keyword.arg} - RESERVED
                if str(name.value).startswith("vsp_"):
                    found.append((str(path), node.func.attr, str(name.value), labels))
    return found


def test_every_counted_name_is_declared_with_exactly_its_labels():
    for path, kind, name, labels in calls():
        assert name in KINDS[kind], f"{path}: {name} is not declared"
        assert set(KINDS[kind][name].labels) == labels, f"{path}: labels of {name}"


def test_a_counted_value_is_exposed():
    metrics = PrometheusMetrics()

    metrics.count("vsp_sip_registers", result="accepted")
    metrics.gauge("vsp_workers_alive", 2)
    metrics.observe("vsp_loop_lag_seconds", 0.004)

    text = metrics.text()
    assert 'vsp_sip_registers_total{result="accepted"} 1.0' in text
    assert "vsp_workers_alive 2.0" in text
    assert 'vsp_loop_lag_seconds_bucket{le="0.005"} 1.0' in text


def test_an_undeclared_name_is_refused():
    with pytest.raises(KeyError):
        PrometheusMetrics().count("vsp_no_such_metric")
