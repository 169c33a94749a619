from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable

import pytest

from tests.sip.core import examples
from tests.sip.wire import (
    ADDRESSES,
    BURST,
    DRIVERS,
    URI,
    WAIT_S,
    ManualClock,
    keepalive,
    running,
    tcp_device,
    udp_device,
    until,
)
from vsp.errors import Conflict, Invalid, Unavailable
from vsp.model.device import Transport
from vsp.sip import endpoint as module
from vsp.sip.core.agent import Peer, RequestReceived
from vsp.sip.core.message import reply_bytes

# ---- UDP ------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_request_is_answered_to_its_source(driver):
    async with running(driver=driver) as endpoint, udp_device(endpoint) as device:
        device.say(examples.KEEPALIVE)

        reply = await device.hear()

        assert (reply.status, reply.branch) == (200, b"z9hG4bKk43")
        assert f"rport={device.port};received=127.0.0.1" in (reply.header("via") or "")


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_burst_is_answered_completely(driver):
    async with running(driver=driver) as endpoint, udp_device(endpoint) as device:
        for number in range(BURST):
            device.say(keepalive(number))
            if number % 50 == 49:
                await asyncio.sleep(0)

        branches = {(await device.hear()).branch for _ in range(BURST)}

        assert len(branches) == BURST
        assert endpoint.stats.received == BURST
        assert endpoint.stats.sent == BURST


@pytest.mark.parametrize("driver", DRIVERS)
async def test_the_largest_datagram_passes(driver):
    bodies: list[bytes] = []
    async with running(driver=driver) as endpoint, udp_device(endpoint) as device:

        def on_request(received: RequestReceived) -> None:
            bodies.append(received.message.body)
            endpoint.respond(received.transaction, 200, "OK", body=b"y" * 60_000)

        endpoint.on_request = on_request
        head = examples.KEEPALIVE.partition(b"Content-Length")[0]
        room = 65_507 - len(head) - len(b"Content-Length: 65000\r\n\r\n")
        device.say(head + b"Content-Length: %d\r\n\r\n" % room + b"x" * room)

        reply = await device.hear()

        assert len(reply.body) == 60_000
        assert [len(body) for body in bodies] == [room]


@pytest.mark.parametrize("driver", DRIVERS)
async def test_several_devices_are_told_apart(driver):
    async with (
        running(driver=driver) as endpoint,
        udp_device(endpoint) as one,
        udp_device(endpoint) as other,
    ):
        one.say(keepalive(1))
        other.say(keepalive(2))

        assert (await one.hear()).branch == b"z9hG4bKk1"
        assert (await other.hear()).branch == b"z9hG4bKk2"


async def test_the_best_driver_of_this_machine_is_taken():
    async with running() as endpoint:
        assert isinstance(endpoint._udp, module._Mmsg)


async def test_without_recvmmsg_a_drained_reader_is_taken(monkeypatch):
    monkeypatch.setattr(module._Mmsg, "usable", staticmethod(lambda sock: False))

    async with running() as endpoint, udp_device(endpoint) as device:
        assert type(endpoint._udp) is module._Reader
        device.say(examples.KEEPALIVE)
        assert (await device.hear()).status == 200


async def test_ipv6_is_served_by_the_reader():
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")

    async with (
        running(host="::1", transports=("udp",)) as endpoint,
        udp_device(endpoint, "::1") as device,
    ):
        device.say(examples.KEEPALIVE)
        assert (await device.hear()).status == 200


async def test_a_retransmission_gets_the_same_answer_without_the_handler():
    async with running() as endpoint, udp_device(endpoint) as device:
        seen: list[RequestReceived] = []

        def on_request(received: RequestReceived) -> None:
            seen.append(received)
            endpoint.respond(received.transaction, 200, "OK")

        endpoint.on_request = on_request
        device.say(examples.KEEPALIVE)
        first = await device.hear()
        device.say(examples.KEEPALIVE)
        second = await device.hear()

        assert len(seen) == 1
        assert first.to == second.to


