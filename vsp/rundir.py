"""What a supervisor writes into the run directory, for the next supervisor and for its children.

  {kind}.lock     held (flock) while somebody supervises children of this kind: two supervisors
                  would restart each other's processes
  {name}.child    who runs under this name, how it was started, who supervises it: a `Record`
  {name}.pid      the same process id, for people and scripts
  {name}.alone    since when this process has missed its supervisor (monotonic seconds)

A kind is what stands before the number: `worker` of `worker-3`. Nothing here outlives a boot, for
an identity names its own.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import structlog

from vsp.disk import lock_file
from vsp.errors import Conflict
from vsp.processes import Held, Identity, hold

log = structlog.get_logger(__name__)


def kind_of(name: str) -> str:
    return name.partition("-")[0]


# ---- the right to supervise -----------------------------------------------------------------


@contextmanager
def claimed(folder: Path, kinds: Iterable[str]) -> Iterator[None]:
    """Hold the right to supervise children of these kinds. Raises Conflict naming who has it."""
    with ExitStack() as held:
        for kind in sorted(set(kinds)):
            held.callback(os.close, _lock(folder, kind))
        yield


def _lock(folder: Path, kind: str) -> int:
    path = folder / f"{kind}.lock"
    try:
        file = lock_file(path)
    except BlockingIOError:
        holder = _holder(path)
        raise Conflict(
            f"数据目录 {folder.parent} 已有平台在运行（进程 {holder}） "
            f"a platform runs in this data directory already (pid {holder}, {kind})",
            next_step="先停止它，或用 --set node.data_dir=… 另选目录 "
            "stop it first, or choose another node.data_dir",
        ) from None
    with suppress(OSError):  # a full disk: the lock holds, it only does not say whose it is
        os.truncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return file


def _holder(lock: Path) -> str:
    """What the one who holds it wrote into it; empty when a full disk took nothing."""
    return lock.read_bytes()[:20].decode("ascii", "replace").strip()


def supervisor_of(folder: Path, kind: str) -> str | None:
    """The process that supervises children of this kind now, by the lock; None when none does."""
    shared = fcntl.LOCK_SH  # so that two who ask at once do not see each other
    lock = folder / f"{kind}.lock"
    try:
        file = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(file, shared | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holder(lock)
    finally:
        os.close(file)
    return None


# ---- who runs -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """How a child was started, and who looks after it.

    fingerprint  of its program and settings: who would start it otherwise may not adopt it
    outlives     whether it goes on without its supervisor
    """

    process: Identity
    supervisor: Identity
    fingerprint: str
    outlives: bool


def write_record(folder: Path, name: str, record: Record) -> None:
    """At once and whole: a reader finds the one before or this one."""
    temporary = folder / f"{name}.child.new"
    temporary.write_text(json.dumps(asdict(record)), "utf-8")
    temporary.replace(folder / f"{name}.child")
    (folder / f"{name}.pid").write_text(f"{record.process.pid}\n", "ascii")


def read_record(folder: Path, name: str) -> Record | None:
    """None when there is none that can be understood."""
    try:
        return _record(json.loads((folder / f"{name}.child").read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _record(fields: Mapping[str, Any]) -> Record:
    return Record(
        Identity(**fields["process"]),
        Identity(**fields["supervisor"]),
        str(fields["fingerprint"]),
        bool(fields["outlives"]),
    )


def forget(folder: Path, name: str) -> None:
    for suffix in ("pid", "alone", "child"):
        (folder / f"{name}.{suffix}").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process that runs while its supervisor does not. Close it."""

    name: str
    record: Record
    held: Held


def leftovers(folder: Path) -> list[Leftover]:
    """Who was left by supervisors that are no more."""
    found = []
    for file in sorted(folder.glob("*.child")):
        record = read_record(folder, file.stem)
        if record is None or _runs(record.supervisor):
            continue
        held = hold(record.process)
        if held is not None:
            found.append(Leftover(file.stem, record, held))
    return found


def _runs(identity: Identity) -> bool:
    held = hold(identity)
    if held is not None:
        held.close()
    return held is not None


# ---- a child without a supervisor -----------------------------------------------------------


class Guard:
    """A child's own look at its supervisor: is there one, and since when not?"""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._since: float | None = None
        record = read_record(folder, name)
        # On a full disk nothing was written down, and whoever started us is our parent.
        self._supervisor = hold(record.supervisor) if record else Held(os.getppid())

    def alone_s(self, now: float) -> float:
        """Seconds without a supervisor at `now` (monotonic), 0.0 with one. Ask again and again."""
        if self._is_supervised():
            if self._since is not None:
                log.info("supervised again", alone_s=round(now - self._since, 1))
            self._since = None
            return 0.0
        if self._since is None:
            self._since = now
            log.warning("the supervisor is gone, going on alone")
            # A full disk is no reason to end; the next supervisor then does not know how long.
            with suppress(OSError):
                (self._folder / f"{self._name}.alone").write_text(f"{now}", "ascii")
        return now - self._since

    def _is_supervised(self) -> bool:
        """As far as is known, or by whoever has adopted us since."""
        if self._supervisor is not None and not self._supervisor.runs:
            self._supervisor.close()
            self._supervisor = None
        if self._supervisor is None:
            record = read_record(self._folder, self._name)
            self._supervisor = hold(record.supervisor) if record else None
        return self._supervisor is not None


def alone_s(folder: Path, name: str, now: float) -> float:
    """How long a child says that it has been alone; 0.0 when it has not noticed."""
    try:
        return max(0.0, now - float((folder / f"{name}.alone").read_text("ascii")))
    except (OSError, ValueError):
        return 0.0


__all__ = [
    "Guard",
    "Leftover",
    "Record",
    "alone_s",
    "claimed",
    "forget",
    "kind_of",
    "leftovers",
    "read_record",
    "supervisor_of",
    "write_record",
]
