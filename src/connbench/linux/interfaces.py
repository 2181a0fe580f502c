"""Network interfaces of namespaces: the loopback device and veth pairs, with addresses and routes, set up by netlink.

Netlink is used in a child process: pyroute2 takes 34 MB and 0.2 s to load, and the engine and its workers stay small.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from connbench.errors import EnvironmentFault, TargetError, reason_of
from connbench.linux import sysctl
from connbench.linux.address_family import enable_ipv6, family_of
from connbench.linux.faults import limit_fault
from connbench.linux.netlink import ERROR_AT, NLM_F_ACK, NLM_F_REQUEST
from connbench.linux.process import CLONE_NEWNET, in_child, open_own_namespace, set_namespace

NO_LOOPBACK = "the loopback interface of the new namespace cannot be set up"

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 0x1
IFREQ = "16sh22x"
"""struct ifreq with an interface's name and flags (net/if.h)."""

IFA_F_NODAD = 0x02
"""No duplicate address detection (linux/if_addr.h): an IPv6 address can be used at once."""

NEAR = "near"
"""The end of a veth pair in a namespace that connects."""

HOST_DEVICE = "connbench"
"""The end of a veth pair that a run adds to the host's namespace."""

HOPS = {socket.AF_INET: "169.254.1.1", socket.AF_INET6: "fe80::1"}
"""The next hop of a namespace whose route leads through the host: link-local addresses, which no device has."""

CARRIES_WITHIN_S = 10.0
"""Seconds that a new pair has until it carries packets."""

REMOVED_WITHIN_S = 3.0
"""Seconds within which the kernel removes the pair of a namespace that has ended."""

RTM_DELLINK = 17
DELLINK = "=IHHIIHHiII"
"""struct nlmsghdr and struct ifinfomsg, whose third member is the index of a device (linux/rtnetlink.h)."""

RTN_LOCAL = 2
"""The type of a route to an address of this namespace (linux/rtnetlink.h)."""

RTM_F_FIB_MATCH = 0x2000
"""RTM_GETROUTE answers with the route that matches, and its length (linux/rtnetlink.h)."""

MOST_PACKETS = 1 << 20
"""The length of netem's queue. It drops packets beyond it; the default of 1,000 would be too few."""


NEAR_MAC, FAR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
"""The MAC addresses of the two ends of each veth pair, locally administered."""

TO_SERVER = "server"
"""The device by which packets leave a router for the server."""

NEEDS_VETH = "it needs CONFIG_VETH (the module veth)"


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a veth pair.

    Attributes:
        device: Its name.
        mac: Its MAC address.
        addresses: Its IP addresses.
        hop: The next hop of the other end, by default the first of the addresses. It stands for `mac` alone, and need
            not be an address of the device.
    """

    device: str
    mac: str
    addresses: tuple[str, ...]
    hop: str = ""

    @property
    def next_hop(self) -> str:
        """The address that the other end's routes name."""
        return self.hop or self.addresses[0]


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
    near_end, far_end = _End(NEAR, NEAR_MAC, near_addresses), _End("far", FAR_MAC, far_addresses)

    def work() -> None:
        from pyroute2 import IPRoute  # noqa: PLC0415  # see the module's docstring

        with IPRoute() as route:
            _add_pair(route, near_end, far_end, far)
            if delay_ms:
                _delay(route, near_end.device, delay_ms)
            _connect(route, near_end, far_end)
        _connect_in(far, far_end, near_end)

    in_child(
        work,
        "no veth pair can be set up between the new namespaces",
        f"{NEEDS_VETH}; leave out --link veth otherwise",
    )


def connect_through_router(
    router: int,
    router_address: str,
    clients: Sequence[tuple[int, str]],
    server: tuple[int, tuple[str, ...]],
    delay_ms: float,
) -> None:
    """Connect client namespaces, a router and a server, each to the router by a veth pair of its own.

    Each client reaches the router and the server, and these reach each client. Neighbour entries are permanent, as for
    `connect_by_veth`. The router does not forward anything yet.

    Args:
        router: The descriptor of the router's namespace.
        router_address: The router's only address, at its end of the server's pair: to masquerade takes that.
        clients: The descriptor of each client namespace, and its address.
        server: The descriptor of the server's namespace, and its addresses.
        delay_ms: By how much each client's queue delays each packet, in ms.

    Raises:
        EnvironmentFault: As for `connect_by_veth`.
    """
    inner = [_End(f"client{number}", FAR_MAC, (), router_address) for number in range(len(clients))]
    outer = _End(TO_SERVER, NEAR_MAC, (router_address,))
    near_ends = [_End(NEAR, NEAR_MAC, (address,)) for _, address in clients]
    far_end = _End("far", FAR_MAC, server[1])

    def work() -> None:
        from pyroute2 import IPRoute  # noqa: PLC0415  # see the module's docstring

        set_namespace(router, CLONE_NEWNET)
        with IPRoute() as route:
            for end, near_end, (client, address) in zip(inner, near_ends, clients, strict=True):
                _add_pair(route, end, near_end, client)
                _connect(route, end, near_end, (address,))
            _add_pair(route, outer, far_end, server[0])
            _connect(route, outer, far_end, far_end.addresses)
        for end, near_end, (client, _) in zip(inner, near_ends, clients, strict=True):
            _connect_in(client, near_end, end, delay_ms)
        _connect_in(server[0], far_end, outer)

    in_child(
        work,
        "no veth pairs can be set up between clients, router and server",
        f"{NEEDS_VETH}; leave out --link nat otherwise",
    )


