"""Two results against each other, strategy by strategy: what changed, how sure that is, and a verdict.

A round is one observation. Its connections share a namespace, a range that fills up, and whatever else the machine did
meanwhile: a thousand of them say no more about the next round than one figure of the whole round does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from connbench.analysis.bootstrap import FEWEST, Interval, Values, difference_of_means, geometric_mean, ratio_of_means
from connbench.analysis.differences import Difference, differences
from connbench.analysis.summary import Distribution
from connbench.findings import Severity
from connbench.model import Clock, StrategySpec
from connbench.results.result import Result, Round, StrategyResult

ERRORS = "errors"
"""The one figure that is a share: it is compared by its difference, because a ratio to no errors is undefined."""

FIGURES = ("total", *(f"{group}{name}" for group in ("", "even.", "odd.") for name in ("mean", "p50", "p99")), ERRORS)
"""All that is compared, in the order it is shown in."""


RESOLUTION = 0.005
"""Where instructions are counted there is no spread to judge by, and a round is enough: two runs of the same agree
within this, and what differs by more has changed."""


MEASURED_OTHERWISE = {"clock", "port-range", "connections", "link", "delay", "listener", "target"}
"""Codes of differences in what was asked for: a change may come from them alone, whatever is compared."""


class Verdict(StrEnum):
    """What the interval lets one say about NEW."""

    FASTER = "faster"
    SLOWER = "slower"
    FEWER_ERRORS = "fewer errors"
    MORE_ERRORS = "more errors"
    NO_DIFFERENCE = "no difference shown"
    UNDETERMINED = "undetermined"


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of a strategy on both sides.

    Attributes:
        base: In ns the geometric mean of the complete rounds, of `errors` their mean as a share of 1; None where no
            complete round has it. `new` is the same of the other file.
        change: `new` / `base`, of `errors` `new` - `base`, with its interval; None where undetermined, and where
            instructions were counted in fewer rounds than an interval takes.
        verdict: What to make of it.
        missing: How many more rounds with this figure BASE and NEW need for a verdict.
    """

    base: float | None
    new: float | None
    change: Interval | None
    verdict: Verdict
    missing: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class RoundCount:
    """Rounds of a strategy in one file: those that count, and those that a fault cut short."""

    complete: int
    partial: int = 0


