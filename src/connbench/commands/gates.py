"""Evaluate thresholds at the end of a command, and report failures to the user and to GitHub Actions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connbench.commands.messages import print_message, warn
from connbench.commands.reports import formats_of
from connbench.errors import ExitCode
from connbench.findings import Finding, Severity
from connbench.safe_text import printable
from connbench.thresholds import Expression, Failure

if TYPE_CHECKING:
    from connbench.results.fleet_file import Fleet
    from connbench.results.result import Result

_TITLE = "connbench: threshold failed"


def conclude(results: Sequence[Result | Fleet], thresholds: Iterable[Expression]) -> ExitCode:
    """Evaluate every threshold for every result and report what failed; in GitHub Actions write the job's summary.

    Of a fleet every host is judged, and named in what failed.

    Returns:
        `OK`, or `THRESHOLD` if one failed.
    """
    if in_github_actions():
        add_to_summary(formats_of(result)["markdown"](result) for result in results)
    asked = tuple(thresholds)
    if not asked:
        return ExitCode.OK

    from connbench.analysis.gate import evaluate, evaluate_fleet  # loads numpy: not while planning
    from connbench.results.fleet_file import Fleet

    failed = []
    for one in results:
        file = one.name if len(results) > 1 else ""
        if isinstance(one, Fleet):
            named = evaluate_fleet(asked, one)
            failed += [(f"{file}, {host}" if file else host, failure) for host, failure in named]
        else:
            failed += [(file, failure) for failure in evaluate(asked, one)]
    announce(failed)
    return ExitCode.THRESHOLD if failed else ExitCode.OK


def announce(failed: Iterable[tuple[str, Failure]]) -> None:
    """Print on stderr what failed, with the name of the result if there are several."""
    for name, failure in failed:
        text = printable(f"{name}: {failure.text}" if name else failure.text)
        print_message(f"threshold failed: {text}")
        if in_github_actions():
            with suppress(OSError):  # stderr is closed; the exit code remains
                click.echo(annotation(_TITLE, text), err=True)


def in_github_actions() -> bool:
    """Whether a GitHub Actions runner started this process."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def annotation(title: str, text: str) -> str:
    """The workflow command that shows an error beside the job, escaped as actions/toolkit's command.ts does."""
    return f"::error title={_escape(title, ':,')}::{_escape(text)}"


def _escape(text: str, more: str = "") -> str:
    for character in f"%\r\n{more}":  # % first: the escapes of the others contain it
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def add_to_summary(documents: Iterable[str]) -> None:
    """Append Markdown to the job's summary, if GitHub has one; if it cannot be written, warn."""
    name = os.environ.get("GITHUB_STEP_SUMMARY")
    if not name:
        return
    try:
        with Path(name).open("a", encoding="utf-8") as file:
            file.writelines(document.rstrip("\n") + "\n\n" for document in documents)
    except OSError as error:
        warn(
            Finding(
                "step-summary",
                Severity.WARNING,
                f"GITHUB_STEP_SUMMARY {name} cannot be written: {error.strerror}",
                "the job's summary has no table; nothing else is lost",
            )
        )
