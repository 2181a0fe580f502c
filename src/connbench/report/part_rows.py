"""The figures of each source address, target and lane as rows: a table each where there is more than one."""

from __future__ import annotations

from collections.abc import Iterator

from connbench.analysis.knee import find_knee
from connbench.analysis.parts import By, Part, split_by
from connbench.analysis.summary import Summary, summarize
from connbench.report.rows import Table
from connbench.results.result import Result, StrategyResult
from connbench.units import count, duration

MOST_SHOWN = 16
"""Sources, targets or lanes a table has room for; all of them are in the JSON."""

_FIGURES = ("n", "errors", "mean", "p50", "p99")
_POSITIONS = ("knee", "first failed")
_LANE_FIGURES = ("n", "errors", "conn/s", "mean", "p50", "p99", "even mean", "odd mean")


def part_tables(result: Result, strategy: StrategyResult) -> Iterator[tuple[By, Table]]:
    """A table for each of source, target and lane that there are several of."""
    for by in By:
        parts = split_by(result, strategy, by)
        if len(parts) > 1:
            yield by, _by_lane(strategy, parts) if by is By.CLIENT else _by_address(by, parts)


def _by_address(by: By, parts: list[Part]) -> Table:
    """With knee and first failure by a part's own count, where it has ports of its own to run out of."""
    fills = parts[0].fills
    header = (by.value, *_FIGURES, *(_POSITIONS if fills else ()))
    rows = [
        (part.name, *_figures(summarize(part.strategy)), *(_positions(part.strategy) if fills else ()))
        for part in parts[:MOST_SHOWN]
    ]
    return Table(header, [*rows, *_rest(len(parts), header)])


def _figures(summary: Summary) -> tuple[str, ...]:
    latency = summary.all.latency
    return (
        count(latency.count),
        count(summary.errored.latency.count),
        *map(duration, (latency.mean, latency.p50, latency.p99)),
    )


def _positions(strategy: StrategyResult) -> tuple[str, ...]:
    knee = find_knee(strategy)
    return tuple("-" if attempt is None else count(attempt) for attempt in (knee.connection, knee.first_failed))


def _by_lane(strategy: StrategyResult, parts: list[Part]) -> Table:
    """With the connections had in a second, and all lanes together in the last row."""
    header = (By.CLIENT.value, *_LANE_FIGURES)
    rows = [(part.name, *_lane_figures(summarize(part.strategy))) for part in parts[:MOST_SHOWN]]
    return Table(header, [*rows, *_rest(len(parts), header), ("all", *_lane_figures(summarize(strategy)))])


def _lane_figures(summary: Summary) -> tuple[str, ...]:
    attempts, errors, *latency = _figures(summary)
    by_parity = (group.latency for group in (summary.even, summary.odd))
    rate = "-" if summary.rate is None else count(summary.rate)
    return (attempts, errors, rate, *latency, *(duration(one.mean) if one.count else "-" for one in by_parity))


def _rest(parts: int, header: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [(f"... and {parts - MOST_SHOWN} more", *[""] * (len(header) - 1))] if parts > MOST_SHOWN else []
