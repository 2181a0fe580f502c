"""What an exception, an errno or the end of a process means to the user, and what to do about it."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import connbench
from connbench.errors import ERRORS_BY_EXIT_CODE, ConnbenchError, EnvironmentFault, RunFault, UnexpectedFault
from connbench.linux.limits import OUT_OF_RESOURCES, available_memory, open_files
from connbench.safe_text import printable

LONGEST_TEXT = 300
"""The most characters of an exception's text that a message shows: the text may quote a file."""

NEAR_LIMIT = 0.95
"""An exception counts as a lack of memory if the process has used this part of RLIMIT_AS."""

HOW_TO_REPORT = "report it on connbench's issue tracker: this line, the command, the output of --debug, and"

_CAUSES = {
    errno.EMFILE: re.compile(r"Err(?:no|or) 24\b|Too many open files(?! in system)"),
    errno.ENFILE: re.compile(r"Err(?:no|or) 23\b|Too many open files in system"),
    errno.ENOMEM: re.compile(r"Err(?:no|or) 12\b|Cannot allocate memory|MemoryError|failed to map|[Oo]ut of memory"),
    errno.EAGAIN: re.compile(r"Err(?:no|or) 11\b|Resource temporarily unavailable|can't start new thread"),
}
"""How Python and the dynamic loader write these errors on stderr when they cannot start."""

_DENIED = {errno.EPERM, errno.ENOSYS}
"""What a system call fails with if a sandbox (seccomp) denies it, or the kernel lacks it."""

_NAMES_DENIED = re.compile(r"\[Err(?:no|or) (?:1|38)\]")

_ADVICE = {
    errno.EAGAIN: "raise the limit of processes: ulimit -u, the cgroup's pids.max, kernel.pid_max, kernel.threads-max",
    errno.EMFILE: "raise RLIMIT_NOFILE (ulimit -n)",
    errno.ENFILE: "raise fs.file-max",
    errno.ENOMEM: "free memory, or raise the cgroup's memory.max or RLIMIT_AS (ulimit -v)",
    errno.ENOBUFS: "free memory: the kernel has none for the buffer of a socket",
    errno.ENOSPC: "raise fs.epoll.max_user_watches",
}
"""By errno of fork(2), socket(2), accept(2), open(2), mmap(2) and epoll_ctl(2), whose manual pages name the limits."""

CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
"""Signals by which the kernel, or abort(3), ends a process that has a bug."""

_ADVICE_ON_SIGNAL = {
    signal.SIGXCPU: "raise RLIMIT_CPU (ulimit -t)",
    signal.SIGSYS: "a sandbox (seccomp) forbids one of its system calls",
}

ALLOW_IT = "a sandbox, a container or a security module denies a system call: allow it there, or run connbench outside"


def fault_of(error: Exception) -> ConnbenchError:
    """Turn an exception into a fault.

    A ConnbenchError stays as it is. Other exceptions mean a reached limit, a denied system call, or a bug in connbench.
    `trace` of the fault is the traceback as text, so that the exception and the objects of its frames can be freed.
    """
    if isinstance(error, ConnbenchError):
        return error
    fault = limit_fault(error) or _denial(error) or UnexpectedFault(f"unexpected {_described(error)}", _how_to_report())
    with suppress(MemoryError):
        fault.trace = "".join(traceback.format_exception(error))
    return fault


def _denial(error: Exception) -> EnvironmentFault | None:
    """The fault of an exception that means a denied system call; None for others."""
    if isinstance(error, OSError) and error.errno in _DENIED:
        return EnvironmentFault(f"this machine denies what connbench needs: {_described(error)}", ALLOW_IT)
    return None


def _is_out_of_address_space() -> bool:
    """Whether this process is close to RLIMIT_AS. Python then raises almost any exception for lack of memory."""
    with suppress(OSError, StopIteration, MemoryError):
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return False
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmPeak:")) * 1024
        return peak > NEAR_LIMIT * limit
    return False


def limit_fault(error: Exception) -> EnvironmentFault | None:
    """The fault of an exception that means a reached limit, with the limit's value; None for other exceptions."""
    if isinstance(error, MemoryError):
        return _limit_fault_of_errno(errno.ENOMEM)
    if isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES:
        return _limit_fault_of_errno(error.errno)
    if _is_out_of_address_space():
        return _limit_fault_of_errno(errno.ENOMEM)
    # If an extension module cannot be loaded, only the loader's text tells the reason.
    return _limit_fault_of_text(str(error)) if isinstance(error, ImportError) else None


