"""Processes by more than their number: who one is, whether it runs, and a hold on it.

A pid alone names nobody, for it is used again. An `Identity` adds the clock tick at which the
process began and the boot whose ticks are counted, so that it can be written down and understood by
a later process. A `Held` process is a pidfd: it never comes to mean another one, tells when its
process ends, and asks for no kinship. Linux 5.3.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vsp.disk import SystemDisk

STATE, STARTED = 0, 19
"""Fields 3 and 22 of proc(5) stat, counted from behind the name, which may hold anything."""


@dataclass(frozen=True, slots=True)
class Identity:
    """One process that runs or has run on this machine."""

    pid: int
    started_ticks: int
    boot_id: str


def identify(pid: int) -> Identity | None:
    """Who `pid` is now; None when it is nobody, or dead and only waiting to be asked about."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[STATE] in {"Z", "X"}:
        return None
    return Identity(pid, int(fields[STARTED]), SystemDisk().boot)


def myself() -> Identity:
    me = identify(os.getpid())
    assert me is not None, "who asks runs"
    return me


class Held:
    """A process that cannot be mistaken for another. Close it."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError."""
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        self._end: asyncio.Event | None = None

    @property
    def runs(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        return not poll.poll(0)

    async def ended(self) -> None:
        """Wait for its end; any number of tasks may."""
        if self._end is None:
            self._end = asyncio.Event()
            asyncio.get_running_loop().add_reader(self._fd, self._has_ended)
        await self._end.wait()

    def _has_ended(self) -> None:
        assert self._end is not None
        asyncio.get_running_loop().remove_reader(self._fd)
        self._end.set()

    def send(self, number: signal.Signals) -> None:
        """Nothing happens to one that has ended."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def close(self) -> None:
        """Let go of it; nobody may be waiting for its end any more."""
        if self._end is not None and not self._end.is_set():
            asyncio.get_running_loop().remove_reader(self._fd)
        os.close(self._fd)


def hold(identity: Identity) -> Held | None:
    """That very process, or None when it runs no more."""
    try:
        held = Held(identity.pid)
    except ProcessLookupError:
        return None
    # Asked after the pidfd was made: from now on the number cannot change hands unnoticed.
    if identify(identity.pid) == identity:
        return held
    held.close()
    return None


__all__ = ["Held", "Identity", "hold", "identify", "myself"]
