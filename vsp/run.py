"""`vsp run` and `vsp demo`: which processes this machine needs, and with which settings.

Settings reach children through the environment, resolved once here: a port 0 becomes a free port
before the first child starts, so that a restarted child comes back where cameras and browsers
expect it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from vsp.config import ENVIRONMENT_PREFIX, Config
from vsp.errors import Conflict
from vsp.supervisor import Child, Supervisor, python

DATABASE_SETTINGS = (f"{ENVIRONMENT_PREFIX}DATABASE__",)
"""The process that parses hostile media is not even told where the database is."""

NODE_ROLES = ("signal", "media", "web", "jobs")
"""Roles of `--role`; `signal`, `web` and `jobs` share the node process, `media` is the workers."""


def free_port(host: str, *kinds: socket.SocketKind) -> int:
    """A port that is free now for every kind asked for; the kernel picks it from the first."""
    for _ in range(100):
        with socket.socket(socket.AF_INET, kinds[0]) as first:
            first.bind((host, 0))
            port = int(first.getsockname()[1])
            if all(_is_free(host, port, kind) for kind in kinds[1:]):
                return port
    raise Conflict(f"no port of {host} is free for all of {kinds}")


def _is_free(host: str, port: int, kind: socket.SocketKind) -> bool:
    with socket.socket(socket.AF_INET, kind) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_run(host: str, length: int) -> int:
    """The first of `length` consecutive free TCP ports, for the workers' viewer listeners."""
    for _ in range(100):
        first = free_port(host, socket.SOCK_STREAM)
        run = range(first, first + length)
        if run.stop <= 65536 and all(_is_free(host, port, socket.SOCK_STREAM) for port in run):
            return first
    raise Conflict(f"no {length} consecutive ports of {host} are free")


def choose_ports(config: Config) -> Config:
    """The same settings with a free port wherever 0 was asked for."""
    sip, web, media = config.sip, config.web, config.media
    if sip.port == 0:
        port = free_port(sip.host, socket.SOCK_DGRAM, socket.SOCK_STREAM)
        sip = sip.model_copy(update={"port": port})
    if web.port == 0:
        web = web.model_copy(update={"port": free_port(web.host, socket.SOCK_STREAM)})
    if media.http_port_first == 0:
        first = free_run(media.http_host, config.worker_count)
        media = media.model_copy(update={"http_port_first": first})
    return config.model_copy(update={"sip": sip, "web": web, "media": media})


def child_environment(config: Config, environment: Mapping[str, str]) -> dict[str, str]:
    """The children's environment: every setting of `config`, nothing left to a file."""
    told = {
        name: value
        for name, value in environment.items()
        if not name.startswith(ENVIRONMENT_PREFIX)
    }
    for section, values in config.model_dump(mode="json").items():
        for key, value in values.items():
            if value is not None:
                shown = ",".join(value) if isinstance(value, list) else value
                text = str(shown).lower() if isinstance(value, bool) else str(shown)
                told[f"{ENVIRONMENT_PREFIX}{section}__{key}".upper()] = text
    return told


def ready_file(config: Config) -> Path:
    """Made by the node once it serves; removed before it starts."""
    return config.data_dir / "run" / "ready"


def platform_children(config: Config, roles: Sequence[str]) -> list[Child]:
    """The processes of one machine for these roles."""
    children = []
    if {"signal", "web", "jobs"} & set(roles):
        children.append(Child("node", python("vsp.node")))
    if "media" in roles:
        children += [
            Child(
                f"worker-{index}",
                python("vsp.worker", "--index", str(index)),
                withheld=DATABASE_SETTINGS,
            )
            for index in range(config.worker_count)
        ]
    return children


async def run(config: Config, roles: Sequence[str], extra: Sequence[Child] = ()) -> int:
    """Supervise this machine's processes until told to stop. Returns the exit code."""
    config = choose_ports(config)
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    ready_file(config).unlink(missing_ok=True)
    supervisor = Supervisor(
        config.data_dir / "run",
        child_environment(config, os.environ),
        config.node.stop_timeout_s,
    )
    return await supervisor.run([*platform_children(config, roles), *extra])
