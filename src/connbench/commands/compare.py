"""`connbench compare`."""

from __future__ import annotations

from pathlib import Path

import click

from connbench.commands import gates
from connbench.commands.messages import exit_code, width
from connbench.commands.options import fail_if_option, format_option, page_option, unit_option
from connbench.commands.result_writer import Stdout, check_page, each, write_page
from connbench.commands.sections import Command, Section, option
from connbench.errors import ExitCode, UsageError
from connbench.findings import Severity
from connbench.report.formats import COMPARISON_FORMATS
from connbench.thresholds import Expression, check_names


@click.command("compare", cls=Command)
@click.argument("base", type=click.Path(path_type=Path, readable=False))
@click.argument("new", type=click.Path(path_type=Path, readable=False))
@format_option(tuple(COMPARISON_FORMATS))
@unit_option
@page_option
@option(Section.OUTPUT, "--force", is_flag=True, help="Replace a page that exists.")
@fail_if_option(with_base=True)
def command(  # noqa: PLR0913  # one for each option
    base: Path,
    new: Path,
    output_format: str,
    page: Path | None,
    thresholds: tuple[Expression, ...],
    *,
    unit: str | None,
    force: bool,
) -> int:
    """Compare two result files, and say what became slower or faster from BASE to NEW.

    For each strategy in both files, it compares the total time, the mean, median and p99 of all, even and odd ports,
    and the share of errors. It judges a change only if both files have five complete rounds: measure with --rounds 5,
    or better 10.

    The last lines summarise the changes. If the two files are not comparable, the first line says so.

    --fail-if takes the same conditions as in `connbench run`, and two more: `base.` names a figure of BASE, as in
    'p99 > 1.2x base.p99'; the word slower is true if the total time became slower.
    """
    page_file = check_page(page, force=force) if page else None
    if force and not page:
        raise UsageError("--force replaces a page, and there is no --html", "name the page with --html")

    from connbench.analysis.comparison import compare
    from connbench.analysis.gate import evaluate
    from connbench.report.comparison_report import markdown, verdict
    from connbench.results.fleet_file import Fleet, of_several_hosts, results_of
    from connbench.results.input_file import read_all

    sides = read_all((base, new), unit)
    for one in sides:
        if isinstance(one, Fleet):
            raise of_several_hosts(one.name)
    compared = compare(*results_of(sides))
    check_names(thresholds, compared.new.specs, compared.new.name)
    stdout = Stdout()
    options = {"width": width()} if output_format == "text" else {}
    stdout.print(COMPARISON_FORMATS[output_format](compared, **options).rstrip("\n"))
    failures = stdout.failures
    if page_file:
        from connbench.report.html.figures import of_comparison
        from connbench.report.html.page import Opening

        opening = Opening(verdict(compared), of_comparison(compared))
        failures += each(lambda: write_page([compared.base, compared.new], page_file, opening=opening))
    if gates.in_github_actions():
        gates.add_to_summary([markdown(compared)])
    failed = evaluate(thresholds, compared.new, compared.base)
    gates.announce([("", failure) for failure in failed])
    is_invalid = any(difference.severity is Severity.INVALID for difference in compared.differences)
    gate = ExitCode.THRESHOLD if failed else ExitCode.OK
    return exit_code(failures, gate, is_invalid=bool(thresholds) and is_invalid)
