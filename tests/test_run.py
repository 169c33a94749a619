"""What the children of `vsp run` are told: every setting, every port chosen."""

import socket

from vsp import config
from vsp.run import child_environment, choose_ports, free_port, free_run, platform_children


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
