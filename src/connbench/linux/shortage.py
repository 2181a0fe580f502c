"""What a system call failed for want of, how to get more of it, and how many processes may still be started."""

from __future__ import annotations

import errno

from connbench.errors import EnvironmentFault
from connbench.linux import cgroup
from connbench.linux.cgroup import Left
from connbench.linux.limits import machine_memory, processes_left

PROCESS_BYTES = 2 << 20
"""Memory of a process forked from one of ours: 1.3 MB of private pages were seen, and 0.1 MB of page tables."""

MEMORY_LEFT = 256 << 20
"""Bytes of the machine's memory left to everything else."""

GROUP_MEMORY_LEFT = 32 << 20
"""Bytes of a control group's memory left to what runs in it already."""

_WAYS_OUT = {
    errno.EAGAIN: "raise the limit of processes: ulimit -u, the cgroup's pids.max, kernel.pid_max, kernel.threads-max",
    errno.EMFILE: "raise RLIMIT_NOFILE (ulimit -n)",
    errno.ENFILE: "raise fs.file-max",
    errno.ENOMEM: "free memory, or raise the cgroup's memory.max or RLIMIT_AS (ulimit -v)",
    errno.ENOBUFS: "free memory: the kernel has none for the buffer of a socket",
    errno.ENOSPC: "raise fs.epoll.max_user_watches",
}
"""By errno of fork(2), socket(2), accept(2), open(2), mmap(2) and epoll_ctl(2): their manual pages name the limits."""


def way_out(number: int | None) -> str:
    """How to get more of what a call lacked that failed with this errno; EAGAIN is fork()'s."""
    return _WAYS_OUT.get(number or 0, "see which limit that is: ulimit -a, and the files of the cgroup")


def allowed_processes() -> Left:
    """How many processes may be started now, by the limits on processes and by memory; 0 where none may be."""
    found = [
        processes_left(),
        Left(max(0, machine_memory() - MEMORY_LEFT) // PROCESS_BYTES, "free memory"),
    ]
    group = cgroup.memory_left()
    if group:
        found.append(Left(max(0, group.amount - GROUP_MEMORY_LEFT) // PROCESS_BYTES, group.limit))
    return min(found, key=lambda left: left.amount)


def refuse_processes(number: int, purpose: str, advice: str) -> Left:
    """Make sure that so many processes may be started, before the first of them is.

    Args:
        number: How many.
        purpose: What takes them, for the message: `50,000 connections`.
        advice: What to do about it.

    Returns:
        How many may be, and what does not allow more.

    Raises:
        EnvironmentFault: They may not, with both figures and the limit.
    """
    allowed = allowed_processes()
    if number > allowed.amount:
        raise EnvironmentFault(
            f"{purpose}: it takes {number:,} more processes, and {allowed.amount:,} are allowed ({allowed.limit})",
            advice,
        )
    return allowed
