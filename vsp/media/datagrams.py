"""recvmmsg(2): many datagrams in one system call, each with its source and its moment of arrival.

One `Datagrams` serves every port of a worker. The kernel stamps each datagram as it comes
(SO_TIMESTAMPNS), so that a stream which is read only now and then still knows when its pictures
really arrived. Everything is preallocated, and looked at through strided views of the structures
themselves: what is done per datagram happens in C.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Sequence

from vsp.errors import Invalid

SLOT_BYTES = 9_216
"""Room for one datagram: a jumbo frame. Longer ones arrive cut and are counted, not used."""

SLOTS = 256
"""Datagrams of one system call: 60 ms of a 45 Mbit/s stream."""

NAME_BYTES = 32
"""Room for a sockaddr_in (16 bytes) or a sockaddr_in6 (28), and zeros behind it."""

CONTROL_BYTES = 32
"""Room for exactly one control message: cmsghdr and the timespec of SO_TIMESTAMPNS."""

_SO_TIMESTAMPNS = 35
_MSG_DONTWAIT = 0x40
_MSG_TRUNC = 0x20


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _MsgHdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("iov", ctypes.c_void_p),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _MMsgHdr(ctypes.Structure):
    _fields_ = (("header", _MsgHdr), ("length", ctypes.c_uint))


_HEADER_BYTES = ctypes.sizeof(_MMsgHdr)


def stamp_arrivals(sock: socket.socket) -> None:
    """Have the kernel note when each datagram of this socket came."""
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)


class Datagrams:
    """What one `receive` brought, valid until the next. Indexes are in order of arrival."""

    def __init__(self) -> None:
        self._buffer = bytearray(SLOTS * SLOT_BYTES)
        self._names = bytearray(SLOTS * NAME_BYTES)
        self._controls = bytearray(SLOTS * CONTROL_BYTES)
        self._vectors = (_IoVec * SLOTS)()
        self._headers = (_MMsgHdr * SLOTS)()
        self._fill_in()
        self._address = ctypes.addressof(self._headers)
        self._unused = bytes(self._headers)
        self._used = 0
        view = memoryview(self._buffer)
        self._slots = [view[i * SLOT_BYTES : (i + 1) * SLOT_BYTES] for i in range(SLOTS)]
        words = memoryview(self._headers).cast("B").cast("I")
        self._lengths = words[_MMsgHdr.length.offset // 4 :: _HEADER_BYTES // 4]
        self._flags = words[_MsgHdr.flags.offset // 4 :: _HEADER_BYTES // 4]
        longs = memoryview(self._headers).cast("B").cast("Q")
        self._control_lengths = longs[_MsgHdr.control_length.offset // 8 :: _HEADER_BYTES // 8]
        self._stamps = memoryview(self._controls).cast("q")
        self._sizes: list[int] = []
        # PyDLL keeps the interpreter lock: the call never blocks, and giving the lock away would
        # let any other thread keep it for its whole turn.
        self._recvmmsg = ctypes.PyDLL(None, use_errno=True).recvmmsg
        self._recvmmsg.argtypes = (
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_uint,
            ctypes.c_int,
            ctypes.c_void_p,
        )

    def _fill_in(self) -> None:
        base, names, controls = map(_address_of, (self._buffer, self._names, self._controls))
        for index in range(SLOTS):
            vector, header = self._vectors[index], self._headers[index].header
            vector.base = base + index * SLOT_BYTES
            vector.length = SLOT_BYTES
            header.name = names + index * NAME_BYTES
            header.name_length = NAME_BYTES
            header.iov = ctypes.addressof(vector)
            header.iov_length = 1
            header.control = controls + index * CONTROL_BYTES
            header.control_length = CONTROL_BYTES

    def receive(self, fd: int) -> int:
        """Number of datagrams now here; 0 when none waits."""
        if self._used:
            ctypes.memmove(self._address, self._unused, self._used * _HEADER_BYTES)
        count: int = self._recvmmsg(fd, self._address, SLOTS, _MSG_DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            # An ICMP "port unreachable" for an RTCP report of ours surfaces here; it is no matter.
            if number not in {errno.EAGAIN, errno.EINTR, errno.ECONNREFUSED}:
                raise OSError(number, os.strerror(number))
            count = 0
        self._used = count
        self._sizes = self._lengths[:count].tolist()
        return count

    def frames(self) -> list[memoryview]:
        """The datagrams; one that was cut is empty, so that indexes stay."""
        frames = [slot[:size] for slot, size in zip(self._slots, self._sizes, strict=False)]
        for index in self.truncated():
            frames[index] = frames[index][:0]
        return frames

    def truncated(self) -> Sequence[int]:
        """Indexes of those that did not fit a slot."""
        if SLOT_BYTES not in self._sizes:
            return ()
        return [index for index in range(self._used) if self._flags[index] & _MSG_TRUNC]

    def all_from(self, source: Source) -> bool:
        """Whether every one came from exactly this address and port."""
        return self._names.startswith(source.name * self._used)

    def from_source(self, source: Source) -> list[int]:
        """Indexes of those that did."""
        return [index for index in range(self._used) if self._name(index) == source.name]

    def source(self, index: int) -> Source:
        return Source(self._name(index))

    def arrival_us(self, index: int) -> int:
        """Wall time at which it reached this machine; 0 where the socket does not stamp."""
        if self._control_lengths[index] != CONTROL_BYTES:
            return 0
        # cmsghdr takes two words of four; then tv_sec, tv_nsec.
        return self._stamps[index * 4 + 2] * 1_000_000 + self._stamps[index * 4 + 3] // 1000

    def _name(self, index: int) -> bytes:
        return bytes(self._names[index * NAME_BYTES : (index + 1) * NAME_BYTES])


def _address_of(buffer: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(buffer))


class Source:
    """Address and port of a sender, as the kernel wrote it (sockaddr_in, sockaddr_in6)."""

    __slots__ = ("host", "name", "port")

    def __init__(self, name: bytes) -> None:
        family = int.from_bytes(name[:2], "little")
        self.name = name
        self.port = int.from_bytes(name[2:4], "big")
        if family == socket.AF_INET6:
            self.host = plain_host(socket.inet_ntop(socket.AF_INET6, name[8:24]))
        else:
            self.host = socket.inet_ntoa(name[4:8])

    @classmethod
    def of(cls, host: str, port: int) -> Source:
        """A sender that is known by other means than its datagrams."""
        number = port.to_bytes(2, "big")
        if ":" in host:
            name = struct.pack("<H", socket.AF_INET6) + number + bytes(4)
            return cls(name + socket.inet_pton(socket.AF_INET6, host) + bytes(8))
        return cls(struct.pack("<H", socket.AF_INET) + number + socket.inet_aton(host) + bytes(24))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def plain_host(host: str) -> str:
    """One spelling for each address; an IPv4 address mapped into IPv6 is the IPv4 address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError as error:
        raise Invalid(f"{host!r} is not an address") from error
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)
