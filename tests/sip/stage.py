"""Signalling with its real store and its real sockets, on loopback, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.sip import ua
from tests.sip.fakes import CountedMetrics, config_in
from vsp.clock import SystemClock, SystemIds
from vsp.model.device import CatalogDiff, Device, DeviceSettings, NewDevice, Presence, RecordPlan
from vsp.model.ids import DeviceId, GbId
from vsp.ports import PageRequest
from vsp.sip.service import SignalService
from vsp.store import Store, open_store

PASSWORD = ua.PASSWORD


class Stage:
    """One service with two devices in its book: a recorder and a camera."""

    def __init__(self, service: SignalService, store: Store, metrics: CountedMetrics) -> None:
        self.service = service
        self.store = store
        self._metrics = metrics
        self.nvr: Device
        self.camera: Device
        self.presence: asyncio.Queue[tuple[DeviceId, Presence, str]] = asyncio.Queue()
        self.catalogs: asyncio.Queue[tuple[DeviceId, CatalogDiff]] = asyncio.Queue()
        self.ended: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        service.on_presence = lambda *news: self.presence.put_nowait(news)
        service.on_catalog = lambda *news: self.catalogs.put_nowait(news)
        service.on_dialog_ended = lambda *news: self.ended.put_nowait(news)

    def device(self, gb_id: str = ua.NVR, host: str = "127.0.0.1") -> ua.UdpUa:
        return ua.UdpUa(self.service.port, gb_id, host)

    def counted(self, name: str) -> int:
        """A counter's value, label values after its name."""
        self.service._metrics.flush()
        return self._metrics.counts[name]

    async def row(self, gb_id: str = ua.NVR) -> Device:
        """The device as stored, after everything waiting is written."""
        assert await self.service._writer.flush()
        found = await self.store.devices.device_by_gb_id(GbId(gb_id))
        assert found is not None
        return found

    async def channels(self, device: Device):
        page = await self.store.devices.channels(PageRequest(), device_id=device.id)
        return {channel.gb_id: channel for channel in page.items}

    def quirks(self, device: Device) -> set[str]:
        return {shown.quirk.name for shown in self.service.quirks(device.id)}


async def add(store: Store, gb_id: str, **settings: object) -> Device:
    new = NewDevice(GbId(gb_id), PASSWORD, settings=DeviceSettings(**settings))
    return await store.devices.add_device(new, SystemClock().now_us(), RecordPlan.NONE)


@asynccontextmanager
async def stage(
    folder: Path,
    port: int | None = None,
    **sip: object,
) -> AsyncIterator[Stage]:
    """A service on a free port, with times short enough for a test.

    Dialogs of a former run on the same folder are taken over before the start, as the node does it.
    """
    short = {
        "port": ua.free_port() if port is None else port,
        "query_timeout_s": 2.0,
        "catalog_idle_s": 0.3,
        "invite_timeout_s": 2.0,
    }
    config = config_in(folder, **{**short, **sip})
    clock, ids, metrics = SystemClock(), SystemIds(), CountedMetrics()
    store = await open_store(config, clock, ids)
    try:
        for gb_id in (ua.NVR, ua.CAMERA):
            if await store.devices.device_by_gb_id(GbId(gb_id)) is None:
                await add(store, gb_id)
        service = SignalService(
            config.sip,
            "127.0.0.1",
            store.devices,
            store.changes,
            clock,
            ids,
            metrics,
            store.streams,
            nonce_key=b"k" * 32,
        )
        on_stage = Stage(service, store, metrics)
        on_stage.nvr = await store.devices.device_by_gb_id(GbId(ua.NVR))
        on_stage.camera = await store.devices.device_by_gb_id(GbId(ua.CAMERA))
        service.restore(await store.streams.all())
        await service.start()
        try:
            yield on_stage
        finally:
            await service.close()
    finally:
        await store.close()


def obedient(device: ua.UdpUa, *channels: str, ask_info: bool = True):
    """A script that accepts every MESSAGE and answers catalogue and info queries."""

    def script(data: bytes) -> list[bytes]:
        if not data.startswith(b"MESSAGE"):
            return []
        answers = [ua.reply(data)]
        if b"<CmdType>Catalog" in data:
            items = [ua.catalog_item(gb_id, parent=device.gb_id) for gb_id in channels]
            page = ua.catalog(ua.sn_of(data), len(items), *items, gb_id=device.gb_id)
            answers.append(ua.message(page, device.gb_id, address=device.address))
        elif b"<CmdType>DeviceInfo" in data and ask_info:
            info = ua.device_info(ua.sn_of(data), device.gb_id)
            answers.append(ua.message(info, device.gb_id, address=device.address))
        return answers

    return script
