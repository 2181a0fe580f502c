"""`connbench run`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from connbench.commands import gates
from connbench.commands.answers import TestedCommand
from connbench.commands.messages import exit_code, warn_of_invalid
from connbench.commands.options import RUN_OPTIONS, VALUES_EPILOG
from connbench.commands.reports import write_as
from connbench.commands.result_writer import PrintoutAtEnd, PrintoutByStrategy, ResultWriter
from connbench.commands.sections import Section
from connbench.errors import ExitCode, UsageError
from connbench.interrupts import Interrupts
from connbench.planner.request import RunRequest
from connbench.thresholds import Expression, check_names


@click.command("run", cls=TestedCommand, epilog=VALUES_EPILOG, params=[*RUN_OPTIONS])
@click.pass_obj
def command(  # noqa: PLR0913  # one for each option
    interrupts: Interrupts,
    /,
    output: Path | None,
    output_format: str,
    thresholds: tuple[Expression, ...],
    *,
    force: bool,
    quiet: bool,
    plot: bool,
    **asked: Any,  # noqa: ANN401  # the fields of a request
) -> int:
    """Open N connections with each strategy, time every connect(), and report the times by port parity.

    \b
      connbench run --strategy plain,window --port-range 20000-29999
      connbench run --fill 80% --churn 10k --rounds 5 -o result.json

    Each round runs in a new network namespace, which the kernel removes afterwards; the host's settings do not change.
    """  # noqa: D301  # click wants the character \b itself
    if plot and output_format != "text":
        raise UsageError(f"--plot goes with --format text, not {output_format}", "leave one of them out")

    from connbench.planner.planner import make_plan

    plan, known = make_plan(RunRequest(**asked))
    check_names(thresholds, plan.phases, "this run")

    # Only now: make_plan forks, which is safe only until numpy has started its threads.
    from connbench.commands.session import begin, check_outputs, measure

    file = check_outputs(plan, output, output_format, plot=plot, force=force)
    result = begin(plan, known)
    printout = (
        PrintoutByStrategy(result, tuple(known), plot=plot)
        if output_format == "text"
        else PrintoutAtEnd(result, lambda made: write_as(made, output_format, thresholds))
    )
    failures = measure(plan, ResultWriter(result, printout, file), interrupts, quiet=quiet)
    gate = gates.conclude([result], thresholds) if result.rounds else ExitCode.OK
    return exit_code(failures, gate, is_invalid=warn_of_invalid(result, output_format))


def request_of(words: Sequence[str], writer: str) -> RunRequest:
    """The request that options of `connbench run` make, where another command prints and saves what is measured.

    Args:
        words: The options.
        writer: That command, for the message.

    Raises:
        UsageError: They are wrong, or one of them says what to print or save.
    """
    context = command.make_context("connbench run", list(words))
    asked = dict(context.params)
    for one in RUN_OPTIONS:
        if one.name and one.section in {Section.OUTPUT, Section.GATE}:
            asked.pop(one.name, None)  # --kselftest has no value of its own
            if context.get_parameter_source(one.name) is click.core.ParameterSource.COMMANDLINE:
                raise UsageError(f"{one.opts[-1]} is an option of {writer} here", "write it before the --")
    return RunRequest(**asked)
