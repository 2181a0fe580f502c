"""`connbench sweep`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connbench.commands import gates
from connbench.commands.answers import TestedCommand
from connbench.commands.messages import exit_code, print_message, warn_of_invalid
from connbench.commands.options import LISTS_EPILOG, SWEEP_OPTIONS
from connbench.commands.reports import SweepReport
from connbench.commands.result_writer import (
    PrintoutAtEnd,
    ResultWriter,
    check_page,
    each,
    not_to_repeat,
    print_written,
    reserve,
    scatters,
    write_page,
)
from connbench.errors import ConnbenchError, ExitCode, UsageError
from connbench.interrupts import Interrupts
from connbench.model import Plan, StrategySpec
from connbench.planner.request import RunRequest
from connbench.planner.sweeps import (
    LOADS,
    SETTINGS,
    announcement,
    sweep_requests,
)
from connbench.thresholds import Expression, check_names

if TYPE_CHECKING:
    from connbench.results.output_file import Output
    from connbench.results.result import Result

SAVES_APART = 10.0
"""`ResultWriter.spacing`: at most a tenth of the time goes into saving."""


@click.command("sweep", cls=TestedCommand, epilog=LISTS_EPILOG, params=[*SWEEP_OPTIONS])
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

    A setting is a strategy with its window, placement, retries, number of sources, time to give up and sysctls; a load
    is -n or --fill, --concurrency and --churn. Each setting is measured at each load. The report ends with the setting
    whose connections cost least, of those that keep --error-budget at every load. If a cheaper setting exceeds the
    budget, the report names it, too, and the changes with which it would keep the budget.
    """  # noqa: D301  # click wants the character \b itself
    if plot and output_format != "text":
        raise UsageError(f"--plot goes with --format text, not {output_format}", "leave one of them out")

    from connbench.planner.planner import make_plan

    plan, known = make_plan(*_requests(asked))
    check_names(thresholds, plan.phases, "this sweep")

    # Only now: make_plan forks, which is safe only until numpy has started its threads.
    from connbench.commands.session import begin, check_outputs, measure

    file = check_outputs(plan, output, output_format, plot=plot, force=force)
    page_file = check_page(page, force=force) if page else None
    chart_files = _check_charts(charts, plan, force=force) if charts else {}
    result = begin(plan, known)
    print_message(announcement(plan))
    report = SweepReport(result, budget=budget, already_printed=not_to_repeat(tuple(known)))

    def write(made: Result) -> str:
        return "\n\n".join([*(scatters(made) if plot else ()), report.write(output_format, thresholds)])

    writer = ResultWriter(result, PrintoutAtEnd(result, write), file, spacing=SAVES_APART)
    failures = measure(plan, writer, interrupts, quiet=quiet, is_sweep=True)
    if result.rounds and chart_files:
        failures = [*_write_charts(chart_files, result), *failures]
    if result.rounds and page_file:
        failures = [*each(lambda: write_page([result], page_file, report.tables(), report.opening())), *failures]
    gate = gates.conclude([result], thresholds) if result.rounds else ExitCode.OK
    return exit_code(failures, gate, is_invalid=warn_of_invalid(result, output_format))


def _check_charts(prefix: Path, plan: Plan, *, force: bool) -> dict[str, Output]:
    """Check that the pictures of --charts can be drawn and written, and reserve their files.

    Returns:
        The file of each picture, by its kind.

    Raises:
        UsageError: The prefix is a folder, not the beginning of a name.
        OutputError: The folder is missing or not writable, or a picture exists and `force` is not given.
        EnvironmentFault: matplotlib is not installed.
    """
    from connbench.report.charts import canvas

    canvas.require()
    if prefix.name in {"", ".."}:
        raise UsageError(
            f"--charts {prefix}: no file name can begin with this",
            "write charts/sweep, say, for charts/sweep-windows.png",
        )
    return {
        kind: reserve(prefix.with_name(f"{prefix.name}-{kind}.png"), force=force, option="--charts")
        for kind in _kinds(plan.strategies)
    }


def _write_charts(charts: dict[str, Output], result: Result) -> list[ConnbenchError]:
    """Draw each kind of picture of the measured settings, and name the files on stderr.

    Returns:
        The failures.
    """
    from connbench.report.charts import canvas, left_out, picture
    from connbench.report.series import series_of

    series = series_of([result])

    def write(kind: str) -> None:
        charts[kind].save(picture(kind, series, canvas.Options(), "png"))
        missing = left_out(kind, series)
        print_written(f"wrote {charts[kind].shown}{missing and f'; {missing}'}")

    return each(*(partial(write, kind) for kind in _kinds(result.rounds)))


def _kinds(specs: Iterable[StrategySpec]) -> tuple[str, ...]:
    """The kinds of pictures; a chart over the window's size needs two windows."""
    windows = {spec.window for spec in specs if spec.window}
    return ("windows", "utilisation") if len(windows) > 1 else ("utilisation",)


def _requests(asked: dict[str, Any]) -> list[RunRequest]:
    lists = {name: asked.pop(name) for name in (*LOADS, *SETTINGS)}
    return sweep_requests(RunRequest(**asked), lists)
