"""TLS of the console and of the workers' viewer ports.

A site that has a certificate names it in the settings. One that has none gets a self-signed one on
the first start, with the names and addresses that this machine answers to, and its fingerprint is
printed so that a person can compare it in the browser's warning. Plain http beyond loopback is not
offered: cookies, microphone and WebCodecs do not exist there.
"""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vsp.access.keyfile import write_whole
from vsp.errors import Invalid
from vsp.model.ids import UtcMicros

CERTIFICATE_NAME = "web.crt"
KEY_NAME = "web.key"

LIFE_DAYS = 825
"""Longest life that every current browser accepts from a certificate a person trusted by hand."""

RENEW_DAYS = 30
"""A self-signed certificate with less life left is made anew at the next start."""

_NAMES_MAX = 32
"""Names in one certificate: what a machine with many addresses has; more only slow handshakes."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate chain and its key. `fingerprint` is SHA-256 of the leaf, as browsers show."""

    certificate: Path
    key: Path
    fingerprint: str
    self_signed: bool


def ensure_certificate(keys_dir: Path, hosts: Sequence[str], now_us: UtcMicros) -> TlsFiles:
    """The self-signed certificate for `hosts`; made when missing, near its end, or lacking a host.

    hosts   as bound or advertised; a wildcard address stands for every name of this machine
    """
    certificate_path, key_path = keys_dir / CERTIFICATE_NAME, keys_dir / KEY_NAME
    names = certificate_names(hosts)
    if not _still_good(certificate_path, key_path, names, now_us):
        keys_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        certificate_pem, key_pem = _self_signed(names, now_us)
        write_whole(key_path, key_pem, 0o600)
        write_whole(certificate_path, certificate_pem, 0o644)
    return TlsFiles(certificate_path, key_path, fingerprint(certificate_path), True)


def given_certificate(certificate: Path, key: Path) -> TlsFiles:
    """The site's own certificate. Raises Invalid, naming the setting, when it cannot be used."""
    for setting, path in (("web.tls_cert", certificate), ("web.tls_key", key)):
        if not path.is_file():
            raise Invalid(f"{setting}: {path} is not a file")
    files = TlsFiles(certificate, key, fingerprint(certificate), False)
    server_context(files)
    return files


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.2 and later, no renegotiation, http/1.1 by ALPN (WebSocket needs it)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"web.tls_cert {files.certificate} and web.tls_key {files.key} cannot be used: {error}",
            next_step="both must be PEM, belong together and be readable by this user",
        ) from error
    return context


def fingerprint(certificate: Path) -> str:
    """SHA-256 of the first certificate in the file, as `AB:CD:...`."""
    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    except (OSError, ValueError) as error:
        raise Invalid(f"{certificate} is not a PEM certificate: {error}") from error
    return leaf.fingerprint(hashes.SHA256()).hex(":").upper()


def certificate_names(hosts: Iterable[str]) -> list[str]:
    """Names and addresses for the certificate: loopback, the given ones, wildcards expanded."""
    names = ["localhost", "127.0.0.1", "::1"]
    for host in hosts:
        names += _own_names() if host in {"", "0.0.0.0", "::"} else [host]
    return list(dict.fromkeys(names))[:_NAMES_MAX]


def _own_names() -> list[str]:
    """What this machine calls itself, best effort: a missing name is a browser warning, no more."""
    host = socket.gethostname()
    names = [host]
    try:
        names += [str(info[4][0]).split("%")[0] for info in socket.getaddrinfo(host, None)]
    except OSError:
        return names
    return names


def _self_signed(names: Sequence[str], now_us: UtcMicros) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "vsp")])
    now = datetime.datetime.fromtimestamp(now_us / 1_000_000, datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # A viewer's clock may be behind ours; a day covers what is not a wrong clock.
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=LIFE_DAYS - 1))
        .add_extension(x509.SubjectAlternativeName(_alternatives(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), key_pem


def _alternatives(names: Sequence[str]) -> list[x509.GeneralName]:
    alternatives: list[x509.GeneralName] = []
    for name in names:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            if name.isascii():
                alternatives.append(x509.DNSName(name))
    return alternatives


def _still_good(certificate: Path, key: Path, names: Sequence[str], now_us: UtcMicros) -> bool:
    if not (certificate.is_file() and key.is_file()):
        return False
    try:
        leaf = x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError:
        return False
    ends_us = leaf.not_valid_after_utc.timestamp() * 1_000_000
    if ends_us - now_us < RENEW_DAYS * 86_400 * 1_000_000:
        return False
    covered = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return all(alternative in covered for alternative in _alternatives(names))
