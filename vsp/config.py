"""Every setting of the platform, one section per concern.

`vsp.toml` < environment `VSP_SECTION__KEY` < flags. Each field carries its unit in its name and a
line of help; `vsp config docs` writes docs/configuration.md from these very definitions, and a test
holds the two together. Cross-field rules (a bind beyond loopback needs TLS) are checked in one
place, `Config.check`, and name the setting at fault.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork, ValidationError

from vsp.errors import Invalid


class Section(BaseModel):
    """A group of settings; unknown keys are refused so that a typing slip is not silence."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeConfig(Section):
    name: str = Field("node-1", description="Name of this node in logs, leases and audit rows.")
    data_dir: Path = Field(Path("data"), description="Folder of database, spool, keys, objects.")
    workers: int = Field(
        0, ge=0, le=64, description="Media worker processes; 0 means one for each core."
    )
    stop_timeout_s: float = Field(
        4.0, gt=0, description="Longest orderly stop before what is left is killed."
    )
    orphan_timeout_s: float = Field(
        600.0,
        ge=0,
        description="How long a media worker goes on when `vsp run` was killed; 0 means for ever.",
    )


class SipConfig(Section):
    id: str = Field(
        "34020000002000000001", pattern=r"^\d{20}$", description="Our GB/T 28181 code (20 digits)."
    )
    domain: str = Field("3402000000", description="Our SIP domain and digest realm.")
    host: str = Field("127.0.0.1", description="Address that SIP listens on.")
    advertised_host: str = Field(
        "", description="Address written into Contact and Via; empty means `host`."
    )
    port: int = Field(
        5060, ge=0, le=65535, description="SIP port, UDP and TCP; 0 picks a free one."
    )
    transports: tuple[Literal["udp", "tcp"], ...] = Field(
        ("udp", "tcp"), description="Transports that SIP listens on."
    )
    expires_min_s: int = Field(60, ge=1, description="Shorter registrations are answered 423.")
    expires_max_s: int = Field(86_400, ge=60, description="Longer registrations are cut to this.")
    nonce_life_s: int = Field(60, ge=5, description="Life of a digest nonce before stale=true.")
    keepalive_interval_s: int = Field(60, ge=1, le=3600, description="Expected heartbeat period.")
    keepalive_misses: int = Field(3, ge=1, le=10, description="Missed heartbeats until off line.")
    tcp_leave_s: float = Field(
        10.0, ge=0, description="How long a device may be away after its TCP connection closed."
    )
    invite_timeout_s: float = Field(10.0, gt=0, description="Wait for the answer to an INVITE.")
    query_timeout_s: float = Field(
        10.0, gt=0, description="Wait for a MANSCDP answer's first page."
    )
    catalog_idle_s: float = Field(8.0, gt=0, description="Silence that ends a catalogue answer.")
    catalog_refresh_s: float = Field(3600.0, gt=0, description="Period of catalogue refreshes.")
    date_header: bool = Field(True, description="Send Date in the answer to REGISTER.")


class MediaConfig(Section):
    host: str = Field("127.0.0.1", description="Address that media ports listen on.")
    advertised_host: str = Field("", description="Address written into SDP; empty means `host`.")
    port_first: int = Field(
        20000,
        ge=1024,
        le=65534,
        description="First media port (even); keep the range below the system's ephemeral ports.",
    )
    ports_per_worker: int = Field(
        2000, ge=4, le=20000, description="Media ports of one worker; a stream takes two."
    )
    http_host: str = Field("127.0.0.1", description="Address of the workers' viewer listeners.")
    http_advertised_host: str = Field(
        "", description="Host in viewer URLs; empty means `http_host`."
    )
    http_port_first: int = Field(
        18100, ge=0, le=65535, description="Viewer port of worker 0; 0 picks free ones."
    )
    receive_buffer_bytes: int = Field(
        1 << 20, ge=65536, description="SO_RCVBUF of each UDP media port."
    )
    drain_interval_ms: float = Field(
        100.0, ge=1, le=200, description="Period at which unwatched streams are read."
    )
    first_packet_timeout_s: float = Field(
        10.0, gt=0, description="Wait for the first packet after the answer."
    )
    stall_timeout_s: float = Field(10.0, gt=0, description="Silence after which a stream is lost.")
    grace_s: float = Field(
        10.0, ge=0, description="How long an unrecorded stream outlives its last viewer."
    )
    view_attach_timeout_s: float = Field(
        30.0, gt=0, description="How long a view waits for its viewer to connect."
    )
    view_queue_bytes_max: int = Field(
        8 << 20, ge=1 << 16, description="Bytes queued for one viewer before frames are dropped."
    )
    networks: tuple[IPvAnyNetwork, ...] = Field(
        (),
        description="Networks of media servers apart from their devices; we may connect there.",
    )


