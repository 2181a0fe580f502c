"""The default report: what was run, the talk's six lines, percentiles, and what to make of them."""

from __future__ import annotations

import textwrap
from collections.abc import Collection

from connbench.analysis.knee import SLOWDOWN, Knee, find_knee
from connbench.analysis.soundness import findings
from connbench.analysis.summary import Distribution, Summary, summarize
from connbench.model import Finding, Plan, StrategySpec
from connbench.report.tables import render
from connbench.report.talk import six_lines
from connbench.report.units import count, duration
from connbench.results.result import Origin, Result, StrategyResult

_DISTRIBUTION = ("mean", "p50", "p90", "p99", "p99.9", "max")


def report(result: Result, width: int | None = None) -> str:
    """The whole report; see `block` and `closing` for its parts.

    Args:
        result: What was measured.
        width: Columns to fold prose to; None leaves each header and finding on one line, as a pipe wants it.
    """
    blocks = [block(result, strategy, width) for strategy in result.strategies]
    return "\n\n".join(part for part in (*blocks, closing(result, width)) if part)


def block(result: Result, strategy: StrategyResult, width: int | None = None) -> str:
    """One strategy: header line, the talk's six lines, tables of latency and acquire time, and a few lines beside."""
    summary = summarize(strategy)
    parts = [
        header(result, strategy.strategy, width) + "\n" + six_lines(summary),
        _latency_table(summary),
        _acquire_table(summary) if result.origin is not Origin.TALK_CSV else "",
        "\n".join(fold(line, width) for line in (*_facts(result, summary), *_knee(result, find_knee(strategy)))),
    ]
    return "\n\n".join(part for part in parts if part)


def closing(result: Result, width: int | None = None, told: Collection[Finding] = ()) -> str:
    """After the last strategy: the comparison of all, if there are several, and the findings but those in `told`."""
    parts = []
    if len(result.strategies) > 1:
        parts.append(_comparison(result))
    found = [f for f in findings(result) if f not in told]
    if found:
        parts.append("\n".join(finding(f, width) for f in found))
    return "\n\n".join(parts)


def header(result: Result, spec: StrategySpec, width: int | None = None) -> str:
    """All that decides the figures below it, in one line."""
    kernel = result.environment.get("kernel")
    machine = f"Linux {kernel}" if kernel else "kernel unknown"
    plan = result.plan
    if plan is None:
        rounds = [f"{result.most_rounds} rounds"] if result.most_rounds > 1 else []
        return fold(", ".join([f"{spec.label}: {machine}", f"{result.origin} {result.name}", *rounds]), width)
    parts = [
        f"{spec.label}: {machine}",
        f"range {plan.port_range}",
        f"{_source(plan, spec)} -> {plan.target}",
        str(plan.namespace),
        f"{plan.listener} listener",
        f"seed {plan.seed}",
    ]
    if plan.rounds > 1:
        parts.append(f"{plan.rounds} rounds")
    return fold(", ".join(parts), width)


def _source(plan: Plan, spec: StrategySpec) -> str:
    return "kernel's source" if spec.name == "plain" else plan.source


def finding(found: Finding, width: int | None = None) -> str:
    """A finding, and on a line of its own what to do about it."""
    return fold(f"{found.severity}: {found.text}", width) + "\n" + fold(f"  -> {found.advice}", width, "     ")


def fold(text: str, width: int | None, indent: str = "  ") -> str:
    """Fold to `width` columns, further lines indented; None leaves it on one line."""
    if width is None:
        return text
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _latency_table(summary: Summary) -> str:
    rows = [
        (name, count(group.latency.count), *_distribution(group.latency))
        for name, group in summary.groups.items()
        if group.latency.count
    ]
    return render(("latency", "n", *_DISTRIBUTION), rows)


def _distribution(latency: Distribution) -> tuple[str, ...]:
    p999 = "-" if latency.p999 is None else duration(latency.p999)
    values = (latency.mean, latency.p50, latency.p90, latency.p99)
    return (*map(duration, values), p999, duration(latency.maximum))


def _acquire_table(summary: Summary) -> str:
    rows = [
        (
            name,
            duration(group.acquire.mean),
            duration(group.acquire.p99),
            f"{group.tries_mean:.2f}",
            count(group.tries_max),
        )
        for name, group in summary.groups.items()
        if group.acquire.count
    ]
    return render(("acquire", "mean", "p99", "tries mean", "tries max"), rows)


def _facts(result: Result, summary: Summary) -> list[str]:
    lines = []
    if summary.attempts and result.origin is not Origin.TALK_CSV:
        each = duration(summary.wall_ns / summary.attempts)
        held = f"; {count(summary.established)} open at the end" if result.plan else ""
        lines.append(f"wall time: {duration(summary.wall_ns)}, {each} an attempt{held}")
    if len(summary.rounds_total_ns) > 1:
        totals = ", ".join(duration(total) for total in summary.rounds_total_ns)
        lines.append(f"total time by round: {totals}; median {duration(summary.round_total_ns)}")
    if summary.errors:
        lines.append("errors: " + ", ".join(f"{name} {count(n)}" for name, n in summary.errors.items()))
    if summary.floor_ns is not None:
        lines.append(f"harness floor: {summary.floor_ns / 1e3:.1f} µs")
    return lines


def _knee(result: Result, knee: Knee) -> list[str]:
    lines = []
    if knee.connection is not None:
        lines.append(
            f"knee: connection {count(knee.connection)}{_share(result, knee.in_use)}, "
            f"from there on above {SLOWDOWN:g} x {duration(knee.baseline_ns)}"
        )
    elif knee.is_judged:
        lines.append(f"knee: none, the rolling median does not stay above {SLOWDOWN:g} x {duration(knee.baseline_ns)}")
    if knee.first_failed is not None:
        lines.append(f"first failed: attempt {count(knee.first_failed)}{_share(result, knee.in_use_at_failure)}")
    return lines


def _share(result: Result, in_use: int | None) -> str:
    if result.ports is None or in_use is None:
        return ""
    return f" with {in_use / result.ports:.1%} of the range in use"


def comparison_rows(result: Result) -> list[tuple[str, str, str, str, str]]:
    """Of each strategy label, total time, speed-up over the first one, errors and their share, as they are printed.

    Total time is the median of the rounds that came to their end, `partial` without one.
    """
    summaries = [(s.strategy.label, summarize(s)) for s in result.strategies]
    first = summaries[0][1].round_total_ns if summaries else 0.0
    return [
        (
            label,
            duration(summary.round_total_ns) if summary.round_total_ns else "partial",
            f"{first / summary.round_total_ns:.2f} x" if first and summary.round_total_ns else "-",
            count(summary.errored.latency.count),
            f"{summary.errored.latency.count / summary.attempts:.2%}" if summary.attempts else "-",
        )
        for label, summary in summaries
    ]


def _comparison(result: Result) -> str:
    total = "total time" if result.most_rounds == 1 else "median total"
    return render(("strategy", total, "speed-up", "errors", "share"), comparison_rows(result))
