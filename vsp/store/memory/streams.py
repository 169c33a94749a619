"""StreamBook in memory: dialogs that must be ended even after a restart, and the last attempts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vsp.model.dialog import DialogKey
from vsp.model.ids import ChannelId
from vsp.model.stream import Attempt
from vsp.ports import DialogRow
from vsp.store import streams as bounds
from vsp.store.columns import NOTE_MAX, WORDS_MAX
from vsp.store.memory.rows import cleaned
from vsp.store.memory.tables import MemoryDatabase
from vsp.store.streams import attempts_shown, dialog_id, kept_steps

_OF_A_DIALOG = (
    "call_id",
    "local_uri",
    "local_tag",
    "remote_uri",
    "remote_tag",
    "remote_target",
    "host",
)


class MemoryStreamBook:
    """Dialogs by id, attempts by channel."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._dialogs = database.dialogs
        self._attempts = database.attempts

    async def save(self, row: DialogRow) -> None:
        """Insert or replace, by Call-ID and both tags."""
        dialog = cleaned(row.dialog, NOTE_MAX, *_OF_A_DIALOG)
        self._dialogs[dialog_id(row.dialog.key)] = replace(row, dialog=dialog)

    async def forget(self, dialog: DialogKey) -> None:
        """The dialog is over; forgetting twice is nothing."""
        self._dialogs.pop(dialog_id(dialog), None)

    async def all(self) -> Sequence[DialogRow]:
        """Every dialog that was up or owed a BYE when last heard of, oldest first."""
        rows = sorted(self._dialogs.items(), key=lambda each: (each[1].began_us, each[0]))
        return [row for _, row in rows]

    async def save_attempt(self, attempt: Attempt) -> None:
        """Insert or replace, by id; beyond ATTEMPTS_KEPT the channel's oldest go."""
        kept = cleaned(attempt, WORDS_MAX, "purpose", "call_id")
        kept = cleaned(kept, NOTE_MAX, "cause", "next_step")
        self._attempts.put(replace(kept, steps=kept_steps(kept)))
        order = self._attempts.of_channel[attempt.channel_id]
        while len(order) > bounds.ATTEMPTS_KEPT:
            self._attempts.drop(order[0][1])

    async def attempts(self, channel_id: ChannelId, limit: int = 50) -> Sequence[Attempt]:
        """The last ones, newest first."""
        order = self._attempts.of_channel.get(channel_id, [])
        newest = order[::-1][: attempts_shown(limit)]
        return [self._attempts.by_id[attempt_id] for _, attempt_id in newest]
