"""The limits of the process, the user, the control groups and the machine: files, memory, processes, address space.

A limit that cannot be read (no /proc, a masked file, a text instead of a number) counts as no limit. If the kernel does
have one, a system call fails with it later.
"""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress
from pathlib import Path

from connbench.errors import EnvironmentFault
from connbench.linux import cgroup_limits
from connbench.linux.cgroup_limits import Remaining
from connbench.units import memory

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""What a system call fails with if it reaches a limit of the process, the user or the machine."""

MOST_PROCESSES = 1 << 22
"""PID_MAX_LIMIT of a 64-bit kernel (include/linux/threads.h)."""

UNLIMITED = 1 << 62
"""Stands for no limit, and for one that cannot be read."""

LIBRARY_BYTES = 256 << 20
"""Address space for numpy, matplotlib and the command's own code: 150 MB were measured, without OpenBLAS threads."""

LIBRARY_DATA_BYTES = 96 << 20
"""The private and writable part of it, which RLIMIT_DATA limits: 48 MB were measured with numpy alone."""

SPARE_DESCRIPTORS = 24
"""Files that a process of a run has open beside its connections and listening sockets: 16 were counted."""

CAP_SYS_ADMIN, CAP_SYS_RESOURCE = 21, 24
PROCESS_BYTES = 2 << 20
"""Memory that a forked process takes: 1.3 MB of private pages and 0.1 MB of page tables were measured."""

MEMORY_LEFT = 256 << 20
"""Memory of the machine in bytes that connbench leaves to all other programs."""

GROUP_MEMORY_LEFT = 32 << 20
"""Memory of a control group in bytes that connbench leaves to the group's other programs."""

WHOLE_ID_MAP = "0 0 4294967295"
"""/proc/self/uid_map in the first user namespace (user_namespaces(7))."""


def open_files() -> tuple[int, int]:
    """The soft and the hard RLIMIT_NOFILE of this process."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def raise_open_files() -> int:
    """Raise the soft RLIMIT_NOFILE to the hard one, which needs no privilege, and return it."""
    _, hard = open_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_descriptors() -> int:
    """How many more files this process can open under its soft RLIMIT_NOFILE."""
    soft, _ = open_files()
    try:
        used = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  # of a worker: fewer pages than iterdir(); it has one open itself
    except FileNotFoundError:  # without /proc: try each number
        used = sum(1 for descriptor in range(soft) if _is_open(descriptor))
    return soft - used


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def available_memory() -> int:
    """Memory that is available without swapping, in bytes: the least of the machine's and the control groups'."""
    group = cgroup_limits.memory_left()
    return min(machine_memory(), group.amount if group else UNLIMITED)


def machine_memory() -> int:
    """Memory that the machine has available, in bytes (MemAvailable in proc_meminfo(5)); without /proc, free memory."""
    values = _memory_values()
    if "MemAvailable" in values:
        return values["MemAvailable"]
    if "MemFree" in values:  # an old kernel, or an emulation of /proc
        return values["MemFree"] + values.get("Buffers", 0) + values.get("Cached", 0)
    with suppress(OSError, ValueError):
        pages = os.sysconf("SC_AVPHYS_PAGES")
        if pages > 0:
            return pages * os.sysconf("SC_PAGESIZE")
    return UNLIMITED


def total_memory() -> int | None:
    """Memory of the machine in bytes; None without /proc, where sysconf(3) may return any number."""
    return _memory_values().get("MemTotal")


def _memory_values() -> dict[str, int]:
    """The values of /proc/meminfo by name, in bytes."""
    values = {}
    for line in _lines("/proc/meminfo"):
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdecimal():
            values[name] = int(words[0]) * 1024
    return values


def free_address_space() -> int:
    """How many more bytes this process may map (RLIMIT_AS)."""
    return _unmapped(resource.RLIMIT_AS, 0)


def _unmapped(limit: int, field: int) -> int:
    """Bytes that a limit on mappings leaves; `field` of /proc/self/statm has the pages in use (proc_pid_statm(5))."""
    soft, _ = resource.getrlimit(limit)
    if soft == resource.RLIM_INFINITY:
        return UNLIMITED
    words = " ".join(_lines("/proc/self/statm")).split()
    used = int(words[field]) * os.sysconf("SC_PAGESIZE") if len(words) > field and words[field].isdecimal() else 0
    return max(0, soft - used)


def check_address_space() -> None:
    """Check that there is address space to load numpy and the libraries that draw charts.

    Without this check OpenBLAS would end the process with status 1 and no message.

    Raises:
        EnvironmentFault: RLIMIT_AS or RLIMIT_DATA leaves too little.
    """
    for name, what, free, needed, command in (
        ("RLIMIT_AS", "address space", free_address_space(), LIBRARY_BYTES, "ulimit -v unlimited"),
        ("RLIMIT_DATA", "data", _unmapped(resource.RLIMIT_DATA, 5), LIBRARY_DATA_BYTES, "ulimit -d unlimited"),
    ):
        if free < needed:
            raise EnvironmentFault(
                f"{name} leaves {memory(free)} of {what}, and connbench's libraries need {memory(needed)}",
                f"raise it: {command}",
            )


def free_files() -> int:
    """How many more files all processes together may open (fs.file-nr, proc_sys_fs(5)).

    A process with CAP_SYS_ADMIN has no such limit: the kernel does not apply fs.file-max to it (`alloc_empty_file`).
    """
    numbers = [int(word) for word in " ".join(_lines("/proc/sys/fs/file-nr")).split() if word.isdecimal()]
    if len(numbers) != 3 or _has_capability(CAP_SYS_ADMIN):
        return UNLIMITED
    allocated, _, most = numbers
    return max(0, most - allocated)


def processes_left() -> Remaining:
    """How many more processes the limits on processes allow, and the limit that allows the fewest.

    The limits are kernel.pid_max, kernel.threads-max, RLIMIT_NPROC of the user, and pids.max of each control group. The
    kernel counts threads for all of them (`copy_process` in kernel/fork.c).
    """
    found = [Remaining(MOST_PROCESSES, "the kernel's PID_MAX_LIMIT")]
    running = _threads_of_all()
    for name in ("pid_max", "threads-max"):
        text = "".join(_lines(f"/proc/sys/kernel/{name}")).strip()
        if text.isdecimal():
            most = int(text)
            # A pid namespace can have a pid_max of its own (Linux 6.14). The machine's threads do not count for it.
            used = running if running < most else _visible_processes()
            found.append(Remaining(max(0, most - used), f"kernel.{name}"))
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and not _is_free_of_nproc():
        found.append(Remaining(max(0, soft - _threads_of_user(os.getuid())), "RLIMIT_NPROC"))
    left = cgroup_limits.processes_left()
    return min([*found, left] if left else found)


def allowed_processes() -> Remaining:
    """How many more processes the limits on processes and the memory allow, and what allows the fewest."""
    found = [
        processes_left(),
        Remaining(max(0, machine_memory() - MEMORY_LEFT) // PROCESS_BYTES, "free memory"),
    ]
    group = cgroup_limits.memory_left()
    if group:
        found.append(Remaining(max(0, group.amount - GROUP_MEMORY_LEFT) // PROCESS_BYTES, group.limit))
    return min(found, key=lambda left: left.amount)


def check_processes(number: int, purpose: str, advice: str) -> Remaining:
    """Check, before the first process starts, that this many processes are allowed.

    Args:
        number: How many.
        purpose: What needs them, for the message: `50,000 connections`.
        advice: The hint of the fault.

    Returns:
        How many are allowed, and the limit that allows no more.

    Raises:
        EnvironmentFault: Fewer are allowed.
    """
    allowed = allowed_processes()
    if number > allowed.amount:
        raise EnvironmentFault(
            f"{purpose}: this needs {number:,} more processes, and {allowed.amount:,} are allowed ({allowed.limit})",
            advice,
        )
    return allowed


def _lines(path: str) -> list[str]:
    """The lines of a file; none if it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _threads_of_all() -> int:
    """The threads of the machine: the number after the slash in proc_loadavg(5)."""
    words = " ".join(_lines("/proc/loadavg")).split()
    number = words[3].rpartition("/")[2] if len(words) > 3 else ""
    return int(number) if number.isdecimal() else _visible_processes()


