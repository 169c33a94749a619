"""Who may: regions, departments, users, roles, actions, decisions, tickets.

Administrative facts (regions, departments, classes) carry validity times: a rate of last month is
computed with last month's tree. Rights are decided by one pure function (`access/policy.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vsp.model.ids import ChannelId, DepartmentId, RegionId, UserId, UtcMicros, ViewId


class RegionLevel(StrEnum):
    """The five levels of centre (GB/T 33200-2016)."""

    PROVINCE = "province"
    CITY = "city"
    COUNTY = "county"
    TOWN = "town"
    VILLAGE = "village"


@dataclass(frozen=True, slots=True)
class Region:
    """行政区划. `code` is 2, 4, 6, 9 or 12 digits by level."""

    id: RegionId
    code: str
    name: str
    level: RegionLevel
    parent_id: RegionId | None
    valid_from_us: UtcMicros
    valid_to_us: UtcMicros | None


@dataclass(frozen=True, slots=True)
class Department:
    """A body that owns or shares cameras (police, transport, city management, ...)."""

    id: DepartmentId
    name: str
    kind: str
    region_id: RegionId | None
    valid_from_us: UtcMicros
    valid_to_us: UtcMicros | None


class Role(StrEnum):
    """First scope: fixed roles. Grants by scope, window and label join later."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"


class Action(StrEnum):
    """Everything that a person or a platform can be allowed to do. Routes name exactly one."""

    LIST = "list"
    VIEW_LIVE = "view_live"
    PLAYBACK = "playback"
    TRACE = "trace"
    DEVICE_MANAGE = "device_manage"
    CHANNEL_MANAGE = "channel_manage"
    USER_MANAGE = "user_manage"
    AUDIT_READ = "audit_read"
    SYSTEM_READ = "system_read"
    STORE_MEND = "store_mend"
    OWN_SESSION = "own_session"


@dataclass(frozen=True, slots=True)
class User:
    id: UserId
    name: str
    display_name: str
    role: Role
    department_id: DepartmentId | None
    enabled: bool
    must_change_password: bool
    created_at_us: UtcMicros


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a signed-in user, with the session and the address the request came from."""

    user: User
    session_id: str
    address: str


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer of `access.policy.decide`, always with its reason.

    valid_until_us   when the right itself ends; None where nothing ends it but a change
    """

    allowed: bool
    reason: str
    valid_until_us: UtcMicros | None = None


@dataclass(frozen=True, slots=True)
class Ticket:
    """A signed right, minutes long, to open one media request: one view of one channel.

    It opens the stream; the grant keeps it open; the ticket's expiry does not close it.
    """

    view_id: ViewId
    channel_id: ChannelId
    kind: str
    user_id: UserId
    expires_at_us: UtcMicros
