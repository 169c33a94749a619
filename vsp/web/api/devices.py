"""Devices, their import, and the candidates that knock."""

from __future__ import annotations

import asyncio

from aiohttp import BodyPartReader, web

from vsp.actions.devices import DeviceChanges
from vsp.actions.imports import decode_csv, parse_devices
from vsp.errors import Invalid, Unavailable
from vsp.model.device import Device, NewDevice
from vsp.model.ids import GbId
from vsp.web import wire
from vsp.web.body import READ_TIMEOUT_S, read_capped, read_model
from vsp.web.call import Call

IMPORT_BYTES_MAX = 4 << 20
"""A sheet of 10,000 devices with every column filled is about 2 MB."""


async def list_devices(call: Call) -> wire.ListOut[wire.DeviceOut]:
    query = call.query(wire.DeviceQuery)
    page = await call.services.actions.devices.list(
        call.actor, query.page(), query.q, query.presence
    )
    return wire.paged(page, wire.DeviceOut.of)


async def add_device(call: Call) -> wire.DeviceOut:
    new = call.body(wire.NewDeviceIn).new_device()
    return wire.DeviceOut.of(await call.services.actions.devices.add(call.actor, new))


async def get_device(call: Call) -> wire.DeviceOut:
    return wire.DeviceOut.of(await call.services.actions.devices.get(call.actor, call.path("id")))


async def change_device(call: Call) -> wire.DeviceOut:
    body = call.body(wire.DevicePatchIn)

    def changes(device: Device) -> DeviceChanges:
        settings = body.applied_to(device.settings) if body.names_settings() else None
        return DeviceChanges(body.name, settings, body.password)

    devices = call.services.actions.devices
    return wire.DeviceOut.of(await devices.update(call.actor, call.path("id"), changes))


async def remove_device(call: Call) -> None:
    await call.services.actions.devices.remove(call.actor, call.path("id"))


async def import_devices(call: Call) -> wire.ImportOut:
    """The sheet as `text/csv`, as a file of a form, or as JSON `{csv}`."""
    query = call.query(wire.ImportQuery)
    text = await _sheet(call.request)
    # Parsing 10,000 lines takes some 100 ms: not on the loop that answers keepalives.
    lines = await asyncio.to_thread(parse_devices, text)
    result = await call.services.actions.devices.import_lines(
        call.actor, lines, update=query.update
    )
    return wire.ImportOut.of(result)


async def _sheet(request: web.Request) -> str:
    if request.content_type == "application/json":
        return (await read_model(request, wire.ImportIn, IMPORT_BYTES_MAX)).csv
    if request.content_type == "multipart/form-data":
        return decode_csv(await _first_part(request))
    return decode_csv(await read_capped(request, IMPORT_BYTES_MAX))


async def _first_part(request: web.Request) -> bytes:
    """The first file (or field) of the form, as a browser uploads it.

    Its Content-Transfer-Encoding is not looked at: RFC 7578 4.7 deprecates it, browsers send none.
    """
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            part = await (await request.multipart()).next()
            if not isinstance(part, BodyPartReader):
                raise Invalid("the form holds no file")
            return await _read_part(part)
    except TimeoutError as error:
        raise Unavailable(f"the form did not arrive within {READ_TIMEOUT_S:.0f} s") from error
    except ValueError as error:
        raise Invalid(f"the form cannot be read: {error}") from error


async def _read_part(part: BodyPartReader) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk():
        data += chunk
        if len(data) > IMPORT_BYTES_MAX:
            raise web.HTTPRequestEntityTooLarge(IMPORT_BYTES_MAX, len(data))
    return bytes(data)


async def trace(call: Call) -> wire.ListOut[wire.TraceLineOut]:
    limit = call.query(wire.TraceQuery).limit
    lines = await call.services.actions.enquiries.trace(call.actor, call.path("id"), limit)
    return wire.listed([wire.TraceLineOut.of(line) for line in lines])


async def refresh_catalog(call: Call) -> wire.CatalogDiffOut:
    enquiries = call.services.actions.enquiries
    return wire.CatalogDiffOut.of(await enquiries.refresh_catalog(call.actor, call.path("id")))


async def info(call: Call) -> wire.DeviceInfoOut:
    facts = await call.services.actions.enquiries.info(call.actor, call.path("id"))
    return wire.DeviceInfoOut.of(facts)


async def status(call: Call) -> wire.DeviceStatusOut:
    answer = await call.services.actions.enquiries.status(call.actor, call.path("id"))
    return wire.DeviceStatusOut(status=dict(answer))


async def history(call: Call) -> wire.ListOut[wire.ChangePointOut]:
    query = call.query(wire.HistoryQuery)
    from_us, until_us = query.window(call.services.actions.clock.now_us())
    points = await call.services.actions.devices.history(
        call.actor, call.path("id"), from_us, until_us
    )
    return wire.listed([wire.ChangePointOut.of(point) for point in points])


async def list_candidates(call: Call) -> wire.ListOut[wire.CandidateOut]:
    page = call.query(wire.PageQuery).page()
    found = await call.services.actions.devices.candidates(call.actor, page)
    return wire.paged(found, wire.CandidateOut.of)


async def approve(call: Call) -> wire.ApproveOut:
    items = [
        NewDevice(GbId(item.gb_id), item.password, item.name)
        for item in call.body(wire.ApproveIn).items
    ]
    return wire.ApproveOut.of(await call.services.actions.devices.approve(call.actor, items))


async def dismiss(call: Call) -> None:
    gb_ids = [GbId(gb_id) for gb_id in call.body(wire.DismissIn).gb_ids]
    await call.services.actions.devices.dismiss(call.actor, gb_ids)
