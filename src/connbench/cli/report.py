"""`connbench report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from connbench.cli import gates
from connbench.cli.html_option import check_page, page_option, write_page
from connbench.cli.messages import discard_stdout, warn_of_grave_findings
from connbench.cli.options import FORMAT_NAMES, format_option
from connbench.errors import ExitCode, UsageError
from connbench.interrupts import Interrupts
from connbench.thresholds import Expression, refuse_strangers

if TYPE_CHECKING:
    from connbench.results.result import Result

SINGLE = {"json", "csv", "talk-csv", "openmetrics"}
"""Formats that other programs read: two documents one after the other are none."""


@click.command("report")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False), metavar="FILE...")
@format_option(FORMAT_NAMES)
@page_option
@click.option("--force", is_flag=True, help="Replace an existing page.")
@gates.fail_if_option()
@click.pass_context
def command(
    context: click.Context,
    /,
    files: tuple[Path, ...],
    output_format: str,
    page: Path | None,
    thresholds: tuple[Expression, ...],
    *,
    force: bool,
) -> int:
    """Print result files as `connbench run` would have, or make a page of them.

    Takes what `run -o` wrote, and the CSV of port,seconds that the talk's author publishes. With --fail-if each file is
    held to each condition, and to being sound (exit code 3).
    """
    interrupts: Interrupts = context.obj
    interrupts.immediate = True  # nothing is lost: files are read, and written in one step
    is_asked = context.get_parameter_source("output_format") is ParameterSource.COMMANDLINE
    _check(output_format if is_asked or not page else None, len(files), page, force=force)

    from connbench.results.reading import read  # noqa: PLC0415  # commands load what they use

    results = [read(path) for path in files]
    for result in results:
        refuse_strangers(thresholds, result.specs, result.name)
    try:
        _show(results, output_format, page)
    except BrokenPipeError:
        discard_stdout()  # whoever reads no further may still want to know whether a threshold failed
    finally:
        gate = gates.conclude(results, thresholds)
    invalid = [result for result in results if warn_of_grave_findings(result, "text" if page else output_format)]
    return ExitCode.UNSOUND if thresholds and invalid else gate


def _check(output_format: str | None, files: int, page: Path | None, *, force: bool) -> None:
    """Refuse what does not go together, before any file is read; `output_format` is None where it does not matter."""
    if output_format in SINGLE and files > 1:
        raise UsageError(f"--format {output_format} takes one file, and here are {files}", "one after the other")
    if page is None:
        if force:
            raise UsageError("--force replaces a page, and there is no --html", "name the page with --html")
        return
    if output_format:
        raise UsageError(f"--html writes a page and prints nothing in --format {output_format}", "ask for one of them")
    check_page(page, force=force)


def _show(results: list[Result], output_format: str, page: Path | None) -> None:
    if page:
        write_page(results, page)
        return
    from connbench.cli.pages import width  # noqa: PLC0415  # commands load what they use
    from connbench.report import text  # noqa: PLC0415  # as above
    from connbench.report.formats import FORMATS  # noqa: PLC0415  # as above

    for position, result in enumerate(results):
        if len(results) > 1:
            click.echo(("\n" if position else "") + _title(result.name, output_format) + "\n")
        printed = text.report(result, width()) if output_format == "text" else FORMATS[output_format](result)
        click.echo(printed.rstrip("\n"))


def _title(name: str, output_format: str) -> str:
    """What stands above each of several files."""
    from connbench.report.markdown import escape  # noqa: PLC0415  # commands load what they use

    return f"## {escape(name)}" if output_format == "markdown" else f"==> {name} <=="
