"""Who sends: devices, their channels, the ones that knock without being known.

A Device (设备) registers with us over SIP. A Channel (通道) is one source below it that can be
played; an IPC is usually a device with one channel of the same or a neighbouring code. Device state
and channel state are separate facts with separate evidence.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vsp.model.ids import ChannelId, DepartmentId, DeviceId, GbId, RegionId, UtcMicros


class Transport(StrEnum):
    """How SIP reaches a device; what it registered over decides, this is only the wish."""

    UDP = "udp"
    TCP = "tcp"


class MediaTransport(StrEnum):
    """How RTP reaches us, from the platform's point of view (GB/T 28181-2016 annex L)."""

    UDP = "udp"
    TCP_PASSIVE = "tcp_passive"
    TCP_ACTIVE = "tcp_active"


class Charset(StrEnum):
    """Character set of MANSCDP bodies sent to a device. Bytes are GB18030 for all but UTF-8."""

    GB2312 = "gb2312"
    GBK = "gbk"
    GB18030 = "gb18030"
    UTF8 = "utf-8"


class DigestAlgorithm(StrEnum):
    """Digest offered to a device (RFC 3261 22, RFC 8760; SM3 by GB/T 32905 device setting)."""

    MD5 = "MD5"
    SHA256 = "SHA-256"
    SM3 = "SM3"


class DeviceKind(StrEnum):
    """From digits 11-13 of the code (GB/T 28181-2016 annex D table D.1)."""

    CAMERA = "camera"
    RECORDER = "recorder"
    PLATFORM = "platform"
    OTHER = "other"

    @classmethod
    def of(cls, gb_id: str) -> DeviceKind:
        """Classify a 20-digit code; anything unusual is OTHER."""
        code = gb_id[10:13]
        if len(gb_id) != 20 or not code.isdigit():
            return cls.OTHER
        if code in {"131", "132"}:
            return cls.CAMERA
        if code in {"111", "112", "113", "118", "130"}:
            return cls.RECORDER
        if code == "200":
            return cls.PLATFORM
        return cls.OTHER


class Presence(StrEnum):
    """Whether a device or channel is there. UNKNOWN is a state of its own, not a zero."""

    ONLINE = "online"
    OFFLINE = "offline"
    UNKNOWN = "unknown"


class RecordPlan(StrEnum):
    """When a channel is recorded. Weekly grids and alarms join later."""

    ALWAYS = "always"
    NONE = "none"


class ChannelClass(StrEnum):
    """Which promise of retention and which target a channel falls under (A3, B1-B3)."""

    ORDINARY = "ordinary"
    KEY_AREA = "key_area"
    IMPORTANT_PART = "important_part"
    RESIDENTIAL = "residential"


class ChannelLabel(StrEnum):
    """How freely a channel may be shared (A4, D)."""

    PUBLIC = "public"
    DEDICATED = "dedicated"
    SENSITIVE = "sensitive"


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """What an administrator may set per device. None means: the platform's default."""

    auth_username: str | None = None
    transport: Transport | None = None
    media_transport: MediaTransport | None = None
    charset: Charset = Charset.GB2312
    version: str | None = None
    digest: DigestAlgorithm = DigestAlgorithm.MD5
    keepalive_interval_s: int | None = None
    keepalive_misses: int | None = None
    send_date: bool = True


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a registered device answers. GB/T 28181-2016 9.1; RFC 3261 10.

    host, port     source address of the last authenticated REGISTER, never its Contact
    contact        the Contact URI as sent, for the Request-URI host part only
    expires_at_us  end of the registration if it is not refreshed
    """

    transport: Transport
    host: str
    port: int
    contact: str
    registered_at_us: UtcMicros
    expires_at_us: UtcMicros
    user_agent: str = ""
    gb_version: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """One registered or registrable peer below us."""

    id: DeviceId
    gb_id: GbId
    name: str
    kind: DeviceKind
    settings: DeviceSettings
    presence: Presence
    presence_since_us: UtcMicros
    created_at_us: UtcMicros
    binding: Binding | None = None
    last_seen_us: UtcMicros | None = None
    manufacturer: str = ""
    model: str = ""
    firmware: str = ""
    catalog_received: int = 0
    catalog_expected: int | None = None
    catalog_complete: bool = False
    catalog_at_us: UtcMicros | None = None


@dataclass(frozen=True, slots=True)
class DeviceSecret:
    """The password a device signs its REGISTER with. Never leaves `sip/` and `store/`."""

    device_id: DeviceId
    password: str


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device to add. The password is kept sealed and is never shown again."""

    gb_id: GbId
    password: str
    name: str = ""
    settings: DeviceSettings = DeviceSettings()
    record_plan: RecordPlan | None = None


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """One `Item` of a catalogue answer (GB/T 28181-2016 annex A.2.6, 2022 A.2.4.3), as reported.

    `parent_ids` is ParentID split on "/"; `extra` holds every further element by name, unjudged.
    """

    gb_id: GbId
    name: str
    manufacturer: str = ""
    model: str = ""
    owner: str = ""
    civil_code: str = ""
    address: str = ""
    parental: bool = False
    parent_ids: tuple[str, ...] = ()
    business_group_id: str = ""
    secrecy: int = 0
    status: Presence = Presence.UNKNOWN
    longitude: float | None = None
    latitude: float | None = None
    ptz_type: int | None = None
    extra: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Channel:
    """One playable source.

    `reported` is what its device says of it; `presence` is our judgement from reported state, the
    device's own presence and media seen.
    """

    id: ChannelId
    device_id: DeviceId
    gb_id: GbId
    name: str
    playable: bool
    presence: Presence
    presence_since_us: UtcMicros
    reported: Presence
    parent_gb_id: str
    civil_code: str
    record_plan: RecordPlan
    klass: ChannelClass
    label: ChannelLabel
    region_id: RegionId | None
    department_id: DepartmentId | None
    manufacturer: str = ""
    model: str = ""
    address: str = ""
    longitude: float | None = None
    latitude: float | None = None
    ptz_type: int | None = None
    missing_since_us: UtcMicros | None = None


@dataclass(frozen=True, slots=True)
class CatalogDiff:
    """What a catalogue answer changed. A partial answer never fills `missing`."""

    added: tuple[GbId, ...]
    changed: tuple[GbId, ...]
    missing: tuple[GbId, ...]
    received: int
    expected: int | None
    complete: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """An unknown device that tried to register: who, from where, how often."""

    gb_id: GbId
    host: str
    port: int
    transport: Transport
    user_agent: str
    first_seen_us: UtcMicros
    last_seen_us: UtcMicros
    attempts: int
