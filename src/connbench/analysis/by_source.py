"""A strategy's figures of each source address: every address has a range of its own, and a half of it that ends."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from connbench.findings import printable
from connbench.results.result import Result, StrategyResult


def split_by_source(result: Result, strategy: StrategyResult) -> list[tuple[str, StrategyResult]]:
    """The attempts of each source address by themselves, with the address; numbers count from 1 for each.

    Where the plan is not known an address is told by its position in it, as `source 0`.
    """
    used = sorted({int(number) for r in strategy.rounds for number in np.unique(r.samples.source)})
    capacity = result.capacity(strategy.strategy)
    return [
        (
            _name(result, number),
            StrategyResult(
                strategy.strategy,
                tuple(replace(r, samples=r.samples.chosen(r.samples.source == number)) for r in strategy.rounds),
                None if capacity is None else capacity // len(used),
            ),
        )
        for number in used
    ]


def _name(result: Result, number: int) -> str:
    if result.plan and number < len(result.plan.sources):
        return printable(result.plan.sources[number])
    return f"source {number}"
