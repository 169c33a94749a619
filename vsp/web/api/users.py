"""Accounts of other people."""

from __future__ import annotations

from vsp.model.ids import UserId
from vsp.web import wire
from vsp.web.call import Call


async def list_users(call: Call) -> wire.ListOut[wire.UserOut]:
    users = await call.services.actions.accounts.users(call.actor)
    return wire.listed([wire.UserOut.of(user) for user in users])


async def add_user(call: Call) -> wire.UserOut:
    body = call.body(wire.NewUserIn)
    user = await call.services.actions.accounts.add_user(
        call.actor,
        name=body.name,
        password=body.password,
        role=body.role,
        display_name=body.display_name,
        must_change_password=body.must_change_password,
    )
    return wire.UserOut.of(user)


async def change_user(call: Call) -> wire.UserOut:
    body = call.body(wire.UserPatchIn)
    user = await call.services.actions.accounts.set_user(
        call.actor,
        UserId(call.path("id")),
        enabled=body.enabled,
        role=body.role,
        password=body.password,
    )
    return wire.UserOut.of(user)
