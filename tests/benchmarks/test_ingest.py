"""What a window costs; the figure itself is run by `make bench NAME=ingest`."""

from __future__ import annotations

import os
import subprocess

import pytest

from benchmarks.crash.recorded import Picture
from benchmarks.ingest import Window
from benchmarks.running import family

MICROS = 1_000_000


def picture(sent_us: int, frame: int) -> Picture:
    return Picture(frame * 40_000, sent_us, frame == 0, 0, frozenset())


def test_a_window_counts_the_packs_that_were_sent_within_it():
    pictures = [picture(second * MICROS, second) for second in range(6)]
    pack_bytes = [1_000, 10, 20]

    window = Window(2 * MICROS, 5 * MICROS, spent_s=0.5)

    assert window.cost(pictures, pack_bytes) == pytest.approx(0.5 * 1e9 / (20 + 1_000 + 10))


def test_a_family_is_a_process_and_all_that_descend_from_it():
    line = "sleep 30 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", line], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        try:
            assert family(parent.pid) == {parent.pid, child}
            assert family(parent.pid) < family(os.getpid())
        finally:
            os.kill(child, 15)
