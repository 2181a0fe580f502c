"""Network interfaces of a namespace: the loopback device and a veth pair, with addresses and routes, set up by netlink.

Netlink is used in a child process: pyroute2 takes 34 MB and 0.2 s to load, and the engine and its workers stay small.
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from dataclasses import dataclass
from typing import Any

from connbench.errors import EnvironmentFault, reason_of
from connbench.linux.address_family import enable_ipv6, family_of
from connbench.linux.faults import limit_fault
from connbench.linux.process import CLONE_NEWNET, in_child, set_namespace

NO_LOOPBACK = "the loopback interface of the new namespace cannot be set up"

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
IFREQ = "16sh22x"
"""struct ifreq with an interface's name and flags (net/if.h)."""

IFA_F_NODAD = 0x02
"""No duplicate address detection (linux/if_addr.h): an IPv6 address can be used at once."""

MOST_PACKETS = 1 << 20
"""The length of netem's queue. It drops packets beyond it; the default of 1,000 would be too few."""


@dataclass(frozen=True, slots=True)
class _End:
    """One end of the veth pair: device, MAC address and IP addresses. The first is the next hop of the other end."""

    device: str
    mac: str
    addresses: tuple[str, ...]


def bring_up_loopback(addresses: tuple[str, ...] = ()) -> None:
    """Set up `lo` of this network namespace, and give it each of `addresses` as a /32 or /128.

    Without an address this takes two system calls (netdevice(7)), and does not load pyroute2: every round does it.

    Raises:
        EnvironmentFault: The kernel does not allow it.
        OSError: This process lacks a resource: see `faults.limit_fault`.
    """
    if not addresses:
        _set_loopback_up()
        return

    def work() -> None:
        from pyroute2 import IPRoute  # noqa: PLC0415  # see the module's docstring

        with IPRoute() as route:
            index = _set_up(route, "lo")
            _add_addresses(route, index, addresses)

    in_child(work, NO_LOOPBACK, "try --isolate never")


def _set_loopback_up() -> None:
    try:
        enable_ipv6()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            answer = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack(IFREQ, b"lo", 0))
            _, flags = struct.unpack(IFREQ, answer)
            fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack(IFREQ, b"lo", flags | IFF_UP))
    except (OSError, ValueError) as error:
        if limit_fault(error):
            raise  # a limit of this process, no policy
        raise EnvironmentFault(f"{NO_LOOPBACK}: {reason_of(error)}", "try --isolate never") from error


def connect_by_veth(far: int, near_addresses: tuple[str, ...], far_addresses: tuple[str, ...], delay_ms: float) -> None:
    """Connect this network namespace to another by a veth pair. Each end reaches all addresses of the other end.

    Each end has a permanent neighbour entry for the other, so that no packet waits for ARP or neighbour discovery. The
    other end's first address is the next hop of all, so that thousands of addresses need one entry.

    Args:
        far: The descriptor of the other namespace.
        near_addresses: The addresses of this end, of one family. The first is the source of sockets that do not bind().
        far_addresses: The addresses of the other end, of the same family.
        delay_ms: By how much this end's queue delays each packet, in ms.

    Raises:
        EnvironmentFault: The kernel has no veth or no netem, or does not allow it.
    """
    # Locally administered MAC addresses.
    near_end = _End("near", "02:00:00:00:00:01", near_addresses)
    far_end = _End("far", "02:00:00:00:00:02", far_addresses)

    def work() -> None:
        from pyroute2 import IPRoute  # noqa: PLC0415  # see the module's docstring

        with IPRoute() as route:
            peer = {"ifname": far_end.device, "address": far_end.mac, "net_ns_fd": far}
            route.link("add", ifname=near_end.device, kind="veth", address=near_end.mac, peer=peer)
            if delay_ms:
                _delay(route, near_end.device, delay_ms)
            _connect(route, near_end, far_end)
        set_namespace(far, CLONE_NEWNET)
        with IPRoute() as route:
            _connect(route, far_end, near_end)

    in_child(
        work,
        "no veth pair can be set up between the new namespaces",
        "it needs CONFIG_VETH (the module veth); leave out --link veth otherwise",
    )


def _connect(route: Any, own: _End, other: _End) -> None:  # noqa: ANN401  # pyroute2 has no types
    _set_up(route, "lo")
    index = _set_up(route, own.device)
    _add_addresses(route, index, own.addresses)
    hop = other.addresses[0]
    family = int(family_of(hop))
    route.neigh("add", family=family, ifindex=index, dst=hop, lladdr=other.mac, state="permanent")
    route.route(
        "add",
        family=family,
        dst="::/0" if family == socket.AF_INET6 else "0.0.0.0/0",
        gateway=hop,
        oif=index,
        prefsrc=own.addresses[0],
        flags=["onlink"],
    )


def _delay(route: Any, device: str, delay_ms: float) -> None:  # noqa: ANN401  # as above
    from pyroute2 import NetlinkError  # noqa: PLC0415  # as above

    index = route.link_lookup(ifname=device)[0]
    try:
        route.tc("add", "netem", index, 0x10000, delay=round(delay_ms * 1000), limit=MOST_PACKETS)
    except NetlinkError as error:
        if error.code != errno.ENOENT:
            raise
        raise EnvironmentFault(
            f"--delay {delay_ms:g}ms: this kernel has no netem",
            "it needs CONFIG_NET_SCH_NETEM (the module sch_netem); leave out --delay otherwise",
        ) from error


def _set_up(route: Any, device: str) -> int:  # noqa: ANN401  # as above
    """Set a device up; returns its index."""
    enable_ipv6()
    index: int = route.link_lookup(ifname=device)[0]
    route.link("set", index=index, state="up")
    return index


def _add_addresses(route: Any, index: int, addresses: tuple[str, ...]) -> None:  # noqa: ANN401  # as above
    for address in addresses:
        if ":" in address:
            route.addr("add", index=index, address=address, prefixlen=128, flags=IFA_F_NODAD)
        else:
            route.addr("add", index=index, address=address, prefixlen=32)
