"""Asks the kernel for all TCP and UDP sockets of a network namespace (NETLINK_SOCK_DIAG, sock_diag(7))."""

from __future__ import annotations

import os
import platform
import socket
import struct
from collections.abc import Iterator

import numpy as np

from connbench.errors import EnvironmentFault
from connbench.inspect.snapshot import Settings
from connbench.inspect.sockets import Array, Mask, Sockets, State
from connbench.linux import sysctl
from connbench.linux.sock_destroy import ANY, HEADER, NETLINK_SOCK_DIAG, NLM_F_REQUEST, REQUEST
from connbench.model import PortRange, parse_ports
from connbench.model.time_wait import SETTINGS, TimeWait

SOCK_DIAG_BY_FAMILY = 20
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLM_F_DUMP = 0x300
LARGEST_DATAGRAM = 1 << 16

DIAG = np.dtype(
    [
        ("header", "V16"),
        ("family", "u1"),
        ("state", "u1"),
        ("timer", "u1"),
        ("retrans", "u1"),
        ("local_port", ">u2"),
        ("remote_port", ">u2"),
        ("local", ">u4", 4),
        ("remote", ">u4", 4),
        ("interface", "u4"),
        ("cookie", "u4", 2),
        ("expires_ms", "u4"),
        ("queues", "u4", 2),
        ("uid", "u4"),
        ("inode", "u4"),
    ]
)
"""struct nlmsghdr and struct inet_diag_msg."""

TIMER_TIME_WAIT = 3
MAPPED = 0xFFFF
"""The third word of an IPv4-mapped address; the first two are 0 (RFC 4291, section 2.5.5.2)."""


def dump_sockets() -> Sockets:
    """All sockets of the network namespace that this thread is in.

    Raises:
        EnvironmentFault: The kernel does not list them.
    """
    parts = [
        _decode(protocol, message)
        for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP)
        for family in (socket.AF_INET, socket.AF_INET6)
        for message in _dump(family, protocol)
    ]
    return Sockets.concatenate(parts)


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


def _dump(family: int, protocol: int) -> Iterator[bytes]:
    """The messages that list the sockets of a family, one datagram after the other."""
    body = REQUEST.pack(family, protocol, 0, ANY, b"", b"", b"", b"", 0, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.send(HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 1, 0) + body)
        while True:
            data = netlink.recv(LARGEST_DATAGRAM)
            _, kind, *_ = HEADER.unpack_from(data)
            if kind == NLMSG_DONE:
                return
            if kind == NLMSG_ERROR:
                (number,) = struct.unpack_from("=i", data, HEADER.size)
                raise EnvironmentFault(
                    f"the kernel does not list its sockets: {os.strerror(-number)}",
                    "give a file made by `ss -tano` instead",
                )
            yield data


def _decode(protocol: int, data: bytes) -> Sockets:
    """The sockets of a datagram's messages."""
    begins, at = [], 0
    while at < len(data):
        length, kind, *_ = HEADER.unpack_from(data, at)
        if kind == SOCK_DIAG_BY_FAMILY:
            begins.append(at)
        at += length + 3 & ~3
    raw = np.frombuffer(data, dtype=np.uint8)
    found = raw[np.array(begins, dtype=np.intp)[:, None] + np.arange(DIAG.itemsize)].view(DIAG)[:, 0]
    local, remote = _words(found["local"]), _words(found["remote"])
    family, is_mapped = np.where(found["family"] == socket.AF_INET, 4, 6), _is_mapped(found["remote"])
    is_mapped |= _is_mapped(found["local"])
    is_ipv4 = (family == 4) & ~is_mapped
    for words, source in ((local, found["local"]), (remote, found["remote"])):
        words[is_ipv4, 0], words[is_ipv4, 1] = 0, source[is_ipv4, 0]
        words[is_mapped, 0], words[is_mapped, 1] = 0, source[is_mapped, 3]
    is_time_wait = (found["timer"] == TIMER_TIME_WAIT) & (found["state"] == State.TIME_WAIT)
    return Sockets.of(
        protocol=np.full(len(found), protocol),
        family=np.where(is_mapped, 4, family),
        state=found["state"],
        expires_ms=np.where(is_time_wait, np.minimum(found["expires_ms"], 2**31 - 1).astype(np.int64), -1),
        interface=found["interface"],
        local=local,
        remote=remote,
        local_port=found["local_port"],
        remote_port=found["remote_port"],
        inode=found["inode"],
        cookie=found["cookie"][:, 0].astype(np.uint64) | found["cookie"][:, 1].astype(np.uint64) << np.uint64(32),
    )


def _words(address: Array) -> Array:
    """Addresses of four words of 32 bits as two of 64."""
    four = address.astype(np.uint64)
    return np.stack((four[:, 0] << np.uint64(32) | four[:, 1], four[:, 2] << np.uint64(32) | four[:, 3]), axis=1)


def _is_mapped(address: Array) -> Mask:
    found: Mask = (address[:, 0] == 0) & (address[:, 1] == 0) & (address[:, 2] == MAPPED)
    return found
