"""The default report: what was run, the talk's six lines, percentiles, and what to make of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from connbench.analysis.soundness import findings
from connbench.analysis.summary import summarize
from connbench.findings import Finding, printable, together
from connbench.model import Plan, StrategySpec, addresses_text
from connbench.report import rows
from connbench.report import strategy_tables as account
from connbench.report.ranking_table import ranking_of
from connbench.report.tables import render
from connbench.report.talk import six_lines
from connbench.report.verdicts import run_verdict
from connbench.results.result import Result, StrategyResult
from connbench.wording import fold

BOLD, NORMAL = "\x1b[1m", "\x1b[0m"
"""What a terminal takes for the begin and the end of bold characters (ECMA-48, SGR)."""


def report(result: Result, width: int | None = None, *, bold: bool = False) -> str:
    """The whole report; see `block`, `closing` and `verdict` for its parts.

    Args:
        result: What was measured.
        width: Columns to fold prose to; None leaves each header and finding on one line, as a pipe wants it.
        bold: Whether names that a reader looks for are set in bold, as a terminal shows it.
    """
    blocks = [block(result, strategy, width, bold=bold) for strategy in result.strategies]
    ends = closing(result, width), verdict(result, width, bold=bold)
    return "\n\n".join(part for part in (*blocks, *ends) if part)


def block(result: Result, strategy: StrategyResult, width: int | None = None, *, bold: bool = False) -> str:
    """One strategy: header line, the talk's six lines, tables, and a few lines beside; see `account` for both.

    Of the six lines that of a group without an attempt is left out; `--format talk` has it.
    """
    head = _stressed(header(result, strategy.strategy, width), f"{strategy.strategy.label}:", bold=bold)
    parts = [
        head + "\n" + six_lines(summarize(strategy)),
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
    found = together(f for f in findings(result) if f not in told)
    if found:
        parts.append("\n".join(finding(f, width) for f in found))
    return "\n\n".join(parts)


def verdict(result: Result, width: int | None = None, *, bold: bool = False) -> str:
    """What to take away, where the eye of a terminal's reader is: at the very end; empty where nothing was measured."""
    return verdict_lines(run_verdict(result), width, bold=bold)


def verdict_lines(sentences: Sequence[str], width: int | None = None, *, bold: bool = False) -> str:
    """The sentences of a verdict, each on a line of its own."""
    word = "verdict:"
    lines = [fold(f"{word} {one}" if at == 0 else one, width) for at, one in enumerate(sentences)]
    return _stressed("\n".join(lines), word, bold=bold)


def _stressed(text: str, beginning: str, *, bold: bool) -> str:
    """A text with its first words in bold, if that is wanted; a name that is folded itself stays as it is."""
    return f"{BOLD}{beginning}{NORMAL}{text.removeprefix(beginning)}" if bold and text.startswith(beginning) else text


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
        rows.port_range(result),
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
    if not spec.traits.chooses_source:
        return "kernel's source"
    return addresses_text(plan.sources[: spec.load.sources], "source")


def finding(found: Finding, width: int | None = None) -> str:
    """A finding, and on a line of its own what to do about it."""
    advice = fold(f"  -> {printable(found.advice)}", width, "     ")
    return fold(f"{found.severity}: {found.text}", width) + "\n" + advice
