"""Advice as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Sequence
from typing import Any

import orjson

from connbench.findings import printable
from connbench.portsearch.algorithm import ALGORITHMS
from connbench.portsearch.counsel import Advice, Candidate, Counsel
from connbench.report.prediction import SEARCHES, cost_lines, growth_lines, reserved_text
from connbench.report.rows import Table
from connbench.report.tables import render
from connbench.report.text import fold
from connbench.units import duration

SCHEMA = 1


def text(counsel: Counsel, kernel: str, width: int | None = None, languages: Collection[str] = ()) -> str:
    """What was asked, the strategies that were tried, each advice with its reason; last, for it is long, the code.

    Args:
        counsel: What there is to say.
        kernel: The kernel in words.
        width: Columns to fold prose to; None for as wide as it gets.
        languages: Of the code, in lower case; none for all there are.
    """
    situation = counsel.situation
    sources = "one source" if situation.sources == 1 else f"{situation.sources} sources"
    slo = f", {situation.slo.text}" if situation.slo else ""
    ports = f"range {situation.ports}{reserved_text(situation.reserved_here)}"
    head = (
        f"{situation.connections:,} connections at once, {ports}, {sources}, {printable(kernel)}: "
        f"{SEARCHES[situation.algorithm]}; up to {situation.budget:.2%} errors{slo}"
    )
    parts = [fold(head, width)]
    parts += [_advice(one, width) for one in counsel.advices]
    tables = [render(*_tried(counsel, counsel.tried))] if counsel.tried else []
    if counsel.enough:
        table = render(*_tried(counsel, counsel.enough.tried))
        tables.append(f"with {counsel.enough.sources} source addresses:\n\n{table}")
    parts[1:1] = tables
    costs = cost_lines(situation.calibration)
    if any(one.extrapolates for one in (*counsel.tried, *(counsel.enough.tried if counsel.enough else ()))):
        costs.append(f"extrapolated: more connections than the {situation.calibration.largest:,} of the calibration")
        costs += growth_lines(situation.calibration)
    parts.append("\n".join(fold(line, width) for line in costs))
    printed: set[str] = set()
    for one in counsel.advices:
        for language, code in one.code.items():
            if code not in printed and (not languages or language.lower() in languages):
                printed.add(code)
                parts.append(_code(one, language, width))
    if languages and not printed:
        none = f"no code for {', '.join(languages)}: what is advised needs none, or cannot be done there"
        parts.append(fold(none, width))
    return "\n\n".join(parts)


def _tried(counsel: Counsel, tried: Sequence[Candidate]) -> Table:
    slo = counsel.situation.slo
    rows = [_row(one, has_slo=slo is not None) for one in tried]
    statistic = slo.statistic if slo else "p99"
    columns = ("mean",) if statistic == "mean" else ("mean", statistic)
    kept = ("budget", "slo") if slo else ("budget",)
    if statistic == "mean":
        rows = [row[:3] + row[4:] for row in rows]
    return Table(("strategy", "errors", *columns, "tries", *kept), rows)


def _row(one: Candidate, *, has_slo: bool) -> tuple[str, ...]:
    kept = ["kept" if one.keeps_budget else "exceeded"]
    if has_slo:
        kept.append("kept" if one.keeps_slo else "missed")
    return (
        one.spec.label,
        f"{one.errors:.2%}",
        duration(one.mean_ns),
        duration(one.slo_ns),
        f"{one.tries:.2f}",
        *kept,
    )


def _advice(one: Advice, width: int | None) -> str:
    return f"{fold(one.line, width)}\n{_indented(one.reason, width)}"


def _code(one: Advice, language: str, width: int | None) -> str:
    return fold(f"{language}: {one.line}", width) + "\n\n" + textwrap.indent(one.code[language].rstrip("\n"), "    ")


def _indented(words: str, width: int | None) -> str:
    if width is None:
        return f"  {words}"
    return textwrap.fill(
        words, width, initial_indent="  ", subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def json(counsel: Counsel, kernel: str) -> str:
    """The same as one document; times in ns, shares of 1."""
    situation = counsel.situation
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "kernel": kernel,
        "algorithm": next(word for word, one in ALGORITHMS.items() if one is situation.algorithm),
        "connections": situation.connections,
        "port_range": situation.ports,
        "reserved": situation.reserved_here,
        "sources": situation.sources,
        "options": sorted(situation.options),
        "error_budget": situation.budget,
        "slo": situation.slo,
        "calibration": situation.calibration,
        "kept": counsel.is_kept,
        "strategies": _strategies(counsel.tried),
        "with_sources": counsel.enough
        and {"sources": counsel.enough.sources, "strategies": _strategies(counsel.enough.tried)},
        "advice": list(counsel.advices),
    }
    return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE).decode()


def _strategies(tried: Sequence[Candidate]) -> list[dict[str, object]]:
    return [{"label": one.spec.label, "tried": one} for one in tried]
