"""`vsp run` and `vsp demo`: which processes this machine needs, and with which settings.

Settings reach children through the environment, resolved once here: a port 0 becomes a free port
before the first child starts, and is remembered, so that a restarted child or platform comes back
where cameras and browsers expect it.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from vsp import logs
from vsp.config import ENVIRONMENT_PREFIX, Config
from vsp.errors import Conflict
from vsp.rundir import claimed, kind_of, leftovers
from vsp.supervisor import Child, Supervisor, end, python

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
        if kind is socket.SOCK_STREAM:
            # As our listeners do: connections that were closed a minute ago are in nobody's way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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


@dataclass(frozen=True, slots=True)
class Ports:
    """What was listened on last; 0 is not known.

    viewers  that of worker 0; the others follow it
    """

    sip: int = 0
    web: int = 0
    viewers: int = 0


def choose_ports(
    config: Config, before: Ports = Ports(), living: Collection[str] = frozenset()
) -> Config:
    """The same settings with a port wherever 0 was asked for: that of `before`, or a free one.

    living  names of children that still run, and so hold their own port
    """
    sip, web, media = config.sip, config.web, config.media
    if sip.port == 0:
        kinds = socket.SOCK_DGRAM, socket.SOCK_STREAM
        same = before.sip if all(_is_free(sip.host, before.sip, kind) for kind in kinds) else 0
        sip = sip.model_copy(update={"port": same or free_port(sip.host, *kinds)})
    if web.port == 0:
        same = before.web if _is_free(web.host, before.web, socket.SOCK_STREAM) else 0
        web = web.model_copy(update={"port": same or free_port(web.host, socket.SOCK_STREAM)})
    if media.http_port_first == 0:
        same = before.viewers if _viewers_fit(config, before, living) else 0
        first = same or free_run(media.http_host, config.worker_count)
        media = media.model_copy(update={"http_port_first": first})
    return config.model_copy(update={"sip": sip, "web": web, "media": media})


def _viewers_fit(config: Config, before: Ports, living: Collection[str]) -> bool:
    return before.viewers + config.worker_count <= 65536 and all(
        worker_name(index) in living
        or _is_free(config.media.http_host, before.viewers + index, socket.SOCK_STREAM)
        for index in range(config.worker_count)
    )


def _ports_file(config: Config) -> Path:
    return run_dir(config) / "ports.json"


def known_ports(config: Config) -> Ports:
    """Those of the last start in this data directory."""
    try:
        return Ports(**json.loads(_ports_file(config).read_text("ascii")))
    except (OSError, ValueError, TypeError):
        return Ports()


def remember_ports(config: Config) -> None:
    ports = Ports(config.sip.port, config.web.port, config.media.http_port_first)
    with suppress(OSError):  # a full disk keeps nobody from running
        _ports_file(config).write_text(json.dumps(asdict(ports)), "ascii")


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


def run_dir(config: Config) -> Path:
    """Sockets, process ids, what one supervisor tells the next: nothing that outlives a boot."""
    return config.data_dir / "run"


def ready_file(config: Config) -> Path:
    """Made by the node once it serves; removed before it starts."""
    return run_dir(config) / "ready"


def worker_name(index: int) -> str:
    return f"worker-{index}"


def platform_children(config: Config, roles: Sequence[str]) -> list[Child]:
    """The processes of one machine for these roles."""
    children = []
    if {"signal", "web", "jobs"} & set(roles):
        children.append(Child("node", python("vsp.node")))
    if "media" in roles:
        children += [
            Child(
                worker_name(index),
                python("vsp.worker", "--index", str(index)),
                withheld=DATABASE_SETTINGS,
                outlives=True,
            )
            for index in range(config.worker_count)
        ]
    return children


async def _nothing(config: Config) -> Sequence[Child]:
    del config
    return ()


async def run(
    config: Config,
    roles: Sequence[str],
    beside: Callable[[Config], Awaitable[Sequence[Child]]] = _nothing,
) -> int:
    """Supervise this machine's processes until told to stop. Returns the exit code.

    beside  further children, asked for when the ports are known

    Raises Conflict when the same is done already in this data directory.
    """
    logs.set_up(config.log, "supervisor")
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = run_dir(config)
    folder.mkdir(exist_ok=True, mode=0o700)
    kinds = {kind_of(child.name) for child in platform_children(config, roles)}
    with claimed(folder, kinds):
        living = await _settle(folder, config.node.stop_timeout_s)
        config = choose_ports(config, known_ports(config), living)
        remember_ports(config)
        ready_file(config).unlink(missing_ok=True)
        supervisor = Supervisor(
            folder, child_environment(config, os.environ), config.node.stop_timeout_s
        )
        children = [*platform_children(config, roles), *await beside(config)]
        return await supervisor.run(children)


async def _settle(folder: Path, timeout_s: float) -> frozenset[str]:
    """After a supervisor was killed: wait for the children that end with it, whose ports are then
    free again. Returns the names of those that go on."""
    left = leftovers(folder)
    await end(folder, [each for each in left if not each.record.outlives], timeout_s)
    living = [each for each in left if each.record.outlives]
    for each in living:
        each.held.close()
    return frozenset(each.name for each in living)
