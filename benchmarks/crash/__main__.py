"""`python -m benchmarks.crash`: a campaign of deaths. Exits 1 when something does not hold."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.crash.batch import Scene
from benchmarks.crash.campaign import FOLDER, Wish, campaign
from benchmarks.figure import table


def main(arguments: Sequence[str] | None = None) -> int:
    usual = Scene()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash", description=__doc__)
    add = parser.add_argument
    add("--kills", type=int, default=1000, help="deaths in all (default %(default)s)")
    add("--seed", type=int, default=1, help="of the first batch; the others count on from it")
    add("--batch", type=int, default=50, help="deaths of one platform (default %(default)s)")
    add(
        "--streams", type=int, default=usual.streams, help="that are recorded (default %(default)s)"
    )
    add("--size", default=usual.size, help="of a picture (default %(default)s)")
    add("--fps", type=int, default=usual.fps, help="pictures a second (default %(default)s)")
    add("--no-audio", action="store_true", help="pictures only")
    add("--fresh", action="store_true", help="run again what has been run")
    add("--keep", action="store_true", help="keep what every batch has recorded, and its log")
    said = parser.parse_args(arguments)
    scene = Scene(said.streams, said.size, said.fps, not said.no_audio)
    wish = Wish(said.kills, said.seed, said.batch, scene)
    report = campaign(wish, FOLDER, fresh=said.fresh, keep=said.keep)
    print(report.table(), table(report.figures), sep="\n\n", end="\n\n")
    for figure in report.figures:
        print(figure.line())
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
