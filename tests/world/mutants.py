"""Bugs that are planted to see that the world finds them: `python -m tests.world.mutants [NAME…]`.

Each is a change of a few words in a copy of the product. The world then lives its seeds against the
copy, those of CI and in their order, until one of them fails. A mutant that no seed finds is a hole
in the checkers; one whose text is no longer there must be planted anew.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

SEEDS = "1-200"
"""Those that CI lives."""

FINDING = re.compile(r"^    (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mutant:
    """`before` stands in `file` exactly once, and is replaced by `after`."""

    name: str
    file: str
    before: str
    after: str

    def plant(self, root: Path) -> None:
        """Raises LookupError when the text is not there."""
        path = root / self.file
        text = path.read_text("utf-8")
        if text.count(self.before) != 1:
            raise LookupError(f"{self.name}: its text stands {text.count(self.before)} times")
        path.write_text(text.replace(self.before, self.after), "utf-8")


MUTANTS = (
    Mutant(
        "row before object",
        "vsp/media/shipper.py",
        """            await self._persist(segment, self._complete)
            await self._enter(await self._row(segment))
        elif""",
        """            await self._enter(await self._row(segment))
            await self._persist(segment, self._complete)
        elif""",
    ),
    Mutant(
        "early acknowledgement",
        "vsp/actions/recording.py",
        "        reach(Point.ROW_COMMIT_ABOUT)\n",
        """        reach(Point.ROW_COMMIT_ABOUT)
        await self._acknowledge(worker_id, event.seq)
""",
    ),
    Mutant(
        "journal entry dropped before its row is committed",
        "vsp/media/shipper.py",
        "            self._on_closed(entry)\n",
        """            self._on_closed(entry)
            self._journal.acknowledge(entry.seq)
""",
    ),
    Mutant(
        "journal entry lost with its process",
        "vsp/media/journal.py",
        "        self._entries, last = read_entries(disk, path)\n",
        """        self._entries, last = read_entries(disk, path)
        self._entries = {}
""",
    ),
    Mutant(
        "spool not synced",
        "vsp/media/chunks.py",
        "            self._file.sync()\n            self.synced",
        "            self.synced",
    ),
    Mutant(
        "chunk freed while a segment is in it",
        "vsp/media/spool.py",
        "        needed = min(self._live, default=self._tail)\n",
        "        needed = max(self._live, default=self._tail)\n",
    ),
    Mutant(
        "part put twice",
        "vsp/media/spool.py",
        "        segment.parts.append((tag, up_to))\n",
        "        segment.parts += [(tag, up_to), (tag, up_to)]\n",
    ),
    Mutant(
        "no directory fsync",
        "vsp/store/folder.py",
        """            self._disk.sync_folder(folder)
            _remember(self._settled, folder)
""",
        "            _remember(self._settled, folder)\n",
    ),
    Mutant(
        "upload not idempotent",
        "vsp/media/shipper.py",
        "        row = await self._stored_row(segment)\n",
        "        row = None\n",
    ),
    Mutant(
        "streams of the node before ended",
        "vsp/actions/streams.py",
        "            elif not self._adopt(status):\n",
        "            else:\n",
    ),
    Mutant(
        "call forgotten before its BYE is answered",
        "vsp/sip/session.py",
        "            if await self._bye_once(call):\n                self.ledger.settle(call)\n",
        """            self.ledger.settle(call)
            if await self._bye_once(call):
                self.ledger.settle(call)
""",
    ),
    Mutant(
        "call acknowledged before it is written down",
        "vsp/sip/session.py",
        "        await self.ledger.begin(row)\n",
        '        self._spawn(self._begin_late(row), "late")\n'
        "\n"
        "    async def _begin_late(self, row: DialogRow) -> None:\n"
        "        await asyncio.sleep(1.0)\n"
        "        await self.ledger.begin(row)\n",
    ),
    Mutant(
        "end of a view not written down",
        "vsp/actions/views.py",
        "        opened.entry.note(cause)\n        await opened.audit.aclose()\n",
        "        opened.entry.note(cause)\n",
    ),
    Mutant(
        "hash of all but the last fragment",
        "vsp/media/spool.py",
        "        hasher = segment.hasher if media else None\n",
        "        hasher = segment.hasher if media and index < 3 else None\n",
    ),
    Mutant(
        "overlapping gap",
        "vsp/actions/timeline.py",
        "        start_us, end_us = max(span.start_us, edge), min(span.end_us, until_us)\n",
        "        start_us, end_us = span.start_us, min(span.end_us + 1, until_us)\n",
    ),
    Mutant(
        "a ticket for any view",
        "vsp/media/admission.py",
        """        if (ticket.view_id, ticket.kind) != (view_id, kind):
            raise Denied("the media ticket is for another view")
""",
        "",
    ),
    Mutant(
        "seen before it is written down",
        "vsp/actions/views.py",
        """            entry = await audit.enter_async_context(
                self._access.act(actor, action, channel_resource(channel.id), reason)
            )
            reach(Point.VIEW_AUDITED)
            self._require_room(actor, channel)
""",
        """            act = self._access.act(actor, action, channel_resource(channel.id), reason)
            await attach(ViewId(view.id + "-early"))
            entry = await audit.enter_async_context(act)
            reach(Point.VIEW_AUDITED)
            self._require_room(actor, channel)
""",
    ),
    Mutant(
        "last part forgotten",
        "vsp/media/shipper.py",
        "        await self._put_new_bytes(segment)\n        reach(Point.COMPLETE_ABOUT)\n",
        """        if not segment.parts:
            await self._put_new_bytes(segment)
        reach(Point.COMPLETE_ABOUT)
""",
    ),
)


@dataclass(frozen=True, slots=True)
class Hunt:
    """lives      until it was found, or all there are
    finding    the first one; empty when there was none
    """

    mutant: Mutant
    lives: int
    finding: str
    took_s: float


def hunt(mutant: Mutant, seeds: str, jobs: int) -> Hunt:
    """Plant it in a copy and let the world find it. Raises LookupError."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vsp-mutant-") as made:
        copy = Path(made)
        leave_out = shutil.ignore_patterns("ui", "static", "__pycache__")
        for package in ("vsp", "simulators"):
            shutil.copytree(ROOT / package, copy / package, ignore=leave_out)
        mutant.plant(copy)
        words = ("--seeds", seeds, "--jobs", str(jobs), "--enough")
        done = subprocess.run(
            (sys.executable, "-m", "simulators.world", *words),
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
        )
    lives = sum(
        1 for line in done.stdout.splitlines() if line.startswith("small ") and "min" in line
    )
    if not lives:
        raise LookupError(f"{mutant.name}: no world was lived: {done.stderr[-500:]}")
    findings = FINDING.findall(done.stdout)
    finding = findings[0] if findings and done.returncode else ""
    return Hunt(mutant, lives, finding, time.monotonic() - began)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.world.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these")
    parser.add_argument("--seeds", default=SEEDS, metavar="N-M", help=f"({SEEDS})")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    said = parser.parse_args(arguments)
    missed = 0
    for mutant in MUTANTS:
        if said.names and mutant.name not in said.names:
            continue
        found = hunt(mutant, said.seeds, said.jobs)
        missed += not found.finding
        verdict = f"found after {found.lives} lives: {found.finding}" if found.finding else "MISSED"
        print(f"{mutant.name:<40}{found.took_s:>5.0f} s  {verdict}", flush=True)
    print(f"{missed} of the planted bugs were missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
