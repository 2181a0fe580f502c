"""How many connections find no port when each looks in a random window only."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import Enum
from functools import cache
from math import sqrt
from random import Random

FEWEST_TRIALS, MOST_TRIALS, TRIED_ATTEMPTS = 8, 40, 400_000
"""Trials of each search rule: enough to tell the scatter, and no more than a second's worth of attempts."""

TOLERANCE = 4.0
"""Standard deviations an expectation reaches to either side: few enough trials make them uncertain themselves."""


class Search(Enum):
    """The order in which `__inet_hash_connect` walks the ports of IP_LOCAL_PORT_RANGE."""

    EVERY_PORT = "step 1 from anywhere in the window: Linux 6.8 and later (207184853dbd)"
    PARITY_FIRST = "step 2, the parity of the window's low end first: before"


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
    number = max(FEWEST_TRIALS, min(MOST_TRIALS, TRIED_ATTEMPTS // attempts))
    trials = [
        [simulate_failures(ports, window, attempts, search, Random(seed)) for seed in range(number)]  # noqa: S311  # reproducible, not secret
        for search in Search
    ]
    means = [statistics.mean(t) for t in trials]
    # A spread from few trials may come out far too small; failures scatter about as events that come by themselves do.
    spreads = [max(statistics.stdev(t), sqrt(mean)) for t, mean in zip(trials, means, strict=True)]
    return Expectation(
        mean=statistics.mean(means),
        low=max(0, attempts - ports, min(m - TOLERANCE * s for m, s in zip(means, spreads, strict=True))),
        high=min(attempts, max(m + TOLERANCE * s for m, s in zip(means, spreads, strict=True))),
    )


def simulate_failures(ports: int, window: int, attempts: int, search: Search, rng: Random) -> int:
    """One trial of `expect_failures` under one search rule.

    The kernel's offset, a hash plus a table entry that grows with each connection, is modelled as a random one: over
    windows that lie at random it cannot be told from that.
    """
    taken = 0
    # One array a parity, so that a search by step 2 is a search by step 1 in half as many places.
    free = [bytearray(b"\1" * len(range(parity, ports, 2))) for parity in (0, 1)]
    every = bytearray(b"\1" * ports)
    for _ in range(attempts):
        low = rng.randrange(ports - window + 1)
        if search is Search.EVERY_PORT:
            taken += _take(every, low, window, rng.randrange(window))
            continue
        half = max(1, window // 2)
        offset = rng.randrange(half)
        # An odd window has a port more of its first parity than is walked: its last, or its first where the walk begins
        # behind that, for it goes on to the window's end and comes round to the second.
        skipped = int(window % 2 and offset > 0)
        if _take(free[low % 2], low // 2 + skipped, half, offset - skipped):
            taken += 1
        elif window > 1:
            taken += _take(free[1 - low % 2], (low + 1) // 2, half, offset)
    return attempts - taken


def _take(free: bytearray, low: int, length: int, offset: int) -> bool:
    """Take the first free place of `length` places from `low` on, beginning at `offset` and going round once."""
    place = free.find(1, low + offset, low + length)
    if place < 0:
        place = free.find(1, low, low + offset)
    if place < 0:
        return False
    free[place] = 0
    return True
