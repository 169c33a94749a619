"""`python -m benchmarks NAME` or `--list`.

NAME is a benchmark, or one figure of it (`live-latency.20`). Prints a table, then one JSON line a
figure; exits 1 when a bar does not hold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

from benchmarks.figure import Figure, table

BENCHMARKS = {
    "sip-core": "CPU of a heartbeat and of a registration, without sockets",
    "ingest": "CPU of the recording platform, against ffmpeg -c copy",
    "live-latency": "last packet sent to whole fragment received, beside a TCP echo",
    "first-picture": "click to first key frame, stream up and cold",
    "loop-lag": "lateness of the node's loop under the demo",
    "spool-layout": "one log per worker against one file per stream",
    "segment-commit": "rows per second, SQLite with full synchronisation",
    "startup": "vsp demo to the ready line, warm",
}
"""Name and what it measures; the file has the name with underscores."""


def measure(name: str) -> list[Figure]:
    """Run one benchmark; of `name.part` only that figure is kept."""
    whole = name.partition(".")[0]
    run: Callable[[], list[Figure]] = import_module(f"benchmarks.{whole.replace('-', '_')}").measure
    figures = run()
    return figures if name == whole else [figure for figure in figures if figure.name == name]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", help="a benchmark, or one figure of it")
    parser.add_argument("--list", action="store_true", help="what there is")
    said = parser.parse_args(arguments)
    if said.list or not said.name:
        for name, what in BENCHMARKS.items():
            print(f"{name:<16}{what}")
        return 0 if said.list else 2
    if said.name.partition(".")[0] not in BENCHMARKS:
        parser.error(f"no benchmark {said.name!r}; see --list")
    figures = measure(said.name)
    if not figures:
        parser.error(f"{said.name.partition('.')[0]} has no figure {said.name!r}")
    print(table(figures), end="\n\n")
    for figure in figures:
        print(figure.line())
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
