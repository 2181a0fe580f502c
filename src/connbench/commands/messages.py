"""Messages to the user on stderr, a line for the fault and a line for the advice; and the terminal that stdout is."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from connbench.errors import ConnbenchError, ExitCode, is_debugging
from connbench.findings import Finding, Severity
from connbench.safe_text import printable, printable_lines
from connbench.wording import fold

if TYPE_CHECKING:
    from connbench.results.fleet_file import Fleet
    from connbench.results.result import Result

WITHOUT_FINDINGS = {"talk", "csv", "talk-csv", "gobench", "bmf", "benchmark-action", "hgrm", "hlog"}
"""Formats without a place for findings."""


def print_error(error: ConnbenchError) -> None:
    """Print an error and its hint; before them its traceback, if it has one and --debug asks for it."""
    if error.trace and is_debugging():
        _write(error.trace.rstrip("\n"))
    _print_lines("", error.message, error.hint)


def exit_code(failures: Sequence[ConnbenchError], otherwise: ExitCode = ExitCode.OK, *, is_invalid: bool) -> int:
    """Print every failure, and return the exit code of the worst.

    The order, worst first: a fault or a signal during the measurement, an output that cannot be written, a measurement
    that is not sound, a threshold that failed.

    Args:
        failures: The failures, the worst last.
        otherwise: The exit code of the thresholds.
        is_invalid: Whether the measurement is not sound.
    """
    for failure in failures:
        print_error(failure)
    if failures:
        return failures[-1].exit_code
    return ExitCode.UNSOUND if is_invalid else otherwise


def warn(finding: Finding) -> None:
    """Print a finding on stderr, before the report."""
    _print_lines(f"{finding.severity}: ", finding.text, finding.advice)


def warn_of_invalid(result: Result | Fleet, output_format: str) -> bool:
    """Print the findings of invalid or partial figures and of an unknown unit, if the format has no place for them.

    Returns:
        Whether the result is invalid.
    """
    from connbench.analysis.fleet_summary import summarize_fleet  # loads numpy
    from connbench.analysis.soundness import findings
    from connbench.results.fleet_file import Fleet, with_short_names
    from connbench.results.result import PARTIAL, UNIT

    if isinstance(result, Fleet):
        found = list(summarize_fleet(with_short_names(result)[0]).findings)
    else:
        found = findings(result)
    invalid = [finding for finding in found if finding.severity is Severity.INVALID]
    if output_format in WITHOUT_FINDINGS:
        for finding in (*invalid, *(f for f in found if f.code in {PARTIAL, UNIT})):
            warn(finding)
    return bool(invalid)


def discard_stdout() -> None:
    """Send stdout to /dev/null from now on; else Python writes the rest again at exit, and exits with 120."""
    _discard(1)


def discard_stderr() -> None:
    """Send stderr to /dev/null from now on, for instance after the terminal was closed."""
    _discard(2)


def _discard(descriptor: int) -> None:
    with suppress(OSError):  # no descriptor is free; then only the exit code is wrong
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)


def print_message(message: str) -> None:
    """Print a message on stderr that is not a fault, for instance what the command does next."""
    _print_lines("", message, "")


def print_text(text: str) -> None:
    """Print on stdout, without control characters or commands to a CI runner that a file may contain.

    All output goes through this function. JSON has escapes of its own (`connbench.safe_text.printable_json`), and does
    not change here.
    """
    click.echo(printable_lines(text))


def width() -> int | None:
    """Columns of the terminal that stdout is; None where it is none: there each line stays whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def can_be_bold() -> bool:
    """Whether stdout is a terminal that shows bold characters."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


LONGEST_WORD, LONGEST_LINE = 200, 1000
"""Characters of the longest word and line of a message; a longer one, as a number of 4,300 digits, is shortened."""


def _print_lines(kind: str, message: str, advice: str) -> None:
    *_, last = lines = message.split("\n")
    # Three lines are a condition with a caret below its fault; any other line break is part of a value.
    shown = lines if len(lines) == 3 and last.strip() == "^" else [message]
    message = "\n".join(map(_one_line, shown))
    lines = _folded(f"connbench: {kind}{message}", " " * 2)
    if advice:
        lines += _folded(f"  -> {_one_line(advice)}", " " * 5)
    _write("\n".join(lines))


def _write(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:  # stderr is closed: there is no place for this error
        discard_stderr()


def _one_line(text: str) -> str:
    words = (_shortened(word, LONGEST_WORD) for word in printable(text).split(" "))
    return _shortened(" ".join(words), LONGEST_LINE)


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]}... ({len(text):,} characters) ...{text[-longest // 5 :]}"


def _folded(text: str, indent: str) -> list[str]:
    """Lines that fit the terminal's width, broken between words; unchanged if stderr is not a terminal."""
    if not sys.stderr.isatty():
        return [text]
    width = shutil.get_terminal_size().columns
    lines = [line for line in text.splitlines() if line.strip()]
    return [folded for line in lines for folded in fold(line, width, indent).split("\n")]
