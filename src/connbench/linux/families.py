"""IPv4 and IPv6: what differs between the two, by the address."""

from __future__ import annotations

import socket
from pathlib import Path


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET6 for an address with a colon, AF_INET else."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def has_ipv6() -> bool:
    """Whether this kernel has IPv6, and it is not switched off for new interfaces."""
    disabled = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")
    return disabled.exists() and disabled.read_text(encoding="ascii").strip() == "0"
