"""What charts draw: the strategies of one or several results, under names that are unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from connbench.analysis.parts import By, split_by
from connbench.model import Protocol
from connbench.results.result import PARTIAL, Result, StrategyResult

COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#6900ff", "#4b78ff", "#b40f2d", "#87b45a",
    "#b496ff", "#3c6969", "#782dc3", "#d200b4", "#4b693c", "#c30000", "#f08796", "#e19600",
)  # fmt: skip
"""Colours of series, in their order: four of Okabe and Ito's, then each the one farthest from all before it.

The distance is CIELAB's, the least of normal sight, deuteranopia and protanopia (Machado et al., 2009); each colour has
a contrast of 2.4 or more with white and with the dark page.
"""


def colour_of(position: int) -> str:
    """The colour of the series at this position; the seventeenth has the first colour again."""
    return COLOURS[position % len(COLOURS)]


@dataclass(frozen=True, slots=True)
class Series:
    """One line or panel of a chart: a strategy's rounds, the result they belong to, and a name unique in the chart."""

    label: str
    strategy: StrategyResult
    result: Result

    @property
    def is_partial(self) -> bool:
        """Whether the result has fewer attempts or rounds than were planned."""
        planned = self.result.plan.rounds if self.result.plan else 1
        return (
            self.strategy.is_partial
            or len(self.strategy.rounds) < planned
            or any(finding.code == PARTIAL for finding in self.result.known)
        )

    @property
    def heading(self) -> str:
        """The label, with a mark if the strategy is partial."""
        return f"{self.label} - partial" if self.is_partial else self.label


def series_of(results: Sequence[Result], *, by_source: bool = False) -> list[Series]:
    """Every strategy of every result, in order; a label that occurs in several results has the file's name behind it.

    Args:
        results: What was measured.
        by_source: Whether the attempts of each source address are a series by themselves.
    """
    found = [
        (label, result, part)
        for result in results
        for strategy in result.strategies
        for label, part in (_by_source(result, strategy) if by_source else [(strategy.strategy.label, strategy)])
    ]
    occurrences = Counter(label for label, _, _ in found)
    full_path = len({stem(result) for result in results}) < len(results)

    def name(label: str, result: Result) -> str:
        if occurrences[label] == 1 or not result.name:
            return label
        return f"{label} ({result.name if full_path else stem(result)})"

    return [Series(name(label, result), strategy, result) for label, result, strategy in found]


def _by_source(result: Result, strategy: StrategyResult) -> list[tuple[str, StrategyResult]]:
    label = strategy.strategy.label
    return [(f"{label} from {part.name}", part.strategy) for part in split_by(result, strategy, By.SOURCE)]


def latency_name(series: Sequence[Series], of_tcp: str = "latency") -> str:
    """The name of an axis of latencies: with UDP they are acquire times.

    Args:
        series: What is drawn along it.
        of_tcp: The name where there is no UDP among them.
    """
    protocols = {one.strategy.strategy.load.protocol for one in series}
    if Protocol.UDP not in protocols:
        return of_tcp
    return "acquire time" if len(protocols) == 1 else f"{of_tcp}; of UDP acquire time"


def stem(result: Result) -> str:
    """The file's name without its folder and its ending, which may be `.json.gz`."""
    return PurePath(result.name).name.removesuffix(".gz").rpartition(".")[0] or result.name
