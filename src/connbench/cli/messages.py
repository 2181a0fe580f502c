"""Words to the user on stderr: one line for what is, one for what to do."""

from __future__ import annotations

import os
from contextlib import suppress

import click

from connbench.errors import ConnbenchError
from connbench.model import Finding


def complain(error: ConnbenchError) -> None:
    """Print an error and its way out."""
    _say("", error.message, error.hint)


def warn(finding: Finding) -> None:
    """Print a finding that cannot wait for the report."""
    _say(f"{finding.severity}: ", finding.text, finding.advice)


def discard_stdout() -> None:
    """Send stdout nowhere from now on, so that what it could not take is not tried again when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _say(kind: str, message: str, advice: str) -> None:
    lines = f"connbench: {kind}{message}" + (f"\n  -> {advice}" if advice else "")
    with suppress(OSError):  # nobody is left to hear that nobody hears
        click.echo(lines, err=True)
