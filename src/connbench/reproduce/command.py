"""`connbench reproduce`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connbench.commands.answers import KTAP, TestedCommand, kselftest_option
from connbench.commands.messages import exit_code, warn_of_invalid, width
from connbench.commands.options import (
    cpu_option,
    force_option,
    format_option,
    loop_option,
    output_option,
    page_option,
    quiet_option,
    seed_option,
)
from connbench.commands.reports import write_as
from connbench.commands.result_writer import PrintoutAtEnd, ResultWriter, check_page, each, not_to_repeat, write_page
from connbench.commands.sections import Section, option
from connbench.interrupts import Interrupts
from connbench.model import Isolation, first_sources
from connbench.planner.request import RunRequest
from connbench.strategies import BASELINE

if TYPE_CHECKING:
    from connbench.results.result import Result

FORMAT_NAMES = ("text", "json", KTAP)


@click.command("reproduce", cls=TestedCommand)
@option(
    Section.OPEN,
    "--quick",
    is_flag=True,
    help="Use 4,096 ports, and windows in proportion. This takes seconds instead of minutes.",
)
@seed_option
@cpu_option
@loop_option
@format_option(FORMAT_NAMES)
@output_option
@page_option
@force_option
@quiet_option
@kselftest_option
@click.pass_obj
def command(  # noqa: PLR0913  # one for each option
    interrupts: Interrupts,
    /,
    output: Path | None,
    page: Path | None,
    output_format: str,
    *,
    quick: bool,
    force: bool,
    quiet: bool,
    **asked: Any,  # noqa: ANN401  # seed, cpu and loop, which go on as they are
) -> int:
    """Repeat the measurements of the talk 'connect() - why you so slow?', and check its claims on this kernel.

    Prints each figure beside the one that the talk published, and whether each claim holds. It takes about five
    minutes: plain, bind, and bind from one or two addresses take a minute or two each. Each round runs in a new network
    namespace.
    """
    from connbench.planner.planner import make_plan
    from connbench.planner.resources import Available, check_resources
    from connbench.planner.workload import only_supported
    from connbench.reproduce.cases import FULL_RANGE, MOST_SOURCES, QUICK_RANGE, cases

    ports = QUICK_RANGE if quick else FULL_RANGE
    request = RunRequest(strategies=(BASELINE.name,), port_range=ports, isolate=Isolation.ALWAYS, **asked)
    plan, known = make_plan(request)
    specs, missing = only_supported(tuple(case.spec for case in cases(ports)))
    plan = replace(plan, strategies=specs, sources=first_sources(MOST_SOURCES))
    check_resources(plan, Available.here())  # make_plan has asked for one round of plain alone

    # Only now: make_plan forks, which is safe only until numpy has started its threads.
    from connbench.commands.session import begin, measure, result_file
    from connbench.reproduce import report as reproduction

    file = result_file(output, force=force)
    page_file = check_page(page, force=force) if page else None
    known = [*known, *missing]
    result = begin(plan, known)
    result.is_reproduction = True

    def write(made: Result) -> str:
        if output_format == "json":
            return reproduction.json(made)
        if output_format == KTAP:
            return write_as(made, KTAP)
        return reproduction.report(made, width(), not_to_repeat(tuple(known)))

    writer = ResultWriter(result, PrintoutAtEnd(result, write), file)
    failures = measure(plan, writer, interrupts, quiet=quiet)
    if page_file and result.rounds:
        more, opening = reproduction.tables(result), reproduction.opening(result)
        failures = [*each(lambda: write_page([result], page_file, more, opening)), *failures]
    return exit_code(failures, is_invalid=warn_of_invalid(result, output_format))
