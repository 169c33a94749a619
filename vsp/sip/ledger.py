"""The dialogs that devices believe in: those that are up, and those whose BYE is still owed.

A device goes on sending to nobody until it is told, and to tell it takes the Call-ID and both tags
that only its answer held. So each dialog is a row before it is acknowledged, and stays one until
its BYE is answered, whatever happens to this process meanwhile: a device whose answer was never
acknowledged gives up by itself (RFC 3261 13.3.1.4), any other is in the ledger.

Not here: what is said to whom, and when (session.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import structlog

from vsp.faults import Point, reach
from vsp.model.dialog import DialogKey, DialogState
from vsp.model.ids import DeviceId
from vsp.ports import Clock, DialogRow, StreamBook

log = structlog.get_logger(__name__)

WRITE_WAIT_S = 0.5
"""Longest wait for a row. Devices repeat an answer after 0.5 s (RFC 3261 17.1.1.1), and a picture
must not wait for a database: what is not written by then is written behind."""

OWED_MAX = 10_000
"""Dialogs whose BYE was not answered; as many as a platform can have streams. The oldest go."""

OWED_DAYS = 1
"""A device that was not heard of for so long has lost its power, and its dialogs with it."""

PAUSE_MIN_S = 1.0
PAUSE_MAX_S = 60.0
"""Between two BYEs, doubling. Each is repeated by its transaction for some seconds."""

Spawn = Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"]
"""Starts a task that belongs to the service's group."""


@dataclass(slots=True, eq=False)
class Call:
    """One dialog.

    again_at  when its BYE may be said the next time (monotonic)
    over      nobody believes in it any more
    """

    row: DialogRow
    again_at: float = 0.0
    pause_s: float = PAUSE_MIN_S
    over: bool = False
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def key(self) -> DialogKey:
        return self.row.dialog.key

    @property
    def device_id(self) -> DeviceId | None:
        return self.row.device_id

    def put_off(self, now: float) -> None:
        """A BYE was not answered; the pause before the next one grows."""
        self.again_at = now + self.pause_s
        self.pause_s = min(2 * self.pause_s, PAUSE_MAX_S)


class Ledger:
    """See the module. What changes is written at once, each dialog's changes in their order."""

    def __init__(self, book: StreamBook, clock: Clock, spawn: Spawn) -> None:
        self._book = book
        self._clock = clock
        self._spawn = spawn
        self._up: dict[DialogKey, Call] = {}
        self._keys: dict[str, DialogKey] = {}
        self._owed: dict[DialogKey, Call] = {}
        self._owed_of: dict[DeviceId, set[DialogKey]] = {}

    def __len__(self) -> int:
        """How many are up."""
        return len(self._up)

    @property
    def owed(self) -> int:
        """How many have a BYE to come."""
        return len(self._owed)

    # ---- questions --------------------------------------------------------------------------

    def up_with(self, call_id: str) -> Call | None:
        key = self._keys.get(call_id)
        return self._up.get(key) if key is not None else None

    def owing(self, key: DialogKey) -> Call | None:
        return self._owed.get(key)

    def owed_to(self, device_id: DeviceId) -> list[Call]:
        return [self._owed[key] for key in self._owed_of.get(device_id, ())]

    def due(self, now: float) -> Iterator[Call]:
        """Those whose BYE may be said again. Those that are too old are given up."""
        oldest_us = self._clock.now_us() - OWED_DAYS * 86_400_000_000
        for call in list(self._owed.values()):
            if (call.row.ending_us or 0) < oldest_us:
                self._give_up(call)
            elif call.again_at <= now:
                yield call

    def known(self) -> Iterator[Call]:
        """All of them."""
        yield from self._up.values()
        yield from self._owed.values()

    # ---- life of a dialog -------------------------------------------------------------------

    def restore(self, rows: Iterable[DialogRow]) -> None:
        """Take over what a former process has left."""
        for row in rows:
            if row.ending_us is None:
                self._add_up(Call(row))
            else:
                self._add_owed(Call(row))

    async def begin(self, row: DialogRow) -> None:
        """The dialog is up. Returns when that is written, or will be."""
        call = Call(row)
        self._add_up(call)
        await self.written(call)

    def owe(self, dialog: DialogState, device_id: DeviceId | None) -> Call:
        """Its BYE is owed from now on; `written` says when that is on disk, too."""
        call = self._owed.get(dialog.key) or self._up.get(dialog.key)
        now_us = self._clock.now_us()
        if call is None:
            call = Call(DialogRow(dialog, device_id, None, now_us))
        if call.row.ending_us is None:
            self._drop_up(call)
            call.row = replace(call.row, ending_us=now_us)
            self._add_owed(call)
        return call

    async def written(self, call: Call) -> None:
        """Return when the row says what the dialog is now, or will."""
        await asyncio.wait({self._write_behind(call)}, timeout=WRITE_WAIT_S)

    def moved(self, call: Call, dialog: DialogState) -> None:
        """Its next request has another sequence number, or goes elsewhere."""
        call.row = replace(call.row, dialog=dialog)
        self._write_behind(call)

    def settle(self, call: Call) -> None:
        """The device knows that it is over, or said so itself."""
        if not call.over:
            call.over = True
            self._drop_up(call)
            self._drop_owed(call)
            self._write_behind(call)

    def _give_up(self, call: Call) -> None:
        log.error("dialog given up without BYE", call_id=call.key[0], device=call.device_id)
        self.settle(call)

    # ---- tables -----------------------------------------------------------------------------

    def _add_up(self, call: Call) -> None:
        self._up[call.key] = call
        self._keys[call.key[0]] = call.key

    def _drop_up(self, call: Call) -> None:
        self._up.pop(call.key, None)
        if self._keys.get(call.key[0]) == call.key:
            del self._keys[call.key[0]]

    def _add_owed(self, call: Call) -> None:
        self._owed[call.key] = call
        if call.device_id is not None:
            self._owed_of.setdefault(call.device_id, set()).add(call.key)
        if len(self._owed) > OWED_MAX:
            self._give_up(next(iter(self._owed.values())))

    def _drop_owed(self, call: Call) -> None:
        self._owed.pop(call.key, None)
        if call.device_id is None:
            return
        keys = self._owed_of.get(call.device_id, set())
        keys.discard(call.key)
        if not keys:
            self._owed_of.pop(call.device_id, None)

    def belongs(self, call: Call, device_id: DeviceId) -> None:
        """The device at its other end was found."""
        owed = call.key in self._owed
        if owed:
            self._drop_owed(call)
        call.row = replace(call.row, device_id=device_id)
        if owed:
            self._add_owed(call)

    # ---- rows -------------------------------------------------------------------------------

    def _write_behind(self, call: Call) -> asyncio.Task[None]:
        return self._spawn(self._write(call), f"dialog {call.key[0]}")

    async def _write(self, call: Call) -> None:
        """What it is when its turn has come: later changes are in it already."""
        async with call.writing:
            if call.over:
                await self._book.forget(call.key)
                reach(Point.DIALOG_FORGOTTEN)
            else:
                await self._book.save(call.row)
                reach(Point.DIALOG_SAVED)


__all__ = ["Call", "Ledger", "Spawn"]