def connect_to_host(host: int, addresses: tuple[str, ...]) -> None:
    """Connect this network namespace to the host's by a veth pair: everything that it sends goes through the host.

    The host's end, `HOST_DEVICE`, has no address of its own: this end sends to its MAC address, and the host routes
    what arrives. All that is added to the host belongs to that device: it ends with it, and the pair ends with this
    namespace.

    Args:
        host: The descriptor of the host's namespace.
        addresses: The addresses of this end, of one family. The host gets a route to each.

    Raises:
        EnvironmentFault: The kernel has no veth or does not allow it; or the host has a device of that name, or a route
            to one of the addresses.
    """
    near_end = _End(NEAR, NEAR_MAC, addresses)
    host_end = _End(HOST_DEVICE, FAR_MAC, (), HOPS[family_of(addresses[0])])

    def work() -> None:
        from pyroute2 import IPRoute  # noqa: PLC0415  # see the module's docstring

        own = open_own_namespace()
        with IPRoute() as route:
            _add_pair_to_host(route, near_end, host_end, host)
            _connect(route, near_end, host_end)
        set_namespace(host, CLONE_NEWNET)
        with IPRoute() as route:
            _check_unused(route, addresses)
            _lead_back(route, near_end)
            _await_up(route, HOST_DEVICE)
        set_namespace(own, CLONE_NEWNET)
        with IPRoute() as route:
            _await_up(route, near_end.device)

    in_child(
        work,
        f"no device {HOST_DEVICE} can be added to the host's network namespace",
        "it needs CAP_NET_ADMIN there, CONFIG_VETH (the module veth) and a writable /proc/sys; or leave out "
        "--allow-host-route",
    )


def find_ways_out(hosts: tuple[str, ...]) -> list[str]:
    """The devices by which this namespace sends to hosts. An address of its own needs none. Call this in a child.

    Raises:
        TargetError: There is no route to one of them.
    """
    from pyroute2 import IPRoute, NetlinkError  # noqa: PLC0415  # see the module's docstring

    devices: dict[str, None] = {}
    with IPRoute() as route:
        for host in hosts:
            try:
                [found] = route.route("get", dst=host, family=int(family_of(host)))
            except NetlinkError as error:
                raise TargetError(f"no route to {host}: {os.strerror(error.code)}", "check the address") from error
            if found["type"] != RTN_LOCAL:
                devices[socket.if_indextoname(found.get_attr("RTA_OIF"))] = None
    return list(devices)


def remove_near_end() -> None:
    """Remove this namespace's end of the pair of `connect_to_host`, and with it the host's end.

    The one message is packed here, and pyroute2 is not loaded: every round does it.

    Raises:
        EnvironmentFault: The kernel does not allow it.
    """
    try:
        flags, index = NLM_F_REQUEST | NLM_F_ACK, socket.if_nametoindex(NEAR)
        message = struct.pack(DELLINK, struct.calcsize(DELLINK), RTM_DELLINK, flags, 1, 0, 0, 0, index, 0, 0)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.send(message)
            (number,) = struct.unpack_from("=i", sock.recv(4096), ERROR_AT)
    except OSError as error:
        number = -(error.errno or errno.EIO)
    if number:
        raise EnvironmentFault(
            f"the device {HOST_DEVICE} cannot be removed from the host's namespace: {os.strerror(-number)}",
            f"remove it with `ip link delete {HOST_DEVICE}`",
        )


