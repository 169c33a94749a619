"""Who works on what, as workers say it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from tests.contract.manual import ManualClock
from vsp.errors import Unavailable
from vsp.model.ids import UtcMicros, WorkerId
from vsp.ports import MediaControl
from vsp.retention import claims as module
from vsp.retention.claims import Claimed, WorkerClaims


class Says:
    """A worker, as far as it is asked here."""

    def __init__(self, number: int, *keys: str, fails: Exception | None = None) -> None:
        self.worker_id = WorkerId(number)
        self.keys = keys
        self.fails = fails

    async def held_keys(self) -> Sequence[str]:
        if self.fails is not None:
            raise self.fails
        return self.keys


class Hangs(Says):
    async def held_keys(self) -> Sequence[str]:
        await asyncio.Event().wait()
        raise AssertionError


def claims(*workers: Says, grace_s: float = 0.0) -> WorkerClaims:
    return WorkerClaims([cast(MediaControl, each) for each in workers], ManualClock(), grace_s)


async def test_all_workers_are_asked_and_the_young_is_spared():
    claimed = await claims(Says(0, "a", "b"), Says(1, "c"), grace_s=60)()

    now_us = ManualClock().now_us()
    assert claimed.keys == {"a", "b", "c"}
    assert claimed.before_us == now_us - 60_000_000
    assert claimed.spares("c", UtcMicros(0))
    assert claimed.spares("d", UtcMicros(now_us - 60_000_000))
    assert not claimed.spares("d", UtcMicros(now_us - 60_000_001))


async def test_without_a_bound_nothing_is_too_young():
    assert not Claimed(frozenset()).spares("d", UtcMicros(1 << 62))


@pytest.mark.parametrize("other", [Says(1, fails=Unavailable("worker 1 is down")), Hangs(1)])
async def test_one_silent_worker_makes_all_claims_unknown(
    other: Says, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "ANSWER_WITHIN_S", 0.01)

    with pytest.raises(Unavailable, match="worker 1"):
        await claims(Says(0, "a"), other)()
