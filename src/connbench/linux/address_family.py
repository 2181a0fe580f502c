"""IPv4 and IPv6: what differs between the two, by the address."""

from __future__ import annotations

import socket
from contextlib import suppress

from connbench.linux import sysctl

DISABLE_IPV6 = "net.ipv6.conf.all.disable_ipv6"
"""Sets that of every interface, and of those to come (`addrconf_disable_ipv6` in net/ipv6/addrconf.c)."""


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET6 for an address with a colon, AF_INET else."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def has_ipv6() -> bool:
    """Whether this kernel has IPv6: built, and not switched off by ipv6.disable=1.

    A new network namespace then has it, whatever `disable_ipv6` of this one says.
    """
    try:
        socket.socket(socket.AF_INET6, socket.SOCK_STREAM).close()
    except OSError:
        return False
    return True


def has_ipv6_here() -> bool:
    """Whether the loopback interface of this network namespace has the address ::1."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def enable_ipv6() -> None:
    """Have the interfaces of this network namespace take addresses of IPv6, where the kernel has it.

    A new one begins with what ipv6.disable_ipv6 was at boot, or, by net.core.devconf_inherit_init_net, with that of
    another namespace.

    Raises:
        OSError: It may not be set.
        ValueError: The kernel took the value and kept another.
    """
    with suppress(FileNotFoundError):
        if sysctl.read(DISABLE_IPV6) != "0":
            sysctl.write(DISABLE_IPV6, "0")
