"""One seeded run of signalling alone: a fleet, a platform, an operator, bad weather, then calm.

The checkers stand outside the code: they compare what the two sides believe. In the whole world
(`simulators.world`) processes die at any line, and calls of the dead are forgotten; here nobody
dies, so none may be.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

import structlog

from simulators.world.loop import VirtualClock, VirtualLoop
from simulators.world.network import CALM, Network, Weather
from simulators.world.trace import Trace
from tests.world.actors import Operator, Platform, fleet

CAMERAS = 8
STORM_S = 400.0
CALM_S = 700.0
"""Longer than a registration (300 s) and than every retry of a BYE: the dust has settled."""

OUTAGE_MAX_S = 20.0
"""Longest time between two lives of the platform."""

TABLE_MAX = 12 * CAMERAS
"""Live transactions of the platform: a catalogue, an INVITE, a CANCEL and a few BYEs a camera."""

DEVICE_TABLE_MAX = 40
"""Of one device: its REGISTER, its Keepalive, the answers under way, INVITEs of 32 s."""

WEATHERS = (
    CALM,
    Weather(loss=0.05, duplicate=0.02, delay_s=0.02, jitter_s=0.1),
    Weather(loss=0.3, duplicate=0.1, delay_s=0.05, jitter_s=0.8),
    Weather(loss=0.02, duplicate=0.3, delay_s=0.3, jitter_s=2.0),
    Weather(loss=0.7, delay_s=0.05, jitter_s=0.2),
)


class World:
    """`run` it, then look at `findings` (empty is good) and `trace`.

    unheard_byes  dialogs that the platform wanted to end, that their device still considers up, and
                  of which the platform knows nothing any more: cameras that send to nobody
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.findings: list[str] = []
        self.unheard_byes: list[str] = []
        self.trace = ""
        self.opened = 0
        self.delivered = 0
        self._random = random.Random(f"fate/{seed}")

    def run(self) -> World:
        loop = VirtualLoop(self.seed)
        loop.set_exception_handler(lambda _, context: self._note(f"unhandled: {context}"))
        structlog.configure(processors=[self._log])
        try:
            loop.run_until_complete(self._live(loop))
        finally:
            structlog.reset_defaults()
            loop.close()
        return self

    def _log(self, logger: object, method: str, event: dict[str, Any]) -> str:
        if method in {"error", "exception", "critical"}:
            self._note(f"logged: {event}")
        raise structlog.DropEvent

    def _note(self, finding: str) -> None:
        self.findings.append(finding)

    async def _live(self, loop: VirtualLoop) -> None:
        seed, clock = str(self.seed), VirtualClock(loop)
        self.network = Network(loop, seed, Trace())
        self.devices = fleet(CAMERAS, self.network, seed)
        self.platform = Platform(self.network, clock, seed, [each.spec for each in self.devices])
        self.operator = Operator(self.platform, self.devices, seed)
        await self.platform.start([])
        for device in self.devices:
            device.switch_on()
        tasks = [asyncio.create_task(work) for work in self._works()]
        await asyncio.sleep(STORM_S)
        await self._settle()
        self._check()
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
        await self.platform.stop()
        for device in self.devices:
            device.cut_power()
        self.trace, self.delivered = self.network.trace.hash, self.network.delivered
        self.opened = self.operator.opened

    def _works(self) -> list[Coroutine[Any, Any, None]]:
        tiles = [self.operator.run(device) for device in self.devices]
        return [self._fate(), self._sample(), self.operator.watch_media(), *tiles]

    # ---- fate -------------------------------------------------------------------------------

    async def _fate(self) -> None:
        """Weather changes; devices and platform suffer, until the storm is over."""
        loop, draw = asyncio.get_running_loop(), self._random
        end = loop.time() + STORM_S - OUTAGE_MAX_S
        while True:
            await asyncio.sleep(draw.uniform(2, 25))
            if loop.time() >= end:
                return
            device = draw.choice(self.devices)
            match draw.randrange(8):
                case 0 | 1 | 2:
                    self.network.weather = draw.choice(WEATHERS)
                case 3:
                    device.cut_power() if device.on else device.switch_on()
                case 4:
                    device.break_link()
                case 5:
                    self.network.cut ^= {device.host}
                case 6 if draw.random() < 0.5:
                    await self._restart_platform()
                case 7 if device.on:
                    device.switch_off()

    async def _restart_platform(self) -> None:
        await self.platform.stop()
        await asyncio.sleep(self._random.uniform(0.1, OUTAGE_MAX_S))
        dialogs = [dialog for _, dialog in self.operator.dialogs.values()]
        await self.platform.start(dialogs)

    async def _settle(self) -> None:
        """The sun comes out: everybody is switched on and can be reached; nobody opens streams."""
        self.operator.busy = False
        self.network.weather = CALM
        self.network.cut.clear()
        for device in self.devices:
            if not device.on:
                device.switch_on()
        await asyncio.sleep(60)
        for device in self.devices:  # one may have been leaving a moment ago
            if not device.on:
                device.switch_on()
        await asyncio.sleep(CALM_S)

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.platform.sample()

    # ---- checkers ---------------------------------------------------------------------------

    def _check(self) -> None:
        self._everybody_is_registered()
        self._tables_are_bounded()
        self._dialogs_agree()

    def _everybody_is_registered(self) -> None:
        service = self.platform.service
        if service is None:
            self._note("the platform is down")
            return
        for device in self.devices:
            gb_id = device.spec.gb_id
            entry = service._roster.by_gb_id(gb_id)
            if not device.online:
                self._note(f"{gb_id} does not think it is registered")
            if entry is None or entry.presence.value != "online":
                self._note(f"{gb_id} is {entry and entry.presence} to the platform")
            elif self.platform.book.rows[entry.id].presence is not entry.presence:
                self._note(f"{gb_id} has a row that says otherwise")

    def _tables_are_bounded(self) -> None:
        service = self.platform.service
        assert service is not None
        agent = service._agent
        if self.platform.tables_max > TABLE_MAX:
            self._note(f"the platform had {self.platform.tables_max} live transactions")
        if agent.live > CAMERAS:
            self._note(f"{agent.live} transactions are live in the calm")
        if len(agent._clients) != len(agent._clients_by_call):
            self._note(f"{len(agent._clients_by_call)} calls point at {len(agent._clients)}")
        if len(agent._heap) > TABLE_MAX:
            self._note(f"{len(agent._heap)} timers are left")
        if len(service._answers) > CAMERAS:
            self._note(f"{len(service._answers)} queries wait for answers")
        for device in self.devices:
            if device.tables_max > DEVICE_TABLE_MAX or device.live_transactions > 4:
                live = f"{device.live_transactions} now, {device.tables_max} at most"
                self._note(f"{device.spec.gb_id} has {live} live transactions")

    def _dialogs_agree(self) -> None:
        """What one side considers up is up at the other; what was ended is ended at both."""
        service = self.platform.service
        assert service is not None
        ours = self.platform.calls()
        theirs = set().union(*(device.calls() for device in self.devices))
        held = set(self.operator.dialogs)
        alone = theirs - ours
        self.unheard_byes = sorted(alone & self.platform.hung_up)
        for call_id in sorted(alone - self.platform.hung_up):
            self._note(f"dialog {call_id} is up at the device only")
        for call_id in sorted(ours - theirs):
            self._note(f"dialog {call_id} is up at the platform only")
        for call_id in sorted(ours ^ held):
            self._note(f"dialog {call_id}: the platform and its user do not agree")
        if service._sessions.orphans:
            self._note(f"{service._sessions.orphans} BYEs are still owed")
