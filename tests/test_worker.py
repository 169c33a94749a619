"""The worker as a process: commanded over its socket, killed, started again, stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path

import aiohttp
import pytest

from tests.media import rig
from vsp import worker as module
from vsp.access import tls
from vsp.access.ticket import load_signer
from vsp.clock import SystemClock
from vsp.config import Config
from vsp.errors import Denied, Unavailable, VspError
from vsp.link import WorkerLink, socket_path
from vsp.model.device import MediaTransport
from vsp.model.ids import SessionId, UserId, UtcMicros, ViewId, WorkerId
from vsp.model.people import Ticket
from vsp.model.recording import EndReason, RecordingSpec, Segment, SegmentClosed
from vsp.model.stream import RemoteMedia, SessionSpec
from vsp.processes import Identity, identify, myself
from vsp.run import run_dir
from vsp.rundir import Guard, Record, write_record
from vsp.store import open_objects
from vsp.worker import LateVerifier, guard_of, is_abandoned, main, server_tls

S1 = SessionId("s1")
START_S = 10.0


def write_settings(config: Config, folder: Path) -> Path:
    """The settings of `config` that differ from the defaults, as a file."""
    file = folder / "vsp.toml"
    lines = []
    for section in ("node", "media", "recording"):
        lines.append(f"[{section}]")
        for key, value in getattr(config, section).model_dump(exclude_unset=True).items():
            lines.append(
                f"{key} = {str(value)!r}" if isinstance(value, Path) else f"{key} = {value}"
            )
    file.write_text("\n".join(lines))
    return file


@asynccontextmanager
async def process(
    config: Config, file: Path, **environment: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, WorkerLink]]:
    """A worker process that answers, and its node's end. Killed at the end if it is still there."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "vsp.worker",
        "--index",
        "0",
        "--config",
        str(file),
        env={**os.environ, **environment},
    )
    link = WorkerLink(socket_path(config.data_dir, 0), WorkerId(0))
    try:
        async with asyncio.timeout(START_S):
            while not await answers(link):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        yield child, link
    finally:
        await link.close()
        if child.returncode is None:
            child.kill()
        await child.wait()


async def answers(link: WorkerLink) -> bool:
    try:
        await link.info()
    except VspError:
        return False
    return True


async def record(link: WorkerLink) -> int:
    spec = SessionSpec(S1, rig.CHANNEL, MediaTransport.UDP, rig.SSRC)
    port = (await link.open_session(spec)).port
    await link.bind_remote(S1, RemoteMedia(("127.0.0.1",), 0, rig.SSRC))
    await link.start_recording(S1, RecordingSpec(2.0, 1.0))
    return port


async def closed_segments(link: WorkerLink, count: int) -> list[Segment]:
    """The first `count` journal entries, not acknowledged."""
    found: list[Segment] = []
    async with asyncio.timeout(START_S):
        async for event in link.events():
            if isinstance(event, SegmentClosed):
                found.append(event.segment)
            if len(found) == count:
                break
    return found


async def test_a_killed_worker_loses_no_segment_and_only_unwritten_seconds(tmp_path: Path):
    config = rig.settings(tmp_path / "data")
    file = write_settings(config, tmp_path)
    async with process(config, file) as (child, link):
        camera = rig.Camera(await record(link))
        await camera.send(185, frames_per_s=150)
        before = await closed_segments(link, 3)
        child.send_signal(signal.SIGKILL)
        await child.wait()

        with pytest.raises(Unavailable):
            await link.info()

    async with process(config, file) as (_, link):
        after = await closed_segments(link, 4)

    assert after[:3] == before
    assert [segment.end_reason for segment in after] == [
        EndReason.ROLLED,
        EndReason.ROLLED,
        EndReason.ROLLED,
        EndReason.WORKER_LOST,
    ]
    times = await decoded_times(config, after)
    assert times == [i * rig.STEP_90K for i in range(len(times))]
    # The last key picture came at frame 180; the fragment before it ended there.
    assert len(times) == 180
    camera.close()


async def decoded_times(config: Config, segments: list[Segment]) -> list[int]:
    """Every picture of the segments' objects, which are what their rows say."""
    objects = open_objects(config)
    times = []
    for segment in segments:
        data = await objects.read(segment.key, 0, (await objects.stat(segment.key)).size_bytes)
        assert (len(data), sha256(data).hexdigest()) == (segment.size_bytes, segment.sha256)
        shown = rig.decoded(data)
        assert len(shown) == segment.frames
        times += shown
    await objects.close()
    return times


async def test_an_orderly_stop_makes_objects_of_everything_and_exits_with_zero(tmp_path: Path):
    config = rig.settings(tmp_path / "data")
    file = write_settings(config, tmp_path)
    async with process(config, file) as (child, link):
        camera = rig.Camera(await record(link))
        await camera.send(75, frames_per_s=200)
        child.terminate()

        assert await asyncio.wait_for(child.wait(), config.node.stop_timeout_s) == 0

    async with process(config, file) as (_, link):
        segments = await closed_segments(link, 2)
    assert segments[-1].end_reason is EndReason.STOPPED
    assert await decoded_times(config, segments) == [i * rig.STEP_90K for i in range(75)]
    camera.close()


