"""Runs a plan for the user: progress on stderr, results on stdout and in the file, and what went wrong."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from connbench.commands.messages import print_message, warn
from connbench.commands.progress import Bar, Silent
from connbench.commands.result_writer import ResultWriter, format_of_result, reserve
from connbench.errors import ConnbenchError, EnvironmentFault
from connbench.findings import Finding
from connbench.host import checks, environment
from connbench.interrupts import Interrupts
from connbench.linux.faults import fault_of
from connbench.model import Plan, RoundPlan
from connbench.results.output_file import Output
from connbench.results.result import Result
from connbench.runner import run
from connbench.units import instant


def measure(
    plan: Plan, writer: ResultWriter, interrupts: Interrupts, *, quiet: bool, is_sweep: bool = False
) -> list[ConnbenchError]:
    """Run a plan, and print and save its results.

    Args:
        plan: The plan.
        writer: Prints and saves the result, and contains it.
        interrupts: The handler of signals.
        quiet: Whether to show no progress.
        is_sweep: Whether the progress shows the load of each strategy.

    Returns:
        The failures, the worst last.
    """
    bar = Bar(plan, is_sweep=is_sweep) if sys.stderr.isatty() and not quiet else Silent()

    def take_round(finished: RoundPlan) -> None:
        bar.end_turn()
        writer.take_round(finished)

    def say_stopping() -> None:
        bar.clear()
        print_message("stopping: connbench closes every connection; a second signal ends it at once")

    interrupts.immediate = False
    if sys.stderr.isatty():
        interrupts.on_stop = say_stopping
    fault: ConnbenchError | None = None
    try:
        run(plan, writer.result, bar.show, take_round, interrupts)
    except Exception as error:  # noqa: BLE001  # after any fault the rounds until then are printed and saved
        fault = fault_of(error)
    finally:
        bar.clear()
    if isinstance(fault, EnvironmentFault) and not writer.result.rounds:
        raise fault  # this machine cannot measure it: there is no result to go on with
    if writer.result.rounds:
        writer.finish()
    return [f for f in (writer.print_failure, writer.file_failure, fault) if f]


def begin(plan: Plan, known: Iterable[Finding]) -> Result:
    """Print the findings that are known before the run; an empty result, with the environment as it is now."""
    already_printed = tuple(known)
    for finding in already_printed:
        warn(finding)
    if plan.start_at_us is not None:
        print_message(f"the first turn begins at {instant(plan.start_at_us)}")
    return Result(
        plan,
        environment.collect(plan.cpus) | {"command": command_line()},
        (*already_printed, *checks.findings_at_start(plan)),
    )


def check_outputs(plan: Plan, output: Path | None, output_format: str, *, plot: bool, force: bool) -> Output | None:
    """Check, before the run, that the result can be printed and saved as asked.

    Returns:
        The output file, reserved; None without one.

    Raises:
        ConnbenchError: It cannot be printed or saved.
    """
    if plot:
        from connbench.report.charts import terminal

        terminal.require()
    if output_format == "talk-csv":
        from connbench.results.talk_csv import check_one_round

        check_one_round(len(plan.phases) * plan.rounds)
    if output_format == "hgrm":
        from connbench.report.hdr import check_one_strategy

        check_one_strategy(len(plan.phases))
    return result_file(output, force=force)


def result_file(output: Path | None, *, force: bool) -> Output | None:
    """Reserve the file of -o for a result; None without one.

    Raises:
        ConnbenchError: It cannot be written, or its ending names no format.
    """
    if output is None:
        return None
    format_of_result(output)
    return reserve(output, force=force)


def command_line() -> str:
    """The command as the user typed it, quoted for a shell; bytes that are not text become `?`."""
    return shlex.join(["connbench", *sys.argv[1:]]).encode(errors="replace").decode()
