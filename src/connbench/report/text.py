"""The default report: what was run, the talk's six lines, percentiles, and what to make of them."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence

from connbench.analysis.soundness import findings
from connbench.analysis.summary import summarize
from connbench.findings import Finding, printable
from connbench.model import Plan, StrategySpec, addresses_text
from connbench.report import account, rows
from connbench.report.ranking import ranking_of
from connbench.report.tables import render
from connbench.report.talk import six_lines
from connbench.report.verdict import run_verdict
from connbench.results.result import Result, StrategyResult


def report(result: Result, width: int | None = None) -> str:
    """The whole report; see `block` and `closing` for its parts.

    Args:
        result: What was measured.
        width: Columns to fold prose to; None leaves each header and finding on one line, as a pipe wants it.
    """
    blocks = [block(result, strategy, width) for strategy in result.strategies]
    return "\n\n".join(part for part in (*blocks, closing(result, width), verdict(result, width)) if part)


def block(result: Result, strategy: StrategyResult, width: int | None = None) -> str:
    """One strategy: header line, the talk's six lines, tables, and a few lines beside; see `account` for both."""
    parts = [
        header(result, strategy.strategy, width) + "\n" + six_lines(summarize(strategy)),
        *(render(*table) for table in account.tables(result, strategy)),
        "\n".join(fold(line, width) for line in account.lines(result, strategy)),
    ]
    return "\n\n".join(part for part in parts if part)


def closing(result: Result, width: int | None = None, told: Collection[Finding] = ()) -> str:
    """After the last strategy: the comparison of all, if there are several, and the findings but those in `told`."""
    parts = []
    if len(result.strategies) > 1:
        ranking = ranking_of([result], [(s.strategy.label, s) for s in result.strategies])
        parts.append(f"{render(*ranking.table, width=width)}\n{fold(ranking.remark, width)}")
    found = [f for f in findings(result) if f not in told]
    if found:
        parts.append("\n".join(finding(f, width) for f in found))
    return "\n\n".join(parts)


def verdict(result: Result, width: int | None = None) -> str:
    """What to take away, where the eye of a terminal's reader is: at the very end; empty where nothing was measured."""
    return verdict_lines(run_verdict(result), width)


def verdict_lines(sentences: Sequence[str], width: int | None = None) -> str:
    """The sentences of a verdict, each on a line of its own."""
    return "\n".join(fold(one, width) for one in ("verdict: " * (not at) + one for at, one in enumerate(sentences)))


def header(result: Result, spec: StrategySpec, width: int | None = None) -> str:
    """All that decides the figures below it, in one line."""
    kernel = result.environment.get("kernel")
    machine = printable(f"Linux {kernel}") if kernel else "kernel unknown"
    plan = result.plan
    if plan is None:
        rounds = [f"{result.most_rounds} rounds"] if result.most_rounds > 1 else []
        origin = f"{result.origin} {printable(result.name)}"
        return fold(", ".join([f"{spec.label}: {machine}", origin, *rounds]), width)
    parts = [
        f"{spec.label}: {machine}",
        f"range {plan.port_range}",
        f"{_source(plan, spec)} -> {addresses_text(plan.targets, 'target')}",
        str(plan.namespace),
        *filter(None, [rows.link(plan)]),
        f"{plan.listener} listener",
        f"seed {plan.seed}",
    ]
    if plan.rounds > 1:
        parts.append(f"{plan.rounds} rounds")
    return fold(printable(", ".join(parts)), width)


def _source(plan: Plan, spec: StrategySpec) -> str:
    return "kernel's source" if spec.name == "plain" else addresses_text(plan.sources[: spec.load.sources], "source")


def finding(found: Finding, width: int | None = None) -> str:
    """A finding, and on a line of its own what to do about it."""
    advice = fold(f"  -> {printable(found.advice)}", width, "     ")
    return fold(f"{found.severity}: {found.text}", width) + "\n" + advice


def fold(text: str, width: int | None, indent: str = "  ") -> str:
    """Fold to `width` columns, further lines indented; None leaves it on one line."""
    if width is None:
        return text
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
