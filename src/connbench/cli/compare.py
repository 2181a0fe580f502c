"""`connbench compare`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import click

from connbench.errors import ExitCode

FORMAT_NAMES = ("text", "markdown", "json")
"""Those of `connbench.report.comparison`, named here so that `--help` need not load numpy."""


@click.command("compare")
@click.argument("base", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "output_format",
    type=click.Choice(FORMAT_NAMES),
    default="text",
    show_default=True,
    help="What to print.",
)
def command(base: Path, new: Path, output_format: str) -> int:
    """Tell what changed from the result file BASE to the result file NEW.

    Each strategy that both have is compared by total time, mean, median and p99, of all, even and odd ports, and by its
    share of errors. A verdict takes five complete rounds in each file: measure with --rounds 5, or better 10.
    """
    from connbench.analysis.comparison import compare  # noqa: PLC0415  # commands load what they use
    from connbench.report import comparison as report  # noqa: PLC0415  # as above
    from connbench.results.reading import read  # noqa: PLC0415  # as above

    compared = compare(read(base), read(new))
    if output_format == "text" and sys.stdout.isatty():
        click.echo(report.text(compared, shutil.get_terminal_size().columns))
    else:
        click.echo(report.FORMATS[output_format](compared).rstrip("\n"))
    return ExitCode.OK
