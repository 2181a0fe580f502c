"""The metrics of each source address, target and lane, where there are several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from connbench.analysis.parts import By, split_by
from connbench.analysis.summary import summarize
from connbench.report.part_rows import MOST_SHOWN
from connbench.results.result import Result, StrategyResult
from connbench.units import NS_PER_S

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def part_metrics(result: Result, named: Mapping[str, StrategyResult]) -> Iterator[Metric]:
    """Attempts, errors, latency and rate, with `by` (source, target, lane) and `part` as labels.

    As many parts as the tables show: each would be some series more for whoever stores them.

    Args:
        result: What was measured.
        named: Its strategies by the label that their metrics have.
    """
    from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415  # loads a web server

    labels = ["strategy", "by", "part"]
    attempts = GaugeMetricFamily("connbench_part_attempts", "Attempts of a source, target or lane.", labels=labels)
    errors = GaugeMetricFamily("connbench_part_errors", "Failed attempts of it.", labels=labels)
    latency = GaugeMetricFamily(
        "connbench_part_latency_seconds", "Its latency: mean, p50 and p99.", labels=[*labels, "figure"]
    )
    rates = GaugeMetricFamily("connbench_part_connections_per_second", "Connections it had a second.", labels=labels)
    for label, strategy in named.items():
        for by in By:
            parts = split_by(result, strategy, by)
            for part in parts[:MOST_SHOWN] if len(parts) > 1 else ():
                summary = summarize(part.strategy)
                place = [label, by.value, part.name]
                attempts.add_metric(place, summary.attempts)
                errors.add_metric(place, summary.errored.latency.count)
                for figure in ("mean", "p50", "p99") if summary.attempts else ():
                    latency.add_metric([*place, figure], getattr(summary.all.latency, figure) / NS_PER_S)
                if summary.rate is not None:
                    rates.add_metric(place, summary.rate)
    yield from (family for family in (attempts, errors, latency, rates) if family.samples)
