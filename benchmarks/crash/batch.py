"""Some tens of deaths of one real platform that records, and what was seen of them.

A batch has a data directory of its own, on ports of its own; twenty cameras are recorded, and one
more is only looked at now and then. It gives facts (`Facts`); verdict.py judges them.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.crash.mortal import Death, MortalPlatform
from benchmarks.crash.recorded import Row, Sent, orphans, read_rows, read_sent
from benchmarks.crash.schedule import PLACES, SUPERVISOR, Blow, Chain, Place, Round, cast
from simulators.fleet import FleetSpec, device_specs
from tests.e2e.platform import CLIPS, ROOT, until
from vsp.faults import Point

SEGMENT_S, PART_S, GRACE_S = 4, 1, 1
"""Short, so that every step of a recording is taken every few seconds."""

RECONCILE_S, RECONCILE_GRACE_S = 5, 10
"""So that what deaths have left behind is looked at within the life of a batch; the grace is longer
than the longest segment."""

UP_S = 90.0
"""Everything recorded for the first time: devices register, catalogues come, twenty INVITEs."""

BACK_S = 60.0
"""Everything recorded again after a round; far above the bar, which the pictures are judged by."""

HIT_S = 40.0
"""A point is reached; PASSES_MAX of the schedule is chosen for half of it."""

QUIET_S = 60.0
"""Every row committed, every upload ended, every orphan met by the reconciler, whose first turn
comes 20 s after the last start of the node."""

SETTLE_S = 2.5
"""From the first key picture until it is spooled, which is when the outage has ended."""

SAMPLE_S = 0.5
"""How often it is noted which worker receives what."""

SAMPLE_NEAR_S = 1.0
"""Two of those, so that one before and one after a death count."""

STARTED_S = 30.0
"""A process is started again; the supervisor pauses 5 s at the most."""

CHECK_S = 300.0
"""Some hundred megabytes are hashed in seconds."""

VISIT_S = 0.5
"""Somebody looks so long, and comes back so long after the stream has been let go."""

MICROS = 1_000_000


@dataclass(frozen=True, slots=True)
class Scene:
    """What is recorded meanwhile. The key pictures are two seconds apart."""

    streams: int = 20
    size: str = "640x360"
    fps: int = 25
    audio: bool = True

    @property
    def words(self) -> list[str]:
        """For `python -m simulators fleet`."""
        media = f"--size {self.size} --fps {self.fps} --gop {2 * self.fps}".split()
        return media if self.audio else [*media, "--no-audio"]


@dataclass(frozen=True, slots=True)
class Kill:
    """One death. point: None when it came by signal. held: codes of what the process received."""

    at_us: int
    process: str
    point: Point | None
    held: frozenset[str]


@dataclass(frozen=True, slots=True)
class Sync:
    """A write of the harness's own, with fsync, beside the data. What waits for a disk that others
    use waits with us."""

    at_us: int
    took_s: float


@dataclass(slots=True)
class Facts:
    """What a batch has seen.

    missed        points that the process did not come to in time; it then died by signal
    back_s        from the last death of a round until everything was recorded again
    acknowledged  SHA-256 by key of each row that was ever committed
    check         what `vsp check --level hash` has found; empty when it is clean
    """

    seed: int
    scene: Scene
    kills: list[Kill] = field(default_factory=list)
    missed: list[Point] = field(default_factory=list)
    back_s: list[float] = field(default_factory=list)
    syncs: list[Sync] = field(default_factory=list)
    acknowledged: dict[str, str] = field(default_factory=dict)
    sent: Sent = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    check: str = ""
    took_s: float = 0.0


async def run(folder: Path, rounds: Sequence[Round], seed: int, scene: Scene) -> Facts:
    """The whole life of a batch in an empty folder."""
    began = time.monotonic()
    facts = Facts(seed, scene)
    platform = MortalPlatform(
        folder, settings=settings(), port_first=22_000 + os.getpid() % 8 * 800
    )
    async with platform, cameras(platform, scene, folder) as sent_log:
        stage = Stage(platform, facts)
        await stage.everything_records(UP_S)
        async with stage.watched():
            for number, chains in enumerate(rounds, 1):
                say(f"{number}/{len(rounds)} {' | '.join(map(describe, chains))}")
                await stage.play(chains)
        await stage.end()
    facts.sent = read_sent(sent_log)
    facts.check = await checked(platform)
    facts.took_s = time.monotonic() - began
    return facts


async def checked(platform: MortalPlatform) -> str:
    """`vsp check` of every byte, of the platform that has stopped."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vsp", "check", "--level", "hash", "--fresh", "--json"),
        cwd=ROOT,
        env={**os.environ, **platform.settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(CHECK_S):
        said, errors = await process.communicate()
    if process.returncode == 0:
        return ""
    if not said:
        return errors.decode("utf-8", "replace").strip()
    return json.dumps(json.loads(said)["findings"], ensure_ascii=False)


def settings() -> dict[str, str]:
    return {
        "VSP_RECORDING__SEGMENT_S": str(SEGMENT_S),
        "VSP_RECORDING__PART_S": str(PART_S),
        "VSP_RECORDING__RECONCILE_S": str(RECONCILE_S),
        "VSP_RECORDING__RECONCILE_GRACE_S": str(RECONCILE_GRACE_S),
        "VSP_MEDIA__GRACE_S": str(GRACE_S),
    }


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def describe(chain: Chain) -> str:
    return " then ".join(
        f"{blow.process} at {blow.sentence.point} ({blow.sentence.passes})"
        if blow.sentence
        else f"{blow.process} after {blow.delay_s:.1f} s"
        for blow in chain
    )


# ---- the cameras ----------------------------------------------------------------------------


@asynccontextmanager
async def cameras(platform: MortalPlatform, scene: Scene, folder: Path) -> AsyncIterator[Path]:
    """Register the cameras, then run them; gives their log. One more than is recorded."""
    secret, count = secrets.token_hex(16), scene.streams + 1
    answer = await platform.post("/devices:import", {"csv": sheet(secret, count)})
    assert (answer.status, answer.body["added"]) == (200, count), answer
    sent_log = folder / "sent.jsonl"
    sip = platform.ready["sip"]
    words = ["--count", str(count), "--secret", secret, "--sent-log", str(sent_log), *scene.words]
    words += ["--platform", f"{sip['host']}:{sip['port']}", "--retry", "2"]
    words += ["--cache", str(CLIPS / "vsp-clips")]
    with (folder / "cameras.txt").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "simulators", "fleet", *words), cwd=ROOT, stdout=log, stderr=log
        )
    try:
        yield sent_log
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def sheet(secret: str, count: int) -> str:
    """What an operator would import: the last one is not to be recorded."""
    text = io.StringIO()
    lines = csv.writer(text)
    lines.writerow(["gb_id", "password", "name", "record"])
    for number, spec in enumerate(device_specs(FleetSpec(secret, count)), 1):
        plan = "none" if number == count else "always"
        lines.writerow([spec.gb_id, spec.password, spec.name, plan])
    return text.getvalue()