def _visible_processes() -> int:
    try:
        return sum(1 for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    except OSError:
        return 0


def _threads_of_user(user: int) -> int:
    """The threads of all processes with this real user id, which RLIMIT_NPROC limits.

    Processes that /proc does not show (hidepid, another pid namespace) are missing.
    """
    threads = 0
    try:
        processes = [entry for entry in os.listdir("/proc") if entry.isdecimal()]  # noqa: PTH208  # only the names are needed
    except OSError:
        return 0
    for process in processes:
        fields = dict(line.partition(":")[::2] for line in _lines(f"/proc/{process}/status"))
        users, number = fields.get("Uid", "").split(), fields.get("Threads", "").strip()
        if users and users[0] == str(user) and number.isdecimal():
            threads += int(number)
    return threads


def _is_free_of_nproc() -> bool:
    """Whether RLIMIT_NPROC does not apply to this process: it is root, or has one of two capabilities.

    The kernel checks this in the first user namespace (`copy_process`: INIT_USER, capable()). To it, root of another
    user namespace is an ordinary user.
    """
    if not _is_first_user_namespace():
        return False
    return os.getuid() == 0 or _has_capability(CAP_SYS_RESOURCE) or _has_capability(CAP_SYS_ADMIN)


def _is_first_user_namespace() -> bool:
    lines = _lines("/proc/self/uid_map")
    if not lines:  # no /proc, or a kernel without user namespaces
        return True
    return [" ".join(line.split()) for line in lines] == [WHOLE_ID_MAP]


def _has_capability(number: int) -> bool:
    """Whether this process has a capability in the first user namespace."""
    effective = next((line.split()[-1] for line in _lines("/proc/self/status") if line.startswith("CapEff:")), "0")
    return _is_first_user_namespace() and bool(int(effective, 16) >> number & 1)
