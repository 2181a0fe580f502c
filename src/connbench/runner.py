"""Runs a plan: in each round, every strategy in a new engine process; the samples go into the result."""

from __future__ import annotations

from connbench.interrupts import Interrupts
from connbench.model import Plan
from connbench.model.round_report import Measured
from connbench.results.result import Result, Round, samples_class
from connbench.rounds import OnProgress, OnRound, Start, run_rounds


def run(  # those of `run_rounds`
    plan: Plan,
    result: Result,
    on_progress: OnProgress,
    on_round: OnRound,
    interrupts: Interrupts,
    start: Start | None = None,
) -> None:
    """Run a plan, and add each round to the result. If this raises, the result has the samples so far.

    Args:
        plan: What to run.
        result: Each round that has samples is added to it.
        on_progress: See `connbench.rounds.run_rounds`, as for the others.
        on_round: Called after each round that has samples, once the result has it.
        interrupts: Checked before each round, and about five times a second.
        start: Says for each round when it begins.

    Raises:
        ConnbenchError: A round could not begin, ended early by a fault, or was interrupted.
    """

    def add(one: Measured) -> None:
        measured = samples_class(one.strategy).from_memory(one.descriptor, one.total, one.rows)
        result.add(one.strategy, Round(one.number, measured, one.report, one.fault))

    run_rounds(plan, add, on_progress, on_round, interrupts, start)
