"""The one table of the HTTP API: method, path, who may, what goes in and out, which handler.

The application and the OpenAPI document are both built from it, so neither can know a route that
the other does not. A route names exactly one Action; the few that anybody may call say `Public` and
why. There is no third way: a `Route` without either cannot be made.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web
from pydantic import BaseModel

from vsp.model.people import Action
from vsp.web import wire
from vsp.web.api import channels, devices, session, system, users
from vsp.web.call import Call
from vsp.web.ws import events

PREFIX = "/api/v1"

Handler = Callable[[Call], Awaitable[BaseModel | web.StreamResponse | None]]

_PATH = re.compile(r"/[a-z0-9/._{}:-]*")


@dataclass(frozen=True, slots=True)
class Public:
    """Anybody may call it, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Route:
    """One row. `body` None with `raw` True: the handler reads the body itself, under a cap.

    media   content type of the answer when it is not JSON; "websocket" for an upgrade
    """

    method: str
    path: str
    access: Action | Public
    handler: Handler
    summary: str
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    answer: type[BaseModel] | None = None
    status: int = 200
    raw: bool = False
    media: str = "application/json"

    def __post_init__(self) -> None:
        if not isinstance(self.access, Action | Public):
            raise TypeError(
                f"{self.method} {self.path} names neither an Action nor why it is public"
            )
        if not _PATH.fullmatch(self.path):
            raise ValueError(f"{self.path} is not a path of the table")

    @property
    def name(self) -> str:
        """Unique: the handler's module and name."""
        return f"{self.handler.__module__.rsplit('.', 1)[-1]}_{self.handler.__name__}"

    @property
    def upgrade(self) -> bool:
        return self.media == "websocket"


def _api(
    method: str,
    path: str,
    access: Action | Public,
    handler: Handler,
    summary: str,
    *,
    body: type[BaseModel] | None = None,
    query: type[BaseModel] | None = None,
    answer: type[BaseModel] | None = None,
    status: int = 200,
    raw: bool = False,
    media: str = "application/json",
) -> Route:
    return Route(
        method, PREFIX + path, access, handler, summary, body, query, answer, status, raw, media
    )


