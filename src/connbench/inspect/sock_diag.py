"""Asks the kernel for all TCP and UDP sockets of a network namespace (NETLINK_SOCK_DIAG, sock_diag(7)).

The kernel answers with a message a socket, in datagrams of up to 32 KB. numpy decodes about a megabyte of them at a
time: no step of Python is taken for a socket, and what is not decoded yet takes no more memory than that.
"""

from __future__ import annotations

import errno
import os
import platform
import socket
import struct
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from connbench.errors import EnvironmentFault, reason_of
from connbench.inspect.snapshot import Settings
from connbench.inspect.sockets import UNKNOWN, Array, Indices, Mask, Sockets, State
from connbench.linux import sysctl
from connbench.linux.netlink import (
    ANY,
    ERROR_AT,
    HEADER,
    NETLINK_SOCK_DIAG,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    REQUEST,
    SOCK_DIAG_BY_FAMILY,
    TCPDIAG_GETSOCK,
)
from connbench.model import PortRange, parse_ports
from connbench.model.time_wait import SETTINGS, TimeWait

LARGEST_DATAGRAM = 1 << 16
"""More bytes than a datagram of a dump has, which are up to 32 KB (`netlink_dump` in net/netlink/af_netlink.c)."""

BLOCK = 1 << 20
"""The bytes that are decoded at a time."""

TRIES = 3
"""How often a dump is read from the beginning if the kernel could not complete it."""

SEQUENCE = 0xC09BE9C5
"""Every header of an answer has this sequence number, and hardly anything else does: numpy finds the headers by it."""

TCP_REQUEST = struct.Struct("=4x2s2s16s16sIIIII")
"""struct inet_diag_req: family, lengths, extensions; then ports, addresses, device, cookie, states, tables."""

DIAG = np.dtype(
    [
        ("header", "V16"),
        ("family", "u1"),
        ("state", "u1"),
        ("timer", "u1"),
        ("retrans", "u1"),
        ("local_port", ">u2"),
        ("remote_port", ">u2"),
        ("local", ">u8", 2),
        ("remote", ">u8", 2),
        ("interface", "u4"),
        ("cookie", "u4", 2),
        ("expires_ms", "u4"),
        ("queues", "u4", 2),
        ("uid", "u4"),
        ("inode", "u4"),
    ]
)
"""struct nlmsghdr and struct inet_diag_msg. Attributes follow, which no column needs."""

TIMER_TIME_WAIT = 3
MAPPED = 0xFFFF
"""The high half of the low word of an IPv4-mapped address; the high word is 0 (RFC 4291, section 2.5.5.2)."""

Words = npt.NDArray[np.uint32]

_WAY_OUT = "give inspect a file instead, made by `ss -tano`"


def dump_sockets() -> Sockets:
    """All TCP and UDP sockets of the network namespace that this thread is in.

    Kernels before 6.8 do not list TCP sockets that are bound, but neither connected nor listening.

    Raises:
        EnvironmentFault: The kernel does not list them.
    """
    # The older of the two requests for TCP lists both families in one pass: asked for IPv6 alone, the kernel takes 0.5
    # s to pass over two million sockets of IPv4. Of UDP there is none.
    requests = [(socket.IPPROTO_TCP, TCPDIAG_GETSOCK, TCP_REQUEST.pack(b"", b"", b"", b"", 0, 0, 0, ANY, 0))]
    for family in (socket.AF_INET, socket.AF_INET6):
        body = REQUEST.pack(family, socket.IPPROTO_UDP, 0, ANY, b"", b"", b"", b"", 0, 0, 0)
        requests.append((socket.IPPROTO_UDP, SOCK_DIAG_BY_FAMILY, body))
    return Sockets.concatenate([part for request in requests for part in _dump(*request)])


def read_settings() -> Settings:
    """The settings of the network namespace that this thread is in.

    Raises:
        EnvironmentFault: Its port range cannot be read.
    """
    found = sysctl.read_all((sysctl.RESERVED_PORTS, sysctl.STEP_WIDTH))
    return Settings(
        PortRange(*sysctl.read_port_range()),
        parse_ports(found.get(sysctl.RESERVED_PORTS, "")),
        TimeWait.of(sysctl.read_all(SETTINGS)),
        platform.release(),
        int(found.get(sysctl.STEP_WIDTH, "0")),
    )


def _dump(protocol: int, kind: int, body: bytes) -> list[Sockets]:
    """The sockets that a request asks for, in parts.

    Args:
        protocol: Their protocol.
        kind: The type of the request, and of the messages that answer it.
        body: What follows the header of the request.

    Raises:
        EnvironmentFault: The kernel does not list them.
    """
    for tries_left in reversed(range(TRIES)):
        try:
            return [decode(words, kind, protocol) for words in _read_blocks(kind, body)]
        except OSError as error:
            if error.errno not in {errno.ENOBUFS, errno.EINTR} or not tries_left:
                raise EnvironmentFault(f"the kernel does not list its sockets: {reason_of(error)}", _WAY_OUT) from error
    raise AssertionError  # the last try returns or raises


