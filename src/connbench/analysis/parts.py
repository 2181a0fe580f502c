"""Divides a strategy's attempts: by source address, target or client, and by how far the range had been asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

import numpy as np

from connbench.model import Phase, RoundPlan
from connbench.results.result import Result, Samples, StrategyResult
from connbench.safe_text import printable


class By(StrEnum):
    """The column of the samples that divides the attempts."""

    SOURCE = "source"
    TARGET = "target"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Part:
    """The attempts of one source, target or client, numbered from 1.

    `fills` says whether these attempts fill a range by themselves, so that they can have a knee: those of a source do,
    those of a target do if each target has its own ports, and those of a client never do.
    """

    name: str
    strategy: StrategyResult
    fills: bool


def split_by(result: Result, strategy: StrategyResult, by: By) -> list[Part]:
    """The attempts of each source, target or client that has any, in the plan's order.

    If the plan is not known, an address is named by its position in it, as `source 0`.
    """
    used = sorted({int(number) for r in strategy.rounds for number in np.unique(getattr(r.samples, by))})
    capacity, fills = _range_of_each(result, strategy, by)

    def chosen(number: int) -> StrategyResult:
        rounds = (replace(r, samples=r.samples.chosen(getattr(r.samples, by) == number)) for r in strategy.rounds)
        return replace(strategy, rounds=tuple(rounds), capacity=capacity)

    return [Part(_name(result, by, number), chosen(number), fills) for number in used]


def _range_of_each(result: Result, strategy: StrategyResult, by: By) -> tuple[int | None, bool]:
    """How many ports each part has to itself (None if that is not known), and whether it fills them by itself."""
    spec, plan = strategy.strategy, result.plan
    if by is By.CLIENT or spec.phase is Phase.CHURN:
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
    if by is By.CLIENT:
        return str(number)
    plan = result.plan
    known: tuple[object, ...] = () if plan is None else plan.sources if by is By.SOURCE else plan.targets
    return printable(str(known[number])) if number < len(known) else f"{by} {number}"


TENTHS = 10
"""The steps that the range is divided into."""


@dataclass(frozen=True, slots=True)
class FillStep:
    """Consecutive attempts of all rounds together.

    Attributes:
        asked: Connections asked for up to the end of the step, as a share of the range.
        attempts: How many there are; of these `connected` within the limit, `given_up`, and `failed` otherwise.
        open: Share of the range in use after the step, the mean of the rounds.
    """

    asked: float
    attempts: int
    connected: int
    given_up: int
    failed: int
    open: float


def fill_steps(strategy: StrategyResult) -> list[FillStep]:
    """The attempts in steps of 10 % of the range, and one step more for those beyond the range.

    If the range is not known, the longest round's attempts stand for it.
    """
    rounds = [r.samples for r in strategy.rounds if len(r.samples)]
    if not rounds:
        return []
    longest = max(map(len, rounds))
    capacity = strategy.capacity or longest
    bounds = [capacity * tenth // TENTHS for tenth in range(TENTHS + 1)]
    ends = [end for end in bounds[1:] if end < longest] + [longest]
    return [_step(rounds, slice(first, end), capacity) for first, end in pairwise([0, *ends])]


def _step(rounds: list[Samples], stretch: slice, capacity: int) -> FillStep:
    failed = np.concatenate([samples.failed[stretch] for samples in rounds])
    given_up = np.concatenate([samples.given_up[stretch] for samples in rounds])
    opened = [int((~samples.failed[: stretch.stop]).sum()) for samples in rounds]
    return FillStep(
        asked=stretch.stop / capacity,
        attempts=len(failed),
        connected=int((~failed).sum()),
        given_up=int(given_up.sum()),
        failed=int((failed & ~given_up).sum()),
        open=float(np.mean(opened)) / capacity,
    )
