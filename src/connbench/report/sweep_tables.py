"""A sweep in print: a row for each setting and load, what is cheapest at each load, and what is cheapest over all."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from connbench.analysis.soundness import findings
from connbench.analysis.sweep_analysis import Cell, Sweep
from connbench.findings import Finding, by_kind, printable, the_rest
from connbench.model import addresses_text
from connbench.report.rows import Block, Table, port_range
from connbench.report.sweep_names import Names
from connbench.report.sweep_verdict import share, verdict
from connbench.report.tables import render
from connbench.report.text import finding, verdict_lines
from connbench.results.result import Result
from connbench.units import count, duration
from connbench.wording import fold

if TYPE_CHECKING:
    from connbench.portmodel.variants import Variant  # which loads what simulates, and a report does not

WIDEST = 80
"""Columns a table may take; beyond it leaves out `LEAVING`, the first of them first."""

LEAVING = ("mean", "n", "even", "odd", "p50")

COLUMNS: dict[str, Callable[[Cell], str]] = {
    "n": lambda cell: count(cell.attempts),
    "errors": lambda cell: f"{cell.figures.error_share:.2%}",
    "cost": lambda cell: duration(cell.figures.cost_ns),
    "mean": lambda cell: duration(cell.figures.mean_ns),
    "p50": lambda cell: duration(cell.figures.p50_ns),
    "p99": lambda cell: duration(cell.figures.p99_ns),
    "even": lambda cell: duration(cell.figures.even_ns),
    "odd": lambda cell: duration(cell.figures.odd_ns),
}

LONGEST_NAME = 36
"""Characters of a setting beyond which its figures stand on a line of their own."""


def report(
    result: Result,
    budget: float,
    width: int | None = None,
    told: Collection[Finding] = (),
    variants: Sequence[Variant] = (),
) -> str:
    """The whole report of a sweep; the verdict stands at its end.

    Args:
        result: What was measured.
        budget: The share of attempts that may fail at each load, 0 to 1.
        width: Columns to fold prose to; None leaves each sentence on one line, as a pipe wants it.
        told: Findings the user has been told already.
        variants: What would let the runner-up in, by the model.
    """
    sweep = Sweep.of(result)
    names = Names.of(sweep.loads, sweep.settings)
    parts = [
        "\n".join(fold(line, width) for line in opening(result, sweep, names)),
        *_tables(sweep, names),
        "\n".join(fold(line, width) for line in remarks(result, sweep, names)),
        *(f"{block.title}\n{render(*block.table, words=block.words)}" for block in _choices(sweep, names, budget)),
        "\n".join(_findings(result, told, width)),
        verdict_lines(verdict(sweep, names, budget, variants), width),
    ]
    return "\n\n".join(part for part in parts if part)


def blocks(result: Result, budget: float) -> list[Block]:
    """The same as tables under headings, for a page."""
    sweep = Sweep.of(result)
    names = Names.of(sweep.loads, sweep.settings)
    found = []
    for judged in (False, True):
        if cells := sweep.of_phase(judged=judged):
            rows = [(names.setting[cell.setting], names.short.get(cell.load, ""), *_figures(cell)) for cell in cells]
            table = Table(("setting", names.heading, *COLUMNS), rows)
            notes = remarks(result, sweep, names) if judged else []
            found.append(Block(f"Sweep: {_title(sweep, judged=judged)}", table, tuple(notes), words=(1,)))
    return [*found, *_choices(sweep, names, budget)]


def sentences(result: Result, budget: float, variants: Sequence[Variant] = ()) -> tuple[str, ...]:
    """The verdict alone; arguments as those of `report`."""
    sweep = Sweep.of(result)
    return verdict(sweep, Names.of(sweep.loads, sweep.settings), budget, variants)


def opening(result: Result, sweep: Sweep, names: Names) -> list[str]:
    """Where it was measured, and what was swept."""
    kernel, plan = result.environment.get("kernel"), result.plan
    parts = [printable(f"Linux {kernel}") if kernel else "kernel unknown"]
    if plan:
        parts += [
            port_range(result),
            f"{addresses_text(plan.sources, 'source')} -> {addresses_text(plan.targets, 'target')}",
            str(plan.namespace),
            f"{plan.listener} listener",
            f"seed {plan.seed}",
        ]
    else:
        parts.append(f"{result.origin} {result.name}")
    number = result.plan.rounds if result.plan else result.most_rounds
    if number > 1:
        parts.append(f"{number} rounds")
    settings = f"{len(sweep.settings)} setting{'s' if len(sweep.settings) > 1 else ''}"
    settings += f" with {names.setting_common}" if names.setting_common else ""
    if len(sweep.loads) > 1:
        swept = f"{settings} at {len(sweep.loads)} loads" + (f", each with {names.common}" if names.common else "")
    else:
        swept = f"{settings} at one load" + (f": {names.common}" if names.common else "")
    return [printable(f"sweep: {', '.join(parts)}"), swept]


def remarks(result: Result, sweep: Sweep, names: Names) -> list[str]:
    """How the figures are to be read, and how far the rounds are apart."""
    lines = [
        "cost: acquire time of all attempts, failed ones too, by the connections made; the other times are latency"
    ]
    cells = sweep.of_phase(judged=True)
    if result.most_rounds > 1 and cells:
        widest = max(cells, key=lambda cell: cell.spread)
        middle = float(np.median([cell.spread for cell in cells]))
        lines.append(
            f"each figure is the median round's; cost differs between rounds by {middle:.1%} in the median of all "
            f"rows, by {widest.spread:.1%} at most ({widest.setting.label}{names.at(widest.load)})"
        )
    return lines


def _tables(sweep: Sweep, names: Names) -> Iterator[str]:
    for judged in (False, True):
        cells = sweep.of_phase(judged=judged)
        if cells:
            title = f"{_title(sweep, judged=judged)}\n" if sweep.has_churn else ""
            yield title + _table(cells, sweep, names)


def _title(sweep: Sweep, *, judged: bool) -> str:
    if not sweep.has_churn:
        return "every setting at every load"
    return "the churn" if judged else "the filling before the churn"


def _table(cells: Sequence[Cell], sweep: Sweep, names: Names) -> str:
    """Grouped by setting where there are several at several loads or of long names; columns as far as there is room."""
    longest = max(map(len, names.setting.values()))
    grouped = len(sweep.settings) > 1 and (bool(names.short) or longest > LONGEST_NAME)
    first = names.heading if names.short else "" if grouped else "setting"
    indent = "  " if grouped else ""
    columns = list(COLUMNS)
    for leaving in (*LEAVING, None):
        rows = [(indent + _row_name(cell, names, first), *_figures(cell, columns)) for cell in cells]
        lines = render((indent + first, *columns), rows)
        if leaving is None or max(map(len, lines.splitlines())) <= WIDEST:
            break
        columns.remove(leaving)
    if not grouped:
        return lines
    head, *body = lines.splitlines()
    found = [head]
    for setting, some in groupby(zip(cells, body, strict=True), key=lambda pair: pair[0].setting):
        found += [names.setting[setting], *(row for _, row in some)]
    return "\n".join(found)


def _row_name(cell: Cell, names: Names, heading: str) -> str:
    name = names.setting[cell.setting] if heading == "setting" else names.short.get(cell.load, "")
    return name + (", partial" if cell.is_partial and name else "partial" if cell.is_partial else "")


def _figures(cell: Cell, columns: Sequence[str] = tuple(COLUMNS)) -> tuple[str, ...]:
    return tuple(COLUMNS[name](cell) for name in columns)


def _choices(sweep: Sweep, names: Names, budget: float) -> Iterator[Block]:
    """Who is cheapest at each load, where there are several settings and loads; and how each did over all."""
    if len(sweep.settings) < 2 or len(sweep.loads) < 2:
        return
    rows = [_at_load(sweep, names, budget, position) for position in range(len(sweep.loads))]
    title = f"cheapest within {share(budget)} errors at each {names.heading}"
    yield Block(title, Table((names.heading, "setting", "cost", "errors"), rows), words=(1,))
    if sweep.standings:
        over_all = [
            (
                names.setting[standing.setting],
                duration(standing.cost_ns),
                f"{standing.worst_share:.2%}",
                names.short[standing.worst_load] if standing.worst_share else "-",
                "kept" if standing.is_within(budget) else "exceeded",
            )
            for standing in sweep.standings
        ]
        table = Table(("setting", "cost", "worst errors", "at", "budget"), over_all)
        yield Block("mean over all loads", table, words=(4,))


def _at_load(sweep: Sweep, names: Names, budget: float, position: int) -> tuple[str, ...]:
    load = sweep.loads[position]
    chosen = sweep.cheapest_at(load, budget)
    cell = chosen or sweep.fewest_errors_at(load)
    if cell is None:
        return names.short[load], "not measured", "-", "-"
    name = names.setting[cell.setting]
    words = name if chosen else f"none; nearest {name}"
    return names.short[load], words, duration(cell.figures.cost_ns), f"{cell.figures.error_share:.2%}"


def _findings(result: Result, told: Collection[Finding], width: int | None) -> Iterator[str]:
    """Each finding; of those of one kind the first ones, and how many more there are."""
    for alike, rest in by_kind(f for f in findings(result) if f not in told):
        yield from (finding(f, width) for f in alike)
        if rest:
            yield fold(f"{rest[0].severity}: {the_rest(rest)}", width)