class WebConfig(Section):
    host: str = Field("127.0.0.1", description="Address of the console and the API.")
    port: int = Field(8080, ge=0, le=65535, description="Port of the console; 0 picks a free one.")
    tls: Literal["auto", "on", "off"] = Field(
        "auto", description="TLS for console and viewers; auto means on beyond loopback."
    )
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM); none: self-signed.")
    tls_key: Path | None = Field(None, description="Private key of `tls_cert` (PEM).")
    behind_proxy: bool = Field(
        False, description="A TLS proxy stands in front; viewers go through /m/<worker>/."
    )
    session_idle_s: int = Field(1800, ge=60, description="Idle time that ends a session.")
    session_life_s: int = Field(43_200, ge=300, description="Longest life of a session.")
    sign_in_tries: int = Field(5, ge=1, description="Failed sign-ins before a name is locked.")
    sign_in_lock_s: int = Field(900, ge=10, description="Length of that lock.")
    ticket_life_s: int = Field(60, ge=5, le=600, description="Life of a media ticket.")


class DatabaseConfig(Section):
    url: str = Field(
        "", description="SQLAlchemy URL (postgresql+asyncpg://...); empty means SQLite in data_dir."
    )


class StoreConfig(Section):
    kind: Literal["folder", "s3"] = Field("folder", description="Where objects are kept.")
    root: Path | None = Field(None, description="Folder of objects; none means data_dir/segments.")
    s3_endpoint: str = Field("", description="Host:port of an S3 server.")
    s3_bucket: str = Field("vsp", description="Bucket of objects.")
    s3_secure: bool = Field(True, description="TLS towards the S3 server.")
    s3_region: str = Field("us-east-1", description="Region written into S3 signatures.")
    s3_credentials: Path | None = Field(
        None, description="File with access key and secret key, one a line, mode 0600."
    )


class RecordingConfig(Section):
    default_plan: Literal["always", "none"] = Field(
        "always", description="Plan of channels found on newly added devices."
    )
    segment_s: float = Field(60.0, ge=2, le=600, description="Length of a segment.")
    part_s: float = Field(10.0, ge=1, description="Media between two uploaded parts.")
    fsync_interval_s: float = Field(1.5, gt=0, le=10, description="Longest unsynced spool time.")
    spool_bytes_max: int = Field(
        8 << 30, ge=64 << 20, description="Spool of one worker before recording is refused."
    )
    reconcile_s: float = Field(
        600.0, ge=1, description="Period at which rows and objects are brought together."
    )
    reconcile_grace_s: float = Field(
        900.0,
        ge=0,
        description="Age below which an object or upload without an owner is left alone; more than "
        "the longest segment.",
    )


class LogConfig(Section):
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="Log level.")
    format: Literal["auto", "json", "console"] = Field(
        "auto", description="Log lines for machines or people; auto looks for a terminal."
    )


