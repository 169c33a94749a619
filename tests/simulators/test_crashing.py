"""A process that dies where it is told to: a real one each time."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simulators.crashing import REARM, Hit, Sentence
from vsp.faults import Point

BODY = """
import sys
from vsp.faults import Point, reach
print(*sys.argv[1:], flush=True)
for line in sys.stdin:
    reach(Point(line.strip()))
    print("passed", flush=True)
sys.exit(3)
"""
"""Reaches the points that it is told, one a line."""

WAIT_S = 20.0


class Body:
    """The process, and the two files that it was given."""

    def __init__(self, folder: Path) -> None:
        (folder / "body.py").write_text(BODY)
        self.plan = folder / "body.plan"
        self.hits = folder / "body.hits"
        self._folder = folder

    @contextmanager
    def running(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        files = ("--plan", self.plan, "--hits", self.hits)
        root = Path(__file__).resolve().parents[2]
        process = subprocess.Popen(
            [sys.executable, "-m", "simulators.crashing", *files, "body", *words],
            cwd=root,
            env={"PYTHONPATH": f"{self._folder}:{root}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
            process.kill()

    def deaths(self) -> list[Hit]:
        return Hit.read_all(self.hits)


@pytest.fixture
def body(tmp_path: Path) -> Body:
    return Body(tmp_path)


def passes(process: subprocess.Popen[str], point: Point) -> bool:
    """Whether the process lives on behind it."""
    process.stdin.write(f"{point}\n")
    process.stdin.flush()
    return process.stdout.readline() == "passed\n"


def test_it_dies_by_sigkill_on_the_pass_that_the_plan_names(body: Body):
    Sentence(Point.PART_PUT, passes=2).write(body.plan)

    with body.running() as process:
        assert passes(process, Point.PART_PUT)
        assert passes(process, Point.COMPLETED)
        assert not passes(process, Point.PART_PUT)
        assert process.wait(WAIT_S) == -signal.SIGKILL

    [hit] = body.deaths()
    assert (hit.point, hit.pid) == (Point.PART_PUT, process.pid)
    assert abs(hit.at_us / 1e6 - time.time()) < WAIT_S


def test_who_is_started_in_its_place_does_not_die_of_the_same_plan(body: Body):
    Sentence(Point.PART_PUT).write(body.plan)
    with body.running() as process:
        assert not passes(process, Point.PART_PUT)

    with body.running() as process:
        assert passes(process, Point.PART_PUT)

    assert len(body.deaths()) == 1


def test_a_signal_has_the_plan_read_anew_and_counted_from_then_on(body: Body):
    with body.running() as process:
        assert passes(process, Point.PART_PUT)
        Sentence(Point.PART_PUT, passes=2).write(body.plan)
        process.send_signal(REARM)

        assert passes(process, Point.PART_PUT)
        assert not passes(process, Point.PART_PUT)


def test_a_plan_that_was_taken_away_kills_nobody(body: Body):
    Sentence(Point.PART_PUT).write(body.plan)

    with body.running() as process:
        body.plan.unlink()
        process.send_signal(REARM)

        assert passes(process, Point.PART_PUT)


def test_without_a_plan_it_is_the_module_with_its_words_and_its_exit_code(body: Body):
    with body.running("--index", "0") as process:
        assert passes(process, Point.PART_PUT)
        process.stdin.close()

        assert process.wait(WAIT_S) == 3

    assert body.deaths() == []


def test_a_line_that_is_being_written_is_no_death_yet(tmp_path: Path):
    log = tmp_path / "hits"
    line = '{"point": "part.put", "pid": 7, "monotonic_s": 1.5, "at_us": 9}'
    log.write_text(f"{line}\n{line[:20]}")

    assert Hit.read_all(log) == [Hit(Point.PART_PUT, 7, 1.5, 9)]
    assert Hit.read_all(tmp_path / "none") == []
