"""Rules for every test: no silent skip in CI, no setting of the developer's own leaks in."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import settings

# In CI the examples are the same each time: a change is judged, not the day's luck; `make check`
# draws fresh ones.
settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    settings.load_profile("ci")

SKIPS = tomllib.loads((Path(__file__).parent / "skips.toml").read_text("utf-8"))["skips"]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("VSP_"):
            monkeypatch.delenv(name)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """In CI a skipped test is a failure unless tests/skips.toml gives the reason."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        name = item.nodeid.partition("[")[0]
        if name not in SKIPS:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI without a reason in tests/skips.toml: {item.nodeid}"
