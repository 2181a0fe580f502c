"""What a failed call lacked, and how many processes may be started: the limits are named, and none is exceeded."""

from __future__ import annotations

import errno

import pytest

from connbench.errors import EnvironmentFault
from connbench.linux import cgroup_limits, limits
from connbench.linux.cgroup_limits import Remaining
from connbench.linux.faults import advice_for_errno
from connbench.linux.limits import GROUP_MEMORY_LEFT, MEMORY_LEFT, PROCESS_BYTES, check_processes


@pytest.mark.parametrize(
    ("number", "names"),
    [
        (errno.EAGAIN, ("ulimit -u", "pids.max", "kernel.pid_max", "kernel.threads-max")),
        (errno.EMFILE, ("RLIMIT_NOFILE", "ulimit -n")),
        (errno.ENFILE, ("fs.file-max",)),
        (errno.ENOMEM, ("memory.max", "ulimit -v")),
        (errno.ENOBUFS, ("memory",)),
        (errno.ENOSPC, ("fs.epoll.max_user_watches",)),
        (None, ("ulimit -a",)),
    ],
)
def test_advice_names_the_limit_that_was_reached(number: int | None, names: tuple[str, ...]) -> None:
    """Each errno has the advice of its own limit: fork()'s EAGAIN does not mention open files."""
    assert all(name in advice_for_errno(number) for name in names)
    assert ("ulimit -n" in advice_for_errno(number)) == (number == errno.EMFILE)


@pytest.mark.parametrize(
    ("processes", "memory", "group", "limit"),
    [
        (100, 1 << 40, None, "100 are allowed (RLIMIT_NPROC)"),
        (1 << 22, MEMORY_LEFT + 100 * PROCESS_BYTES, None, "100 are allowed (free memory)"),
        (0, 1 << 40, None, "0 are allowed (RLIMIT_NPROC)"),
        (100, 0, None, "0 are allowed (free memory)"),
        (100, 1 << 40, GROUP_MEMORY_LEFT + 7 * PROCESS_BYTES, "7 are allowed (/sys/fs/cgroup/memory.max)"),
        (100, 1 << 40, 5, "0 are allowed (/sys/fs/cgroup/memory.max)"),
    ],
)
def test_as_many_processes_as_are_allowed(
    processes: int, memory: int, group: int | None, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last allowed number is accepted; one more is refused with the wish, the limit and the reason."""
    left = None if group is None else Remaining(group, "/sys/fs/cgroup/memory.max")
    monkeypatch.setattr(limits, "processes_left", lambda: Remaining(processes, "RLIMIT_NPROC"))
    monkeypatch.setattr(limits, "machine_memory", lambda: memory)
    monkeypatch.setattr(cgroup_limits, "memory_left", lambda: left)
    allowed = limits.allowed_processes().amount
    check_processes(allowed, "500 connections", "ask for fewer")
    with pytest.raises(EnvironmentFault) as refused:
        check_processes(allowed + 1, "500 connections", "ask for fewer")
    assert refused.value.message == f"500 connections: this needs {allowed + 1} more processes, and {limit}"
    assert refused.value.hint == "ask for fewer"
