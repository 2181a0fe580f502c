"""Runs the rounds of a plan: each strategy of each round in a new engine process, with the standard library alone.

An agent that was pushed to a host has no more. `connbench.runner` makes a result of what is measured here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from connbench import samples
from connbench.engine.launcher import Outcome, run_round
from connbench.interrupts import Interrupts
from connbench.linux.process import usable_cpus
from connbench.model import Plan, RoundPlan
from connbench.model.round_report import Measured, RoundReport

RECENT = 1000
"""The number of attempts whose mean the progress shows."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a phase.

    Attributes:
        plan: The round, in that phase.
        done: The attempts that are finished.
        recent_mean_ns: The mean connect() time of about the last thousand of them, in ns.
    """

    plan: RoundPlan
    done: int
    recent_mean_ns: float


OnMeasured = Callable[[Measured], None]
OnProgress = Callable[[Progress], None]
OnRound = Callable[[RoundPlan], None]
Start = Callable[[RoundPlan], int]


def run_rounds(  # what is called, and when
    plan: Plan,
    on_measured: OnMeasured,
    on_progress: OnProgress,
    on_round: OnRound,
    interrupts: Interrupts,
    start: Start | None = None,
) -> None:
    """Run a plan.

    Args:
        plan: What to run.
        on_measured: Called after each round for each phase of it that began, also after a fault.
        on_progress: Called about five times a second while a round runs.
        on_round: Called after each round that has samples, once `on_measured` has them.
        interrupts: Checked before each round, and about five times a second.
        start: Called for each round once its engine is ready to begin; returns the instant at which it begins, in ns of
            CLOCK_REALTIME. It may raise ConnbenchError: then the round ends without attempts. None: rounds begin when
            the plan says, or at once.

    Raises:
        ConnbenchError: A round could not begin, ended early by a fault, or was interrupted.
    """
    for number in range(1, plan.rounds + 1):
        for strategy in plan.strategies:
            interrupts.check()
            round_plan = RoundPlan(plan, strategy, number, waits=start is not None)
            with _off_cpus(round_plan.cpus):
                _run_one(round_plan, on_measured, on_progress, interrupts, start or (lambda _: 0), on_round)


def _run_one(  # as above
    plan: RoundPlan,
    on_measured: OnMeasured,
    on_progress: OnProgress,
    interrupts: Interrupts,
    start: Start,
    on_round: OnRound,
) -> None:
    rows = plan.rows
    descriptor = samples.create(rows)
    try:
        view = samples.views(samples.attach(descriptor, rows), rows)

        def tick() -> None:
            interrupts.check()
            on_progress(_progress(plan, view))

        outcome = run_round(plan, descriptor, tick, lambda: start(plan))
        for measured in _by_phase(plan, view, descriptor, outcome):
            on_measured(measured)
    finally:
        os.close(descriptor)
    on_round(plan)
    if outcome.fault:
        raise outcome.fault


def _by_phase(plan: RoundPlan, view: dict[str, memoryview], descriptor: int, outcome: Outcome) -> list[Measured]:
    """Each phase that began; the last of them has the fault, if there was one."""
    left: list[Measured] = []
    reports = iter(outcome.reports)
    for spec in plan.strategy.phases:
        rows = plan.rows_of(spec.phase)
        left.append(Measured(spec, plan.number, descriptor, plan.rows, rows, next(reports, RoundReport())))
        if 0 in view["tries"][rows.start : rows.stop]:
            break
    left[-1] = replace(left[-1], fault=outcome.fault)
    return left


def _progress(plan: RoundPlan, view: dict[str, memoryview]) -> Progress:
    """The progress of the last phase that has a finished attempt."""
    progress = Progress(plan, 0, 0.0)
    for phase in plan.strategy.phases:
        clients = [(rows.start, samples.count_done(view["tries"], rows)) for rows in plan.rows_of_clients(phase.phase)]
        done = sum(count for _, count in clients)
        if not done:
            break
        part = max(1, RECENT // len(clients))
        recent = [view["connect_ns"][first + max(0, n - part) : first + n] for first, n in clients]
        mean = sum(map(sum, recent)) / sum(map(len, recent))
        progress = Progress(plan.in_phase(phase.phase), done, mean)
    return progress


@contextmanager
def _off_cpus(cpus: frozenset[int]) -> Iterator[None]:
    """Keep this process and the engine off the measured CPUs, if there are others; the workers move to those."""
    usable = usable_cpus()
    others = usable - cpus
    if not cpus or not others:
        yield
        return
    with suppress(OSError):
        os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        with suppress(OSError):  # a cpuset may have become smaller meanwhile
            os.sched_setaffinity(0, usable)