async def test_foreign_traffic_is_ignored_in_silence():
    async with running() as endpoint, udp_device(endpoint) as device:
        traffic: list[bytes] = []
        endpoint.on_traffic = lambda outgoing, peer, data: traffic.append(data)
        for data in (b"\r\n\r\n", b"\x00\x01\x00\x00\x21\x12\xa4\x42" + b"\x00" * 12, b"\xff"):
            device.say(data)
        device.say(b"\r\n" + examples.KEEPALIVE)

        assert (await device.hear()).status == 200
        assert traffic[0] == examples.KEEPALIVE
        assert endpoint.stats.junk == 3


async def test_traffic_of_both_ways_is_shown():
    async with running() as endpoint, udp_device(endpoint) as device:
        traffic: list[tuple[bool, Peer, bytes]] = []
        endpoint.on_traffic = lambda *seen: traffic.append(seen)
        device.say(examples.KEEPALIVE)
        await device.hear()

        assert [(outgoing, peer) for outgoing, peer, _ in traffic] == [
            (False, device.peer),
            (True, device.peer),
        ]
        assert traffic[0][2] == examples.KEEPALIVE


async def test_bytes_can_be_sent_outside_transactions():
    async with running() as endpoint, udp_device(endpoint) as device:
        endpoint.send(examples.KEEPALIVE_OK, device.peer)

        assert (await device.hear()).status == 200


# ---- full socket buffers --------------------------------------------------------------------


class Sendmmsg:
    """Stands in for the system call: returns what it is told, then really sends."""

    def __init__(self, real: Callable[..., int], answers: list[int]) -> None:
        self.real = real
        self.answers = answers
        self.calls: list[int] = []

    def __call__(self, fd: int, address: int, count: int, flags: int) -> int:
        self.calls.append(count)
        if not self.answers:
            return self.real(fd, address, count, flags)
        answer = self.answers.pop(0)
        if answer < 0:
            module.ctypes.set_errno(-answer)
            return -1
        return self.real(fd, address, answer, flags)


async def test_a_partial_sendmmsg_is_continued():
    async with running(driver="mmsg") as endpoint, udp_device(endpoint) as device:
        driver = endpoint._udp
        assert isinstance(driver, module._Mmsg)
        driver._sendmmsg = call = Sendmmsg(driver._sendmmsg, [3, 1])
        for number in range(10):
            endpoint.send(keepalive(number), device.peer)

        branches = [(await device.hear()).branch for _ in range(10)]

        assert branches == [b"z9hG4bKk%d" % number for number in range(10)]
        assert call.calls == [10, 7, 6]


async def test_a_full_socket_is_tried_again_when_it_has_room():
    async with running(driver="mmsg") as endpoint, udp_device(endpoint) as device:
        driver = endpoint._udp
        assert isinstance(driver, module._Mmsg)
        driver._sendmmsg = Sendmmsg(driver._sendmmsg, [-errno.EAGAIN, -errno.EAGAIN])
        endpoint.send(keepalive(1), device.peer)
        endpoint.send(keepalive(2), device.peer)

        assert [(await device.hear()).branch for _ in range(2)] == [b"z9hG4bKk1", b"z9hG4bKk2"]
        assert endpoint.stats.send_dropped == 0


async def test_a_datagram_that_cannot_be_sent_holds_up_no_other():
    async with running(driver="mmsg") as endpoint, udp_device(endpoint) as device:
        driver = endpoint._udp
        assert isinstance(driver, module._Mmsg)
        driver._sendmmsg = Sendmmsg(driver._sendmmsg, [-errno.EPERM])
        endpoint.send(keepalive(1), device.peer)
        endpoint.send(keepalive(2), device.peer)

        assert (await device.hear()).branch == b"z9hG4bKk2"
        assert endpoint.stats.send_dropped == 1


