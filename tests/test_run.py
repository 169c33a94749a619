"""What the children of `vsp run` are told: every setting, and ports that stay the same."""

import socket
import subprocess
import sys
from pathlib import Path

from vsp import config
from vsp.config import Config
from vsp.run import (
    Ports,
    child_environment,
    choose_ports,
    free_port,
    free_run,
    known_ports,
    platform_children,
    remember_ports,
    run_dir,
)
from vsp.rundir import claimed


def test_children_see_the_same_settings(monkeypatch):
    given = config.load(
        None,
        {"sip": {"port": 0, "transports": ("udp",)}, "web": {"port": 0, "behind_proxy": True}},
    )

    chosen = choose_ports(given)
    environment = child_environment(chosen, {"PATH": "/bin", "VSP_WEB__PORT": "1"})
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    seen = config.load()

    assert seen == chosen
    assert seen.sip.port > 0
    assert seen.web.port > 1
    assert environment["PATH"] == "/bin"


def test_a_free_port_is_free_for_udp_and_tcp():
    port = free_port("127.0.0.1", socket.SOCK_DGRAM, socket.SOCK_STREAM)

    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            probe.bind(("127.0.0.1", port))


def test_a_run_of_ports_is_consecutive():
    first = free_run("127.0.0.1", 4)

    for port in range(first, first + 4):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", port))


def test_roles_choose_processes():
    settings = config.load(None, {"node": {"workers": 3}})

    assert [child.name for child in platform_children(settings, ["signal", "media"])] == [
        "node",
        "worker-0",
        "worker-1",
        "worker-2",
    ]
    assert [child.name for child in platform_children(settings, ["web"])] == ["node"]
    assert len(platform_children(settings, ["media"])) == 3


def asking_for_any(folder: Path) -> Config:
    return config.load(
        None,
        {
            "node": {"data_dir": folder, "workers": 2},
            "sip": {"port": 0},
            "web": {"port": 0},
            "media": {"http_port_first": 0},
        },
    )


def ports_of(chosen: Config) -> Ports:
    return Ports(chosen.sip.port, chosen.web.port, chosen.media.http_port_first)


def listening(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


def test_a_platform_comes_back_with_its_ports(tmp_path: Path):
    asked = asking_for_any(tmp_path)
    run_dir(asked).mkdir()
    assert known_ports(asked) == Ports()
    first = choose_ports(asked)
    remember_ports(first)

    again = choose_ports(asked, known_ports(asked))

    assert ports_of(again) == ports_of(first)


def test_a_port_that_is_another_programs_by_now_is_not_insisted_on(tmp_path: Path):
    asked = asking_for_any(tmp_path)
    before = ports_of(choose_ports(asked))

    with listening(before.web), listening(before.viewers + 1), socket.socket() as bound:
        bound.bind(("127.0.0.1", before.sip))
        again = ports_of(choose_ports(asked, before))

    assert again.web != before.web
    assert again.sip != before.sip
    assert before.viewers + 1 not in {again.viewers, again.viewers + 1}


def test_a_living_worker_keeps_its_port(tmp_path: Path):
    asked = asking_for_any(tmp_path)
    before = ports_of(choose_ports(asked))

    with listening(before.viewers + 1):
        again = choose_ports(asked, before, {"worker-1"})

    assert ports_of(again) == before


def test_connections_that_were_just_closed_do_not_move_a_port(tmp_path: Path):
    asked = asking_for_any(tmp_path)
    before = ports_of(choose_ports(asked))
    with listening(before.web) as server:
        visitor = socket.create_connection(("127.0.0.1", before.web))
        accepted, _ = server.accept()
        accepted.close()  # who closes first is left with the port in TIME_WAIT
        assert visitor.recv(1) == b""
        visitor.close()

    assert ports_of(choose_ports(asked, before)) == before


def test_ports_that_cannot_be_read_are_not_known(tmp_path: Path):
    asked = asking_for_any(tmp_path)
    run_dir(asked).mkdir()
    for text in ("", "[]", '{"sip": 1, "more": 2}'):
        (run_dir(asked) / "ports.json").write_text(text)

        assert known_ports(asked) == Ports()


def test_only_workers_outlive_their_supervisor():
    children = platform_children(config.load(None, {"node": {"workers": 2}}), ["signal", "media"])

    assert [child.name for child in children if child.outlives] == ["worker-0", "worker-1"]


def test_a_second_platform_in_the_same_data_directory_says_why_it_does_not_start(tmp_path: Path):
    asked = asking_for_any(tmp_path)
    run_dir(asked).mkdir()
    (run_dir(asked) / "ready").touch()
    words = ["run", "--set", f"node.data_dir={tmp_path}", "--set", "sip.port=0"]
    with claimed(run_dir(asked), ["node"]):
        said = subprocess.run(
            [sys.executable, "-m", "vsp", *words], capture_output=True, text=True, timeout=30
        )

    assert said.returncode == 2
    assert "数据目录" in said.stderr
    assert "a platform runs in this data directory already" in said.stderr
    assert said.stdout == ""
    assert (run_dir(asked) / "ready").exists(), "the first one's is left alone"
