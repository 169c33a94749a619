"""Named places where a process may die or a disk may fail, for those who test that.

`reach(Point.X)` stands in the code wherever two steps must not be torn apart. It does nothing: no
setting, variable or call of this package can make it do anything (tests/architecture holds that).
Only a harness that imports `lay` lays a plan: a virtual world (simulators/world), or a process
that was started as one to be killed (simulators/crashing.py). A plan may return, raise OSError, or
end the process there and then.

The name of a point says what has just happened, or with `about` what is going to happen next; the
line beside it says what a death there leaves behind. Names are for ever: reports name them.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """Every place. A campaign that has not hit each of them fails."""

    # media/recorder.py: nothing of it is on any disk yet
    RECORDER_INIT_ABOUT = "recorder.init.about"
    RECORDER_FRAGMENT_ABOUT = "recorder.fragment.about"
    RECORDER_ROLLED = "recorder.rolled"

    # media/spool.py: what is not synced survives a killed process, not a power cut
    SPOOL_CHUNK_MADE = "spool.chunk.made"
    SPOOL_WRITE_ABOUT = "spool.write.about"
    SPOOL_WRITTEN = "spool.written"
    SPOOL_FSYNC_ABOUT = "spool.fsync.about"
    SPOOL_SYNCED = "spool.synced"
    SPOOL_DROP_ABOUT = "spool.drop.about"
    SPOOL_RECOVERED = "spool.recovered"

    # media/shipper.py: the store knows more than the spool, or the spool more than the journal
    UPLOAD_BEGUN = "upload.begun"
    UPLOAD_NOTED = "upload.noted"
    PART_PUT = "part.put"
    PART_NOTED = "part.noted"
    COMPLETE_ABOUT = "complete.about"
    COMPLETED = "completed"
    JOURNALED = "journaled"
    RELEASED = "released"

    # media/journal.py
    JOURNAL_WRITTEN = "journal.written"
    JOURNAL_SYNCED = "journal.synced"
    JOURNAL_ACKNOWLEDGED = "journal.acknowledged"
    JOURNAL_ASIDE = "journal.aside"
    JOURNAL_RENAMED = "journal.renamed"

    # store/upload.py, store/folder.py: an upload that can be completed again, or the object
    FOLDER_UPLOAD_MADE = "folder.upload.made"
    FOLDER_PART_LAID = "folder.part.laid"
    FOLDER_PART_NOTED = "folder.part.noted"
    FOLDER_ASSEMBLED = "folder.assembled"
    FOLDER_SIDECAR = "folder.sidecar"
    FOLDER_NAMED = "folder.named"
    FOLDER_PUBLISHED = "folder.published"

    # actions/recording.py: the row is there, the worker does not know
    ROW_COMMIT_ABOUT = "row.commit.about"
    ROW_COMMITTED = "row.committed"
    ROW_ACKNOWLEDGED = "row.acknowledged"

    # actions/streams.py: the device sends, and nobody wrote down that it does
    STREAM_ANSWERED = "stream.answered"
    STREAM_ADOPTED = "stream.adopted"
    DIALOG_SAVED = "dialog.saved"
    DIALOG_FORGOTTEN = "dialog.forgotten"

    # actions/views.py: the opening audit row is there
    VIEW_AUDITED = "view.audited"
    VIEW_ATTACHED = "view.attached"
    VIEW_ENDED = "view.ended"


Plan = Callable[[Point], None]

_plan: Plan | None = None


def reach(point: Point) -> None:
    """We are here."""
    if _plan is not None:
        _plan(point)


def lay(plan: Plan | None) -> None:
    """For harnesses only: from now on `plan` is asked at every point; None takes it away."""
    global _plan
    _plan = plan


__all__ = ["Plan", "Point", "lay", "reach"]
