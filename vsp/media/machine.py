"""What a media worker needs of the computer it runs on, in one place.

`ThisMachine` is the computer itself: sockets, files, threads. A virtual world brings another one
(simulators/world), with a network and a disk that do what a seed says; the worker, its sessions,
its spool and its shipper are the same.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from vsp.blocking import Blocking, IoPool
from vsp.config import Config
from vsp.disk import Disk, SystemDisk, lock_file, make_folders
from vsp.errors import Conflict
from vsp.link import socket_path
from vsp.media.admission import Admission
from vsp.media.chunks import ChunkWriter, OnWritten, Writer, WriterThread
from vsp.media.control import ControlServer, Worker
from vsp.media.http import ViewerServer
from vsp.media.ingest import Ingest, Sink
from vsp.media.stream import Port
from vsp.ports import Clock, Ids

LAG_PROBE_S = 0.05
"""Period at which the loop's lateness is measured."""

IO_THREADS = 4
"""Threads that read the spool and write the journal: enough to let reads pass an fsync."""


class Ports(Protocol):
    """Where streams come in."""

    def open(self, sink: Sink) -> Port:
        """A free one. Raises Exhausted."""
        ...

    async def run(self) -> None:
        """Read what nobody watches, for ever."""
        ...


class Door(Protocol):
    """Something that listens."""

    async def start(self) -> None:
        """Raises Conflict when its place is taken."""
        ...

    async def close(self) -> None: ...


class ViewerDoor(Door, Protocol):
    """Where viewers come in. `port` is the real one once it listens."""

    @property
    def port(self) -> int: ...


class Lock(Protocol):
    """The right to a folder, until it is released or its holder dies."""

    def release(self) -> None: ...


class Machine(Protocol):
    """A computer."""

    @property
    def disk(self) -> Disk: ...
    @property
    def blocking(self) -> Blocking: ...
    @property
    def loop_lag_ms(self) -> float:
        """The largest lateness of the loop within the last whole second or so."""
        ...

    async def run(self) -> None:
        """What it has to do itself, for ever."""
        ...

    def lock(self, folder: Path) -> Lock:
        """Raises Conflict while somebody else has it."""
        ...

    def writer(self, core: ChunkWriter, on_written: OnWritten) -> Writer: ...
    def ports(self) -> Ports: ...
    def viewers(self, admission: Admission) -> ViewerDoor: ...
    def control(self, worker: Worker) -> Door: ...


class ThisMachine:
    """The computer that we run on, for worker `index`."""

    def __init__(
        self,
        config: Config,
        index: int,
        clock: Clock,
        ids: Ids,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.disk: Disk = SystemDisk()
        self.blocking: Blocking = IoPool("spool", IO_THREADS)
        self.loop_lag_ms = 0.0
        self._config = config
        self._index = index
        self._clock = clock
        self._ids = ids
        self._tls = tls

    async def run(self) -> None:
        """Measure how late the loop is."""
        worst, since = 0.0, self._clock.monotonic()
        while True:
            begun = self._clock.monotonic()
            await asyncio.sleep(LAG_PROBE_S)
            now = self._clock.monotonic()
            worst = max(worst, now - begun - LAG_PROBE_S)
            if now - since >= 1.0:
                self.loop_lag_ms, worst, since = worst * 1000, 0.0, now

    def lock(self, folder: Path) -> Lock:
        return FolderLock(self.disk, folder)

    def writer(self, core: ChunkWriter, on_written: OnWritten) -> Writer:
        return WriterThread(core, on_written, self._clock)

    def ports(self) -> Ports:
        media = self._config.media
        return Ingest(
            media.host,
            self._config.media_ports(self._index),
            media.receive_buffer_bytes,
            media.drain_interval_ms / 1000,
            self._clock,
            self._ids,
        )

    def viewers(self, admission: Admission) -> ViewerDoor:
        media = self._config.media
        port = media.http_port_first + self._index if media.http_port_first else 0
        return ViewerServer(self._index, admission, media.http_host, port, self._tls)

    def control(self, worker: Worker) -> Door:
        return ControlServer(worker, socket_path(self._config.data_dir, self._index))


class FolderLock:
    """One worker per spool: two of one index would write over each other."""

    def __init__(self, disk: Disk, folder: Path) -> None:
        with suppress(OSError):  # a lock need not be durable; if it cannot be made, `open` says why
            make_folders(disk, folder)
        try:
            self._fd = lock_file(folder / "lock")
        except BlockingIOError as error:
            raise Conflict(
                f"another worker holds {folder}",
                next_step="stop it, or give this node another node.data_dir",
            ) from error

    def release(self) -> None:
        os.close(self._fd)


__all__ = ["Door", "FolderLock", "Lock", "Machine", "Ports", "ThisMachine", "ViewerDoor"]
