"""What befalls a world: one seeded schedule of everything that can go wrong.

Each event is drawn, done, noted with its window, and undone when its time is over. Crash points
(vsp/faults.py) are armed a few at a time, those first that this seed has not hit yet: the process
that reaches an armed point dies there, and then there is peace for a while.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulators.world.loop import Killed, current
from simulators.world.network import CALM, Weather
from simulators.world.stores import GOOD, Mood
from simulators.world.witness import Window
from vsp.faults import Point
from vsp.model.device import RecordPlan

if TYPE_CHECKING:
    from simulators.world.world import World

ARMED = 6
"""Crash points that are armed at once: some lie on roads that are seldom taken."""

STALE_S = 300.0
"""After this long without a hit others are armed."""

WEATHERS = (
    Weather(loss=0.02, duplicate=0.02, delay_s=0.02, jitter_s=0.1),
    Weather(loss=0.2, duplicate=0.1, delay_s=0.05, jitter_s=0.8),
    Weather(loss=0.02, duplicate=0.3, delay_s=0.3, jitter_s=2.0),
    Weather(loss=0.5, delay_s=0.05, jitter_s=0.2),
)

MOODS = (
    Mood(delay_s=3.0),
    Mood(refused=0.3),
    Mood(answer_lost=0.2),
    Mood(never=0.1),
    Mood(twice=0.5),
    Mood(delay_s=0.5, refused=0.1, answer_lost=0.1, never=0.05, twice=0.2),
    Mood(down=True),
)


@dataclass(frozen=True, slots=True)
class Event:
    """weight: how often, against the others."""

    name: str
    weight: float
    do: Callable[[], object]


class Fate:
    """`run` until `until`; then `relent` ends whatever is still wrong."""

    def __init__(
        self,
        world: World,
        points: Sequence[Point],
        pace_s: tuple[float, float],
        crash_s: tuple[float, float],
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.hits: Counter[Point] = Counter()
        self.armed: frozenset[Point] = frozenset()
        self._points = list(points)
        """Those that were hit longest ago first."""
        self._world = world
        self._pace_s = pace_s
        self._crash_s = crash_s
        self._random = random.Random(f"fate/{world.seed}")
        self._undo: dict[Window, Callable[[], None]] = {}
        self._armed_from = 0.0
        self._patience = 1
        self._arm()

    async def run(self, until: float) -> None:
        """Events at random times; now and then a long peace, so that all is well for a while."""
        loop, draw = self._world.loop, self._random
        events = self._events()
        weights = [event.weight for event in events]
        while True:
            pause_s = draw.uniform(*self._pace_s)
            if draw.random() < 0.12:
                pause_s += draw.uniform(2, 5) * self._pace_s[1]
            await asyncio.sleep(pause_s)
            if loop.now >= until:
                return
            if loop.now > self._armed_from + STALE_S:
                self._arm()
            [event] = draw.choices(events, weights)
            self.counts[event.name] += 1
            self._world.trace.say(loop.now, "fate", event.name)
            event.do()

    def relent(self) -> None:
        """Everything that is wrong ends now."""
        self._armed_from = float("inf")
        for window, undo in list(self._undo.items()):
            self._over(window, undo)

    # ---- crash points -----------------------------------------------------------------------

    def on_point(self, point: Point) -> None:
        """The plan laid in vsp/faults.py: die here, if that is what is due."""
        process = current()
        if process is None:
            return
        if not process.alive:
            raise Killed
        now = self._world.loop.now
        if point in self.armed and now >= self._armed_from:
            self._patience -= 1
            if self._patience <= 0:
                self.hits[point] += 1
                self._points.remove(point)
                self._points.append(point)
                self._arm()
                self._world.trace.say(now, "crash", point)
                self._world.died(process)
                process.kill()
                raise Killed

    def _arm(self) -> None:
        """A few more, from some moment on, and not always at the first pass."""
        due = self._points[: 3 * len(self._points) // 4]
        self.armed = frozenset(self._random.sample(due, ARMED))
        self._armed_from = self._world.loop.now + self._random.uniform(*self._crash_s)
        self._patience = self._random.choice((1, 1, 2, 5))

    # ---- events -----------------------------------------------------------------------------

    def _events(self) -> list[Event]:
        return [
            Event("weather", 3, self._weather),
            Event("camera cut off", 2, self._cut_camera),
            Event("camera power", 3, self._camera_power),
            Event("camera link", 2, self._camera_link),
            Event("camera leaves", 1, self._camera_leaves),
            Event("camera clock", 1, self._camera_clock),
            Event("uplink", 1, self._cut_platform),
            Event("worker killed", 3, self._kill_worker),
            Event("node killed", 3, self._kill_node),
            Event("worker stopped", 1, self._stop_worker),
            Event("node stopped", 1, self._stop_node),
            Event("power cut", 2, self._power_cut),
            Event("disk full", 1.5, self._disk_full),
            Event("disk fails to sync", 1.5, self._syncs_fail),
            Event("database mood", 3, lambda: self._mood("rows")),
            Event("objects mood", 3, lambda: self._mood("objects")),
            Event("worker out of reach", 1.5, self._out_of_reach),
            Event("clock step", 1, self._clock_step),
            Event("plan changed", 2, self._change_plan),
            Event("account disabled", 1, self._disable_account),
        ]

    def _lasting(
        self, kind: str, seconds: tuple[float, float], undo: Callable[[], None], about: str = ""
    ) -> None:
        """Note a window, and undo it when its time is over."""
        loop = self._world.loop
        window = self._world.witness.begin(kind, loop.now, about)
        self._undo[window] = undo
        length_s = self._random.uniform(*seconds)
        loop.post_at(loop.now + length_s, lambda: self._over(window, undo))

    def _over(self, window: Window, undo: Callable[[], None]) -> None:
        if self._undo.pop(window, None) is not None:
            window.end = self._world.loop.now
            undo()

    def _weather(self) -> None:
        network = self._world.network
        network.weather = self._random.choice(WEATHERS)

        def clear() -> None:
            network.weather = CALM

        self._lasting("weather", (10, 200), clear)

    def _cut_camera(self) -> None:
        camera = self._random.choice(self._world.cameras)
        cut = self._world.network.cut
        cut.add(camera.host)
        self._lasting("camera", (5, 300), lambda: cut.discard(camera.host), camera.spec.gb_id)

    def _cut_platform(self) -> None:
        address, cut = self._world.host.address, self._world.network.cut
        cut.add(address)
        self._lasting("uplink", (5, 120), lambda: cut.discard(address))

    def _camera_power(self) -> None:
        camera = self._random.choice(self._world.cameras)
        if camera.on:
            camera.cut_power()
            self._lasting(
                "camera",
                (5, 400),
                lambda: None if camera.on else camera.switch_on(),
                camera.spec.gb_id,
            )

    def _camera_link(self) -> None:
        self._random.choice(self._world.cameras).break_link()

    def _camera_leaves(self) -> None:
        camera = self._random.choice(self._world.cameras)
        if camera.on:
            camera.switch_off()
            self._lasting(
                "camera",
                (30, 300),
                lambda: None if camera.on else camera.switch_on(),
                camera.spec.gb_id,
            )

    def _camera_clock(self) -> None:
        camera = self._random.choice(self._world.cameras)
        camera.clock.offset_us = round(self._random.uniform(-4000, 4000) * 1e6)

    def _kill_worker(self) -> None:
        self._kill(self._random.choice(self._world.media).name)

    def _kill_node(self) -> None:
        self._kill("node")

    def _kill(self, name: str) -> None:
        keeper = self._world.keeper(name)
        if keeper.up and keeper.life is not None:
            self._world.died(keeper.life.process)
            keeper.kill()

    def _stop_worker(self) -> None:
        keeper = self._random.choice(self._world.media)
        if keeper.up:
            self._lasting("worker stopped", (10, 10), lambda: None, keeper.name)
            keeper.stop()

    def _stop_node(self) -> None:
        if self._world.node.up:
            self._lasting("node stopped", (10, 10), lambda: None)
            self._world.node.stop()

    def _power_cut(self) -> None:
        self._world.cut_power()
        self._lasting("dark", (3, 40), self._world.restore_power)

    def _disk_full(self) -> None:
        disk = self._world.host.disk
        disk.capacity_bytes = disk.used_bytes + self._random.randrange(5_000)

        def room() -> None:
            disk.capacity_bytes = 1 << 40

        self._lasting("disk", (5, 120), room)

    def _syncs_fail(self) -> None:
        disk = self._world.host.disk
        disk.syncs_fail = True

        def mended() -> None:
            disk.syncs_fail = False

        self._lasting("disk", (3, 60), mended)

    def _mood(self, which: str) -> None:
        temper = getattr(self._world.estate, which)
        temper.mood = self._random.choice(MOODS)

        def good() -> None:
            temper.mood = GOOD

        self._lasting(which, (5, 120), good)

    def _out_of_reach(self) -> None:
        index = self._random.randrange(len(self._world.media))
        unreachable = self._world.host.unreachable
        unreachable.add(index)
        self._lasting("reach", (3, 60), lambda: unreachable.discard(index), f"worker-{index}")

    def _clock_step(self) -> None:
        # No round numbers: a camera's pictures would come at the very same microseconds again.
        step_s = self._random.choice((-3600, -90, -5, 5, 90, 3600)) * self._random.uniform(0.9, 1.1)
        self._world.host.clock.offset_us += round(step_s * 1e6)
        self._lasting("clock", (1, 1), lambda: None)

    def _change_plan(self) -> None:
        plan = self._random.choice((RecordPlan.NONE, RecordPlan.ALWAYS, RecordPlan.ALWAYS))
        channel = self._random.choice(self._world.channels() or [None])
        if channel is not None:
            self._lasting("plan", (90, 90), lambda: None, channel)
            self._world.change_plan(channel, plan)

    def _disable_account(self) -> None:
        visitor = self._random.choice(self._world.visitors)
        self._world.set_account(visitor.user.id, enabled=False)
        self._lasting(
            "account",
            (20, 200),
            lambda: self._world.set_account(visitor.user.id, enabled=True),
            visitor.user.id,
        )


__all__ = ["Fate"]
