"""How the time that a program waits went on as a strategy opened its connections: what a verdict is made of."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from connbench.analysis.knee import BASELINE_SHARE, GROWTH, Knee, can_show_half, find_knee, knee_of
from connbench.model import Plan, RoundPlan, Spread
from connbench.results.result import Numbers, StrategyResult


@dataclass(frozen=True, slots=True)
class Course:
    """Median acquire times of the connections of a filling, in ns; None without a connection in that part of it.

    With several rounds the connections of all of them count, each by its own round's order.

    Attributes:
        knee: Where it turned slow. Where each address is used up before the next (`Spread.FILL`), this and the ports
            are the first one's: `is_of_first` says so.
        ports: How many ports the connections were to fill; None where that is not known.
        held: Connections of the fullest round over these ports.
        before_ns: The median before the knee, and `after_ns` from there on; None without a knee.
        median_ns: That of all connections.
        first_ns: That of the first 5 %, and `last_ns` of the last 5 %.
    """

    knee: Knee
    ports: int | None
    held: int
    is_of_first: bool
    before_ns: float | None
    after_ns: float | None
    median_ns: float | None
    first_ns: float | None
    last_ns: float | None

    @property
    def grows(self) -> bool:
        """Whether the last connections took longer than the first."""
        return self.first_ns is not None and self.last_ns is not None and self.last_ns > GROWTH * self.first_ns

    @property
    def shows_half(self) -> bool | None:
        """Whether a knee at half of the ports would have been seen; None where their number is not known."""
        return None if self.ports is None else can_show_half(self.held, self.ports)


@lru_cache(maxsize=32)
def course_of(strategy: StrategyResult, plan: Plan | None) -> Course:
    """How the filling of a strategy went on; `plan` is the run's, None where that is not known."""
    space = _first_space(strategy, plan)
    had = [r.samples.acquire_ns[~r.samples.failed] for r in strategy.rounds]
    fast, slow = _around_knees(space or strategy)
    return Course(
        knee=find_knee(space or strategy),
        ports=(space or strategy).capacity,
        held=max(int((~r.samples.failed).sum()) for r in (space or strategy).rounds),
        is_of_first=space is not None,
        before_ns=_median(fast),
        after_ns=_median(slow),
        median_ns=_median(had),
        first_ns=_median([acquire[: _part(acquire)] for acquire in had]),
        last_ns=_median([acquire[len(acquire) - _part(acquire) :] for acquire in had]),
    )


def _first_space(strategy: StrategyResult, plan: Plan | None) -> StrategyResult | None:
    """The attempts of the first address, where each is used up before the next; else None.

    Addresses that are taken in turn are equally full at any time: there the ports of all are as one range.
    """
    if plan is None or strategy.capacity is None or plan.spread is not Spread.FILL:
        return None
    planned = RoundPlan(plan, strategy.strategy, 1)
    if planned.spaces == 1:
        return None
    every_target = not strategy.strategy.has_ports_per_target
    rounds = tuple(
        replace(r, samples=r.samples.chosen((r.samples.source == 0) & ((r.samples.target == 0) | every_target)))
        for r in strategy.rounds
    )
    return replace(strategy, rounds=rounds, capacity=planned.ports_each)


def _around_knees(strategy: StrategyResult) -> tuple[list[Numbers], list[Numbers]]:
    """The acquire times before and after each round's own knee, of the rounds that have one.

    What was given up counts, as it does for the knee.
    """
    before, after = [], []
    for measured in strategy.rounds:
        samples, knee = measured.samples, knee_of(measured.samples).connection
        if knee is not None:
            made = ~samples.failed | samples.given_up
            before.append(samples.acquire_ns[: knee - 1][made[: knee - 1]])
            after.append(samples.acquire_ns[knee - 1 :][made[knee - 1 :]])
    return before, after


def _part(acquire: Numbers) -> int:
    return min(len(acquire), max(1, int(len(acquire) * BASELINE_SHARE)))


def _median(parts: list[Numbers]) -> float | None:
    values = np.concatenate(parts) if parts else np.empty(0)
    return float(np.median(values)) if len(values) else None
