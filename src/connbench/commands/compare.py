"""`connbench compare`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connbench.commands import gates
from connbench.commands.answers import TestedCommand, kselftest_option, noted
from connbench.commands.messages import exit_code, width
from connbench.commands.options import fail_if_option, format_option, page_option, unit_option
from connbench.commands.result_writer import Stdout, check_page, each, write_page
from connbench.commands.sections import Section, option
from connbench.errors import ExitCode, UsageError
from connbench.findings import Severity
from connbench.report.formats import COMPARISON_FORMATS, FLEET_COMPARISON_FORMATS, OF_CONDITIONS
from connbench.thresholds import Expression, Failure, check_names
from connbench.units import counted

if TYPE_CHECKING:
    from connbench.analysis.comparison import Comparison
    from connbench.analysis.fleet_summary import FleetComparison
    from connbench.model import StrategySpec
    from connbench.results.fleet_file import Fleet
    from connbench.results.output_file import Output
    from connbench.results.result import Result


@click.command("compare", cls=TestedCommand)
@click.argument("base", type=click.Path(path_type=Path, readable=False))
@click.argument("new", type=click.Path(path_type=Path, readable=False))
@format_option(tuple(COMPARISON_FORMATS))
@unit_option
@page_option
@option(Section.OUTPUT, "--force", is_flag=True, help="Replace a page that exists.")
@option(Section.OUTPUT, "--wide", is_flag=True, help="Show every host of two files of several hosts.")
@fail_if_option(with_base=True)
@kselftest_option
def command(  # noqa: PLR0913  # one for each option
    base: Path,
    new: Path,
    output_format: str,
    page: Path | None,
    thresholds: tuple[Expression, ...],
    *,
    unit: str | None,
    force: bool,
    wide: bool,
) -> int:
    """Compare two result files, and say what became slower or faster from BASE to NEW.

    For each strategy in both files, it compares the total time, the mean, median and p99 of all, even and odd ports,
    and the share of errors. It judges a change only if both files have five complete rounds: measure with --rounds 5,
    or better 10.

    The last lines summarise the changes. If the two files are not comparable, the first line says so. Two files of
    several hosts are compared host by host, by their names; with --fail-if a host that NEW lacks has failed.

    --fail-if takes the same conditions as in `connbench run`, and two more: `base.` names a figure of BASE, as in
    'p99 > 1.2x base.p99'; the word slower is true if the total time became slower.
    """
    page_file = check_page(page, force=force) if page else None
    if force and not page:
        raise UsageError("--force replaces a page, and there is no --html", "name the page with --html")

    from connbench.results.input_file import read_all

    two = _two(*read_all((base, new), unit))
    check_names(thresholds, two.specs, str(new))
    stdout = Stdout()
    options = two.text_options(wide=wide) if output_format == "text" else {}
    if output_format in OF_CONDITIONS:
        options["thresholds"] = thresholds
    stdout.print(noted(two.formats[output_format](two.compared, **options).rstrip("\n")))
    failures = stdout.failures
    if page_file:
        failures += each(lambda: two.write_page(page_file))
    if gates.in_github_actions():
        gates.add_to_summary([two.formats["markdown"](two.compared)])
    failed = two.failed(thresholds)
    gates.announce(failed)
    gate = ExitCode.THRESHOLD if failed else ExitCode.OK
    return exit_code(failures, gate, is_invalid=bool(thresholds) and two.is_invalid)


@dataclass(frozen=True)
class _TwoResults:
    """Two files of one host each."""

    compared: Comparison
    formats = COMPARISON_FORMATS

    def text_options(self, *, wide: bool) -> dict[str, Any]:
        """What the text is made with.

        Raises:
            UsageError: `wide` is given.
        """
        if wide:
            raise UsageError("--wide is for files of several hosts", "leave it out")
        return {"width": width()}

    @property
    def specs(self) -> Sequence[StrategySpec]:
        """The strategies that are judged."""
        return self.compared.new.specs

    @property
    def is_invalid(self) -> bool:
        """Whether a side is not sound."""
        return any(difference.severity is Severity.INVALID for difference in self.compared.differences)

    def write_page(self, page: Output) -> None:
        """Write the page of --html."""
        from connbench.report.comparison_report import verdict
        from connbench.report.html.figures import of_comparison
        from connbench.report.html.page import Opening

        opening = Opening(verdict(self.compared), of_comparison(self.compared))
        write_page([self.compared.base, self.compared.new], page, opening=opening)

    def failed(self, thresholds: Iterable[Expression]) -> list[tuple[str, Failure]]:
        """What NEW fails."""
        from connbench.analysis.gate import evaluate

        return [("", failure) for failure in evaluate(thresholds, self.compared.new, self.compared.base)]


@dataclass(frozen=True)
class _TwoFleets:
    """Two files of several hosts."""

    compared: FleetComparison
    formats = FLEET_COMPARISON_FORMATS

    def text_options(self, *, wide: bool) -> dict[str, Any]:
        """What the text is made with; `wide` shows every host."""
        return {"width": width(), "is_wide": wide}

    @property
    def specs(self) -> Sequence[StrategySpec]:
        """The strategies that are judged, those of every host."""
        return [spec for result in self.compared.new.results for spec in result.specs]

    @property
    def is_invalid(self) -> bool:
        """Whether a host is not sound on a side."""
        differences = (one for comparison in self.compared.hosts.values() for one in comparison.differences)
        return any(difference.severity is Severity.INVALID for difference in differences)

    def write_page(self, page: Output) -> None:
        """Write the page of --html, with each host of BASE and of NEW."""
        from connbench.report.fleet_report import comparison_findings, comparison_tables, comparison_verdict
        from connbench.report.html.figures import of_fleets
        from connbench.report.html.page import Opening

        compared = self.compared
        sides = {"BASE": compared.base, "NEW": compared.new}
        results = [replace(r, name=f"{r.name} in {side}") for side, fleet in sides.items() for r in fleet.results]
        title = f"{counted(len(compared.hosts), 'host')} compared"
        opening = Opening(comparison_verdict(compared), of_fleets(compared), title, comparison_findings(compared))
        write_page(results, page, comparison_tables(compared), opening)

    def failed(self, thresholds: Iterable[Expression]) -> list[tuple[str, Failure]]:
        """What NEW fails, with the host; one that NEW lacks fails."""
        from connbench.analysis.gate import evaluate_fleet

        return evaluate_fleet(thresholds, self.compared.new, self.compared.base)


def _two(base: Result | Fleet, new: Result | Fleet) -> _TwoResults | _TwoFleets:
    """The two files, compared.

    Raises:
        UsageError: One is of several hosts, and the other is not.
    """
    from connbench.analysis.comparison import compare
    from connbench.analysis.fleet_summary import compare_fleets
    from connbench.results.fleet_file import Fleet
    from connbench.results.result import Result

    if isinstance(base, Fleet) and isinstance(new, Fleet):
        return _TwoFleets(compare_fleets(base, new))
    if isinstance(base, Result) and isinstance(new, Result):
        return _TwoResults(compare(base, new))
    several, one = (base, new) if isinstance(base, Fleet) else (new, base)
    raise UsageError(
        f"{several.name} is of several hosts, and {one.name} is of one",
        f"compare two of a kind: connbench fleet merge {one.name} -o FLEET.json makes a fleet of one host",
    )
