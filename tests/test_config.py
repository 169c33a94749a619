"""Settings: file < environment < flags; what is unsafe or impossible is refused by name."""

from pathlib import Path

import pytest

from vsp import config
from vsp.errors import Invalid


def test_defaults_are_the_contracts():
    settings = config.load()

    assert settings.sip.id == "34020000002000000001"
    assert settings.sip.domain == "3402000000"
    assert settings.node.data_dir == Path("data")
    assert {settings.sip.host, settings.web.host, settings.media.host} == {"127.0.0.1"}


def test_environment_overrides_the_file_and_flags_override_both(tmp_path, monkeypatch):
    file = tmp_path / "vsp.toml"
    file.write_text('[web]\nport = 1111\nhost = "127.0.0.2"\n[sip]\nport = 2222\n')
    monkeypatch.setenv("VSP_WEB__PORT", "3333")
    monkeypatch.setenv("VSP_SIP__TRANSPORTS", "tcp")

    settings = config.load(file, {"sip": {"port": 4444}})

    assert (settings.web.host, settings.web.port) == ("127.0.0.2", 3333)
    assert (settings.sip.port, settings.sip.transports) == (4444, ("tcp",))


@pytest.mark.parametrize(
    ("section", "values", "named"),
    [
        ("web", {"port": 70000}, "web.port"),
        ("web", {"prot": 80}, "web.prot"),
        ("sip", {"id": "123"}, "sip.id"),
        ("web", {"host": "0.0.0.0", "tls": "off"}, "web.host"),
        ("web", {"tls_cert": "a.pem"}, "web.tls_cert"),
        ("media", {"port_first": 30001}, "media.port_first"),
        ("media", {"port_first": 65000}, "media.port_first"),
        ("store", {"kind": "s3"}, "store.kind"),
    ],
)
def test_a_bad_setting_is_refused_by_name(section, values, named):
    with pytest.raises(Invalid) as refused:
        config.load(None, {section: values})

    assert named in f"{refused.value.message} {refused.value.cause}"


def test_a_bind_beyond_loopback_gets_tls_or_a_declared_proxy():
    assert config.load(None, {"web": {"host": "0.0.0.0"}}).tls_on
    assert not config.load().tls_on
    proxied = {"web": {"host": "0.0.0.0", "tls": "off", "behind_proxy": "true"}}
    assert not config.load(None, proxied).tls_on


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    file = tmp_path / "bad.toml"
    file.write_text("[web\n")

    with pytest.raises(Invalid, match=r"bad\.toml"):
        config.load(file)


def test_workers_get_disjoint_even_port_ranges():
    settings = config.load(None, {"media": {"port_first": 40000, "ports_per_worker": 100}})

    assert settings.media_ports(0) == (40000, 40099)
    assert settings.media_ports(1) == (40100, 40199)


def test_the_configuration_page_is_the_one_generated():
    page = Path("docs/configuration.md").read_text("utf-8")

    assert page == config.documentation(), "run `make docs`"


def test_several_values_are_written_with_commas_and_none_as_nothing(monkeypatch):
    monkeypatch.setenv("VSP_MEDIA__NETWORKS", "192.0.2.0/24, 2001:db8::/64")
    monkeypatch.setenv("VSP_SIP__TRANSPORTS", "tcp")
    several = config.load()
    monkeypatch.setenv("VSP_MEDIA__NETWORKS", "")
    none = config.load()

    networks = [str(network) for network in several.media.networks]
    assert networks == ["192.0.2.0/24", "2001:db8::/64"]
    assert several.sip.transports == ("tcp",)
    assert none.media.networks == ()
