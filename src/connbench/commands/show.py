"""`connbench report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from connbench.commands import gates
from connbench.commands.answers import TestedCommand, kselftest_option
from connbench.commands.messages import exit_code, warn_of_invalid
from connbench.commands.options import (
    FORMAT_NAMES,
    error_budget_option,
    fail_if_option,
    format_option,
    page_option,
    unit_option,
)
from connbench.commands.reports import FleetReport, RunReport, report_of
from connbench.commands.result_writer import Stdout, check_page, each, write_page
from connbench.commands.sections import Section, option
from connbench.errors import ConnbenchError, UsageError
from connbench.report.formats import FORMATS
from connbench.thresholds import Expression, check_names

if TYPE_CHECKING:
    from connbench.report.html.page import Opening
    from connbench.results.output_file import Output


@click.command("report", cls=TestedCommand)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False), metavar="FILE...")
@format_option(FORMAT_NAMES)
@page_option
@unit_option
@error_budget_option
@option(
    Section.OUTPUT,
    "--blocks",
    is_flag=True,
    help="Print a sweep, a profile or a reproduction as a run: strategy by strategy; of several hosts, host by host.",
)
@option(
    Section.OUTPUT,
    "--wide",
    is_flag=True,
    help="Show p99 and errors, too, at each level of a profile, or every host of several.",
)
@option(Section.OUTPUT, "--force", is_flag=True, help="Replace a page that exists.")
@fail_if_option()
@kselftest_option
@click.pass_context
def command(  # noqa: PLR0913  # one for each option
    context: click.Context,
    /,
    files: tuple[Path, ...],
    output_format: str,
    page: Path | None,
    thresholds: tuple[Expression, ...],
    *,
    unit: str | None,
    budget: float,
    blocks: bool,
    wide: bool,
    force: bool,
) -> int:
    """Print result files as `connbench run`, `sweep`, `profile` and `reproduce` print them, or write one HTML page.

    FILE is a file that `-o` wrote, also of several hosts, or a CSV with the columns port and seconds. --fail-if checks
    each condition in each file, and on each host; with it, a result that is not sound ends with exit code 3.
    """
    is_asked = context.get_parameter_source("output_format") is ParameterSource.COMMANDLINE
    page_file = _check(output_format if is_asked or not page else None, len(files), page, force=force)

    from connbench.results.fleet_file import results_of
    from connbench.results.input_file import read_all

    results = read_all(files, unit)
    for one in results:
        check_names(thresholds, [spec for result in results_of([one]) for spec in result.specs], one.name)
    reports = [report_of(result, budget, by_strategy=blocks, is_wide=wide) for result in results]
    failures = (
        each(lambda: _write_page(reports, page_file)) if page_file else _print(reports, output_format, thresholds)
    )
    gate = gates.conclude(results, thresholds)
    invalid = [result for result in results if warn_of_invalid(result, "text" if page else output_format)]
    return exit_code(failures, gate, is_invalid=bool(thresholds and invalid))


def _check(output_format: str | None, files: int, page: Path | None, *, force: bool) -> Output | None:
    """Check that the options go together, before any file is read; `output_format` is None if it does not matter.

    Returns:
        The file of the page, reserved; None without one.
    """
    if output_format and FORMATS[output_format].is_document and files > 1:
        raise UsageError(f"--format {output_format} takes one file, not {files}", "give one file at a time")
    if page is None:
        if force:
            raise UsageError("--force replaces a page, and there is no --html", "name the page with --html")
        return None
    if output_format:
        raise UsageError(f"--html writes a page and prints nothing in --format {output_format}", "ask for one of them")
    return check_page(page, force=force)


def _print(
    reports: Sequence[RunReport | FleetReport], output_format: str, thresholds: Sequence[Expression]
) -> list[ConnbenchError]:
    """Print reports one after the other; returns the failures of stdout."""
    stdout = Stdout()
    for position, report in enumerate(reports):
        if len(reports) > 1:
            stdout.print(("\n" if position else "") + _title(report.name, output_format) + "\n")
        stdout.print(report.write(output_format, thresholds).rstrip("\n"))
        if stdout.is_over:
            break
    return stdout.failures


def _title(name: str, output_format: str) -> str:
    """The line above each of several files."""
    from connbench.report.markdown import escape

    return f"## {escape(name)}" if output_format == "markdown" else f"==> {name} <=="


def _write_page(reports: Sequence[RunReport | FleetReport], page: Output) -> None:
    """Write one page of all reports."""
    tables = [table for report in reports for table in report.tables()]
    write_page([result for report in reports for result in report.results], page, tables, _opening(reports))


def _opening(reports: Sequence[RunReport | FleetReport]) -> Opening:
    """What a page begins with: the verdict of each result, with the file's name if there are several."""
    from connbench.report.html.page import Opening

    if len(reports) == 1:
        return reports[0].opening()
    found: list[str] = []
    for report in reports:
        name = f"{report.name}: "
        found += [name * (not place) + sentence for place, sentence in enumerate(report.verdict())]
    return Opening(found)
