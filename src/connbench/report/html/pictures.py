"""The picture on the first screen of a page that is not of a run: of a sweep, or a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log10
from typing import Any

from connbench.analysis.bootstrap import CONFIDENCE
from connbench.analysis.comparison import ERRORS, Comparison, Verdict
from connbench.analysis.sweep_analysis import Cell, Sweep, is_sweep
from connbench.report.comparison_rows import change_in_words
from connbench.report.html.charts import LATENCY_AXIS, chart_text
from connbench.report.series import colour_of
from connbench.report.sweep_names import Names
from connbench.results.result import Result
from connbench.units import NS_PER_S, NS_PER_US, duration, format_percent

MOST_RATIOS = 12
"""Figures of a comparison that the picture has room for; of more the chief ones, or each strategy's total time."""

CHIEF = ("total", "p50", "p99")

VERDICT_COLOURS = {Verdict.FASTER: "#009e73", Verdict.SLOWER: "#d55e00"}
OTHER_COLOUR = "#808890"
"""Of what shows no difference; it stands out on white and on black."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as plotly takes it, its title, and a sentence below that."""

    figure: dict[str, Any]
    title: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of `bars`: its place on the axis, the group it belongs to, how long it is, and what it says."""

    place: str
    group: str
    value: float
    text: str


def picture_of(results: Sequence[Result]) -> Picture | None:
    """What shows a sweep at a glance; None of anything else, which its own charts show."""
    return of_sweep(results[0]) if len(results) == 1 and is_sweep(results[0]) else None


def of_sweep(result: Result) -> Picture | None:
    """What a connection costs: a line for each setting over the loads, or a bar for each where there is one load."""
    sweep = Sweep.of(result)
    names = Names.of(sweep.loads, sweep.settings)
    cells = [cell for cell in sweep.of_phase(judged=True) if isfinite(cell.figures.cost_ns)]
    if not cells:
        return None
    note = "The acquire time of all attempts, failed ones too, divided by the connections made."
    if len(sweep.loads) == 1:
        found = [Bar(names.setting[c.setting], "cost", c.figures.cost_ns / NS_PER_US, _cost(c)) for c in cells]
        return Picture(bars(found, "µs"), "What a connection costs", note)
    traces = []
    for position, setting in enumerate(sweep.settings):
        some = [cell for cell in cells if cell.setting == setting]
        name = chart_text(names.setting[setting])
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": name,
                "x": [chart_text(names.short[cell.load]) for cell in some],
                "y": [cell.figures.cost_ns / NS_PER_S for cell in some],
                "text": [chart_text(_cost(cell)) for cell in some],
                "line": {"color": colour_of(position), "width": 2},
                "marker": {"size": 7, "color": colour_of(position)},
                "hovertemplate": f"<b>{name}</b><br>%{{x}}: %{{text}}<extra></extra>",
            }
        )
    layout = {
        "xaxis": {"title": {"text": chart_text(names.heading)}, "type": "category"},
        "yaxis": {"title": {"text": "cost of a connection", "standoff": 12}, "automargin": True, **LATENCY_AXIS},
        "hovermode": "closest",
        **_legend(),
    }
    return Picture({"data": traces, "layout": layout}, "What a connection costs as the load grows", note)


def _cost(cell: Cell) -> str:
    share = cell.figures.error_share
    return duration(cell.figures.cost_ns) + (f", {format_percent(share)} fail" if share else "")


def of_comparison(compared: Comparison) -> Picture | None:
    """NEW against BASE with its interval, a mark for each figure that has one; None where none has."""
    every = [
        (s, name, figure, figure.change)
        for s in compared.strategies
        for name, figure in s.figures.items()
        if name != ERRORS and figure.change
    ]
    if not every:
        return None
    choices = (every, [one for one in every if one[1] in CHIEF], [one for one in every if one[1] == CHIEF[0]])
    chosen = next((some for some in choices if len(some) <= MOST_RATIOS), choices[-1])
    found = [(f"{s.strategy.label}: {name}", figure) for s, name, figure, _ in chosen]
    changes = [change for *_, change in chosen]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [change.estimate for change in changes],
        "y": [chart_text(place) for place, _ in found],
        "text": [chart_text(f"{' '.join(change_in_words(f, is_share=False))}, {f.verdict}") for _, f in found],
        "marker": {"size": 10, "color": [VERDICT_COLOURS.get(f.verdict, OTHER_COLOUR) for _, f in found]},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [change.high - change.estimate for change in changes],
            "arrayminus": [change.estimate - change.low for change in changes],
            "color": OTHER_COLOUR,
        },
        "hovertemplate": "<b>%{y}</b><br>%{text}<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": "NEW / BASE"}},
        "yaxis": {"automargin": True, "autorange": "reversed"},
        "shapes": [
            {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": OTHER_COLOUR}}
        ],
        "hovermode": "closest",
    }
    return Picture(
        {"data": [trace], "layout": layout},
        "NEW against BASE",
        f"Left of the line NEW takes less time. A bar is the {CONFIDENCE:.0%} interval: where it crosses the line, no "
        "difference is shown.",
    )


def bars(found: Sequence[Bar], axis: str) -> dict[str, Any]:
    """Bars on a logarithmic axis, one below the other, a trace for each group; the page mutes all but the first group.

    Args:
        found: Bars with a length above 0, in the order of their places, from the top down.
        axis: What their length is.
    """
    groups = dict.fromkeys(bar.group for bar in found)
    traces = []
    for position, group in enumerate(groups):
        some = [bar for bar in found if bar.group == group]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": chart_text(group),
                "meta": {"muted": position > 0},
                "x": [bar.value for bar in some],
                "y": [chart_text(bar.place) for bar in some],
                "text": [chart_text(bar.text) for bar in some],
                "textposition": "outside",
                "cliponaxis": False,
                "hovertemplate": f"<b>%{{y}}</b><br>{chart_text(group)}: %{{text}}<extra></extra>",
            }
        )
    exponents = [log10(bar.value) for bar in found]
    layout = {
        "barmode": "group",
        "xaxis": {
            "title": {"text": axis},
            "type": "log",
            "nticks": 6,
            "range": [min(0.0, *exponents) - 0.05, max(exponents) + 0.35],  # with room for the longest bar's words
        },
        "yaxis": {"automargin": True, "autorange": "reversed"},
        "hovermode": "closest",
        **(_legend() if len(groups) > 1 else {}),
    }
    return {"data": traces, "layout": layout}


def _legend() -> dict[str, Any]:
    """Above the chart, where a phone has room for it."""
    return {"showlegend": True, "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}}