# ---- the stage ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Sample:
    """Which worker received what: its name by code of the channel."""

    at_us: int
    places: Mapping[str, str]


def held_by(process: str, at_us: int, samples: Sequence[Sample]) -> frozenset[str]:
    """What the process received when it died: by the last word before, and by all near to it."""
    near_us = SAMPLE_NEAR_S * MICROS
    before = [sample for sample in samples if sample.at_us <= at_us][-1:]
    near = [sample for sample in samples if abs(sample.at_us - at_us) <= near_us]
    return frozenset(
        code
        for sample in (*before, *near)
        for code, place in sample.places.items()
        if place == process
    )


def sync(folder: Path) -> Sync:
    at_us, began = time.time_ns() // 1000, time.monotonic()
    with (folder / "sync").open("wb") as file:
        file.write(b"x")
        os.fsync(file.fileno())
    return Sync(at_us, time.monotonic() - began)


class Stage:
    """The platform while it is being killed."""

    def __init__(self, platform: MortalPlatform, facts: Facts) -> None:
        self._platform = platform
        self._facts = facts
        self._database = platform.data / "vsp.sqlite"
        self._objects = platform.data / "segments"
        self._codes: dict[str, str] = {}
        self._samples: list[Sample] = []

    async def everything_records(self, timeout_s: float) -> None:
        """Every planned channel flows and has had a key picture in the life of its worker."""
        died_us = {kill.process: kill.at_us for kill in self._facts.kills}

        async def probe() -> bool:
            streams = await self._planned_streams()
            return len(streams) == self._facts.scene.streams and all(
                key_us(stream) > died_us.get(f"worker-{stream['worker_id']}", 0)
                for stream in streams
            )

        await until("every channel is recorded", probe, timeout_s)

    async def _planned_streams(self) -> list[dict[str, Any]]:
        if len(self._codes) <= self._facts.scene.streams:
            channels = await self._platform.items("/channels")
            self._codes = {channel["id"]: channel["gb_id"] for channel in channels}
        streams = await self._platform.items("/streams")
        return [each for each in streams if each["recording"] and each["state"] == "flowing"]

    # ---- who receives what ------------------------------------------------------------------

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Note meanwhile what is committed, who receives what, and how fast the disk is."""
        watching = [asyncio.create_task(self._watch()), asyncio.create_task(self._watch_disk())]
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _watch_disk(self) -> None:
        while True:
            self._facts.syncs.append(await asyncio.to_thread(sync, self._platform.folder))
            await asyncio.sleep(SAMPLE_S)

    async def _watch(self) -> None:
        while True:
            self._note_rows()
            with suppress(aiohttp.ClientError, OSError, AssertionError):  # nobody answers: later
                await self._sample()
            await asyncio.sleep(SAMPLE_S)

    async def _sample(self) -> Sample:
        streams = await self._planned_streams()
        places = {self._codes[s["channel_id"]]: f"worker-{s['worker_id']}" for s in streams}
        sample = Sample(time.time_ns() // 1000, places)
        self._samples.append(sample)
        return sample

    # ---- deaths -----------------------------------------------------------------------------

    async def play(self, chains: Round) -> None:
        """One round, until everything records again."""
        while chains:
            counts = Counter((await self._sample()).places.values())
            now, chains = cast(chains, counts)
            began = len(self._facts.kills)
            async with asyncio.TaskGroup() as group:
                for chain in now:
                    group.create_task(self._kill(chain))
            await self.everything_records(BACK_S)
            last_us = max(kill.at_us for kill in self._facts.kills[began:])
            self._facts.back_s.append(round(time.time() - last_us / MICROS, 2))
            await asyncio.sleep(SETTLE_S)

    async def _kill(self, chain: Chain) -> None:
        for blow, following in zip(chain, [*chain[1:], None], strict=True):
            if following is not None and following.sentence is not None:
                self._platform.plan(following.process, following.sentence)
            death = await (self._sentenced(blow) if blow.sentence else self._struck(blow))
            await self._platform.restarted(blow.process, death.pid, STARTED_S)

    def _note(self, death: Death, process: str, point: Point | None) -> Death:
        self._facts.kills.append(Kill(death.at_us, process, point, frozenset()))
        return death

    async def _struck(self, blow: Blow) -> Death:
        await asyncio.sleep(blow.delay_s)
        self._note_rows()
        if blow.process == SUPERVISOR:
            return self._note(await self._platform.strike_supervisor(), blow.process, None)
        return self._note(self._platform.strike(blow.process), blow.process, None)

    async def _sentenced(self, blow: Blow) -> Death:
        """At its point; a process that does not come to it dies all the same."""
        sentence, process = blow.sentence, blow.process
        assert sentence is not None
        if not blow.at_start:
            self._platform.arm(process, sentence)
        try:
            async with self._visitors(PLACES[sentence.point] is Place.VISITED):
                death = await self._platform.dead_at(process, sentence.point, HIT_S)
        except AssertionError as error:
            say(str(error))
            self._platform.disarm(process)
            self._facts.missed.append(sentence.point)
            return self._note(self._platform.strike(process), process, None)
        return self._note(death, process, sentence.point)

    @asynccontextmanager
    async def _visitors(self, wanted: bool) -> AsyncIterator[None]:
        """Somebody who looks at the camera that is not recorded, and away, again and again."""
        visitor = asyncio.create_task(self._visit_for_ever()) if wanted else None
        try:
            yield
        finally:
            if visitor is not None:
                visitor.cancel()
                await asyncio.gather(visitor, return_exceptions=True)

    async def _visit_for_ever(self) -> None:
        [channel_id] = [c for c, code in self._codes.items() if code == max(self._codes.values())]
        while True:
            with suppress(aiohttp.ClientError, OSError):  # the node is to die of it
                opened = await self._platform.post(f"/channels/{channel_id}/live")
                await asyncio.sleep(VISIT_S)
                if opened.status == HTTPStatus.CREATED:
                    await self._platform.delete(f"/views/{opened.body['view_id']}")
            await asyncio.sleep(GRACE_S + VISIT_S)

    def _note_rows(self) -> None:
        """Everything that is acknowledged by now."""
        for row in read_rows(self._database):
            self._facts.acknowledged.setdefault(row.key, row.sha256)

    # ---- the end ----------------------------------------------------------------------------

    async def end(self) -> None:
        """Have everything committed that was recorded, stop recording, and look what is left."""
        self._facts.kills = [
            replace(kill, held=held_by(kill.process, kill.at_us, self._samples))
            for kill in sorted(self._facts.kills, key=lambda kill: kill.at_us)
        ]
        await self._committed_up_to(time.time_ns() // 1000)
        for channel_id in self._codes:
            await self._platform.patch(f"/channels/{channel_id}", {"record_plan": "none"})
        with suppress(AssertionError):  # what is left then is told
            await until("nothing is under way", self._quiet, QUIET_S)
        self._note_rows()
        self._facts.rows = read_rows(self._database)
        self._facts.orphans = orphans(self._facts.rows, self._objects)

    async def _committed_up_to(self, at_us: int) -> None:
        async def probe() -> bool:
            ends = {row.channel: row.end_us for row in read_rows(self._database)}
            return len(ends) == self._facts.scene.streams and min(ends.values()) >= at_us

        await until("rows of the last pictures", probe, QUIET_S)

    async def _quiet(self) -> bool:
        recorded = any(stream["recording"] for stream in await self._platform.items("/streams"))
        return not recorded and not orphans(read_rows(self._database), self._objects)


def key_us(stream: Mapping[str, Any]) -> int:
    """When the session received its first key picture; 0 when it has not."""
    at = stream["stats"]["first_key_at"]
    return round(datetime.fromisoformat(at).timestamp() * MICROS) if at else 0
