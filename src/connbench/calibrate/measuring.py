"""Measures plans one after the other, and fits the costs to all of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from connbench.analysis.soundness import findings
from connbench.commands.calibration_files import fit_to
from connbench.errors import RunFault
from connbench.findings import Finding, merge_alike
from connbench.interrupts import Interrupts
from connbench.model import Plan, Protocol
from connbench.portmodel.calibration import Calibration
from connbench.portmodel.prediction import predict_result
from connbench.results.result import Result
from connbench.rounds import OnProgress
from connbench.runner import run

ORIGIN = "connbench calibrate"


def measure(plans: Iterable[tuple[Plan, OnProgress]], start: Result, interrupts: Interrupts) -> list[Result]:
    """Run plans, with what shows the progress of each; a result of each.

    Raises:
        ConnbenchError: A plan could not be measured to its end, or a signal ended the measurement.
    """
    results = []
    for plan, on_progress in plans:
        result = Result(plan, start.environment)
        run(plan, result, on_progress, lambda _: None, interrupts)
        results.append(result)
    return results


def fit(results: Sequence[Result]) -> Calibration:
    """The costs of TCP on the machine of these results.

    Raises:
        RunFault: There is no connection to fit the costs to.
    """
    pairs = [pair for result in results for pair in predict_result(result)]
    found = fit_to(pairs, results[0].environment, ORIGIN)(Protocol.TCP)
    if found is None:
        raise RunFault("no connection was made that costs could be fitted to", "look for the cause: connbench doctor")
    return found


def all_findings(start: Result, results: Sequence[Result]) -> list[Finding]:
    """The findings from before the measurement, and those of each result; those of one kind are one."""
    return merge_alike([*start.known, *(one for result in results for one in findings(result))])
