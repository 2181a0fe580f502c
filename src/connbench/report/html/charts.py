"""The charts of the page as plotly figures, which are plain dictionaries; colours of paper and text are `page.js`'s."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from connbench.analysis.chart_data import rolling_percentiles
from connbench.analysis.knee import find_knee
from connbench.model import Phase
from connbench.report.html.labels import Mark, sides
from connbench.report.html.points import MOST_POINTS, Group, groups_of, packed, shown_round, thinned
from connbench.report.series import Series, latency_name
from connbench.results.result import Samples
from connbench.units import NS_PER_S, count, duration

PARITY_COLOURS = {"even": "#009e73", "odd": "#d55e00"}
"""Green and red in the shades that colour-blind readers tell apart too (Okabe and Ito, 2008)."""

CROWD, FAINT = 2, 0.4
"""Series above which each one's p99 is drawn so faintly that the medians stand out."""

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


def chart_text(text: str) -> str:
    """Words as plotly shows them to the letter: it takes names and labels for a kind of HTML, and for templates.

    It decodes numeric entities last of all, so that what they stand for is neither tag, template nor formula.
    """
    short = text if len(text) <= _NAME_LENGTH else text[: _NAME_LENGTH - 1] + "…"
    return "".join(
        f"&#{ord(c)};" if c in "&<>%{}$\"'" else c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in short
    )


def one_in(series: Sequence[Series]) -> int:
    """Of how many attempts one is drawn, so that the page does not grow beyond its limit."""
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


def utilisation(series: Sequence[Series]) -> dict[str, Any]:
    """Rolling median and p99 over the share of the range in use, and the knee of each strategy that has one.

    Churn has no place in it: the range is as full at its end as at its beginning.
    """
    traces = [
        trace
        for position, each in enumerate(series)
        if each.strategy.strategy.phase is Phase.FILL
        for trace in _rolling(position, each, FAINT if len(series) > CROWD else 1.0)
    ]
    _label_knees([trace for trace in traces if trace["meta"]["group"] == "knee"])
    layout = {
        "xaxis": {"title": {"text": "share of the range in use"}, "tickformat": ".0%", "rangemode": "tozero"},
        "yaxis": {"title": {"text": latency_name(series), "standoff": 12}, "automargin": True, **LATENCY_AXIS},
        "hovermode": "closest",
    }
    return {"data": traces, "layout": layout}


def _rolling(position: int, series: Series, p99_opacity: float) -> list[dict[str, Any]]:
    measured = shown_round(series.strategy)
    samples = measured.samples
    latency = samples.latency_ns[~samples.failed]
    positions, percentiles = rolling_percentiles(latency, (50, 99))
    ports = series.strategy.capacity or max(1, len(latency))
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
    knee = find_knee(replace(series.strategy, rounds=(measured,)))
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
                "marker": {"symbol": "diamond", "size": 11},
                "hovertemplate": f"<b>{name}: knee</b><br>{words}<br>from here on above "
                f"{duration(knee.limit_ns)}<extra></extra>",
            }
        )
    return traces


def _label_knees(knees: Sequence[dict[str, Any]]) -> None:
    """Write beside each knee whose it is, where there is room; its words are shown in any case on pointing at it."""
    marks = [Mark(knee["x"][0], knee["y"][0], html.unescape(knee["text"][0])) for knee in knees]
    for knee, side in zip(knees, sides(marks), strict=True):
        knee["mode"] = "markers+text" if side else "markers"
        if side:
            knee["textposition"] = side
