"""Live views: a slow viewer is its own problem."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from pathlib import Path

import pytest

from tests.media.rig import STEP_90K, playable, running, settings, until, viewer
from vsp.media import live as module
from vsp.media.core.fmp4 import iter_fragments
from vsp.model.ids import ViewId
from vsp.model.stream import ViewEnded


def first_times(fragments: list[bytes]) -> list[int]:
    return [next(iter_fragments(data)).samples[1][0].dts_90k for data in fragments]


async def test_a_slow_viewer_drops_to_a_key_picture_and_others_do_not_notice(tmp_path: Path):
    config = settings(tmp_path, media={"view_queue_bytes_max": 1 << 20})
    reads = asyncio.Event()
    async with running(config) as rig:
        port = await rig.open_session()
        await rig.bind()
        camera = rig.camera(port, width=640, height=480)
        slow_url, quick_url = await rig.open_view("v1"), await rig.open_view("v2")
        async with (
            viewer(slow_url, rig.ticket("v1"), after=reads) as slow,
            viewer(quick_url, rig.ticket("v2")) as quick,
        ):
            await camera.send(90, frames_per_s=120)
            await until(lambda: len(quick.fragments()) == 90)
            reads.set()
            await until(lambda: slow.fragments())
            await camera.send(21, frames_per_s=120)
            await until(lambda: slow.texts("gap"))
            await until(lambda: first_times(slow.fragments())[-1] == 110 * STEP_90K)

        times = first_times(slow.fragments())
        jumps = [(before, after) for before, after in pairwise(times) if after - before != STEP_90K]
        assert len(jumps) == len(slow.texts("gap"))
        assert all(after // STEP_90K % 10 == 0 for _, after in jumps)
        assert len(playable(quick.binaries())) == 111
        assert playable(slow.binaries()) == times
        assert not quick.texts("gap")


async def test_a_viewer_that_goes_frees_the_port_from_being_watched(tmp_path: Path):
    async with running(settings(tmp_path)) as rig:
        await rig.open_session()
        url = await rig.open_view("v1")
        async with viewer(url, rig.ticket("v1")) as watching:
            await until(watching.states)
            [status] = await rig.worker.sessions()
            assert status.viewers == 1
        await until(lambda: not rig.worker._places)

        [status] = await rig.worker.sessions()
        assert status.viewers == 0


async def test_a_viewer_that_takes_nothing_is_cut_off_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "LAST_WORDS_S", 0.2)
    async with running(settings(tmp_path)) as rig:
        port = await rig.open_session()
        await rig.bind()
        camera = rig.camera(port, width=640, height=480)
        url = await rig.open_view("v1")
        async with viewer(url, rig.ticket("v1"), after=asyncio.Event()):
            await camera.send(90, frames_per_s=150)
            await rig.worker.close_view(ViewId("v1"), "the right was revoked")
            await until(lambda: rig.seen(ViewEnded))

        assert rig.seen(ViewEnded) == [ViewEnded(ViewId("v1"), "the right was revoked")]
