"""The number of connections that find no port if each searches a random window, by the model."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from functools import cache
from math import sqrt

import numpy as np

from connbench.draws import below, key_of, mix
from connbench.model import PortRange
from connbench.portmodel.algorithm import Algorithm
from connbench.portmodel.kernel_search import EveryPort, ParityFirst, tcp_port_spaces

TRIALS = 8
"""Trials of each search: few, because the user of `reproduce` waits for them. `TOLERANCE` is wide for that reason."""

TOLERANCE = 4.0
"""Standard deviations between the mean and each bound: few trials make the deviation itself uncertain."""

SEARCHES = (Algorithm.FROM_6_8, Algorithm.PRE_6_8)
"""The searches of the kernels that have IP_LOCAL_PORT_RANGE."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """A count that depends on chance: its mean, and bounds that it exceeds almost never."""

    mean: float
    low: float
    high: float

    def __contains__(self, count: int) -> bool:
        return self.low <= count <= self.high


@cache
def expect_failures(ports: int, window: int, attempts: int) -> Expectation:
    """The number of failures among attempts that each search one random window inside the range.

    The bounds cover both searches of `SEARCHES`, which differ little here.

    Args:
        ports: Ports of the range, all free at first.
        window: Ports of a window.
        attempts: The number of attempts.
    """
    trials = [
        [simulate_failures(ports, window, attempts, search, seed) for seed in range(TRIALS)] for search in SEARCHES
    ]
    means = [statistics.mean(t) for t in trials]
    # Few trials can give far too small a deviation: that of independent events, the root of their mean, is the least.
    spreads = [max(statistics.stdev(t), sqrt(mean)) for t, mean in zip(trials, means, strict=True)]
    return Expectation(
        mean=statistics.mean(means),
        low=max(0, attempts - ports, min(m - TOLERANCE * s for m, s in zip(means, spreads, strict=True))),
        high=min(attempts, max(m + TOLERANCE * s for m, s in zip(means, spreads, strict=True))),
    )


def simulate_failures(ports: int, window: int, attempts: int, algorithm: Algorithm, seed: int) -> int:
    """The failures of one trial of `expect_failures`, with one search."""
    key, rows = key_of(f"window failures {seed}"), np.arange(attempts, dtype=np.uint64)
    has_parity = algorithm.prefers_parity(has_option=True)
    [space] = tcp_port_spaces(PortRange(1, ports), [mix(key, attempts) >> 32], ParityFirst if has_parity else EveryPort)
    lows = 1 + below(mix(key, rows), ports - window + 1).astype(np.int64)
    found = map(space.search, lows.tolist(), (lows + window - 1).tolist(), (mix(key, rows, 1) >> 32).tolist())
    return sum(1 for port in found if not port)
