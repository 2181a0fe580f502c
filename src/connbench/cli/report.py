"""`connbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from connbench.cli import gates
from connbench.cli.messages import discard_stdout
from connbench.cli.options import FORMAT_NAMES
from connbench.errors import ExitCode, UsageError
from connbench.thresholds import Expression, refuse_strangers

if TYPE_CHECKING:
    from connbench.results.result import Result

SINGLE = {"json", "csv", "talk-csv"}
"""Formats that other programs read: two documents one after the other are none."""


@click.command("report")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(FORMAT_NAMES),
    default="text",
    show_default=True,
    help="What to print.",
)
@gates.fail_if_option()
def command(files: tuple[Path, ...], output_format: str, thresholds: tuple[Expression, ...]) -> int:
    """Print result files as `connbench run` would have.

    Takes what `run -o` wrote, and the CSV of port,seconds that the talk's author publishes. With --fail-if each file is
    held to each condition, and to being sound (exit code 3).
    """
    from connbench.results.reading import read  # noqa: PLC0415  # commands load what they use

    if output_format in SINGLE and len(files) > 1:
        raise UsageError(f"--format {output_format} takes one file, and here are {len(files)}", "one after the other")
    results = [read(path) for path in files]
    for result in results:
        refuse_strangers(thresholds, result.specs, result.name)
    try:
        _print(results, output_format)
    except BrokenPipeError:
        discard_stdout()  # whoever reads no further may still want to know whether a threshold failed
    finally:
        gate = gates.conclude(results, thresholds)
    unsound = [result for result in results if gates.grave_findings(result, output_format)] if thresholds else []
    return ExitCode.UNSOUND if unsound else gate


def _print(results: list[Result], output_format: str) -> None:
    from connbench.report.formats import FORMATS  # noqa: PLC0415  # commands load what they use

    for position, result in enumerate(results):
        if len(results) > 1:
            click.echo(("\n" if position else "") + f"==> {result.name} <==")
        click.echo(FORMATS[output_format](result).rstrip("\n"))
