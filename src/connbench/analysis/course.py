"""How the time that a program waits went on as a strategy opened its connections: what a verdict is made of."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from connbench.analysis.knee import BASELINE_SHARE, GROWTH, Knee, find_knee, first_address, knee_of
from connbench.results.result import Numbers, StrategyResult


@dataclass(frozen=True, slots=True)
class Course:
    """Median acquire times of the connections of a filling, in ns; None without a connection in that part of it.

    With several rounds the connections of all of them count, each by its own round's order.

    Attributes:
        knee: Where it turned slow, and of how many ports.
        held: Connections over the ports of the knee.
        before_ns: The median before the knee, and `after_ns` from there on; None without a knee.
        median_ns: That of all connections.
        first_ns: That of the first 5 %, and `last_ns` of the last 5 %.
    """

    knee: Knee
    held: int
    before_ns: float | None
    after_ns: float | None
    median_ns: float | None
    first_ns: float | None
    last_ns: float | None

    @property
    def grows(self) -> bool:
        """Whether the last connections took longer than the first."""
        return self.first_ns is not None and self.last_ns is not None and self.last_ns > GROWTH * self.first_ns


@lru_cache(maxsize=32)
def course_of(strategy: StrategyResult) -> Course:
    """How the filling of a strategy went on."""
    had = [r.samples.acquire_ns[~r.samples.failed] for r in strategy.rounds]
    knee = find_knee(strategy)
    fast, slow = _around_knees(first_address(strategy) or strategy)
    return Course(
        knee=knee,
        held=knee.held or max(map(len, had)),
        before_ns=_median(fast),
        after_ns=_median(slow),
        median_ns=_median(had),
        first_ns=_median([acquire[: _part(acquire)] for acquire in had]),
        last_ns=_median([acquire[len(acquire) - _part(acquire) :] for acquire in had]),
    )


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
