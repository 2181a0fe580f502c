"""Results to paste into an issue: a heading, a table with a row a strategy, and the findings."""

from __future__ import annotations

import re
from collections.abc import Sequence

from connbench.analysis.knee import Knee, find_knee, is_unseen
from connbench.analysis.soundness import findings
from connbench.analysis.summary import Distribution, summarize
from connbench.findings import together
from connbench.model import addresses_text
from connbench.report.load_lines import load_lines
from connbench.report.part_rows import part_tables
from connbench.report.ranking_table import Line, Ranking, ranking_of
from connbench.report.rows import link, port_range
from connbench.report.verdicts import run_verdict
from connbench.results.result import Result, StrategyResult
from connbench.units import count, duration

_LATENCY = ("latency mean", "p50", "p99")

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_MARKUP = re.compile(r"[\\`*{}\[\]|~!$]|(?<![^\W_])_|_(?![^\W_])")
"""An underscore within a word is none."""

_LINKED = re.compile(r"[@#]|:(?=//)")
"""What GitHub makes a mention, an issue or an address of, even behind a backslash; a comment after it prevents that."""


def markdown(result: Result, verdict: Sequence[str] | None = None) -> str:
    """The verdict, the figures that strategies are compared by in GitHub's tables, and the findings.

    Args:
        result: What was measured.
        verdict: Its sentences; None for those of a run.
    """
    parts = [heading(result), *map(escape, run_verdict(result) if verdict is None else verdict), *_table(result)]
    parts += [part for strategy in result.strategies for part in _of_parts(result, strategy)]
    remarks = [f"- {escape(f'{s.strategy.label}: {line}')}" for s in result.strategies for line in load_lines(s)]
    if remarks:
        parts.append("\n".join(remarks))
    found = [f"- **{f.severity}:** {escape(f.text)}; {escape(f.advice)}" for f in together(findings(result))]
    if found:
        parts.append("\n".join(found))
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Text as it is, whatever it holds: no markup, no HTML, no mention, no second line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = re.sub("[&<>]", lambda found: _ENTITIES[found[0]], line)
    return _LINKED.sub(r"\g<0><!-- -->", _MARKUP.sub(r"\\\g<0>", line))


def heading(result: Result) -> str:
    """The kernel as a heading, and the plan in a line below."""
    kernel = result.environment.get("kernel")
    return f"### connbench: {'Linux ' + escape(str(kernel)) if kernel else 'kernel unknown'}\n\n{_plan(result)}"


def _plan(result: Result) -> str:
    plan = result.plan
    if plan is None:
        parts = [f"{result.origin} {result.name}"]
    else:
        parts = [
            port_range(result),
            f"{addresses_text(plan.sources, 'source')} to {addresses_text(plan.targets, 'target')}",
            str(plan.namespace),
            *filter(None, [link(plan)]),
            f"{plan.listener} listener",
            f"seed {plan.seed}",
        ]
    if result.most_rounds > 1:
        parts.append(f"{result.most_rounds} rounds")
    return escape(", ".join(parts))


def _table(result: Result) -> list[str]:
    """A row a strategy, and what its columns are; nothing without a strategy."""
    if not result.strategies:
        return []
    ranking = ranking_of([result], [(s.strategy.label, s) for s in result.strategies])
    header = (
        "strategy",
        "attempts",
        "errors",
        *(("acquire",) if ranking.has_acquire else ()),
        *((ranking.versus,) if len(ranking.lines) > 1 else ()),  # than itself nothing is faster
        *(("connect()",) if ranking.has_connect else ()),
        *_LATENCY,
        "even p50 / mean",
        "odd p50 / mean",
        "knee",
    )
    rows = [tuple(map(escape, header)), *(_row(line, ranking, result.kernel) for line in ranking.lines)]
    return [laid_out(rows), *([escape(ranking.remark)] if len(ranking.lines) > 1 else [])]


def _of_parts(result: Result, strategy: StrategyResult) -> list[str]:
    """A table for each of source, target and lane that there are several of, under a line that says so."""
    parts = []
    for by, (header, rows) in part_tables(result, strategy):
        parts += [f"**{escape(strategy.strategy.label)}** by {by}:", laid_out([header, *rows])]
    return parts


def laid_out(rows: Sequence[tuple[str, ...]], words: tuple[int, ...] = ()) -> str:
    """Cells as a table, the first row its header; the first column and those of words to the left, all others right."""
    columns = [_column(cells, is_number=at not in (0, *words)) for at, cells in enumerate(zip(*rows, strict=True))]
    return "\n".join(f"| {' | '.join(row)} |" for row in zip(*columns, strict=True))


def _row(line: Line, ranking: Ranking, kernel: str) -> tuple[str, ...]:
    strategy, summary = line.strategy, summarize(line.strategy)
    latency = summary.all.latency
    return (
        escape(line.label),
        count(summary.attempts),
        line.errors if line.errors == "0" else f"{line.errors} ({line.share})",
        *((line.acquire,) if ranking.has_acquire else ()),
        *((line.speed,) if len(ranking.lines) > 1 else ()),
        *((line.connect,) if ranking.has_connect else ()),
        *(duration(value) if latency.count else "-" for value in (latency.mean, latency.p50, latency.p99)),
        _both(summary.even.latency),
        _both(summary.odd.latency),
        _knee(strategy, find_knee(strategy), kernel),
    )


def _both(latency: Distribution) -> str:
    return f"{duration(latency.p50)} / {duration(latency.mean)}" if latency.count else "-"


def _knee(strategy: StrategyResult, knee: Knee, kernel: str) -> str:
    if knee.connection is None or knee.in_use is None:
        if is_unseen(strategy.strategy, knee, kernel):
            return f"not seen ({knee.fullest:.1%} in use)"
        far = f" up to {knee.fullest:.1%} in use" if knee.shows_half is False else ""
        return f"none{far}" if knee.is_judged else "-"
    return count(knee.connection) + ("" if knee.share is None else f" ({knee.share:.1%})")


def _column(cells: tuple[str, ...], *, is_number: bool) -> list[str]:
    """The cells of a column, padded to one width, which only those who read the source see."""
    width = max(3, *map(len, cells))
    title, *others = (f"{cell:>{width}}" if is_number else f"{cell:<{width}}" for cell in cells)
    return [title, f"{'-' * (width - 1)}{':' if is_number else '-'}", *others]