def _read_blocks(kind: int, body: bytes) -> Iterator[Words]:
    """The answer to a request, in blocks of whole messages. Each block takes the place of the one before.

    Raises:
        OSError: As the kernel answered.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        flags = NLM_F_REQUEST | NLM_F_DUMP
        netlink.send(HEADER.pack(HEADER.size + len(body), kind, flags, SEQUENCE, 0) + body)
        block = memoryview(bytearray(BLOCK))
        is_done = False
        while not is_done:
            end = 0
            while not is_done and end <= BLOCK - LARGEST_DATAGRAM:
                size = netlink.recv_into(block[end:], LARGEST_DATAGRAM, socket.MSG_TRUNC)
                if not HEADER.size <= size <= LARGEST_DATAGRAM:
                    raise OSError(errno.EMSGSIZE, f"it sent a datagram of {size} bytes")
                is_done = _is_last(block[end : end + size])
                end += _aligned(size)
            yield np.frombuffer(block[:end], dtype=np.uint32)


def _is_last(datagram: memoryview) -> bool:
    """Whether a datagram ends the dump. The message that does is its last one, or its only one.

    Raises:
        OSError: The dump ends by an error.
    """
    _, kind, *_ = HEADER.unpack_from(datagram)
    if kind == NLMSG_ERROR:
        _raise_error(datagram)
    last = datagram[-HEADER.size - 4 :]
    length, kind, _, sequence, _ = HEADER.unpack_from(last)
    if (length, kind, sequence) != (len(last), NLMSG_DONE, SEQUENCE):
        return False
    _raise_error(last)
    return True


def _raise_error(message: memoryview) -> None:
    (number,) = struct.unpack_from("=i", message, ERROR_AT)
    if number < 0:
        raise OSError(-number, os.strerror(-number))


def _aligned(size: int) -> int:
    return size + 3 & ~3


def decode(words: Words, kind: int, protocol: int) -> Sockets:
    """The sockets of a block of messages.

    Args:
        words: The messages one after the other, each aligned to a word.
        kind: The type of those that have a socket.
        protocol: The protocol of the sockets.

    Raises:
        OSError: The sockets changed while the kernel listed them (EINTR), or the messages are none (EBADMSG).
    """
    starts = find_messages(words)
    halves = words.view(np.uint16)
    if (halves[2 * starts + 3] & NLM_F_DUMP_INTR).any():
        raise OSError(errno.EINTR, "they changed while it listed them")
    starts = starts[halves[2 * starts + 2] == kind]
    if (words[starts] < DIAG.itemsize).any():
        raise OSError(errno.EBADMSG, "a message is too short for a socket")
    room = max(0, len(words) - DIAG.itemsize // 4 + 1)
    found = np.ndarray((room,), DIAG, words, strides=(4,))[starts]  # a message can begin at each word
    (local, remote), is_ipv4 = _addresses(found)
    is_time_wait = (found["timer"] == TIMER_TIME_WAIT) & (found["state"] == State.TIME_WAIT)
    return Sockets.of(
        protocol=np.full(len(found), protocol, dtype=np.uint8),
        family=np.where(is_ipv4, np.uint8(4), np.uint8(6)),
        state=found["state"].copy(),  # a view would keep `found`
        expires_ms=np.where(is_time_wait, found["expires_ms"].view(np.int32), np.int32(UNKNOWN)),
        interface=found["interface"].copy(),
        local=local,
        remote=remote,
        local_port=found["local_port"],
        remote_port=found["remote_port"],
        inode=found["inode"],
        cookie=found["cookie"][:, 0].astype(np.uint64) | found["cookie"][:, 1].astype(np.uint64) << np.uint64(32),
    )


def find_messages(words: Words) -> Indices:
    """The indices at which the messages of a block begin.

    numpy looks for the sequence number, and checks that each message found ends where the next one begins. If not, the
    number is also in a message, as in an address, and the messages are followed one by one.

    Raises:
        OSError: The block is not made of messages (EBADMSG).
    """
    starts = np.flatnonzero(words == SEQUENCE) - 2
    ends = starts + _lengths(words[starts])
    if np.array_equal(np.append(starts, len(words)), np.append(0, ends)):
        return starts
    followed, at = [], 0
    while at < len(words):
        followed.append(at)
        length = int(_lengths(words[at]))
        if length < HEADER.size // 4 or at + length > len(words):
            raise OSError(errno.EBADMSG, "it sent messages that cannot be read")
        at += length
    return np.array(followed, dtype=np.intp)


def _lengths(sizes: npt.NDArray[np.uint32] | np.uint32) -> Indices:
    """Sizes in bytes as numbers of words."""
    return (np.asarray(sizes, dtype=np.intp) + 3) >> 2


def _addresses(found: Array) -> tuple[list[Array], Mask]:
    """The local and the remote addresses as `Sockets` has them, and which sockets are of IPv4.

    The kernel gives an IPv4 address as the first word of 32 bits; the others are 0.
    """
    is_ipv4 = found["family"] == socket.AF_INET
    ends = [found["local"], found["remote"]]
    is_mapped = ~is_ipv4 & np.logical_or.reduce(
        [(end[:, 0] == 0) & (end[:, 1] >> np.uint64(32) == MAPPED) for end in ends]
    )
    addresses = []
    for end in ends:
        high, low = end[:, 0].astype(np.uint64), end[:, 1].astype(np.uint64)
        words = np.empty((len(found), 2), dtype=np.uint64)
        words[:, 0] = np.where(is_ipv4 | is_mapped, np.uint64(0), high)
        words[:, 1] = np.where(is_ipv4, high >> np.uint64(32), np.where(is_mapped, low & np.uint64(0xFFFFFFFF), low))
        addresses.append(words)
    return addresses, is_ipv4 | is_mapped
