"""A simulated camera that notes when the last packet of each picture has left.

`python -m benchmarks.camera` with the camera's place as JSON on standard input; lines of the log
are `frame sent_us`. Its picture comes from the simulators' loop; it is alone in its process, so
that no other stream's packets stand before its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from simulators import device
from simulators.camera import camera_spec
from simulators.demo import DEMO_TIMING, run_until_stopped
from simulators.media import SentLog
from simulators.nal import Stamp
from simulators.process import die_with_parent
from simulators.spec import PlatformSpec


class DepartureLog(SentLog):
    """Written right after the packets of a picture were handed to the kernel."""

    def write(
        self, channel: str, ssrc: int, stamp: Stamp, key: bool, size_bytes: int, sent_us: int
    ) -> None:
        self._file.write(f"{stamp.frame} {time.time_ns() // 1000}\n")


def main() -> None:
    die_with_parent()
    said = json.load(sys.stdin)
    device.SentLog = DepartureLog  # type: ignore[attr-defined]
    spec = camera_spec(
        said["gb_id"],
        said["password"],
        label="CAM 01",
        timing=DEMO_TIMING,
        sent_log=Path(said["log"]),
    )
    platform = PlatformSpec(said["host"], said["port"], said["id"], said["domain"])
    asyncio.run(run_until_stopped([spec], platform, Path(said["cache"]), seed=1))


if __name__ == "__main__":
    main()
