"""`connbench report`."""

from __future__ import annotations

from pathlib import Path

import click

from connbench.cli.messages import warn_of_grave_findings
from connbench.cli.options import FORMAT_NAMES
from connbench.errors import ExitCode, UsageError

SINGLE = {"json", "csv", "talk-csv", "openmetrics"}
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
def command(files: tuple[Path, ...], output_format: str) -> int:
    """Print result files as `connbench run` would have.

    Takes what `run -o` wrote, and the CSV of port,seconds that the talk's author publishes.
    """
    from connbench.cli.outlet import terminal_width  # noqa: PLC0415  # commands load what they use
    from connbench.report import text  # noqa: PLC0415  # as above
    from connbench.report.formats import FORMATS  # noqa: PLC0415  # as above
    from connbench.results.reading import read  # noqa: PLC0415  # as above

    if output_format in SINGLE and len(files) > 1:
        raise UsageError(f"--format {output_format} takes one file, and here are {len(files)}", "one after the other")
    results = [read(path) for path in files]
    for position, result in enumerate(results):
        if len(results) > 1:
            click.echo(("\n" if position else "") + _title(result.name, output_format) + "\n")
        is_text = output_format == "text"
        printed = text.report(result, terminal_width()) if is_text else FORMATS[output_format](result)
        click.echo(printed.rstrip("\n"))
        warn_of_grave_findings(result, output_format)
    return ExitCode.OK


def _title(name: str, output_format: str) -> str:
    """What stands above each of several files."""
    from connbench.report.markdown import escape  # noqa: PLC0415  # as above

    return f"## {escape(name)}" if output_format == "markdown" else f"==> {name} <=="
