"""The figures of the page as plotly takes them, plain dictionaries; colours of paper and text are `page.js`'s.

The charts of the page, and the picture on the first screen of a page that is not of a run.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite, log10
from typing import Any

import numpy as np
import numpy.typing as npt

from connbench.analysis.bootstrap import CONFIDENCE, ChangeVerdict, Interval
from connbench.analysis.chart_data import rolling_percentiles
from connbench.analysis.comparison import ERRORS, Comparison, Figure, judged_name
from connbench.analysis.fleet_summary import FleetComparison, FleetSummary, Part, StrategyOfFleet, Turn, open_over_time
from connbench.analysis.knee import find_knee
from connbench.analysis.levels import levels_of, ports_of
from connbench.analysis.summary import errno_name
from connbench.analysis.sweep_analysis import Cell, Sweep, is_sweep
from connbench.model import Phase
from connbench.report.comparison_report import change_in_words
from connbench.report.ranking_table import counted_of
from connbench.report.series import HANDSHAKE, LATENCY, Series, colour_of, in_figure, latency_name
from connbench.report.sweep_report import Names
from connbench.results.result import Mask, Result, Round, Samples, StrategyResult
from connbench.samples import UNKNOWN_ERRNO
from connbench.units import NS_PER_S, NS_PER_US, count, duration, format_percent

PARITY_COLOURS = {"even": "#009e73", "odd": "#d55e00"}
"""Green and red in the shades that colour-blind readers tell apart too (Okabe and Ito, 2008)."""

_CROWD, _FAINT = 2, 0.4
"""With more series than this the p99 is drawn with this opacity, so that the medians stand out."""

_NAME_LENGTH = 60
"""Characters of a name within a chart; elsewhere on the page it stands in full."""

_BETWEEN_DECADES = [
    f"{digit}{zeros}{prefix}" for digit in range(2, 10) for zeros in ("", "0", "00") for prefix in "nµm"
]

LATENCY_AXIS = {
    "type": "log",
    "tickformat": "~s",
    "ticksuffix": "s",
    "nticks": 4,  # more, and plotly.js labels every digit of a decade, one over the other
    # Between the decades of a logarithmic axis plotly.js leaves the suffix out.
    "labelalias": {label: f"{label}s" for label in (*_BETWEEN_DECADES, *map(str, range(2, 10)))},
}

MOST_POINTS = 1_000_000
"""Points of all strategies together in a page, which then has less than 25 MB."""

SLOWEST_KEPT = 100
"""Slowest attempts of a strategy and parity that are always drawn, because a reader looks for them."""

MOST_ERRNOS = 8
"""Errnos of a strategy that have a trace of their own."""

MOST_RATIOS = 12
"""Figures of a comparison that the picture shows; of more, only `CHIEF`, or only each strategy's total time."""

MOST_HOSTS_DRAWN, MOST_OF_A_LINE = 16, 1_000
"""Lines of a picture of open connections, and points of a line."""

_INTERVAL = f"A bar is the {CONFIDENCE:.0%} interval: where it crosses the line, no difference is shown."

CHIEF = ("total", "p50", "p99", "acquire.mean", "acquire.p50", "acquire.p99")

VERDICT_COLOURS = {ChangeVerdict.FASTER: "#009e73", ChangeVerdict.SLOWER: "#d55e00"}
OTHER_COLOUR = "#808890"
"""The colour of a figure without a difference; readable on white and on black."""


# ---- the charts of the page


def chart_text(text: str) -> str:
    """Words escaped so that plotly shows them to the letter: it reads names and labels as HTML and as templates.

    plotly decodes numeric entities last, so their characters are neither tag, template nor formula.
    """
    short = text if len(text) <= _NAME_LENGTH else text[: _NAME_LENGTH - 1] + "…"
    return "".join(
        f"&#{ord(c)};" if c in "&<>%{}$\"'" else c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in short
    )


