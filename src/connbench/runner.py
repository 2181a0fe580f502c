"""The order of a run: rounds, in them the strategies, each in an engine process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from connbench import samples
from connbench.engine.client import run_round
from connbench.interrupts import Interrupts
from connbench.model import Plan, RoundPlan
from connbench.results.result import Result, Round, Samples

RECENT = 1000
"""Attempts the progress' mean is taken over."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a round is: finished attempts, and the mean connect() of the last thousand of them, in ns."""

    plan: RoundPlan
    done: int
    recent_mean_ns: float


OnProgress = Callable[[Progress], None]
OnRound = Callable[[RoundPlan], None]


def run(plan: Plan, result: Result, on_progress: OnProgress, on_round: OnRound, interrupts: Interrupts) -> None:
    """Carry out a plan, and fill the result; it holds what was measured whatever is raised.

    Args:
        plan: What to do.
        result: Takes in each round that left samples.
        on_progress: Called about five times a second while a round runs.
        on_round: Called after each round that left samples, with the result up to date.
        interrupts: Asked before each round and with each progress.

    Raises:
        ConnbenchError: A round could not begin, broke in its middle, or was interrupted.
    """
    with _away_from(plan.cpu):
        for number in range(1, plan.rounds + 1):
            for strategy in plan.strategies:
                interrupts.check()
                _run_one(result, RoundPlan(plan, strategy, number), on_progress, on_round, interrupts)


def _run_one(
    result: Result, plan: RoundPlan, on_progress: OnProgress, on_round: OnRound, interrupts: Interrupts
) -> None:
    rows = plan.connections
    descriptor = samples.create(rows)
    try:
        view = samples.views(samples.attach(descriptor, rows), rows)

        def tick() -> None:
            interrupts.check()
            on_progress(_progress(plan, view))

        outcome = run_round(plan, descriptor, tick)
        measured = Samples.from_memory(descriptor, rows)
    finally:
        os.close(descriptor)
    result.add(plan.strategy, Round(plan.number, measured, outcome.report, outcome.fault))
    on_round(plan)
    if outcome.fault:
        raise outcome.fault


def _progress(plan: RoundPlan, view: dict[str, memoryview]) -> Progress:
    done = samples.count_done(view["tries"])
    recent = view["connect_ns"][max(0, done - RECENT) : done]
    return Progress(plan, done, float(np.mean(np.asarray(recent))) if done else 0.0)


@contextmanager
def _away_from(cpu: int | None) -> Iterator[None]:
    """Keep this process and the engines it starts off the measured CPU, if there is another; holders move there."""
    usable = os.sched_getaffinity(0)
    others = usable - {cpu}
    if cpu is None or not others:
        yield
        return
    os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)
