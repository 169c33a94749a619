"""A device made of byte templates: what GB/T 28181-2016 annex J prints, filled in.

Hand-made after the examples of the standard; nothing here uses our own encoders, so that a clause
we misread cannot agree with itself. Digest comes from hashlib.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import re
import socket
from collections.abc import Callable

PLATFORM = "34020000002000000001"
DOMAIN = "3402000000"
NVR = "34020000001180000001"
CAMERA = "34020000001320000001"
PASSWORD = "12345678"

_serial = itertools.count(1)


def register(
    gb_id: str = NVR,
    *,
    authorization: str = "",
    expires: str | None = "3600",
    contact: str | None = None,
    call_id: str | None = None,
    cseq: int = 1,
    address: str = "198.51.100.20:5060",
    transport: str = "UDP",
    extra: str = "",
) -> bytes:
    """15.1 of the worked examples."""
    number = next(_serial)
    lines = [
        f"REGISTER sip:{PLATFORM}@{DOMAIN} SIP/2.0",
        f"Via: SIP/2.0/{transport} {address};rport;branch=z9hG4bKr{number}",
        f"From: <sip:{gb_id}@{DOMAIN}>;tag=r{number}",
        f"To: <sip:{gb_id}@{DOMAIN}>",
        f"Call-ID: {call_id or f'reg-{number}'}@198.51.100.20",
        f"CSeq: {cseq} REGISTER",
        f"Contact: {contact or f'<sip:{gb_id}@{address}>'}",
    ]
    if authorization:
        lines.append(f"Authorization: {authorization}")
    lines += ["Max-Forwards: 70", "User-Agent: sim-nvr/1.0", "X-GB-Ver: 2.0"]
    if expires is not None:
        lines.append(f"Expires: {expires}")
    if extra:
        lines.append(extra)
    return ("\r\n".join([*lines, "Content-Length: 0"]) + "\r\n\r\n").encode()


def authorization(
    challenge: str,
    *,
    username: str = NVR,
    password: str = PASSWORD,
    algorithm: str = "md5",
    qop: bool = False,
    nc: str = "00000001",
) -> str:
    """The answer to a challenge, RFC 3261 22.4, without our own digest code."""
    realm = re.search(r'realm="([^"]*)"', challenge)[1]
    nonce = re.search(r'nonce="([^"]*)"', challenge)[1]
    uri = f"sip:{PLATFORM}@{DOMAIN}"

    def h(text: str) -> str:
        return hashlib.new(algorithm, text.encode()).hexdigest()

    ha1, ha2 = h(f"{username}:{realm}:{password}"), h(f"REGISTER:{uri}")
    name = {"md5": "MD5", "sha256": "SHA-256", "sm3": "SM3"}[algorithm]
    head = f'Digest username="{username}", realm="{realm}", nonce="{nonce}", uri="{uri}"'
    if not qop:
        return f'{head}, response="{h(f"{ha1}:{nonce}:{ha2}")}", algorithm={name}'
    response = h(f"{ha1}:{nonce}:{nc}:0a4f113b:auth:{ha2}")
    return f'{head}, response="{response}", algorithm={name}, qop=auth, nc={nc}, cnonce="0a4f113b"'


def message(
    body: bytes,
    gb_id: str = NVR,
    *,
    from_: str | None = None,
    call_id: str | None = None,
    address: str = "198.51.100.20:5060",
    length: int | None = None,
    to_tag: str = "",
    transport: str = "UDP",
) -> bytes:
    """15.2: a MESSAGE of a device around any body."""
    number = next(_serial)
    sender = from_ if from_ is not None else f"<sip:{gb_id}@{DOMAIN}>;tag=k{number}"
    head = (
        f"MESSAGE sip:{PLATFORM}@192.0.2.10:5060 SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {address};rport;branch=z9hG4bKk{number}\r\n"
        f"From: {sender}\r\n"
        f"To: <sip:{PLATFORM}@{DOMAIN}>{f';tag={to_tag}' if to_tag else ''}\r\n"
        f"Call-ID: {call_id or f'ka-{number}@198.51.100.20'}\r\n"
        "CSeq: 20 MESSAGE\r\n"
        "Max-Forwards: 70\r\n"
        "Content-Type: Application/MANSCDP+xml\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


def keepalive(gb_id: str = NVR, sn: int = 43) -> bytes:
    return (
        '<?xml version="1.0" encoding="GB2312"?>\r\n'
        f"<Notify><CmdType>Keepalive</CmdType><SN>{sn}</SN><DeviceID>{gb_id}</DeviceID>"
        "<Status>OK</Status></Notify>\r\n"
    ).encode()


def catalog_item(gb_id: str, name: str = "东门球机", status: str = "ON", parent: str = NVR) -> str:
    return (
        f"<Item><DeviceID>{gb_id}</DeviceID><Name>{name}</Name><Manufacturer>Sim</Manufacturer>"
        "<Model>S-1</Model><Owner>O</Owner><CivilCode>340201</CivilCode><Address>A</Address>"
        f"<Parental>0</Parental><ParentID>{parent}</ParentID><SafetyWay>0</SafetyWay>"
        f"<RegisterWay>1</RegisterWay><Secrecy>0</Secrecy><Status>{status}</Status></Item>"
    )


def catalog(sn: int | str, total: int | str, *items: str, gb_id: str = NVR) -> bytes:
    """15.3: one page of a catalogue answer, in GB 18030 under its old label."""
    listed = f'<DeviceList Num="{len(items)}">{"".join(items)}</DeviceList>' if items else ""
    return (
        '<?xml version="1.0" encoding="GB2312"?>\r\n'
        f"<Response><CmdType>Catalog</CmdType><SN>{sn}</SN><DeviceID>{gb_id}</DeviceID>"
        f"<SumNum>{total}</SumNum>{listed}</Response>\r\n"
    ).encode("gb18030")


def record_item(start: str, end: str, kind: str = "time", gb_id: str = CAMERA) -> str:
    return (
        f"<Item><DeviceID>{gb_id}</DeviceID><Name>Camera1</Name><FilePath>/rec/1</FilePath>"
        f"<Address>A</Address><StartTime>{start}</StartTime><EndTime>{end}</EndTime>"
        f"<Secrecy>0</Secrecy><Type>{kind}</Type><FileSize>471859200</FileSize></Item>"
    )


def records(sn: int | str, total: int, *items: str, gb_id: str = CAMERA) -> bytes:
    """15.4: one page of a RecordInfo answer."""
    listed = f'<RecordList Num="{len(items)}">{"".join(items)}</RecordList>' if items else ""
    return (
        '<?xml version="1.0" encoding="GB2312"?>\r\n'
        f"<Response><CmdType>RecordInfo</CmdType><SN>{sn}</SN><DeviceID>{gb_id}</DeviceID>"
        f"<Name>Camera1</Name><SumNum>{total}</SumNum>{listed}</Response>\r\n"
    ).encode("gb18030")


def device_info(sn: int | str, gb_id: str = NVR) -> bytes:
    return (
        '<?xml version="1.0" encoding="GB2312"?>\r\n'
        f"<Response><CmdType>DeviceInfo</CmdType><SN>{sn}</SN><DeviceID>{gb_id}</DeviceID>"
        "<DeviceName>录像机</DeviceName><Result>OK</Result><Manufacturer>Sim</Manufacturer>"
        "<Model>N-16</Model><Firmware>V5.1</Firmware><Channel>16</Channel></Response>\r\n"
    ).encode("gb18030")


def device_status(sn: int | str, gb_id: str = NVR) -> bytes:
    return (
        '<?xml version="1.0" encoding="GB2312"?>\r\n'
        f"<Response><CmdType>DeviceStatus</CmdType><SN>{sn}</SN><DeviceID>{gb_id}</DeviceID>"
        "<Result>OK</Result><Online>ONLINE</Online><Status>OK</Status><Encode>ON</Encode>"
        "<Record>OFF</Record></Response>\r\n"
    ).encode()


def media_status(gb_id: str = CAMERA) -> bytes:
    return (
        '<?xml version="1.0"?>\r\n<Notify><CmdType>MediaStatus</CmdType><SN>8</SN>'
        f"<DeviceID>{gb_id}</DeviceID><NotifyType>121</NotifyType></Notify>\r\n"
    ).encode()


def answer_sdp(
    port: int = 15060,
    *,
    host: str = "127.0.0.1",
    y: str | None = "0200000001",
    profile: str = "RTP/AVP",
    setup: str = "",
) -> bytes:
    """15.5 and 15.6: the answer of a device."""
    lines = [
        "v=0",
        f"o={CAMERA} 0 0 IN IP4 {host}",
        "s=Play",
        f"c=IN IP4 {host}",
        "t=0 0",
        f"m=video {port} {profile} 96",
        "a=sendonly",
        "a=rtpmap:96 PS/90000",
    ]
    if setup:
        lines += [f"a=setup:{setup}", "a=connection:new"]
    if y is not None:
        lines.append(f"y={y}")
    return ("\r\n".join(lines) + "\r\n").encode()


def header(data: bytes, name: str) -> str:
    """Value of the first header of that name; "" when absent."""
    head = data.split(b"\r\n\r\n", 1)[0].decode("latin-1")
    found = re.search(rf"^{name}:[ \t]*(.*?)\r?$", head, re.IGNORECASE | re.MULTILINE)
    return found[1] if found else ""


def body_of(data: bytes) -> bytes:
    return data.split(b"\r\n\r\n", 1)[1]


def sn_of(data: bytes) -> str:
    return re.search(rb"<SN>(\d+)</SN>", data)[1].decode()


def status_of(data: bytes) -> int:
    return int(data.split(b" ", 2)[1])


def reply(
    request: bytes,
    status: str = "200 OK",
    *,
    body: bytes = b"",
    tag: str = "d77",
    contact: str = "",
    extra: str = "",
) -> bytes:
    """A response as a device writes it: the request's headers echoed."""
    to = header(request, "To")
    lines = [
        f"SIP/2.0 {status}",
        f"Via: {header(request, 'Via')}",
        f"From: {header(request, 'From')}",
        f"To: {to}" + ("" if "tag=" in to else f";tag={tag}"),
        f"Call-ID: {header(request, 'Call-ID')}",
        f"CSeq: {header(request, 'CSeq')}",
    ]
    if contact:
        lines.append(f"Contact: <{contact}>")
    if extra:
        lines.append(extra)
    if body:
        lines.append("Content-Type: Application/SDP")
    lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def bye(invite: bytes, *, tag: str = "d77", address: str = "127.0.0.1:5060") -> bytes:
    """BYE of the called side: From and To of the INVITE change places (RFC 3261 12.2.1.1)."""
    number = next(_serial)
    return (
        f"BYE sip:{PLATFORM}@127.0.0.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP {address};rport;branch=z9hG4bKb{number}\r\n"
        f"From: {header(invite, 'To')};tag={tag}\r\n"
        f"To: {header(invite, 'From')}\r\n"
        f"Call-ID: {header(invite, 'Call-ID')}\r\n"
        "CSeq: 1 BYE\r\n"
        "Max-Forwards: 70\r\n"
        "Content-Length: 0\r\n\r\n"
    ).encode()