@pytest.mark.parametrize("driver", ["mmsg", "reader"])
async def test_the_send_queue_is_bounded(driver, monkeypatch):
    monkeypatch.setattr(module, "SEND_QUEUE_MAX", 5)
    async with running(driver=driver) as endpoint, udp_device(endpoint) as device:
        for number in range(20):
            endpoint.send(keepalive(number), device.peer)

        assert [(await device.hear()).branch for _ in range(5)]
        assert endpoint.stats.send_dropped == 15


@pytest.mark.parametrize("driver", DRIVERS)
async def test_an_address_that_is_none_is_dropped_and_counted(driver):
    async with running(driver=driver) as endpoint, udp_device(endpoint) as device:
        if driver != "stock":  # the loop's own endpoint logs and swallows it
            endpoint.send(keepalive(1), Peer(Transport.UDP, "300.1.2.3", 5060))
        endpoint.send(keepalive(2), device.peer)

        assert (await device.hear()).branch == b"z9hG4bKk2"
        assert endpoint.stats.send_dropped == (driver != "stock")


# ---- ports ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
async def test_a_taken_port_is_a_conflict_that_names_its_setting(kind):
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(Conflict, match=r"sip\.port") as caught:
            async with running(port=port):
                pass

    assert str(port) in caught.value.message
    async with running(port=port) as endpoint:  # nothing of the failed start is left
        assert endpoint.port == port


async def test_a_foreign_address_is_invalid_and_names_its_setting():
    with pytest.raises(Invalid, match=r"sip\.host"):
        async with running(host="192.0.2.1"):
            pass


async def test_any_port_is_the_same_for_udp_and_tcp():
    async with running() as endpoint, udp_device(endpoint) as udp, tcp_device(endpoint) as tcp:
        udp.say(keepalive(1))
        tcp.say(keepalive(2))

        assert (await udp.hear()).status == (await tcp.hear()).status == 200


async def test_a_transport_that_is_off_is_not_listened_on():
    async with running(transports=("udp",)) as endpoint:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", endpoint.port)
    async with running(transports=("tcp",)) as endpoint:
        assert endpoint._udp is None
        assert not endpoint.connected(Peer(Transport.UDP, "127.0.0.1", 1))


# ---- TCP ------------------------------------------------------------------------------------


async def test_a_message_split_at_every_byte_is_answered():
    async with running() as endpoint, tcp_device(endpoint) as device:
        for number in range(0, len(examples.KEEPALIVE), 7):
            data = keepalive(number)
            device.say(data[:number])
            await device.writer.drain()
            await asyncio.sleep(0)
            device.say(data[number:])
            assert (await device.hear()).branch == b"z9hG4bKk%d" % number


async def test_single_bytes_are_answered():
    async with running() as endpoint, tcp_device(endpoint) as device:
        for i in range(len(examples.KEEPALIVE)):
            device.say(examples.KEEPALIVE[i : i + 1])
            await asyncio.sleep(0)

        assert (await device.hear()).status == 200


async def test_pipelined_messages_are_answered_in_order():
    async with running() as endpoint, tcp_device(endpoint) as device:
        device.say(b"".join(keepalive(number) for number in range(100)))

        branches = [(await device.hear()).branch for _ in range(100)]

        assert branches == [b"z9hG4bKk%d" % number for number in range(100)]


async def test_a_ping_is_answered_with_a_pong():
    async with running() as endpoint, tcp_device(endpoint) as device:
        device.say(b"\r\n\r\n")

        async with asyncio.timeout(WAIT_S):
            assert await device.reader.readexactly(2) == b"\r\n"


async def test_requests_go_over_the_devices_own_connection():
    async with running() as endpoint, tcp_device(endpoint) as device:
        peers: list[Peer] = []

        def on_request(received: RequestReceived) -> None:
            peers.append(received.peer)
            endpoint.respond(received.transaction, 200, "OK")

        endpoint.on_request = on_request
        device.say(examples.KEEPALIVE)
        await device.hear()
        waiting = asyncio.ensure_future(
            endpoint.request("MESSAGE", URI, ADDRESSES, b"q", peers[0], WAIT_S)
        )
        request = await device.hear()
        device.say(reply_bytes(request, 200, "OK", to_tag="t"))

        assert (await waiting).status == 200
        assert "SIP/2.0/TCP" in (request.header("via") or "")


