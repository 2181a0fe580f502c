"""How many connections were had within the time that attempts were given, as the range fills."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from connbench.results.result import Samples, StrategyResult

TENTHS = 10
"""Steps that the range is asked for in."""


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch of attempts, of all rounds together.

    Attributes:
        asked: Share of the range that was asked for up to its end.
        attempts: How many there are, and of these `had` within the limit, `given_up` and `failed` otherwise.
        open: Share of the range in use after it, the mean of the rounds.
    """

    asked: float
    attempts: int
    had: int
    given_up: int
    failed: int
    open: float


def steps(strategy: StrategyResult) -> list[Step]:
    """The attempts by the share of the range that had been asked for, 10 % a step; what is beyond it is one step more.

    Where the range is not known, the share is that of the longest round's attempts.
    """
    rounds = [r.samples for r in strategy.rounds if len(r.samples)]
    if not rounds:
        return []
    longest = max(map(len, rounds))
    capacity = strategy.capacity or longest
    bounds = [capacity * tenth // TENTHS for tenth in range(TENTHS + 1)]
    ends = [end for end in bounds[1:] if end < longest] + [longest]
    return [_step(rounds, slice(first, end), capacity) for first, end in pairwise([0, *ends])]


def _step(rounds: list[Samples], stretch: slice, capacity: int) -> Step:
    failed = np.concatenate([samples.failed[stretch] for samples in rounds])
    given_up = np.concatenate([samples.given_up[stretch] for samples in rounds])
    opened = [int((~samples.failed[: stretch.stop]).sum()) for samples in rounds]
    return Step(
        asked=stretch.stop / capacity,
        attempts=len(failed),
        had=int((~failed).sum()),
        given_up=int(given_up.sum()),
        failed=int((failed & ~given_up).sum()),
        open=float(np.mean(opened)) / capacity,
    )
