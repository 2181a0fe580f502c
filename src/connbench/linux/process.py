"""Calls on the own process that Python has no name for (prctl(2), unshare(2), setns(2)), through the C library."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path
from typing import IO

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
"""What the kernel, or abort(3), ends a process with that has gone wrong itself."""

WHO_SENDS = {
    signal.SIGXCPU: "raise RLIMIT_CPU (ulimit -t)",
    signal.SIGSYS: "a sandbox (seccomp) forbids one of its system calls",
}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies.

    Forgotten by the kernel when credentials change, so call it again after entering a user namespace.

    Args:
        parent: Process id of the parent as this process knew it; if it is gone already, this process ends here.
    """
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def unshare(flags: int) -> None:
    """Leave the parent's namespaces of the kinds in `flags` for new ones.

    Raises:
        OSError: EPERM where not allowed; EINVAL for CLONE_NEWUSER in a process with threads.
    """
    _check(_libc.unshare(flags), "unshare")


def set_namespace(descriptor: int, kind: int) -> None:
    """Move to the namespace of a descriptor, which is of this kind (a CLONE_NEW flag).

    Raises:
        OSError: EPERM where not allowed; EINVAL for a namespace of another kind.
    """
    _check(_libc.setns(descriptor, kind), "setns")


def usable_cpus() -> set[int]:
    """CPUs that this process may run on; all there are where it may not ask (seccomp)."""
    try:
        return os.sched_getaffinity(0)
    except OSError:
        return set(range(os.cpu_count() or 1))


def why_not_pinned() -> str:
    """Why this process may not choose its CPUs; empty where it may. Nothing is changed."""
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except OSError as error:
        return f"sched_setaffinity: {error.strerror}"
    return ""


def describe_end(status: int) -> tuple[str, str]:
    """How a child ended, and what to do about it.

    Args:
        status: Its exit status, or minus the signal that killed it.
    """
    if status >= 0:
        return f"ended with status {status}", "run it again"
    number = signal.Signals(-status)
    how = f"was killed by {number.name}"
    if number is signal.SIGKILL:
        return how, "if nobody killed it, dmesg shows whether the OOM killer did; then run it again"
    if number in CRASHES:
        return how, "run it again; if that happens again, report it on connbench's issue tracker"
    return how, WHO_SENDS.get(number, "another process sent that signal: run it again")


def resident_bytes() -> int:
    """Resident memory of this process, in bytes; where /proc does not tell, the most that it ever was."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class PrivateMemory:
    """Memory only this process has: what it would give back if it ended.

    The kernel's account of it is opened once, so that it can still be read when no file can be opened any more.
    """

    def __init__(self) -> None:
        try:
            self._rollup: IO[bytes] | None = Path("/proc/self/smaps_rollup").open("rb", buffering=0)  # noqa: SIM115  # lives with the object
        except FileNotFoundError:  # a kernel without CONFIG_PROC_PAGE_MONITOR, or no /proc
            self._rollup = None

    def read(self) -> int:
        """The amount in bytes; 0 where the kernel does not tell."""
        if self._rollup is None:
            return 0
        self._rollup.seek(0)
        lines = self._rollup.read().splitlines()
        private = [line for line in lines if line.startswith((b"Private_Clean:", b"Private_Dirty:"))]
        return sum(int(line.split()[1]) for line in private) * 1024
