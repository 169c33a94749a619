"""What supervisors and their children find in the run directory."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from vsp.errors import Conflict
from vsp.processes import Identity, identify, myself
from vsp.rundir import (
    Guard,
    Record,
    alone_s,
    claimed,
    forget,
    leftovers,
    read_record,
    supervisor_of,
    write_record,
)

GONE = Identity(1, 0, "another boot")


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def who(process: subprocess.Popen[bytes]) -> Identity:
    found = identify(process.pid)
    assert found is not None
    return found


# ---- the right to supervise -----------------------------------------------------------------


def test_a_kind_has_one_supervisor_at_a_time(tmp_path: Path):
    with claimed(tmp_path, ["worker", "node"]):
        with (
            pytest.raises(Conflict, match=rf"pid {myself().pid}, node"),
            claimed(tmp_path, ["node"]),
        ):
            raise AssertionError("two supervisors")
        with claimed(tmp_path, ["simulators"]):
            pass

    with claimed(tmp_path, ["node"]):
        pass


def test_a_claim_that_fails_takes_nothing(tmp_path: Path):
    with claimed(tmp_path, ["worker"]):
        with pytest.raises(Conflict), claimed(tmp_path, ["node", "worker"]):
            raise AssertionError("two supervisors")

        with claimed(tmp_path, ["node"]):
            pass


def test_who_supervises_is_asked_without_being_in_the_way(tmp_path: Path):
    assert supervisor_of(tmp_path, "node") is None

    with claimed(tmp_path, ["node"]):
        assert supervisor_of(tmp_path, "node") == f"{myself().pid}"
        assert supervisor_of(tmp_path, "worker") is None

    assert supervisor_of(tmp_path, "node") is None
    with claimed(tmp_path, ["node"]):
        pass


def test_the_right_ends_with_its_holder_and_not_with_its_children(tmp_path: Path):
    program = (
        "import subprocess, sys; from pathlib import Path; from vsp.rundir import claimed\n"
        "with claimed(Path(sys.argv[1]), ['node']):\n"
        "    child = subprocess.Popen(['sleep', '60'], stdout=subprocess.DEVNULL)\n"
        "    print(child.pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with ExitStack() as last:
        holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        child = identify(int(holder.stdout.readline()))
        assert child is not None
        last.callback(subprocess.run, ["kill", "-9", str(child.pid)], check=True)
        with pytest.raises(Conflict), claimed(tmp_path, ["node"]):
            raise AssertionError("two supervisors")

        holder.kill()
        holder.communicate()

        assert identify(child.pid) == child
        with claimed(tmp_path, ["node"]):
            pass


# ---- who runs -------------------------------------------------------------------------------


def test_a_record_is_read_as_it_was_written(tmp_path: Path):
    record = Record(myself(), GONE, "print", True)

    write_record(tmp_path, "worker-0", record)

    assert read_record(tmp_path, "worker-0") == record
    assert (tmp_path / "worker-0.pid").read_text() == f"{myself().pid}\n"
    forget(tmp_path, "worker-0")
    assert read_record(tmp_path, "worker-0") is None
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"process": {"pid": 1}}', "null"])
def test_a_record_that_makes_no_sense_is_none(tmp_path: Path, text: str):
    (tmp_path / "worker-0.child").write_text(text)

    assert read_record(tmp_path, "worker-0") is None
    assert leftovers(tmp_path) == []


def test_left_over_is_who_runs_without_a_supervisor(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
):
    left = Record(who(sleeper), GONE, "print", True)
    write_record(tmp_path, "worker-0", left)
    write_record(tmp_path, "worker-1", replace(left, supervisor=myself()))
    write_record(tmp_path, "worker-2", replace(left, process=GONE))

    [found] = leftovers(tmp_path)

    assert (found.name, found.record, found.held.pid) == ("worker-0", left, sleeper.pid)
    found.held.close()


# ---- a child without a supervisor -----------------------------------------------------------


def test_a_child_counts_the_time_without_a_supervisor_until_the_next_one(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
):
    record = Record(myself(), who(sleeper), "print", True)
    write_record(tmp_path, "worker-0", record)
    guard = Guard(tmp_path, "worker-0")
    assert guard.alone_s(100.0) == 0.0
    assert alone_s(tmp_path, "worker-0", 100.0) == 0.0

    sleeper.kill()
    sleeper.wait()
    assert guard.alone_s(101.0) == 0.0
    assert guard.alone_s(107.5) == 6.5
    assert alone_s(tmp_path, "worker-0", 108.0) == 7.0

    write_record(tmp_path, "worker-0", replace(record, supervisor=myself()))
    assert guard.alone_s(110.0) == 0.0
    assert guard.alone_s(1000.0) == 0.0


def test_a_child_that_was_not_written_down_looks_at_its_parent(tmp_path: Path):
    guard = Guard(tmp_path, "worker-0")

    assert guard.alone_s(0.0) == 0.0
    assert guard.alone_s(1e6) == 0.0


def test_a_child_whose_supervisor_died_at_once_is_alone_from_its_first_look(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
):
    write_record(tmp_path, "worker-0", Record(myself(), GONE, "print", True))
    guard = Guard(tmp_path, "worker-0")

    assert guard.alone_s(5.0) == 0.0
    assert guard.alone_s(6.0) == 1.0
