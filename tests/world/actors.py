"""Who lives in the world of signalling: cameras, the real signalling service, an operator.

The platform is `vsp.sip.service.SignalService` with its own agent, registrar, presence, sessions
and catalogues; only its UDP driver and its listener are the network's. It does not know that time
is virtual.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace

from simulators.chance import SeededIds
from simulators.spec import DeviceSpec, PlatformSpec, Timing
from simulators.world.cameras import Camera, Film, camera_spec
from simulators.world.loop import VirtualClock
from simulators.world.network import Address, Network
from tests.sip.fakes import CountedMetrics
from vsp.config import SipConfig
from vsp.errors import VspError
from vsp.model.changes import ChangePoint
from vsp.model.device import (
    Candidate,
    CatalogDiff,
    CatalogItem,
    Device,
    DeviceKind,
    DeviceSecret,
    DeviceSettings,
    Presence,
    Transport,
)
from vsp.model.ids import DeviceId, GbId, UtcMicros
from vsp.ports import DeviceFacts, DeviceState, DialogState, InviteSpec
from vsp.sip.core.agent import Peer
from vsp.sip.core.message import parse_message
from vsp.sip.endpoint import _Connection
from vsp.sip.service import SignalService

PLATFORM_HOST = "192.0.2.10"
SIP_PORT = 5060
PASSWORD = "a password of the world"
TIMING = Timing(
    expires_s=300, register_jitter_s=2.0, retry_s=10.0, keepalive_s=20.0, keepalive_misses=3
)

# ---- the platform ---------------------------------------------------------------------------


class MemoryBook:
    """Device rows and change points that outlive the platform's process, as a database does."""

    def __init__(self, specs: Sequence[DeviceSpec]) -> None:
        self.rows = {DeviceId(f"dev-{spec.gb_id}"): _row(spec) for spec in specs}
        self.points: list[ChangePoint] = []

    async def all_devices(self) -> Sequence[tuple[Device, DeviceSecret]]:
        return [(row, DeviceSecret(row.id, PASSWORD)) for row in self.rows.values()]

    async def save_states(self, states: Sequence[DeviceState]) -> None:
        for state in states:
            self.rows[state.device_id] = replace(
                self.rows[state.device_id],
                binding=state.binding,
                last_seen_us=state.last_seen_us,
                presence=state.presence,
                presence_since_us=state.presence_since_us,
            )

    async def saw_candidates(self, sightings: Sequence[Candidate]) -> None:
        raise AssertionError(f"a device became a stranger: {sightings}")

    async def save_facts(self, device_id: DeviceId, facts: DeviceFacts) -> None:
        row = self.rows[device_id]
        self.rows[device_id] = replace(row, manufacturer=facts.manufacturer, model=facts.model)

    async def apply_catalog(
        self,
        device_id: DeviceId,
        items: Sequence[CatalogItem],
        expected: int | None,
        complete: bool,
        at_us: UtcMicros,
    ) -> CatalogDiff:
        row = self.rows[device_id]
        self.rows[device_id] = replace(row, catalog_complete=complete, catalog_at_us=at_us)
        return CatalogDiff((), (), (), len(items), expected, complete)

    async def append(self, points: Sequence[ChangePoint]) -> None:
        self.points += points


def _row(spec: DeviceSpec) -> Device:
    return Device(
        id=DeviceId(f"dev-{spec.gb_id}"),
        gb_id=GbId(spec.gb_id),
        name=spec.name,
        kind=DeviceKind.of(spec.gb_id),
        settings=DeviceSettings(),
        presence=Presence.UNKNOWN,
        presence_since_us=UtcMicros(0),
        created_at_us=UtcMicros(0),
    )


class NetworkDriver:
    """The endpoint's UDP driver, on the network instead of a socket."""

    def __init__(self, network: Network, service: SignalService, byes: set[str]) -> None:
        self._network = network
        self._service = service
        self._byes = byes

    def start(self) -> None:
        self._network.bind((PLATFORM_HOST, SIP_PORT), self._received)

    def _received(self, data: bytes, source: Address) -> None:
        self._service._endpoint._received(data, Peer(Transport.UDP, *source))

    def send(self, data: bytes, peer: Peer) -> None:
        if data.startswith(b"BYE "):
            self._byes.add(parse_message(data).call_id)
        self._network.send(data, (PLATFORM_HOST, SIP_PORT), (peer.host, peer.port))

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        self._network.unbind((PLATFORM_HOST, SIP_PORT))


