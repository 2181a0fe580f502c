"""`connbench sweep`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from connbench.commands import gates
from connbench.commands.html_option import check_page, page_option, write_page
from connbench.commands.messages import exit_code, tell, warn_of_grave_findings
from connbench.commands.options import run_options
from connbench.commands.run import request_of
from connbench.commands.sections import Command
from connbench.commands.sweep_options import charts_option, error_budget_option, with_lists
from connbench.errors import ExitCode, UsageError
from connbench.interrupts import Interrupts
from connbench.model import Close, Placement
from connbench.planner import make_plan
from connbench.planner.sweeps import (
    LOADS,
    SETTINGS,
    announcement,
    sweep_requests,
)
from connbench.thresholds import Expression, refuse_strangers

LISTS_EPILOG = """\b
Values: a count is 10000, 10k or 1e4 (a comma separates values: 1,000 is not
a thousand here); a time is 250us, 1ms, 5s, 2min or 1.5h; a rate is 100/s."""

SAVES_APART = 10.0
"""Times what a save takes: a tenth of the time goes into saving at most."""


@click.command("sweep", cls=Command, epilog=LISTS_EPILOG)
@run_options
@error_budget_option
@charts_option
@page_option
@click.pass_obj
def command(  # noqa: PLR0913  # one for each option
    interrupts: Interrupts,
    /,
    output: Path | None,
    output_format: str,
    thresholds: tuple[Expression, ...],
    *,
    budget: float,
    charts: Path | None,
    page: Path | None,
    force: bool,
    quiet: bool,
    plot: bool,
    **asked: Any,  # noqa: ANN401  # what the plan is made of
) -> int:
    """Measure every combination of settings and loads, and name the cheapest setting.

    \b
    Options with ,... take lists, and ranges with a step. Each round measures
    every combination of their values:
      connbench sweep --window 100,500,1000 --fill 50%-95%:5%
      connbench sweep --strategy plain,window --churn 20k -o churn.json.gz

    A setting is a strategy with its window, placement, retries, sources and --give-up-after; a load is -n or --fill,
    --concurrency and --churn. Each setting is measured at each load. The report ends with the setting whose connections
    cost least among those whose errors are within --error-budget at every load. It also names a cheaper setting with
    more errors, and what would let it in.
    """  # noqa: D301  # click wants the character \b itself
    if plot and output_format != "text":
        raise UsageError(f"--plot goes with --format text, not {output_format}", "leave one of them out")
    plan, known = make_plan(*_requests(asked))
    refuse_strangers(thresholds, plan.phases, "this sweep")

    # Only now: make_plan forks, which is safe only until numpy has started its threads.
    from connbench.commands.result_writer import Outlet, each
    from connbench.commands.session import begin, check_outputs, measure
    from connbench.commands.sweep_charts import check_charts, write_charts
    from connbench.commands.sweep_variants import variants_of
    from connbench.commands.views import sweep_pages
    from connbench.report import sweep_tables as sweep

    file = check_outputs(plan, output, output_format, plot=plot, force=force)
    page_file = check_page(page, force=force) if page else None
    chart_files = check_charts(charts, plan, force=force) if charts else {}
    result = begin(plan, known)
    tell(announcement(plan))
    pages = sweep_pages(result, output_format, budget, tuple(known), plot=plot)
    outlet = Outlet(result, pages, file, spacing=SAVES_APART)
    failures = measure(plan, outlet, interrupts, quiet=quiet, is_sweep=True)
    if result.rounds and chart_files:
        failures = [*write_charts(chart_files, result), *failures]
    if result.rounds and page_file:
        from connbench.report.html.page import Opening

        said = Opening(sweep.sentences(result, budget, variants_of(result, budget)))
        failures = [*each(lambda: write_page([result], page_file, sweep.blocks(result, budget), said)), *failures]
    gate = gates.conclude([result], thresholds) if result.rounds else ExitCode.OK
    return exit_code(failures, gate, is_invalid=warn_of_grave_findings(result, output_format))


command.params = with_lists(command.params)


def _requests(asked: dict[str, Any]) -> list[Any]:
    lists = {name: asked[name] for name in (*LOADS, *SETTINGS)}
    lists["placement"] = tuple(map(Placement, lists["placement"] or ()))
    lists["close"] = tuple(map(Close, lists["close"] or ()))
    base = request_of({**asked, **dict.fromkeys(lists), "concurrency": 1})
    return sweep_requests(base, lists)