def request(method: str, gb_id: str = NVR, *, extra: str = "", body: bytes = b"") -> bytes:
    """Any other request of a device."""
    number = next(_serial)
    tail = f"{extra}\r\n" if extra else ""
    return (
        f"{method} sip:{PLATFORM}@127.0.0.1 SIP/2.0\r\n"
        f"Via: SIP/2.0/UDP 198.51.100.20:5060;rport;branch=z9hG4bKo{number}\r\n"
        f"From: <sip:{gb_id}@{DOMAIN}>;tag=o{number}\r\n"
        f"To: <sip:{PLATFORM}@{DOMAIN}>\r\n"
        f"Call-ID: o-{number}@198.51.100.20\r\n"
        f"CSeq: 1 {method}\r\n"
        f"{tail}"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, queue: asyncio.Queue[bytes]) -> None:
        self._queue = queue

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._queue.put_nowait(data)


class UdpUa:
    """One device on a UDP socket of its own. `script` may answer requests; the rest is queued."""

    def __init__(self, platform_port: int, gb_id: str = NVR, host: str = "127.0.0.1") -> None:
        self.gb_id = gb_id
        self.host = host
        self.seen: list[bytes] = []
        self.script: Callable[[bytes], list[bytes]] | None = None
        self._platform = ("127.0.0.1", platform_port)
        self._arrived: asyncio.Queue[bytes] = asyncio.Queue()
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()
        self._transport: asyncio.DatagramTransport | None = None
        self._pump: asyncio.Task[None] | None = None

    async def __aenter__(self) -> UdpUa:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Receiver(self._arrived), local_addr=(self.host, 0)
        )
        self._pump = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *exc: object) -> None:
        assert self._pump is not None
        assert self._transport is not None
        self._pump.cancel()
        self._transport.close()
        await asyncio.wait({self._pump})

    @property
    def port(self) -> int:
        assert self._transport is not None
        return self._transport.get_extra_info("sockname")[1]

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def send(self, data: bytes) -> None:
        assert self._transport is not None
        self._transport.sendto(data, self._platform)

    async def receive(self, prefix: bytes = b"", timeout_s: float = 5.0) -> bytes:
        """The next message that no script answered; others than `prefix` are skipped."""
        async with asyncio.timeout(timeout_s):
            while True:
                data = await self._queue.get()
                if data.startswith(prefix):
                    return data

    async def query(self, command: str) -> bytes:
        """The next query of that CmdType; others are skipped."""
        while True:
            data = await self.receive(b"MESSAGE")
            if f"<CmdType>{command}<".encode() in data:
                return data

    async def silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes for a while."""
        try:
            await self.receive(timeout_s=seconds)
        except TimeoutError:
            return True
        return False

    async def ask(self, data: bytes) -> bytes:
        """Send, and wait for the response to it."""
        self.send(data)
        return await self.receive(b"SIP/2.0")

    async def register(self, password: str = PASSWORD, **options: object) -> bytes:
        """The whole exchange of 15.1; gives the last answer."""
        options.setdefault("address", self.address)
        challenged = await self.ask(register(self.gb_id, **options))
        if status_of(challenged) != 401:
            return challenged
        offered = header(challenged, "WWW-Authenticate")
        signed = authorization(offered, username=self.gb_id, password=password)
        return await self.ask(register(self.gb_id, authorization=signed, cseq=2, **options))

    async def _run(self) -> None:
        while True:
            data = await self._arrived.get()
            self.seen.append(data)
            answers = self.script(data) if self.script is not None else []
            for answer in answers:
                self.send(answer)
            if not answers:
                self._queue.put_nowait(data)


def free_port() -> int:
    """A port that is free for UDP and TCP just now."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                try:
                    udp.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
