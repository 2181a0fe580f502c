"""How many connections find no port when each looks in a random window only."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cache
from math import sqrt
from random import Random

from connbench.model import PortRange
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.kernel_search import tcp_ports

TRIALS = 8
"""Trials of each search rule: their scatter is told roughly, and the tolerance is wide; `reproduce` waits for them."""

TOLERANCE = 4.0
"""Standard deviations an expectation reaches to either side: few enough trials make them uncertain themselves."""

SEARCHES = (Algorithm.FROM_6_8, Algorithm.PRE_6_8)
"""What a kernel that has the option may do."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """A count that depends on chance: its mean and the bounds it stays within, all but surely."""

    mean: float
    low: float
    high: float

    def __contains__(self, count: int) -> bool:
        return self.low <= count <= self.high


@cache
def expect_failures(ports: int, window: int, attempts: int) -> Expectation:
    """How many of `attempts` fail where each looks in a random window that lies wholly inside `ports` ports.

    Which of the two search rules the kernel follows matters little here: the expectation covers both.
    """
    trials = [
        [simulate_failures(ports, window, attempts, search, Random(seed)) for seed in range(TRIALS)]  # noqa: S311  # reproducible, not secret
        for search in SEARCHES
    ]
    means = [statistics.mean(t) for t in trials]
    # A spread from few trials may come out far too small; failures scatter about as events that come by themselves do.
    spreads = [max(statistics.stdev(t), sqrt(mean)) for t, mean in zip(trials, means, strict=True)]
    return Expectation(
        mean=statistics.mean(means),
        low=max(0, attempts - ports, min(m - TOLERANCE * s for m, s in zip(means, spreads, strict=True))),
        high=min(attempts, max(m + TOLERANCE * s for m, s in zip(means, spreads, strict=True))),
    )


def simulate_failures(ports: int, window: int, attempts: int, algorithm: Algorithm, rng: Random) -> int:
    """One trial of `expect_failures` under one search rule."""
    [space] = tcp_ports(PortRange(1, ports), 1, rng, has_parity=algorithm.prefers_parity(has_option=True))
    offsets, draw = ports - window + 1, rng.random
    lows = (1 + int(draw() * offsets) for _ in range(attempts))
    return sum(1 for low in lows if not space.search(low, low + window - 1))
