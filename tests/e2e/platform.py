"""A real platform in real processes, driven from outside: what every end-to-end test starts with.

`Platform` runs `vsp run` or `vsp demo` in a folder of its own on ports of its own, reads the ready
line, and talks to the HTTP API with a bearer token as any outside client would.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from vsp.rundir import leftovers
from vsp.supervisor import end

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]

POLL_S = 0.1

ORPHANS_STOP_S = 5.0
"""As long as `vsp run` itself would give them, and a second for a busy machine."""

CLIPS = ROOT / ".cache"
"""Encoded loops are shared by all runs: they depend on nothing but their parameters."""


async def until(what: str, probe: Callable[[], Awaitable[T | None]], timeout_s: float = 30.0) -> T:
    """Wait for `probe` to give something true; the one bounded wait of end-to-end tests."""
    deadline = time.monotonic() + timeout_s
    last: object = None
    while time.monotonic() < deadline:
        try:
            last = await probe()
        except (aiohttp.ClientError, OSError, AssertionError) as error:
            last = error
        else:
            if last:
                return last  # type: ignore[return-value]
        await asyncio.sleep(POLL_S)
    raise AssertionError(f"{what}: not within {timeout_s:g} s; last seen: {last!r}")


def runs(pid: int) -> bool:
    """Whether a process is there and not a zombie waiting for somebody to ask about it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@dataclass(slots=True)
class Answer:
    status: int
    body: Any


class Platform:
    """One running platform. Use as `async with Platform(folder) as platform`."""

    def __init__(
        self,
        folder: Path,
        *,
        module: str = "vsp",
        command: Sequence[str] = ("run",),
        settings: dict[str, str] | None = None,
        port_first: int = 30000,
        workers: int = 2,
    ) -> None:
        self.folder = folder
        self.module = module
        self.command = command
        self.settings = {
            "VSP_NODE__DATA_DIR": str(folder / "data"),
            "VSP_NODE__WORKERS": str(workers),
            "VSP_SIP__PORT": "0",
            "VSP_WEB__PORT": "0",
            "VSP_MEDIA__HTTP_PORT_FIRST": "0",
            "VSP_MEDIA__PORT_FIRST": str(port_first),
            "VSP_MEDIA__PORTS_PER_WORKER": "400",
            "XDG_CACHE_HOME": str(CLIPS),
            **(settings or {}),
        }
        self.ready: dict[str, Any] = {}
        self.token = ""
        self.process: asyncio.subprocess.Process | None = None
        self._log = folder / "log.txt"
        self._http: aiohttp.ClientSession | None = None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return str(self.ready["url"]).rstrip("/")

    async def __aenter__(self) -> Platform:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()
        await self._end_orphans()

    async def _end_orphans(self) -> None:
        """Workers outlive a supervisor that was killed; nothing outlives a test."""
        run_dir = self.data / "run"
        await end(run_dir, leftovers(run_dir), ORPHANS_STOP_S)

    async def start(self, timeout_s: float = 120.0) -> None:
        """Start and wait for the ready line; sign in with the password it carries, if it does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self.module,
                *self.command,
                cwd=ROOT,
                env={**os.environ, **self.settings},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        try:
            async with asyncio.timeout(timeout_s):
                await self._read_ready()
        except (TimeoutError, AssertionError):
            await self.stop()
            raise AssertionError(f"no ready line; log:\n{self.log()[-4000:]}") from None
        self._http = self._http or aiohttp.ClientSession()
        if "password" in self.ready:
            self.password = self.ready["password"]
        await self.sign_in()

    async def _read_ready(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            if line.startswith(b"ready "):
                self.ready = json.loads(line.removeprefix(b"ready "))
                return
        raise AssertionError("stdout ended")

    async def sign_in(self) -> None:
        answer = await self.post(
            "/session", {"user": self.ready["user"], "password": self.password}
        )
        assert answer.status == 200, answer
        self.token = answer.body["token"]

    async def stop(self, number: int = signal.SIGINT) -> float:
        """End it as Ctrl-C would. Returns the seconds it took."""
        began = time.monotonic()
        if self._http is not None:
            await self._http.close()
            self._http = None
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            try:
                async with asyncio.timeout(15):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
                await self._end_orphans()
        self._let_go()
        return time.monotonic() - began

    async def lose_supervisor(self) -> None:
        """SIGKILL `vsp run` and wait for the node, which ends with it; the workers go on."""
        node = self.pid("node")
        assert self.process is not None
        assert node is not None
        self.process.kill()
        await self.process.wait()
        self._let_go()

        async def gone() -> bool:
            return not runs(node)

        await until("the node ends with its supervisor", gone, 15)

    def _let_go(self) -> None:
        """Of the pipe of a process that has ended; others may still hold its other end."""
        transport = getattr(self.process, "_transport", None)
        if transport is not None:
            transport.close()

    # ---- the API -------------------------------------------------------------------------

    async def get(self, path: str, **query: str) -> Answer:
        return await self._request("GET", path, params=query)

    async def post(self, path: str, body: object = None) -> Answer:
        return await self._request("POST", path, json=body or {})

    async def patch(self, path: str, body: object) -> Answer:
        return await self._request("PATCH", path, json=body)

    async def delete(self, path: str) -> Answer:
        return await self._request("DELETE", path)

    async def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """Every page of a list."""
        found: list[dict[str, Any]] = []
        while True:
            answer = await self.get(path, **query)
            assert answer.status == 200, answer
            found += answer.body["items"]
            if not answer.body["next"]:
                return found
            query["after"] = answer.body["next"]

    async def _request(self, method: str, path: str, **options: Any) -> Answer:
        assert self._http is not None
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with self._http.request(
            method, f"{self.url}/api/v1{path}", headers=headers, **options
        ) as answer:
            text = await answer.text()
            return Answer(answer.status, json.loads(text) if text else None)

    async def channels_playing(self, count: int, timeout_s: float = 60.0) -> list[dict[str, Any]]:
        """Wait until `count` channels are recorded; returns them."""

        async def probe() -> list[dict[str, Any]] | None:
            channels = await self.items("/channels")
            recording = [channel for channel in channels if channel["recording"]]
            return recording if len(recording) >= count else None

        return await until(f"{count} channels recording", probe, timeout_s)

    # ---- its processes -------------------------------------------------------------------

    def pid(self, name: str) -> int | None:
        with suppress(FileNotFoundError, ValueError):
            return int((self.data / "run" / f"{name}.pid").read_text())
        return None

    async def kill(self, name: str) -> None:
        """SIGKILL one process and wait until the supervisor has started it again."""
        before = self.pid(name)
        assert before is not None
        os.kill(before, signal.SIGKILL)

        async def restarted() -> bool:
            now = self.pid(name)
            return now is not None and now != before

        await until(f"{name} restarted", restarted, 20)

    def log(self) -> str:
        return self._log.read_text("utf-8", "replace")
