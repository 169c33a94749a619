"""Platforms for end-to-end tests. One demo serves all tests that only look at it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.e2e.platform import Platform

pytestmark = pytest.mark.e2e


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in item.nodeid:
            item.add_marker(pytest.mark.e2e)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def demo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Platform]:
    """`vsp demo --cameras 12`: twelve cameras and a four-channel recorder, all recorded."""
    folder: Path = tmp_path_factory.mktemp("demo")
    platform = Platform(
        folder,
        command=("demo", "--cameras", "12"),
        settings={"VSP_RECORDING__SEGMENT_S": "10"},
        port_first=31000,
    )
    async with platform:
        await platform.channels_playing(16, 120)
        yield platform
