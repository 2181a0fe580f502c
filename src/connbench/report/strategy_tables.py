"""All that a report says of one strategy below its six lines, as tables and lines, for whoever lays them out."""

from __future__ import annotations

from connbench.analysis.knee import find_knee
from connbench.analysis.summary import summarize
from connbench.model import Protocol
from connbench.report import rows
from connbench.report.load_lines import giving_up_table, load_lines
from connbench.report.part_rows import part_tables
from connbench.report.rows import Table
from connbench.results.result import Origin, Result, StrategyResult


def tables(result: Result, strategy: StrategyResult) -> list[Table]:
    """Latency, acquire time and tries, giving up, and each source, target and lane; those that have a row.

    UDP's latency is its acquire time: there the tries are left to be told.
    """
    summary = summarize(strategy)
    found: list[Table | None] = [rows.latency(summary)]
    if result.origin is not Origin.TALK_CSV:
        is_udp = strategy.strategy.load.protocol is Protocol.UDP
        found.append(rows.tries(summary) if is_udp else rows.acquire(summary))
    found.append(giving_up_table(strategy))
    found += [table for _, table in part_tables(result, strategy)]
    return [table for table in found if table]


def lines(result: Result, strategy: StrategyResult) -> list[str]:
    """Wall time, errors, floor, what the load adds, and the knee; each where it is known."""
    return [
        *rows.facts(result, summarize(strategy)),
        *load_lines(strategy),
        *rows.knee_lines(strategy, find_knee(strategy), result.kernel),
    ]
