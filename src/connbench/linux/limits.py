"""How much a process, a user and the machine may have: files, memory, processes."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

OUT_OF_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""What calls fail with where a limit of the process, the user or the machine is reached."""


MOST_PROCESSES = 1 << 22
"""PID_MAX_LIMIT of a 64-bit kernel (include/linux/threads.h)."""


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
    used = sum(1 for _ in Path("/proc/self/fd").iterdir()) - 1  # one of them is the listing's own
    return soft - used


def available_memory() -> int:
    """Bytes that can be had without swapping (MemAvailable, proc(5))."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return int(values["MemAvailable"].split()[0]) * 1024


def free_files() -> int:
    """Files that may still be opened by all processes together (fs.file-nr, proc(5))."""
    allocated, _, most = map(int, Path("/proc/sys/fs/file-nr").read_text(encoding="ascii").split())
    return most - allocated


def free_processes() -> int:
    """Processes that may still be started: by kernel.pid_max, the user's limit and the control group's, the least."""
    running = sum(1 for entry in Path("/proc").iterdir() if entry.name.isdecimal())
    most = int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))
    soft, _ = resource.getrlimit(resource.RLIMIT_NPROC)
    if soft != resource.RLIM_INFINITY and os.geteuid() != 0:
        most = min(most, soft)
    return min(most - running, _free_in_control_group())


def _free_in_control_group() -> int:
    """By pids.max of this process's group, cgroup v2; no limit where there is none to be seen."""
    try:
        text = Path("/proc/self/cgroup").read_text(encoding="utf-8")
        name = next(line[4:] for line in text.splitlines() if line.startswith("0::/"))
        group = Path("/sys/fs/cgroup") / name
        return int((group / "pids.max").read_text()) - int((group / "pids.current").read_text())
    except (OSError, StopIteration, ValueError):  # no such group, or `max`
        return MOST_PROCESSES
