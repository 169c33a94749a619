"""Log lines are events: a fixed message, then key=value. Never secrets, never people's names.

JSON by default: every field is escaped, so a device name with line breaks or ANSI codes cannot
forge a line. Logs go to stderr; stdout carries the ready line and nothing else.
"""

from __future__ import annotations

import logging
import sys

import structlog

from vsp.config import LogConfig


def set_up(config: LogConfig, process: str) -> None:
    """Configure structlog for this process; `process` ("node", "worker-0") stands in each line."""
    level = logging.getLevelNamesMapping()[config.level.upper()]
    terminal = sys.stderr.isatty()
    for_people = config.format == "console" or (config.format == "auto" and terminal)
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
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
    logging.basicConfig(level=max(level, logging.WARNING), stream=sys.stderr, force=True)