async def test_a_lost_connection_fails_who_waits_and_is_reported():
    gone: list[Peer] = []
    async with running() as endpoint:
        endpoint.on_disconnect = gone.append
        async with tcp_device(endpoint) as device:
            device.say(examples.KEEPALIVE)
            await device.hear()
            peer = next(iter(endpoint._connections.values())).peer
            assert peer is not None
            assert endpoint.connected(peer)
            waiting = asyncio.ensure_future(
                endpoint.request("MESSAGE", URI, ADDRESSES, b"", peer, WAIT_S)
            )
            await device.hear()

        with pytest.raises(Unavailable, match="closed"):
            await waiting
        assert gone == [peer]
        assert not endpoint.connected(peer)
        with pytest.raises(Unavailable, match="closed"):
            await endpoint.request("MESSAGE", URI, ADDRESSES, b"", peer, WAIT_S)


async def test_a_stream_that_is_no_sip_is_closed():
    async with running() as endpoint, tcp_device(endpoint) as device:
        device.say(b"x\r\n" * 40_000)

        assert await device.closed()
        assert endpoint.connections == 0


async def test_connections_are_bounded_in_number():
    async with running(connections_max=2) as endpoint:
        async with tcp_device(endpoint) as one, tcp_device(endpoint) as two:
            for device in (one, two):
                device.say(examples.KEEPALIVE)
                await device.hear()
            async with tcp_device(endpoint) as three:
                assert await three.closed()
        await until(lambda: endpoint.connections == 0)
        async with tcp_device(endpoint) as four:
            four.say(examples.KEEPALIVE)
            assert (await four.hear()).status == 200
    assert endpoint.stats.refused_connections == 1


async def test_connections_of_one_host_are_bounded(monkeypatch):
    monkeypatch.setattr(module, "CONNECTIONS_PER_HOST_MAX", 1)
    async with running() as endpoint, tcp_device(endpoint) as one:
        one.say(examples.KEEPALIVE)
        await one.hear()
        async with tcp_device(endpoint) as two:
            assert await two.closed()


async def test_unfinished_messages_are_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(module, "BUFFERED_BYTES_MAX", 1000)
    async with running() as endpoint, tcp_device(endpoint) as device:
        device.say(b"MESSAGE sip:1@h SIP/2.0\r\n" + b"X: " + b"x" * 2000)

        assert await device.closed()
        await until(lambda: endpoint.connections == 0)
        assert endpoint._buffered == 0


async def test_a_silent_connection_is_closed_and_a_speaking_one_kept():
    clock = ManualClock()
    async with (
        running(clock, idle_s=600.0, first_message_s=30.0) as endpoint,
        tcp_device(endpoint) as mute,
        tcp_device(endpoint) as speaking,
    ):
        speaking.say(examples.KEEPALIVE)
        await speaking.hear()
        await until(lambda: endpoint.connections == 2)

        clock.now += 31.0
        endpoint._sweep()

        assert await mute.closed()
        await until(lambda: endpoint.connections == 1)
        clock.now += 600.0
        endpoint._sweep()
        assert await speaking.closed()


async def test_a_device_that_does_not_read_is_cut_off(monkeypatch):
    monkeypatch.setattr(module, "WRITE_BYTES_MAX", 1000)
    async with running() as endpoint, tcp_device(endpoint) as device:
        device.say(examples.KEEPALIVE)
        await device.hear()
        (connection,) = endpoint._connections.values()
        assert connection.peer is not None

        for _ in range(200):
            endpoint.send(b"x" * 100_000, connection.peer)

        await until(lambda: endpoint.connections == 0)
