"""The change-point log: one append-only list of (subject, axis, at, state, cause, evidence).

Status, recording ledger, probes and health are all axes of it. A state holds from its point until
the next point of the same subject and axis, so intervals without overlap come by construction,
durations are derived, and "as of" is a query.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vsp.model.ids import UtcMicros


class Axis(StrEnum):
    """What about a subject changed."""

    PRESENCE = "presence"
    BINDING = "binding"
    RECORDING = "recording"
    STREAM = "stream"
    CATALOG = "catalog"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class ChangePoint:
    """subject is `device:{id}`, `channel:{id}` or, of alarms, the part that is in trouble, such as
    `worker:{id}:store`; evidence says what was seen, in words."""

    subject: str
    axis: Axis
    at_us: UtcMicros
    state: str
    cause: str
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One act. Written when it opens (`ended_us` None) and completed by a second row when it ends.

    `hash` chains over the previous row of the same node: sha256(previous hash || canonical row).
    """

    seq: int
    act_id: str
    phase: str
    at_us: UtcMicros
    actor: str
    address: str
    action: str
    subject: str
    reason: str
    result: str
    detail: str
    previous_hash: str
    hash: str
