"""The doctor says in a sentence how each thing is, and names the setting that is at fault."""

import socket

from vsp import config
from vsp.doctor import examine


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
        *("sip", "media", "web", "addresses", "buffers", "clock", "disk", "database", "store"),
    ]
    for name in ("sip", "media", "web", "addresses", "clock", "database", "store"):
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
