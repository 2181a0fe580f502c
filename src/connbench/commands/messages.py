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
from connbench.findings import Finding, Severity, harmless, printable
from connbench.folding import fold

if TYPE_CHECKING:
    from connbench.results.result import Result

WITHOUT_FINDINGS = {"talk", "csv", "talk-csv"}
"""Formats that have no place for what a reader of their figures must know."""


def complain(error: ConnbenchError) -> None:
    """Print an error and its way out; before them its traceback, if it has one and --debug asks for it."""
    if error.trace and is_debugging():
        _print(error.trace.rstrip("\n"))
    _say("", error.message, error.hint)


def exit_code(failures: Sequence[ConnbenchError], otherwise: ExitCode = ExitCode.OK, *, is_invalid: bool) -> int:
    """Complain of everything that went wrong, and tell the exit code of the worst.

    The order, worst first: what broke or stopped the measurement, an output that cannot be written, a measurement that
    is not sound, a threshold that failed.

    Args:
        failures: What went wrong, the worst last.
        otherwise: What the thresholds say.
        is_invalid: Whether the measurement is not sound.
    """
    for failure in failures:
        complain(failure)
    if failures:
        return failures[-1].exit_code
    return ExitCode.UNSOUND if is_invalid else otherwise


def warn(finding: Finding) -> None:
    """Print a finding that cannot wait for the report."""
    _say(f"{finding.severity}: ", finding.text, finding.advice)


def warn_of_grave_findings(result: Result, output_format: str) -> bool:
    """Say on stderr what makes figures invalid, partial or of an unknown unit, where their format cannot.

    Returns:
        Whether anything makes them invalid, said or not.
    """
    from connbench.analysis.soundness import findings  # loads numpy, which `--help` need not
    from connbench.results.result import PARTIAL, UNIT

    found = findings(result)
    invalid = [finding for finding in found if finding.severity is Severity.INVALID]
    if output_format in WITHOUT_FINDINGS:
        for finding in (*invalid, *(f for f in found if f.code in {PARTIAL, UNIT})):
            warn(finding)
    return bool(invalid)


def discard_stdout() -> None:
    """Send stdout nowhere from now on: what it did not take is tried again at the end, and makes the exit code 120."""
    _discard(1)


def discard_stderr() -> None:
    """Send stderr nowhere from now on, likewise: after the terminal was closed, for instance."""
    _discard(2)


def _discard(descriptor: int) -> None:
    with suppress(OSError):  # no descriptor is free: then nothing is sent nowhere, and the exit code suffers
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def tell(message: str) -> None:
    """Print what is no fault: what is about to be done, say."""
    _say("", message, "")


def say(text: str) -> None:
    """Print on stdout what a command has to say: every word of ours and of files goes this way, and none commands.

    JSON has its own escapes (`connbench.findings.harmless_json`), and passes unchanged.
    """
    click.echo(harmless(text))


def width() -> int | None:
    """Columns of the terminal that stdout is; None where it is none: there each line stays whole."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def can_be_bold() -> bool:
    """Whether stdout is a terminal that shows bold characters."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


LONGEST_WORD, LONGEST_LINE = 200, 1000
"""Characters of a message's word and line: of longer ones, as of a number of 4,300 digits, both ends are shown."""


def _say(kind: str, message: str, advice: str) -> None:
    *_, last = lines = message.split("\n")
    # A condition with a caret below its fault; any other line break comes with a value.
    shown = lines if len(lines) == 3 and last.strip() == "^" else [message]
    message = "\n".join(map(_one_line, shown))
    lines = _folded(f"connbench: {kind}{message}", " " * 2)
    if advice:
        lines += _folded(f"  -> {_one_line(advice)}", " " * 5)
    _print("\n".join(lines))


def _print(text: str) -> None:
    try:
        click.echo(text, err=True)
    except OSError:  # nobody is left to hear that nobody hears
        discard_stderr()


def _one_line(text: str) -> str:
    words = (_shortened(word, LONGEST_WORD) for word in printable(text).split(" "))
    return _shortened(" ".join(words), LONGEST_LINE)


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest // 2]}... ({len(text):,} characters) ...{text[-longest // 5 :]}"


def _folded(text: str, indent: str) -> list[str]:
    """Lines no wider than the terminal, which would break them within a word; as they are where stderr is none."""
    if not sys.stderr.isatty():
        return [text]
    width = shutil.get_terminal_size().columns
    lines = [line for line in text.splitlines() if line.strip()]
    return [folded for line in lines for folded in fold(line, width, indent).split("\n")]
