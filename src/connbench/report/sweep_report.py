"""A sweep: its verdict, a row for each setting and load, and what is cheapest; as blocks, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, floor, isfinite, log10
from shlex import quote
from typing import TYPE_CHECKING, Any

import numpy as np

from connbench.analysis.soundness import findings
from connbench.analysis.sweep_analysis import Cell, Standing, Sweep
from connbench.findings import Finding
from connbench.model import Load, Placement, StrategySpec
from connbench.model.load import LABEL_ORDER, LoadField
from connbench.model.load import Sweep as Swept
from connbench.report import markdown as markdown_writer
from connbench.report import text as text_writer
from connbench.report.blocks import Block, Findings, Lines, Table, Verbatim, Verdict
from connbench.report.json import json_document
from connbench.report.ranking_table import counted_of
from connbench.report.run_report import conditions, kernel_name, machine_blocks
from connbench.report.run_verdict import CUT_SHORT
from connbench.results.result import Result
from connbench.safe_text import printable
from connbench.units import count, duration
from connbench.wording import listed

if TYPE_CHECKING:
    from connbench.portmodel.variants import Variant  # which loads what simulates, and a report does not

WIDEST = 80
"""Columns of the terminal that a table may take; a wider one leaves out columns in the order of `LEAVING`."""

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
"""Characters of a setting's name; the figures of a longer one stand on a line of their own."""

MOST_RIVALS = 3
"""Settings that a sentence names."""

LARGEST_BUDGET = 0.1
"""The largest error budget that the report suggests; with more, one connection in ten fails."""


def text(
    result: Result,
    budget: float,
    variants: Sequence[Variant] = (),
    width: int | None = None,
    already_printed: Collection[Finding] = (),
) -> str:
    """The sweep as text, for a terminal or a pipe.

    Args:
        result: What was measured.
        budget: The share of attempts that may fail at each load, 0 to 1.
        variants: Changes with which the runner-up would keep the budget, as the model predicts.
        width: Columns to fold prose to; None leaves each sentence on one line, as a pipe wants it.
        already_printed: Findings that the user has seen already.
    """
    sweep = Sweep.of(result)
    names = Names.of(sweep.loads, sweep.settings)
    blocks: list[Block] = [
        Verdict(verdict(sweep, names, budget, variants)),
        Lines(_opening(result, sweep, names)),
        *map(Verbatim, _tables(sweep, names)),
        Lines(_remarks(result, sweep, names)),
        *_choices(sweep, names, budget),
        Findings([one for one in findings(result) if one not in already_printed], shortened=True),
    ]
    return text_writer.write(blocks, width)


def markdown(result: Result, budget: float, variants: Sequence[Variant] = ()) -> str:
    """The sweep to paste into an issue; arguments as those of `text`."""
    blocks: list[Block] = [
        *machine_blocks(result),
        Verdict(sentences(result, budget, variants)),
        *tables(result, budget),
        Findings(findings(result)),
    ]
    return markdown_writer.write(blocks)


def tables(result: Result, budget: float) -> list[Table]:
    """The tables for Markdown and a page: every setting at every load with all its figures, and what is cheapest."""
    sweep = Sweep.of(result)
    names = Names.of(sweep.loads, sweep.settings)
    found = []
    for judged in (False, True):
        if cells := sweep.of_phase(judged=judged):
            rows = [(names.setting[cell.setting], names.short.get(cell.load, ""), *_figures(cell)) for cell in cells]
            title, notes = f"Sweep: {_title(sweep, judged=judged)}", _remarks(result, sweep, names) if judged else []
            header = ("setting", names.heading, *COLUMNS)
            found.append(Table(header, rows, title=title, remarks=tuple(notes), words=(1,)))
    return [*found, *_choices(sweep, names, budget)]


def sentences(result: Result, budget: float, variants: Sequence[Variant] = ()) -> tuple[str, ...]:
    """The verdict alone; arguments as those of `text`."""
    sweep = Sweep.of(result)
    return verdict(sweep, Names.of(sweep.loads, sweep.settings), budget, variants)


def _opening(result: Result, sweep: Sweep, names: Names) -> list[str]:
    """Where it was measured, and what was swept."""
    settings = f"{len(sweep.settings)} setting{'s' if len(sweep.settings) > 1 else ''}"
    settings += f" with {names.setting_common}" if names.setting_common else ""
    if len(sweep.loads) > 1:
        swept = f"{settings} at {len(sweep.loads)} loads" + (f", each with {names.common}" if names.common else "")
    else:
        swept = f"{settings} at one load" + (f": {names.common}" if names.common else "")
    return [printable(f"sweep: {', '.join([kernel_name(result), *conditions(result)])}"), swept]


