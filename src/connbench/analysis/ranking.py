"""Ranks the strategies of a run: what a connection costs, and whether a difference is more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connbench.analysis.bootstrap import FEWEST, RESOLUTION, Values, ratio_of_means
from connbench.model import Clock
from connbench.results.result import Samples, StrategyResult
from connbench.strategies import BASELINE

PARTS = 23
"""The attempts of few rounds are dealt to this number of parts in turns, so that each part has attempts at every
fullness of the range. A prime number: attempts that alternate, as between source addresses, reach every part."""

FEWEST_OF_A_PART = 10
"""The fewest attempts of a part: the costs of smaller parts vary too much."""

OF_ROUNDS = 1.5
"""Rounds of one strategy can differ by this factor for reasons outside of them, so that fewer rounds than an interval
takes show no smaller difference, however alike the attempts within a round are. Measured in 15 rounds in turns on a
busy machine with two cores: in three of four cases, neighbouring rounds of a strategy differed by up to 1.5 x."""

CALLS, IN_BIND, LATENCY = "calls_ns", "bind_ns", "latency_ns"
"""The times of `Samples` that a cost can be of: those of all calls, or of some of them."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How many times as fast as another strategy one is, and whether that is more than noise."""

    ratio: float
    is_shown: bool


def cost_of(samples: Samples, of: str = CALLS) -> float | None:
    """The time of all attempts, failed ones too, divided by the connections made, in ns.

    A failed attempt adds its time and no connection: failing fast makes nothing cheaper, as the program still waits.
    A handshake in flight costs nothing: the program makes other connections meanwhile.

    Args:
        samples: Attempts.
        of: `CALLS`, `IN_BIND`, or `LATENCY`, which the talk sums: the times that count.

    Returns:
        None without a connection or a time.
    """
    connections = len(samples) - int(samples.failed.sum())
    total = float(getattr(samples, of).sum())
    return total / connections if connections and total else None


def costs(strategy: StrategyResult, of: str = CALLS) -> list[float]:
    """The cost of each complete round that has one."""
    found = (cost_of(r.samples, of) for r in strategy.rounds if not r.fault)
    return [cost for cost in found if cost is not None]


def cost(strategy: StrategyResult, of: str = CALLS) -> float | None:
    """The cost of the median complete round; None without one."""
    found = costs(strategy, of)
    return float(np.median(found)) if found else None


def speed(new: StrategyResult, base: StrategyResult, *, clock: Clock = Clock.TIME, of: str = CALLS) -> Speed | None:
    """How many times as fast as `base` a strategy is by its cost; None if one of them has no cost.

    From five complete rounds a side on, a difference is shown if the interval of `analysis.bootstrap` over the rounds
    excludes 1. With fewer rounds, the attempts of each side are dealt to 23 parts in turns, so that every part has
    attempts at each fullness of the range; the same interval over the parts' costs shows the chance within a round. It
    does not include what makes rounds differ: so the ratio must be beyond 1.5 as well.
    """
    of_new, of_base = cost(new, of), cost(base, of)
    if of_new is None or of_base is None:
        return None
    ratio = of_base / of_new
    if clock is Clock.INSTRUCTIONS:
        return Speed(ratio, abs(ratio - 1) > RESOLUTION)
    rounds = [np.array(costs(side, of)) for side in (new, base)]
    if min(map(len, rounds)) >= FEWEST:
        return Speed(ratio, ratio_of_means(*rounds).excludes(1))
    parts = [_parts(side, of) for side in (new, base)]
    is_beyond = max(ratio, 1 / ratio) > OF_ROUNDS
    return Speed(ratio, is_beyond and min(map(len, parts)) == PARTS and ratio_of_means(*parts).excludes(1))


def _parts(strategy: StrategyResult, of: str) -> Values:
    """The costs of the parts that the attempts of the complete rounds are dealt to, without parts that have no cost."""
    attempts, connections, times = np.zeros(PARTS), np.zeros(PARTS), np.zeros(PARTS)
    for samples in (r.samples for r in strategy.rounds if not r.fault):
        part = np.arange(len(samples)) % PARTS
        attempts += np.bincount(part, minlength=PARTS)
        connections += np.bincount(part, ~samples.failed, PARTS)
        times += np.bincount(part, getattr(samples, of), PARTS)
    is_usable = (attempts >= FEWEST_OF_A_PART) & (connections > 0) & (times > 0)
    return times[is_usable] / connections[is_usable]


def find_base(strategies: Sequence[StrategyResult]) -> StrategyResult:
    """The strategy that the others are compared with: the first of the baseline, or else the first of all."""
    return next((s for s in strategies if s.strategy.name == BASELINE.name), strategies[0])
