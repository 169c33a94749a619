"""Signing in and out, and one's own password."""

from __future__ import annotations

from aiohttp import web

from vsp.errors import VspError
from vsp.web import wire
from vsp.web.call import Call
from vsp.web.security import drop_session_cookie, set_session_cookie


async def sign_in(call: Call) -> web.Response:
    """Cookie for browsers, token for programs; both are the same session."""
    body = call.body(wire.SignInIn)
    services = call.services
    services.limiter.take(call.address)
    try:
        signed_in = await services.actions.accounts.sign_in(body.user, body.password, call.address)
    except VspError:
        services.actions.metrics.count("vsp_sign_ins", result="refused")
        raise
    services.actions.metrics.count("vsp_sign_ins", result="ok")
    services.limiter.give_back(call.address)
    ends_at_us = services.actions.accounts.session_end_us(signed_in.session)
    answer = wire.SignedInOut.of(signed_in, ends_at_us)
    response = web.json_response(text=answer.model_dump_json(by_alias=True))
    set_session_cookie(response, signed_in.token, services.web.session_life_s)
    return response


async def show(call: Call) -> wire.SessionOut:
    ends_at_us = call.services.actions.accounts.session_end_us(call.session)
    return wire.SessionOut(
        user=wire.UserOut.of(call.actor.user), expires_at=wire.instant(ends_at_us)
    )


async def sign_out(call: Call) -> web.Response:
    await call.services.actions.accounts.sign_out(call.actor)
    response = web.Response(status=204)
    drop_session_cookie(response)
    return response


async def change_password(call: Call) -> None:
    body = call.body(wire.PasswordIn)
    await call.services.actions.accounts.change_password(call.actor, body.old, body.new)
