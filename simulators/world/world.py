"""One seeded life of the whole platform: cameras, a node, its workers, visitors, and what befalls
them; then calm, and the checkers' word.

    report = World(7, SMALL).run()
    report.findings       empty is good
    report.hash           the same for the same seed

A life has three parts. In the storm everything goes wrong that fate draws. Then fate relents: all
that was wrong is over, and within `CALM_S` every planned channel must be recorded again. At last
nothing is planned any more and the workers have `LAST_S` to bring what they hold to the store; only
then is compared what was received with what is kept.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable, Coroutine, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import structlog

from simulators.chance import SeededIds
from simulators.spec import PlatformSpec, Timing
from simulators.world.cameras import Camera, Film, camera_spec
from simulators.world.checkers import Checker
from simulators.world.fate import Fate
from simulators.world.loop import Process, VirtualLoop
from simulators.world.machine import Host
from simulators.world.network import CALM, Network
from simulators.world.processes import DATA, Estate, Keeper, NodeLife, keepers, signer_of
from simulators.world.stores import Temper
from simulators.world.trace import Trace
from simulators.world.visitors import Auditor, Visitor, actor_of, ask, user_of
from simulators.world.witness import Witness
from vsp import faults
from vsp.composition import Platform
from vsp.config import Config
from vsp.errors import VspError
from vsp.model.changes import AuditRow
from vsp.model.device import NewDevice, RecordPlan, Transport
from vsp.model.ids import ChannelId, GbId, UserId
from vsp.model.people import Role
from vsp.store.memory import MemoryBucket, MemoryDatabase, open_memory

T = TypeVar("T")

HOST = "192.0.2.10"
PASSWORD = "a-camera's-word"
CALM_S = 400.0
"""Longer than every retry and pause of the platform: the dust has settled."""

LAST_S = 200.0
"""For what the workers still hold: a segment is completed, journalled and committed in seconds."""

TCP_EVERY = 4
"""Each 4th camera signals over TCP."""

MOVING = Film(picture_s=5.0, gop_pictures=4)


@dataclass(frozen=True, slots=True)
class Scale:
    """How big a world is, and the least that must happen in it.

    picture_s   between two pictures of a camera
    moving      each n-th camera shows motion, with pictures that lean on others
    pace_s      between two blows of fate: at least, at most
    crash_s     between two deaths at crash points
    events      datagrams, stored things and blows, at least
    blows       things that went wrong, at least
    points      crash points at which a process died, at least
    """

    name: str
    cameras: int
    seconds: float
    workers: int
    visitors: int
    picture_s: float
    segment_s: float
    part_s: float
    pace_s: tuple[float, float]
    crash_s: tuple[float, float]
    moving: int = 20
    events: int = 0
    blows: int = 0
    points: int = 0


SMALL = Scale(
    name="small",
    cameras=20,
    seconds=3600.0,
    workers=2,
    visitors=3,
    picture_s=60.0,
    segment_s=300.0,
    part_s=100.0,
    pace_s=(5.0, 90.0),
    crash_s=(20.0, 180.0),
    events=10_000,
    blows=15,
    points=2,
)

FULL = Scale(
    name="full",
    cameras=200,
    seconds=6 * 3600.0,
    workers=2,
    visitors=10,
    picture_s=120.0,
    segment_s=600.0,
    part_s=150.0,
    pace_s=(30.0, 400.0),
    crash_s=(120.0, 1200.0),
    events=100_000,
    blows=30,
    points=10,
)

DAY = Scale(
    name="day",
    cameras=1000,
    seconds=24 * 3600.0,
    workers=2,
    visitors=5,
    picture_s=3600.0,
    segment_s=600.0,
    part_s=300.0,
    pace_s=(1800.0, 7200.0),
    crash_s=(3600.0, 14_400.0),
    moving=500,
    events=2_500_000,
    blows=10,
    points=4,
)
"""A day of a large site. Nearly all of it is heartbeats; docs/decisions/0009 says what it costs."""

SCALES = {scale.name: scale for scale in (SMALL, FULL, DAY)}


class Bars(Protocol):
    """What a report says of its scale: the least that must happen."""

    @property
    def name(self) -> str: ...
    @property
    def events(self) -> int: ...
    @property
    def blows(self) -> int: ...
    @property
    def points(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a life came to.

    blows, points  what fate did, and where processes died, with counts
    mishaps        of stores: refused, done twice, answer lost, never
    excused        why pictures may be missing, with counts
    lost_s         longest time between a picture that was lost and the death that lost it
    """

    seed: int
    scale: Bars
    hash: str = ""
    events: int = 0
    blows: Mapping[str, int] = field(default_factory=dict)
    mishaps: Mapping[str, int] = field(default_factory=dict)
    points: Mapping[str, int] = field(default_factory=dict)
    deaths: int = 0
    pictures: int = 0
    excused: Mapping[str, int] = field(default_factory=dict)
    lost_s: float = 0.0
    segments: int = 0
    cpu_s: float = 0.0
    findings: Sequence[str] = ()


