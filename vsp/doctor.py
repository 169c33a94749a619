"""`vsp doctor`: is this machine fit to run the platform? One sentence on each thing that matters.

It only looks; it changes nothing but opening and closing sockets and one file in the data folder.
"""

from __future__ import annotations

import asyncio
import ctypes
import ipaddress
import os
import shutil
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from vsp.clock import SystemClock, SystemIds
from vsp.config import Config, is_loopback
from vsp.errors import VspError
from vsp.run import run_dir
from vsp.rundir import alone_s, kind_of, leftovers, supervisor_of
from vsp.store import open_objects, open_store

DISK_FREE_MIN = 10 << 30
"""Below this a handful of cameras fill the disk within a day (4 Mbit/s is 43 GB a day)."""

RMEM_WANTED = 4 << 20
"""net.core.rmem_max that lets the SIP socket hold a registration storm."""

CLOCK_UNSYNCHRONISED = 0x40
"""STA_UNSYNC of adjtimex(2)."""

TIMEX_STATUS_OFFSET = 40
"""Of `status` in struct timex on 64-bit Linux: modes (padded), offset, freq, maxerror, esterror."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, in one sentence."""

    name: str
    ok: bool
    sentence: str

    def __str__(self) -> str:
        return f"{'ok  ' if self.ok else 'FAIL'} {self.name:<10} {self.sentence}"


Check = Callable[[Config], str | Awaitable[str]]


async def examine(config: Config) -> Sequence[Finding]:
    """Every check in the order in which an administrator would mend them."""
    checks: Sequence[tuple[str, Check]] = (
        ("processes", _processes),
        ("sip", partial(_free_or_ours, "node", _sip_port)),
        ("media", partial(_free_or_ours, "worker", _media_ports)),
        ("web", partial(_free_or_ours, "node", _web_port)),
        ("addresses", _addresses),
        ("buffers", _buffers),
        ("clock", _clock),
        ("disk", _disk),
        ("database", _database),
        ("store", _store),
    )
    return [await _finding(name, check, config) for name, check in checks]


async def _finding(name: str, check: Check, config: Config) -> Finding:
    try:
        said = check(config)
        return Finding(name, True, said if isinstance(said, str) else await said)
    except (VspError, OSError, SQLAlchemyError) as error:
        return Finding(name, False, f"{error}")


@dataclass(frozen=True, slots=True)
class Orphan:
    """A process of the platform that goes on without a supervisor.

    alone_s  for how long, as far as it has written down; else 0
    """

    name: str
    pid: int
    alone_s: float

    def __str__(self) -> str:
        if not self.alone_s:
            return f"{self.name} (pid {self.pid})"
        return f"{self.name} (pid {self.pid}, {self.alone_s:.0f} s)"


def _orphans(config: Config) -> Sequence[Orphan]:
    folder, now, found = run_dir(config), time.monotonic(), []
    for left in leftovers(folder):
        left.held.close()
        found.append(Orphan(left.name, left.held.pid, alone_s(folder, left.name, now)))
    return found


def _processes(config: Config) -> str:
    orphans = _orphans(config)
    if not orphans:
        return "没有无人看管的进程 no process runs without a supervisor."
    who, limit_s = ", ".join(map(str, orphans)), config.node.orphan_timeout_s
    zh, en = f"各自满 {limit_s:g} 秒后结束", f"each ends by itself after {limit_s:g} s"
    if not limit_s:
        zh, en = "一直运行", "they go on for ever"
    raise OSError(
        f"无人看管的进程：{who}；运行 vsp run 即可接管，否则{zh} "
        f"without a supervisor: {who}; `vsp run` takes them over, else {en}"
    )


def _free_or_ours(kind: str, check: Callable[[Config], str], config: Config) -> str:
    """What our own processes of this kind use need not be free."""
    pid = supervisor_of(run_dir(config), kind)
    if pid is not None:
        return f"由本机正在运行的平台使用 in use by the platform that runs here (pid {pid})."
    ours = [orphan for orphan in _orphans(config) if kind_of(orphan.name) == kind]
    if ours:
        who = ", ".join(map(str, ours))
        return f"由无人看管的进程使用 in use without a supervisor: {who}."
    return check(config)


def _bind(host: str, port: int, kind: socket.SocketKind, setting: str) -> None:
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(f"{setting}: {host}:{port} cannot be used: {error.strerror}") from error


def _sip_port(config: Config) -> str:
    sip = config.sip
    _bind(sip.host, sip.port, socket.SOCK_DGRAM, "sip.port")
    _bind(sip.host, sip.port, socket.SOCK_STREAM, "sip.port")
    return (
        f"UDP and TCP {sip.host}:{sip.port} are free; cameras must reach {config.sip_advertised}."
    )


