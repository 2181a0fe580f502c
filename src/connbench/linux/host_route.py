"""`--link routed`: a route out of a run's own namespace, through the host's, to a target that listens already."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from connbench.errors import EnvironmentFault, TargetError, reason_of
from connbench.linux import sysctl
from connbench.linux.interfaces import HOST_DEVICE, connect_to_host, find_ways_out, remove_near_end
from connbench.linux.namespace import LIMIT_WAIT_S, enter_new_namespace, in_namespace
from connbench.linux.nftables import masquerade as start_masquerade
from connbench.linux.process import in_child, open_own_namespace
from connbench.model import Namespace, ip_version
from connbench.model.round_report import CONNTRACK_MAX

PROBE_S = 1.0
"""Seconds that a target has to answer without masquerade. A SYN that got lost is sent again only after a second."""

CONNTRACK_COUNT = "net.netfilter.nf_conntrack_count"
"""How many entries the host's conntrack table has."""


@dataclass(frozen=True, slots=True)
class HostRoute:
    """The route of this namespace through the host's.

    Attributes:
        owner: The socket that owns the table of the masquerade, which workers inherit: their last packets are
            translated, too. None without a masquerade.
    """

    owner: socket.socket | None

    @classmethod
    def make(cls, host: int, addresses: tuple[str, ...], *, masquerade: bool) -> Self:
        """Lead all that this namespace sends through the host's.

        The host gets the device `HOST_DEVICE`, which forwards what arrives there, and a route to each address. They
        end with this namespace. With a masquerade it gets a table of nftables, which ends with this process and its
        workers. The kernel removes all of them also if they are killed.

        Args:
            host: The descriptor of the host's namespace.
            addresses: The addresses of this namespace, of one family.
            masquerade: Whether the host gives the packets its own address.

        Raises:
            EnvironmentFault: The kernel or the host does not allow it.
            OSError: This process lacks a resource: see `faults.limit_fault`.
        """
        owner = None
        if masquerade:
            with in_namespace(host):
                owner = start_masquerade(ip_version(addresses[0]), enters=HOST_DEVICE)
        try:
            connect_to_host(host, addresses)
        except BaseException:
            if owner:
                owner.close()
            raise
        return cls(owner)

    def close(self) -> None:
        """Remove it from the host now: the kernel removes a namespace later, in the background."""
        remove_near_end()
        if self.owner:
            self.owner.close()


def check_route(
    addresses: tuple[str, ...],
    hosts: tuple[str, ...],
    connections: int,
    answers: Callable[[float | None], object],
) -> bool:
    """Check in a child process that such a route can be made here, and that the targets answer over it.

    Call this before numpy is imported: fork() is safe only without threads.

    Args:
        addresses: The addresses of the namespace.
        hosts: The addresses of the targets.
        connections: How many connections the run makes.
        answers: Checks that the targets answer, within so many seconds; with None within the run's time-out.

    Returns:
        Whether the targets answer only with a masquerade.

    Raises:
        EnvironmentFault: The kernel or the host does not allow it, or the host does not forward.
        TargetError: A target has no route, or does not answer.
    """

    def work() -> bool:
        host = open_own_namespace()
        devices = find_ways_out(hosts)
        for device in devices:
            _check_forwards(device, ip_version(hosts[0]))
        enter_new_namespace(Namespace.NETWORK, LIMIT_WAIT_S)
        route = HostRoute.make(host, addresses, masquerade=False)
        try:
            answers(PROBE_S if devices else None)
        except TargetError:
            if not devices:
                raise
        else:
            return False
        finally:
            route.close()
        route = HostRoute.make(host, addresses, masquerade=True)
        try:
            answers(None)
            with in_namespace(host):
                _check_conntrack(connections)
        finally:
            route.close()
        return True

    needed: bool = in_child(work, "no route through the host can be set up", "leave out --allow-host-route")
    return needed


def _check_forwards(device: str, family: int) -> None:
    """Check that the host forwards the answers that come by a device.

    For IPv4 the device's own setting counts, for IPv6 the one of all devices (net/ipv4/route.c, net/ipv6/ip6_output.c).

    Raises:
        EnvironmentFault: It does not. connbench does not set it: a process that is killed could not restore it.
    """
    name = f"net.ipv4.conf.{device.replace('.', '/')}.forwarding" if family == 4 else "net.ipv6.conf.all.forwarding"
    path = Path("/proc/sys/net", *(("ipv4", "conf", device) if family == 4 else ("ipv6", "conf", "all")), "forwarding")
    try:
        forwards = path.read_text(encoding="ascii").strip() != "0"
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"{path} cannot be read: {reason_of(error)}", sysctl.SHOW_PROC) from error
    if not forwards:
        raise EnvironmentFault(
            f"the host does not forward what comes back by {device}: {name} is 0",
            f"set it yourself, with `sysctl -w {name}=1`, and to 0 afterwards: connbench does not, because it could "
            "not restore it if it were killed",
        )


def _check_conntrack(connections: int) -> None:
    """Check that the host's conntrack table has room: where it is full, the host drops packets of others, too.

    Raises:
        EnvironmentFault: It has not.
    """
    most, used = sysctl.number(CONNTRACK_MAX), sysctl.number(CONNTRACK_COUNT)
    if used + connections > most:
        raise EnvironmentFault(
            f"{connections:,} connections do not fit the host's conntrack table: it has {used:,} of {most:,} entries",
            f"ask for fewer, or set {CONNTRACK_MAX}={used + connections} or more",
        )