class Platform:
    """One life of the signalling service after another, over one book."""

    def __init__(
        self, network: Network, clock: VirtualClock, seed: str, specs: Sequence[DeviceSpec]
    ) -> None:
        self.book = MemoryBook(specs)
        self.tables_max = 0
        self.hung_up: set[str] = set()
        """Call-IDs that were to be ended: BYE was asked for, or sent."""
        self._network = network
        self._clock = clock
        self._ids = SeededIds(f"{seed}/platform")
        self.service: SignalService | None = None
        self.on_dialog_ended = lambda call_id: None

    async def start(self, dialogs: Sequence[DialogState]) -> None:
        config = SipConfig(
            host=PLATFORM_HOST, port=SIP_PORT, keepalive_interval_s=20, catalog_refresh_s=120.0
        )
        service = SignalService(
            config,
            PLATFORM_HOST,
            self.book,
            self.book,
            self._clock,
            self._ids,
            CountedMetrics(),
            nonce_key=b"k" * 32,
        )

        async def bind(port: int) -> None:
            driver = NetworkDriver(self._network, service, self.hung_up)
            service._endpoint._udp = driver
            driver.start()
            place = (PLATFORM_HOST, SIP_PORT)
            self._network.listen(place, lambda: _Connection(service._endpoint))

        service._endpoint._bind = bind
        service.on_dialog_ended = lambda call_id, cause: self.on_dialog_ended(call_id)
        service.restore(dialogs)
        self.service = service
        await service.start()

    async def stop(self) -> None:
        """In order: rows are written; dialogs stay up."""
        service, self.service = self.service, None
        if service is not None:
            await service.close()

    def calls(self) -> set[str]:
        """Call-IDs of dialogs that this side considers up."""
        assert self.service is not None
        return {key[0] for key in self.service._sessions._live}

    def sample(self) -> None:
        if self.service is not None:
            self.tables_max = max(self.tables_max, self.service._agent.live)


# ---- the operator ---------------------------------------------------------------------------

STALL_S = 10.0
"""As a media worker: so long without a packet, and the stream is given up."""


class Operator:
    """Opens and closes streams by chance, and sees to those that stall, as actions/streams does.

    `dialogs` is what the database would hold: it outlives the platform's process.
    """

    def __init__(self, platform: Platform, devices: Sequence[Camera], seed: str) -> None:
        self.dialogs: dict[str, tuple[Camera, DialogState]] = {}
        self.opened = 0
        self.busy = True
        self._platform = platform
        self._devices = devices
        self._random = random.Random(f"operator/{seed}")
        self._silent: dict[str, float] = {}
        self._next_ssrc = 100_000_000
        platform.on_dialog_ended = self._forget

    async def run(self, device: Camera) -> None:
        """One wall tile that looks at one camera, again and again."""
        while self.busy:
            await asyncio.sleep(self._random.uniform(1, 40))
            if not self.busy:
                return
            call_id = await self._open(device)
            if call_id is not None:
                await asyncio.sleep(self._random.uniform(0, 60))
                if self.busy:
                    await self._close(call_id)

    async def _open(self, device: Camera) -> str | None:
        service = self._platform.service
        if service is None:
            return None
        self._next_ssrc += 1
        gb_id = GbId(device.spec.gb_id)
        spec = InviteSpec(
            DeviceId(f"dev-{gb_id}"), gb_id, PLATFORM_HOST, 30_000, "udp", self._next_ssrc
        )
        patience_s = self._random.choice((0.05, 0.5, 20.0, 20.0, 20.0))
        try:
            async with asyncio.timeout(patience_s):
                answer = await service.invite(spec)
        except (VspError, TimeoutError):
            return None
        self.opened += 1
        self.dialogs[answer.dialog.call_id] = (device, answer.dialog)
        return answer.dialog.call_id

    async def _close(self, call_id: str) -> None:
        service, held = self._platform.service, self.dialogs.get(call_id)
        if service is None or held is None:
            return
        self._forget(call_id)
        self._platform.hung_up.add(call_id)
        await service.bye(held[1])

    def _forget(self, call_id: str) -> None:
        self.dialogs.pop(call_id, None)
        self._silent.pop(call_id, None)

    async def watch_media(self) -> None:
        """For ever: a stream whose camera does not send is ended after STALL_S."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(1.0)
            for call_id, (device, _) in list(self.dialogs.items()):
                if call_id in device.calls():
                    self._silent.pop(call_id, None)
                elif loop.time() - self._silent.setdefault(call_id, loop.time()) > STALL_S:
                    await self._close(call_id)


def fleet(count: int, network: Network, seed: str) -> list[Camera]:
    """Cameras, each fourth over TCP."""
    where, film = PlatformSpec(PLATFORM_HOST, SIP_PORT), Film(picture_s=60.0)
    cameras = []
    for number in range(1, count + 1):
        transport = Transport.TCP if number % 4 == 0 else Transport.UDP
        spec = camera_spec(number, PASSWORD, transport, TIMING)
        cameras.append(Camera(spec, f"198.51.100.{number}", where, network, film, seed))
    return cameras
