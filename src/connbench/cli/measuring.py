"""Carrying out a plan in front of the user: progress while it runs, results as they come, and how it ended."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from connbench.cli.messages import complain, tell, warn
from connbench.cli.outlet import Outlet
from connbench.cli.progress import Bar, Silent
from connbench.errors import ConnbenchError, ExitCode
from connbench.findings import Finding
from connbench.host import checks, environment
from connbench.interrupts import Interrupts
from connbench.model import Plan, RoundPlan
from connbench.report.charts import terminal
from connbench.results.files import check_output
from connbench.results.result import Result
from connbench.results.talk_csv import refuse_several
from connbench.runner import run


def measure(
    plan: Plan, outlet: Outlet, interrupts: Interrupts, *, quiet: bool, is_sweep: bool = False
) -> list[ConnbenchError]:
    """Carry out a plan, print and save what it brings; the progress of a sweep tells each turn by its load too.

    Returns:
        What went wrong, the worst last.
    """
    bar = Bar(plan, is_sweep=is_sweep) if sys.stderr.isatty() and not quiet else Silent()

    def take_round(finished: RoundPlan) -> None:
        bar.end_turn()
        outlet.take_round(finished)

    def say_stopping() -> None:
        bar.clear()
        tell("stopping, every connection is being closed; once more ends it at once")

    if sys.stderr.isatty():
        interrupts.on_stop = say_stopping
    fault: ConnbenchError | None = None
    try:
        run(plan, outlet.result, bar.show, take_round, interrupts)
    except ConnbenchError as error:
        fault = error
    finally:
        bar.clear()
    if outlet.result.rounds:
        outlet.finish()
    return [f for f in (outlet.print_failure, outlet.file_failure, fault) if f]


def begin(plan: Plan, known: Iterable[Finding]) -> Result:
    """Tell the user what is known beforehand; the result that is to be filled, with the machine as it is now."""
    told = tuple(known)
    for finding in told:
        warn(finding)
    return Result(plan, environment.collect(plan.cpus) | {"command": command_line()}, (*told, *checks.at_start(plan)))


def check_outputs(plan: Plan, output: Path | None, output_format: str, *, plot: bool, force: bool) -> str | None:
    """Make sure, before anything is measured, that it can be printed and saved as asked for.

    Returns:
        The format of the output file; None without one.

    Raises:
        ConnbenchError: It cannot.
    """
    if plot:
        terminal.require()
    if output_format == "talk-csv":
        refuse_several(len(plan.phases) * plan.rounds)
    return check_output(output, force=force) if output else None


def command_line() -> str:
    """What the user typed, as a shell takes it; bytes that are no text, as a file's name may have, become `?`."""
    return shlex.join(["connbench", *sys.argv[1:]]).encode(errors="replace").decode()


def exit_code(failures: list[ConnbenchError], otherwise: ExitCode = ExitCode.OK, *, is_invalid: bool) -> int:
    """Complain of what went wrong; the exit code is the worst's, and `otherwise` after a sound run without a fault."""
    for failure in failures:
        complain(failure)
    if failures:
        return failures[-1].exit_code
    return ExitCode.UNSOUND if is_invalid else otherwise
