"""This process: its parent, namespaces, CPUs and memory; and functions that run in a child of it.

prctl(2), unshare(2) and setns(2) are called through the C library, as Python 3.11 lacks them.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

from connbench.errors import ConnbenchError, EnvironmentFault
from connbench.interrupts import BlockedSignals
from connbench.linux.faults import advice_for_errno, describe_end, fault_from_dict, fault_to_dict, limit_fault

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

FAULT_STATUS = 3
"""Exit status of a child that has reported a fault."""

MARK = "\0outcome: "
"""The beginning of the line in which a child reports its outcome."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def die_with_parent(parent: int) -> None:
    """Make the kernel kill this process when its parent dies.

    The kernel drops this setting when the process's credentials change: call it again after entering a user namespace.

    Args:
        parent: The parent's process id. If another process is the parent by now, this process kills itself.
    """
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def unshare(flags: int) -> None:
    """Move this process to new namespaces of the kinds in `flags` (CLONE_NEW...).

    Raises:
        OSError: EPERM where not allowed; EINVAL for CLONE_NEWUSER in a process with threads.
    """
    _check(_libc.unshare(flags), "unshare")


def set_namespace(descriptor: int, kind: int) -> None:
    """Move this process to the namespace of a descriptor, which is of this kind (a CLONE_NEW flag).

    Raises:
        OSError: EPERM where not allowed; EINVAL for a namespace of another kind.
    """
    _check(_libc.setns(descriptor, kind), "setns")


def open_own_namespace() -> int:
    """A descriptor of this process's network namespace, to return to it from another one.

    Raises:
        OSError: No descriptor is free, or /proc is hidden.
    """
    return os.open("/proc/self/ns/net", os.O_RDONLY)


def usable_cpus() -> set[int]:
    """The CPUs that this process may run on; all CPUs if a sandbox denies the question."""
    try:
        return os.sched_getaffinity(0)
    except OSError:
        return set(range(os.cpu_count() or 1))


def why_not_pinned() -> str:
    """Why this process may not choose its CPUs; empty if it may. Nothing is changed."""
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except OSError as error:
        return f"sched_setaffinity: {error.strerror}"
    return ""


def resident_bytes() -> int:
    """Resident memory of this process in bytes; without /proc the most that it ever had."""
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class PrivateMemory:
    """Private memory of this process: what its end would free.

    The file in /proc is opened once, so that it can be read when the process cannot open files any more.
    """

    def __init__(self) -> None:
        try:
            self._rollup: int | None = os.open("/proc/self/smaps_rollup", os.O_RDONLY)
        except FileNotFoundError:  # a kernel without CONFIG_PROC_PAGE_MONITOR, or no /proc
            self._rollup = None

    def read(self) -> int:
        """The private memory in bytes; 0 if the kernel does not tell."""
        if self._rollup is None:
            return 0
        lines = os.pread(self._rollup, 4096, 0).splitlines()
        private = [line for line in lines if line.startswith((b"Private_Clean:", b"Private_Dirty:"))]
        return sum(int(line.split()[1]) for line in private) * 1024


def in_child(work: Callable[[], object], failure: str, hint: str) -> Any:  # noqa: ANN401  # whatever `work` returns
    """Call a function in a child process. The modules that it loads and the namespaces that it enters end with it.

    What the child prints is discarded.

    Args:
        work: The function. A ConnbenchError that it raises is raised here.
        failure: The message of the fault if it raises another exception.
        hint: The hint of that fault.

    Returns:
        What the function returns, which must have the types of JSON.

    Raises:
        ConnbenchError: The function failed, or the kernel gives no process.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    try:
        with BlockedSignals():  # the parent's signal handlers must not run in the child
            child = os.fork()
            if child == 0:
                _report_outcome(work, writer, parent, (failure, hint))
    except OSError as error:
        os.close(reader)
        os.close(writer)
        raise EnvironmentFault(f"{failure}: fork: {error.strerror}", advice_for_errno(error.errno)) from error
    os.close(writer)
    try:
        with os.fdopen(reader, encoding="utf-8", errors="replace") as pipe:
            text = pipe.read()
    except BaseException:  # a signal handler raised
        os.kill(child, signal.SIGKILL)
        raise
    finally:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status not in {0, FAULT_STATUS}:
        raise EnvironmentFault(f"{failure}: its process {describe_end(status)[0]}", hint)
    outcome = json.loads(next(line for line in text.split("\n") if line.startswith(MARK)).removeprefix(MARK))
    if status == FAULT_STATUS:
        raise fault_from_dict(outcome)
    return outcome


def _report_outcome(work: Callable[[], object], writer: int, parent: int, failure_and_hint: tuple[str, str]) -> Never:
    status = 1
    try:
        die_with_parent(parent)
        os.dup2(writer, 2)  # libraries print warnings and tracebacks
        _write_outcome(writer, work())
        status = 0
    except Exception as error:  # noqa: BLE001  # the child reports it, and the parent raises it
        fault = error if isinstance(error, ConnbenchError) else limit_fault(error)
        _write_outcome(
            writer, fault_to_dict(fault or EnvironmentFault(f"{failure_and_hint[0]}: {error}", failure_and_hint[1]))
        )
        status = FAULT_STATUS
    finally:
        os._exit(status)


def _write_outcome(writer: int, outcome: object) -> None:
    """Write the outcome on a line of its own, as libraries may print before it and, at exit, after it."""
    os.write(writer, f"\n{MARK}{json.dumps(outcome)}\n".encode())
