"""`connbench report`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from connbench.commands import gates
from connbench.commands.features import feature_report, formats_of
from connbench.commands.messages import can_be_bold, exit_code, warn_of_invalid, width
from connbench.commands.options import (
    FORMAT_NAMES,
    error_budget_option,
    fail_if_option,
    format_option,
    page_option,
    unit_option,
)
from connbench.commands.result_writer import Stdout, check_page, each, write_page
from connbench.commands.sections import Command, Section, option
from connbench.errors import ConnbenchError, UsageError
from connbench.report.formats import FORMATS
from connbench.thresholds import Expression, validate_names

if TYPE_CHECKING:
    from connbench.report.blocks import Table
    from connbench.report.html.page import Opening
    from connbench.results.output_file import Output
    from connbench.results.result import Result


@click.command("report", cls=Command)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, readable=False), metavar="FILE...")
@format_option(FORMAT_NAMES)
@page_option
@unit_option
@error_budget_option
@option(
    Section.OUTPUT,
    "--blocks",
    is_flag=True,
    help="Print a sweep or a reproduction as a run: strategy by strategy.",
)
@option(Section.OUTPUT, "--force", is_flag=True, help="Replace a page that exists.")
@fail_if_option()
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
    force: bool,
) -> int:
    """Print result files as `connbench run`, `sweep` and `reproduce` print them, or write one HTML page of them.

    FILE is a file that `-o` wrote, or a CSV with the columns port and seconds. --fail-if checks each condition in each
    file; with it, a result that is not sound ends with exit code 3.
    """
    is_asked = context.get_parameter_source("output_format") is ParameterSource.COMMANDLINE
    page_file = _check(output_format if is_asked or not page else None, len(files), page, force=force)

    from connbench.results.input_file import read_all

    results = read_all(files, unit)
    for result in results:
        validate_names(thresholds, result.specs, result.name)
    if page_file:
        failures = each(lambda: _write_page(results, page_file, budget, blocks=blocks))
    else:
        failures = _print(results, output_format, budget, blocks=blocks)
    gate = gates.conclude(results, thresholds)
    invalid = [result for result in results if warn_of_invalid(result, "text" if page else output_format)]
    return exit_code(failures, gate, is_invalid=bool(thresholds and invalid))


def _check(output_format: str | None, files: int, page: Path | None, *, force: bool) -> Output | None:
    """Check that the options go together, before any file is read; `output_format` is None if it does not matter.

    Returns:
        The file of the page, reserved; None without one.
    """
    if output_format and FORMATS[output_format].is_document and files > 1:
        raise UsageError(f"--format {output_format} takes one file, and here are {files}", "give one file at a time")
    if page is None:
        if force:
            raise UsageError("--force replaces a page, and there is no --html", "name the page with --html")
        return None
    if output_format:
        raise UsageError(f"--html writes a page and prints nothing in --format {output_format}", "ask for one of them")
    return check_page(page, force=force)


def _write_page(results: list[Result], page: Output, budget: float, *, blocks: bool) -> None:
    """Write a page of results; `budget` is the error budget of a sweep, and `blocks` shows a sweep as a run."""
    more = [table for result in results for table in _tables(result, budget, blocks=blocks)]
    write_page(results, page, more, _opening(results, budget))


def _print(results: list[Result], output_format: str, budget: float, *, blocks: bool) -> list[ConnbenchError]:
    """Print results one after the other; returns the failures of stdout."""
    stdout = Stdout()
    for position, result in enumerate(results):
        if len(results) > 1:
            stdout.print(("\n" if position else "") + _title(result.name, output_format) + "\n")
        stdout.print(_printed(result, output_format, budget, blocks=blocks).rstrip("\n"))
        if stdout.is_over:
            break
    return stdout.failures


def _tables(result: Result, budget: float, *, blocks: bool) -> list[Table]:
    """The tables of a sweep or a feature, for a page; none for a run."""
    from connbench.analysis.sweep_analysis import is_sweep
    from connbench.report import sweep_report

    if feature := feature_report(result):
        return feature.tables(result)
    return sweep_report.tables(result, budget) if is_sweep(result) and not blocks else []


def _printed(result: Result, output_format: str, budget: float, *, blocks: bool) -> str:
    """A result in a format."""
    from connbench.analysis.sweep_analysis import is_sweep
    from connbench.report import run_report
    from connbench.report.blocks import Verdict
    from connbench.report.text import write

    if is_sweep(result) and not blocks:
        from connbench.commands.sweep import write_sweep

        return write_sweep(result, output_format, budget)
    if output_format != "text":
        return formats_of(result)[output_format](result)
    if (feature := feature_report(result)) and not blocks:
        return feature.report(result, width())
    if not is_sweep(result):
        return run_report.text(result, width(), bold=can_be_bold())
    verdict = Verdict(_verdict(result, budget))
    return write([verdict, *run_report.report_blocks(result)], width(), bold=can_be_bold())


def _verdict(result: Result, budget: float) -> Sequence[str]:
    """The sentences of a result's verdict; `budget` is the error budget of a sweep."""
    from connbench.analysis.sweep_analysis import is_sweep
    from connbench.commands.sweep import variants_of
    from connbench.report.run_verdict import run_verdict
    from connbench.report.sweep_report import sentences

    if feature := feature_report(result):
        return feature.verdict(result)
    return sentences(result, budget, variants_of(result, budget)) if is_sweep(result) else run_verdict(result)


def _opening(results: Sequence[Result], budget: float) -> Opening:
    """What a page begins with: the verdict of each result, with the file's name if there are several."""
    from connbench.report.html.page import Opening

    if len(results) == 1 and (feature := feature_report(results[0])):
        return feature.opening(results[0])
    found: list[str] = []
    for result in results:
        name = f"{result.name}: " if len(results) > 1 else ""
        found += [name * (not place) + sentence for place, sentence in enumerate(_verdict(result, budget))]
    return Opening(found)


def _title(name: str, output_format: str) -> str:
    """The line above each of several files."""
    from connbench.report.markdown import escape

    return f"## {escape(name)}" if output_format == "markdown" else f"==> {name} <=="