def _remarks(result: Result, sweep: Sweep, names: Names) -> list[str]:
    """What the figures are, and how much the rounds differ."""
    in_bind = dict.fromkeys(spec.setting for spec in result.specs if spec.searches_in_bind)
    but = f", of {listed([*in_bind])} acquire time: the search is in bind()" if in_bind else ""
    lines = [
        f"cost: acquire time {counted_of(result.specs)}, divided by the connections made; the other times are latency"
        + but
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
    """The rows below their setting if several settings have several loads or long names; as many columns as fit."""
    longest = max(map(len, names.setting.values()))
    grouped = len(sweep.settings) > 1 and (bool(names.short) or longest > LONGEST_NAME)
    first = names.heading if names.short else "" if grouped else "setting"
    indent = "  " if grouped else ""
    columns = list(COLUMNS)
    for leaving in (*LEAVING, None):
        rows = [(indent + _row_name(cell, names, first), *_figures(cell, columns)) for cell in cells]
        lines = text_writer.render(Table((indent + first, *columns), rows))
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


def _choices(sweep: Sweep, names: Names, budget: float) -> Iterator[Table]:
    """The cheapest setting at each load, and each setting over all loads; nothing for one setting or one load."""
    if len(sweep.settings) < 2 or len(sweep.loads) < 2:
        return
    rows = [_at_load(sweep, names, budget, position) for position in range(len(sweep.loads))]
    load = "fill" if names.heading == "fill" else "load"
    title = f"cheapest within {format_error_share(budget)} errors at each {load}"
    yield Table((names.heading, "setting", "cost", "errors"), rows, title=title, words=(1,))
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
        header = ("setting", "cost", "worst errors", "at", "budget")
        yield Table(header, over_all, title="mean over all loads", words=(4,))


def _at_load(sweep: Sweep, names: Names, budget: float, position: int) -> tuple[str, ...]:
    load = sweep.loads[position]
    chosen = sweep.cheapest_at(load, budget)
    cell = chosen or sweep.fewest_errors_at(load)
    if cell is None:
        return names.short[load], "not measured", "-", "-"
    name = names.setting[cell.setting]
    words = name if chosen else f"none; nearest {name}"
    return names.short[load], words, duration(cell.figures.cost_ns), f"{cell.figures.error_share:.2%}"


# ---- settings and loads by what distinguishes them


@dataclass(frozen=True, slots=True)
class Names:
    """Short names of settings and loads.

    Attributes:
        heading: What they are, for the head of a column: `fill`, or `load` where more than that differs.
        short: A name for each, in the loads' order; empty where there is but one load.
        common: What all loads have in common and that is not as usual.
        setting: A name for each setting, without what follows the strategy and its window in all of them.
        setting_common: What that is.
    """

    heading: str
    short: dict[Load, str]
    common: str
    setting: dict[StrategySpec, str]
    setting_common: str

    @classmethod
    def of(cls, loads: Sequence[Load], settings: Sequence[StrategySpec] = ()) -> Names:
        """Name each load and setting by the parts that differ between them."""
        told = [field for field in LABEL_ORDER if any(_applies(field, load) for load in loads)]
        differing = [field for field in told if len({field.of(load) for load in loads}) > 1]
        short = {load: ", ".join(filter(None, (_cell(field, load) for field in differing))) for load in loads}
        common = [
            field.label(field.of(loads[0])) for field in told if field not in differing and field.is_told(loads[0])
        ]
        labels = {setting: setting.label.split(", ") for setting in settings}
        alike = [word for word in next(iter(labels.values()), [])[1:] if all(word in some for some in labels.values())]
        return cls(
            heading=differing[0].name.replace("_", " ") if len(differing) == 1 else "load",
            short={load: text or "as usual" for load, text in short.items()} if differing else {},
            common=", ".join(common),
            setting={
                setting: ", ".join(word for word in some if word not in alike) for setting, some in labels.items()
            },
            setting_common=", ".join(alike),
        )

    def at(self, load: Load) -> str:
        """The load for a sentence: ` at fill 80%`; empty if there is one load only."""
        if load not in self.short:
            return ""
        return f" at {'fill ' if self.heading == 'fill' else ''}{self.short[load]}"


def _applies(field: LoadField, load: Load) -> bool:
    """Whether a load has the field: a field of the churn needs one, and a number of connections has to be given."""
    if field.is_of_churn:
        return load.churn is not None
    return field.sweep is not Swept.SETTING and field.of(load) is not None


def _cell(field: LoadField, load: Load) -> str:
    return (field.cell or field.label)(field.of(load)) if _applies(field, load) else ""


# ---- the verdict


def verdict(sweep: Sweep, names: Names, budget: float, variants: Sequence[Variant] = ()) -> tuple[str, ...]:
    """One to four sentences; the first names the cheapest setting whose errors are within the budget.

    Args:
        sweep: What was measured.
        names: Of its settings and loads.
        budget: The share of attempts that may fail at each load, 0 to 1.
        variants: Changes with which the runner-up would keep the budget, as the model predicts.
    """
    if not sweep.standings:
        return ("No setting is judged: none has a complete round at every load.", *_next(sweep, (), is_close=False))
    chosen = sweep.cheapest(budget)
    out = sweep.cheaper_beyond(budget)
    limit = format_error_share(budget)
    sentences = [
        f"Cheapest within {limit} errors: {_described(chosen, sweep, names)}."
        if chosen
        else f"No setting keeps within {limit} errors; nearest: {_described(out[0], sweep, names)}."
    ]
    rivals = [rival.setting.label for rival in sweep.tied(budget)]
    if rivals:
        sentences.append(f"Its rounds overlap with those of {_some(rivals)}: no difference shown.")
    if chosen and out:
        sentences.append(_fell_out(out, chosen, sweep, names))
    ways = _ways_in(out[0], variants) if out else []
    if ways:
        sentences.append(f"{out[0].setting.label} would keep the budget with {listed(ways, ' or ')}.")
    missing = len(sweep.settings) - len(sweep.standings)
    if missing:
        have = "setting has no complete round at every load and is"
        many = "settings have no complete round at every load and are"
        sentences.append(f"{missing} {have if missing == 1 else many} not judged.")
    return (*sentences, *_next(sweep, variants, is_close=bool(rivals)))


def _next(sweep: Sweep, variants: Sequence[Variant], *, is_close: bool) -> Iterator[str]:
    """What to run next; nothing if the sweep answers the question."""
    if sweep.is_partial:
        yield CUT_SHORT
    elif variants:
        yield f"Next: repeat the sweep with {_options(variants[0].setting)}, which measures it."
    elif len(sweep.settings) > 1 and all(len(cell.costs_ns) == 1 for cell in sweep.cells):
        yield "Next: repeat the sweep with --rounds 5; one round does not show how far the figures scatter."
    elif is_close:
        yield "Next: repeat the sweep with these settings alone and more --rounds, which may tell them apart."


def _described(standing: Standing, sweep: Sweep, names: Names) -> str:
    where = "mean of the churn" if sweep.has_churn else "mean"
    if len(sweep.loads) > 1:
        where += f" over the {len(sweep.loads)} loads"
    worst = f"{format_error_share(standing.worst_share)} errors" if standing.worst_share else "no errors"
    at = names.at(standing.worst_load) if standing.worst_share else ""
    return f"{standing.setting.label}, {_cost(standing)} ({where}; {f'at worst {worst}{at}' if at else worst})"


def _cost(standing: Standing) -> str:
    return f"{duration(standing.cost_ns)} a connection" if isfinite(standing.cost_ns) else "not one connection"


def _some(labels: Sequence[str]) -> str:
    more = len(labels) - MOST_RIVALS
    return "; ".join(labels[:MOST_RIVALS]) + (f" and {more} more" if more > 0 else "")


def _fell_out(out: Sequence[Standing], chosen: Standing, sweep: Sweep, names: Names) -> str:
    """The cheapest setting beyond the budget, and why it is not chosen."""
    first, *others = out
    lacks = all(sweep.cell(first.setting, load).lacks_ports for load in sweep.loads)
    fault = "found no free port" if lacks else "failed"
    times = chosen.cost_ns / first.cost_ns
    more = f"; {len(others)} more cheaper setting exceed{'' if len(others) > 1 else 's'} it, too" if others else ""
    return (
        f"{first.setting.label} takes {_cost(first)}, {times:.1f} times less, but exceeds the budget: "
        f"{format_error_share(first.worst_share)} of its attempts {fault}{names.at(first.worst_load)}{more}."
    )


def _ways_in(runner_up: Standing, variants: Sequence[Variant]) -> list[str]:
    """What would let a setting in: a budget as large as its errors, or a change that suffices by the model."""
    budget = [f"--error-budget {format_error_share(budget_for(runner_up.worst_share))}"]
    return (budget if runner_up.worst_share <= LARGEST_BUDGET else []) + [
        f"{one.options} (the model predicts {format_error_share(one.error_share)} errors)" for one in variants
    ]


def _options(setting: StrategySpec) -> str:
    """The options of a setting on the command line."""
    options = {
        "--strategy": quote(printable(setting.name)),  # to be pasted into a shell, and as a file has it
        "--window": setting.window,
        "--placement": setting.placement if setting.placement is Placement.CLIPPED else None,
        "--retries": setting.retries or None,
        "--sources": setting.load.sources,
    }
    words = [f"{option} {value}" for option, value in options.items() if value is not None]
    return " ".join([*words, *setting.port_arguments])


def budget_for(errors: float) -> float:
    """The smallest budget that allows a share of errors, rounded up to two digits or to 0.01 %: 0.0501 makes 0.051."""
    step = max(1e-4, 10.0 ** (floor(log10(errors)) - 1))
    return min(1.0, round(ceil(errors / step - 1e-9) * step, 12))


def format_error_share(value: float) -> str:
    """A share from 0 to 1 in percent, with two decimals at most; one digit for less than 0.005 %."""
    text = f"{value * 100:.2f}"
    return f"{value * 100:.1g}%" if float(text) == 0 and value else f"{text.rstrip('0').rstrip('.') or '0'}%"


# ---- for programs


def json(result: Result, budget: float, variants: Sequence[Variant] = ()) -> str:
    """The document of `connbench.report.json`, with `sweep`: ranking, choice, rivals, runner-up and verdict.

    Times are in ns, shares of 1; what there is not is null, a cost without a connection too.

    Args:
        result: What was measured.
        budget: The share of attempts that may fail at each load, 0 to 1.
        variants: Changes with which the runner-up would keep the budget, as the model predicts.
    """
    sweep = Sweep.of(result)
    chosen, out = sweep.cheapest(budget), sweep.cheaper_beyond(budget)
    return json_document(
        result,
        {
            "sweep": {
                "error_budget_share": budget,
                "verdict": sentences(result, budget, variants),
                "loads": sweep.loads,
                "ranking": [_standing(one, sweep, budget) for one in sweep.standings],
                "choice": chosen and _standing(chosen, sweep, budget),
                "no_difference_from_choice": [rival.setting.label for rival in sweep.tied(budget)],
                "runner_up": _runner_up(out[0], sweep, budget, variants) if out else None,
                "cheapest_by_load": [_at(sweep, position, budget) for position in range(len(sweep.loads))],
            }
        },
    )


def _standing(standing: Standing, sweep: Sweep, budget: float) -> dict[str, Any]:
    return {
        "setting": standing.setting,
        "label": standing.setting.label,
        "cost_ns": standing.cost_ns,
        "cost_quickest_round_ns": standing.least_ns,
        "cost_slowest_round_ns": standing.most_ns,
        "worst_error_share": standing.worst_share,
        "worst_load": standing.worst_load if standing.worst_share else None,
        "keeps_budget": standing.is_within(budget),
        "by_load": [_load_figures(sweep, standing, position) for position in range(len(sweep.loads))],
    }


def _load_figures(sweep: Sweep, standing: Standing, position: int) -> dict[str, Any]:
    cell = sweep.cell(standing.setting, sweep.loads[position])
    return {"load": cell.load, "attempts": cell.attempts, "figures": cell.figures}


def _runner_up(standing: Standing, sweep: Sweep, budget: float, variants: Sequence[Variant]) -> dict[str, Any]:
    return _standing(standing, sweep, budget) | {
        "would_keep_budget_with": {
            "error_budget_share": budget_for(standing.worst_share),
            "options": [
                {"options": one.options, "setting": one.setting, "predicted_error_share": one.error_share}
                for one in variants
            ],
        }
    }


def _at(sweep: Sweep, position: int, budget: float) -> dict[str, Any]:
    load = sweep.loads[position]
    cell = sweep.cheapest_at(load, budget)
    return {"load": load, "label": cell and cell.setting.label, "cost_ns": cell and cell.figures.cost_ns}
