"""The platform's own certificate."""

import asyncio
import ssl
import stat
from pathlib import Path

import pytest

from vsp.access.tls import (
    LIFE_DAYS,
    RENEW_DAYS,
    certificate_names,
    ensure_certificate,
    fingerprint,
    given_certificate,
    server_context,
)
from vsp.errors import Invalid
from vsp.model.ids import UtcMicros

NOW_US = UtcMicros(1_795_000_000_000_000)
DAY_US = 86_400_000_000


def test_a_certificate_is_made_once_and_its_key_is_private(tmp_path: Path):
    first = ensure_certificate(tmp_path, ["192.0.2.10"], NOW_US)
    again = ensure_certificate(tmp_path, ["192.0.2.10"], UtcMicros(NOW_US + DAY_US))

    assert first == again
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600
    assert len(first.fingerprint.split(":")) == 32


def test_a_new_host_gets_a_new_certificate(tmp_path: Path):
    first = ensure_certificate(tmp_path, ["192.0.2.10"], NOW_US)

    second = ensure_certificate(tmp_path, ["192.0.2.10", "video.example"], NOW_US)

    assert second.fingerprint != first.fingerprint


def test_a_certificate_near_its_end_is_renewed(tmp_path: Path):
    first = ensure_certificate(tmp_path, [], NOW_US)
    last_good = UtcMicros(NOW_US + (LIFE_DAYS - 1 - RENEW_DAYS) * DAY_US)

    assert ensure_certificate(tmp_path, [], last_good).fingerprint == first.fingerprint
    late = UtcMicros(last_good + DAY_US)
    assert ensure_certificate(tmp_path, [], late).fingerprint != first.fingerprint


def test_a_damaged_certificate_is_made_anew(tmp_path: Path):
    files = ensure_certificate(tmp_path, [], NOW_US)
    files.certificate.write_text("rubbish")

    assert ensure_certificate(tmp_path, [], NOW_US).fingerprint != files.fingerprint


def test_a_wildcard_bind_stands_for_the_names_of_this_machine():
    names = certificate_names(["0.0.0.0"])

    assert {"localhost", "127.0.0.1", "::1"} < set(names)
    assert "0.0.0.0" not in names


async def test_a_client_that_trusts_the_certificate_connects_by_tls_1_2_or_later(tmp_path: Path):
    import time

    files = ensure_certificate(tmp_path, ["127.0.0.1"], UtcMicros(time.time_ns() // 1000))
    context = server_context(files)
    done = asyncio.Event()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()
        await writer.wait_closed()
        done.set()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    client = ssl.create_default_context(cafile=str(files.certificate))

    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
    said = await reader.read()
    version = writer.get_extra_info("ssl_object").version()
    writer.close()
    await done.wait()
    server.close()
    await server.wait_closed()

    assert said == b"hello"
    assert version in {"TLSv1.2", "TLSv1.3"}
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_the_sites_own_certificate_is_used_as_it_is(tmp_path: Path):
    made = ensure_certificate(tmp_path, [], NOW_US)

    given = given_certificate(made.certificate, made.key)

    assert given.fingerprint == made.fingerprint
    assert not given.self_signed


def test_a_missing_file_is_named_by_its_setting(tmp_path: Path):
    made = ensure_certificate(tmp_path, [], NOW_US)

    with pytest.raises(Invalid, match=r"web\.tls_key"):
        given_certificate(made.certificate, tmp_path / "nothing")


def test_a_key_of_another_certificate_is_refused(tmp_path: Path):
    one = ensure_certificate(tmp_path / "one", [], NOW_US)
    other = ensure_certificate(tmp_path / "other", [], NOW_US)

    with pytest.raises(Invalid, match=r"web\.tls_cert"):
        given_certificate(one.certificate, other.key)


def test_what_is_not_a_certificate_has_no_fingerprint(tmp_path: Path):
    (tmp_path / "x.crt").write_text("rubbish")

    with pytest.raises(Invalid):
        fingerprint(tmp_path / "x.crt")
