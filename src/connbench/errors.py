"""Errors a user can act on, and the exit codes they end in.

Every fault connbench expects is a `ConnbenchError`: a message that names the fault and the value, a hint that names the
way out, and an exit code. The command line prints both and exits; nothing else decides about exit codes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What the exit status of `connbench` means.

    `BUG` is EX_SOFTWARE of sysexits.h; those from 128 on are 128 and the number of a signal, as a shell has them.
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
"""Exit codes of a command that a signal has stopped."""

ENDS_IN_GOOD_ORDER = frozenset({ExitCode.INTERRUPTED, ExitCode.TERMINATED})
"""Those of Ctrl-C and SIGTERM, which are how `serve` and `trace` end: their exit code is then 0."""


class ConnbenchError(Exception):
    """A fault with a way out.

    Args:
        message: What is wrong, with the value at fault; no full stop.
        hint: What to do about it, or an empty string.

    Attributes:
        trace: The traceback of the exception that it was made of, if it was made of one.
    """

    exit_code = ExitCode.FAULT
    trace = ""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ConnbenchError):
    """The command line asks for something that cannot be."""

    exit_code = ExitCode.USAGE


class EnvironmentFault(ConnbenchError):  # noqa: N818  # EnvironmentError is OSError
    """This machine, kernel or user cannot run what was asked for."""

    exit_code = ExitCode.ENVIRONMENT


class TargetError(ConnbenchError):
    """The listener cannot be set up, or the target refuses or does not answer."""

    exit_code = ExitCode.TARGET


class RunFault(ConnbenchError):  # noqa: N818  # RuntimeError means something else
    """Something broke while measuring; what was measured until then is kept."""

    exit_code = ExitCode.FAULT


class OutputError(ConnbenchError):
    """The result file cannot be written."""

    exit_code = ExitCode.OUTPUT


class InputError(ConnbenchError):
    """A result file cannot be read."""

    exit_code = ExitCode.INPUT


class UnexpectedFault(ConnbenchError):  # noqa: N818  # as the others that are no error of the user's
    """An exception that connbench does not expect: a bug of its own."""

    exit_code = ExitCode.BUG


class Interrupted(ConnbenchError):  # noqa: N818  # what happened is no error, and signal(7) has no better word
    """A signal asked to end: SIGHUP, SIGINT, SIGQUIT or SIGTERM."""

    def __init__(self, signal_number: int) -> None:
        self.exit_code = ExitCode(128 + signal_number)
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")


ERRORS_BY_EXIT_CODE: dict[int, type[ConnbenchError]] = {
    kind.exit_code: kind for kind in (UsageError, EnvironmentFault, TargetError, RunFault, OutputError, UnexpectedFault)
}
"""Turns a fault that crossed a process boundary as a number back into its class."""


DEBUG = "CONNBENCH_DEBUG"


def is_debugging() -> bool:
    """Whether tracebacks are asked for: by --debug, which sets this variable, or by the variable itself."""
    return os.environ.get(DEBUG, "") not in {"", "0"}


def reason_of(error: Exception) -> str:
    """Why something failed: what the C library says of its errno, or the exception's own words."""
    return getattr(error, "strerror", None) or str(error)


def suggest(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """The hint for a word that is none of those known: the one that was probably meant; else `otherwise`, or all."""
    from difflib import get_close_matches  # noqa: PLC0415  # only a mistake needs it, and the engine loads this module

    names = {name.lower(): name for name in known}
    near = get_close_matches(word.lower(), names, n=1)
    return f"did you mean {names[near[0]]}?" if near else otherwise or f"known: {', '.join(names.values())}"
