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
    save_option,
    unit_option,
)
from connbench.commands.reports import FleetReport, RunReport, content_of, report_of
from connbench.commands.result_writer import Stdout, check_page, each, format_of_result, reserve, write_page
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
@save_option("Save the result of one file as FILE (.json, .json.gz, .csv or .parquet), and print nothing.")
@option(Section.OUTPUT, "--force", is_flag=True, help="Replace a page or a file that exists.")
@fail_if_option()
@kselftest_option
@click.pass_context
def command(  # noqa: PLR0913  # one for each option
    context: click.Context,
    /,
    files: tuple[Path, ...],
    output_format: str,
    page: Path | None,
    output: Path | None,
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
    if is_asked or output_format != "text":
        _check_format(output_format, len(files), page or output)
    if force and not (page or output):
        raise UsageError("--force replaces a page or a file, and none is asked for", "name it with --html or -o")
    if output and len(files) > 1:
        raise UsageError(f"-o saves the result of one file, not of {len(files)}", "give one file at a time")
    file_format = format_of_result(output) if output else ""
    page_file = check_page(page, force=force) if page else None
    file = reserve(output, force=force) if output else None

    from connbench.results.fleet_file import results_of
    from connbench.results.input_file import read_all

    results = read_all(files, unit)
    for one in results:
        check_names(thresholds, [spec for result in results_of([one]) for spec in result.specs], one.name)
    reports = [report_of(result, budget, by_strategy=blocks, is_wide=wide) for result in results]
    if page_file or file:
        failures = each(
            lambda: _write_page(reports, page_file) if page_file else None,
            lambda: file.save(content_of(results[0], file_format)) if file else None,
        )
    else:
        failures = _print(reports, output_format, thresholds)
    gate = gates.conclude(results, thresholds)
    invalid = [result for result in results if warn_of_invalid(result, "text" if page_file or file else output_format)]
    return exit_code(failures, gate, is_invalid=bool(thresholds and invalid))


def _check_format(output_format: str, files: int, written: Path | None) -> None:
    """Check that a format goes with the other options, before any file is read.

    Args:
        output_format: The format of stdout.
        files: How many files are to be read.
        written: A file that is to be written; then nothing is printed.
    """
    if FORMATS[output_format].is_document and files > 1:
        raise UsageError(f"--format {output_format} takes one file, not {files}", "give one file at a time")
    if written:
        raise UsageError(
            f"{written.name} is written, and nothing is printed in --format {output_format}", "ask for one of them"
        )


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
