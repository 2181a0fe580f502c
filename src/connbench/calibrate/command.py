"""`connbench calibrate`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connbench.calibrate.plans import FULL, SAMPLES, measured_plans
from connbench.commands.messages import can_be_bold, exit_code, warn, width
from connbench.commands.options import (
    FILE,
    cpu_option,
    force_option,
    format_option,
    loop_option,
    model_range_option,
    quiet_option,
)
from connbench.commands.progress import Bar, Silent
from connbench.commands.result_writer import Stdout, each, print_written, reserve
from connbench.commands.sections import Command, Section, option
from connbench.errors import EnvironmentFault
from connbench.findings import Severity
from connbench.interrupts import Interrupts
from connbench.linux.sockopts import LOCAL_PORT_RANGE, is_supported
from connbench.model import Isolation, Plan, PortRange
from connbench.planner.request import DEFAULT_SEED, RunRequest
from connbench.strategies import BASELINE

if TYPE_CHECKING:
    from connbench.results.output_file import Output
    from connbench.rounds import OnProgress


@click.command("calibrate", cls=Command)
@model_range_option
@cpu_option
@loop_option
@format_option(("text", "json", "markdown"))
@option(
    Section.OUTPUT,
    "-o",
    "--output",
    type=FILE,
    metavar="FILE",
    help="Save the costs to FILE (.json), for --calibrate of predict and advise.",
)
@force_option
@quiet_option
@click.pass_obj
def command(
    interrupts: Interrupts,
    /,
    port_range: PortRange | None,
    output: Path | None,
    output_format: str,
    *,
    force: bool,
    quiet: bool,
    **asked: Any,  # noqa: ANN401  # cpus and loop, which go on as they are
) -> int:
    """Measure what connect() and each port that it probes cost on this machine, in some seconds.

    \b
      connbench calibrate -o machine.json
      connbench predict --strategy plain --calibrate machine.json

    A port costs more the more ports are in use, because their entries no longer fit the CPU's caches. So connbench
    measures ranges of 2,048 ports, 4,096 and so on up to the whole range. Each is measured in a new network namespace.
    """  # noqa: D301  # click wants the character \b itself
    if not is_supported(LOCAL_PORT_RANGE):
        raise EnvironmentFault(
            f"this kernel has no {LOCAL_PORT_RANGE.name}, so ports cannot be put in use quickly",
            "fit the costs to results instead: connbench run --strategy plain -o FILE, then --calibrate FILE",
        )
    from connbench.planner.planner import make_plan

    if port_range is not None:
        port_range.check_for_search()
    file = _reserve(output, force=force)
    request = RunRequest(
        strategies=(BASELINE.name,),
        port_range=port_range,
        levels=(FULL,),
        samples=SAMPLES,
        isolate=Isolation.ALWAYS,
        seed=DEFAULT_SEED,
        **asked,
    )
    whole, known = make_plan(request)

    # Only now: make_plan forks, which is safe only until numpy has started its threads.
    from connbench.calibrate import report
    from connbench.calibrate.measuring import all_findings, fit, measure
    from connbench.commands.session import begin
    from connbench.portmodel.calibration_file import calibration_document
    from connbench.report import markdown, text

    start = begin(whole, known)
    interrupts.immediate = False
    results = measure(_with_progress(measured_plans(whole), quiet=quiet), start, interrupts)
    calibration, found = fit(results), all_findings(start, results)
    document = calibration_document(calibration)
    not_printed = [one for one in found if one not in known]
    if output_format == "json":
        for one in not_printed:
            warn(one)
        printed = document
    else:
        file_name = shlex.quote(str(output or "FILE"))
        blocks = report.calibration_blocks(calibration, whole, file_name, not_printed)
        is_text = output_format == "text"
        printed = text.write(blocks, width(), bold=can_be_bold()) if is_text else markdown.write(blocks)
    stdout = Stdout()
    stdout.print(printed.rstrip("\n"))
    failures = [*stdout.failures, *(each(lambda: _save(file, document)) if file else [])]
    return exit_code(failures, is_invalid=any(one.severity is Severity.INVALID for one in found))


def _with_progress(plans: Iterable[Plan], *, quiet: bool) -> Iterator[tuple[Plan, OnProgress]]:
    """Each plan, with what shows its progress on a terminal until the next plan is asked for."""
    for plan in plans:
        bar = Bar(plan) if sys.stderr.isatty() and not quiet else Silent()
        try:
            yield plan, bar.show
        finally:
            bar.clear()


def _reserve(output: Path | None, *, force: bool) -> Output | None:
    if output is None:
        return None
    from connbench.results.output_file import format_of

    format_of(output, {".json": "json"})
    return reserve(output, force=force)


def _save(file: Output, document: str) -> None:
    file.save(document.encode())
    print_written(f"wrote {file.shown}")
