"""CPU of one heartbeat and of one registration (401, then 200) in the real `SignalService`.

Whole path but the sockets: trace, parse, transaction, digest, presence, answer. `keepalive-written`
adds what follows once a second: a row for each device that was heard, written to a real SQLite. The
bytes are made beforehand and the digest of the device's side is not counted. The catalogues are
fresh, so nobody asks for them meanwhile.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

import structlog

from benchmarks.figure import Figure
from vsp.clock import SystemClock, SystemIds
from vsp.config import Config, NodeConfig, SipConfig
from vsp.health.metrics import PrometheusMetrics
from vsp.model.device import Device, DeviceSecret, NewDevice, RecordPlan, Transport
from vsp.model.ids import GbId
from vsp.sip.core.agent import Peer
from vsp.sip.service import SignalService
from vsp.store import Store, open_store

DEVICES = 1_000
REPETITIONS = 7
PASSWORD = "a benchmark's"
PLATFORM = "34020000002000000001"
DOMAIN = "3402000000"

Received = tuple[bytes, Peer]


class Bench:
    """A started service whose UDP driver is this object: what it sends is kept in `sent`."""

    def __init__(self, service: SignalService) -> None:
        self.service = service
        self.sent: list[bytes] = []
        self.serial = 0
        self.peers = {
            gb_id(number): Peer(Transport.UDP, f"10.0.{number >> 8}.{number & 255}", 5060)
            for number in range(DEVICES)
        }
        service._endpoint._bind = self._bind  # type: ignore[method-assign]

    async def _bind(self, port: int) -> None:
        self.service._endpoint._udp = self

    def start(self) -> None:
        """Nothing to read from."""

    def send(self, data: bytes, peer: Peer) -> None:
        self.sent.append(data)

    def flush(self) -> None:
        """Nothing is queued."""

    def close(self) -> None:
        """No socket to close."""

    def feed(self, messages: Sequence[Received], expected: bytes) -> float:
        """CPU microseconds a message; each must have been answered with `expected`."""
        self.sent.clear()
        receive: Callable[[bytes, Peer], None] = self.service._endpoint._received
        began = time.process_time_ns()
        for data, peer in messages:
            receive(data, peer)
        took_ns = time.process_time_ns() - began
        assert len(self.sent) == len(messages)
        assert all(answer.startswith(expected) for answer in self.sent), self.sent[0]
        return took_ns / 1000 / len(messages)

    # ---- what devices say -------------------------------------------------------------------

    def keepalives(self) -> list[Received]:
        self.serial += 1
        return [(self._keepalive(code, peer), peer) for code, peer in self.peers.items()]

    def _keepalive(self, code: str, peer: Peer) -> bytes:
        body = (
            '<?xml version="1.0" encoding="GB2312"?>\r\n<Notify>\r\n<CmdType>Keepalive</CmdType>'
            f"\r\n<SN>{self.serial}</SN>\r\n<DeviceID>{code}</DeviceID>\r\n<Status>OK</Status>\r\n"
            "</Notify>\r\n"
        )
        return (
            f"MESSAGE sip:{PLATFORM}@{DOMAIN} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {peer.host}:5060;rport;branch=z9hG4bKk{self.serial}-{code}\r\n"
            f"From: <sip:{code}@{DOMAIN}>;tag=k{self.serial}\r\nTo: <sip:{PLATFORM}@{DOMAIN}>\r\n"
            f"Call-ID: k{self.serial}-{code}@{peer.host}\r\nCSeq: 20 MESSAGE\r\n"
            "Max-Forwards: 70\r\nUser-Agent: IP Camera\r\n"
            f"Content-Type: Application/MANSCDP+xml\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        ).encode()

    def registers(self, challenges: Sequence[bytes] = ()) -> list[Received]:
        """First tries, or with challenges the answers to them, in the order of devices."""
        self.serial += 1
        nonces = [_nonce(challenge) for challenge in challenges] or [""] * DEVICES
        return [
            (self._register(code, peer, nonce), peer)
            for (code, peer), nonce in zip(self.peers.items(), nonces, strict=True)
        ]

    def _register(self, code: str, peer: Peer, nonce: str) -> bytes:
        signed = f"{_authorization(code, nonce)}\r\n" if nonce else ""
        return (
            f"REGISTER sip:{PLATFORM}@{DOMAIN} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {peer.host}:5060;rport;branch=z9hG4bKr{self.serial}-{code}\r\n"
            f"From: <sip:{code}@{DOMAIN}>;tag=r{self.serial}\r\nTo: <sip:{code}@{DOMAIN}>\r\n"
            f"Call-ID: r{self.serial // 2}-{code}@{peer.host}\r\nCSeq: {self.serial} REGISTER\r\n"
            f"Contact: <sip:{code}@{peer.host}:5060>\r\nMax-Forwards: 70\r\n{signed}"
            "User-Agent: IP Camera\r\nExpires: 3600\r\nContent-Length: 0\r\n\r\n"
        ).encode()


def measure() -> list[Figure]:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    pairs, beats, written = [], [], []
    with tempfile.TemporaryDirectory(prefix="vsp-bench-") as folder:
        config = Config(node=NodeConfig(data_dir=Path(folder)), sip=SipConfig(port=5060))
        clock, ids = SystemClock(), SystemIds()
        store = await open_store(config, clock, ids)
        service = SignalService(
            config.sip,
            "127.0.0.1",
            FreshBook(store, await _add_devices(store)),  # type: ignore[arg-type]
            store.changes,
            clock,
            ids,
            PrometheusMetrics(),
            store.streams,
            nonce_key=b"k" * 32,
        )
        bench = Bench(service)
        await service.start()
        try:
            for _ in range(REPETITIONS):
                first_us = bench.feed(bench.registers(), b"SIP/2.0 401")
                second_us = bench.feed(bench.registers(list(bench.sent)), b"SIP/2.0 200")
                pairs.append(first_us + second_us)
                await service._writer.flush()
                beat_us = bench.feed(bench.keepalives(), b"SIP/2.0 200")
                beats.append(beat_us)
                began = time.process_time_ns()
                assert await service._writer.flush()
                written.append(beat_us + (time.process_time_ns() - began) / 1000 / DEVICES)
        finally:
            await service.close()
            await store.close()
    return [
        _figure("sip-core.keepalive", beats, "SignalService, sockets left out"),
        _figure("sip-core.keepalive-written", written, "and its row, written behind to SQLite"),
        _figure("sip-core.register", pairs, "REGISTER, 401, REGISTER with digest, 200"),
    ]


def _figure(name: str, costs_us: Sequence[float], note: str) -> Figure:
    return Figure(name, median(costs_us), "us", DEVICES * len(costs_us), note=note)


class FreshBook:
    """The real book; devices just look as if their catalogue had been read a moment ago."""

    def __init__(self, store: Store, devices: Sequence[tuple[Device, DeviceSecret]]) -> None:
        self._devices = devices
        self.save_states = store.devices.save_states
        self.saw_candidates = store.devices.saw_candidates

    async def all_devices(self) -> Sequence[tuple[Device, DeviceSecret]]:
        now_us = SystemClock().now_us()
        return [
            (replace(device, catalog_complete=True, catalog_at_us=now_us), secret)
            for device, secret in self._devices
        ]


async def _add_devices(store: Store) -> Sequence[tuple[Device, DeviceSecret]]:
    now_us = SystemClock().now_us()
    for number in range(DEVICES):
        new = NewDevice(GbId(gb_id(number)), PASSWORD)
        await store.devices.add_device(new, now_us, RecordPlan.NONE)
    return await store.devices.all_devices()


def gb_id(number: int) -> str:
    return f"3402000000132{number:07d}"


def _nonce(challenge: bytes) -> str:
    found = re.search(rb'nonce="([^"]+)"', challenge)
    assert found is not None, challenge
    return found[1].decode()


def _authorization(code: str, nonce: str) -> str:
    """RFC 2617 without qop, as most devices do it."""

    def digest(text: str) -> str:
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()

    uri = f"sip:{PLATFORM}@{DOMAIN}"
    secret, place = digest(f"{code}:{DOMAIN}:{PASSWORD}"), digest(f"REGISTER:{uri}")
    response = digest(f"{secret}:{nonce}:{place}")
    return (
        f'Authorization: Digest username="{code}", realm="{DOMAIN}", nonce="{nonce}", '
        f'uri="{uri}", response="{response}", algorithm=MD5'
    )
