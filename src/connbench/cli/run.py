"""`connbench run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connbench.cli.messages import warn
from connbench.cli.options import run_options
from connbench.interrupts import Interrupts
from connbench.model import Finding, Isolation, Listener, Placement, Severity
from connbench.planning import Request, make_plan

if TYPE_CHECKING:
    from connbench.results.result import Result


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
    from connbench.cli.measuring import exit_code, measure  # noqa: PLC0415  # see the comment above
    from connbench.cli.outlet import Outlet  # noqa: PLC0415  # as above
    from connbench.cli.pages import DocumentPages, TextPages  # noqa: PLC0415  # as above
    from connbench.host import checks, environment  # noqa: PLC0415  # as above
    from connbench.results.csv_file import refuse_several  # noqa: PLC0415  # as above
    from connbench.results.files import check_output  # noqa: PLC0415  # as above
    from connbench.results.result import Result  # noqa: PLC0415  # as above

    if output_format == "talk-csv":
        refuse_several(len(plan.strategies) * plan.rounds)
    file_format = check_output(output, force=force) if output else None
    for finding in known:
        warn(finding)
    result = Result(plan, environment.collect(plan.cpu), (*known, *checks.at_start()))
    pages = TextPages(result, tuple(known)) if output_format == "text" else DocumentPages(result, output_format)
    failures = measure(plan, Outlet(result, pages, output, file_format), interrupts, quiet=quiet)
    return exit_code(failures, _grave_findings(result, output_format))


def _request(asked: dict[str, Any]) -> Request:
    return Request(
        **{
            **asked,
            "isolate": Isolation(asked["isolate"]),
            "listener": asked["listener"] and Listener(asked["listener"]),
            "placement": asked["placement"] and Placement(asked["placement"]),
        }
    )


def _grave_findings(result: Result, output_format: str) -> list[Finding]:
    """What makes the result invalid; formats that carry no findings have these, and what is partial, said on stderr."""
    from connbench.analysis.soundness import findings  # noqa: PLC0415  # loads numpy: see above

    found = findings(result)
    invalid = [finding for finding in found if finding.severity is Severity.INVALID]
    if output_format in {"talk", "csv", "talk-csv"}:
        for finding in (*invalid, *(f for f in found if f.code == "partial")):
            warn(finding)
    return invalid
