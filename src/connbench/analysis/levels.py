"""The levels of a profile: what an attempt takes with so many of the ports in use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from connbench.analysis.summary import Distribution
from connbench.model import Phase, StrategySpec
from connbench.model.load import Profile
from connbench.results.result import Result, Samples, StrategyResult


def is_profile(result: Result) -> bool:
    """Whether `connbench profile` made a result."""
    return any(spec.phase is Phase.PROFILE for spec in result.specs)


@dataclass(frozen=True, slots=True)
class Level:
    """The attempts of all rounds at one level.

    Attributes:
        share: The share of the ports that the level asks for, 0 to 1.
        in_use: The ports in use, the median of the rounds.
        latency: The latencies of the attempts with a connection.
        acquire: The acquire times of all attempts, failed ones too.
        bind: The times of all calls but connect(), of all attempts.
        connected_ns: The median acquire time of the attempts with a connection; None without one.
        failed: How many attempts failed.
        tries_mean: The tries of an attempt.
    """

    share: float
    in_use: int
    latency: Distribution
    acquire: Distribution
    bind: Distribution
    connected_ns: float | None
    failed: int
    tries_mean: float

    @property
    def errors(self) -> float:
        """The share of the attempts that failed, 0 to 1."""
        return self.failed / self.acquire.count


def label_without_profile(label: str, spec: StrategySpec) -> str:
    """The label of a strategy without its profile, where the level is named beside it; it may have a number behind."""
    return label.replace(spec.label, replace(spec, load=replace(spec.load, profile=None)).label, 1)


def samples_at(samples: Samples, profile: Profile, number: int) -> Samples:
    """The attempts of a round at a level, which is counted from 0.

    An attempt belongs to a level by its place in its round: where a port cannot be taken, fewer are in use than asked.
    """
    return samples.chosen(np.arange(len(samples)) // profile.samples == number)


@lru_cache(maxsize=32)
def levels_of(strategy: StrategyResult) -> tuple[Level, ...]:
    """The levels that have an attempt, in ascending order; none where the strategy has no profile."""
    profile = strategy.strategy.load.profile
    if profile is None:
        return ()
    levels = []
    for number, share in enumerate(profile.levels):
        of_rounds = [samples_at(r.samples, profile, number) for r in strategy.rounds]
        parts = [part for part in of_rounds if len(part)]
        if not parts:
            break
        samples = Samples.pooled(parts)
        connected = samples.acquire_ns[~samples.failed]
        levels.append(
            Level(
                share=share,
                in_use=int(np.median([part.in_use[0] for part in parts])),
                latency=Distribution.of(samples.latency_ns[~samples.failed]),
                acquire=Distribution.of(samples.acquire_ns),
                bind=Distribution.of(samples.bind_ns),
                connected_ns=float(np.median(connected)) if len(connected) else None,
                failed=int(samples.failed.sum()),
                tries_mean=float(samples.tries.mean()),
            )
        )
    return tuple(levels)


def slow_from(levels: Sequence[Level], limit: float) -> int | None:
    """Position of the first level from which on each level with a connection takes more than a limit; None without one.

    Args:
        levels: In ascending order.
        limit: A median acquire time in ns.
    """
    made = [(position, level.connected_ns) for position, level in enumerate(levels) if level.connected_ns is not None]
    slow = None
    for position, median_ns in reversed(made):
        if median_ns <= limit:
            break
        slow = position
    return slow


def ports_of(levels: Sequence[Level]) -> int | None:
    """The number of ports of which the levels are shares; None without a level above 0 %."""
    top = levels[-1] if levels else None
    return max(1, round(top.in_use / top.share)) if top and top.share else None
