"""Words to the user on stderr: one line for what is, one for what to do."""

from __future__ import annotations

import click

from connbench.errors import ConnbenchError
from connbench.model import Finding


def complain(error: ConnbenchError) -> None:
    """Print an error and its way out."""
    _say("", error.message, error.hint)


def warn(finding: Finding) -> None:
    """Print a finding that cannot wait for the report."""
    _say(f"{finding.severity}: ", finding.message, finding.advice)


def _say(kind: str, message: str, advice: str) -> None:
    click.echo(f"connbench: {kind}{message}", err=True)
    if advice:
        click.echo(f"  -> {advice}", err=True)
