"""`connbench run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connbench.cli.messages import complain, warn, warn_of_grave_findings
from connbench.cli.options import run_options
from connbench.errors import ConnbenchError, ExitCode
from connbench.interrupts import Interrupts
from connbench.model import Isolation, Listener, Placement, Plan, RoundPlan
from connbench.planning import Request, make_plan

if TYPE_CHECKING:
    from connbench.cli.outlet import Outlet
    from connbench.cli.progress import Bar, Silent


@click.command("run")
@run_options
@click.pass_obj
def command(
    interrupts: Interrupts, /, output: Path | None, output_format: str, *, force: bool, quiet: bool, **asked: object
) -> int:
    """Open N sockets with each strategy, time every connect(), and summarize per port parity.

    Each round runs in a network namespace of its own, which is gone when it ends; the host's settings are not touched.
    """
    interrupts.immediate = True  # an external target may keep us waiting
    plan, known = make_plan(_request(asked))
    interrupts.immediate = False

    # Only now: make_plan forks, which is safe only until numpy has started its threads.
    from connbench.cli.outlet import Outlet  # noqa: PLC0415  # see the comment above
    from connbench.host import checks, environment  # noqa: PLC0415  # as above
    from connbench.results.files import check_output  # noqa: PLC0415  # as above
    from connbench.results.result import Result  # noqa: PLC0415  # as above
    from connbench.results.talk_csv import refuse_several  # noqa: PLC0415  # as above

    if output_format == "talk-csv":
        refuse_several(len(plan.strategies) * plan.rounds)
    file_format = check_output(output, force=force) if output else None
    for finding in known:
        warn(finding)
    at_start = map(checks.as_finding, (checks.check_cpus(), checks.check_load(seconds=0.1)))
    result = Result(plan, environment.collect(plan.cpu), (*known, *filter(None, at_start)))
    outlet = Outlet(result, output_format, output, file_format, tuple(known))
    return _measure(plan, outlet, interrupts, quiet=quiet)


def _request(asked: dict[str, Any]) -> Request:
    return Request(
        **{
            **asked,
            "isolate": Isolation(asked["isolate"]),
            "listener": asked["listener"] and Listener(asked["listener"]),
            "placement": asked["placement"] and Placement(asked["placement"]),
        }
    )


def _measure(plan: Plan, outlet: Outlet, interrupts: Interrupts, *, quiet: bool) -> int:
    """Run, print, and say how it ended: by the worst that happened."""
    from connbench.runner import run  # noqa: PLC0415  # loads numpy: see above

    bar = _progress(quiet=quiet)

    def take_round(finished: RoundPlan) -> None:
        bar.clear()
        outlet.take_round(finished)

    fault: ConnbenchError | None = None
    try:
        run(plan, outlet.result, bar.show, take_round, interrupts)
    except ConnbenchError as error:
        fault = error
    finally:
        bar.clear()
    if outlet.result.rounds:
        outlet.finish()
    failures = [f for f in (outlet.print_failure, outlet.file_failure, fault) if f]
    is_invalid = warn_of_grave_findings(outlet.result, outlet.output_format)
    for failure in failures:
        complain(failure)
    if failures:
        return failures[-1].exit_code
    return ExitCode.UNSOUND if is_invalid else ExitCode.OK


def _progress(*, quiet: bool) -> Bar | Silent:
    from connbench.cli.progress import Bar, Silent  # noqa: PLC0415  # commands load what they use

    return Bar() if sys.stderr.isatty() and not quiet else Silent()
