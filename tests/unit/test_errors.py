"""Errors and their exit codes."""

from __future__ import annotations

import pytest

from connbench.errors import (
    ERRORS_BY_EXIT_CODE,
    ConnbenchError,
    EnvironmentFault,
    Interrupted,
    OutputError,
    RunFault,
    TargetError,
    UnexpectedFault,
    UsageError,
)


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ConnbenchError, 6),
        (UsageError, 2),
        (EnvironmentFault, 4),
        (TargetError, 5),
        (RunFault, 6),
        (OutputError, 7),
        (UnexpectedFault, 70),
    ],
)
def test_error_has_the_documented_exit_code(kind: type[ConnbenchError], code: int) -> None:
    """Scripts distinguish faults by the exit code, so it never changes."""
    assert kind("message").exit_code == code


@pytest.mark.parametrize("kind", [UsageError, EnvironmentFault, TargetError, RunFault, OutputError, UnexpectedFault])
def test_error_crosses_a_process_boundary_by_its_exit_code(kind: type[ConnbenchError]) -> None:
    """The exit code that a process reports leads back to the class of its error."""
    assert ERRORS_BY_EXIT_CODE[kind.exit_code] is kind


def test_error_has_a_message_and_a_remedy() -> None:
    """An error keeps message and hint apart; the message alone is the exception's text."""
    error = RunFault("socket() failed", "raise RLIMIT_NOFILE")
    assert (str(error), error.message, error.hint) == ("socket() failed", "socket() failed", "raise RLIMIT_NOFILE")


@pytest.mark.parametrize(
    ("number", "name", "code"),
    [(1, "SIGHUP", 129), (2, "SIGINT", 130), (3, "SIGQUIT", 131), (15, "SIGTERM", 143)],
)
def test_interruption_ends_as_the_shell_expects(number: int, name: str, code: int) -> None:
    """A signal ends in 128 and its number, as from a process that it killed."""
    error = Interrupted(number)
    assert (error.message, error.exit_code) == (f"stopped by {name}", code)