ROUTES: tuple[Route, ...] = (
    # ---- the platform -----------------------------------------------------------------------
    _api(
        "GET",
        "/health",
        Public("load balancers and the sign-in page ask whether the node answers"),
        system.health,
        "Whether the node answers, its version and its clock",
        answer=wire.HealthOut,
    ),
    _api(
        "GET",
        "/overview",
        Action.LIST,
        system.overview,
        "Counts of devices, channels, streams",
        answer=wire.OverviewOut,
    ),
    _api(
        "GET",
        "/alarms",
        Action.LIST,
        system.alarms,
        "What keeps the platform from its work now; with a window, what did so within it",
        query=wire.AlarmQuery,
        answer=wire.ListOut[wire.AlarmOut],
    ),
    _api(
        "GET",
        "/streams",
        Action.LIST,
        system.streams,
        "Inbound streams with their measurements",
        answer=wire.ListOut[wire.StreamOut],
    ),
    _api(
        "GET",
        "/regions",
        Action.LIST,
        system.regions,
        "Regions in force now",
        answer=wire.ListOut[wire.RegionOut],
    ),
    _api(
        "GET",
        "/departments",
        Action.LIST,
        system.departments,
        "Departments in force now",
        answer=wire.ListOut[wire.DepartmentOut],
    ),
    _api(
        "GET",
        "/audit",
        Action.AUDIT_READ,
        system.audit,
        "Who did what, newest first",
        query=wire.PageQuery,
        answer=wire.ListOut[wire.AuditRowOut],
    ),
    _api(
        "GET",
        "/metrics",
        Action.SYSTEM_READ,
        system.metrics,
        "Metrics for Prometheus",
        media="text/plain",
    ),
    _api(
        "GET",
        "/openapi.json",
        Action.OWN_SESSION,
        system.openapi,
        "This document",
    ),
    _api(
        "GET",
        "/events",
        Action.LIST,
        events,
        "WebSocket: what changed, as JSON text frames",
        status=101,
        media="websocket",
    ),
    # ---- session and users ------------------------------------------------------------------
    _api(
        "POST",
        "/session",
        Public("signing in is how one stops being nobody"),
        session.sign_in,
        "Sign in",
        body=wire.SignInIn,
        answer=wire.SignedInOut,
    ),
    _api(
        "GET",
        "/session",
        Action.OWN_SESSION,
        session.show,
        "Who is signed in",
        answer=wire.SessionOut,
    ),
    _api("DELETE", "/session", Action.OWN_SESSION, session.sign_out, "Sign out", status=204),
    _api(
        "POST",
        "/session/password",
        Action.OWN_SESSION,
        session.change_password,
        "Change one's own password; other sessions end",
        body=wire.PasswordIn,
        status=204,
    ),
    _api(
        "GET",
        "/users",
        Action.USER_MANAGE,
        users.list_users,
        "All accounts",
        answer=wire.ListOut[wire.UserOut],
    ),
    _api(
        "POST",
        "/users",
        Action.USER_MANAGE,
        users.add_user,
        "Add an account",
        body=wire.NewUserIn,
        answer=wire.UserOut,
        status=201,
    ),
    _api(
        "PATCH",
        "/users/{id}",
        Action.USER_MANAGE,
        users.change_user,
        "Enable, disable, change role, set a password",
        body=wire.UserPatchIn,
        answer=wire.UserOut,
    ),
    # ---- devices ----------------------------------------------------------------------------
    _api(
        "GET",
        "/devices",
        Action.LIST,
        devices.list_devices,
        "Devices",
        query=wire.DeviceQuery,
        answer=wire.ListOut[wire.DeviceOut],
    ),
    _api(
        "POST",
        "/devices",
        Action.DEVICE_MANAGE,
        devices.add_device,
        "Add a device",
        body=wire.NewDeviceIn,
        answer=wire.DeviceOut,
        status=201,
    ),
    _api(
        "POST",
        "/devices:import",
        Action.DEVICE_MANAGE,
        devices.import_devices,
        "Add devices from a CSV; every bad line is named",
        query=wire.ImportQuery,
        answer=wire.ImportOut,
        raw=True,
    ),
    _api(
        "GET",
        "/devices/{id}",
        Action.LIST,
        devices.get_device,
        "One device",
        answer=wire.DeviceOut,
    ),
    _api(
        "PATCH",
        "/devices/{id}",
        Action.DEVICE_MANAGE,
        devices.change_device,
        "Change a device's name, password or settings; null puts a default back",
        body=wire.DevicePatchIn,
        answer=wire.DeviceOut,
    ),
    _api(
        "DELETE",
        "/devices/{id}",
        Action.DEVICE_MANAGE,
        devices.remove_device,
        "Forget a device; its recordings stay",
        status=204,
    ),
    _api(
        "GET",
        "/devices/{id}/trace",
        Action.TRACE,
        devices.trace,
        "Last SIP messages with this device",
        query=wire.TraceQuery,
        answer=wire.ListOut[wire.TraceLineOut],
    ),
    _api(
        "POST",
        "/devices/{id}/catalog",
        Action.DEVICE_MANAGE,
        devices.refresh_catalog,
        "Ask for the catalogue now",
        answer=wire.CatalogDiffOut,
    ),
    _api(
        "GET",
        "/devices/{id}/info",
        Action.TRACE,
        devices.info,
        "Ask the device who made it",
        answer=wire.DeviceInfoOut,
    ),
    _api(
        "GET",
        "/devices/{id}/status",
        Action.TRACE,
        devices.status,
        "Ask the device how it is",
        answer=wire.DeviceStatusOut,
    ),
    _api(
        "GET",
        "/devices/{id}/history",
        Action.LIST,
        devices.history,
        "When the device came and went",
        query=wire.HistoryQuery,
        answer=wire.ListOut[wire.ChangePointOut],
    ),
    _api(
        "GET",
        "/candidates",
        Action.DEVICE_MANAGE,
        devices.list_candidates,
        "Unknown devices that tried to register",
        query=wire.PageQuery,
        answer=wire.ListOut[wire.CandidateOut],
    ),
    _api(
        "POST",
        "/candidates:approve",
        Action.DEVICE_MANAGE,
        devices.approve,
        "Make devices of candidates",
        body=wire.ApproveIn,
        answer=wire.ApproveOut,
    ),
    _api(
        "POST",
        "/candidates:dismiss",
        Action.DEVICE_MANAGE,
        devices.dismiss,
        "Forget candidates",
        body=wire.DismissIn,
        status=204,
    ),
    # ---- channels and views -----------------------------------------------------------------
    _api(
        "GET",
        "/channels",
        Action.LIST,
        channels.list_channels,
        "Channels",
        query=wire.ChannelQuery,
        answer=wire.ListOut[wire.ChannelOut],
    ),
    _api(
        "GET",
        "/channels/{id}",
        Action.LIST,
        channels.get_channel,
        "One channel",
        answer=wire.ChannelOut,
    ),
    _api(
        "PATCH",
        "/channels/{id}",
        Action.CHANNEL_MANAGE,
        channels.change_channel,
        "Change a channel's name or record plan",
        body=wire.ChannelPatchIn,
        answer=wire.ChannelOut,
    ),
    _api(
        "GET",
        "/channels/{id}/attempts",
        Action.LIST,
        channels.attempts,
        "Last tries to get a picture, each with its failing leg",
        query=wire.AttemptQuery,
        answer=wire.ListOut[wire.AttemptOut],
    ),
    _api(
        "GET",
        "/channels/{id}/records",
        Action.PLAYBACK,
        channels.records,
        "Files that the device itself holds",
        query=wire.WindowQuery,
        answer=wire.ListOut[wire.RecordOut],
    ),
    _api(
        "GET",
        "/channels/{id}/timeline",
        Action.PLAYBACK,
        channels.timeline,
        "What is recorded, what is not, and why",
        query=wire.WindowQuery,
        answer=wire.TimelineOut,
    ),
    _api(
        "POST",
        "/channels/{id}/live",
        Action.VIEW_LIVE,
        channels.open_live,
        "Open a live view",
        body=wire.LiveIn,
        answer=wire.OpenedViewOut,
        status=201,
    ),
    _api(
        "POST",
        "/channels/{id}/playback",
        Action.PLAYBACK,
        channels.open_playback,
        "Open a view of what was recorded",
        body=wire.PlaybackIn,
        answer=wire.OpenedViewOut,
        status=201,
    ),
    _api(
        "GET",
        "/views/{id}",
        Action.OWN_SESSION,
        channels.get_view,
        "State of one's own view",
        answer=wire.ViewOut,
    ),
    _api(
        "DELETE",
        "/views/{id}",
        Action.OWN_SESSION,
        channels.close_view,
        "Close one's own view",
        status=204,
    ),
)
