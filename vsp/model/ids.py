"""Typed identifiers. An id of one kind is never passed where another is wanted.

`DeviceId` and `ChannelId` are ours (`Ids.row_id`), stable for the life of the row. `GbId` is the
20-digit code of GB/T 28181-2016 annex D, chosen by others, possibly duplicated or changed; it is an
attribute, never a key.
"""

from __future__ import annotations

from typing import NewType

UtcMicros = NewType("UtcMicros", int)
"""Wall time: microseconds since 1970-01-01T00:00:00Z."""

GbId = NewType("GbId", str)
DeviceId = NewType("DeviceId", str)
ChannelId = NewType("ChannelId", str)
SessionId = NewType("SessionId", str)
ViewId = NewType("ViewId", str)
AttemptId = NewType("AttemptId", str)
WorkerId = NewType("WorkerId", int)
UserId = NewType("UserId", str)
RegionId = NewType("RegionId", str)
DepartmentId = NewType("DepartmentId", str)
