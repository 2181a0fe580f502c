"""The address family of an address, and whether this machine has IPv6."""

from __future__ import annotations

import socket
from contextlib import suppress

from connbench.linux import sysctl

DISABLE_IPV6 = "net.ipv6.conf.all.disable_ipv6"
"""Applies to all interfaces, present and future (`addrconf_disable_ipv6` in net/ipv6/addrconf.c)."""


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET6 if the address has a colon, else AF_INET."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def has_ipv6() -> bool:
    """Whether this kernel has IPv6: built in, and not disabled at boot by ipv6.disable=1.

    A new network namespace then has IPv6, even if `disable_ipv6` is set in this one.
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
    """Enable IPv6 addresses on the interfaces of this network namespace, if the kernel has IPv6.

    A new namespace starts with the value of ipv6.disable_ipv6 at boot, or with the value of another namespace (see
    net.core.devconf_inherit_init_net).

    Raises:
        OSError: The sysctl may not be written.
        ValueError: The kernel kept another value.
    """
    with suppress(FileNotFoundError):
        if sysctl.read(DISABLE_IPV6) != "0":
            sysctl.write(DISABLE_IPV6, "0")
