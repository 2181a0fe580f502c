"""How much a process, a user, a control group and the machine may have: files, memory, processes, address space.

What cannot be read here (no /proc, a masked file, words where a number belongs) sets no limit: the kernel's own
refusal is then the first word of it.
"""

from __future__ import annotations

import errno
import os
import resource
from contextlib import suppress
from pathlib import Path

from connbench.errors import EnvironmentFault
from connbench.linux import cgroup
from connbench.linux.cgroup import Left
from connbench.units import memory

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""What calls fail with where a limit of the process, the user or the machine is reached."""

MOST_PROCESSES = 1 << 22
"""PID_MAX_LIMIT of a 64-bit kernel (include/linux/threads.h)."""

UNLIMITED = 1 << 62
"""Stands for no limit, or for one that cannot be read."""

LIBRARY_BYTES = 256 << 20
"""Address space for numpy, matplotlib and the code of the command: 150 MB were seen, without threads of OpenBLAS."""

LIBRARY_DATA_BYTES = 96 << 20
"""Of it private and writable, which RLIMIT_DATA counts: 48 MB were seen with numpy alone."""

SPARE_DESCRIPTORS = 24
"""What a process of a run has open beside its connections and the sockets that listen: 16 were counted."""

CAP_SYS_ADMIN, CAP_SYS_RESOURCE = 21, 24
WHOLE_ID_MAP = "0 0 4294967295"
"""/proc/self/uid_map in the first user namespace (user_namespaces(7))."""


def open_files() -> tuple[int, int]:
    """RLIMIT_NOFILE of this process: soft, hard."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)


def raise_open_files() -> int:
    """Raise the soft limit to the hard one, which anyone may; returns it."""
    _, hard = open_files()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_descriptors() -> int:
    """How many more files this process can open under its soft limit."""
    soft, _ = open_files()
    try:
        used = sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # one of them is the listing's own
    except FileNotFoundError:  # without /proc each number is tried
        used = sum(1 for descriptor in range(soft) if _is_open(descriptor))
    return soft - used


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def available_memory() -> int:
    """Bytes that can be had without swapping: by the machine and by this process's control groups, the least."""
    group = cgroup.memory_left()
    return min(machine_memory(), group.amount if group else UNLIMITED)


def machine_memory() -> int:
    """Bytes that the machine has available (MemAvailable of proc_meminfo(5)), without /proc the free ones alone."""
    values = _memory_values()
    if "MemAvailable" in values:
        return values["MemAvailable"]
    if "MemFree" in values:  # a kernel or an emulation of /proc that has no MemAvailable
        return values["MemFree"] + values.get("Buffers", 0) + values.get("Cached", 0)
    with suppress(OSError, ValueError):
        pages = os.sysconf("SC_AVPHYS_PAGES")
        if pages > 0:
            return pages * os.sysconf("SC_PAGESIZE")
    return UNLIMITED


def total_memory() -> int | None:
    """Bytes that the machine has; None without /proc: where sysconf(3) cannot find out, it returns any number."""
    return _memory_values().get("MemTotal")


def _memory_values() -> dict[str, int]:
    """What /proc/meminfo tells, in bytes."""
    values = {}
    for line in _lines("/proc/meminfo"):
        name, _, value = line.partition(":")
        words = value.split()
        if words and words[0].isdecimal():
            values[name] = int(words[0]) * 1024
    return values


def free_address_space() -> int:
    """Bytes that this process may still map (RLIMIT_AS)."""
    return _unmapped(resource.RLIMIT_AS, 0)


def _unmapped(limit: int, field: int) -> int:
    """Bytes left of a limit on mappings; this field of /proc/self/statm has those in use (proc_pid_statm(5))."""
    soft, _ = resource.getrlimit(limit)
    if soft == resource.RLIM_INFINITY:
        return UNLIMITED
    words = " ".join(_lines("/proc/self/statm")).split()
    used = int(words[field]) * os.sysconf("SC_PAGESIZE") if len(words) > field and words[field].isdecimal() else 0
    return max(0, soft - used)


