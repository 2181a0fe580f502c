"""Reads and writes sysctls by their dotted names. Those under `net` belong to the process's network namespace."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from connbench.errors import EnvironmentFault, reason_of
from connbench.model import MAX_PORT

PORT_RANGE = "net.ipv4.ip_local_port_range"
RESERVED_PORTS = "net.ipv4.ip_local_reserved_ports"
UNPRIVILEGED_START = "net.ipv4.ip_unprivileged_port_start"
SOMAXCONN = "net.core.somaxconn"
SYN_BACKLOG = "net.ipv4.tcp_max_syn_backlog"
EHASH_ENTRIES = "net.ipv4.tcp_ehash_entries"
"""The entries of the namespace's established-hash table; negative if it is the host's, which most namespaces share."""
CHILD_EHASH_ENTRIES = "net.ipv4.tcp_child_ehash_entries"
"""The entries that a namespace made from this one gets in a table of its own; 0 to share the host's. Linux 6.1."""

RECORDED = (
    PORT_RANGE,
    RESERVED_PORTS,
    SOMAXCONN,
    SYN_BACKLOG,
    "net.ipv4.tcp_tw_reuse",
    "net.ipv4.tcp_tw_reuse_delay",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_timestamps",
    "net.ipv4.tcp_syncookies",
    EHASH_ENTRIES,
)
"""The sysctls that affect connect(); every round records them."""


SHOW_PROC = "mount the whole of /proc (proc(5)), not hidden by subset=pid or a mask"
"""What to do if a file of /proc cannot be read."""

_UNMASK = "something covers the kernel's /proc/sys: mount the whole of /proc (proc(5))"


def _path(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def read(name: str) -> str:
    """The value of a sysctl, with a single blank between its parts.

    Raises:
        OSError: It does not exist here, or may not be read.
    """
    return " ".join(_path(name).read_text(encoding="ascii").split())


def read_all(names: tuple[str, ...] = RECORDED) -> dict[str, str]:
    """The values of those sysctls of `names` that exist here and may be read."""
    found = {}
    for name in names:
        with suppress(OSError, ValueError):  # a container may hide or mask /proc/sys
            found[name] = read(name)
    return found


def required(name: str) -> str:
    """The value of a sysctl that a measurement needs.

    Raises:
        EnvironmentFault: It cannot be read.
    """
    try:
        return read(name)
    except (OSError, ValueError) as error:
        raise EnvironmentFault(f"{_path(name)} cannot be read: {reason_of(error)}", SHOW_PROC) from error


def number(name: str) -> int:
    """The value of a sysctl that is a whole number.

    Raises:
        EnvironmentFault: It cannot be read, or is not a whole number.
    """
    text = required(name)
    if not text.isdecimal():
        raise EnvironmentFault(f"{name} is {text!r} here, which is not a number", _UNMASK)
    return int(text)


def write(name: str, value: str) -> None:
    """Set a sysctl and read it back.

    Raises:
        OSError: It may not be written, or the kernel rejects the value.
        ValueError: The kernel kept another value.
    """
    _path(name).write_text(value, encoding="ascii")
    kept = read(name)
    if kept != value:
        raise ValueError(f"it was set to {value!r} and reads {kept!r}")


def read_port_range() -> tuple[int, int]:
    """Both ends of this namespace's ip_local_port_range.

    Raises:
        EnvironmentFault: It cannot be read, or is not a range of ports.
    """
    text = required(PORT_RANGE)
    ends = [int(word) for word in text.split() if word.isdecimal()]
    if len(ends) != 2 or not 1 <= ends[0] <= ends[1] <= MAX_PORT:
        raise EnvironmentFault(f"{PORT_RANGE} is {text!r} here, which is not a range of ports", _UNMASK)
    return ends[0], ends[1]