async def test_a_worker_whose_supervisor_was_killed_records_on_and_then_stops_in_order(
    tmp_path: Path,
):
    config = rig.settings(tmp_path / "data")
    node = config.node.model_copy(update={"orphan_timeout_s": 1.5})
    config = config.model_copy(update={"node": node})
    file = write_settings(config, tmp_path)
    folder = run_dir(config)
    folder.mkdir(parents=True, mode=0o700)
    supervisor = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    who = identify(supervisor.pid)
    assert who is not None
    write_record(folder, "worker-0", Record(myself(), who, "", True))
    async with process(config, file, VSP_SUPERVISED_AS="worker-0") as (child, link):
        camera = rig.Camera(await record(link))
        supervisor.kill()
        supervisor.wait()
        await camera.send(75, frames_per_s=100)

        assert await asyncio.wait_for(child.wait(), 10) == 0

    async with process(config, file) as (_, link):
        segments = await closed_segments(link, 2)
    assert segments[-1].end_reason is EndReason.STOPPED
    assert await decoded_times(config, segments) == [i * rig.STEP_90K for i in range(75)]
    camera.close()


def test_a_worker_that_no_supervisor_started_is_no_orphan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("VSP_SUPERVISED_AS", raising=False)

    assert guard_of(rig.settings(tmp_path)) is None
    assert not is_abandoned(None, 1.0, 1e9)


def test_an_orphan_is_abandoned_after_the_time_and_never_when_that_is_nought(tmp_path: Path):
    dead = Identity(1, 0, "another boot")
    write_record(tmp_path, "worker-0", Record(myself(), dead, "", True))
    guard = Guard(tmp_path, "worker-0")

    assert not is_abandoned(guard, 600.0, 0.0)
    assert not is_abandoned(guard, 600.0, 600.0)
    assert is_abandoned(guard, 600.0, 601.0)
    assert not is_abandoned(guard, 0.0, 1e9)


async def test_a_session_outlives_its_node_and_entries_wait_for_their_acknowledgement(
    tmp_path: Path,
):
    config = rig.settings(tmp_path / "data")
    file = write_settings(config, tmp_path)
    async with process(config, file) as (_, first_node):
        camera = rig.Camera(await record(first_node))
        await camera.send(60, frames_per_s=200)
        await closed_segments(first_node, 1)
        await first_node.close()

        second_node = WorkerLink(socket_path(config.data_dir, 0), WorkerId(0))
        [status] = await second_node.sessions()
        [segment] = await closed_segments(second_node, 1)
        await second_node.acknowledge(1)
        await camera.send(60, frames_per_s=200)
        [later] = await closed_segments(second_node, 1)

        assert (status.session_id, status.recording) == (S1, True)
        assert later.n == segment.n + 1
        assert (await second_node.info()).unacknowledged == 1
        await second_node.close()
        camera.close()


async def test_the_control_socket_is_private_and_the_viewer_port_says_nothing(tmp_path: Path):
    config = rig.settings(tmp_path / "data")
    async with process(config, write_settings(config, tmp_path)) as (_, link):
        path = socket_path(config.data_dir, 0)
        base = f"http://127.0.0.1:{(await link.info()).http_port}"
        async with aiohttp.ClientSession() as http:
            health = await (await http.get(f"{base}/health")).json()
            other = await http.get(f"{base}/v1/sessions")
            view = await http.get(f"{base}/live/v1", params={"ticket": "x" * 300})
            said = await view.json()

        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert health == {"status": "ok", "worker": 0}
        assert (other.status, view.status, said["kind"]) == (404, 403, "denied")


async def test_a_second_worker_on_the_same_spool_refuses_to_start(tmp_path: Path):
    config = rig.settings(tmp_path / "data")
    file = write_settings(config, tmp_path)
    async with process(config, file):
        second = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "vsp.worker",
            "--index",
            "0",
            "--config",
            str(file),
            stderr=asyncio.subprocess.PIPE,
            env=dict(os.environ),
        )
        _, said = await second.communicate()

        assert second.returncode == 2
        assert b"another worker holds" in said


def test_a_worker_with_a_folder_loads_neither_the_database_nor_the_client_of_s3():
    look = "import sys, vsp.worker; print(*{'sqlalchemy', 'minio', 'numpy'} & {*sys.modules})"
    said = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert said.stdout.split() == []


def test_settings_that_cannot_work_end_with_the_code_that_stops_the_supervisor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "vsp.toml"
    file.write_text('[media]\nport_first = "many"\n')

    assert main(["--index", "0", "--config", str(file)]) == 2


async def test_viewers_come_over_tls_with_the_certificate_of_the_node(tmp_path: Path):
    config = rig.settings(tmp_path)
    config = config.model_copy(update={"web": config.web.model_copy(update={"tls": "on"})})
    files = tls.ensure_certificate(tmp_path / "keys", ["127.0.0.1"], SystemClock().now_us())
    async with rig.running(config, await server_tls(config)) as made:
        await made.open_session()
        url = await made.open_view("v1")
        trusting = ssl.create_default_context(cafile=str(files.certificate))
        async with rig.viewer(url, made.ticket("v1"), ssl=trusting) as watching:
            await rig.until(watching.states)

    assert url.startswith("wss://127.0.0.1:")


async def test_without_tls_no_certificate_is_looked_for(tmp_path: Path):
    assert await server_tls(rig.settings(tmp_path)) is None


async def test_a_certificate_that_never_comes_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "CERTIFICATE_WAIT_S", 0.0)
    config = rig.settings(tmp_path)
    config = config.model_copy(update={"web": config.web.model_copy(update={"tls": "on"})})

    with pytest.raises(Unavailable, match=r"web\.crt is not there"):
        await server_tls(config)


def test_tickets_are_refused_until_the_node_has_made_its_key(tmp_path: Path):
    verify = LateVerifier(tmp_path)
    ticket = Ticket(ViewId("v1"), rig.CHANNEL, "live", UserId("u1"), UtcMicros(10))
    with pytest.raises(Denied, match="no ticket can be checked"):
        verify("text", UtcMicros(0))

    signer = load_signer(tmp_path)

    assert verify(signer.sign(ticket), UtcMicros(9)) == ticket
    with pytest.raises(Denied):
        verify(signer.sign(ticket), UtcMicros(10))