@dataclass(frozen=True, slots=True)
class StrategyComparison:
    """A strategy that both files have; its figures by the names `total`, `mean`, `p50`, `even.p99`, `errors` ..."""

    strategy: StrategySpec
    base_rounds: RoundCount
    new_rounds: RoundCount
    figures: Mapping[str, Figure]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two results against each other.

    Attributes:
        base: What is compared with; `new` what is judged.
        strategies: Those in both, in BASE's order.
        only_base: Strategies that NEW does not have; `only_new` the other way round.
        differences: In what else the two differ, the gravest first.
    """

    base: Result
    new: Result
    strategies: tuple[StrategyComparison, ...]
    only_base: tuple[StrategySpec, ...]
    only_new: tuple[StrategySpec, ...]
    differences: tuple[Difference, ...]

    @property
    def obstacles(self) -> list[Difference]:
        """Why the two are not comparable: they were not measured in the same way, or a side is not sound."""
        plans = self.base.plan, self.new.plan
        is_same_place = None in plans or len({plan.namespace.is_own for plan in plans if plan}) == 1
        return [
            difference
            for difference in self.differences
            if difference.severity is Severity.INVALID
            or (difference.severity is Severity.WARNING and difference.code in MEASURED_OTHERWISE)
            or (difference.code == "isolation" and not is_same_place)
        ]

    @property
    def is_comparable(self) -> bool | None:
        """Whether the two were measured in the same way; None where a file does not tell."""
        if self.obstacles:
            return False
        return None if any(difference.code.startswith("unknown-") for difference in self.differences) else True

    @property
    def judged(self) -> int:
        """How many figures have an interval, and so a chance of being called different where nothing is."""
        return sum(figure.change is not None for s in self.strategies for figure in s.figures.values())


def compare(base: Result, new: Result) -> Comparison:
    """Compare what two results have in common: strategies of the same name and parameters."""
    of_new = {strategy.strategy: strategy for strategy in new.strategies}
    is_exact = base.clock is new.clock is Clock.INSTRUCTIONS
    return Comparison(
        base,
        new,
        tuple(_compare(s, of_new[s.strategy], is_exact=is_exact) for s in base.strategies if s.strategy in of_new),
        tuple(spec for spec in base.rounds if spec not in new.rounds),
        tuple(spec for spec in new.rounds if spec not in base.rounds),
        tuple(differences(base, new)),
    )


def compare_totals(base: StrategyResult, new: StrategyResult) -> Figure:
    """The total time alone of a strategy: what `--fail-if slower` asks.

    One figure a strategy and not ten of them: each would add its own chance of an alarm where nothing has changed.
    """
    return _figure("total", *(_values(_complete(side), "total") for side in (base, new)))


def figures_of(measured: Round) -> dict[str, float]:
    """What rounds are compared by, by name of `FIGURES`: times in ns, `errors` as a share of 1.

    `mean`, `p50` and `p99` are of all attempts, failed or not, as `all` is in the summary; those of `even.` and `odd.`
    of the successful ones. A group without an attempt has no figures.
    """
    samples = measured.samples
    if not len(samples):
        return {}
    latency = samples.latency_ns
    groups = {"": latency, "even.": latency[samples.even], "odd.": latency[samples.odd]}
    figures = {"total": float(latency.sum())}
    for prefix, chosen in groups.items():
        group = Distribution.of(chosen)
        figures |= {f"{prefix}mean": group.mean, f"{prefix}p50": group.p50, f"{prefix}p99": group.p99}
    # A time of 0 is none: no attempt in the group, or a clock too coarse for it.
    positive = {name: value for name, value in figures.items() if value > 0}
    return positive | {ERRORS: float(samples.failed.mean())}


def _compare(base: StrategyResult, new: StrategyResult, *, is_exact: bool) -> StrategyComparison:
    of_base, of_new = _complete(base), _complete(new)
    had = {name for figures in (*of_base, *of_new) for name in figures}
    return StrategyComparison(
        base.strategy,
        RoundCount(len(of_base), len(base.rounds) - len(of_base)),
        RoundCount(len(of_new), len(new.rounds) - len(of_new)),
        {n: _figure(n, _values(of_base, n), _values(of_new, n), is_exact=is_exact) for n in FIGURES if n in had},
    )


def _complete(strategy: StrategyResult) -> list[dict[str, float]]:
    return [figures_of(measured) for measured in strategy.rounds if not measured.fault]


def _values(rounds: list[dict[str, float]], name: str) -> Values:
    return np.array([figures[name] for figures in rounds if name in figures])


def _figure(name: str, base: Values, new: Values, *, is_exact: bool = False) -> Figure:
    is_share = name == ERRORS
    missing = (max(0, FEWEST - len(base)), max(0, FEWEST - len(new)))
    centre = (lambda values: float(values.mean())) if is_share else geometric_mean
    of_base, of_new = (centre(values) if len(values) else None for values in (base, new))
    if any(missing) and is_exact and of_base is not None and of_new is not None:
        return Figure(of_base, of_new, None, _exact_verdict(of_base, of_new, is_share=is_share))
    if any(missing):
        return Figure(of_base, of_new, None, Verdict.UNDETERMINED, missing)
    change = difference_of_means(base, new) if is_share else ratio_of_means(base, new)
    return Figure(of_base, of_new, change, _verdict(change, is_share=is_share))


def _exact_verdict(base: float, new: float, *, is_share: bool) -> Verdict:
    if is_share:
        return _verdict(Interval(new - base, new - base, new - base), is_share=True)
    ratio = new / base
    return _verdict(Interval(ratio, ratio * (1 - RESOLUTION), ratio * (1 + RESOLUTION)), is_share=False)


def _verdict(change: Interval, *, is_share: bool) -> Verdict:
    unchanged = 0.0 if is_share else 1.0
    if not change.excludes(unchanged):
        return Verdict.NO_DIFFERENCE
    lower, higher = (Verdict.FEWER_ERRORS, Verdict.MORE_ERRORS) if is_share else (Verdict.FASTER, Verdict.SLOWER)
    return lower if change.estimate < unchanged else higher