def one_in(series: Sequence[Series]) -> int:
    """The number of attempts of which one is drawn, to keep the page within `MOST_POINTS`."""
    points = sum(len(shown_round(each.strategy).samples) for each in series)
    return -(-points // MOST_POINTS) or 1


def scatter(series: Sequence[Series]) -> dict[str, Any]:
    """Latency over the connection's number: a trace for each strategy and parity, and for each reason of failure."""
    every = one_in(series)
    traces = [
        _points(position, each, shown_round(each.strategy).samples, group, every)
        for position, each in enumerate(series)
        for group in groups_of(shown_round(each.strategy).samples)
    ]
    layout = {
        "xaxis": {"title": {"text": "connection"}, "tickformat": ",", "rangemode": "nonnegative"},
        "yaxis": {"title": {"text": latency_name(series), "standoff": 12}, "automargin": True, **LATENCY_AXIS},
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout}


def _points(position: int, series: Series, samples: Samples, group: Group, every: int) -> dict[str, Any]:
    drawn = thinned(samples, group.chosen, every)
    name = chart_text(series.label)
    connected = group.name != "failed"
    port = "%{customdata}" if connected else "none"
    return {
        "type": "scattergl",
        "mode": "markers",
        "name": f"{name}, {group.name}",
        "meta": {"series": position, "group": group.name},
        "x": packed(drawn + 1),
        "y": packed(samples.latency_ns[drawn] / NS_PER_S),
        "marker": {"size": 3, "opacity": 0.6},
        **({"customdata": packed(samples.port[drawn])} if connected else {}),
        "hovertemplate": f"<b>{name}</b><br>connection: %{{x:,}}<br>port: {port}"
        f"<br>latency: %{{y:.4s}}s<br>errno: {group.errno}<extra></extra>",
    }


def utilisation(series: Sequence[Series], figure: str = LATENCY) -> dict[str, Any]:
    """Rolling median and p99 over the share of the range in use; of other times than handshakes also the knees.

    Churn has no place in it: the range is as full at its end as at its beginning.

    Args:
        series: What is drawn; a strategy without the figure has no trace.
        figure: A name of `connbench.report.series.FIGURES`.
    """
    drawn = [
        (position, one)
        for position, each in enumerate(series)
        if each.strategy.strategy.phase is not Phase.CHURN
        for one in in_figure([replace(each, strategy=_with_shown_round(each.strategy))], figure)
    ]
    traces = [
        trace
        for position, one in drawn
        for trace in _rolling(position, one, _FAINT if len(series) > _CROWD else 1.0)
        if figure != HANDSHAKE or trace["meta"]["group"] != "knee"
    ]
    layout = {
        "xaxis": {"title": {"text": "share of the range in use"}, "tickformat": ".0%", "rangemode": "tozero"},
        "yaxis": {
            "title": {"text": latency_name([one for _, one in drawn]), "standoff": 12},
            "automargin": True,
            **LATENCY_AXIS,
        },
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout}


def _rolling(position: int, series: Series, p99_opacity: float) -> list[dict[str, Any]]:
    """Of the one round of a series."""
    [measured] = series.strategy.rounds
    samples = measured.samples
    latency = samples.latency_ns[~samples.failed]
    positions, percentiles = rolling_percentiles(latency, (50, 99))
    levels = [level for level in levels_of(series.strategy) if level.latency.count]
    if levels:
        positions = np.array([level.in_use for level in levels])
        percentiles = np.array([[level.latency.p50, level.latency.p99] for level in levels]).T
    ports = series.strategy.capacity or ports_of(levels) or max(1, len(latency))
    share = positions / ports
    name = chart_text(series.label)
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": f"{name}, {kind}",
            "meta": {"series": position, "group": kind},
            "x": packed(share),
            "y": packed(values / NS_PER_S),
            "line": {"width": 2, "dash": "solid"} if kind == "median" else {"width": 1.2, "dash": "dot"},
            "opacity": 1.0 if kind == "median" else p99_opacity,
            "hovertemplate": f"<b>{name}</b><br>%{{x:.1%}} in use<br>{kind}: %{{y:.3s}}s<extra></extra>",
        }
        for kind, values in zip(("median", "p99"), percentiles, strict=True)
        if len(positions)
    ]
    knee = find_knee(series.strategy)
    if knee.connection is not None and knee.in_use is not None:
        median = float(np.interp(knee.in_use, positions, percentiles[0]))
        words = f"connection {count(knee.connection)}<br>{knee.in_use / ports:.1%} in use"
        traces.append(
            {
                "type": "scatter",
                "name": f"{name}, knee",
                "meta": {"series": position, "group": "knee"},
                "x": [knee.in_use / ports],
                "y": [median / NS_PER_S],
                "text": [f"{name}: {knee.in_use / ports:.1%}"],
                "mode": "markers",  # page.js writes the text beside those that have room for it
                "marker": {"symbol": "diamond", "size": 11},
                "hovertemplate": f"<b>{name}: knee</b><br>{words}<br>from here on above "
                f"{duration(knee.limit_ns)}<extra></extra>",
            }
        )
    return traces


