"""Log lines are events: a fixed message, then key=value. Never secrets, never people's names.

JSON by default: every field is escaped, so a device name with line breaks or ANSI codes cannot
forge a line. Logs go to stderr; stdout carries the ready line and nothing else.

A process must not stand still or fall because nobody reads its lines: the terminal was closed or
stopped, the program behind the pipe has ended or hangs. What cannot be written at once is dropped.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TextIO, cast

import structlog

from vsp.config import LogConfig

STDERR = 2
"""The file descriptor itself: what stands behind `sys.stderr` may not even be a file."""


def set_up(config: LogConfig, process: str) -> None:
    """Configure structlog for this process; `process` ("node", "worker-0") stands in each line."""
    level = logging.getLevelNamesMapping()[config.level.upper()]
    terminal = sys.stderr.isatty()
    for_people = config.format == "console" or (config.format == "auto" and terminal)
    lines = Lines(STDERR)
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=terminal)
        if for_people
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, lines)),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(level=max(level, logging.WARNING), stream=lines, force=True)


class Lines:
    """A file to write lines to, that never waits and never fails."""

    def __init__(self, fd: int) -> None:
        self._put = _without_waiting(fd)
        self._cut = False
        self._dropped = 0

    def write(self, text: str) -> None:
        if self._dropped:
            text = f"vsp: {self._dropped} log lines could not be written\n{text}"
        if self._cut:
            text = f"\n{text}"
        data = text.encode("utf-8", "backslashreplace")
        try:
            written = self._put(data)
        except OSError:
            self._dropped += 1
            return
        self._dropped = 0
        self._cut = written < len(data)

    def flush(self) -> None:
        """Nothing is held back."""


def _without_waiting(fd: int) -> Callable[[bytes], int]:
    """How to write to it so that EAGAIN comes instead of a wait. Others write to the same pipe or
    terminal, so the mode of what we share is left alone: it is opened once more."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISSOCK(mode):
        shared = socket.socket(fileno=os.dup(fd))
        return lambda data: shared.send(data, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with suppress(OSError):  # another user's: it can only be written to as it is
            again = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return partial(os.write, os.open(f"/proc/self/fd/{fd}", again))
    return partial(os.write, fd)
