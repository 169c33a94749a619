"""The platform itself: health, counts, streams, register, audit log, metrics."""

from __future__ import annotations

from aiohttp import web

from vsp.web import wire
from vsp.web.call import OPENAPI_TEXT, Call


async def health(call: Call) -> wire.HealthOut:
    """Says only that the node answers, which version, and its clock."""
    now = wire.instant(call.services.actions.clock.now_us())
    return wire.HealthOut(status="ok", version=call.services.version, now=now)


async def overview(call: Call) -> wire.OverviewOut:
    return wire.OverviewOut.of(await call.services.actions.overview.counts(call.actor))


async def alarms(call: Call) -> wire.ListOut[wire.AlarmOut]:
    """Without `from` and `to`: those that stand, oldest first. With either: newest first."""
    query, book = call.query(wire.AlarmQuery), call.services.actions.alarms
    if query.from_ is None and query.to is None:
        return wire.listed([wire.AlarmOut.of(alarm) for alarm in book.active(call.actor)])
    from_us, until_us = query.window(call.services.actions.clock.now_us())
    found = await book.history(call.actor, from_us, until_us)
    return wire.listed([wire.AlarmOut.of(alarm) for alarm in found])


async def streams(call: Call) -> wire.ListOut[wire.StreamOut]:
    statuses = await call.services.actions.overview.streams(call.actor)
    return wire.listed([wire.StreamOut.of(status) for status in statuses])


async def regions(call: Call) -> wire.ListOut[wire.RegionOut]:
    found = await call.services.actions.overview.regions(call.actor)
    return wire.listed([wire.RegionOut.of(region) for region in found])


async def departments(call: Call) -> wire.ListOut[wire.DepartmentOut]:
    found = await call.services.actions.overview.departments(call.actor)
    return wire.listed([wire.DepartmentOut.of(department) for department in found])


async def audit(call: Call) -> wire.ListOut[wire.AuditRowOut]:
    page = call.query(wire.PageQuery).page()
    rows = await call.services.actions.overview.audit_rows(call.actor, page)
    return wire.paged(rows, wire.AuditRowOut.of)


async def metrics(call: Call) -> web.Response:
    text = call.services.actions.overview.metrics(call.actor)
    return web.Response(
        text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
    )


async def openapi(call: Call) -> web.Response:
    return web.json_response(text=call.request.app[OPENAPI_TEXT])
