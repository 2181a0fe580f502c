"""What a strategy's load adds to its report: connections had in time, churn, and what UDP's latency is."""

from __future__ import annotations

import numpy as np

from connbench.analysis.parts import fill_steps
from connbench.analysis.summary import Summary, achieved_rate, summarize
from connbench.model import Churn, Close, Phase, Protocol
from connbench.model.time_wait import TW_REUSE
from connbench.report.rows import Table
from connbench.results.result import StrategyResult
from connbench.units import count, duration, format_measured_rate

OUTLIER = 100
"""Times the median above which an attempt of UDP is told apart: they are rare, and much of what its mean is made of."""

ALL_BUT_FULL = 0.95
"""Share of the range in use from which on a search of UDP goes far as a rule, not by chance."""


def load_lines(strategy: StrategyResult) -> list[str]:
    """A line for each of UDP, giving up and churn, where the load has it."""
    load, summary = strategy.strategy.load, summarize(strategy)
    lines = []
    if load.protocol is Protocol.UDP:
        lines += [
            "UDP: latency is acquire time, for bind(), or connect() of an unbound socket, holds the port search",
            *_outliers(strategy, summary),
        ]
    if load.give_up_ms is not None and summary.attempts:
        share = summary.connected / summary.attempts
        had = f"{count(summary.connected)} of {count(summary.attempts)} ({share:.1%})"
        lines.append(f"had within {load.give_up_ms:g} ms: {had}")
    if load.churn and strategy.strategy.phase is Phase.CHURN:
        lines.append(_churn(strategy, load.churn, summary))
    return lines


def _outliers(strategy: StrategyResult, summary: Summary) -> list[str]:
    limit = OUTLIER * summary.all.latency.p50
    slow = [r.samples.latency_ns > limit for r in strategy.rounds]
    number = sum(int(one.sum()) for one in slow)
    if not (limit and number):
        return []
    share = f"{number / summary.attempts:.2%}"
    words = f"outliers: {count(number)} attempts ({share}) took more than {OUTLIER} x the median, {duration(limit)}"
    if strategy.capacity:
        full = ALL_BUT_FULL * strategy.capacity
        early = sum(
            int((np.cumsum(~r.samples.failed)[one] <= full).sum()) for r, one in zip(strategy.rounds, slow, strict=True)
        )
        words += f"; {count(early)} of them with less than {ALL_BUT_FULL:.0%} of the range in use"
    return [words]


def _churn(strategy: StrategyResult, churn: Churn, summary: Summary) -> str:
    """How many were replaced and how, at what rate, and what TIME_WAIT holds at the end: of several rounds the most."""
    rounds = len(strategy.rounds)
    words = f"churn: {count(summary.attempts)} replacements{f' in {rounds} rounds' if rounds > 1 else ''}"
    if strategy.strategy.load.protocol is Protocol.TCP:  # UDP closes by nothing that the other end would hear of
        words += f", closed by {churn.close}"
    rates = [rate for r in strategy.rounds if (rate := achieved_rate(strategy.strategy, r)) is not None]
    if churn.rate and rates:
        words += f", {format_measured_rate(min(rates))}/s of {format_measured_rate(churn.rate)}/s asked for"
    report = max((r.report for r in strategy.rounds), key=lambda report: report.time_wait)
    if report.settings and (churn.close is Close.FIN or report.time_wait):  # a CSV file has none
        words += f"; tcp_tw_reuse {report.settings.get(TW_REUSE, '-')}, {count(report.time_wait)} in TIME_WAIT"
    return words


def giving_up_table(strategy: StrategyResult) -> Table | None:
    """Connections had within the limit as the range fills; None where nothing is given up, or nothing is filled."""
    spec = strategy.strategy
    if spec.load.give_up_ms is None or spec.phase is Phase.CHURN:
        return None
    rows = [
        (f"{s.asked:.0%}", *map(count, (s.attempts, s.connected, s.given_up, s.failed)), f"{s.open:.1%}")
        for s in fill_steps(strategy)
    ]
    header = ("asked for", "attempts", f"within {spec.load.give_up_ms:g} ms", "given up", "failed", "open")
    return Table(header, rows) if rows else None
