"""`connbench run`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connbench.cli.messages import complain, warn
from connbench.cli.options import run_options
from connbench.errors import ConnbenchError, ExitCode
from connbench.model import Isolation, Listener, Placement, RoundPlan, Severity
from connbench.planning import Request, make_plan

if TYPE_CHECKING:
    from connbench.cli.outlet import Outlet
    from connbench.cli.progress import Bar, Silent
    from connbench.results.result import Result


@click.command("run")
@run_options
def command(output: Path | None, output_format: str, *, force: bool, quiet: bool, **asked: object) -> int:
    """Open N sockets with each strategy, time every connect(), and summarize per port parity.

    Each round runs in a network namespace of its own, which is gone when it ends; the host's settings are not touched.
    """
    plan, known = make_plan(_request(asked))

    # Only now: make_plan forks, which is safe only until numpy has started its threads.
    from connbench.cli.outlet import Outlet  # noqa: PLC0415  # see the comment above
    from connbench.host import checks, environment  # noqa: PLC0415  # as above
    from connbench.results.files import check_output  # noqa: PLC0415  # as above
    from connbench.results.result import Result  # noqa: PLC0415  # as above

    file_format = check_output(output, force=force) if output else None
    for finding in known:
        warn(finding)
    at_start = map(checks.as_finding, (checks.check_cpus(), checks.check_load(seconds=0.1)))
    result = Result(plan, environment.collect(), (*known, *filter(None, at_start)))
    return _measure(Outlet(result, output_format, output, file_format, tuple(known)), quiet=quiet)


def _request(asked: dict[str, Any]) -> Request:
    return Request(
        **{
            **asked,
            "isolate": Isolation(asked["isolate"]),
            "listener": asked["listener"] and Listener(asked["listener"]),
            "placement": asked["placement"] and Placement(asked["placement"]),
        }
    )


def _measure(outlet: Outlet, *, quiet: bool) -> int:
    """Run, print, and say how it ended: by the worst that happened."""
    from connbench.runner import run  # noqa: PLC0415  # loads numpy: see above

    bar = _progress(quiet=quiet)

    def take_round(plan: RoundPlan) -> None:
        bar.clear()
        outlet.take_round(plan)

    fault: ConnbenchError | None = None
    try:
        run(outlet.result, bar.show, take_round)
    except ConnbenchError as error:
        fault = error
    finally:
        bar.clear()
    if outlet.result.rounds:
        outlet.finish()
    for failure in filter(None, (outlet.failure, fault)):
        complain(failure)
    if fault:
        return fault.exit_code
    return outlet.failure.exit_code if outlet.failure else _soundness(outlet.result, outlet.output_format)


def _progress(*, quiet: bool) -> Bar | Silent:
    from connbench.cli.progress import Bar, Silent  # noqa: PLC0415  # commands load what they use

    return Bar() if sys.stderr.isatty() and not quiet else Silent()


def _soundness(result: Result, output_format: str) -> int:
    """Exit code by the findings; formats that do not carry them have the gravest said on stderr."""
    from connbench.analysis.soundness import findings  # noqa: PLC0415  # loads numpy: see above

    invalid = [f for f in findings(result) if f.severity is Severity.INVALID]
    if output_format in {"talk", "csv"}:
        for finding in invalid:
            warn(finding)
    return ExitCode.UNSOUND if invalid else ExitCode.OK
