"""Asks the kernel for all sockets of a network namespace (NETLINK_SOCK_DIAG, sock_diag(7)), and reads its answer.

The kernel takes about a microsecond a socket. A thread reads the answer, so that numpy can be loaded meanwhile, and
what is read already be decoded. recvmmsg(2), which Python lacks, reads 4 MB in one call: this thread waits for Python's
global lock after each call, and with one call a datagram it would wait most of the time.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Final, NamedTuple, Self

from connbench.linux.netlink import (
    ANY,
    ERROR_AT,
    HEADER,
    NETLINK_SOCK_DIAG,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    REQUEST,
    SOCK_DIAG_BY_FAMILY,
    TCPDIAG_GETSOCK,
)

SEQUENCE = 0xC09BE9C5
"""The sequence number of every request, and so of every message of its answer; few messages have it elsewhere, too."""

TCP_REQUEST = struct.Struct("=4x2s2s16s16sIIIII")
"""struct inet_diag_req: family, lengths, extensions; then ports, addresses, device, cookie, states, tables."""

SLOT = 1 << 15
"""The bytes for a datagram. The kernel makes none as long (`netlink_dump` in net/netlink/af_netlink.c)."""

SLOTS = 128
"""The number of datagrams that are read in a call."""

BUFFERS = 3
"""With so many buffers, of 4 MB each, the kernel need not wait while numpy is loaded."""

DATAGRAMS = 32
"""The number of datagrams that are passed on at a time: 1 MB, which fits into the caches."""

MSG_WAITFORONE = 0x10000
"""recvmmsg() waits for a datagram, and takes what there is after it. While a dump goes on, there always is one."""

_libc = ctypes.CDLL(None, use_errno=True)


class Request(NamedTuple):
    """A request for the sockets of a protocol.

    Attributes:
        protocol: The protocol.
        kind: The type of the request, and of each message with a socket in the answer.
        body: What follows the header.
    """

    protocol: int
    kind: int
    body: bytes


REQUESTS: Final = (
    # The older request lists both families in one pass: asked for IPv6 alone, the kernel takes half a second to pass
    # over two million sockets of IPv4. It is for TCP only.
    Request(socket.IPPROTO_TCP, TCPDIAG_GETSOCK, TCP_REQUEST.pack(b"", b"", b"", b"", 0, 0, 0, ANY, 0)),
    *(
        Request(
            socket.IPPROTO_UDP,
            SOCK_DIAG_BY_FAMILY,
            REQUEST.pack(family, socket.IPPROTO_UDP, 0, ANY, b"", b"", b"", b"", 0, 0, 0),
        )
        for family in (socket.AF_INET, socket.AF_INET6)
    ),
)


class SockDump:
    """A dump of the sockets of the network namespace that the calling thread is in. Making it begins to read.

    Iterate over it once, in its context: each value is a request and whole messages that answer it. The iteration
    raises OSError if the kernel has no such socket, gives no thread, or ends the dump by an error.

    Args:
        requests: What to ask for, one after the other.

    Attributes:
        seconds: How long the kernel took for all of it, once it has answered.
    """

    def __init__(self, requests: tuple[Request, ...] = REQUESTS) -> None:
        self._requests = requests
        self._free: SimpleQueue[_Buffer] = SimpleQueue()
        self._full: SimpleQueue[tuple[Request, _Buffer] | BaseException | None] = SimpleQueue()
        self._is_over = False
        self.seconds = 0.0
        self._open = ExitStack()
        try:
            netlink = self._open.enter_context(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG))
            for _ in range(BUFFERS):
                self._free.put(_Buffer())
            thread = threading.Thread(target=self._read, args=(netlink,), daemon=True)
            thread.start()
            self._open.callback(thread.join)
        except OSError as error:
            self._full.put(error)
        except RuntimeError:  # "can't start new thread"
            self._full.put(OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading."""
        self._is_over = True
        self._free.put(_Buffer(0))  # wakes the thread
        self._open.close()

    def __iter__(self) -> Iterator[tuple[Request, bytes]]:
        while (found := self._full.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            request, buffer = found
            for messages in buffer.pieces():
                yield request, messages
            self._free.put(buffer)

    def _read(self, netlink: socket.socket) -> None:
        begun = time.monotonic()
        try:
            for request in self._requests:
                length, flags = HEADER.size + len(request.body), NLM_F_REQUEST | NLM_F_DUMP
                netlink.send(HEADER.pack(length, request.kind, flags, SEQUENCE, 0) + request.body)
                is_last = False
                while not is_last:
                    buffer = self._free.get()
                    if self._is_over:
                        return
                    is_last = buffer.fill(netlink.fileno())
                    self._full.put((request, buffer))
            self.seconds = time.monotonic() - begun
            self._full.put(None)
        except BaseException as error:  # noqa: BLE001  # the other thread raises it, and would wait for ever without it
            self._full.put(error)


class _Vector(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(_Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = (("header", _Header), ("size", ctypes.c_uint))


class _Buffer:
    """Room for some datagrams."""

    def __init__(self, slots: int = SLOTS) -> None:
        self._bytes = bytearray(slots * SLOT)
        self._messages = (_Message * slots)()
        self._sizes: list[int] = []
        if slots:
            begin = ctypes.addressof(ctypes.c_char.from_buffer(self._bytes))
            self._vectors = (_Vector * slots)(*(_Vector(begin + i * SLOT, SLOT) for i in range(slots)))
            for message, vector in zip(self._messages, self._vectors, strict=True):
                message.header.vectors, message.header.vector_count = ctypes.pointer(vector), 1

    def fill(self, descriptor: int) -> bool:
        """Read datagrams of a netlink socket; returns whether the last of them ends the dump.

        Raises:
            OSError: The dump ends by an error, or the socket has one.
        """
        while (number := _libc.recvmmsg(descriptor, self._messages, len(self._messages), MSG_WAITFORONE, None)) < 0:
            if (reason := ctypes.get_errno()) != errno.EINTR:
                raise OSError(reason, os.strerror(reason))
        received = self._messages[:number]
        if any(message.header.flags & socket.MSG_TRUNC for message in received):
            raise OSError(errno.EMSGSIZE, f"it sent a datagram of more than {SLOT} bytes")
        self._sizes = [message.size for message in received]
        return _is_last(self._datagram(number - 1))

    def pieces(self) -> Iterator[bytes]:
        """What was read, in pieces of some datagrams."""
        for first in range(0, len(self._sizes), DATAGRAMS):
            last = min(first + DATAGRAMS, len(self._sizes))
            yield b"".join(self._datagram(i) for i in range(first, last))

    def _datagram(self, index: int) -> memoryview:
        return memoryview(self._bytes)[index * SLOT : index * SLOT + self._sizes[index]]


def _is_last(datagram: memoryview) -> bool:
    """Whether a datagram ends the dump. The message that does is its last one, or its only one.

    Raises:
        OSError: The dump ends by an error.
    """
    _, kind, *_ = HEADER.unpack_from(datagram)
    if kind == NLMSG_ERROR:
        _check_error(datagram)
    end = datagram[-ERROR_AT - 4 :]
    length, kind, _, sequence, _ = HEADER.unpack_from(end)
    if (length, kind, sequence) != (len(end), NLMSG_DONE, SEQUENCE):
        return False
    _check_error(end)
    return True


def _check_error(message: memoryview) -> None:
    number: int
    (number,) = struct.unpack_from("=i", message, ERROR_AT)
    if number < 0:
        raise OSError(-number, os.strerror(-number))
