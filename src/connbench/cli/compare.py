"""`connbench compare`."""

from __future__ import annotations

from pathlib import Path

import click

from connbench.cli import gates
from connbench.cli.html_option import check_page, page_option, write_page
from connbench.cli.options import format_option, unit_option
from connbench.errors import ExitCode, UsageError
from connbench.findings import Severity
from connbench.interrupts import Interrupts
from connbench.thresholds import Expression, refuse_strangers

FORMAT_NAMES = ("text", "markdown", "json")
"""Those of `connbench.report.comparison`, named here so that `--help` need not load numpy."""


@click.command("compare")
@click.argument("base", type=click.Path(path_type=Path, readable=False))
@click.argument("new", type=click.Path(path_type=Path, readable=False))
@format_option(FORMAT_NAMES)
@unit_option
@page_option
@click.option("--force", is_flag=True, help="Replace an existing page.")
@gates.fail_if_option(with_base=True)
@click.pass_obj
def command(  # noqa: PLR0913  # one for each option
    interrupts: Interrupts,
    /,
    base: Path,
    new: Path,
    output_format: str,
    page: Path | None,
    thresholds: tuple[Expression, ...],
    *,
    unit: str | None,
    force: bool,
) -> int:
    """Tell what changed from the result file BASE to the result file NEW.

    Each strategy that both have is compared by total time, mean, median and p99, of all, even and odd ports, and by its
    share of errors. A verdict takes five complete rounds in each file: measure with --rounds 5, or better 10.

    The last lines say what to make of it; that the two are not comparable is said first.

    --fail-if takes what run's takes, and beside it `base.` for BASE's figures, as in 'p99 > 1.2x base.p99', and the
    word slower: the total time is, by its verdict.
    """
    interrupts.immediate = True  # nothing is lost: files are read, and written in one step
    if page:
        check_page(page, force=force)
    elif force:
        raise UsageError("--force replaces a page, and there is no --html", "name the page with --html")

    from connbench.analysis.comparison import compare  # noqa: PLC0415  # commands load what they use
    from connbench.analysis.gate import hold  # noqa: PLC0415  # as above
    from connbench.cli.pages import width  # noqa: PLC0415  # as above
    from connbench.report import comparison as report  # noqa: PLC0415  # as above
    from connbench.report.comparison_verdict import verdict  # noqa: PLC0415  # as above
    from connbench.results.reading import read_all  # noqa: PLC0415  # as above

    compared = compare(*read_all((base, new), unit))
    refuse_strangers(thresholds, compared.new.specs, compared.new.name)
    if output_format == "text":
        click.echo(report.text(compared, width()))
    else:
        click.echo(report.FORMATS[output_format](compared).rstrip("\n"))
    if page:
        write_page([compared.base, compared.new], page, verdict=verdict(compared))
    if gates.in_github_actions():
        gates.add_to_summary([report.markdown(compared)])
    failures = hold(thresholds, compared.new, compared.base)
    gates.announce([("", failure) for failure in failures])
    if thresholds and any(difference.severity is Severity.INVALID for difference in compared.differences):
        return ExitCode.UNSOUND
    return ExitCode.THRESHOLD if failures else ExitCode.OK
