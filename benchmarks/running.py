"""What benchmarks of the whole platform share: a real one in real processes, and what it costs.

The platform is that of the end-to-end tests (`tests/e2e/platform.py`): own folder, own ports.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.e2e.platform import Platform

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def platform(
    *command: str, port_first: int = 22_000, **settings: str
) -> AsyncIterator[Platform]:
    """A platform in a temporary folder, gone afterwards. settings: VSP_... variables."""
    with tempfile.TemporaryDirectory(prefix="vsp-bench-", ignore_cleanup_errors=True) as folder:
        running = Platform(Path(folder), command=command, settings=settings, port_first=port_first)
        async with running:
            yield running


def cpu_s(pid: int) -> float:
    """User and system time of a process and all its threads so far (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def family(pid: int) -> set[int]:
    """A process and all that descend from it (proc(5), children)."""
    found, waiting = set[int](), [pid]
    while waiting:
        found.add(parent := waiting.pop())
        for task in Path(f"/proc/{parent}/task").iterdir():
            waiting += map(int, (task / "children").read_text().split())
    return found


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def pids(running: Platform) -> dict[str, int]:
    """Processes of the platform by name, as the supervisor wrote them down."""
    files: Sequence[Path] = sorted((running.data / "run").glob("*.pid"))
    found = {file.stem: int(file.read_text()) for file in files}
    return {name: pid for name, pid in found.items() if Path(f"/proc/{pid}").exists()}


__all__ = [
    "Platform",
    "cpu_s",
    "family",
    "open_files",
    "pids",
    "platform",
    "resident_bytes",
    "threads",
]