def refuse_tiny_address_space() -> None:
    """Make sure that numpy and the libraries that draw can be loaded.

    Asked beforehand, for none of them fails in good order: OpenBLAS ends the process with status 1.

    Raises:
        EnvironmentFault: RLIMIT_AS or RLIMIT_DATA leaves too little.
    """
    for name, what, free, needed, way_out in (
        ("RLIMIT_AS", "address space", free_address_space(), LIBRARY_BYTES, "ulimit -v unlimited"),
        ("RLIMIT_DATA", "data", _unmapped(resource.RLIMIT_DATA, 5), LIBRARY_DATA_BYTES, "ulimit -d unlimited"),
    ):
        if free < needed:
            raise EnvironmentFault(
                f"{name} leaves {memory(free)} of {what}, and connbench's libraries need {memory(needed)}",
                f"raise it: {way_out}",
            )


def free_files() -> int:
    """Files that may still be opened by all processes together (fs.file-nr, proc_sys_fs(5)).

    No limit for whoever has CAP_SYS_ADMIN: the kernel does not hold those to fs.file-max (`alloc_empty_file`).
    """
    numbers = [int(word) for word in " ".join(_lines("/proc/sys/fs/file-nr")).split() if word.isdecimal()]
    if len(numbers) != 3 or _has_capability(CAP_SYS_ADMIN):
        return UNLIMITED
    allocated, _, most = numbers
    return max(0, most - allocated)


def processes_left() -> Left:
    """Processes and threads that may still be started, by the limit that leaves the fewest.

    These are kernel.pid_max and kernel.threads-max, RLIMIT_NPROC of the user, and pids.max of each control group. The
    kernel counts threads for all four (`copy_process` in kernel/fork.c).
    """
    found = [Left(MOST_PROCESSES, "the kernel's PID_MAX_LIMIT")]
    running = _threads_of_all()
    for name in ("pid_max", "threads-max"):
        text = "".join(_lines(f"/proc/sys/kernel/{name}")).strip()
        if text.isdecimal():
            most = int(text)
            # In a pid namespace with a pid_max of its own (Linux 6.14) the number of all threads says nothing.
            used = running if running < most else _visible_processes()
            found.append(Left(max(0, most - used), f"kernel.{name}"))
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and not _is_free_of_nproc():
        found.append(Left(max(0, soft - _threads_of_user(os.getuid())), "RLIMIT_NPROC"))
    left = cgroup.processes_left()
    return min([*found, left] if left else found)


def _lines(path: str) -> list[str]:
    """Lines of a file; none where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _threads_of_all() -> int:
    """Threads of the machine: the number behind the slash of proc_loadavg(5)."""
    words = " ".join(_lines("/proc/loadavg")).split()
    number = words[3].rpartition("/")[2] if len(words) > 3 else ""
    return int(number) if number.isdecimal() else _visible_processes()


def _visible_processes() -> int:
    try:
        return sum(1 for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    except OSError:
        return 0


def _threads_of_user(user: int) -> int:
    """Threads of all processes whose real user id is this one: what the kernel holds against RLIMIT_NPROC.

    Those that /proc does not show (hidepid, another pid namespace) are missing.
    """
    threads = 0
    try:
        processes = [entry for entry in os.listdir("/proc") if entry.isdecimal()]  # noqa: PTH208  # names are all we need
    except OSError:
        return 0
    for process in processes:
        fields = dict(line.partition(":")[::2] for line in _lines(f"/proc/{process}/status"))
        users, number = fields.get("Uid", "").split(), fields.get("Threads", "").strip()
        if users and users[0] == str(user) and number.isdecimal():
            threads += int(number)
    return threads


def _is_free_of_nproc() -> bool:
    """Whether the kernel does not hold this process to RLIMIT_NPROC: root of the machine, or one of two capabilities.

    The kernel asks in the first user namespace (`copy_process`: INIT_USER, capable()): root of a user namespace is an
    ordinary user of the machine.
    """
    if not _is_first_user_namespace():
        return False
    return os.getuid() == 0 or _has_capability(CAP_SYS_RESOURCE) or _has_capability(CAP_SYS_ADMIN)


def _is_first_user_namespace() -> bool:
    lines = _lines("/proc/self/uid_map")
    if not lines:  # without /proc, or in a kernel without user namespaces, where the only one is the first
        return True
    return [" ".join(line.split()) for line in lines] == [WHOLE_ID_MAP]


def _has_capability(number: int) -> bool:
    """Whether this process has a capability of the machine, not of a user namespace alone."""
    effective = next((line.split()[-1] for line in _lines("/proc/self/status") if line.startswith("CapEff:")), "0")
    return _is_first_user_namespace() and bool(int(effective, 16) >> number & 1)
