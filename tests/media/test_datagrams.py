"""recvmmsg: batches, sources, moments of arrival, on real sockets."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from vsp.errors import Invalid
from vsp.media.datagrams import SLOT_BYTES, Datagrams, plain_host, stamp_arrivals


@contextmanager
def receiving(
    senders: int = 1, host: str = "127.0.0.1"
) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A receiver, and senders connected to it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    receiver, *made = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(senders + 1))
    receiver.bind((host, 0))
    for sock in made:
        sock.connect(receiver.getsockname())
    try:
        yield receiver, made
    finally:
        for sock in (receiver, *made):
            sock.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_many_datagrams_come_in_one_call_with_their_sources(host: str):
    with receiving(2, host) as (receiver, (one, two)):
        for n in range(10):
            (one if n % 3 else two).send(bytes([n]) * (n + 1))
        datagrams = Datagrams()

        assert datagrams.receive(receiver.fileno()) == 10
        assert [bytes(f) for f in datagrams.frames()] == [bytes([n]) * (n + 1) for n in range(10)]
        source = datagrams.source(1)
        assert str(source) == "{}:{}".format(*one.getsockname())
        assert datagrams.from_source(source) == [n for n in range(10) if n % 3]
        assert not datagrams.all_from(source)
        assert datagrams.receive(receiver.fileno()) == 0
        assert datagrams.frames() == []


def test_all_from_one_source_is_seen_at_once_also_after_a_larger_batch_of_others():
    with receiving(2) as (receiver, (one, two)):
        datagrams = Datagrams()
        for _ in range(5):
            two.send(b"two")
        datagrams.receive(receiver.fileno())
        stranger = datagrams.source(0)
        for _ in range(3):
            one.send(b"one")
        datagrams.receive(receiver.fileno())

        assert datagrams.all_from(datagrams.source(2))
        assert not datagrams.all_from(stranger)


def test_each_datagram_has_the_moment_at_which_it_came_and_not_that_of_the_reading():
    with receiving() as (receiver, (camera,)):
        stamp_arrivals(receiver)
        time.sleep(0.1)  # the kernel's own work queue begins to stamp a moment after it is told
        moments_us = []
        for _ in range(3):
            moments_us.append(time.time_ns() // 1000)
            camera.send(b"picture")
            time.sleep(0.02)  # what is measured
        moments_us.append(time.time_ns() // 1000)
        datagrams = Datagrams()
        datagrams.receive(receiver.fileno())

        for n in range(3):
            assert moments_us[n] <= datagrams.arrival_us(n) < moments_us[n + 1]


def test_a_socket_that_does_not_stamp_says_so_even_after_one_that_did():
    with receiving() as (stamping, (one,)), receiving() as (plain, (two,)):
        stamp_arrivals(stamping)
        one.send(b"stamped")
        two.send(b"plain")
        datagrams = Datagrams()
        datagrams.receive(stamping.fileno())
        assert datagrams.arrival_us(0) > 0

        datagrams.receive(plain.fileno())
        assert datagrams.arrival_us(0) == 0


def test_a_cut_datagram_is_told_from_one_that_just_fits_and_keeps_its_place():
    with receiving() as (receiver, (camera,)):
        for size in (SLOT_BYTES, SLOT_BYTES + 1, 5):
            camera.send(bytes(size))
        datagrams = Datagrams()
        datagrams.receive(receiver.fileno())

        assert datagrams.truncated() == [1]
        assert [len(frame) for frame in datagrams.frames()] == [SLOT_BYTES, 0, 5]


def test_a_closed_socket_is_an_error_and_not_silence():
    with pytest.raises(OSError, match="Bad file descriptor"):
        Datagrams().receive(-1)


def test_one_address_has_one_spelling():
    assert plain_host("::ffff:192.0.2.7") == "192.0.2.7"
    assert plain_host("fe80::1%eth0") == plain_host("FE80:0:0::1") == "fe80::1"
    with pytest.raises(Invalid):
        plain_host("camera")