class Config(Section):
    """The whole configuration, as given. What it means is derived by its methods."""

    node: NodeConfig = NodeConfig()
    sip: SipConfig = SipConfig()
    media: MediaConfig = MediaConfig()
    web: WebConfig = WebConfig()
    database: DatabaseConfig = DatabaseConfig()
    store: StoreConfig = StoreConfig()
    recording: RecordingConfig = RecordingConfig()
    log: LogConfig = LogConfig()

    @property
    def data_dir(self) -> Path:
        return self.node.data_dir

    @property
    def worker_count(self) -> int:
        return self.node.workers or os.cpu_count() or 1

    @property
    def objects_dir(self) -> Path:
        return self.store.root or self.data_dir / "segments"

    @property
    def database_url(self) -> str:
        return self.database.url or f"sqlite+aiosqlite:///{self.data_dir / 'vsp.sqlite'}"

    @property
    def sip_advertised(self) -> str:
        return self.sip.advertised_host or self.sip.host

    @property
    def media_advertised(self) -> str:
        return self.media.advertised_host or self.media.host

    @property
    def tls_on(self) -> bool:
        if self.web.tls == "auto":
            return not (is_loopback(self.web.host) and is_loopback(self.media.http_host))
        return self.web.tls == "on"

    def media_ports(self, worker: int) -> tuple[int, int]:
        """First and last media port of a worker, both inclusive."""
        first = self.media.port_first + worker * self.media.ports_per_worker
        return first, first + self.media.ports_per_worker - 1

    def check(self) -> None:
        """Refuse combinations that would be unsafe or cannot work. Raises Invalid, names it."""
        exposed = [
            name
            for name, host in (
                ("web.host", self.web.host),
                ("media.http_host", self.media.http_host),
            )
            if not is_loopback(host)
        ]
        if exposed and not self.tls_on and not self.web.behind_proxy:
            raise Invalid(
                f"{exposed[0]} is beyond loopback without TLS",
                cause="web.tls is off and web.behind_proxy is not set",
                next_step="set web.tls=auto, or declare the proxy with web.behind_proxy=true",
            )
        if (self.web.tls_cert is None) != (self.web.tls_key is None):
            raise Invalid("web.tls_cert and web.tls_key belong together; only one is set")
        if self.media.port_first % 2:
            raise Invalid("media.port_first must be even (RFC 3550 11)")
        last = self.media_ports(self.worker_count - 1)[1]
        if last > 65535:
            raise Invalid(
                f"media ports would end at {last}",
                cause="media.port_first + media.ports_per_worker x node.workers exceeds 65535",
                next_step="lower media.ports_per_worker or media.port_first",
            )
        if self.store.kind == "s3" and not (self.store.s3_endpoint and self.store.s3_credentials):
            raise Invalid("store.kind=s3 needs store.s3_endpoint and store.s3_credentials")


def is_loopback(host: str) -> bool:
    """Whether a bind address is reachable from this machine only. Names are judged as exposed."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load(path: Path | None = None, flags: Mapping[str, Any] | None = None) -> Config:
    """Read `vsp.toml` (if any), the environment and flags. Raises Invalid, naming the setting.

    flags   nested like the file: {"web": {"port": 0}}
    """
    values: dict[str, Any] = {}
    file = path or Path("vsp.toml")
    if path is not None or file.exists():
        try:
            values = tomllib.loads(file.read_text("utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise Invalid(f"{file} cannot be read: {error}") from error
    values = _merge(values, _from_environment(os.environ))
    values = _merge(values, dict(flags or {}))
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        setting = ".".join(str(part) for part in first["loc"])
        raise Invalid(f"setting {setting}: {first['msg']}") from error
    config.check()
    return config


ENVIRONMENT_PREFIX = "VSP_"


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """`VSP_SECTION__KEY=value` as nested settings."""
    values: dict[str, Any] = {}
    for name, text in environment.items():
        section, separator, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
        if name.startswith(ENVIRONMENT_PREFIX) and separator:
            values.setdefault(section, {})[key] = value_of(section, key, text)
    return values


def value_of(section: str, key: str, text: str) -> str | list[str]:
    """A setting as it is written outside of a file: several values with commas between them."""
    part = Config.model_fields.get(section)
    fields = getattr(part and part.annotation, "model_fields", {})
    if key in fields and get_origin(fields[key].annotation) is tuple:
        return [value.strip() for value in text.split(",") if value.strip()]
    return text


def _merge(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Upper wins, section by section."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _merge(below, value) if both and isinstance(below, dict) else value
    return merged


def documentation() -> str:
    """docs/configuration.md, generated: one table per section."""
    lines = [
        "# Configuration",
        "",
        "Generated by `vsp config docs`; do not edit. `vsp.toml` < environment "
        "`VSP_SECTION__KEY` < flags.",
    ]
    for section, field in Config.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, Section)
        lines += ["", f"## [{section}]", "", "| Setting | Default | Meaning |", "|---|---|---|"]
        for key, setting in model.model_fields.items():
            default = setting.default
            shown = ",".join(default) if isinstance(default, tuple) else default
            shown = "none" if shown is None else str(shown) or "(empty)"
            lines.append(f"| `{section}.{key}` | `{shown}` | {setting.description} |")
    return "\n".join([*lines, ""])