# ---- what they draw of the samples


def shown_round(strategy: StrategyResult) -> Round:
    """The round that a chart draws: the one with the median total time, the faster of two in the middle.

    If every round is partial, it is the longest.
    """
    complete = [r for r in strategy.rounds if not r.fault]
    if not complete:
        return max(strategy.rounds, key=lambda r: len(r.samples))
    complete.sort(key=lambda r: float(r.samples.latency_ns.sum()))
    return complete[(len(complete) - 1) // 2]


def _with_shown_round(strategy: StrategyResult) -> StrategyResult:
    return replace(strategy, rounds=(shown_round(strategy),))


def thinned(samples: Samples, chosen: Mask, every: int) -> npt.NDArray[np.int64]:
    """The positions of the drawn attempts in order, (drawn,): one in `every` of the chosen, and the slowest 100."""
    positions = np.flatnonzero(chosen)
    if every == 1:
        return positions
    slowest = np.argsort(samples.latency_ns[positions], kind="stable")[-SLOWEST_KEPT:]
    return positions[np.union1d(np.arange(0, len(positions), every), slowest)]


@dataclass(frozen=True, slots=True)
class Group:
    """Attempts of one kind: `name` is even, odd or failed, `errno` what is said of their errno."""

    name: str
    errno: str
    chosen: Mask


def groups_of(samples: Samples) -> list[Group]:
    """Even, odd, and the failed by their errno, each group that has an attempt; rare errnos share one."""
    found = [
        Group("even", "0, connected", samples.even),
        Group("odd", "0, connected", samples.odd),
    ]
    numbers, counts = np.unique(samples.errno[samples.failed], return_counts=True)
    frequent = numbers[np.argsort(-counts, kind="stable")][:MOST_ERRNOS]
    found += [Group("failed", _errno(int(n)), samples.errno == n) for n in frequent]
    found.append(Group("failed", "a rare one", samples.failed & ~np.isin(samples.errno, frequent)))
    return [group for group in found if group.chosen.any()]


def _errno(number: int) -> str:
    name = errno_name(number)
    return name if number == UNKNOWN_ERRNO else f"{number} {name}"


def packed(values: npt.NDArray[np.number]) -> dict[str, Any]:
    """Numbers as plotly.js reads them fastest, little-endian bytes in base64, in the smallest type they fit.

    Fractions become 32-bit floats, good for seven digits.
    """
    kind = "f4" if values.dtype.kind == "f" else "u2" if not len(values) or values.max() <= 0xFFFF else "u4"
    return {"dtype": kind, "bdata": b64encode(values.astype(f"<{kind}").tobytes()).decode("ascii")}


# ---- the picture on the first screen


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
    """The picture of a sweep; None of anything else, which the charts of every page show."""
    return of_sweep(results[0]) if len(results) == 1 and is_sweep(results[0]) else None


def of_sweep(result: Result) -> Picture | None:
    """What a connection costs: a line for each setting over the loads, or a bar for each where there is one load."""
    sweep = Sweep.of(result)
    names = Names.of(sweep.loads, sweep.settings)
    cells = [cell for cell in sweep.of_phase(judged=True) if isfinite(cell.figures.cost_ns)]
    if not cells:
        return None
    note = f"The acquire time {counted_of(result.specs)}, divided by the connections made."
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


def of_fleet(found: FleetSummary) -> Picture | None:
    """What several hosts did: open connections over time if they ran together, else each host against the first one.

    None where that is not known.
    """
    together = [one for one in found.strategies if one.in_all]
    if together:
        return _open_connections(found, together)
    compared = [
        (host.host if len(found.strategies) == 1 else f"{host.host}: {one.strategy.label}", figure)
        for one in found.strategies
        for host in one.hosts
        if host.against_first and (figure := host.against_first.figures.get(judged_name(one.strategy)))
    ]
    changes = [(place, figure, figure.change) for place, figure in compared if figure.change]
    changes.sort(key=lambda one: -one[2].estimate)
    if not changes:
        return None
    first = found.fleet.results[0].name
    few = f" The slowest {MOST_RATIOS} of {len(changes)} are drawn." if len(changes) > MOST_RATIOS else ""
    note = f"Left of the line a host takes less time than {first}. {_INTERVAL}{few}"
    return _ratios(changes[:MOST_RATIOS], f"times that of {first}", f"Total time against {first}", note)


def of_fleets(compared: FleetComparison) -> Picture | None:
    """Each host and strategy in NEW against BASE; None where none has an interval."""
    found = [
        (f"{host}: {one.strategy.label}", figure, figure.change)
        for host, comparison in compared.hosts.items()
        for one in comparison.strategies
        if (figure := one.figures.get(judged_name(one.strategy))) and figure.change
    ]
    found.sort(key=lambda one: -one[2].estimate)
    if not found:
        return None
    few = f" The slowest {MOST_RATIOS} of {len(found)} are drawn." if len(found) > MOST_RATIOS else ""
    note = f"Left of the line NEW takes less time. {_INTERVAL}{few}"
    return _ratios(found[:MOST_RATIOS], "NEW / BASE", "Total time of NEW against BASE", note)


def _open_connections(found: FleetSummary, strategies: Sequence[StrategyOfFleet]) -> Picture:
    """The connections that are open over time, in the first round of the first strategies.

    Of one strategy each host has a line, and all hosts together have one; of several strategies all hosts together.
    """
    lines: list[tuple[str, int, bool, Turn, Sequence[Part]]] = []
    if len(strategies) == 1:
        [turn, *_] = found.turns[strategies[0].strategy]
        lines += [(p.host, at, False, turn, [p]) for at, p in enumerate(turn.parts[:MOST_HOSTS_DRAWN])]
        lines.append(("all hosts", -1, True, turn, turn.parts))
    else:
        for at, one in enumerate(strategies[:MOST_HOSTS_DRAWN]):
            [turn, *_] = found.turns[one.strategy]
            lines.append((one.strategy.label, at, False, turn, turn.parts))
    traces = []
    for label, at, is_all, turn, parts in lines:
        begin = min(part.begin for part in turn.parts)
        times, number = open_over_time(parts)
        kept = np.unique(np.linspace(0, len(times) - 1, MOST_OF_A_LINE).round().astype(np.int64))
        colour = OTHER_COLOUR if is_all else colour_of(at)
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": chart_text(label),
                "x": packed((times[kept] - begin) / NS_PER_S),
                "y": packed(number[kept]),
                "line": {"color": colour, "width": 2, "shape": "hv", "dash": "dot" if is_all else "solid"},
                "marker": {"color": colour},
                "hovertemplate": f"<b>{chart_text(label)}</b><br>%{{x:.3f}} s<br>%{{y:,}} open<extra></extra>",
            }
        )
    layout = {
        "xaxis": {"title": {"text": "time since the first host began"}, "ticksuffix": " s", "rangemode": "tozero"},
        "yaxis": {"title": {"text": "open connections", "standoff": 12}, "automargin": True, "tickformat": ","},
        "hovermode": "closest",
        **_legend(),
    }
    note = "A line falls to 0 where a host closes its connections, at the end of its round."
    if len(strategies) > 1:
        note = f"Of all hosts together. {note}"
    elif len(found.fleet.results) > MOST_HOSTS_DRAWN:
        note = f"The first {MOST_HOSTS_DRAWN} hosts and all together are drawn. {note}"
    return Picture({"data": traces, "layout": layout}, "Open connections in the first round", note)


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
    found = [(f"{s.strategy.label}: {name}", figure, change) for s, name, figure, change in chosen]
    return _ratios(found, "NEW / BASE", "NEW against BASE", f"Left of the line NEW takes less time. {_INTERVAL}")


def _ratios(found: Sequence[tuple[str, Figure, Interval]], axis: str, title: str, note: str) -> Picture:
    """A mark for each figure, with its interval: `found` has their places, from the top down."""
    changes = [change for *_, change in found]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [change.estimate for change in changes],
        "y": [chart_text(place) for place, *_ in found],
        "text": [chart_text(f"{' '.join(change_in_words(f, is_share=False))}, {f.verdict}") for _, f, _ in found],
        "marker": {"size": 10, "color": [VERDICT_COLOURS.get(f.verdict, OTHER_COLOUR) for _, f, _ in found]},
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
        "xaxis": {"title": {"text": chart_text(axis)}},
        "yaxis": {"automargin": True, "autorange": "reversed"},
        "shapes": [
            {"type": "line", "x0": 1, "x1": 1, "yref": "paper", "y0": 0, "y1": 1, "line": {"color": OTHER_COLOUR}}
        ],
        "hovermode": "closest",
    }
    return Picture({"data": [trace], "layout": layout}, title, note)


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
    """A legend above the chart, where a phone has room for it."""
    return {"showlegend": True, "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}}
