"""A comparison as text, as markdown to paste, and as JSON; one function a format behind one mapping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from connbench.analysis.bootstrap import CONFIDENCE, FEWEST
from connbench.analysis.comparison import ERRORS, Comparison, Difference, Figure, RoundCount, StrategyComparison
from connbench.findings import Severity, printable
from connbench.report.comparison_rows import HEADER, blocks, rounds_in_words
from connbench.report.comparison_verdict import not_comparable, verdict
from connbench.report.json_text import json_text
from connbench.report.markdown import escape
from connbench.report.rows import Block
from connbench.report.tables import render
from connbench.report.text import verdict_lines
from connbench.results.result import Result
from connbench.units import count
from connbench.wording import fold

SCHEMA = 1
"""Version of the JSON document; raised when a key changes its name or meaning."""

ALARM = "a change below may have one of these for its reason:"


def text(comparison: Comparison, width: int | None = None) -> str:
    """The comparison for `width` columns, or a pipe: the files, in what they differ, a table a strategy, the verdict.

    That the two are not comparable stands before all of it.
    """
    parts = [fold(not_comparable(comparison), width), "\n".join(fold(line, width) for line in _files(comparison))]
    parts += _warnings(comparison, width)
    for block in blocks(comparison):
        parts.append("\n".join((block.title, *_table(block), *(fold(remark, width) for remark in block.remarks))))
    parts.append("\n".join(fold(line, width) for line in _closing(comparison)))
    parts.append(verdict_lines(verdict(comparison), width))
    return "\n\n".join(filter(None, parts))


def markdown(comparison: Comparison) -> str:
    """The comparison to paste into an issue, the verdict first."""
    parts = [escape(sentence) for sentence in verdict(comparison)]
    parts.append("\n".join(f"- {escape(line)}" for line in _files(comparison)))
    alarming, notes = _split(comparison)
    if alarming:
        items = "\n".join(f"> - **{d.severity}** {escape(d.text)}" for d in alarming)
        parts.append(f"> [!WARNING]\n> {ALARM}\n>\n{items}")
    if notes:
        parts.append("\n".join(f"- {d.severity}: {escape(d.text)}" for d in notes))
    for block in blocks(comparison):
        parts.append(f"### {escape(block.title)}")
        if block.table.rows:
            rule = ("---", *["---:"] * (len(HEADER) - 2), "---")
            lines = (HEADER, rule, *(tuple(map(escape, row)) for row in block.table.rows))
            parts.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        parts += map(escape, block.remarks)
    parts += map(escape, _closing(comparison))
    return "\n\n".join(parts)


def json(comparison: Comparison) -> str:
    """The comparison for programs: each figure tells its unit, what is not known is null."""
    document = {
        "schema": SCHEMA,
        "comparable": comparison.is_comparable,
        "verdict": verdict(comparison),
        "base": _file(comparison.base),
        "new": _file(comparison.new),
        "alike": not _split(comparison)[0],
        "differences": [asdict(d) | {"text": d.text} for d in comparison.differences],
        "confidence": CONFIDENCE,
        "fewest_rounds": FEWEST,
        "strategies": [_strategy(s) for s in comparison.strategies],
        "only_in_base": comparison.only_base,
        "only_in_new": comparison.only_new,
    }
    return json_text(document, indented=True)


FORMATS: dict[str, Callable[[Comparison], str]] = {"text": text, "markdown": markdown, "json": json}


def _files(comparison: Comparison) -> list[str]:
    return [f"{side} {_described(r)}" for side, r in (("BASE", comparison.base), ("NEW ", comparison.new))]


def _described(result: Result) -> str:
    kernel = result.environment.get("kernel")
    rounds = [r for some in result.rounds.values() for r in some]
    counts = {sum(not r.fault for r in some) for some in result.rounds.values()} or {0}
    span = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else str(*counts)
    parts = [printable(f"Linux {kernel}") if kernel else "kernel not known"]
    if result.plan:
        parts += [f"range {result.plan.port_range}", f"{count(result.plan.connections)} connections"]
    parts.append(rounds_in_words(RoundCount(0, sum(bool(r.fault) for r in rounds)), span))
    return f"{_name(result)}: {', '.join(parts)}"


def _name(result: Result) -> str:
    """The file's name; bytes in it that are no text have a mark in their place."""
    return result.name.encode(errors="replace").decode()


def _split(comparison: Comparison) -> tuple[list[Difference], list[Difference]]:
    """What to be warned of, and what is good to know."""
    notes = [d for d in comparison.differences if d.severity is Severity.NOTE]
    return [d for d in comparison.differences if d.severity is not Severity.NOTE], notes


def _warnings(comparison: Comparison, width: int | None) -> list[str]:
    alarming, notes = _split(comparison)
    loud = [f"WARNING: {ALARM}", *(fold(f"  {d.severity}: {d.text}", width, "    ") for d in alarming)]
    quiet = [fold(f"{d.severity}: {d.text}", width) for d in notes]
    return ["\n".join(lines) for lines in (loud if alarming else [], quiet) if lines]


def _table(block: Block) -> list[str]:
    """The rows under their header; figures to the right, verdicts to the left of their column."""
    if not block.table.rows:
        return []
    figures = render(HEADER[:-1], [row[:-1] for row in block.table.rows]).splitlines()
    verdicts = (HEADER[-1], *(row[-1] for row in block.table.rows))
    return [f"{line}  {verdict}" for line, verdict in zip(figures, verdicts, strict=True)]


def _closing(comparison: Comparison) -> list[str]:
    lines = [
        f"only in {side}: {'; '.join(spec.label for spec in specs)}"
        for side, specs in (("BASE", comparison.only_base), ("NEW", comparison.only_new))
        if specs
    ]
    lines += _other_loads(comparison)
    if comparison.judged:
        chance = max(1, round((1 - CONFIDENCE) * comparison.judged))
        lines.append(
            f"{count(comparison.judged)} figures judged, each at {CONFIDENCE:.0%}: "
            f"where nothing has changed, {count(chance)} of them may look different by chance"
        )
    return lines


def _other_loads(comparison: Comparison) -> list[str]:
    """The strategies that both files have, each put to another load."""
    lines = []
    for setting in dict.fromkeys(spec.setting for spec in comparison.only_base):
        of_base, of_new = (
            [repr(spec.label) for spec in specs if spec.setting == setting]
            for specs in (comparison.only_base, comparison.only_new)
        )
        if of_new:
            loads = f"{', '.join(of_base)} in BASE and {', '.join(of_new)} in NEW"
            lines.append(f"not compared: {setting} was put to another load, {loads}")
    return lines


def _file(result: Result) -> dict[str, Any]:
    return {
        "file": _name(result),
        "origin": result.origin,
        "kernel": result.environment.get("kernel"),
        "plan": result.plan,
        "environment": result.environment,
    }


def _strategy(compared: StrategyComparison) -> dict[str, Any]:
    return {
        "strategy": compared.strategy,
        "label": compared.strategy.label,
        "rounds": {"base": compared.base_rounds, "new": compared.new_rounds},
        "figures": {name: _figure(name, figure) for name, figure in compared.figures.items()},
    }


def _figure(name: str, figure: Figure) -> dict[str, Any]:
    return {
        "unit": "share" if name == ERRORS else "ns",
        "base": figure.base,
        "new": figure.new,
        "compared_by": "difference" if name == ERRORS else "ratio",
        "change": figure.change,
        "verdict": figure.verdict,
        "missing_rounds": dict(zip(("base", "new"), figure.missing, strict=True)),
    }
