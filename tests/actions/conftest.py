"""A rig for each test of a use case."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.actions.rig import Rig
from tests.actions.rig import rig as open_rig


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with open_rig(tmp_path) as opened:
        yield opened
