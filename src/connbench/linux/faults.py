"""What an exception means to the user: a limit that was reached, or a bug; and how a fault crosses processes."""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import connbench
from connbench.errors import ERRORS_BY_EXIT_CODE, ConnbenchError, EnvironmentFault, RunFault, UnexpectedFault
from connbench.findings import printable
from connbench.linux.limits import OUT_OF_RESOURCES, available_memory, open_files
from connbench.linux.process import describe_end
from connbench.linux.shortage import way_out

LONGEST_WORDS = 300
"""Characters of an exception's text that are shown: it may quote a file."""

NEAR = 0.95
"""Share of RLIMIT_AS from which on an exception is put down to it."""

HOW_TO_REPORT = "report it on connbench's issue tracker: this line, the command, the output of --debug, and"

_CAUSES = {
    errno.EMFILE: re.compile(r"Err(?:no|or) 24\b|Too many open files(?! in system)"),
    errno.ENFILE: re.compile(r"Err(?:no|or) 23\b|Too many open files in system"),
    errno.ENOMEM: re.compile(r"Err(?:no|or) 12\b|Cannot allocate memory|MemoryError|failed to map|[Oo]ut of memory"),
    errno.EAGAIN: re.compile(r"Err(?:no|or) 11\b|Resource temporarily unavailable|can't start new thread"),
}
"""How Python and the dynamic loader name what they lack where they cannot begin."""

_DENIED = {errno.EPERM, errno.ENOSYS}
"""What a system call fails with that a sandbox (seccomp) denies, or that a kernel has not."""

_NAMES_DENIED = re.compile(r"\[Err(?:no|or) (?:1|38)\]")

ALLOW_IT = "a sandbox, a container or a security module denies a system call: allow it there, or run connbench outside"


def fault_of(error: Exception) -> ConnbenchError:
    """The fault that an exception is: itself if it is one, a limit reached, a system call denied, or else a bug.

    Its `trace` is the traceback as text; the exception, and all that its frames hold, can go.
    """
    if isinstance(error, ConnbenchError):
        return error
    fault = lack_of(error) or _denial(error) or UnexpectedFault(f"unexpected {_described(error)}", _how_to_report())
    with suppress(MemoryError):
        fault.trace = "".join(traceback.format_exception(error))
    return fault


def _denial(error: Exception) -> EnvironmentFault | None:
    """The fault of a system call that is denied here; None for anything else."""
    if isinstance(error, OSError) and error.errno in _DENIED:
        return EnvironmentFault(f"this machine denies what connbench needs: {_described(error)}", ALLOW_IT)
    return None


def _is_out_of_address_space() -> bool:
    """Whether this process has come near to RLIMIT_AS: a lack of memory then comes out of Python as almost anything."""
    with suppress(OSError, StopIteration, MemoryError):
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        if limit == resource.RLIM_INFINITY:
            return False
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        peak = next(int(line.split()[1]) for line in lines if line.startswith("VmPeak:")) * 1024
        return peak > NEAR * limit
    return False


def lack_of(error: Exception) -> EnvironmentFault | None:
    """The limit that an exception is about, with its value; None where it is about none."""
    if isinstance(error, MemoryError):
        return _lack(errno.ENOMEM)
    if isinstance(error, OSError) and error.errno in OUT_OF_RESOURCES:
        return _lack(error.errno)
    if _is_out_of_address_space():
        return _lack(errno.ENOMEM)
    # An extension module that cannot be loaded has the loader's words alone.
    return _lack_in(str(error)) if isinstance(error, ImportError) else None


def _lack_in(words: str) -> EnvironmentFault | None:
    """The limit that these words of Python or the loader are about."""
    return next((_lack(number) for number, names in _CAUSES.items() if names.search(words)), None)


def _lack(number: int) -> EnvironmentFault:
    messages = {
        errno.EMFILE: f"too many open files: RLIMIT_NOFILE is {open_files()[0]}",
        errno.ENFILE: "too many open files on this machine",
        errno.ENOMEM: f"out of memory: {_memory()}",
    }
    return EnvironmentFault(messages.get(number, f"no further process: {os.strerror(number)}"), way_out(number))


def _memory() -> str:
    """The limits on this process's memory; without one what this machine has left."""
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
    """An exception in one line: its class, its words, and the innermost place of connbench's that it passed."""
    words = printable(" ".join(str(error).split()))[:LONGEST_WORDS]
    root = Path(connbench.__file__).parent
    places = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(root)]
    where = f" ({Path(places[-1].filename).relative_to(root.parent)}, line {places[-1].lineno})" if places else ""
    return f"{type(error).__name__}{words and f': {words}'}{where}"


def _how_to_report() -> str:
    return (
        f"{HOW_TO_REPORT} connbench {connbench.__version__}, Linux {os.uname().release}, "
        f"Python {sys.version.split()[0]}"
    )


def end_of(who: str, status: int, last_words: str) -> ConnbenchError:
    """The fault that a child is which ended without a word of its own.

    Args:
        who: Which child, as the subject of a sentence.
        status: Its exit status, or minus the signal that killed it.
        last_words: What it wrote on stderr: a traceback, or the interpreter's or loader's complaint.
    """
    lines = [line.strip() for line in last_words.splitlines() if line.strip()]
    if status < 0:
        how, advice = describe_end(status)
        fault: ConnbenchError = RunFault(f"{who} {how}", advice)
    else:
        lack = _lack_in(last_words)
        said = printable(lines[-1])[:LONGEST_WORDS] if lines else "it said nothing"
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
    fault.trace = last_words
    return fault


def told(fault: ConnbenchError) -> dict[str, str | int]:
    """A fault as JSON takes it, to cross a process boundary."""
    return {"message": fault.message, "hint": fault.hint, "exit_code": int(fault.exit_code), "trace": fault.trace}


def heard(words: dict[str, Any]) -> ConnbenchError:
    """The fault again, of its own class."""
    fault = ERRORS_BY_EXIT_CODE.get(words["exit_code"], ConnbenchError)(words["message"], words["hint"])
    fault.trace = words["trace"]
    return fault
