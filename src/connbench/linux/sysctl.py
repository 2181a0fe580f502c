"""Sysctls by their dotted names. Those under `net` are the calling process's network namespace's own."""

from __future__ import annotations

from pathlib import Path

PORT_RANGE = "net.ipv4.ip_local_port_range"
RESERVED_PORTS = "net.ipv4.ip_local_reserved_ports"
UNPRIVILEGED_START = "net.ipv4.ip_unprivileged_port_start"
SOMAXCONN = "net.core.somaxconn"
SYN_BACKLOG = "net.ipv4.tcp_max_syn_backlog"

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
    "net.ipv4.tcp_ehash_entries",
)
"""What decides how connect() behaves, recorded with every round."""


def _path(name: str) -> Path:
    return Path("/proc/sys", *name.split("."))


def read(name: str) -> str:
    """Value of a sysctl, blanks between its parts made single.

    Raises:
        OSError: It does not exist here, or may not be read.
    """
    return " ".join(_path(name).read_text(encoding="ascii").split())


def read_all(names: tuple[str, ...] = RECORDED) -> dict[str, str]:
    """Values of those of `names` that exist here."""
    return {name: read(name) for name in names if _path(name).exists()}


def write(name: str, value: str) -> None:
    """Set a sysctl and read it back.

    Raises:
        OSError: It may not be set, or the kernel refuses the value.
        ValueError: The kernel took the value and kept another.
    """
    _path(name).write_text(value, encoding="ascii")
    kept = read(name)
    if kept != value:
        raise ValueError(f"it was set to {value!r} and reads {kept!r}")


def read_port_range() -> tuple[int, int]:
    """Both ends of this namespace's ip_local_port_range."""
    low, high = read(PORT_RANGE).split()
    return int(low), int(high)