def _limit_fault_of_text(text: str) -> EnvironmentFault | None:
    """The fault of a reached limit that a text of Python or the loader tells of; None if it tells of none."""
    return next((_limit_fault_of_errno(number) for number, names in _CAUSES.items() if names.search(text)), None)


def _limit_fault_of_errno(number: int) -> EnvironmentFault:
    messages = {
        errno.EMFILE: f"too many open files: RLIMIT_NOFILE is {open_files()[0]}",
        errno.ENFILE: "too many open files on this machine",
        errno.ENOMEM: f"out of memory: {_memory()}",
    }
    return EnvironmentFault(
        messages.get(number, f"a process cannot start another: {os.strerror(number)}"), advice_for_errno(number)
    )


def _memory() -> str:
    """The limits on this process's memory as a text; if there are none, the memory that is available."""
    limits = {
        name: resource.getrlimit(number)[0]
        for name, number in (("RLIMIT_AS", resource.RLIMIT_AS), ("RLIMIT_DATA", resource.RLIMIT_DATA))
    }
    low = [f"{name} is {limit >> 20:,} MB" for name, limit in limits.items() if limit != resource.RLIM_INFINITY]
    if low:
        return " and ".join(low)
    with suppress(OSError, ValueError, KeyError, MemoryError):
        return f"{available_memory() >> 20:,} MB are available"
    return "none is available"


def _described(error: Exception) -> str:
    """An exception in one line: its class, its text, and the innermost line of connbench that it passed through."""
    words = printable(" ".join(str(error).split()))[:LONGEST_TEXT]
    root = Path(connbench.__file__).parent
    places = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(root)]
    where = f" ({Path(places[-1].filename).relative_to(root.parent)}, line {places[-1].lineno})" if places else ""
    return f"{type(error).__name__}{words and f': {words}'}{where}"


def _how_to_report() -> str:
    return (
        f"{HOW_TO_REPORT} connbench {connbench.__version__}, Linux {os.uname().release}, "
        f"Python {sys.version.split()[0]}"
    )


def advice_for_errno(number: int | None) -> str:
    """What to do if a system call fails with this errno for want of a resource. EAGAIN means that of fork()."""
    return _ADVICE.get(number or 0, "find the limit that is reached: ulimit -a, and the files of the cgroup")


def describe_end(status: int) -> tuple[str, str]:
    """How a child process ended, for a message, and what to do about it.

    Args:
        status: Its exit status, or minus the signal that killed it.
    """
    if status >= 0:
        return f"ended with status {status}", "run it again"
    number = signal.Signals(-status)
    how = f"was killed by {number.name}"
    if number is signal.SIGKILL:
        return how, "if nobody killed it, see in dmesg whether the OOM killer did; then run it again"
    if number in CRASHES:
        return how, "run it again; if that happens again, report it on connbench's issue tracker"
    return how, _ADVICE_ON_SIGNAL.get(number, "another process sent that signal: run it again")


def fault_of_end(who: str, status: int, stderr: str) -> ConnbenchError:
    """The fault of a child that ended without reporting one.

    Args:
        who: The child, as the subject of a sentence.
        status: Its exit status, or minus the signal that killed it.
        stderr: What it wrote to stderr: a traceback, or a message of the interpreter or the loader.
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if status < 0:
        how, advice = describe_end(status)
        fault: ConnbenchError = RunFault(f"{who} {how}", advice)
    else:
        lack = _limit_fault_of_text(stderr)
        said = printable(lines[-1])[:LONGEST_TEXT] if lines else "it said nothing"
        if not lack and _NAMES_DENIED.search(said):
            lack = EnvironmentFault(f"this machine denies it: {said}", ALLOW_IT)
        if lack:
            fault = EnvironmentFault(f"{who} cannot start: {lack.message}", lack.hint)
        elif re.search(r"^(ModuleNotFoundError|ImportError|FileNotFoundError|PermissionError)", said):
            fault = EnvironmentFault(
                f"{who} cannot start: {said}", "an update may have changed connbench or Python meanwhile: run it again"
            )
        else:
            fault = UnexpectedFault(f"{who} ended with status {status}: {said}", _how_to_report())
    fault.trace = stderr
    return fault


def fault_to_dict(fault: ConnbenchError) -> dict[str, str | int]:
    """A fault as JSON values, to send it to another process."""
    return {"message": fault.message, "hint": fault.hint, "exit_code": int(fault.exit_code), "trace": fault.trace}


def fault_from_dict(data: dict[str, Any]) -> ConnbenchError:
    """Make the fault again from what `fault_to_dict` made of it."""
    fault = ERRORS_BY_EXIT_CODE.get(data["exit_code"], ConnbenchError)(data["message"], data["hint"])
    fault.trace = data["trace"]
    return fault
