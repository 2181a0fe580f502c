"""Faults that a user can act on, and the exit codes of connbench.

Every fault that connbench expects is a `ConnbenchError`. It has a message with the fault and the value, a hint with the
way out, and an exit code. The command line prints message and hint, and exits; no other code decides on exit codes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """The exit codes of `connbench`.

    `BUG` is EX_SOFTWARE of sysexits.h. Codes from 128 on are 128 plus the number of a signal, as in a shell.
    """

    OK = 0
    THRESHOLD = 1
    USAGE = 2
    UNSOUND = 3
    ENVIRONMENT = 4
    TARGET = 5
    FAULT = 6
    OUTPUT = 7
    INPUT = 8
    BUG = 70
    HUNG_UP = 129
    INTERRUPTED = 130
    QUIT = 131
    TERMINATED = 143


INTERRUPTIONS = frozenset({ExitCode.HUNG_UP, ExitCode.INTERRUPTED, ExitCode.QUIT, ExitCode.TERMINATED})
"""Exit codes of a command that a signal stopped."""

ENDS_IN_GOOD_ORDER = frozenset({ExitCode.INTERRUPTED, ExitCode.TERMINATED})
"""Ctrl-C and SIGTERM: the normal way to end `serve` and `trace`, which then exit with 0."""


class ConnbenchError(Exception):
    """A fault with a way out.

    Args:
        message: The fault and the value; without a full stop.
        hint: What to do about it, or an empty string.

    Attributes:
        trace: The traceback of the exception that was the cause; empty without one.
    """

    exit_code = ExitCode.FAULT
    trace = ""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ConnbenchError):
    """The command line asks for something impossible."""

    exit_code = ExitCode.USAGE


class EnvironmentFault(ConnbenchError):  # noqa: N818  # EnvironmentError is OSError
    """This machine, kernel or user cannot do what the command line asks for."""

    exit_code = ExitCode.ENVIRONMENT


class TargetError(ConnbenchError):
    """The listener cannot be started, or the target refuses or does not answer."""

    exit_code = ExitCode.TARGET


class RunFault(ConnbenchError):  # noqa: N818  # RuntimeError means something else
    """A fault during the run; the attempts until then are kept."""

    exit_code = ExitCode.FAULT


class OutputError(ConnbenchError):
    """Stdout or a file cannot be written."""

    exit_code = ExitCode.OUTPUT


class InputError(ConnbenchError):
    """A result file, or a dump of sockets, cannot be read."""

    exit_code = ExitCode.INPUT


class UnexpectedFault(ConnbenchError):  # noqa: N818  # like the other faults: not an error of the user
    """An exception that connbench does not expect: a bug in connbench."""

    exit_code = ExitCode.BUG


class Interrupted(ConnbenchError):  # noqa: N818  # an interruption is not an error
    """A signal asked connbench to end: SIGHUP, SIGINT, SIGQUIT or SIGTERM."""

    def __init__(self, signal_number: int) -> None:
        self.exit_code = ExitCode(128 + signal_number)
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")


ERRORS_BY_EXIT_CODE: dict[int, type[ConnbenchError]] = {
    kind.exit_code: kind
    for kind in (UsageError, EnvironmentFault, TargetError, RunFault, OutputError, InputError, UnexpectedFault)
}
"""The class of a fault that another process reported by its exit code."""


DEBUG = "CONNBENCH_DEBUG"


def is_debugging() -> bool:
    """Whether to print tracebacks: --debug sets this variable, and so can the user."""
    return os.environ.get(DEBUG, "") not in {"", "0"}


def reason_of(error: Exception) -> str:
    """The text of an exception: that of its errno if it has one."""
    return getattr(error, "strerror", None) or str(error)


def suggest(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """The hint for an unknown word: the known word that is nearest to it; else `otherwise`, or all known words."""
    from difflib import get_close_matches  # noqa: PLC0415  # only a mistake needs it, and the engine loads this module

    names = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), names, n=1)
    return f"did you mean {names[near[0]]}?" if near else otherwise or f"known: {', '.join(names.values())}"
