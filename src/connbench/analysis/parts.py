"""A strategy's figures by source address, by target or by lane, each by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from connbench.findings import printable
from connbench.model import Phase, RoundPlan
from connbench.results.result import Result, StrategyResult


class By(StrEnum):
    """The column of the samples that attempts are told apart by."""

    SOURCE = "source"
    TARGET = "target"
    LANE = "lane"


@dataclass(frozen=True, slots=True)
class Part:
    """The attempts of one source, target or lane; numbers count from 1 for each.

    `fills` says whether its attempts fill a range by themselves, so that a knee can be its own: those of a source do,
    those of a target where a port is taken for one target alone, and those of a lane never.
    """

    name: str
    strategy: StrategyResult
    fills: bool


def split(result: Result, strategy: StrategyResult, by: By) -> list[Part]:
    """The attempts of each source, target or lane, in the plan's order; those without an attempt are left out.

    Where the plan is not known an address is told by its position in it, as `source 0`.
    """
    used = sorted({int(number) for r in strategy.rounds for number in np.unique(getattr(r.samples, by))})
    capacity, fills = _range_of_each(result, strategy, by)

    def chosen(number: int) -> StrategyResult:
        rounds = (replace(r, samples=r.samples.chosen(getattr(r.samples, by) == number)) for r in strategy.rounds)
        return replace(strategy, rounds=tuple(rounds), capacity=capacity)

    return [Part(_name(result, by, number), chosen(number), fills) for number in used]


def _range_of_each(result: Result, strategy: StrategyResult, by: By) -> tuple[int | None, bool]:
    """How many ports each part has to itself, None if that is not known, and whether it has any."""
    spec, plan = strategy.strategy, result.plan
    if by is By.LANE or spec.phase is Phase.CHURN:
        return None, False
    if plan is None:
        return None, by is By.SOURCE
    planned = RoundPlan(plan, spec, 1)
    if by is By.SOURCE:
        return planned.capacity // len(planned.sources), True
    if spec.has_ports_per_target:
        return planned.capacity // len(plan.targets), True
    return None, False


def _name(result: Result, by: By, number: int) -> str:
    if by is By.LANE:
        return str(number)
    plan = result.plan
    known: tuple[object, ...] = () if plan is None else plan.sources if by is By.SOURCE else plan.targets
    return printable(str(known[number])) if number < len(known) else f"{by} {number}"
