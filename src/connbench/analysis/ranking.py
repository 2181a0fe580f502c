"""Strategies against each other within a run: what a connection costs, and whether a difference is more than noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connbench.analysis.bootstrap import FEWEST, Values, ratio_of_means
from connbench.analysis.comparison import RESOLUTION
from connbench.model import Clock
from connbench.results.result import Samples, StrategyResult
from connbench.strategies import BASELINE

PARTS = 23
"""Parts that the attempts of few rounds are dealt out to, each of which meets the range at every fullness. A prime:
what takes turns, as source addresses do, must not be dealt to the same parts each time."""

FEWEST_OF_A_PART = 10
"""Attempts of each below which parts are too small to say how much they vary."""

OF_ROUNDS = 1.5
"""Times that rounds of one strategy are apart for reasons outside of them: fewer rounds than an interval takes show no
smaller difference, however alike the attempts within a round are. Of 15 rounds in turns on a busy machine of two cores,
those of one strategy beside each other were up to 1.5 x apart in three of four cases."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How many times as fast as another strategy one is, and whether that is shown to be more than noise."""

    ratio: float
    is_shown: bool


def cost_of(samples: Samples, *, of_connect: bool = False) -> float | None:
    """The time of all attempts, failed ones too, by the connections made, in ns; None without a connection or a time.

    So an attempt that fails fast makes nothing cheaper: somebody still waits for the connection it did not bring.

    Args:
        samples: Attempts.
        of_connect: Whether the latencies are meant, as the talk counts them, and not the acquire times.
    """
    connections = len(samples) - int(samples.failed.sum())
    total = float((samples.latency_ns if of_connect else samples.acquire_ns).sum())
    return total / connections if connections and total else None


def costs(strategy: StrategyResult, *, of_connect: bool = False) -> list[float]:
    """The cost of each round that came to its end and has one."""
    found = (cost_of(r.samples, of_connect=of_connect) for r in strategy.rounds if not r.fault)
    return [cost for cost in found if cost is not None]


def cost(strategy: StrategyResult, *, of_connect: bool = False) -> float | None:
    """That of the median complete round; None without one."""
    found = costs(strategy, of_connect=of_connect)
    return float(np.median(found)) if found else None


def speed(
    new: StrategyResult, base: StrategyResult, *, clock: Clock = Clock.TIME, of_connect: bool = False
) -> Speed | None:
    """How many times as fast as `base` a strategy is by its cost; None where one of them has none.

    From five complete rounds a side on, a difference is shown if the interval of `analysis.bootstrap` over the rounds
    leaves out 1. With fewer, the attempts of each side are dealt out to 23 parts by turns, so that every part meets the
    range at each fullness; the same interval over the parts' costs tells what the attempts within a round leave to
    chance. It knows nothing of what makes rounds differ: so the ratio must be beyond 1.5 as well.
    """
    of_new, of_base = cost(new, of_connect=of_connect), cost(base, of_connect=of_connect)
    if of_new is None or of_base is None:
        return None
    ratio = of_base / of_new
    if clock is Clock.INSTRUCTIONS:
        return Speed(ratio, abs(ratio - 1) > RESOLUTION)
    rounds = [np.array(costs(side, of_connect=of_connect)) for side in (new, base)]
    if min(map(len, rounds)) >= FEWEST:
        return Speed(ratio, ratio_of_means(*rounds).excludes(1))
    parts = [_parts(side, of_connect=of_connect) for side in (new, base)]
    is_beyond = max(ratio, 1 / ratio) > OF_ROUNDS
    return Speed(ratio, is_beyond and min(map(len, parts)) == PARTS and ratio_of_means(*parts).excludes(1))


def _parts(strategy: StrategyResult, *, of_connect: bool) -> Values:
    """The costs of the parts that the attempts of the complete rounds are dealt out to; fewer where one has none."""
    attempts, connections, times = np.zeros(PARTS), np.zeros(PARTS), np.zeros(PARTS)
    for samples in (r.samples for r in strategy.rounds if not r.fault):
        part = np.arange(len(samples)) % PARTS
        attempts += np.bincount(part, minlength=PARTS)
        connections += np.bincount(part, ~samples.failed, PARTS)
        times += np.bincount(part, samples.latency_ns if of_connect else samples.acquire_ns, PARTS)
    is_usable = (attempts >= FEWEST_OF_A_PART) & (connections > 0) & (times > 0)
    return times[is_usable] / connections[is_usable]


def find_base(strategies: Sequence[StrategyResult]) -> StrategyResult:
    """What the others are compared with: the first of the baseline, or else the first of all."""
    return next((s for s in strategies if s.strategy.name == BASELINE.name), strategies[0])
