"""Live seeded worlds: `python -m simulators.world --seeds 1-200`, or one again with `--seeds 7`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from simulators.world.campaign import AnyScale, run
from simulators.world.weeks import WEEKS
from simulators.world.world import SCALES

EVERY_SCALE: dict[str, AnyScale] = {**SCALES, WEEKS.name: WEEKS}
"""Datagram by datagram, and by interval events."""

HASH_SEED = "PYTHONHASHSEED"
"""Python orders its sets by it, and with them what a seed leads to."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m simulators.world", description=__doc__)
    top.add_argument("--scale", choices=[*EVERY_SCALE], default="small", help="how big (small)")
    top.add_argument("--seeds", type=_seeds, default=range(1, 2), metavar="N or N-M")
    top.add_argument("--jobs", type=int, default=os.cpu_count(), metavar="N", help="at a time")
    top.add_argument("--twice", type=int, default=0, metavar="N", help="the first N, two times")
    top.add_argument(
        "--all-points", action="store_true", help="fail when a crash point was hit in no life"
    )
    top.add_argument("--enough", action="store_true", help="stop at the first that fails")
    top.add_argument("--json", action="store_true", help="the sum as JSON, as the last line")
    return top


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    if os.environ.get(HASH_SEED) != "0":
        os.execve(
            sys.executable,
            [sys.executable, "-m", "simulators.world", *(arguments or sys.argv[1:])],
            {**os.environ, HASH_SEED: "0"},
        )
    scale = EVERY_SCALE[options.scale]
    campaign = run(
        options.seeds,
        scale,
        max(1, options.jobs),
        options.twice,
        _say,
        one_is_enough=options.enough,
    )
    missed = campaign.missed if options.all_points else []
    for point in missed:
        _say(f"crash point {point} was hit in no life")
    for seed in campaign.failed:
        _say(f"again: make world SCALE={scale.name} SEEDS={seed}")
    holds = not campaign.failed and not missed
    if options.json:
        _say(json.dumps({"holds": holds, **campaign.figures()}))
    else:
        excused = ", ".join(f"{count} {why}" for why, count in (+campaign.excused).most_common())
        _say(f"excused: {excused or 'nothing'}")
        _say(
            f"{scale.name}: {campaign.lives} lives, {len(campaign.failed)} failed, "
            f"{campaign.deaths} deaths, {campaign.pictures} pictures, "
            f"{len(campaign.missed)} crash points missed, {campaign.cpu_s:.0f} s"
        )
    return 0 if holds else 1


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