def _media_ports(config: Config) -> str:
    first, last = config.media_ports(0)[0], config.media_ports(config.worker_count - 1)[1]
    taken = []
    for port in range(first, last + 1, 2):
        try:
            _bind(config.media.host, port, socket.SOCK_DGRAM, "media.port_first")
        except OSError:
            taken.append(port)
    if len(taken) > (last - first) // 20:
        raise OSError(
            f"media.port_first: {len(taken)} of the ports {first}-{last} are taken, e.g. {taken[0]}"
        )
    but = f" but for {len(taken)}, which are passed over" if taken else ""
    return f"ports {first}-{last} are free{but}, for {config.worker_count} media workers."


def _web_port(config: Config) -> str:
    if config.web.port:
        _bind(config.web.host, config.web.port, socket.SOCK_STREAM, "web.port")
    kind = "TLS" if config.tls_on else "plain HTTP, loopback only"
    return f"{config.web.host}:{config.web.port} is free; the console will be served over {kind}."


def _addresses(config: Config) -> str:
    advertised = config.media_advertised
    if advertised == "0.0.0.0":
        raise OSError(
            "media.advertised_host: 0.0.0.0 would be written into SDP; set it to this machine's "
            "address as cameras see it"
        )
    if is_loopback(advertised):
        return f"only devices on this machine can send to {advertised}; fine for a demo."
    local = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)}
    behind_nat = advertised not in local and ipaddress.ip_address(advertised).is_global
    nat = " It is not an address of this machine: NAT must forward it." if behind_nat else ""
    return f"devices are told to send to {advertised}.{nat}"


def _buffers(config: Config) -> str:
    del config
    maximum = int(Path("/proc/sys/net/core/rmem_max").read_text())
    if maximum < RMEM_WANTED:
        raise OSError(
            f"net.core.rmem_max is {maximum}; storms need {RMEM_WANTED}: "
            f"sysctl -w net.core.rmem_max={RMEM_WANTED}"
        )
    return f"net.core.rmem_max is {maximum}: enough for every socket."


def _clock(config: Config) -> str:
    del config
    now = time.gmtime()
    if now.tm_year < 2024:
        raise OSError(f"the clock says {now.tm_year}; recordings would be filed under a wrong time")
    state = "the kernel counts it as synchronised"
    if _kernel_clock_status() & CLOCK_UNSYNCHRONISED:
        state = "no time service disciplines it here; cameras will follow whatever it says"
    return f"UTC {time.strftime('%F %T', now)}; {state}."


def _kernel_clock_status() -> int:
    """`status` of struct timex, by adjtimex(2) with modes 0 (reading)."""
    buffer = ctypes.create_string_buffer(256)
    ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    return int.from_bytes(buffer.raw[TIMEX_STATUS_OFFSET : TIMEX_STATUS_OFFSET + 4], sys.byteorder)


def _disk(config: Config) -> str:
    folder = config.objects_dir
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".doctor-{os.getpid()}"
    began = time.monotonic()
    with probe.open("wb") as file:
        file.write(b"\0" * (1 << 20))
        os.fsync(file.fileno())
    probe.unlink()
    took_ms = (time.monotonic() - began) * 1000
    free = shutil.disk_usage(folder).free
    if free < DISK_FREE_MIN:
        raise OSError(f"{folder} has {free >> 30} GiB left; a camera needs about 43 GB a day")
    return f"{folder} has {free >> 30} GiB free; 1 MiB is written and synced in {took_ms:.0f} ms."


async def _database(config: Config) -> str:
    began = time.monotonic()
    store = await open_store(config, SystemClock(), SystemIds())
    try:
        counts = await store.devices.counts()
    finally:
        await store.close()
    took_ms = (time.monotonic() - began) * 1000
    kind = config.database_url.partition(":")[0]
    return f"{kind} opened in {took_ms:.0f} ms; {counts['devices']} devices in the register."


async def _store(config: Config) -> str:
    objects = open_objects(config)
    key = f"v1/doctor/{SystemIds().row_id()}.txt"
    try:
        async with asyncio.timeout(20):
            await objects.put(key, b"doctor", {})
            read = await objects.read(key, 0, 6)
            await objects.delete(key)
    finally:
        await objects.close()
    if read != b"doctor":
        raise OSError(f"{config.store.kind} store gave back other bytes than it was given")
    return f"{config.store.kind} store wrote, read back and deleted an object."
