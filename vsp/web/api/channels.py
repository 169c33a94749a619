"""Channels: lists, plan, attempts, what is recorded; and opening a view of one."""

from __future__ import annotations

from vsp.model.ids import UtcMicros, ViewId
from vsp.web import wire
from vsp.web.call import Call


async def list_channels(call: Call) -> wire.ListOut[wire.ChannelOut]:
    query = call.query(wire.ChannelQuery)
    page = await call.services.actions.channels.list(
        call.actor, query.page(), query.q, query.device
    )
    return wire.paged(page, wire.ChannelOut.of)


async def get_channel(call: Call) -> wire.ChannelOut:
    return wire.ChannelOut.of(await call.services.actions.channels.get(call.actor, call.path("id")))


async def change_channel(call: Call) -> wire.ChannelOut:
    body = call.body(wire.ChannelPatchIn)
    entry = await call.services.actions.channels.update(
        call.actor, call.path("id"), record_plan=body.record_plan, name=body.name
    )
    return wire.ChannelOut.of(entry)


async def attempts(call: Call) -> wire.ListOut[wire.AttemptOut]:
    limit = call.query(wire.AttemptQuery).limit
    found = await call.services.actions.channels.attempts(call.actor, call.path("id"), limit)
    return wire.listed([wire.AttemptOut.of(attempt) for attempt in found])


async def records(call: Call) -> wire.ListOut[wire.RecordOut]:
    window = call.query(wire.WindowQuery)
    items = await call.services.actions.channels.records(
        call.actor, call.path("id"), UtcMicros(window.from_), UtcMicros(window.to)
    )
    return wire.listed([wire.RecordOut.of(item) for item in items])


async def timeline(call: Call) -> wire.TimelineOut:
    window = call.query(wire.WindowQuery)
    line = await call.services.actions.channels.timeline(
        call.actor, call.path("id"), UtcMicros(window.from_), UtcMicros(window.to)
    )
    return wire.TimelineOut.of(line)


async def open_live(call: Call) -> wire.OpenedViewOut:
    reason = call.body(wire.LiveIn).reason
    opened = await call.services.actions.views.open_live(call.actor, call.path("id"), reason)
    return wire.OpenedViewOut.of(opened)


async def open_playback(call: Call) -> wire.OpenedViewOut:
    body = call.body(wire.PlaybackIn)
    opened = await call.services.actions.views.open_playback(
        call.actor,
        call.path("id"),
        UtcMicros(body.start),
        None if body.end is None else UtcMicros(body.end),
        body.reason,
    )
    return wire.OpenedViewOut.of(opened)


async def get_view(call: Call) -> wire.ViewOut:
    status = await call.services.actions.views.get(call.actor, ViewId(call.path("id")))
    return wire.ViewOut.of(status)


async def close_view(call: Call) -> None:
    await call.services.actions.views.close(call.actor, ViewId(call.path("id")))
