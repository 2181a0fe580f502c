"""Reads and writes sysctls by their dotted names. Those under `net` belong to the process's network namespace."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path

from connbench.errors import EnvironmentFault, UsageError, reason_of, suggest
from connbench.model import MAX_PORT, addresses

PORT_RANGE = "net.ipv4.ip_local_port_range"
RESERVED_PORTS = addresses.RESERVED_PORTS
STEP_WIDTH = addresses.STEP_WIDTH
UNPRIVILEGED_START = "net.ipv4.ip_unprivileged_port_start"
SOMAXCONN = "net.core.somaxconn"
SYN_BACKLOG = "net.ipv4.tcp_max_syn_backlog"
EHASH_ENTRIES = "net.ipv4.tcp_ehash_entries"
"""The entries of the namespace's established-hash table; negative if it is the host's, which most namespaces share."""
ORPHAN_RETRIES = "net.ipv4.tcp_orphan_retries"
"""How often the kernel sends the FIN of a socket again that no process has. Such a socket keeps its namespace."""
CHILD_EHASH_ENTRIES = "net.ipv4.tcp_child_ehash_entries"
"""The entries that a namespace made from this one gets in a table of its own; 0 to share the host's. Linux 6.1."""

RECORDED = (
    PORT_RANGE,
    RESERVED_PORTS,
    STEP_WIDTH,
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

OF_OPTIONS = {
    PORT_RANGE: "--port-range",
    UNPRIVILEGED_START: "--port-range",
    EHASH_ENTRIES: "--ehash-entries",
    CHILD_EHASH_ENTRIES: "--ehash-entries",
}
"""The sysctls that a round sets, each with the option that says to what."""

LONGEST_VALUE = 1 << 16
"""Bytes of a value: that of ip_local_reserved_ports can have tens of thousands."""

_REJECTED = {errno.EINVAL, errno.ERANGE, errno.ENOENT, errno.E2BIG, errno.EOVERFLOW}
"""What a write fails with if the kernel rejects the value; ENOENT for a word that names nothing."""

COMMA_SEPARATED = (RESERVED_PORTS, "net.ipv4.tcp_fastopen_key", "net.core.rps_default_mask")
"""The sysctls of a network namespace whose value may have commas."""


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
    _path(name).write_text(f"{value}\n", encoding="ascii")  # an empty value is a write, too
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


class HostValue:
    """A sysctl of the namespace that this process is in now, which it can read after it has entered another one.

    A sysctl that has an inode of its own in each namespace has a value of its own there, unless two tables of the
    kernel have the same data: `is_changed` finds that.
    """

    def __init__(self, name: str) -> None:
        self._file: int | None = None
        for flags in (os.O_RDWR, os.O_RDONLY, os.O_PATH):
            with suppress(OSError):
                self._file = os.open(_path(name), flags)
                break
        self._before = self._read()

    @property
    def exists(self) -> bool:
        """Whether that namespace has it."""
        return self._file is not None

    def is_that_of(self, status: os.stat_result) -> bool:
        """Whether a file of another namespace, as os.stat() saw it, is the same sysctl."""
        return self._file is not None and os.path.samestat(os.fstat(self._file), status)

    def is_changed(self) -> bool:
        """Whether it has another value than before; it gets that one back."""
        if self._read() == self._before:
            return False
        if self._file is not None and self._before is not None:
            os.pwrite(self._file, self._before, 0)
        return True

    def _read(self) -> bytes | None:
        try:
            return None if self._file is None else os.pread(self._file, LONGEST_VALUE, 0)
        except OSError:  # it can only be written
            return None


def set_apart(name: str, value: str, on_host: HostValue) -> None:
    """Set a sysctl of this namespace, which is not the host's, and make sure that the host's stays as it is.

    Args:
        name: Its name, which begins with `net.`.
        value: Its value, in the form in which the kernel shows it.
        on_host: The host's.

    Raises:
        UsageError: The kernel rejects the value, or keeps another.
        EnvironmentFault: This namespace has no such sysctl of its own, or none that can be set.
        OSError: It cannot be written here.
    """
    try:
        status = _path(name).stat()
    except FileNotFoundError as error:
        if on_host.exists:
            raise _belongs_to_host(name) from error
        raise EnvironmentFault(
            f"--sysctl {name}: this kernel has no such sysctl in a network namespace",
            suggest(name, _names_here(), otherwise="`sysctl -N -a --pattern ^net` lists the names"),
        ) from error
    if on_host.is_that_of(status):
        raise _belongs_to_host(name)
    if not status.st_mode & 0o200:
        raise EnvironmentFault(f"--sysctl {name} can only be read in a network namespace", "leave it out")
    try:
        write(name, value)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _REJECTED:
            raise
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        hint = "`connbench sweep` takes a list of values" if "," in value else "give a value that the kernel keeps"
        raise UsageError(f"--sysctl {name}={value} is not possible: {reason}", hint) from error
    if on_host.is_changed():
        raise _belongs_to_host(name)


def _belongs_to_host(name: str) -> EnvironmentFault:
    return EnvironmentFault(
        f"--sysctl {name}: this sysctl belongs to the whole host, not to a network namespace",
        f"leave it out; or set the host's with sysctl -w {name}=VALUE before the run",
    )


def _names_here() -> list[str]:
    """The names of all sysctls of this namespace under `net`."""
    root = _path("")
    return [".".join(path.relative_to(root).parts) for path in root.joinpath("net").rglob("*") if path.is_file()]
