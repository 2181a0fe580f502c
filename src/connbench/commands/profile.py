"""`connbench profile`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from connbench.commands import gates
from connbench.commands.answers import TestedCommand
from connbench.commands.messages import exit_code, warn_of_invalid
from connbench.commands.options import LISTS_EPILOG, PROFILE_OPTIONS
from connbench.commands.reports import ProfileReport
from connbench.commands.result_writer import PrintoutAtEnd, ResultWriter, check_page, each, write_page
from connbench.errors import ExitCode
from connbench.interrupts import Interrupts
from connbench.model import Isolation
from connbench.model.load import DEFAULT_LEVELS
from connbench.planner.request import RunRequest
from connbench.thresholds import Expression, check_names


@click.command("profile", cls=TestedCommand, epilog=LISTS_EPILOG, params=[*PROFILE_OPTIONS])
@click.pass_obj
def command(  # noqa: PLR0913  # one for each option
    interrupts: Interrupts,
    /,
    output: Path | None,
    output_format: str,
    page: Path | None,
    thresholds: tuple[Expression, ...],
    levels: tuple[float, ...] | None,
    *,
    force: bool,
    quiet: bool,
    wide: bool,
    **asked: Any,  # noqa: ANN401  # the fields of a request
) -> int:
    """Show what a connection costs with each strategy as the port range fills, without filling it connection by
    connection.

    \b
      connbench profile
      connbench profile --strategy plain,range --at 40%-60%:1%

    At each level connbench puts ports in use until the level is reached: the ports that the strategy would have taken,
    some microseconds each. Then it times 100 attempts of the strategy, and closes each connection at once. With all
    ports in use every attempt fails. Each strategy is measured in a new network namespace.
    """  # noqa: D205, D301  # click makes one paragraph of it, and wants the character \b itself
    from connbench.planner.planner import make_plan

    plan, known = make_plan(RunRequest(**asked, levels=levels or DEFAULT_LEVELS, isolate=Isolation.ALWAYS))
    check_names(thresholds, plan.phases, "this profile")

    # Only now: make_plan forks, which is safe only until numpy has started its threads.
    from connbench.commands.session import begin, check_outputs, measure

    file = check_outputs(plan, output, output_format, plot=False, force=force)
    page_file = check_page(page, force=force) if page else None
    result = begin(plan, known)
    report = ProfileReport(result, is_wide=wide)
    writer = ResultWriter(result, PrintoutAtEnd(result, lambda _: report.write(output_format, thresholds)), file)
    failures = measure(plan, writer, interrupts, quiet=quiet)
    if result.rounds and page_file:
        failures = [*each(lambda: write_page([result], page_file, report.tables(), report.opening())), *failures]
    gate = gates.conclude([result], thresholds) if result.rounds else ExitCode.OK
    return exit_code(failures, gate, is_invalid=warn_of_invalid(result, output_format))