def _add_pair_to_host(
    route: Any,  # noqa: ANN401  # pyroute2 has no types
    near_end: _End,
    host_end: _End,
    host: int,
) -> None:
    """Add the pair once the kernel has removed the pair of the round before, which it does in the background."""
    from pyroute2 import NetlinkError  # noqa: PLC0415  # as above

    end = time.monotonic() + REMOVED_WITHIN_S
    while True:
        try:
            _add_pair(route, near_end, host_end, host)
        except NetlinkError as error:
            if error.code != errno.EEXIST:
                raise
            if time.monotonic() > end:
                raise EnvironmentFault(
                    f"the host has a device {HOST_DEVICE} already",
                    "another run with --allow-host-route has it: let that end first",
                ) from error
        else:
            return
        time.sleep(0.01)


def _check_unused(route: Any, addresses: tuple[str, ...]) -> None:  # noqa: ANN401  # as above
    """Check that no route of the host but a default route leads to one of these addresses.

    Raises:
        EnvironmentFault: One does, so that the network has or may have such a host.
    """
    from pyroute2 import NetlinkError  # noqa: PLC0415  # as above

    for address in addresses:
        try:
            [found] = route.route("get", dst=address, family=int(family_of(address)), flags=RTM_F_FIB_MATCH)
        except NetlinkError as error:
            if error.code in {errno.ENETUNREACH, errno.EHOSTUNREACH}:
                continue
            raise
        if found["dst_len"]:
            network = f"{found.get_attr('RTA_DST')}/{found['dst_len']}"
            raise EnvironmentFault(
                f"the host has a route to {network}, and {address} is to be the address of the run's own namespace",
                "give addresses that nobody has by --source, as in --source 203.0.113.1",
            )


def _lead_back(route: Any, near_end: _End) -> None:  # noqa: ANN401  # as above
    """Set up the host's end of the pair: it forwards what arrives there, and has a route to each address behind it."""
    [index] = route.link_lookup(ifname=HOST_DEVICE)
    hop, family = near_end.addresses[0], int(family_of(near_end.addresses[0]))
    if family == socket.AF_INET:
        sysctl.write(f"net.ipv4.conf.{HOST_DEVICE}.forwarding", "1")
    route.link("set", index=index, state="up")
    route.neigh("add", family=family, ifindex=index, dst=hop, lladdr=near_end.mac, state="permanent")
    for address in near_end.addresses:
        length = 128 if ":" in address else 32
        through = {} if address == hop else {"gateway": hop, "flags": ["onlink"]}
        route.route("add", family=family, dst=f"{address}/{length}", oif=index, **through)


def _await_up(route: Any, device: str) -> None:  # noqa: ANN401  # as above
    """Wait until a device carries packets. The kernel starts it in the background (net/core/link_watch.c).

    Until then it drops packets, and a dropped SYN would be sent again only after a second.
    """
    [index] = route.link_lookup(ifname=device)
    end = time.monotonic() + CARRIES_WITHIN_S
    while route.link("get", index=index)[0].get_attr("IFLA_OPERSTATE") != "UP":
        if time.monotonic() > end:
            raise EnvironmentFault(f"the device {device} carries no packets", "leave out --allow-host-route")
        time.sleep(0.005)


def _add_pair(route: Any, own: _End, other: _End, namespace: int) -> None:  # noqa: ANN401  # pyroute2 has no types
    """Make a veth pair: one end in this namespace, the other in that of a descriptor."""
    peer = {"ifname": other.device, "address": other.mac, "net_ns_fd": namespace}
    route.link("add", ifname=own.device, kind="veth", address=own.mac, peer=peer)


def _connect_in(namespace: int, own: _End, other: _End, delay_ms: float = 0.0) -> None:
    """Enter the namespace of a descriptor, and connect its end of a pair to the other."""
    from pyroute2 import IPRoute  # noqa: PLC0415  # see the module's docstring

    set_namespace(namespace, CLONE_NEWNET)
    with IPRoute() as route:
        if delay_ms:
            _delay(route, own.device, delay_ms)
        _connect(route, own, other)


def _connect(route: Any, own: _End, other: _End, beyond: tuple[str, ...] = ()) -> None:  # noqa: ANN401  # as above
    """Set up an end of a pair, with routes to the addresses `beyond` the other end; without any to all addresses."""
    _set_up(route, "lo")
    index = _set_up(route, own.device)
    _add_addresses(route, index, own.addresses)
    hop = other.next_hop
    family = int(family_of(hop))
    is_ipv6 = family == socket.AF_INET6
    route.neigh("add", family=family, ifindex=index, dst=hop, lladdr=other.mac, state="permanent")
    everywhere = "::/0" if is_ipv6 else "0.0.0.0/0"
    chosen = {"prefsrc": own.addresses[0]} if own.addresses else {}
    for destination in [f"{address}/{128 if is_ipv6 else 32}" for address in beyond] or [everywhere]:
        route.route("add", family=family, dst=destination, gateway=hop, oif=index, flags=["onlink"], **chosen)


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
