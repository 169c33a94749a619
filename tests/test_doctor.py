"""The doctor says in a sentence how each thing is, and names the setting that is at fault."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vsp import config
from vsp.doctor import Finding, examine
from vsp.processes import Identity, identify
from vsp.run import run_dir
from vsp.rundir import Record, claimed, write_record

GONE = Identity(1, 0, "another boot")


def settings(tmp_path, **sections):
    return config.load(
        None,
        {
            "node": {"data_dir": str(tmp_path / "data"), "workers": 1},
            "sip": {"port": 0},
            "web": {"port": 0},
            "media": {"port_first": 26000, "ports_per_worker": 40, **sections.pop("media", {})},
            **sections,
        },
    )


async def test_a_fit_machine_is_told_so_thing_by_thing(tmp_path):
    findings = {finding.name: finding for finding in await examine(settings(tmp_path))}

    assert list(findings) == [
        *(
            "processes",
            "sip",
            "media",
            "web",
            "addresses",
            "buffers",
            "clock",
            "disk",
            "database",
            "store",
        ),
    ]
    for name in ("processes", "sip", "media", "web", "addresses", "clock", "database", "store"):
        assert findings[name].ok, findings[name]
        assert findings[name].sentence.endswith(".")


async def test_a_taken_port_is_named_with_its_setting(tmp_path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]

        findings = await examine(settings(tmp_path, sip={"port": port}))

    (sip,) = [finding for finding in findings if finding.name == "sip"]
    assert not sip.ok
    assert "sip.port" in sip.sentence
    assert str(port) in sip.sentence


async def test_an_address_nobody_can_send_to_is_found(tmp_path):
    findings = await examine(settings(tmp_path, media={"host": "0.0.0.0"}))

    (addresses,) = [finding for finding in findings if finding.name == "addresses"]
    assert not addresses.ok
    assert "media.advertised_host" in addresses.sentence


# ---- what runs already ----------------------------------------------------------------------


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def sleeper() -> Iterator[Identity]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    found = identify(process.pid)
    assert found is not None
    yield found
    process.kill()
    process.wait()


def made_run_dir(settings: config.Config) -> Path:
    folder = run_dir(settings)
    folder.mkdir(parents=True)
    return folder


async def named(settings: config.Config) -> dict[str, Finding]:
    return {finding.name: finding for finding in await examine(settings)}


async def test_ports_are_those_of_the_platform_that_runs_here(tmp_path):
    with taken_port() as port:
        used = settings(tmp_path, sip={"port": port})

        with claimed(made_run_dir(used), ["node", "worker"]):
            findings = await named(used)

    for name in ("sip", "media", "web"):
        assert findings[name].ok
        assert f"runs here (pid {os.getpid()})" in findings[name].sentence


async def test_a_number_that_another_process_has_now_is_no_platform(tmp_path):
    with taken_port() as port:
        used = settings(tmp_path, sip={"port": port})
        folder = made_run_dir(used)
        (folder / "supervisor.pid").write_text(f"{os.getpid()}\n")
        with claimed(folder, ["node", "worker"]):
            pass  # and ended, leaving its number in the locks

        findings = await named(used)

    assert not findings["sip"].ok
    assert findings["processes"].ok


async def test_workers_without_a_supervisor_are_told_with_their_time(
    tmp_path: Path, sleeper: Identity
):
    left = settings(tmp_path)
    folder = made_run_dir(left)
    write_record(folder, "worker-0", Record(sleeper, GONE, "print", outlives=True))
    (folder / "worker-0.alone").write_text(f"{time.monotonic() - 42}")

    findings = await named(left)

    told = findings["processes"]
    assert not told.ok
    assert told.sentence.startswith("无人看管的进程")
    assert f"worker-0 (pid {sleeper.pid}, 42 s)" in told.sentence
    assert "after 600 s" in told.sentence
    assert f"worker-0 (pid {sleeper.pid}" in findings["media"].sentence
    assert "free" in findings["sip"].sentence


async def test_a_worker_that_has_ended_is_no_orphan(tmp_path: Path):
    left = settings(tmp_path)
    folder = made_run_dir(left)
    write_record(folder, "worker-0", Record(GONE, GONE, "print", outlives=True))

    findings = await named(left)

    assert findings["processes"].ok
    assert "free" in findings["media"].sentence
