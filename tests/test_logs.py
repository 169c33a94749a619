"""Log lines never stop and never fell the process that writes them."""

import fcntl
import json
import os
import pty
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from vsp.logs import Lines

PIPE_BYTES = 4096
"""One page, the least that a pipe can hold."""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield reading, writing
    os.close(reading)
    os.close(writing)


def test_a_pipe_that_nobody_reads_takes_no_time_and_the_loss_is_told(pipe: tuple[int, int]):
    reading, writing = pipe
    lines = Lines(writing)

    for number in range(300):
        lines.write(f"line {number:03d} {'x' * 60}\n")
    taken = os.read(reading, 1 << 16).decode().splitlines()
    lines.write("after\n")

    assert taken[0].startswith("line 000 ")
    assert 0 < len(taken) < 300
    lost = 300 - len(taken)
    assert os.read(reading, 1 << 16).decode() == (
        f"vsp: {lost} log lines could not be written\nafter\n"
    )


def test_a_line_that_had_no_room_to_its_end_does_not_run_into_the_next(pipe: tuple[int, int]):
    reading, writing = pipe
    lines = Lines(writing)

    lines.write("x" * (PIPE_BYTES + 1000) + "\n")
    assert os.read(reading, 1 << 16) == b"x" * PIPE_BYTES
    lines.write("next\n")

    assert os.read(reading, 1 << 16) == b"\nnext\n"


def test_the_mode_of_what_others_write_to_as_well_is_left_alone(pipe: tuple[int, int]):
    _, writing = pipe

    Lines(writing).write("line\n")

    assert os.get_blocking(writing)


def test_a_reader_that_has_gone_is_borne():
    reading, writing = os.pipe()
    lines = Lines(writing)
    os.close(reading)

    lines.write("nobody hears\n")

    os.close(writing)


def test_a_terminal_that_was_closed_is_borne():
    master, terminal = pty.openpty()
    lines = Lines(terminal)
    os.close(master)

    lines.write("nobody sees\n")

    os.close(terminal)


def test_lines_of_several_processes_follow_each_other_in_a_file(tmp_path):
    with (tmp_path / "log").open("ab") as file:
        file.write(b"first\n")
        file.flush()
        Lines(file.fileno()).write("第二 second\n")

    assert (tmp_path / "log").read_text("utf-8") == "first\n第二 second\n"


PROGRAM = """
import logging, structlog
from vsp import logs
from vsp.config import LogConfig
logs.set_up(LogConfig(), "p")
log = structlog.get_logger()
log.info("first")
input()
for number in range(2000):
    log.warning("later", text="x" * 1000)
logging.getLogger("x").error("last")
print("alive")
"""


def started(stderr: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def test_a_process_lives_on_when_its_log_is_cut_off():
    process = started(subprocess.PIPE)
    assert process.stderr is not None
    first = json.loads(process.stderr.readline())
    process.stderr.close()
    process.stderr = None

    said, _ = process.communicate("\n", timeout=20)

    assert (first["event"], first["process"]) == ("first", "p")
    assert (said, process.returncode) == ("alive\n", 0)


def test_a_process_lives_on_when_a_socket_takes_no_more_lines():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = started(ours.fileno())
        said, _ = process.communicate("\n", timeout=20)

        assert json.loads(theirs.recv(1 << 16).splitlines()[0])["event"] == "first"
        assert (said, process.returncode) == ("alive\n", 0)
