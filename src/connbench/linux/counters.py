"""Counters of the kernel: of protocols and conntrack in this network namespace (/proc/net), CPU time (/proc/stat)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from connbench.errors import EnvironmentFault, reason_of
from connbench.linux.sysctl import SHOW_PROC
from connbench.model.round_report import CONNTRACK, CONNTRACK_COUNTERS

WATCHED = (
    "Tcp.ActiveOpens",
    "Tcp.PassiveOpens",
    "Tcp.AttemptFails",
    "Tcp.EstabResets",
    "Tcp.RetransSegs",
    "TcpExt.ListenOverflows",
    "TcpExt.ListenDrops",
    "TcpExt.TCPReqQFullDrop",
    "TcpExt.TCPReqQFullDoCookies",
    "TcpExt.TCPSynRetrans",
    "TcpExt.TCPTimeouts",
    "TcpExt.SyncookiesSent",
    "TcpExt.TW",
    "TcpExt.TWRecycled",
    "TcpExt.TCPTimeWaitOverflow",
    *CONNTRACK_COUNTERS,
)
"""The counters that a round records."""


def parse(text: str) -> dict[str, int]:
    """The counters in the text of /proc/net/snmp or netstat by `Protocol.Name`. A line of names precedes its values."""
    counters = {}
    lines = text.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=False):
        protocol = names.partition(":")[0]
        for name, value in zip(names.split()[1:], values.split()[1:], strict=False):
            counters[f"{protocol}.{name}"] = int(value)
    return counters


def read() -> dict[str, int]:
    """All TCP/IP counters of this namespace.

    Raises:
        EnvironmentFault: They cannot be read. Without them lost connections would go unnoticed.
    """
    counters: dict[str, int] = {}
    for path, needed in (("/proc/net/snmp", "Tcp.ActiveOpens"), ("/proc/net/netstat", "TcpExt.ListenOverflows")):
        try:
            counters |= parse(Path(path).read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise _unreadable(path, reason_of(error)) from error
        if needed not in counters:  # a container's mask reads as an empty file
            raise _unreadable(path, f"no {needed}")
    return counters


def parse_conntrack(text: str) -> tuple[int, dict[str, int]]:
    """The entries and the counters in the text of /proc/net/stat/nf_conntrack.

    Its first line has the names; kernels have other columns. Each further line is of a CPU, and in hexadecimal. The
    number of entries is the same in each.

    Returns:
        The entries, and the sum of each counter over the CPUs, by `Conntrack.name`.

    Raises:
        ValueError: A value is no hexadecimal number, or there is none.
    """
    names, *of_cpus = (line.split() for line in text.splitlines())
    sums: Counter[str] = Counter()
    for values in of_cpus:
        sums.update({f"{CONNTRACK}.{name}": int(value, 16) for name, value in zip(names, values, strict=False)})
    return sums.pop(f"{CONNTRACK}.entries") // len(of_cpus), dict(sums)


def read_conntrack() -> tuple[int, dict[str, int]]:
    """The entries of this namespace's conntrack table, and its counters; see `parse_conntrack`.

    Raises:
        EnvironmentFault: They cannot be read. Without them nothing tells why a connection was lost.
    """
    path = "/proc/net/stat/nf_conntrack"
    try:
        return parse_conntrack(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError, LookupError) as error:
        reason = f"the kernel's conntrack counters cannot be read: {path}: {reason_of(error)}"
        raise EnvironmentFault(
            reason, "they need CONFIG_NF_CONNTRACK_PROCFS; leave out --link nat otherwise"
        ) from error


def _unreadable(path: str, reason: str) -> EnvironmentFault:
    return EnvironmentFault(f"the kernel's counters cannot be read: {path}: {reason}", SHOW_PROC)


def difference(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """By how much each counter of `WATCHED` rose, without those that this kernel lacks."""
    return {name: after[name] - before.get(name, 0) for name in WATCHED if name in after}


def read_time_wait() -> int:
    """The sockets in TIME_WAIT in this network namespace, IPv4 and IPv6 (/proc/net/sockstat); 0 if it is unreadable."""
    try:
        words = Path("/proc/net/sockstat").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(words[words.index("tw") + 1]) if "tw" in words else 0


def read_cpu_ticks() -> tuple[int, int]:
    """CPU time of the machine since boot in clock ticks: that stolen by the hypervisor, and the total (proc_stat(5)).

    Both are 0 if the file cannot be read; the stolen time is 0 if an emulation of the file has fewer columns.
    """
    try:
        first_line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    except OSError:
        return 0, 0
    ticks = [int(field) for field in first_line.split()[1:9] if field.isdecimal()]
    return (ticks[7] if len(ticks) > 7 else 0), sum(ticks)


def read_busy_ticks() -> tuple[int, int]:
    """CPU time of the machine since boot in clock ticks: of CPUs that were not idle, and the total (proc_stat(5)).

    Raises:
        OSError: /proc/stat cannot be read.
        ValueError: What is in its place has no such line.
    """
    first_line = Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0]
    name, *fields = first_line.split()[:9] or [""]
    if name != "cpu" or len(fields) < 4:
        raise ValueError(first_line)
    ticks = [int(field) for field in fields]
    return sum(ticks) - sum(ticks[3:5]), sum(ticks)  # idle, and waiting for a disk