class World:
    """See the module. `run` once."""

    def __init__(self, seed: int, scale: Scale = SMALL) -> None:
        name = f"{scale.name}/{seed}"
        self.seed = seed
        self.scale = scale
        self.random = random.Random(f"world/{name}")
        self.loop = VirtualLoop(name)
        self.trace = Trace()
        self.witness = Witness()
        self.network = Network(self.loop, name, self.trace)
        self.host = Host(HOST, self.loop, self.network, name)
        self.database = MemoryDatabase()
        self.bucket = MemoryBucket() if self.random.random() < 2 / 3 else None
        self.estate = self._estate(name)
        self.node, self.media = keepers(self.host, self.estate, scale.workers, name)
        self.cameras = [self._camera(number, name) for number in range(1, scale.cameras + 1)]
        self.admin = user_of(0, Role.ADMIN)
        self.visitors = [
            Visitor(user_of(number), self.host, self.node, self.channels, self.witness, name)
            for number in range(1, scale.visitors + 1)
        ]
        self.auditor = Auditor(self.admin, self.host, self.node, self.channels, self.witness, name)
        self.fate = Fate(self, self._points(), scale.pace_s, scale.crash_s)
        self.checker = Checker(self)

    def run(self) -> Report:
        """The whole life."""
        began = time.process_time()
        witness, host, loop = self.witness, self.host, self.loop
        host.on_media = lambda spec, packet, came: witness.media(spec, packet, loop.now, came)
        host.on_told = lambda name, arguments: witness.told(name, arguments, loop.now)
        structlog.configure(processors=[self._log])
        faults.lay(self.fate.on_point)
        collecting = gc.isenabled()
        gc.disable()  # a collected task of a dead process would run its `finally`
        try:
            loop.run_until_complete(self._live())
        finally:
            faults.lay(None)
            structlog.reset_defaults()
            if collecting:
                gc.enable()
        return self._report(time.process_time() - began)

    # ---- putting it up ----------------------------------------------------------------------

    def _estate(self, name: str) -> Estate:
        scale = self.scale
        config = Config.model_validate(
            {
                "node": {"data_dir": str(DATA), "workers": scale.workers},
                "sip": {"host": HOST, "port": 5060},
                "media": {
                    "host": HOST,
                    "stall_timeout_s": 3.5 * scale.picture_s,
                    "first_packet_timeout_s": 1.5 * scale.picture_s + 5,
                },
                "recording": {"segment_s": scale.segment_s, "part_s": scale.part_s},
            }
        )
        return Estate(
            config=config,
            database=self.database,
            bucket=self.bucket,
            signer=signer_of(name),
            rows=Temper(self.loop, self.trace, f"rows/{name}"),
            objects=Temper(self.loop, self.trace, f"objects/{name}"),
            observe={
                "segments": {"commit": self._committed},
                "audit": {"append": self._acted},
                "objects": {"complete": self._completed},
            },
        )

    def _camera(self, number: int, name: str) -> Camera:
        transport = Transport.TCP if number % TCP_EVERY == 0 else Transport.UDP
        timing = Timing(expires_s=3600, register_jitter_s=2.0, retry_s=10.0, keepalive_s=60.0)
        film = MOVING if number % self.scale.moving == 0 else Film(self.scale.picture_s)
        return Camera(
            camera_spec(number, PASSWORD, transport, timing),
            f"198.51.{number // 200}.{number % 200 + 1}",
            PlatformSpec(HOST, 5060),
            self.network,
            film,
            name,
        )

    def _points(self) -> list[faults.Point]:
        """All crash points, from another one on in each seed."""
        points = [
            point
            for point in faults.Point
            if self.bucket is None or not point.startswith("folder.")
        ]
        begin = self.seed * 7 % len(points)
        return points[begin:] + points[:begin]

    async def _furnish(self) -> None:
        """What an administrator has done before."""
        ids = SeededIds(f"setup/{self.seed}")
        store = open_memory(self.database, self.host.clock, ids, "setup")
        for camera in self.cameras:
            await store.devices.add_device(
                NewDevice(GbId(camera.spec.gb_id), PASSWORD),
                self.host.clock.now_us(),
                RecordPlan.ALWAYS,
            )
        for user in (self.admin, *(visitor.user for visitor in self.visitors)):
            await store.people.add_user(user, "no password opens this")

    # ---- living -----------------------------------------------------------------------------

    async def _live(self) -> None:
        await self._furnish()
        for keeper in (self.node, *self.media):
            keeper.start()
        for camera in self.cameras:
            camera.switch_on()
        people = [visitor.run() for visitor in (*self.visitors, self.auditor)]
        tasks = [asyncio.create_task(life) for life in people]
        await self.fate.run(until=self.scale.seconds)
        self.fate.relent()
        self._all_is_well()
        await asyncio.sleep(CALM_S)
        await self.checker.in_the_calm()
        for visitor in (*self.visitors, self.auditor):
            visitor.busy = False
        await asyncio.gather(*tasks)
        for channel in self.channels():
            await self._plan(channel, RecordPlan.NONE)
        await asyncio.sleep(LAST_S)
        await self.checker.at_the_end()

    def _all_is_well(self) -> None:
        self.network.weather = CALM
        self.network.cut.clear()
        for camera in self.cameras:
            if not camera.on:
                camera.switch_on()
        for channel in self.channels():
            self._soon(self._plan(channel, RecordPlan.ALWAYS))

    def channels(self) -> list[ChannelId]:
        """All that the cameras' catalogues have told of so far."""
        return list(self.database.channels.by_id)

    def platform(self) -> tuple[Process, Platform] | None:
        """The node of now, if it is up."""
        life = self.node.life
        if isinstance(life, NodeLife) and life.process.alive and life.platform is not None:
            return life.process, life.platform
        return None

    # ---- what fate does to it ---------------------------------------------------------------

    def keeper(self, name: str) -> Keeper:
        return next(one for one in (self.node, *self.media) if one.name == name)

    def died(self, process: Process, *, power: bool = False) -> None:
        """Noted before it does: nothing of it may run after that."""
        self.witness.died(process, self.loop.now, power=power)

    def cut_power(self) -> None:
        """The platform's computer goes dark."""
        for keeper in (self.node, *self.media):
            keeper.resting = True
            if keeper.up and keeper.life is not None:
                self.died(keeper.life.process, power=True)
                keeper.kill()
        self.host.disk.cut_power()

    def restore_power(self) -> None:
        for keeper in (self.node, *self.media):
            keeper.resting = False
            keeper.start()

    def change_plan(self, channel: ChannelId, plan: RecordPlan) -> None:
        self._soon(self._plan(channel, plan))

    def set_account(self, user: UserId, *, enabled: bool) -> None:
        self._soon(self._set_account(user, enabled))

    async def _plan(self, channel: ChannelId, plan: RecordPlan) -> None:
        actor = actor_of(self.admin)
        await self._act(
            lambda platform: platform.actions.channels.update(actor, channel, record_plan=plan)
        )

    async def _set_account(self, user: UserId, enabled: bool) -> None:
        actor = actor_of(self.admin)
        done = await self._act(
            lambda platform: platform.actions.accounts.set_user(actor, user, enabled=enabled)
        )
        if done and not enabled:
            self.witness.barred.append((self.loop.now, user))

    async def _act(self, act: Callable[[Platform], Coroutine[Any, Any, T]]) -> bool:
        """An administrator does something through the node, and tries a few times."""
        for _ in range(5):
            now = self.platform()
            if now is not None:
                process, platform = now
                try:
                    await ask(self.loop, process, act(platform))
                except VspError:
                    pass
                else:
                    return True
            await asyncio.sleep(self.random.uniform(2, 10))
        return False

    def _soon(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        task.add_done_callback(_look_at_error)

    # ---- what is seen -----------------------------------------------------------------------

    def _committed(self, arguments: tuple[Any, ...], named: object, result: object) -> None:
        for segment in arguments[0]:
            self.checker.row_committed(segment)

    def _completed(self, arguments: tuple[Any, ...], named: object, result: object) -> None:
        self.checker.completed(arguments[0])

    def _acted(self, row: AuditRow) -> None:
        self.witness.acted(row, self.loop.now)

    def _log(self, logger: object, method: str, event: MutableMapping[str, Any]) -> str:
        if event.get("exc_info"):  # `exception` comes as an error with this
            self.checker.complaint(event)
        elif event.get("event") == "rows and objects disagree":
            self.checker.mended(event["kind"], event["key"])
        raise structlog.DropEvent

    def _report(self, cpu_s: float) -> Report:
        fate, checker, scale = self.fate, self.checker, self.scale
        rows, objects = self.estate.rows.mishaps, self.estate.objects.mishaps
        points = {str(point): count for point, count in sorted(fate.hits.items())}
        checker.at_least("events", self.trace.events, scale.events)
        checker.at_least("blows of fate", fate.counts.total(), scale.blows)
        checker.at_least("crash points", fate.hits.total(), scale.points)
        return Report(
            seed=self.seed,
            scale=scale,
            hash=self.trace.hash,
            events=self.trace.events,
            blows=dict(sorted(fate.counts.items())),
            mishaps={kind: rows.get(kind, 0) + objects.get(kind, 0) for kind in rows | objects},
            points=points,
            deaths=len(self.witness.deaths),
            pictures=checker.pictures,
            excused=dict(sorted(checker.excused.items())),
            lost_s=checker.lost_s,
            segments=len(self.database.segments.by_key),
            cpu_s=cpu_s,
            findings=self.witness.findings,
        )


def _look_at_error(task: asyncio.Task[None]) -> None:
    if not task.cancelled():
        task.exception()


__all__ = ["DAY", "FULL", "SCALES", "SMALL", "Report", "Scale", "World"]
