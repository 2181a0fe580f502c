"""What charts draw: the strategies of one or several results, under names that are unique."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from connbench.analysis.parts import By, split_by
from connbench.model import Protocol
from connbench.results.result import PARTIAL, Origin, Result, Samples, StrategyResult

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


FILE_ENDINGS = ("json", "csv", "txt")
"""What the name of a result's file ends in. Names of hosts have dots, too."""

LATENCY, ACQUIRE, HANDSHAKE = "latency", "acquire", "handshake"
FIGURES = {LATENCY: "latency", ACQUIRE: "acquire time", HANDSHAKE: "handshake"}
"""The times of an attempt that charts can draw, and the names of their axes."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line or panel of a chart: a strategy's rounds, the result they belong to, and a name unique in the chart.

    `figure` is a name of `FIGURES`: which time of each attempt stands for its latency.
    """

    label: str
    strategy: StrategyResult
    result: Result
    figure: str = LATENCY

    @property
    def what_is_drawn(self) -> str:
        """What a chart without an axis name adds to the heading: `, acquire time`; empty for the latency."""
        return "" if self.figure == LATENCY else f", {FIGURES[self.figure]}"

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


def figure_of(series: Sequence[Series]) -> str:
    """The time of each attempt that shows the port search of all series, a name of `FIGURES`.

    It is the acquire time where one of them searches in bind(): its latency is flat. The talk's CSV has no other time.
    """
    has_acquire = all(one.result.origin is not Origin.TALK_CSV for one in series)
    in_bind = any(one.strategy.strategy.searches_in_bind for one in series)
    return ACQUIRE if has_acquire and in_bind else LATENCY


def in_figure(series: Sequence[Series], figure: str) -> list[Series]:
    """The series with another time of each attempt as its latency.

    Attempts and strategies that sent no SYN have no handshake, and are left out.

    Args:
        series: Those of `series_of`.
        figure: A name of `FIGURES`.
    """
    if figure == LATENCY:
        return [*series]
    drawn = []
    for one in series:
        rounds = tuple(replace(r, samples=_as_latency(r.samples, figure)) for r in one.strategy.rounds)
        if figure != HANDSHAKE or any(len(r.samples) for r in rounds):
            drawn.append(replace(one, strategy=replace(one.strategy, rounds=rounds), figure=figure))
    return drawn


def _as_latency(samples: Samples, figure: str) -> Samples:
    timed = samples.chosen(samples.sent) if figure == HANDSHAKE else samples
    return Samples(**timed.columns | {"connect_ns": timed.columns[f"{figure}_ns"]})


def _by_source(result: Result, strategy: StrategyResult) -> list[tuple[str, StrategyResult]]:
    label = strategy.strategy.label
    return [(f"{label} from {part.name}", part.strategy) for part in split_by(result, strategy, By.SOURCE)]


def latency_name(series: Sequence[Series], of_tcp: str = "latency") -> str:
    """The name of an axis of latencies: with UDP, or where the series say so, they are other times.

    Args:
        series: What is drawn along it.
        of_tcp: The name where there is no UDP among them.
    """
    if series and series[0].figure != LATENCY:
        return FIGURES[series[0].figure]
    protocols = {one.strategy.strategy.load.protocol for one in series}
    if Protocol.UDP not in protocols:
        return of_tcp
    return "acquire time" if len(protocols) == 1 else f"{of_tcp}; of UDP acquire time"


def stem(result: Result) -> str:
    """The file's name without its folder and its ending, which may be `.json.gz`; a host's name as it is."""
    name = PurePath(result.name).name.removesuffix(".gz")
    first, _, ending = name.rpartition(".")
    return (first if ending in FILE_ENDINGS else name) or result.name
