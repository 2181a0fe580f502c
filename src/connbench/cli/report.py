"""`connbench report`."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from connbench.cli.options import FORMAT_NAMES
from connbench.errors import ExitCode, UsageError

SINGLE = {"json", "csv", "talk-csv"}
"""Formats that other programs read: two documents one after the other are none."""

PAGE_ENDINGS = {".html": "html", ".htm": "html"}


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
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path),
    metavar="OUT.html",
    help="Print nothing, but write one page of all files that opens in any browser, offline too.",
)
@click.option("--force", is_flag=True, help="Replace an existing page.")
@click.pass_context
def command(
    context: click.Context, /, files: tuple[Path, ...], output_format: str, page: Path | None, *, force: bool
) -> int:
    """Print result files as `connbench run` would have, or make a page of them.

    Takes what `run -o` wrote, and the CSV of port,seconds that the talk's author publishes.
    """
    if page is None and force:
        raise UsageError("--force replaces a page, and there is no --html", "name the page with --html")
    if page is None:
        return _print(files, output_format)
    if context.get_parameter_source("output_format") is ParameterSource.COMMANDLINE:
        raise UsageError(f"--html writes a page and prints nothing in --format {output_format}", "ask for one of them")
    return _write_page(files, page, force=force)


def _print(files: tuple[Path, ...], output_format: str) -> int:
    from connbench.report.formats import FORMATS  # noqa: PLC0415  # commands load what they use
    from connbench.results.reading import read  # noqa: PLC0415  # as above

    if output_format in SINGLE and len(files) > 1:
        raise UsageError(f"--format {output_format} takes one file, and here are {len(files)}", "one after the other")
    results = [read(path) for path in files]
    for position, result in enumerate(results):
        if len(results) > 1:
            click.echo(("\n" if position else "") + f"==> {result.name} <==")
        click.echo(FORMATS[output_format](result).rstrip("\n"))
    return ExitCode.OK


def _write_page(files: tuple[Path, ...], page: Path, *, force: bool) -> int:
    from connbench.report.html.page import check_libraries, html_page  # noqa: PLC0415  # commands load what they use
    from connbench.results.files import check_output, write_atomically  # noqa: PLC0415  # as above
    from connbench.results.reading import read  # noqa: PLC0415  # as above

    check_output(page, force=force, endings=PAGE_ENDINGS, option="--html")
    check_libraries()
    text = html_page([read(path) for path in files])
    write_atomically(page, text, option="--html")
    click.echo(f"wrote {page}, {len(text.encode()) / 1e6:.1f} MB", err=True)
    return ExitCode.OK
