"""Which programs have the sockets: the inode of each descriptor, as /proc/PID/fd shows it, and the process's cgroup.

Only root sees the descriptors of all processes; another user sees those of its own. A connection in TIME_WAIT has no
process any more, and neither has one that its program closed and that has yet to end.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from connbench.errors import EnvironmentFault, reason_of
from connbench.inspect.port_usage import PathUsage
from connbench.inspect.snapshot import Process, Snapshot
from connbench.inspect.sockets import Array, State
from connbench.linux.sysctl import SHOW_PROC
from connbench.report.blocks import Block, Heading, Lines, Table
from connbench.safe_text import printable
from connbench.units import count
from connbench.wording import end_of, listed

SOCKET, END = "socket:[", "]"
"""What stands before and after a socket's inode in the target of a link in /proc/PID/fd (proc_pid_fd(5))."""

MOST_PIDS = 3
"""Process ids of a program that a table names."""

UNIT_COLUMNS = 32
"""Columns of a unit in a table: the path of a container's cgroup has a hundred. JSON has all of it."""

_UNIT = re.compile(r"[^/]+\.(?:service|scope)(?=/|$)")


@dataclass(frozen=True, slots=True)
class Program:
    """The processes of one name in one cgroup that have sockets of a path.

    Attributes:
        name: The name of the processes.
        unit: Their systemd unit, or else the path of their cgroup; empty if it is not known.
        pids: The processes, ascending.
        ports: The number of local ports of these sockets.
    """

    name: str
    unit: str
    pids: tuple[int, ...]
    ports: int


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs that have the sockets of a path.

    Attributes:
        programs: The one with the most ports first. Processes that share a socket count it each.
        units: The number of ports of each systemd unit or cgroup, the largest first.
        time_wait: Connections in TIME_WAIT, which have no process.
        closed: Other connections without a process: their program closed them, and they have yet to end.
        hidden: Sockets of processes that this user, or this PID namespace, does not see, or that ended meanwhile.
    """

    programs: tuple[Program, ...]
    units: Mapping[str, int]
    time_wait: int
    closed: int
    hidden: int


def find_processes(inodes: Array) -> dict[int, tuple[Process, ...]]:
    """The processes that have sockets with these inodes, by inode; several where processes share a socket.

    A process that ends meanwhile, and one that this user may not look at, is left out.

    Args:
        inodes: The inodes of the sockets to look for, in any order.

    Raises:
        EnvironmentFault: /proc cannot be read.
    """
    wanted = np.unique(inodes)
    found: dict[int, tuple[Process, ...]] = {}
    if not len(wanted):
        return found
    try:
        with os.scandir("/proc") as entries:
            pids = sorted(int(one.name) for one in entries if one.name.isdecimal())
    except OSError as error:
        raise EnvironmentFault(f"/proc cannot be read: {reason_of(error)}", SHOW_PROC) from error
    for pid in pids:
        its = _inodes_of(pid)
        mine = its[np.isin(its, wanted)].tolist() if its is not None and len(its) else []
        process = _describe(pid) if mine else None
        if process is not None:
            shared = found.keys() & mine
            both = {inode: (*found[inode], process) for inode in shared}
            found |= dict.fromkeys(mine, (process,))
            found |= both
    return found


def _inodes_of(pid: int) -> Array | None:
    """The inodes of a process's sockets, each once; None if it has ended, or this user may not look at it."""
    try:
        folder = os.open(f"/proc/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    links = []
    try:
        with os.scandir(folder) as entries:
            for one in entries:
                try:
                    links.append(os.readlink(one.name, dir_fd=folder))
                except OSError:  # the process has closed it meanwhile
                    continue
    except OSError:
        return None
    finally:
        os.close(folder)
    return np.unique(np.array([int(link[len(SOCKET) : -len(END)]) for link in links if link.startswith(SOCKET)], "u8"))


def _describe(pid: int) -> Process | None:
    """A process; None if it has ended."""
    try:
        name = _read(f"/proc/{pid}/comm").rstrip("\n")
    except OSError:
        return None
    try:
        groups = _read(f"/proc/{pid}/cgroup")
    except OSError:  # a kernel without cgroups
        groups = ""
    return Process(pid, printable(name), printable(choose_cgroup(groups)))


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123  # 10,000 processes: a Path costs more
        return file.read()


def choose_cgroup(text: str) -> str:
    """The path of a process's cgroup of the lines of /proc/PID/cgroup (cgroups(7)).

    That of cgroup v2 counts before systemd's hierarchy of v1, and that before the others; but one that is not the root
    counts before the root: a host may have both versions, with all processes in the root of one of them.
    """
    paths: dict[int, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        rank = 0 if number == "0" and not controllers else 1 if controllers == "name=systemd" else 2
        if path.startswith("/") and paths.get(rank, "/") == "/":
            paths[rank] = path
    ordered = [paths[rank] for rank in sorted(paths)]
    return next((path for path in ordered if path != "/"), ordered[0] if ordered else "")


def unit_of(cgroup: str) -> str:
    """The systemd unit of a cgroup, `nginx.service` or `docker-1234.scope`; else its path."""
    units: list[str] = _UNIT.findall(cgroup)
    return units[-1] if units else cgroup


def programs_of(path: PathUsage, snapshot: Snapshot) -> Programs:
    """The programs that have the sockets of a path of this snapshot."""
    sockets, by_inode = snapshot.sockets[path.sockets], snapshot.processes or {}
    ports: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    of_units: defaultdict[str, set[int]] = defaultdict(set)
    pids: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    hidden = 0
    for inode, port in zip(sockets.inode.tolist(), sockets.local_port.tolist(), strict=True):
        processes = by_inode.get(inode, ())
        hidden += bool(inode) and not processes
        for process in processes:
            unit = unit_of(process.cgroup)
            ports[process.name, unit].add(port)
            of_units[unit].add(port)
            pids[process.name, unit].add(process.pid)
    programs = [Program(name, unit, tuple(sorted(pids[name, unit])), len(its)) for (name, unit), its in ports.items()]
    without = sockets.inode == 0
    waiting = int(np.count_nonzero(without & (sockets.state == State.TIME_WAIT)))
    return Programs(
        programs=tuple(sorted(programs, key=lambda one: (-one.ports, one.name, one.unit))),
        units=dict(Counter({unit: len(its) for unit, its in of_units.items()}).most_common()),
        time_wait=waiting,
        closed=int(np.count_nonzero(without)) - waiting,
        hidden=hidden,
    )


def blocks(path: PathUsage, snapshot: Snapshot) -> list[Block]:
    """The programs that have the sockets of a path, as a table, and what has no program; empty without processes."""
    found = programs_of(path, snapshot)
    rows = [
        (one.name, count(one.ports), _pids(one.pids), end_of(one.unit, UNIT_COLUMNS) or "-") for one in found.programs
    ]
    notes = _remarks(found)
    title = f"Programs with ports of {path.name}"
    if not rows:
        return [Heading(title), Lines(notes)] if notes else []
    return [Table(("program", "ports", "processes", "unit"), rows, title, tuple(notes), words=(2, 3))]


def _pids(pids: tuple[int, ...]) -> str:
    more = len(pids) - MOST_PIDS
    return listed([str(pid) for pid in pids[:MOST_PIDS]] + ([f"{count(more)} more"] if more > 0 else []))


def _remarks(found: Programs) -> list[str]:
    remarks = []
    if 1 < len(found.units) < len(found.programs):
        units = [f"{unit or 'no cgroup'} {count(ports)}" for unit, ports in found.units.items()]
        remarks.append(f"Ports of each unit: {', '.join(units)}.")
    if found.time_wait:
        remarks.append(f"{_connections(found.time_wait, 'is', 'are')} in TIME_WAIT, which no process has any more.")
    if found.closed:
        state = _connections(found.closed, "has", "have")
        remarks.append(f"{state} no process, as their program closed them; they have yet to end.")
    if found.hidden:
        whose = f"{_connections(found.hidden, 'belongs', 'belong')} to processes that"
        why = (
            "have just ended, or live in another PID namespace."
            if os.geteuid() == 0
            else "only root sees: run it as root."
        )
        remarks.append(f"{whose} {why}")
    return remarks


def _connections(number: int, verb: str, verb_of_many: str) -> str:
    return f"{count(number)} connection {verb}" if number == 1 else f"{count(number)} connections {verb_of_many}"


def document(path: PathUsage, snapshot: Snapshot) -> dict[str, object]:
    """The programs that have the sockets of a path, as JSON has them."""
    found = programs_of(path, snapshot)
    return {
        "programs": [
            {"name": one.name, "unit": one.unit, "pids": list(one.pids), "ports": one.ports} for one in found.programs
        ],
        "units": [{"unit": unit, "ports": ports} for unit, ports in found.units.items()],
        "without_process": {"time_wait": found.time_wait, "closed": found.closed, "hidden": found.hidden},
    }
