"""The nine kinds of error and nothing else.

Every failure that leaves a module is a `VspError` of one of these kinds. A kind says who must act
(the caller, an administrator, the remote side, us) and is mapped once at each edge: to a SIP status
in `sip/`, to an HTTP status in `web/`. The message says what, who, and where in a capture; `cause`
and `next_step` are the two sentences an operator reads. A broken invariant of our own is an
`assert`, never one of these; a remote fault is always one of these, never an `assert`.
"""

from __future__ import annotations

from typing import ClassVar


class VspError(Exception):
    """Base of the nine kinds. `kind` is the word used in the HTTP API and in logs."""

    kind: ClassVar[str] = "internal"

    def __init__(self, message: str, *, cause: str = "", next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.cause = cause
        self.next_step = next_step


class Invalid(VspError):
    """What was given is malformed or out of range; sending it again will not help."""

    kind = "invalid"


class Denied(VspError):
    """Known, understood and refused: the actor lacks the right, and may know that it exists."""

    kind = "denied"


class NotFound(VspError):
    """No such thing, or none that this actor may know of; the two look alike on purpose."""

    kind = "not_found"


class Conflict(VspError):
    """It collides with something that is already there (a duplicate id, a stale version)."""

    kind = "conflict"


class Unsupported(VspError):
    """Well-formed, but this device, codec or build cannot do it."""

    kind = "unsupported"


class Exhausted(VspError):
    """A limit is reached (ports, viewers, a queue, a session cap); later it may work."""

    kind = "exhausted"


class Unavailable(VspError):
    """The other side does not answer, or answers that it cannot now. Trying again is sensible."""

    kind = "unavailable"


class DataLoss(VspError):
    """Bytes that should be there are missing or differ from their checksum."""

    kind = "data_loss"


class Internal(VspError):
    """Our own fault, caught at a task's top."""

    kind = "internal"


KINDS: tuple[type[VspError], ...] = (
    Invalid,
    Denied,
    NotFound,
    Conflict,
    Unsupported,
    Exhausted,
    Unavailable,
    DataLoss,
    Internal,
)

REFUSALS = (Unavailable, DataLoss)
"""What a write meets when not the write is at fault but the store: full, out of reach, damaged."""
